# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a client is told where the database fails: one sentence, with no address, role or statement in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError, OperationalError

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.database import errors  # noqa: E402

AWAY = "The database does not answer."


PLUGIN = {"MLflow's own": {}, "the service's": {"plugins": ["mlflow_server"]}}


@pytest.fixture(params=PLUGIN)
def engine(server, request, plugin_of_stores, listeners):
    """As MLflow makes it, with the service's listener for as long as the test lasts."""
    errors.say_nothing_of_the_database()
    made = create_engine(f"postgresql+psycopg2://mlflow@/postgres?host={server}", pool_pre_ping=True, **PLUGIN[request.param])
    yield made
    made.dispose()
    assert listeners[0][:2] == (Engine, "handle_error")


def end_sessions(engine):
    with engine.connect() as connection:
        others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid != pg_backend_pid() AND usename='mlflow'"
        connection.execute(text(others))


def test_a_statement_that_takes_too_long(engine):
    with engine.connect() as connection, pytest.raises(OperationalError) as failed:
        connection.execute(text("SET statement_timeout = 50"))
        connection.execute(text("SELECT pg_sleep(5), 'a secret'"))
    assert str(failed.value) == f"This takes the database longer than {errors.STATEMENT_SECONDS} s."


def test_a_connection_that_ends_in_the_middle(engine):
    other = create_engine(engine.url)
    with engine.connect() as connection, pytest.raises(OperationalError) as failed:
        connection.execute(text("SELECT 1"))
        end_sessions(other)
        connection.execute(text("SELECT 'a secret'"))
    assert str(failed.value) == AWAY
    other.dispose()
    # And the pool has noticed: the next one is another.
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_a_database_that_is_not_there(engine, tmp_path, caplog):
    away = create_engine(f"postgresql+psycopg2://mlflow@/postgres?host={tmp_path}&port=5999")
    with pytest.raises(OperationalError) as failed, away.connect():
        pass
    assert str(failed.value) == AWAY
    # The journal has what the driver said.
    assert "5999" in caplog.text


def test_what_the_pool_finds_out_by_itself_is_no_failure(engine):
    other = create_engine(engine.url)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    end_sessions(other)
    other.dispose()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_other_errors_stay_what_they_are(engine):
    with engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE once (name text PRIMARY KEY)"))
        connection.execute(text("INSERT INTO once VALUES ('x')"))
        with pytest.raises(IntegrityError, match="duplicate key"):
            connection.execute(text("INSERT INTO once VALUES ('x')"))
