# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which addresses an ordinary user may name."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Column, Integer, String, create_engine
from sqlalchemy.orm import Session, declarative_base

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.compat import sources  # noqa: E402
from mlflow_service.compat.sources import keep_to_the_server  # noqa: E402
from mlflow_service.http.sources import SOURCES, kind_problem, location_problem  # noqa: E402


@pytest.mark.parametrize("location", ["mlflow-artifacts:/team", "mlflow-artifacts:/team/a.b/2026", "mlflow-artifacts:/7b"])
def test_a_place_of_ones_own_on_the_server(location):
    assert location_problem(location) is None


@pytest.mark.parametrize(
    "location",
    [
        "s3://artifacts/root/7", "file:///etc", "http://192.0.2.1/x", "dbfs:/x", "/tmp/x", "MLFLOW-ARTIFACTS:/x",
        "mlflow-artifacts:/", "mlflow-artifacts:", "mlflow-artifacts://host/x", "mlflow-artifacts:///7",
        "mlflow-artifacts:/7", "mlflow-artifacts:/7/RUN/artifacts", "mlflow-artifacts:/workspaces/x",
        "mlflow-artifacts:/team/../7", "mlflow-artifacts:/./7", "mlflow-artifacts:/team//7", "mlflow-artifacts:/%37",
        "mlflow-artifacts:/team\\..\\7", "mlflow-artifacts:/team?x=1", "mlflow-artifacts:/team#x", "mlflow-artifacts:/a\n",
        "mlflow-artifacts:/..",
    ],
)  # fmt: skip
def test_what_is_elsewhere_or_another_ones(location):
    assert location_problem(location)


@pytest.mark.parametrize(
    "source", ["mlflow-artifacts:/7/RUN/artifacts/model", "runs:/RUN/model", "models:/m-1", "models:/name/1"]
)
def test_a_model_comes_from_the_server(source):
    assert re.search(f"^({SOURCES})", source)


@pytest.mark.parametrize(
    "source", ["s3://b/x", "file:///etc", "xmlflow-artifacts:/1", "mlflow-artifacts://host/1", "runs://x/1", "", "http://x"]
)
def test_and_from_nowhere_else(source):
    assert not re.search(f"^({SOURCES})", source)


@pytest.mark.parametrize("location", ["mlflow-artifacts:/team", "mlflow-artifacts:/7", "s3://team/x", "gs://b/x", "abfss://c@a/x"])
def test_an_administrator_may_name_any_store(location):
    assert kind_problem(location) is None


@pytest.mark.parametrize(
    "location", ["file:///etc", "/etc", "etc", "dbfs:/x", "http://192.0.2.1/x", "s3:x", "FILE:/etc", " s3://b", ""]
)
def test_but_not_the_host(location):
    assert kind_problem(location)


# --- put into MLflow, which is not here: the names that are taken of it, and real tags in a database ---


class MlflowException(Exception):
    @classmethod
    def invalid_parameter_value(cls, message):
        return cls(message)


def table_of_tags():
    """A new one for each test, since it keeps the listeners that it was given."""

    class SqlTraceTag(declarative_base()):
        __tablename__ = "trace_tags"
        id = Column(Integer, primary_key=True)
        key = Column(String)
        value = Column(String)

    return SqlTraceTag


ARCHIVE, SPANS = "mlflow.trace.archiveLocation", "mlflow.trace.spansLocation"
# Its environment, by what is served and whether traces are archived.
SERVES = {"MLFLOW_SERVE_ARTIFACTS": "true"}


class MLflow:
    """What keep_to_the_server has made of it."""

    def __init__(self, monkeypatch, environment):
        for name in ("MLFLOW_TRACE_ARCHIVAL_CONFIG", "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"):
            # Set first, so that what is set in between is taken back.
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

        class SqlAlchemyStore:
            def create_experiment(self, name, artifact_location=None, tags=None):
                return name, artifact_location, tags

        tag = table_of_tags()
        experiment = SimpleNamespace(artifact_location="mlflow-artifacts:/7")
        tracking = SimpleNamespace(get_experiment=lambda number: experiment if number == "7" else None)
        self.handlers = SimpleNamespace(
            _HANDLER_BLOCKED_TRACE_TAGS={"mlflow.other"}, get_artifact_uri_for_trace=None, _get_tracking_store=lambda: tracking
        )
        modules = {
            "exceptions": {"MlflowException": MlflowException},
            "prompt": {"constants": SimpleNamespace(_PROMPT_SOURCE_PLACEHOLDERS={"a.b"})},
            "server": {"handlers": self.handlers},
            "server.handlers": vars(self.handlers),
            "store.tracking.sqlalchemy_store": {"SqlAlchemyStore": SqlAlchemyStore},
            "store.tracking.dbmodels.models": {"SqlTraceTag": tag},
            "utils.mlflow_tags": {"MLFLOW_ARTIFACT_LOCATION": "mlflow.artifactLocation"},
            "utils.uri": {"append_to_uri_path": lambda *parts: "/".join(parts)},
            "tracing.constant": {
                "TraceTagKey": SimpleNamespace(ARCHIVE_LOCATION=ARCHIVE, SPANS_LOCATION=SPANS),
                "SpansLocation": SimpleNamespace(ARCHIVE_REPO=SimpleNamespace(value="ARCHIVE_REPO")),
            },
        }
        for name, content in modules.items():
            monkeypatch.setitem(sys.modules, f"mlflow.{name}", SimpleNamespace(**content))
        for name in ("mlflow", "mlflow.store", "mlflow.store.tracking", "mlflow.store.tracking.dbmodels",
                     "mlflow.utils", "mlflow.tracing"):  # fmt: skip
            monkeypatch.setitem(sys.modules, name, SimpleNamespace())
        keep_to_the_server()
        self.store, self.tag = SqlAlchemyStore(), tag

    def tags(self, *pairs):
        """What is in the database after a trace was given these tags; one tag, which is set again and again."""
        engine = create_engine("sqlite://")
        self.tag.metadata.create_all(engine)
        with Session(engine) as session:
            tag = self.tag()
            for tag.key, tag.value in pairs:
                session.add(tag)
                session.commit()
            return [(it.key, it.value) for it in session.query(self.tag)]


