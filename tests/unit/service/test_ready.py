# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The readiness check of the service, as an ASGI server would call it."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.database import (
    client,  # noqa: E402
    schema,  # noqa: E402
)
from mlflow_service.http import ready  # noqa: E402


async def below(scope, receive, send):
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"MLflow"})


async def ask(application, path="/ready", method="GET", details=False, query=b""):
    messages = []

    async def send(message):
        messages.append(message)

    headers = [(b"x-ready-details", b"yes")] if details else []
    await application({"type": "http", "path": path, "method": method, "headers": headers, "query_string": query}, None, send)
    return messages[0]["status"], messages[1]["body"]


def fail():
    raise ConnectionError("no route to db.example.com")


@pytest.mark.parametrize("details", [False, True])
def test_what_is_left_out_is_among_the_details(details):
    application = ready.Readiness(below, {"database": lambda: None}, left_out=["reads: something has moved"])
    status, body = asyncio.run(ask(application, details=details))
    assert status == 200 and json.loads(body)["ready"]
    assert json.loads(body).get("left_out") == (["reads: something has moved"] if details else None)
    assert "left_out" not in json.loads(asyncio.run(ask(ready.Readiness(below, {"database": fail}), details=True))[1])


def test_it_has_threads_of_its_own():
    """Whoever keeps those of the loop busy must not make this server look as if it were not there."""
    application = ready.Readiness(below, {"database": lambda: None})

    async def run():
        loop, over = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, over.wait)
        try:
            return await asyncio.wait_for(ask(application), 2)
        finally:
            over.set()
            await busy

    assert asyncio.run(run())[0] == 200


def test_what_is_not_asked_here_is_mlflows():
    application = ready.Readiness(below, {"database": fail})
    assert asyncio.run(ask(application, "/health")) == (418, b"MLflow")
    assert asyncio.run(ask(application, "/ready/more")) == (418, b"MLflow")


def test_ready():
    application = ready.Readiness(below, {"database": lambda: None, "artifacts": lambda: None})
    status, body = asyncio.run(ask(application))
    assert status == 200 and json.loads(body) == {"ready": True, "checks": {"database": "ok", "artifacts": "ok"}}
    assert asyncio.run(ask(application, method="HEAD")) == (200, b"")


@pytest.mark.parametrize("query, status", [(b"", 200), (b"artifacts", 503), (b"x=1&artifacts", 503), (b"artifact", 200)])
def test_an_artifact_store_that_is_ill_sends_nobody_away_who_does_not_ask_for_it(query, status):
    application = ready.Readiness(below, {"database": lambda: None, "artifacts": fail})
    found, body = asyncio.run(ask(application, query=query))
    assert found == status
    assert json.loads(body) == {"ready": status == 200, "checks": {"database": "ok", "artifacts": "failed"}}


@pytest.mark.parametrize("details", [False, True])
def test_reasons_are_not_for_strangers(details):
    application = ready.Readiness(below, {"database": fail, "artifacts": lambda: None})
    status, body = asyncio.run(ask(application, details=details))
    assert status == 503
    assert json.loads(body)["checks"]["artifacts"] == "ok"
    assert (b"db.example.com" in body) == details


def test_a_check_that_hangs_is_answered_in_time(monkeypatch):
    monkeypatch.setattr(ready, "CHECK_SECONDS", 0.1)
    application = ready.Readiness(below, {"database": lambda: time.sleep(0.5)})

    async def measured():
        begin = time.monotonic()
        status, _body = await ask(application)
        return status, time.monotonic() - begin

    status, seconds = asyncio.run(measured())
    assert status == 503 and seconds < 0.4


