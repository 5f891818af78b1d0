# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A read replica that is behind: searches are answered by it, and nobody else misses what was just written."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import types
from pathlib import Path

import psycopg2
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles" / "mlflow_server" / "files" / "service"))
sys.path.insert(0, str(ROOT / "tests"))

import postgres  # noqa: E402
from mlflow_service.compat import store as mlflow_store  # noqa: E402
from mlflow_service.database import schema  # noqa: E402
from mlflow_service.http import ready  # noqa: E402
from mlflow_service.http.searches import SEARCH, Searches, is_search  # noqa: E402
from sqlalchemy import create_engine, text  # noqa: E402
from sqlalchemy.orm import sessionmaker  # noqa: E402

SERVICE = "[mlflow]\nhost={0}\nuser=mlflow\ndbname=postgres\n[mlflow_read]\nhost={1},{0}\nuser=mlflow\ndbname=postgres\n"


def execute(folder, statement):
    connection = psycopg2.connect(host=str(folder), user="mlflow", dbname="postgres")
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


@pytest.fixture(scope="module")
def folders():
    try:
        with postgres.server() as primary:
            execute(primary, "CREATE TABLE runs (name text); CREATE TABLE alembic_version (version_num text)")
            execute(primary, "INSERT INTO alembic_version VALUES ('old')")
            with postgres.replica(primary) as replica:
                execute(replica, "SELECT pg_wal_replay_pause()")
                yield primary, replica
    except postgres.Missing as why:
        pytest.skip(str(why))


@pytest.fixture
def service(folders, tmp_path, monkeypatch):
    """The service file names both; the replica stands still at what it had."""
    file = tmp_path / "pg_service.conf"
    file.write_text(SERVICE.format(*folders))
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("MLFLOW_READ_REPLICA_BACKEND_STORE_URI", "postgresql+psycopg2:///?service=mlflow_read")
    return file


@contextlib.contextmanager
def session(maker):
    with maker() as made:
        yield made
        made.commit()


@pytest.fixture
def store(service, monkeypatch):
    """A store that sends all that reads to the replica, as MLflow does by itself."""
    utils = types.SimpleNamespace(
        _get_managed_session_maker=lambda maker, db_type: lambda read_only=True: session(maker)  # noqa: ARG005
    )
    for name in ("mlflow", "mlflow.store", "mlflow.store.db"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "mlflow.store.db.utils", utils)
    engines = [create_engine(f"postgresql+psycopg2:///?service={name}") for name in ("mlflow", "mlflow_read")]
    makers = [sessionmaker(bind=engine) for engine in engines]
    made = types.SimpleNamespace(engine=engines[0], db_type="postgresql")
    made.ManagedSessionMaker = lambda read_only=True: session(makers[read_only])
    mlflow_store.search_in_the_replica(made)
    yield made
    for engine in engines:
        engine.dispose()


def asked(store, method, path):
    """The names of the runs that a request reads."""
    found = []

    async def app(scope, receive, send):
        def work():
            with store.ManagedSessionMaker() as made:
                found.extend(made.execute(text("SELECT name FROM runs")).scalars())

        # As MLflow's calls are carried out.
        await asyncio.to_thread(work)

    asyncio.run(Searches(app)({"type": "http", "method": method, "path": path}, None, None))
    assert not is_search()
    return found


def test_only_searches_may_miss_what_was_just_written(store):
    with store.ManagedSessionMaker(read_only=False) as made:
        made.execute(text("INSERT INTO runs VALUES ('new')"))
    assert asked(store, "GET", "/api/2.0/mlflow/runs/get") == ["new"]
    assert asked(store, "POST", "/api/2.0/mlflow/runs/log-metric") == ["new"]
    assert asked(store, "POST", "/api/2.0/mlflow/runs/search") == []
    # Outside of a request, as at the start.
    with store.ManagedSessionMaker() as made:
        assert made.execute(text("SELECT count(*) FROM runs")).scalar() == 1


@pytest.mark.parametrize(
    ("call", "may"),
    [
        ("POST /ajax-api/2.0/mlflow/runs/search", True),
        ("GET /api/2.0/mlflow/registered-models/search", True),
        ("POST /api/3.0/mlflow/traces/search", True),
        ("GET /ajax-api/2.0/mlflow/metrics/get-history-bulk-interval", True),
        ("GET /api/2.0/mlflow/traces", True),
        ("POST /api/2.0/mlflow/traces", False),
        ("POST /api/3.0/mlflow/traces", False),
        ("POST /api/2.0/mlflow/registered-models/create", False),
        ("GET /api/2.0/mlflow/metrics/get-history", False),
        ("GET /api/2.0/mlflow/users/current/search", False),
        ("POST /api/2.0/mlflow/logged-models/search/tags", False),
    ],
)
def test_what_is_a_search(call, may):
    assert (SEARCH.fullmatch(call) is not None) is may


def test_ready_tells_of_a_replica_that_is_away_and_stays_ready(service, folders):
    async def below(scope, receive, send):
        raise AssertionError

    def ask(query=b""):
        messages = []

        async def send(message):
            messages.append(message)

        application = ready.Readiness(below, {"database": ready.check_database, **ready.REPLICA})
        scope = {"type": "http", "path": "/ready", "method": "GET", "headers": [], "query_string": query}
        asyncio.run(application(scope, None, send))
        return messages[0]["status"], json.loads(messages[1]["body"])["checks"]["replica"]

    assert ask() == (200, "ok")
    service.write_text(SERVICE.format(folders[0], f"{folders[1]}/away"))
    assert ask() == (200, "failed")
    assert ask(b"replica") == (503, "failed")
    # Searches go on meanwhile.
    with psycopg2.connect("service=mlflow_read") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery()")
        assert cursor.fetchone() == (False,)


def test_a_worker_waits_until_the_replica_has_the_schema(service, folders, monkeypatch, capsys):
    execute(folders[0], "UPDATE alembic_version SET version_num = 'new'")
    monkeypatch.setattr(schema, "expected", lambda: {"version": "3.17.2", "tracking": "new", "auth": "new"})
    monkeypatch.setattr(schema.time, "sleep", lambda seconds: None)
    clock = [0.0]

    def sleep(seconds):
        clock[0] += seconds

    with pytest.raises(SystemExit):
        schema.refuse_another(with_auth=False, replica=True, sleep=sleep, clock=lambda: clock[0])
    said = capsys.readouterr().err
    assert "The read replica (mlflow_server_database_read_host) is behind for 60 s" in said and "schema old" in said
    # Without a replica there is nothing to wait for.
    schema.refuse_another(with_auth=False)

    def catches_up(seconds):
        execute(folders[1], "SELECT pg_wal_replay_resume()")
        while execute(folders[1], "SELECT version_num FROM alembic_version") != "new":
            pass

    schema.refuse_another(with_auth=False, replica=True, sleep=catches_up)


def test_the_variable_is_what_mlflow_is_told(monkeypatch):
    from mlflow_service.compat import environment

    monkeypatch.setattr(os, "environ", {"MLFLOW_BACKEND_STORE_URI": "db", "MLFLOW_ARTIFACTS_DESTINATION": "s3://b",
                                        "MLFLOW_SERVE_ARTIFACTS": "true"})  # fmt: skip
    environment.set_internal_variables()
    assert "_MLFLOW_SERVER_READ_REPLICA_BACKEND_STORE" not in os.environ
    os.environ["MLFLOW_READ_REPLICA_BACKEND_STORE_URI"] = "replica"
    environment.set_internal_variables()
    assert os.environ["_MLFLOW_SERVER_READ_REPLICA_BACKEND_STORE"] == "replica"
