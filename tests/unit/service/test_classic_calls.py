# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The service's ways round MLflow's layers: what goes them, and that no check is left behind."""

from __future__ import annotations

import asyncio
import enum
import re
import sys
import types
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.http import classic_calls  # noqa: E402

GET_EXPERIMENT = "/api/2.0/mlflow/experiments/get"


async def below(scope, receive, send):
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"FastAPI"})


def flask(environ, start_response):
    start_response("201 CREATED", [("Content-Type", "text/plain"), ("X-Mixed-Case", "é")])
    return [environ["wsgi.input"], b" by Flask"]


class Calls(classic_calls.ClassicCalls):
    """Without Starlette, which the service has and the tests don't."""

    def _ask(self, scope, body):
        starlette = types.ModuleType("starlette.middleware.wsgi")
        starlette.build_environ = lambda scope, body: {"wsgi.input": body}
        sys.modules["starlette.middleware.wsgi"] = starlette
        try:
            return super()._ask(scope, body)
        finally:
            del sys.modules["starlette.middleware.wsgi"]


def ask(application, path=GET_EXPERIMENT, method="POST", headers=(), parts=(b"one ", b"two"), kind="http"):
    sent = []
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts] + [{"type": "http.request"}]

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "path": path, "method": method, "headers": list(headers)}
    asyncio.run(application(scope, receive, send))
    return sent


def calls(wsgi=flask):
    return Calls(below, wsgi, frozenset([GET_EXPERIMENT]))


def test_a_classic_call_is_flasks():
    begin, end = ask(calls())
    assert begin["status"] == 201
    assert begin["headers"] == [(b"content-type", b"text/plain"), (b"x-mixed-case", "é".encode("latin-1"))]
    assert end["body"] == b"one two by Flask"


@pytest.mark.parametrize(
    "other",
    [
        {"path": GET_EXPERIMENT + "/"},
        {"path": "/api/2.0/mlflow/experiments/other"},
        {"path": "//api/2.0/mlflow/experiments/get"},
        {"method": "OPTIONS"},
        {"method": "HEAD"},
        {"headers": [(b"origin", b"https://mlflow.example.com")]},
        {"headers": [(b"host", b"mlflow.example.com"), (b"origin", b"https://attacker.example.net")]},
    ],
)
def test_everything_else_goes_the_whole_way(other):
    assert ask(calls(), **other)[0]["status"] == 418


def test_other_headers_change_nothing():
    headers = [(b"accept", b"*/*"), (b"host", b"mlflow.example.com"), (b"user-agent", b"mlflow")]
    assert ask(calls(), headers=headers)[0]["status"] == 201


def test_what_is_no_request_goes_the_whole_way():
    heard = []

    async def app(scope, receive, send):
        heard.append(scope["type"])

    ask(Calls(app, flask, frozenset()), kind="lifespan")
    assert heard == ["lifespan"]


def test_a_client_that_leaves_is_not_served_half_a_body():
    asked = []

    async def receive():
        return {"type": "http.disconnect"}

    application = calls(lambda environ, start_response: asked.append(environ))
    scope = {"type": "http", "path": GET_EXPERIMENT, "method": "POST", "headers": []}
    asyncio.run(application(scope, receive, None))
    assert asked == []


def test_an_answer_is_closed():
    closed = []

    class Answer(list):
        def close(self):
            closed.append(True)

    def wsgi(environ, start_response):
        start_response("200 OK", [])
        return Answer([b"x"])

    assert ask(calls(wsgi))[1]["body"] == b"x" and closed == [True]


def rule(text, *arguments):
    return types.SimpleNamespace(rule=text, arguments=set(arguments))


def test_paths_that_fastapi_has_a_say_in_are_not_classic():
    rules = [
        rule(GET_EXPERIMENT),
        rule("/api/3.0/mlflow/traces/search"),
        rule("/api/3.0/mlflow/traces/<trace_id>", "trace_id"),
        rule("/api/3.0/mlflow/server-info"),
        rule("/api/2.0/mlflow/checked"),
        rule("/api/2.0/mlflow-artifacts/artifacts"),
        rule("/ajax-api/2.0/mlflow/experiments/get"),
        rule("/"),
    ]
    native = [re.compile(r"^/api/3\.0/mlflow/server-info$"), re.compile(r"^/api/3\.0/mlflow/mcp/(?P<name>.*)$")]

    class Match(enum.Enum):
        NONE, PARTIAL, FULL = range(3)

    def route(pattern, match):
        return types.SimpleNamespace(matches=lambda scope: (match if pattern.match(scope["path"]) else Match.NONE, {}))

    flask_app = types.SimpleNamespace(url_map=types.SimpleNamespace(iter_rules=lambda: iter(rules)))
    mount = types.SimpleNamespace(path="", matches=lambda scope: (Match.FULL, {}))
    # Another method than the one that is looked for matches in part.
    routes = [route(pattern, match) for pattern in native for match in (Match.PARTIAL, Match.FULL)]
    fastapi_app = types.SimpleNamespace(routes=[*routes, mount])
    found = classic_calls.classic_paths(
        flask_app, fastapi_app, lambda path, method: "validator" if path.endswith("/checked") and method == "PATCH" else None
    )
    assert found == {GET_EXPERIMENT, "/api/3.0/mlflow/traces/search"}
