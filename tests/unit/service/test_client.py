# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The service's own connections: what is kept, what is taken back, and that they end. A real PostgreSQL."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.database import client, gc  # noqa: E402


@pytest.fixture
def about(server):
    about = f"host={server} user=mlflow dbname=postgres"
    with client.connect(about) as connection:
        connection.execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept (name text)")
    return about


def kept(about):
    with client.connect(about) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM kept ORDER BY name").fetchall()]


@pytest.mark.parametrize("autocommit", [True, False])
def test_what_was_written_is_kept_and_the_connection_ends(about, autocommit):
    with client.connect(about, autocommit) as connection:
        connection.execute("INSERT INTO kept VALUES (%s)", ("100 %",))
        connection.execute("INSERT INTO kept VALUES ('50 %')")
    assert connection.closed
    assert kept(about) == ["100 %", "50 %"]


def test_what_was_written_is_kept_at_once_where_nobody_says_otherwise(about):
    """A connection may be open for hours, as mlflow-gc's is, and end in any way."""
    with client.connect(about) as connection:
        connection.execute("INSERT INTO kept VALUES ('x')")
        assert kept(about) == ["x"]


def test_what_failed_leaves_nothing_and_the_connection_ends(about):
    with pytest.raises(KeyError), client.connect(about, autocommit=False) as connection:
        connection.execute("INSERT INTO kept VALUES ('x')")
        raise KeyError
    assert connection.closed
    assert kept(about) == []


def test_a_transaction_is_all_or_nothing_and_what_follows_it_is_none(about):
    with client.connect(about) as connection:
        with connection.transaction():
            connection.execute("INSERT INTO kept VALUES ('a')")
            assert kept(about) == []
        with pytest.raises(psycopg2.errors.UndefinedTable), connection.transaction():
            connection.execute("INSERT INTO kept VALUES ('b')")
            connection.execute("SELECT 1 FROM nowhere")
        connection.execute("INSERT INTO kept VALUES ('c')")
        assert kept(about) == ["a", "c"]


@pytest.mark.parametrize("autocommit", [True, False])
def test_the_end_of_a_connection_is_told_as_what_it_was(about, autocommit):
    """And not as what could not be taken back any more."""
    with (
        pytest.raises(psycopg2.OperationalError, match="closed the connection"),
        client.connect(about, autocommit) as connection,
        connection.transaction(),
    ):
        with client.connect(about) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        connection.execute("INSERT INTO kept VALUES ('x')")
    assert connection.closed
    assert kept(about) == []


def test_what_mlflow_deletes_is_in_the_transaction_of_the_connection_that_holds_it(about):
    """As mlflow-gc has it: SQLAlchemy's session on this very connection, and what is asked beside it."""
    with client.connect(about) as connection:
        rows = gc.Rows(connection, None)
        for _ in range(2):
            with rows.transaction():
                rows._session.execute(text("INSERT INTO kept VALUES ('by the session')"))
                rows.execute("INSERT INTO kept VALUES (%s)", ("beside it",))
                assert kept(about) == []
            assert kept(about) == ["beside it", "by the session"] and connection.autocommit
            rows.execute("DELETE FROM kept")
            assert kept(about) == []
        with pytest.raises(KeyError), rows.transaction():
            rows._session.execute(text("INSERT INTO kept VALUES ('x')"))
            raise KeyError
        assert kept(about) == [] and not connection.closed and connection.autocommit


@pytest.mark.parametrize("kind", ["run", "model", "experiment"])
def test_mlflow_deletes_what_is_named_and_with_an_experiment_go_its_traces(about, kind):
    class Store:
        """MLflow's, which notes what it was told to delete."""

        ManagedSessionMaker = None

        def _deletes(self, kind, name):
            with self.ManagedSessionMaker() as session:
                session.execute(text("INSERT INTO kept VALUES (:what)"), {"what": f"{kind} {name}"})

        def _hard_delete_run(self, name):
            self._deletes("run", name)

        def _hard_delete_logged_model(self, name):
            self._deletes("model", name)

        def _hard_delete_experiment(self, name):
            self._deletes("experiment", name)

    with client.connect(about) as connection:
        connection.execute("DROP TABLE IF EXISTS trace_info; CREATE TABLE trace_info (experiment_id int)")
        connection.execute("INSERT INTO trace_info VALUES (1), (2)")
        rows = gc.Rows(connection, Store())
        with rows.transaction():
            rows.delete(kind, "1")
            assert kept(about) == []
        assert kept(about) == [f"{kind} 1"]
        traces = connection.execute("SELECT experiment_id FROM trace_info ORDER BY experiment_id").fetchall()
        assert traces == ([(2,)] if kind == "experiment" else [(1,), (2,)])


def test_who_closes_it_himself_may(about):
    with client.connect(about) as connection:
        connection.close()
    assert connection.closed
