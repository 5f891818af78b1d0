# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

ROWS = []


@pytest.fixture(scope="session")
def deployment(tmp_path_factory):
    """Two servers that serve."""
    from deployment import deployed

    with deployed(tmp_path_factory.mktemp("faults"), tests="faults") as deployment:
        yield deployment


@pytest.fixture
def note():
    """Adds a line to the table at the end."""
    return ROWS.append


def pytest_terminal_summary(terminalreporter):
    if ROWS:
        terminalreporter.write_line("acknowledged  lost  refused  longest pause  slowest answer  fault")
        for name, acknowledged, lost, refused, *seconds in ROWS:
            pause, slowest = (f"{number:.1f} s" for number in seconds)
            terminalreporter.write_line(f"{acknowledged:12d}  {lost:4d}  {refused:7d}  {pause:>13}  {slowest:>14}  {name}")
