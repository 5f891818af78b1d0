# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Print how many tests of a JUnit report passed, failed and were skipped: ``41 0 2``.

With ``--failed`` the names of those that failed instead, one a line.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree


def main() -> None:
    report = ElementTree.parse(sys.argv[-1])
    if "--failed" in sys.argv:
        for case in report.iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                print(f"{case.get('classname')}::{case.get('name')}")
        return
    suites = list(report.iter("testsuite"))
    total, failed, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites for name in names)
        for names in (("tests",), ("failures", "errors"), ("skipped",))
    )
    print(total - failed - skipped, failed, skipped)


if __name__ == "__main__":
    main()