def test_asking_often_costs_one_check(monkeypatch):
    calls = []
    application = ready.Readiness(below, {"database": lambda: calls.append(1)})

    async def many():
        answers = await asyncio.gather(*(ask(application) for _ in range(50)))
        monkeypatch.setattr(application, "_until", 0.0)
        return answers + [await ask(application)]

    assert {status for status, _body in asyncio.run(many())} == {200}
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_no_request_goes_on_untouched(kind):
    """A worker's start and end have no path."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    asyncio.run(ready.Readiness(app, {"database": fail})({"type": kind, "path": "/ready"}, "receive", "send"))
    assert seen == [({"type": kind, "path": "/ready"}, "receive", "send")]


@pytest.mark.parametrize("method, has_body", [("GET", True), ("HEAD", False), ("POST", True), ("OPTIONS", True)])
def test_an_answer_says_how_long_it_is_and_is_kept_by_nobody(method, has_body):
    messages = []

    async def send(message):
        messages.append(message)

    application = ready.Readiness(below, {"database": lambda: None})
    scope = {"type": "http", "path": "/ready", "method": method, "headers": [(b"x-ready-details", b"")]}
    asyncio.run(application(scope, None, send))
    headers, body = dict(messages[0]["headers"]), messages[1]["body"]
    assert headers[b"cache-control"] == b"no-store" and headers[b"content-type"] == b"application/json"
    assert (len(body) == int(headers[b"content-length"])) is has_body and bool(body) is has_body


@pytest.mark.parametrize("headers", [[(b"x-ready-details", b"")], [(b"a", b"yes")], [(b"z", b"yes")]])
def test_other_headers_ask_for_no_reasons(headers):
    messages = []

    async def send(message):
        messages.append(message)

    application = ready.Readiness(below, {"database": fail})
    asyncio.run(application({"type": "http", "path": "/ready", "method": "GET", "headers": headers}, None, send))
    assert json.loads(messages[1]["body"]) == {"ready": False, "checks": {"database": "failed"}}


def test_an_error_without_words_is_told_by_its_kind_and_one_that_hangs_by_its_time(monkeypatch):
    monkeypatch.setattr(ready, "CHECK_SECONDS", 0.6)

    def silent():
        raise ValueError("  ")

    application = ready.Readiness(below, {"database": silent, "artifacts": lambda: time.sleep(0.8)})
    _status, body = asyncio.run(ask(application, details=True))
    assert json.loads(body)["checks"] == {"database": "ValueError: failed", "artifacts": "no answer in 1 s"}


def test_the_journal_has_a_line_when_it_changes_and_none_while_it_stays(caplog, monkeypatch):
    monkeypatch.setattr(ready, "KEPT_SECONDS", 0.0)
    state, lines = [None], []

    def check():
        if state[0]:
            raise ConnectionError(state[0])

    async def run():
        application = ready.Readiness(below, {"database": check})
        for state[0] in (None, "one", "another", None, None):
            caplog.clear()
            await ask(application)
            lines.append([(record.levelname, record.getMessage()) for record in caplog.records if "ready" in record.getMessage()])

    with caplog.at_level("INFO"):
        asyncio.run(run())
    down = [("ERROR", "not ready: database: ConnectionError: one")]
    assert lines == [[], down, [], [("INFO", "ready again: database")], []]


def test_an_answer_is_kept_for_some_seconds():
    calls = []

    async def run():
        application = ready.Readiness(below, {"database": lambda: calls.append(1)})
        for _ in range(5):
            await ask(application)

    asyncio.run(run())
    assert calls == [1]


def test_it_recovers(monkeypatch):
    answers = [ConnectionError("down"), None]

    def check():
        answer = answers.pop(0)
        if answer:
            raise answer

    application = ready.Readiness(below, {"database": check})
    monkeypatch.setattr(ready, "KEPT_SECONDS", 0.0)

    async def twice():
        return [(await ask(application))[0] for _ in range(2)]

    assert asyncio.run(twice()) == [503, 200]


# --- a host that has missed a change of the artifact store, with a real PostgreSQL ---

HERE = ("s3://bucket/artifacts", "")


@pytest.fixture
def database(server, tmp_path, monkeypatch):
    """A connection to what the service asks, which lists objects in any store."""
    service = tmp_path / "pg_service.conf"
    service.write_text(f"[mlflow]\nhost={server}\nuser=mlflow\ndbname=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", HERE[0])
    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(ready, "STORE_SECONDS", 0.0)
    monkeypatch.setattr(ready, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr(ready, "_store", ready.Store())

    class Client:
        def list_objects_v2(self, **_arguments):
            return {}

    monkeypatch.setattr(ready, "_s3", Client)
    with client.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS alembic_version")
        connection.execute(f"DROP TABLE IF EXISTS {schema.ARTIFACT_STORES}")
        connection.execute("CREATE TABLE alembic_version (version_num text)")
        yield connection


def note(connection, root, endpoint=""):
    table = schema.ARTIFACT_STORES
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (since timestamptz, root text, endpoint text)")
    connection.execute(f"INSERT INTO {table} VALUES (clock_timestamp(), %s, %s)", (root, endpoint))


def answers():
    application = ready.Readiness(below)
    return [asyncio.run(ask(application, query=query, details=True)) for query in (b"", b"artifacts")]


def test_a_host_with_another_artifact_store_says_so(database):
    assert [status for status, _body in answers()] == [200, 200], "where no store was noted"
    note(database, *HERE)
    assert [status for status, _body in answers()] == [200, 200]
    note(database, "s3://new/artifacts", "https://s3.example.com")
    (plain, _body), (asked, body) = answers()
    # All hosts are in that state for a moment while the store is changed: no reason to send clients away.
    assert (plain, asked) == (200, 503)
    said = json.loads(body)["checks"]["artifacts"]
    assert "is s3://bucket/artifacts and the database says s3://new/artifacts at https://s3.example.com" in said
    note(database, *HERE)
    assert [status for status, _body in answers()] == [200, 200]


def test_what_was_wrong_is_asked_again_at_once(database, monkeypatch):
    monkeypatch.setattr(ready, "STORE_SECONDS", 60.0)
    note(database, "s3://new/artifacts")
    assert answers()[1][0] == 503
    note(database, *HERE)
    assert answers()[1][0] == 200
    # And what is right is not, for a minute.
    note(database, "s3://new/artifacts")
    assert answers()[1][0] == 200


def test_a_database_that_is_away_says_nothing_of_the_store(database, monkeypatch):
    monkeypatch.setenv("PGSERVICEFILE", "/nowhere")
    (plain, body), (asked, _body) = answers()
    assert (plain, asked) == (503, 503)
    assert json.loads(body)["checks"]["artifacts"] == "ok" and "database" in json.loads(body)["checks"]
