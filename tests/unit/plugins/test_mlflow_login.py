# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys

import psycopg
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
    for other in ("mlflow_b", "postgres"):
        assert f"acts as {other}" in login.problem({**good, "acts_as": other}, PARAMS)
        assert login.problem({**good, "login": other}, {**PARAMS, "expect": other, "acts_as": ""}) is None
    assert "logs in to its database as mlflow_c" in login.problem({**good, "login": "mlflow_c"}, PARAMS)
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


def test_of_a_program_that_breaks_the_end_of_its_words_is_told(login):
    """Where a traceback says what is wrong."""

    def run(command, **_options):
        return subprocess.CompletedProcess(command, 3, "", "the beginning" + 1000 * "x" + "ImportError: libpq\n")

    told = login.attempt(PARAMS, run=run)["error"]
    assert told.startswith("/opt/mlflow/current/bin/python ended with code 3: x") and told.endswith("x" + "ImportError: libpq")
    assert len(told) < 600


@pytest.mark.parametrize(
    "error",
    [
        'FATAL: role "mlflow_b" is not permitted to log in',
        "certificate verify failed",
        'definition of service "mlflow" not found',
        'FATAL: database "mlflow" does not exist',
        "[Errno 2] No such file or directory: 'setpriv'",
        "ended with code 1: ModuleNotFoundError: No module named 'psycopg'",
    ],
)
def test_what_does_not_mend_itself_is_told_at_once(login, error):
    answer = login.login(PARAMS, attempt=lambda params: {"error": error}, sleep=pytest.fail, clock=lambda: 0.0)
    assert answer == {"error": error}


def test_a_login_is_tried_until_it_works_and_not_once_more(login):
    answers, slept = [{"error": "starting up"}, {"login": "mlflow_b"}, {"login": "one too many"}], []
    answer = login.login(PARAMS, attempt=lambda params: answers.pop(0), sleep=slept.append, clock=lambda: 0.0)
    assert answer == {"login": "mlflow_b"} and len(answers) == 1 and slept == [1]


def test_without_patience_one_answer_is_enough(login):
    answer = login.login({**PARAMS, "patience": 0}, lambda params: {"error": "starting up"}, pytest.fail, lambda: 7.0)
    assert answer == {"error": "starting up"}


def test_who_names_no_owner_is_not_asked_to_act_as_one(login):
    assert login.problem({"login": "mlflow_b", "acts_as": "mlflow_b"}, {**PARAMS, "acts_as": None}) is None


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def real(server):
    """What the login is asked with for a real server, as this user and with this Python."""
    with psycopg.connect(host=str(server), user="mlflow", dbname="postgres", autocommit=True) as connection:
        connection.execute("CREATE ROLE former NOLOGIN; COMMENT ON ROLE former IS 'of before'; CREATE ROLE unasked")
        content = f"[mlflow]\nhost={server}\nuser=mlflow\ndbname=postgres\n"
        yield {**PARAMS, "content": content, "user": pwd.getpwuid(os.geteuid()).pw_name, "python": sys.executable}
        connection.execute("DROP ROLE former; DROP ROLE unasked")


@needs_root
@pytest.mark.parametrize("given", ["content", "path"])
def test_a_real_server_tells_who_logs_in_and_what_is_noted_of_both_roles(login, real, given, tmp_path, monkeypatch):
    # What the module's own environment says of a server counts for nothing.
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    monkeypatch.setenv("PGSERVICEFILE", "/nowhere")
    if given == "path":
        (tmp_path / "pg_service.conf").write_text(real["content"])
        real.update(content=None, path=str(tmp_path / "pg_service.conf"))
    assert login.attempt({**real, "former": "former"}) == {
        "login": "mlflow",
        "acts_as": "mlflow",
        "tls": False,
        "address": None,
        "pooled": False,
        "tables_elsewhere": None,
        "tables_of": None,
        "roles": {"mlflow": {"can_login": True, "note": None}, "former": {"can_login": False, "note": "of before"}},
    }


@needs_root
def test_a_real_refusal_is_told_in_one_line(login, real):
    answer = login.attempt({**real, "content": real["content"].replace("user=mlflow", "user=former")})
    assert set(answer) == {"error"} and 'role "former" is not permitted to log in' in answer["error"]
    assert "\n" not in answer["error"]
    assert "definition of service" in login.attempt({**real, "service": "another"})["error"]
    assert "No such file" in login.attempt({**real, "python": "/nowhere/python"})["error"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_task_fails_where_the_login_is_another_one(monkeypatch, capsys, check_mode):
    module = plugin("modules", "mlflow_login")
    monkeypatch.setattr(module, "login", lambda params: {"login": "mlflow_a", "acts_as": "mlflow_owner"})

    def told(**given):
        with patch_module_args({**given, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    refused = told(content="password=hidden", expect="mlflow_b")
    assert refused["failed"] and "logs in to its database as mlflow_a, and should as mlflow_b" in refused["msg"]
    assert "hidden" not in str(refused)
    assert told(path="/a")["msg"] == "missing required arguments: expect"
    assert told(expect="mlflow_b")["msg"] == "one of the following is required: path, content"
    assert "mutually exclusive: path|content" in told(path="/a", content="b", expect="mlflow_b")["msg"]
