# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import postgres  # noqa: E402


@pytest.fixture(scope="module")
def server():
    """The folder with the socket of a PostgreSQL of its own."""
    try:
        with postgres.server() as socket:
            yield socket
    except postgres.Missing as why:
        pytest.skip(str(why))
