# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A user's password is changed once, by that user, and what was cut off is found."""

from __future__ import annotations

import io
import json
from email.message import Message
from urllib.error import HTTPError, URLError

import pytest
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
