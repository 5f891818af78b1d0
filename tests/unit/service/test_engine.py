# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""How MLflow's stores ask the database: with a real PostgreSQL, and engines made as MLflow makes them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.database import engine as mlflow_engine  # noqa: E402

PID = text("SELECT pg_backend_pid()")


@pytest.fixture
def make(server, plugin_of_stores):
    made = []

    def engine(plugin="&plugin=mlflow_server", **options):
        address = f"postgresql+psycopg2://mlflow@/postgres?host={server}{plugin}"
        made.append(create_engine(address, pool_pre_ping=True, **options))
        return made[-1]

    yield engine
    for one in made:
        one.dispose()


@pytest.fixture
def asked(monkeypatch):
    """Note how often the database is asked whether it is there."""

    def note(engine):
        times, asks = [], engine.dialect.do_ping

        def do_ping(connection):
            times.append(time.monotonic())
            return asks(connection)

        monkeypatch.setattr(engine.dialect, "do_ping", do_ping)
        return times

    return note


def use(engine):
    with engine.connect() as connection:
        return connection.execute(PID).scalar()


def end(make, *pids):
    with make("").connect() as connection:
        for pid in pids:
            connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def test_many_updates_of_a_kind_go_to_the_database_together(make):
    def last_said(engine):
        with engine.begin() as connection:
            connection.execute(text("CREATE TEMPORARY TABLE latest (name int, value int)"))
            pid = connection.execute(PID).scalar()
            rows = [{"name": number, "value": number} for number in range(50)]
            connection.execute(text("UPDATE latest SET value = :value WHERE name = :name"), rows)
            with make("").connect() as other:
                return other.execute(text("SELECT query FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid}).scalar()

    assert last_said(make()).count("UPDATE latest") > 10
    assert last_said(make("")).count("UPDATE latest") == 1


def test_a_connection_in_use_is_not_asked_again(make, asked):
    engine = make()
    times = asked(engine)
    assert len({use(engine) for _ in range(5)}) == 1
    assert times == []


def test_a_connection_that_was_idle_is_asked(make, asked, monkeypatch):
    engine = make()
    times = asked(engine)
    use(engine)
    monkeypatch.setattr(mlflow_engine, "FRESH_SECONDS", 0.0)
    use(engine)
    assert len(times) == 1


@pytest.mark.parametrize("idle, times_asked", [(4.9, 0), (5.1, 1), (11.0, 1), (3600.0, 1)])
def test_a_connection_is_asked_when_it_was_idle_for_some_seconds(make, asked, monkeypatch, idle, times_asked):
    """On a host that has just started, too, whose clock is at its beginning."""
    now = 10.0
    monkeypatch.setattr(mlflow_engine, "time", SimpleNamespace(monotonic=lambda: now))
    engine = make()
    times = asked(engine)
    use(engine)
    now += idle
    use(engine)
    assert len(times) == times_asked


@pytest.mark.parametrize("fresh", [5.0, 0.0], ids=["just used", "idle"])
def test_connections_that_the_database_has_ended_are_replaced_and_nobody_notices(make, asked, monkeypatch, fresh):
    engine = make(pool_size=5)
    with engine.connect() as one, engine.connect() as two:
        pids = [one.execute(PID).scalar(), two.execute(PID).scalar()]
    end(make, *pids)
    monkeypatch.setattr(mlflow_engine, "FRESH_SECONDS", fresh)
    times = asked(engine)
    with engine.connect() as one, engine.connect() as two:
        assert {one.execute(PID).scalar(), two.execute(PID).scalar()}.isdisjoint(pids)
    # What is older than the one that was lost is lost, too, and not asked.
    assert len(times) == 1


def test_what_came_meanwhile_makes_it_doubtful(make, asked):
    engine = make()
    times = asked(engine)
    with engine.connect() as connection:
        connection.execute(text("LISTEN something"))
        connection.commit()
    with make("").connect() as other:
        other.execute(text("NOTIFY something"))
        other.commit()
    time.sleep(0.2)
    use(engine)
    assert len(times) == 1


def test_an_error_that_is_no_end_of_a_connection_is_told(make, monkeypatch):
    engine = make()
    use(engine)
    monkeypatch.setattr(mlflow_engine, "FRESH_SECONDS", 0.0)

    def do_ping(connection):
        raise engine.dialect.loaded_dbapi.OperationalError("out of memory")

    monkeypatch.setattr(engine.dialect, "do_ping", do_ping)
    with pytest.raises(OperationalError, match="out of memory"):
        use(engine)


def test_after_its_pool_was_given_up_it_is_the_same(make, asked):
    """A worker that ends lets go of its connections, and may need one more."""
    engine = make()
    times = asked(engine)
    first = use(engine)
    engine.dispose()
    second = use(engine)
    end(make, second)
    assert use(engine) not in (first, second) and len(times) == 1


def test_without_a_pool_nothing_is_asked(make, asked):
    engine = make(poolclass=NullPool)
    times = asked(engine)
    assert use(engine) != use(engine) and times == []


def test_another_driver_is_left_as_it_is():
    arguments = {}
    plugin = mlflow_engine.Plugin(None, {})
    plugin.handle_dialect_kwargs(type("Other", (), {"driver": "pysqlite"}), arguments)
    assert arguments == {}
