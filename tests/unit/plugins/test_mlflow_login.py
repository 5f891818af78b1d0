# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import json
import subprocess

import pytest
from ansible.module_utils.testing import patch_module_args
from plugin_support import plugin

PARAMS = {
    "path": None,
    "content": "[mlflow]\npassword=hidden\n",
    "expect": "mlflow_b",
    "acts_as": "mlflow_owner",
    "service": "mlflow",
    "user": "mlflow",
    "python": "/opt/mlflow/current/bin/python",
    "patience": 5,
}


@pytest.fixture
def login():
    return plugin("module_utils", "_login")


def test_the_password_is_in_no_argument(login):
    seen = {}

    def run(command, **options):
        seen.update(command=command, **options)
        return subprocess.CompletedProcess(command, 0, '{"login": "mlflow_b", "acts_as": "mlflow_owner", "tls": true}', "")

    assert login.attempt(PARAMS, run=run)["tls"] is True
    assert "hidden" not in " ".join(seen["command"]) and "hidden" in seen["input"] and "env" not in seen
    assert seen["command"][:2] == ["setpriv", "--reuid=mlflow"]


@pytest.mark.parametrize(
    ("error", "tries"), [("connection refused", 6), ("password authentication failed for user", 1), ("certificate verify", 1)]
)
def test_what_may_mend_itself_is_tried_again(login, error, tries):
    time, calls = [0.0], []

    def attempt(_params):
        calls.append(1)
        return {"error": error}

    def sleep(seconds):
        time[0] += seconds

    answer = login.login(PARAMS, attempt=attempt, sleep=sleep, clock=lambda: time[0])
    assert answer == {"error": error} and len(calls) == tries


def test_problems(login):
    good = {"login": "mlflow_b", "acts_as": "mlflow_owner", "tls": True}
    assert login.problem(good, PARAMS) is None
    assert "logs in to its database as mlflow_a" in login.problem({**good, "login": "mlflow_a"}, PARAMS)
    assert "acts as mlflow_b" in login.problem({**good, "acts_as": "mlflow_b"}, PARAMS)
    assert "connection refused" in login.problem({"error": "connection refused"}, PARAMS)


def test_the_module_changes_nothing_and_answers_without_the_roles(monkeypatch, capsys):
    module = plugin("modules", "mlflow_login")
    answer = {"login": "mlflow_b", "acts_as": "mlflow_owner", "tls": True, "address": "10.0.0.1", "roles": {}}
    monkeypatch.setattr(module, "login", lambda params: answer)
    with patch_module_args({"path": "/etc/mlflow/pg_service.conf", "expect": "mlflow_b"}), pytest.raises(SystemExit):
        module.main()
    told = json.loads(capsys.readouterr().out)
    assert (told["changed"], told["login"], told["tls"], told["address"]) == (False, "mlflow_b", True, "10.0.0.1")
    assert "roles" not in told


def test_a_program_that_breaks_is_told(login):
    def run(command, **_options):
        return subprocess.CompletedProcess(command, 1, "", "No module named psycopg\n")

    assert "No module named psycopg" in login.attempt(PARAMS, run=run)["error"]
    late = subprocess.TimeoutExpired(["python", "-c", login.PROGRAM], 60)
    assert login.attempt(PARAMS, run=lambda *a, **k: (_ for _ in ()).throw(late)) == {"error": "no answer for 60 s"}
    assert "not there" in login.attempt(PARAMS, run=lambda *a, **k: (_ for _ in ()).throw(OSError("not there")))["error"]
