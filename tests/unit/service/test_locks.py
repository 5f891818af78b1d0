# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Who is in the way of a migration: named so that an administrator finds the session; with a real PostgreSQL."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

import psycopg2  # noqa: E402
import psycopg2.errors  # noqa: E402
from mlflow_service.database import (
    client,  # noqa: E402
    locks,  # noqa: E402
)


@pytest.fixture
def connect(server, monkeypatch):
    monkeypatch.setattr(locks, "LONG", 0.2)
    monkeypatch.setattr(locks.Watch, "EVERY", 0.02)
    with contextlib.ExitStack() as stack:

        def connect(name="test", autocommit=True, **more):
            about = {"host": server, "user": "mlflow", "dbname": "postgres", "application_name": name, **more}
            return stack.enter_context(contextlib.closing(client.connect("", autocommit, **about)))

        connect().execute("DROP TABLE IF EXISTS jobs; CREATE TABLE jobs (name text)")
        yield connect


def pid(connection):
    return connection.info.backend_pid


TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+\d\d:\d\d"


def test_a_session_is_named_by_its_program_and_what_it_does_since_when(connect):
    open_one, idle = connect("a script", autocommit=False), connect("")
    open_one.execute("SELECT 'a secret'")
    lines = locks.describe(connect(), {pid(open_one), pid(idle)})
    assert len(lines) == 2 and "secret" not in str(lines)
    first = rf"pid {pid(open_one)}, user mlflow \(a script\), idle in transaction since {TIME}"
    assert re.fullmatch(first, lines[0]), lines
    assert re.fullmatch(rf"pid {pid(idle)}, user mlflow, idle since {TIME}", lines[1]), lines


def test_who_may_not_see_another_session_is_told_its_user_and_that_there_is_more(connect):
    admin, held = connect(), connect("a script", autocommit=False)
    held.execute("SELECT 1")
    admin.execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN")
    (line,) = locks.describe(connect(user="stranger"), [pid(held)])
    assert line == f"pid {pid(held)}, user mlflow (a script), the database does not tell us what it does"


def test_where_a_session_comes_from_and_a_prepared_transaction():
    """The server of the tests has no address, so the rows are given."""
    rows = [(7, "ada", "192.0.2.7", "psql", "active", None)]
    connection = SimpleNamespace(execute=lambda query, given: SimpleNamespace(fetchall=lambda: rows if 7 in given[0] else []))
    assert locks.describe(connection, {7}) == ["pid 7, user ada from 192.0.2.7 (psql), active"]
    assert locks.describe(connection, {0}) == ["a prepared transaction, see pg_prepared_xacts"]
    assert len(locks.describe(connection, {0, 7})) == 2 and locks.describe(connection, set()) == []


@pytest.mark.parametrize("lock", [1, 5_000_000_000, 2**62 + 1])
def test_who_holds_a_lock_is_named_and_who_holds_another_one_is_not(connect, lock):
    holds, other, looks = connect("holds it"), connect("another"), connect()
    other.execute("SELECT pg_advisory_lock(%s)", (lock + 1,))
    assert locks.holder(looks, lock) == ""
    holds.execute("SELECT pg_advisory_lock(%s)", (lock,))
    assert locks.holder(looks, lock).startswith(f"pid {pid(holds)}, user mlflow (holds it), idle since ")


def test_a_transaction_that_stays_open_is_named_and_one_that_ends_is_not(connect):
    stays, ends, looks = connect("stays", autocommit=False), connect("ends", autocommit=False), connect()
    assert locks.open_for_long(looks) == []
    for connection in (stays, ends):
        connection.execute("SELECT * FROM jobs")
    threading.Timer(0.05, ends.rollback).start()
    (line,) = locks.open_for_long(looks)
    assert line.startswith(f"pid {pid(stays)}, user mlflow (stays), idle in transaction since ")


def test_where_nothing_is_open_nobody_waits(connect, monkeypatch):
    monkeypatch.setattr(locks, "LONG", 60.0)
    begun = time.monotonic()
    assert locks.open_for_long(connect()) == [] and time.monotonic() - begun < 5


def test_a_session_that_begins_a_new_transaction_each_time_is_in_nobodys_way(connect, monkeypatch):
    busy, looks = connect("busy", autocommit=False), connect()
    busy.execute("SELECT * FROM jobs")

    def meanwhile(seconds):
        busy.rollback()
        busy.execute("SELECT * FROM jobs")

    monkeypatch.setattr(locks, "time", SimpleNamespace(sleep=meanwhile))
    assert locks.open_for_long(looks) == []


def wait_until(condition):
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_who_has_blocked_a_migration_is_known_after_it_has_given_up(connect):
    blocks, bystander = (connect(name, autocommit=False) for name in ("a script", "bystander"))
    migrates = connect("migrates")
    blocks.execute("SELECT * FROM jobs")
    bystander.execute("SELECT 1")
    with locks.Watch(connect, "migrates") as watch:
        assert watch.seen == []
        migrates.execute("SET lock_timeout = '500ms'")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            migrates.execute("ALTER TABLE jobs ADD COLUMN more text")
    (line,) = watch.seen
    assert line.startswith(f"pid {pid(blocks)}, user mlflow (a script), idle in transaction since ")
    assert not watch._thread.is_alive()


def test_a_session_of_another_name_is_not_watched(connect):
    blocks, other = connect("a script", autocommit=False), connect("another")
    blocks.execute("SELECT * FROM jobs")
    with locks.Watch(connect, "migrates") as watch:
        other.execute("SET lock_timeout = '300ms'")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            other.execute("ALTER TABLE jobs ADD COLUMN more text")
    assert watch.seen == []


def test_a_watch_that_can_not_look_says_nothing_and_fails_nothing():
    def away():
        raise psycopg2.OperationalError("away")

    with locks.Watch(away, "migrates") as watch:
        assert wait_until(lambda: not watch._thread.is_alive())
    assert watch.seen == []
