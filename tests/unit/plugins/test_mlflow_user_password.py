# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A user's password is changed once, by that user, and what was cut off is found."""

from __future__ import annotations

import io
import json
from email.message import Message
from urllib.error import HTTPError, URLError

import pytest
from ansible.module_utils.testing import patch_module_args
from plugin_support import plugin

URL = "https://192.0.2.10"
OLD, NEW = "old-password", "new-password"


class Server:
    """MLflow's user pages over one account, and a clock that sleeping moves."""

    def __init__(self, password=OLD):
        self.password = password
        self.time = 0.0
        self.changes = 0
        self.problems = []
        self.cached = {}

    def __call__(self, url, method="GET", data=None, headers=None, **options):
        text = json.dumps([url, headers])
        assert OLD not in text and NEW not in text, "a password in the address or in a header of ours"
        assert options["url_username"] == "admin" and options["force_basic_auth"] and options["validate_certs"] is False
        assert headers["Host"] == "mlflow.example.com"
        sent = options["url_password"]
        if self.problems and self.problems[0][0] == method:
            problem = self.problems.pop(0)[1]
            if problem == "lost":
                self.password = json.loads(data)["password"]
                raise URLError("timed out")
            raise URLError("refused") if problem == "away" else HTTPError(url, problem, "", Message(), io.BytesIO())
        if sent != self.password and self.cached.get(sent, 0) <= self.time:
            raise HTTPError(url, 401, "", Message(), io.BytesIO())
        if method == "PATCH":
            asked = json.loads(data)
            assert url == f"{URL}/api/2.0/mlflow/users/update-password" and headers["Content-Type"] == "application/json"
            if asked["current_password"] != self.password:
                raise HTTPError(url, 400, "", Message(), io.BytesIO())
            self.password = asked["password"]
            self.changes += 1
        else:
            assert url == f"{URL}/api/2.0/mlflow/users/get?username=admin"
        answer = io.BytesIO(b"{}")
        answer.code = 200
        return answer

    def monotonic(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def ensure(server):
    module = plugin("modules", "mlflow_user_password")

    def ensure(check_mode=False, **wanted):
        account = module.Account(URL, "admin", server, host="mlflow.example.com", validate_certs=False)
        defaults = {"password": NEW, "current_password": None, "former_password": None, "timeout": 10}
        return module.ensure(account, {**defaults, **wanted}, check_mode, clock=server)

    ensure.refused = module.Refused
    return ensure


def test_ladder(ensure, server):
    assert ensure(check_mode=True, current_password=OLD) == (True, "planned")
    assert server.password == OLD
    assert ensure(current_password=OLD) == (True, "accepted")
    assert server.password == NEW
    # As after a run that was cut off before anybody noted it.
    assert ensure(current_password=OLD) == (False, "accepted")
    assert ensure(check_mode=True, current_password=OLD) == (False, "accepted")
    assert server.changes == 1


@pytest.mark.parametrize("problem", ["lost", "away", 500, 429, 503])
def test_what_goes_wrong_on_the_way_is_tried_again(ensure, server, problem):
    server.problems = [("PATCH", problem)]
    assert ensure(current_password=OLD) == (True, "accepted")
    assert server.password == NEW and server.changes == (0 if problem == "lost" else 1)


def test_a_server_that_is_away_for_a_moment_is_waited_for(ensure, server):
    server.problems = [("GET", "away"), ("GET", 502)]
    assert ensure(current_password=OLD) == (True, "accepted")


def test_nothing_is_changed_without_the_current_password(ensure, server):
    with pytest.raises(ensure.refused, match="refuses the new password of admin"):
        ensure()
    assert server.password == OLD


def test_a_password_that_somebody_else_has_set(ensure, server):
    server.password = "of-somebody-else"
    with pytest.raises(ensure.refused, match="takes neither the current nor the new password of admin") as error:
        ensure(current_password=OLD)
    assert OLD not in str(error.value) and NEW not in str(error.value)


def test_no_answer_is_told(ensure, server):
    server.problems = [("GET", "away")] * 100
    with pytest.raises(ensure.refused, match="no answer from https://192.0.2.10: .*refused"):
        ensure(current_password=OLD)


def test_a_login_that_a_process_remembers_is_waited_for(ensure, server):
    server.password = NEW
    server.cached = {OLD: 5}
    assert ensure(former_password=OLD) == (False, "accepted")
    assert server.time >= 5
    server.cached = {OLD: 10**6}
    with pytest.raises(ensure.refused, match="still takes the former password of admin"):
        ensure(former_password=OLD)


def test_where_nobody_says_whether_the_former_password_works_that_is_told(ensure, server):
    server.password = NEW
    takes = [None]
    call = server.__call__

    class Away:
        def __call__(self, url, **options):
            if options["url_password"] == OLD:
                takes.append(OLD)
                raise URLError("refused")
            return call(url, **options)

    module = plugin("modules", "mlflow_user_password")
    account = module.Account(URL + "/", "admin", Away(), host="MLflow.example.com", validate_certs=False)
    wanted = {"password": NEW, "current_password": None, "former_password": OLD, "timeout": 10}
    with pytest.raises(module.Refused, match="did not say whether it takes the former password of admin: .*refused"):
        module.ensure(account, wanted, clock=server)
    assert len(takes) > 10 and 10 <= server.time <= 11


def test_a_former_password_that_is_refused_at_once_is_not_waited_for(ensure, server):
    assert ensure(current_password=OLD, former_password=OLD) == (True, "accepted")
    assert server.time == 0 and server.changes == 1


def test_check_mode_of_a_password_that_somebody_else_has_set_fails_as_well(ensure, server):
    server.password = "of-somebody-else"
    with pytest.raises(ensure.refused, match="takes neither the current nor the new"):
        ensure(check_mode=True, current_password=OLD)
    assert server.changes == 0 and 10 <= server.time <= 11


def test_an_answer_that_was_lost_is_not_followed_by_another_change(ensure, server):
    """It was changed; where the server remembers a refusal of the new password, that passes."""
    server.problems = [("PATCH", "lost"), ("GET", 401)]
    assert ensure(current_password=OLD)[1] == "accepted" and server.password == NEW and server.changes == 0


def test_without_time_each_question_is_asked_once(ensure, server):
    server.problems = [("GET", "away")] * 2
    with pytest.raises(ensure.refused, match="no answer"):
        ensure(current_password=OLD, timeout=0)
    assert len(server.problems) == 1 and server.time == 0


@pytest.mark.parametrize(
    "status, done", [(200, True), (400, False), (401, False), (429, False), (500, None), (502, None), (504, None), (None, None)]
)
def test_what_an_answer_says_of_a_change(status, done):
    """Behind a server's fault the change may have been made all the same."""

    def opener(url, **_options):
        if status is None:
            raise URLError("timed out")
        answer = io.BytesIO(b"{}")
        answer.code = status
        if status == 200:
            return answer
        raise HTTPError(url, status, "", Message(), answer)

    assert plugin("modules", "mlflow_user_password").Account(URL, "admin", opener).change(OLD, NEW)[0] is done


def test_a_name_is_quoted_in_the_address():
    seen = []
    module = plugin("modules", "mlflow_user_password")

    def opener(url, **options):
        seen.append((url, options["headers"], options["use_proxy"], options["timeout"] > 0))
        raise HTTPError(url, 404, "", Message(), io.BytesIO())

    assert module.Account(URL, "a b&c", opener).takes("x") == (None, "status 404")
    assert seen == [(f"{URL}/api/2.0/mlflow/users/get?username=a%20b%26c", {}, False, True)]


@pytest.fixture
def main(monkeypatch, server, capsys):
    module = plugin("modules", "mlflow_user_password")

    def main(check_mode=False, **more):
        given = {"url": URL, "username": "admin", "password": NEW, "host": "mlflow.example.com", "validate_certs": False, **more}
        given = {name: value for name, value in given.items() if value is not None}
        init, ensure = module.Account.__init__.__defaults__, module.ensure.__defaults__
        monkeypatch.setattr(module.Account.__init__, "__defaults__", (server, *init[1:]))
        monkeypatch.setattr(module.ensure, "__defaults__", (*ensure[:-1], server))
        with patch_module_args({**given, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            module.main()
        output = capsys.readouterr().out
        assert OLD not in output and NEW not in output
        return json.loads(output)

    return main


def test_a_task_says_whether_it_was_changed(main, server):
    planned = main(check_mode=True, current_password=OLD)
    assert (planned["changed"], planned["login"]) == (True, "planned") and server.password == OLD
    made = main(current_password=OLD, former_password=OLD)
    assert (made["changed"], made["login"]) == (True, "accepted") and server.password == NEW
    assert main(current_password=OLD)["changed"] is False
    server.password = "of-somebody-else"
    failed = main(current_password=OLD, timeout=1)
    assert failed["failed"] and "takes neither the current nor the new password of admin" in failed["msg"]


@pytest.mark.parametrize("name", ["url", "username", "password"])
def test_without_a_server_or_a_user_nothing_is_asked(main, server, name):
    assert main(**{name: None})["msg"] == f"missing required arguments: {name}"
