# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which routes there are on a shared server."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask import Flask

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.http import routes as mlflow_routes  # noqa: E402
from mlflow_service.http.routes import Doors, NoAssistant, Routes, close_flask, tell  # noqa: E402

ASSISTANT = "/ajax-api/3.0/mlflow/assistant/config"


class Native:
    """A route of FastAPI's, as far as it is asked."""

    def __init__(self, pattern, methods):
        self._pattern, self._methods = re.compile(pattern), methods

    def matches(self, scope):
        if not self._pattern.fullmatch(scope["path"]):
            return SimpleNamespace(value=0), {}
        return SimpleNamespace(value=2 if scope["method"] in self._methods else 1), {}


FASTAPI = SimpleNamespace(
    routes=[
        Native("/(ajax-)?api/2.0/mlflow-artifacts/artifacts/.+", {"GET", "PUT"}),
        Native("/ajax-api/3.0/mlflow/assistant/.*", {"GET", "PUT", "POST"}),
        Native("/v1/traces", {"POST"}),
        Native("/api/3.0/mlflow/brand-new", {"GET"}),
        SimpleNamespace(path=""),
    ]
)


def ask(path, method="GET", kind="http", extra=()):
    sent = []

    async def app(scope, receive, send):
        await send({"type": "passed on"})

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "path": path, "method": method, "headers": []}
    asyncio.run(Doors(app, FASTAPI, Routes(extra))(scope, receive, send))
    return sent[0].get("status", sent[0]["type"])


@pytest.mark.parametrize(
    "path, method",
    [
        ("/api/2.0/mlflow-artifacts/artifacts/1/a/b", "GET"),
        ("/ajax-api/2.0/mlflow-artifacts/artifacts/1/a", "PUT"),
        # Flask's: FastAPI has the path, but not the method.
        ("/api/2.0/mlflow-artifacts/artifacts/1/a", "DELETE"),
        ("/v1/traces", "POST"),
        ("/api/2.0/mlflow/runs/create", "POST"),
        ("/nothing", "GET"),
    ],
)
def test_what_was_looked_at_and_what_is_flasks_goes_on(path, method):
    assert ask(path, method) == "passed on"


@pytest.mark.parametrize(
    "path, method",
    [(ASSISTANT, "PUT"), (ASSISTANT, "DELETE"), (ASSISTANT, "HEAD"), ("/ajax-api/3.0/mlflow/assistant/message", "GET"),
     ("/ajax-api/3.0/mlflow/assistant", "GET"), ("/api/9.9/mlflow/assistant/new", "GET")],
)
@pytest.mark.parametrize("extra", [(), ("/ajax-api/3.0/mlflow/",), (ASSISTANT,)])
def test_the_assistant_is_not_there_whatever_somebody_opens(path, method, extra):
    assert ask(path, method, extra=extra) == 404


def test_the_web_page_is_told_so_by_us_and_not_by_mlflow():
    assert ask(ASSISTANT) == "passed on"
    passed_on, sent = [], []

    async def app(scope, receive, send):
        passed_on.append(scope["path"])

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    for path in (ASSISTANT, ASSISTANT + "/", "/other"):
        asyncio.run(NoAssistant(app)({"type": "http", "path": path, "method": "GET", "headers": []}, receive, send))
    assert passed_on == [ASSISTANT + "/", "/other"]
    assert json.loads(sent[1]["body"]) == {"providers": {}, "projects": {}, "remote_access_allowed": False}


def test_a_new_native_route_is_named_where_somebody_asks_for_it(caplog):
    ask("/api/3.0/mlflow/brand-new")
    assert "GET /api/3.0/mlflow/brand-new has not been looked at" in caplog.text
    caplog.clear()
    # What was looked at and is closed, what is not there, and the assistant are no news.
    for path in (ASSISTANT, "/nothing", "/v1/traces"):
        ask(path)
    assert caplog.text == ""


def test_a_new_native_route_is_closed_until_somebody_opens_it():
    assert ask("/api/3.0/mlflow/brand-new") == 404
    assert ask("/api/3.0/mlflow/brand-new", extra=["/api/3.0/mlflow/brand"]) == "passed on"


@pytest.mark.parametrize(
    "path",
    ["/api/3.0/mlflow/mcp-servers/" + "/versions/a/tags/" * 430 + "\n\n", "/api/2.0/mlflow/runs/get\n", "/x\0", "/" + "x" * 1024,
     "/api/2.0/mlflow-artifacts/artifacts/" + "x" * 2048, "/api/2.0/mlflow-artifacts/artifacts/1/\x7f"],
)  # fmt: skip
def test_on_a_strange_path_no_pattern_is_tried(path):
    begun = time.monotonic()
    assert ask(path, "DELETE") == 404
    assert time.monotonic() - begun < 0.5


def test_an_artifact_may_have_a_long_name():
    assert ask("/api/2.0/mlflow-artifacts/artifacts/1/" + "ü" * 1024, "PUT") == "passed on"


def test_a_websocket_is_closed():
    assert ask("/api/2.0/mlflow/runs/create", kind="websocket") == "websocket.close"


@pytest.mark.parametrize(
    "rule, method, is_open",
    [
        ("/api/2.0/mlflow/runs/create", "POST", True),
        ("/ajax-api/2.0/mlflow/runs/create", "OPTIONS", True),
        ("/api/2.0/mlflow/runs/create", "DELETE", False),
        ("/api/2.0/mlflow/runs/get", "HEAD", True),
        ("/api/3.0/mlflow/gateway/endpoints/create", "POST", False),
        ("/ajax-api/3.0/mlflow/demo/delete", "POST", False),
        ("/api/3.0/mlflow/brand-new", "GET", False),
        ("/", "GET", True),
    ],
)
def test_flasks_rules_are_open_by_name_and_method(rule, method, is_open):
    assert Routes([]).flask_is_open(rule, rule, method) is is_open


