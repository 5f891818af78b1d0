# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What bin/test says of where its time went."""

from __future__ import annotations

import os
import subprocess
import sys

from repository import ROOT

SUITE = '<testsuites><testsuite><testcase classname="a" name="{}" time="{}"/></testsuite></testsuites>'


def test_parts_stand_in_their_order_and_the_slowest_tests_first(tmp_path):
    parts = ["1000.5 1100.5 molecule site", "900.5 1200.5 tests/rotation, all of it", "1200.5 1300.5 lint"]
    (tmp_path / "timeline").write_text("".join(f"{part}\n" for part in parts))
    (tmp_path / "new.xml").write_text(SUITE.format("quick", 0.5))
    (tmp_path / "newer.xml").write_text(SUITE.format("slow", 61.2))
    (tmp_path / "old.xml").write_text(SUITE.format("of_before", 500))
    os.utime(tmp_path / "old.xml", (800, 800))
    done = subprocess.run(
        [sys.executable, ROOT / "bin" / "_timeline.py", tmp_path], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert [[*line[:13].split(), line[58:]] for line in lines[:3]] == [
        ["0:00", "5:00", "tests/rotation, all of it"],
        ["1:40", "3:20", "molecule site"],
        ["5:00", "6:40", "lint"],
    ]
    bars = [line[15:56] for line in lines[:3]]
    assert [(bar.index("#"), bar.count("#")) for bar in bars] == [(0, 30), (10, 10), (30, 10)]
    assert [line.split()[-1] for line in lines[3:]] == ["tests:", "a::slow", "a::quick"]
