# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a client is told where the database fails: one sentence, with no address, role or statement in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

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


# --- where MLflow's Flask makes a 500 of it: what a check before the call has raised ---


class MlflowException(Exception):
    def __init__(self, message, status=503):
        super().__init__(message)
        self._status = status

    def serialize_as_json(self):
        return json.dumps({"message": str(self)})

    def get_http_status_code(self):
        return self._status


@pytest.fixture
def answer(monkeypatch):
    """What a client gets where a check raises this."""
    flask = pytest.importorskip("flask")
    app = flask.Flask("mlflow")
    modules = {
        "mlflow": {}, "mlflow.exceptions": {"MlflowException": MlflowException}, "mlflow.protos": {},
        "mlflow.protos.databricks_pb2": {"TEMPORARILY_UNAVAILABLE": 503}, "mlflow.server": {"app": app},
    }  # fmt: skip
    for name, content in modules.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))
    errors.answer_what_went_wrong()

    def answer(error):
        @app.before_request
        def check():
            raise error

        return app.test_client().get("/api/2.0/mlflow/runs/get")

    return answer


def test_a_database_that_fails_in_a_check_is_told_in_one_sentence_and_clients_come_again(answer):
    found = answer(OperationalError("SELECT 'a secret'", {}, Exception("server at db.internal closed the connection")))
    assert (found.status_code, found.json) == (503, {"message": AWAY})


def test_what_mlflow_says_in_a_check_is_told_as_where_it_says_it_in_a_call(answer):
    found = answer(MlflowException("There is no such run.", 404))
    assert (found.status_code, found.json) == (404, {"message": "There is no such run."})


def test_a_fault_in_a_check_is_a_fault_and_says_nothing(answer):
    found = answer(KeyError("a secret"))
    assert found.status_code == 500 and "a secret" not in found.text and "Internal Server Error" in found.text
