# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import io
import json
from email.message import Message
from urllib.error import HTTPError, URLError

import pytest
from plugin_support import plugin

URL = "https://192.0.2.10:443"
GOOD = {"ready": True, "checks": {"database": "ok", "artifacts": "ok"}}
BAD = {"ready": False, "checks": {"database": "ok", "artifacts": "failed"}}
DETAILS = {"ready": False, "checks": {"database": "ok", "artifacts": "EndpointConnectionError: no route"}}


@pytest.fixture
def module():
    return plugin("modules", "mlflow_ready")


class Web:
    """Answers by path, or by the socket it is asked on; what it was asked is kept."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def __call__(self, url, **options):
        self.asked.append((url, options))
        name = "socket" if options.get("unix_socket") else "ready" if url.split("?")[0].endswith("/ready") else "question"
        answer = self.answers[name]
        status, body = answer.pop(0) if isinstance(answer, list) else answer
        if isinstance(status, Exception):
            raise status
        content = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        if status != 200:
            raise HTTPError(url, status, "", Message(), content)
        content.code = status
        return content


def test_ready_and_logged_in(module):
    web = Web(ready=(200, GOOD), question=(200, {}))
    server = module.Server(URL + "/", web, host="mlflow.example.com", username="admin", password="hidden", validate_certs=False)
    assert server.check() == (GOOD["checks"], "accepted")
    (ready, first), (question, second) = web.asked
    assert ready == f"{URL}/ready?artifacts" and "url_password" not in first
    assert question.endswith("experiment_id=0") and second["url_password"] == "hidden"
    assert all(options["headers"]["Host"] == "mlflow.example.com" for _url, options in web.asked)


@pytest.mark.parametrize(
    ("username", "status", "login"), [(None, 200, "none"), (None, 401, "required"), ("admin", 401, "refused")]
)
def test_logins(module, username, status, login):
    web = Web(ready=(200, GOOD), question=(status, {}))
    assert module.Server(URL, web, username=username, password=username).check()[1] == login


def test_who_needs_no_artifacts_does_not_ask_for_them(module):
    web = Web(ready=(200, BAD), question=(200, {}))
    assert module.Server(URL, web, artifacts=False).check() == (BAD["checks"], "none")
    assert web.asked[0][0] == f"{URL}/ready"


def test_what_is_wrong_is_told(module):
    with pytest.raises(module.NotReady, match="^artifacts: failed$"):
        module.Server(URL, Web(ready=(503, BAD))).check()


def test_the_socket_tells_why(module):
    web = Web(ready=(503, BAD), socket=(503, DETAILS))
    with pytest.raises(module.NotReady, match="^artifacts: EndpointConnectionError: no route$") as error:
        module.Server(URL, web, socket="/run/mlflow/mlflow.sock").check()
    assert error.value.checks == DETAILS["checks"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((502, b"<html>"), "status 502"),
        ((503, b"<html>"), "status 503"),
        ((404, b""), "status 404"),
        ((URLError("refused"), None), "no answer from https://192.0.2.10:443"),
    ],
)
def test_another_server_is_not_ready(module, answer, says):
    with pytest.raises(module.NotReady, match=says):
        module.Server(URL, Web(ready=answer)).check()


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_it_is_waited_for(module):
    web = Web(ready=[(502, b""), (503, BAD), (200, GOOD)], question=(200, {}))
    clock = Clock()
    assert module.Server(URL, web).wait(10, clock)[0] == GOOD["checks"]
    assert clock.now == 2


def test_the_last_reason_is_told_when_time_is_up(module):
    web = Web(ready=[(502, b"")] * 3 + [(503, BAD)])
    with pytest.raises(module.NotReady, match="artifacts: failed"):
        module.Server(URL, web).wait(3, Clock())
