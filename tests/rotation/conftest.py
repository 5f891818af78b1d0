# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


@pytest.fixture(scope="session")
def deployment(tmp_path_factory):
    """Two servers that serve."""
    from deployment import deployed

    with deployed(tmp_path_factory.mktemp("rotation")) as deployment:
        yield deployment


@pytest.fixture
def load(deployment):
    """Clients on both servers; a test that uses it has no failed request, or says which."""
    from load import Load

    def begin(**options):
        login = deployment.user
        return Load(deployment.addresses, login["username"], login["password"], **options)

    return begin