def test_what_is_closed_is_named():
    rules = [("/", {"GET"}), ("/api/3.0/mlflow/brand-new", {"GET", "POST"}), ("/get-artifact", {"GET", "POST"})]
    assert Routes([]).closed(rules) == ["GET|POST /api/3.0/mlflow/brand-new", "POST /get-artifact"]


@pytest.mark.parametrize(
    "path, is_open",
    [("/new/x", True), ("/new/assistant/x", False), ("/new/assistants", False), ("/new/assistant-tips", True), ("/ne", False)],
)
def test_an_extra_route_opens_what_begins_so_and_no_assistant(monkeypatch, path, is_open):
    monkeypatch.setenv("MLFLOW_SERVER_EXTRA_ROUTES", "/new/ /other")
    routes = Routes()
    assert routes.is_extra(path) is routes.native_is_open(path, "GET") is routes.flask_is_open(path, path, "GET") is is_open
    monkeypatch.delenv("MLFLOW_SERVER_EXTRA_ROUTES")
    assert not Routes().is_extra(path)


@pytest.mark.parametrize(
    "path, method, is_open",
    [
        ("/v1/traces", "POST", True),
        ("/v1/traces", "GET", False),
        ("/v1/tracesX", "POST", False),
        ("/ajax-api/2.0/mlflow-artifacts/artifacts/a/b", "PUT", True),
        ("/api/2X0/mlflow-artifacts/artifacts/a/b", "PUT", False),
        ("/api/2.0/mlflow-artifacts/artifacts/", "PUT", False),
        ("/api/3.0/mlflow/mcp-servers/a/b/endpoints/e", "PATCH", True),
        ("/api/3.0/mlflow/mcp-servers/a/b/tags", "POST", True),
        ("/api/3.0/mlflow/mcp-servers/a", "HEAD", True),
        ("/api/3.0/mlflow/mcp-servers/a", "POST", False),
        ("/v1/traces", "HEAD", False),
        ("/v1/traces", "OPTIONS", True),
    ],
)
def test_native_routes_are_open_by_path_and_method(path, method, is_open):
    assert Routes([]).native_is_open(path, method) is is_open


def test_only_a_whole_match_of_fastapis_is_a_route_of_its_own():
    """A match of the path alone (1) leaves the request to Flask."""
    for value, answered in ((0, "passed on"), (1, "passed on"), (2, 404)):
        route = SimpleNamespace(path="/api/x", matches=lambda scope, value=value: (SimpleNamespace(value=value), {}))
        sent = []

        async def app(scope, receive, send):
            await send({"type": "passed on"})

        async def send(message, sent=sent):
            sent.append(message)

        doors = Doors(app, SimpleNamespace(routes=[route]), Routes([]))
        asyncio.run(doors({"type": "http", "path": "/api/x", "method": "GET", "headers": []}, None, send))
        assert sent[0].get("status", sent[0]["type"]) == answered


def test_the_start_and_the_end_of_a_worker_pass():
    assert ask("/", kind="lifespan") == "passed on"


def test_new_native_routes_are_named_so_often_and_no_oftener(caplog, monkeypatch):
    monkeypatch.setattr(mlflow_routes, "TOLD", 3)
    routes = SimpleNamespace(routes=[Native("/api/3.0/mlflow/new/.*", {"GET"})])
    doors = Doors(None, routes, Routes([]))
    for number in range(10):
        assert not doors._is_open(f"/api/3.0/mlflow/new/{number}", "GET")
    assert [record.args[1] for record in caplog.records] == [f"/api/3.0/mlflow/new/{number}" for number in range(3)]


@pytest.mark.parametrize("size, remembered", [(mlflow_routes.LONG - 1, 1), (mlflow_routes.LONG, 0)])
def test_long_paths_fill_no_memory(size, remembered):
    async def app(scope, receive, send):
        pass

    doors = Doors(app, FASTAPI, Routes([]))
    asyncio.run(doors({"type": "http", "path": "/".ljust(size, "x"), "method": "GET", "headers": []}, None, None))
    assert doors._remembered.cache_info().currsize == remembered


# --- in Flask ---


@pytest.fixture
def flask_app():
    app = Flask("mlflow", static_folder=None)
    rules = {
        "/version": ["GET", "POST"],
        "/api/2.0/mlflow/runs/create": ["POST"],
        "/brand-new/<name>": ["GET"],
        "/api/3.0/mlflow/gateway/endpoints/create": ["POST"],
    }
    for rule, methods in rules.items():
        app.add_url_rule(rule, rule, lambda **about: "MLflow", methods=methods)

    @app.before_request
    def check():
        return "a login, please", 401

    return app


def test_flask_answers_what_is_open_and_nothing_else_before_any_check(flask_app):
    close_flask(flask_app, Routes(["/brand-new/opened"]))
    client = flask_app.test_client()
    assert client.get("/version").status_code == client.post("/api/2.0/mlflow/runs/create").status_code == 401
    assert client.get("/brand-new/opened").status_code == 401
    for closed in (client.post("/version"), client.get("/brand-new/x")):
        assert closed.status_code == 404 and closed.get_json()["error_code"] == "ENDPOINT_NOT_FOUND"
    # What is no rule at all is Flask's own matter.
    assert client.get("/nothing").status_code == 401


def test_the_journal_names_what_was_not_looked_at(flask_app, caplog):
    tell(flask_app, Routes([]))
    assert [record.args for record in caplog.records] == [(2, "GET /brand-new/<name>, POST /version")]
    caplog.clear()
    tell(flask_app, Routes(["/brand-new/", "/version"]))
    assert not caplog.records