@pytest.fixture
def mlflow(monkeypatch):
    return lambda **environment: MLflow(monkeypatch, {**SERVES, **environment})


@pytest.mark.parametrize(
    "user, location, said",
    [
        (False, "mlflow-artifacts:/team", None),
        (False, None, None),
        (False, "", None),
        (False, "s3://other/team", "it must be on this server, as"),
        (False, "mlflow-artifacts:/7", "is for places that MLflow gives itself"),
        (True, "s3://other/team", None),
        (True, "mlflow-artifacts:/7", None),
        (True, "/etc", "or in an artifact store"),
        # Where nobody logs in.
        (None, "s3://other/team", None),
        (None, "file:///etc", "or in an artifact store"),
    ],
)
def test_an_experiment_is_made_where_its_maker_may_have_one(mlflow, monkeypatch, user, location, said):
    monkeypatch.delenv("MLFLOW_AUTH_CONFIG_PATH", raising=False)
    caller = None if user is None else SimpleNamespace(is_admin=user)
    monkeypatch.setattr(sources, "caller", lambda: caller)
    store = mlflow().store
    if said:
        with pytest.raises(MlflowException, match=f"Invalid artifact_location '{location}': .*{said}"):
            store.create_experiment("x", location, ["tag"])
    else:
        assert store.create_experiment("x", location, ["tag"]) == ("x", location, ["tag"])


def test_where_users_log_in_and_this_one_is_not_known_he_may_no_more_than_any(mlflow, monkeypatch):
    """As where MLflow's own logins are used."""
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", "/etc/mlflow/auth.ini")
    monkeypatch.setattr(sources, "caller", lambda: None)
    with pytest.raises(MlflowException, match="it must be on this server, as"):
        mlflow().store.create_experiment("x", "s3://other/team")


@pytest.mark.parametrize("source, is_taken", [
    ("runs:/RUN/model", True), ("dummy-source", True), ("a.b", True), ("aXb", False), ("dummy-source/x", False),
    ("s3://b/x", False),
])  # fmt: skip
def test_a_model_version_comes_from_the_server_or_is_a_prompt(mlflow, source, is_taken):
    mlflow()
    assert bool(re.search(os.environ["MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"], source)) is is_taken


def test_what_the_inventory_says_of_sources_comes_first(mlflow):
    mlflow(MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX="^s3:")
    assert os.environ["MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"] == "^s3:"


@pytest.mark.parametrize("told", ["false", "zzz"])
def test_where_clients_go_to_the_store_themselves_only_the_rules_for_traces_hold(mlflow, told):
    found = mlflow(MLFLOW_SERVE_ARTIFACTS=told)
    assert found.store.create_experiment("x", "file:///etc") == ("x", "file:///etc", None)
    assert "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX" not in os.environ
    with pytest.raises(MlflowException):
        found.tags((ARCHIVE, "s3://other/x"))


def test_where_a_traces_data_are_follows_from_its_experiment(mlflow):
    handlers = mlflow().handlers
    trace = SimpleNamespace(trace_id="tr-1", experiment_id="7", tags={"mlflow.artifactLocation": "s3://other"})
    assert handlers.get_artifact_uri_for_trace(trace) == "mlflow-artifacts:/7/traces/tr-1/artifacts"
    trace.trace_id = "../8"
    with pytest.raises(MlflowException, match="no name of a folder"):
        handlers.get_artifact_uri_for_trace(trace)
    # Nor does MLflow take the tag by which others would say so.
    assert handlers._HANDLER_BLOCKED_TRACE_TAGS == {"mlflow.other", "mlflow.artifactLocation"}


REFUSED_TAGS = [(ARCHIVE, "s3://other/x"), (ARCHIVE, ""), (SPANS, "ARCHIVE_REPO")]
FREE_TAGS = [("a", "ARCHIVE_REPO"), ("z", "ARCHIVE_REPO"), (SPANS, "TRACKING_STORE"), (SPANS, "A"), ("mlflow.user", "x")]


@pytest.mark.parametrize("tag", REFUSED_TAGS)
def test_no_trace_is_in_an_archive(mlflow, tag):
    found = mlflow()
    for before in ([], [("mlflow.user", "x")]):
        with pytest.raises(MlflowException, match=f"Tag '{tag[0]}' can't be set"):
            found.tags(*before, tag)


@pytest.mark.parametrize("tag", FREE_TAGS)
def test_other_tags_are_free(mlflow, tag):
    assert mlflow().tags(("first", ""), tag) == [tag]


@pytest.mark.parametrize("tag", REFUSED_TAGS)
def test_where_traces_are_archived_users_do_not_say_where_either(mlflow, tag):
    """What archives them is another process."""
    with pytest.raises(MlflowException, match="only what archives a trace says where it is"):
        mlflow(MLFLOW_TRACE_ARCHIVAL_CONFIG="/etc/mlflow/archival.yml").tags(tag)
