# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import io
import json
from email.message import Message
from urllib.error import HTTPError, URLError

import pytest
from ansible.module_utils.testing import patch_module_args
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


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:5000", True), ("https://mlflow.localhost", True), ("http://127.0.0.1", True),
        ("http://127.9.9.9/", True), ("http://[::1]:5000", True), ("https://192.0.2.10", False),
        ("https://localhost.example.com", False), ("https://[2001:db8::1]", False), ("https://notlocalhost", False), ("", False),
    ],
)  # fmt: skip
def test_only_this_host_is_asked_without_a_proxy(module, url, here):
    assert module.is_this_host(url) == here
    web = Web(ready=(200, GOOD), question=(200, {}))
    module.Server(url, web).check()
    assert [options["use_proxy"] for _url, options in web.asked] == [not here] * 2


def test_a_name_is_sent_as_clients_do_and_none_where_there_is_none(module):
    for host, sent in (("MLflow.Example.COM", {"Host": "mlflow.example.com"}), (None, {}), ("", {})):
        web = Web(ready=(200, GOOD), question=(200, {}))
        module.Server(URL, web, host=host).check()
        assert [options["headers"] for _url, options in web.asked] == [sent] * 2


def test_a_login_is_sent_at_once_and_only_where_there_is_one(module):
    web = Web(ready=(200, GOOD), question=(200, {}))
    module.Server(URL, web, username="admin", password="hidden", validate_certs=False, ca_path="/ca").check()
    assert web.asked[1][1]["force_basic_auth"] is True and web.asked[1][1]["url_username"] == "admin"
    # The server's certificate is looked at in the same way for both.
    assert all((options["validate_certs"], options["ca_path"]) == (False, "/ca") for _url, options in web.asked)
    web = Web(ready=(200, GOOD), question=(200, {}))
    module.Server(URL, web).check()
    assert "url_username" not in web.asked[1][1] and "force_basic_auth" not in web.asked[1][1]


@pytest.mark.parametrize("status", [500, 403, 404, 302])
def test_a_server_that_does_not_answer_a_question_is_not_ready(module, status):
    web = Web(ready=(200, GOOD), question=(status, {}))
    with pytest.raises(module.NotReady, match=f"a request for experiment 0 was answered with status {status}") as error:
        module.Server(URL, web).check()
    assert error.value.checks == GOOD["checks"]


def test_the_socket_is_asked_for_details_and_without_the_login(module):
    web = Web(ready=(503, BAD), socket=(503, DETAILS))
    with pytest.raises(module.NotReady):
        module.Server(URL, web, username="admin", password="hidden", host="mlflow", socket="/run/mlflow.sock").check()
    url, options = web.asked[-1]
    assert url == "http://localhost/ready?artifacts" and options["unix_socket"] == "/run/mlflow.sock"
    assert options["headers"] == {"Host": "mlflow", "X-Ready-Details": "yes"} and "url_password" not in options


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", {"checks": None}, {"checks": []}])
def test_what_the_socket_does_not_tell_the_server_has_told(module, body):
    with pytest.raises(module.NotReady, match="^artifacts: failed$") as error:
        module.Server(URL, Web(ready=(503, BAD), socket=(503, body)), socket="/run/mlflow.sock").check()
    assert error.value.checks == BAD["checks"]


def test_all_that_is_wrong_is_told_in_order(module):
    wrong = {"checks": {"b": "failed", "c": "ok", "a": 3}}
    with pytest.raises(module.NotReady, match="^a: 3; b: failed$"):
        module.Server(URL, Web(ready=(503, wrong))).check()


@pytest.fixture
def main(module, monkeypatch, capsys):
    def main(web, check_mode=False, **more):
        defaults = module.Server.__init__.__defaults__
        monkeypatch.setattr(module.Server.__init__, "__defaults__", (web, *defaults[1:]))
        monkeypatch.setattr(module.Server.wait, "__defaults__", (Clock(),))
        given = {name: value for name, value in {"url": URL, **more}.items() if value is not None}
        with patch_module_args({**given, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            module.main()
        output = capsys.readouterr().out
        assert "hidden" not in output
        return json.loads(output)

    return main


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_task_tells_what_the_server_said_and_changes_nothing(main, check_mode):
    web = Web(ready=[(502, b""), (200, GOOD)], question=(200, {}))
    told = main(web, check_mode, username="admin", password="hidden")
    assert (told["changed"], told["checks"], told["login"]) == (False, GOOD["checks"], "accepted")
    # Unless somebody says otherwise the server's certificate counts, and so do the artifacts.
    assert all(url == f"{URL}/ready?artifacts" for url, _options in web.asked[:2])
    assert all(options["validate_certs"] is True for _url, options in web.asked)


def test_a_task_fails_with_what_is_wrong(main):
    failed = main(Web(ready=(503, BAD)), timeout=2)
    assert failed["failed"] and failed["msg"] == "MLflow is not ready: artifacts: failed" and failed["checks"] == BAD["checks"]
    # It has no answer of its parts where there is none at all.
    assert main(Web(ready=(502, b"")), timeout=0)["checks"] == {}


def test_a_user_without_a_password_is_a_mistake(main):
    assert "required together: username, password" in main(Web(), username="admin")["msg"]
    assert "missing required arguments: url" in main(Web(), url=None)["msg"]
