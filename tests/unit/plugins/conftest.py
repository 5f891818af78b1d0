# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Lets plugins be imported by their collection's name, and runs modules against moto in this process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder
from plugin_support import REGION, plugin

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session", autouse=True)
def collections(tmp_path_factory):
    top = tmp_path_factory.mktemp("collections")
    (top / "ansible_collections" / "mlops").mkdir(parents=True)
    (top / "ansible_collections" / "mlops" / "mlflow_aws").symlink_to(ROOT)
    finder = _AnsibleCollectionFinder(paths=[str(top), str(ROOT / ".ansible" / "collections")])
    if not any(type(item).__name__ == "_AnsibleCollectionFinder" for item in sys.meta_path):
        finder._install()
    return top


@pytest.fixture
def aws(monkeypatch):
    """An empty account."""
    moto = pytest.importorskip("moto")
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with moto.mock_aws():
        yield


@pytest.fixture
def module():
    """module(name, check_mode=False, **parameters): runs a module's main and answers with what it printed."""

    def run(name, /, *, check_mode=False, **parameters):
        imported = plugin("modules", name)
        arguments = {"region": REGION, **parameters, "_ansible_check_mode": check_mode, "_ansible_diff": True}
        output = io.StringIO()
        with patch_module_args(arguments), contextlib.redirect_stdout(output):
            with pytest.raises(SystemExit) as ended:
                imported.main()
        answer = json.loads(output.getvalue().strip().splitlines()[-1])
        answer.setdefault("failed", ended.value.code != 0)
        return answer

    return run
