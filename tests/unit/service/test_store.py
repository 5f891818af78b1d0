# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The store of runs is asked less: a store of the same shape as MLflow's, on SQLAlchemy itself."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.compat import store as mlflow_store  # noqa: E402


class Base(DeclarativeBase):
    pass


class SqlExperiment(Base):
    __tablename__ = "experiments"
    experiment_id: Mapped[int] = mapped_column(primary_key=True)
    tags: Mapped[list[SqlTag]] = relationship()


class SqlTag(Base):
    __tablename__ = "experiment_tags"
    key: Mapped[str] = mapped_column(primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.experiment_id"))


class SqlRun(Base):
    __tablename__ = "runs"
    run_uuid: Mapped[str] = mapped_column(primary_key=True)


def managed(maker, db_type):
    @contextlib.contextmanager
    def session():
        with maker() as made:
            yield made
            made.commit()

    return session


class Store:
    """Tells of each call in which kind of transaction it was, and what it has read along."""

    db_type = "sqlite"

    def __init__(self):
        self.engine = create_engine("sqlite://")
        Base.metadata.create_all(self.engine)
        self.ManagedSessionMaker = managed(sessionmaker(bind=self.engine), self.db_type)

    def _get_eager_experiment_query_options(self):
        return []

    def _level(self):
        with self.ManagedSessionMaker() as session:
            return session.connection().get_execution_options().get("isolation_level", "TRANSACTION")

    def get_experiment(self, experiment_id):
        with self.ManagedSessionMaker() as session:
            asked = session.query(SqlExperiment).options(*self._get_eager_experiment_query_options())
            found = asked.filter(SqlExperiment.experiment_id == experiment_id).one()
            return self._level(), "tags" in vars(found) and [tag.key for tag in found.tags]

    def get_experiment_by_name(self, name):
        return self._level()

    def get_run(self, run_id):
        return self._level()

    def create_run(self):
        return self._level(), self.get_experiment(1)

    def _get_run_inputs(self, session, run_uuids):
        return [["asked"] for _ in run_uuids]


@pytest.fixture
def store(monkeypatch):
    """With MLflow's two modules that are needed, as far as they are."""
    modules = {
        "mlflow.store.db.utils": {"_get_managed_session_maker": managed},
        "mlflow.store.tracking.dbmodels.models": {"SqlExperiment": SqlExperiment, "SqlRun": SqlRun},
    }
    for name, content in modules.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))
    made = Store()
    with made.ManagedSessionMaker() as session:
        session.add(SqlExperiment(experiment_id=1, tags=[SqlTag(key="a"), SqlTag(key="b")]))
    yield made
    made.engine.dispose()


def test_what_reads_one_thing_does_without_a_transaction_and_the_rest_with_one(store):
    mlflow_store.read_without_a_transaction(store)
    assert store.get_experiment(1) == ("AUTOCOMMIT", ["a", "b"])
    assert store.get_experiment_by_name("Default") == store.get_run("r") == "AUTOCOMMIT"
    # What writes asks for its experiment in the same way, and writes in a transaction of its own.
    assert store.create_run() == ("TRANSACTION", ("AUTOCOMMIT", ["a", "b"]))


def test_tags_are_read_along_only_where_somebody_has_said_so(store):
    assert store.get_experiment(1) == ("TRANSACTION", False)


@pytest.mark.parametrize(
    "asked, answer",
    [(["new"], [[]]), (["new", "newer"], [[], []]), (["old"], [["asked"]]), (["new", "old"], [["asked"], ["asked"]])],
)
def test_only_of_runs_that_are_just_being_made_it_is_not_asked_whether_they_have_inputs(store, asked, answer):
    mlflow_store.ask_for_no_inputs_of_a_new_run(store)
    with store.ManagedSessionMaker() as session:
        session.add(SqlRun(run_uuid="old"))
        session.flush()
        session.add_all([SqlRun(run_uuid="new"), SqlRun(run_uuid="newer"), SqlExperiment(experiment_id=2)])
        with session.no_autoflush:
            assert store._get_run_inputs(session, asked) == answer


@pytest.mark.parametrize("with_logins", [True, False])
def test_the_store_of_logins_is_opened_only_where_somebody_logs_in(monkeypatch, with_logins):
    handlers = {"_get_tracking_store": lambda: "runs", "_get_model_registry_store": lambda: "models"}
    auth = SimpleNamespace(store="logins")
    monkeypatch.setitem(sys.modules, "mlflow.server.handlers", SimpleNamespace(**handlers))
    monkeypatch.setitem(sys.modules, "mlflow.server", SimpleNamespace(auth=auth) if with_logins else SimpleNamespace())
    logins = {"authentication": "logins"} if with_logins else {}
    assert mlflow_store.open_stores(with_logins) == {"tracking": "runs", "registry": "models", **logins}
