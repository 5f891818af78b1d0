# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


@pytest.fixture(scope="session")
def deployment(tmp_path_factory):
    """Two servers that serve, made once for all tests and removed at the end."""
    if os.geteuid() != 0 or not shutil.which("systemd-nspawn"):
        pytest.skip("needs root and systemd-nspawn")
    from deployment import Deployment

    deployment = Deployment(tmp_path_factory.mktemp("rotation"))
    try:
        deployment.up()
        yield deployment
    finally:
        deployment.down()


@pytest.fixture
def load(deployment):
    """Clients on both servers; a test that uses it has no failed request, or says which."""
    from load import Load

    return lambda **options: Load(deployment.addresses, deployment.user["username"], deployment.user["password"], **options)
