# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Print where the time of bin/test went, and its slowest tests. Called by bin/test.

    python bin/_timeline.py LOG_DIR

LOG_DIR/timeline has a line for each part: when it began and ended, in seconds since 1970, and its name. Parts that ran side by
side overlap. The tests' times are those of LOG_DIR/*.xml, as far as they were written since the first part began.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

WIDTH, SLOWEST = 40, 10


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60:>3}:{int(seconds) % 60:02}"


def parts_of(text: str) -> list[tuple[float, float, str]]:
    rows = [line.split(" ", 2) for line in text.splitlines()]
    return sorted((float(begin), float(end), name) for begin, end, name in rows)


def timeline(parts: list[tuple[float, float, str]]) -> list[str]:
    """Of each part from when to when it ran, and a bar."""
    if not parts:
        return []
    first, last = parts[0][0], max(end for _begin, end, _name in parts)
    scale = WIDTH / max(last - first, 1)
    lines = []
    for begin, end, name in parts:
        at = int((begin - first) * scale)
        bar = " " * at + "#" * max(1, round((end - begin) * scale))
        lines.append(f"{clock(begin - first)} {clock(end - first)}  {bar[: WIDTH + 1]:<{WIDTH + 1}}  {name}")
    return lines


def slowest(files: list[Path]) -> list[str]:
    cases = [case for file in files for case in ElementTree.parse(file).iter("testcase")]
    cases.sort(key=lambda case: -float(case.get("time", 0)))
    return [
        f"{float(case.get('time', 0)):>7.0f} s  {case.get('classname')}::{case.get('name')}" for case in cases[:SLOWEST]
    ]


def main() -> None:
    folder = Path(sys.argv[1])
    parts = parts_of((folder / "timeline").read_text(encoding="utf-8"))
    print("\n".join(timeline(parts)))
    files = [file for file in sorted(folder.glob("*.xml")) if parts and file.stat().st_mtime >= parts[0][0]]
    if found := slowest(files):
        print("\n".join(["the slowest tests:", *found]))


if __name__ == "__main__":
    main()
