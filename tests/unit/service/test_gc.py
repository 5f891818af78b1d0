# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What mlflow-gc removes, and what it refuses to remove, with an artifact store that does as it is told."""

from __future__ import annotations

import argparse
import copy
import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psycopg2.errors
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.database import gc  # noqa: E402

RUN = "0123456789abcdef0123456789abcdef"
URI = f"mlflow-artifacts:/1/{RUN}/artifacts"
PLACE = f"s3://bucket/prefix/1/{RUN}/artifacts"


OTHER = "fedcba9876543210fedcba9876543210"
TRACE = f"tr-{RUN}"
MODEL = f"m-{RUN}"


class Bucket:
    """MLflow's artifact repositories of one bucket, by their address."""

    def __init__(self, *objects, lists=True, deletes=True, writes=True):
        self.objects = set(objects)
        self.lists, self.deletes, self.writes = lists, deletes, writes
        self.asked_in_a_transaction = lambda: False

    def __call__(self, address):
        inside = f"{address.rstrip('/')}/"

        def names():
            assert not self.asked_in_a_transaction()
            if not self.lists:
                raise ConnectionError("no route\nto the store")
            found = {name.removeprefix(inside).split("/")[0] for name in self.objects if name.startswith(inside)}
            return [SimpleNamespace(path=name) for name in sorted(found)]

        def delete():
            assert not self.asked_in_a_transaction()
            if self.deletes:
                self.objects -= {name for name in self.objects if name.startswith(inside)}

        def write(file):
            if not self.writes:
                raise PermissionError("AccessDenied")
            self.objects.add(f"{inside}{Path(file).name}")

        return SimpleNamespace(list_artifacts=names, delete_artifacts=delete, log_artifact=write)

    @property
    def without_probes(self):
        return {name for name in self.objects if "/.mlflow-gc/" not in name}


class Tracking:
    """What MLflow has: a deleted run, or models, or a deleted experiment."""

    def __init__(self, uri=URI, made=5000, stage="deleted", runs=(RUN,), models=(), experiments=()):
        self.uri, self.made, self.stage = uri, made, stage
        self.model_uri = None if runs else uri
        # Of the experiment that the runs and models are in; deleted long ago or not.
        self.experiment_is_deleted = False
        self.runs, self.models, self.experiments = list(runs), list(models), list(experiments)
        self.removed = []


class Rows(list):
    def fetchall(self):
        return list(self)

    def fetchone(self):
        return self[0] if self else None


class Database:
    """The rows that mlflow-gc asks for, by the table that it asks, and what it writes; forgets what is rolled back."""

    def __init__(self, tracking, versions=(), experiments=(), traces=(), owners=(), rest=(), noted=(), meanwhile=None):
        # A trace is its id, its tag and its experiment; an owner is its kind, its id and its address.
        self.tracking = tracking
        self.versions, self.experiments, self.traces, self.owners = versions, dict(experiments), traces, owners
        self.rest = rest
        # Objects of rows that are gone: address, kind and name.
        self.noted = list(noted)
        # What is done when a question is asked, by a part of it.
        self.meanwhile = dict(meanwhile or {})
        self.in_transaction = False
        self.said = []

    @contextmanager
    def transaction(self):
        before = copy.copy(self.noted), copy.copy(self.tracking.removed)
        self.in_transaction = True
        self.said.append("BEGIN")
        try:
            yield
        except BaseException:
            self.noted, self.tracking.removed = before
            raise
        finally:
            self.said.append("END")
            self.in_transaction = False

    def delete(self, kind, name):
        assert self.in_transaction
        self.said.append(f"delete {kind} {name}")
        self.tracking.removed.append(name)

    def execute(self, query, given=None):
        query = " ".join(query.split())
        self.said.append(query)
        for part, happens in self.meanwhile.items():
            if part in query:
                happens()
        return Rows(self._answer(query, given))

    def _answer(self, query, given):
        it = self.tracking
        if "INTO mlflow_aws_gc_places" in query:
            assert self.in_transaction
            self.noted += zip(*given, strict=True)
        elif "DELETE FROM mlflow_aws_gc_places" in query:
            assert not self.in_transaction
            self.noted = [note for note in self.noted if note[0] != given[0]]
        elif "FROM mlflow_aws_gc_places" in query:
            return [(address, 5000, kind, name) for address, kind, name in self.noted]
        elif "to_regclass" in query:
            return [("there",)]
        elif query.startswith("SELECT extract(epoch"):
            return [(10_000_000,)]
        elif "SELECT 'run'" in query:
            return [row for row in self.owners if row[1] in given["ids"]]
        elif "FROM model_versions" in query:
            return list(self.versions)
        elif "trace_tags" in query:
            return [trace[:2] for trace in self.traces if trace[2] == given[0]]
        elif "FROM trace_info" in query:
            return [(trace[0], self.experiments[trace[2]]) for trace in self.traces if "/" in trace[0]]
        elif "SELECT run_uuid FROM runs WHERE lifecycle_stage" in query:
            return [(name,) for name in it.runs]
        elif "SELECT model_id FROM logged_models JOIN" in query:
            return [(name,) for name in it.models]
        elif "SELECT experiment_id FROM experiments WHERE lifecycle_stage" in query:
            return [(int(name),) for name, dummy in it.experiments]
        elif "WHERE experiment_id = (SELECT" in query:
            return [(1, it.experiment_is_deleted)]
        elif "SELECT artifact_uri, start_time" in query:
            assert given["limit"] == 1000
            return [(it.uri, it.made)] if it.stage == "deleted" else []
        elif "SELECT artifact_location, creation_timestamp_ms" in query:
            assert given["limit"] == 1000
            uri = it.model_uri or f"mlflow-artifacts:/1/models/{given['name']}/artifacts"
            return [(uri, it.made)] if it.stage == "deleted" or given["with_experiment"] else []
        elif "SELECT artifact_location, creation_time" in query:
            return [(dict(it.experiments)[str(given["name"])], 5000)] if it.stage == "deleted" else []
        elif "SELECT experiment_id, artifact_location" in query:
            return [row for row in self.experiments.items() if row[0] > given[0]]
        elif "FROM runs WHERE experiment_id" in query:
            return [(name,) for name in self.rest]
        elif "FROM logged_models WHERE experiment_id" not in query:
            assert query.startswith(("UPDATE mlflow_aws_gc_life", "SET LOCAL lock_timeout = '500ms'; LOCK TABLE model_versions"))
        return []


def clean(bucket, tracking, versions=(), since=0, dry_run=False, database=None, **rows):
    said = []
    store = gc.Store("s3://bucket/prefix/", since, bucket)
    store.probe(writes=not dry_run)
    database = database or Database(tracking, versions, **rows)
    bucket.asked_in_a_transaction = lambda: database.in_transaction
    cleaning = gc.Cleaning(database, store, 1000, dry_run, said.append)
    cleaning.all()
    return cleaning, "\n".join(said)


def clean_experiment(bucket, location, own, **rows):
    """Experiment 1, which was deleted, has this place and these traces; each is an id and the value of its tag."""
    tracking = Tracking(runs=(), experiments=[("1", location)])
    tracking.stage = rows.pop("stage", "deleted")
    rows["experiments"] = [(1, location), *rows.get("experiments", ())]
    rows["traces"] = [*((*trace, 1) for trace in own), *rows.get("traces", ())]
    return *clean(bucket, tracking, **rows), tracking


def test_objects_and_row_go():
    bucket, tracking = Bucket(f"{PLACE}/model/weights", "s3://bucket/prefix/1/another/artifacts/x"), Tracking()
    cleaning, said = clean(bucket, tracking)
    assert tracking.removed == [RUN] and said == f"gone: run {RUN}" and cleaning.kept == 0
    assert bucket.objects == {"s3://bucket/prefix/1/another/artifacts/x"}


def test_a_dry_run_removes_nothing():
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking()
    cleaning, said = clean(bucket, tracking, dry_run=True)
    assert not tracking.removed and bucket.objects and said == f"would go: run {RUN}" and cleaning.gone == 1


@pytest.mark.parametrize(
    ("bucket", "tracking", "since", "why"),
    [
        (Bucket(f"{PLACE}/x", lists=False), Tracking(), 0, "s3://bucket/prefix can't be listed: ConnectionError: no route to"),
        (Bucket(f"{PLACE}/x", deletes=False), Tracking(), 0, "its objects be listed and not deleted in s3://bucket/prefix"),
        (Bucket(f"{PLACE}/x", writes=False), Tracking(), 0, "an object can't be written to s3://bucket/prefix and deleted: P"),
        (Bucket(), Tracking(), 6000, "it was made before s3://bucket/prefix was the artifact store"),
        (Bucket(), Tracking(uri=f"file:///tmp/{RUN}/artifacts"), 0, "so this server does not clean it"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts://other:5000/1/{RUN}/artifacts"), 0, "belongs to another server"),
        (Bucket(), Tracking(uri="mlflow-artifacts:/1"), 0, "not a place of its own"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts:/1/../{RUN}/artifacts"), 0, "not a place of its own"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts:/1/./{RUN}/artifacts"), 0, "not a place of its own"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts:/1//{RUN}/artifacts"), 0, "not a place of its own"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts:///1/{RUN}/artifacts"), 0, "belongs to another server"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts:/1%2F7/{RUN}/artifacts"), 0, "not a place of its own"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts:/7/{RUN}/artifacts?1"), 0, "not a place of its own"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts:/7\t/{RUN}/artifacts"), 0, "not a place of its own"),
        # The id is a folder in these, and not the last one.
        (Bucket(), Tracking(uri=f"mlflow-artifacts:/1/{RUN}"), 0, "not a place of its own"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts:/{RUN}/1"), 0, "not a place of its own"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts:/1/{RUN}/artifacts/.."), 0, "not a place of its own"),
        (Bucket(), Tracking(uri="s3://bucket"), 0, "is not in s3://bucket/prefix"),
        (Bucket(), Tracking(uri=f"s3://bucket/{RUN}/artifacts"), 0, "is not in s3://bucket/prefix"),
        (Bucket(), Tracking(uri=f"s3://bucket/prefix2/{RUN}/artifacts"), 0, "is not in s3://bucket/prefix"),
        (Bucket(), Tracking(uri=f"s3://other/prefix/1/{RUN}/artifacts"), 0, "is not in s3://bucket/prefix"),
        (Bucket(), Tracking(uri=f"s3://bucket/prefix/../{RUN}/artifacts"), 0, "not a place of its own"),
    ],
)
def test_what_is_not_proved_stays(bucket, tracking, since, why):
    before = set(bucket.objects)
    cleaning, said = clean(bucket, tracking, since=since)
    assert said.startswith(f"kept: run {RUN}: ") and why in said
    assert not tracking.removed and cleaning.kept == 1 and bucket.without_probes == before


@pytest.mark.parametrize("uri", [URI, PLACE, f"mlflow-artifacts:/a team/{RUN}/artifacts", f"mlflow-artifacts:/{RUN}/artifacts"])
def test_a_place_that_mlflow_made_goes_wherever_its_experiment_is(uri):
    place = uri.replace("mlflow-artifacts:", "s3://bucket/prefix")
    neighbours = {"s3://bucket/prefix/10/x", f"s3://bucket/prefix/1/{RUN}/artifacts-of-another", f"s3://bucket/prefix/1/{OTHER}/x"}
    bucket, tracking = Bucket(f"{place}/x", *neighbours), Tracking(uri=uri)
    cleaning, said = clean(bucket, tracking)
    assert tracking.removed == [RUN] and said == f"gone: run {RUN}" and bucket.objects == neighbours


def test_a_model_goes_from_where_mlflow_puts_models_only():
    uri = f"mlflow-artifacts:/1/models/{MODEL}/artifacts"
    bucket, tracking = Bucket(f"s3://bucket/prefix/1/models/{MODEL}/artifacts/x"), Tracking(uri=uri, runs=(), models=[MODEL])
    assert clean(bucket, tracking)[1] == f"gone: model {MODEL}" and tracking.removed == [MODEL] and not bucket.objects
    tracking = Tracking(uri=f"mlflow-artifacts:/1/{MODEL}/artifacts", runs=(), models=[MODEL])
    assert "not a place of its own" in clean(Bucket(), tracking)[1] and not tracking.removed


def test_a_model_that_was_restored_with_its_experiment_stays():
    uri = f"mlflow-artifacts:/1/models/{MODEL}/artifacts"
    bucket = Bucket(f"s3://bucket/prefix/1/models/{MODEL}/artifacts/x")
    tracking = Tracking(uri=uri, runs=(), models=[MODEL], stage="active")
    cleaning, said = clean(bucket, tracking)
    assert not tracking.removed and bucket.objects and said == ""


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        # Somebody's experiment in the folder, and around it the place of a run, a model or a trace.
        ({"experiments": [(2, f"{URI}/mine")]}, "experiment 2 has its place in"),
        ({"experiments": [(2, URI)]}, "experiment 2 has its place in"),
        ({"experiments": [(2, f"{PLACE}//mine/")]}, "experiment 2 has its place in"),
        ({"experiments": [(2, f"mlflow-artifacts:/1/{RUN}%2Fartifacts/mine")]}, "experiment 2 has its place in"),
        ({"owners": [("trace", RUN, URI)]}, f"is a place of trace {RUN}"),
        ({"experiments": [(2, f"mlflow-artifacts:/1/{RUN}")], "traces": [("../artifacts/x", None, 2)]}, "has its place in"),
    ],
)
def test_where_somebody_else_has_a_place_nothing_goes(rows, why):
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking()
    cleaning, said = clean(bucket, tracking, **rows)
    assert said.startswith(f"kept: run {RUN}: ") and why in said
    assert not tracking.removed and bucket.objects == {f"{PLACE}/x"}


@pytest.mark.parametrize("kind", ["run", "model", "trace"])
def test_in_somebody_elses_place_nothing_goes(kind):
    # An experiment was made in the place of another run, and the run in it is deleted.
    around = f"mlflow-artifacts:/7/{OTHER}/artifacts"
    bucket = Bucket(f"s3://bucket/prefix/7/{OTHER}/artifacts/{RUN}/artifacts/x")
    tracking = Tracking(uri=f"{around}/{RUN}/artifacts")
    cleaning, said = clean(bucket, tracking, owners=[(kind, OTHER, around), ("run", RUN, tracking.uri)])
    assert said.startswith(f"kept: run {RUN}: ") and f"is a place of {kind} {OTHER}" in said
    assert not tracking.removed and len(bucket.objects) == 1


def test_experiments_beside_and_around_are_no_reason_to_stay():
    places = ["mlflow-artifacts:/1", "mlflow-artifacts:/10", "mlflow-artifacts:/", f"mlflow-artifacts:/1/{RUN}/artifacts2", None]
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking()
    clean(bucket, tracking, experiments=enumerate(places), owners=[("run", RUN, URI)])
    assert tracking.removed == [RUN] and not bucket.objects


def test_an_experiments_honest_traces_go_and_what_no_row_names_stays():
    location = "mlflow-artifacts:/1"
    stray = "s3://bucket/prefix/1/of-the-database-before/artifacts/x"
    old = f"tr-{OTHER}"
    bucket = Bucket(
        f"s3://bucket/prefix/1/traces/{TRACE}/artifacts/a", f"s3://bucket/prefix/1/traces/{RUN}/artifacts/b", stray
    )
    traces = [(TRACE, f"{location}/traces/{TRACE}/artifacts"), (RUN, f"{location}/traces/{RUN}/artifacts"), (old, None)]
    cleaning, said, tracking = clean_experiment(bucket, location, traces)
    assert tracking.removed == ["1"] and bucket.objects == {stray}
    assert said.splitlines() == [
        "gone: experiment 1",
        "left: s3://bucket/prefix/1: no row named the objects in of-the-database-before",
    ]


def test_another_experiments_place_in_the_folder_stays():
    inside = "s3://bucket/prefix/1/mine/traces/x/artifacts/y"
    bucket = Bucket(f"s3://bucket/prefix/1/traces/{TRACE}/artifacts/a", inside)
    cleaning, said, tracking = clean_experiment(
        bucket, "mlflow-artifacts:/1", [(TRACE, None)], experiments=[(2, "mlflow-artifacts:/1/mine")]
    )
    assert tracking.removed == ["1"] and bucket.objects == {inside} and said == "gone: experiment 1"


@pytest.mark.parametrize("location", ["mlflow-artifacts:/mine", "mlflow-artifacts:/1", "s3://bucket/prefix/mine"])
@pytest.mark.parametrize(
    ("trace_id", "tag"),
    [
        # A folder of the victim's address is the trace's name, and the tag is the address.
        ("7", "mlflow-artifacts:/7"),
        (OTHER, f"mlflow-artifacts:/7/{OTHER}/artifacts"),
        (TRACE, f"mlflow-artifacts:/7/{OTHER}/artifacts"),
        (TRACE, f"mlflow-artifacts:/7/{OTHER}/artifacts/traces/{TRACE}/artifacts"),
        (TRACE, f"mlflow-artifacts:/7/traces/{TRACE}/artifacts"),
        ("prefix", "s3://bucket/prefix"),
        (TRACE, "s3://bucket"),
        (TRACE, f"s3://another/traces/{TRACE}/artifacts"),
        (TRACE, f"mlflow-artifacts:/mine/../7/traces/{TRACE}/artifacts"),
        (TRACE, f"mlflow-artifacts:/mine%2F..%2F7/traces/{TRACE}/artifacts"),
        (TRACE, f"mlflow-artifacts://7/traces/{TRACE}/artifacts"),
        # With no tag, and with an id that is a way.
        ("../../7", None),
        ("7/../../..", None),
        (f"{TRACE}/../../../7", None),
        (f"{TRACE}\n", None),
        ("", None),
    ],
)
def test_a_trace_decides_nothing_of_what_goes(location, trace_id, tag):
    victims = {
        f"s3://bucket/prefix/7/{OTHER}/artifacts/model",
        f"s3://bucket/prefix/7/{OTHER}/artifacts/traces/{TRACE}/artifacts/x",
        f"s3://bucket/prefix/7/traces/{TRACE}/artifacts/x",
        f"s3://another/traces/{TRACE}/artifacts/x",
        "s3://bucket/x",
    }
    honest = f"tr-{OTHER}"
    own = f"{location.replace('mlflow-artifacts:', 's3://bucket/prefix')}/traces/{honest}/artifacts/x"
    bucket = Bucket(own, *victims)
    traces = [(trace_id, tag), (honest, f"{location}/traces/{honest}/artifacts")]
    cleaning, said, tracking = clean_experiment(bucket, location, traces, experiments=[(7, "mlflow-artifacts:/7")])
    # Not even its own honest traces: the experiment is still there, and may be restored.
    assert bucket.objects == {own, *victims} and not tracking.removed
    shown = trace_id.replace("\n", "?")
    assert said.startswith(f"kept: experiment 1: trace {shown}: ") and "\n" not in said and cleaning.kept == 1


@pytest.mark.parametrize(
    "location",
    [
        "s3://bucket", "s3://bucket/", "s3://another/x", "s3://bucket/prefix2", "mlflow-artifacts:/mine/../7",
        "mlflow-artifacts:/%2E%2E/7", "mlflow-artifacts://7", "mlflow-artifacts:/7?x", "mlflow-artifacts:/mine//..", "file:///7",
    ],
)  # fmt: skip
def test_an_experiments_place_that_is_not_below_the_root_is_left_alone(location):
    victims = {
        f"s3://bucket/traces/{TRACE}/artifacts/x",
        f"s3://another/x/traces/{TRACE}/artifacts/x",
        f"s3://bucket/prefix2/traces/{TRACE}/artifacts/x",
        f"s3://bucket/prefix/7/traces/{TRACE}/artifacts/x",
        f"s3://bucket/prefix/traces/{TRACE}/artifacts/x",
    }
    bucket = Bucket(*victims)
    cleaning, said, tracking = clean_experiment(bucket, location, [(TRACE, None)])
    assert bucket.objects == victims and not tracking.removed and said.startswith("kept: experiment 1: ")


def test_a_trace_is_not_in_somebody_elses_place():
    # The experiment is made in a run's place, and the trace has the name of a folder that its owner has there.
    location, object_ = f"mlflow-artifacts:/7/{OTHER}/artifacts", f"s3://bucket/prefix/7/{OTHER}/artifacts/traces/{TRACE}/artifacts/x"
    bucket = Bucket(object_)
    cleaning, said, tracking = clean_experiment(bucket, location, [(TRACE, None)], owners=[("run", OTHER, location)])
    assert bucket.objects == {object_} and f"is a place of run {OTHER}" in said and not tracking.removed


def test_two_experiments_may_share_a_place():
    location = "mlflow-artifacts:/shared"
    mine, other = (f"s3://bucket/prefix/shared/traces/tr-{name}/artifacts/x" for name in (RUN, OTHER))
    bucket = Bucket(mine, other)
    cleaning, said, tracking = clean_experiment(
        bucket, location, [(TRACE, None)], experiments=[(2, location)], traces=[(f"tr-{OTHER}", None, 2)]
    )
    assert bucket.objects == {other} and tracking.removed == ["1"] and said == "gone: experiment 1"


@pytest.mark.parametrize(
    "source",
    [
        f"mlflow-artifacts:/1/traces/{TRACE}/artifacts/model", f"s3://bucket/prefix/1/traces/{TRACE}/artifacts",
        f"mlflow-artifacts://mlflow.example.com/1/traces/{TRACE}/artifacts",
        f"https://mlflow.example.com/api/2.0/mlflow-artifacts/artifacts/1/traces/{TRACE}/artifacts",
        f"mlflow-artifacts:/1/traces%2F{TRACE}/artifacts", "mlflow-artifacts:/1/elsewhere", "s3://bucket/prefix/1/",
    ],
)  # fmt: skip
def test_what_a_registered_model_needs_of_an_experiment_is_held(source):
    bucket = Bucket(f"s3://bucket/prefix/1/traces/{TRACE}/artifacts/x")
    cleaning, said, tracking = clean_experiment(
        bucket, "mlflow-artifacts:/1", [(TRACE, None)], versions=[("served", 3, source, None)]
    )
    assert said.startswith("held: experiment 1: version 3 of the registered model served")
    assert bucket.objects and not tracking.removed and (cleaning.held, cleaning.kept) == (1, 0)


@pytest.mark.parametrize(
    "source",
    ["s3://[x", "s3://bucket/prefix", "mlflow-artifacts:/", "mlflow-artifacts:/10", "s3://bucket",
     # Another bucket, whichever of the two names comes first.
     "s3://another/prefix/1", "s3://zoo/prefix/1"],
)  # fmt: skip
def test_a_registered_model_with_an_address_of_no_use_holds_nothing(source):
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking()
    clean(bucket, tracking, versions=[("served", 3, source, None)])
    assert tracking.removed == [RUN] and not bucket.objects


# What comes between the question whether something may go and its end: where the row is asked for to hold it, and where no more
# versions can come.
HELD = f"{' '.join(gc.RUN.split())} FOR UPDATE"
LAST = "LOCK TABLE model_versions"


def test_a_run_that_is_restored_at_the_last_moment_stays():
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking()
    database = Database(tracking, meanwhile={HELD: lambda: setattr(tracking, "stage", "active")})
    cleaning, said = clean(bucket, tracking, database=database)
    assert not tracking.removed and bucket.objects == {f"{PLACE}/x"} and said == "" and not database.noted


def test_with_an_experiment_that_is_restored_after_the_first_run_all_else_stays():
    second = f"m-{OTHER}"
    objects = {name: f"s3://bucket/prefix/1/models/{name}/artifacts/x" for name in (MODEL, second)}
    bucket = Bucket(f"{PLACE}/x", *objects.values())
    # Its models were never deleted themselves.
    tracking = Tracking(runs=[RUN], models=[MODEL, second])
    tracking.experiment_is_deleted = True

    def restore():
        if tracking.removed:
            tracking.experiment_is_deleted, tracking.stage = False, "active"

    database = Database(tracking, meanwhile={"FOR NO KEY UPDATE": restore})
    cleaning, said = clean(bucket, tracking, database=database)
    assert tracking.removed == [RUN] and bucket.objects == set(objects.values())
    assert said == f"gone: run {RUN}" and cleaning.kept == 0


@pytest.mark.parametrize("moment", [HELD, LAST])
@pytest.mark.parametrize("source", [f"runs:/{RUN}/model", f"{URI}/model", PLACE, "mlflow-artifacts:/1"])
def test_a_version_that_is_registered_meanwhile_holds(moment, source):
    bucket, tracking, versions = Bucket(f"{PLACE}/x"), Tracking(), []
    database = Database(tracking, versions, meanwhile={moment: lambda: versions.append(("served", 3, source, None))})
    cleaning, said = clean(bucket, tracking, database=database)
    assert said.startswith(f"held: run {RUN}: version 3 of the registered model served")
    assert bucket.objects == {f"{PLACE}/x"} and not tracking.removed and not database.noted and cleaning.kept == 0


@pytest.mark.parametrize("source", [f"mlflow-artifacts:/1/traces/{TRACE}/artifacts", "mlflow-artifacts:/1/elsewhere"])
def test_a_version_that_is_registered_meanwhile_holds_an_experiment(source):
    bucket, versions = Bucket(f"s3://bucket/prefix/1/traces/{TRACE}/artifacts/x"), []
    meanwhile = {LAST: lambda: versions.append(("served", 3, source, None))}
    cleaning, said, tracking = clean_experiment(
        bucket, "mlflow-artifacts:/1", [(TRACE, None)], versions=versions, meanwhile=meanwhile
    )
    assert said.startswith("held: experiment 1: version 3") and len(bucket.objects) == 1 and not tracking.removed


def test_all_versions_are_looked_at_once_and_then_those_of_the_last_hour_and_later():
    """By the database's clock; the hour is for hosts whose clocks are behind."""
    asked = []

    class Asked(Database):
        def _answer(self, query, given):
            if "coalesce(creation_time" in query:
                asked.append(given[-1])
            return super()._answer(query, given)

    tracking = Tracking()
    clean(Bucket(f"{PLACE}/x"), tracking, database=Asked(tracking))
    assert asked[0] == 0 and asked[1:] == [10_000_000 - 3_600_000] * (len(asked) - 1) and tracking.removed == [RUN]


def test_a_trace_that_came_since_the_store_was_asked_leaves_nothing():
    bucket, traces = Bucket(), [(TRACE, None, 1)]
    late = f"s3://bucket/prefix/1/traces/tr-{OTHER}/artifacts/x"

    def log():
        traces.append((f"tr-{OTHER}", None, 1))
        bucket.objects.add(late)

    tracking = Tracking(runs=(), experiments=[("1", "mlflow-artifacts:/1")])
    database = Database(tracking, experiments=[(1, "mlflow-artifacts:/1")], traces=traces, meanwhile={"FOR UPDATE": log})
    assert clean(bucket, tracking, database=database)[1] == "gone: experiment 1" and not bucket.objects


def test_all_is_held_before_it_is_looked_at_and_the_store_is_asked_outside():
    # Bucket and Database look at what is within a transaction and what is not.
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking()
    database = Database(tracking)
    clean(bucket, tracking, database=database)
    said = database.said[database.said.index("BEGIN") : database.said.index("END")]
    held = [place for place, it in enumerate(said) if it.endswith(("FOR NO KEY UPDATE", "FOR UPDATE"))]
    # The experiment comes first, as where MLflow restores it.
    assert [said[place].rsplit("FOR ")[-1] for place in held] == ["NO KEY UPDATE", "UPDATE"] and "runs" in said[held[1]]
    versions = [place for place, it in enumerate(said) if "FROM model_versions" in it]
    deletion, last = said.index(f"delete run {RUN}"), next(place for place, it in enumerate(said) if LAST in it)
    assert held[1] < versions[0] < deletion < last < versions[-1]


def test_a_dry_run_holds_and_writes_nothing():
    database = Database(Tracking())
    clean(Bucket(f"{PLACE}/x"), database.tracking, database=database, dry_run=True)
    assert not re.search("FOR UPDATE|FOR NO KEY|BEGIN|INSERT|DELETE|LOCK|UPDATE", " ".join(database.said))


def test_what_somebody_works_with_is_left_for_the_next_pass():
    def busy():
        raise psycopg2.errors.LockNotAvailable("canceling statement due to lock timeout")

    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking()
    cleaning, said = clean(bucket, tracking, meanwhile={HELD: busy})
    assert said == f"held: run {RUN}: somebody was at work with it" and (cleaning.held, cleaning.kept) == (1, 0)
    assert bucket.objects and not tracking.removed


def test_objects_that_do_not_go_are_gone_on_with():
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking()
    database = Database(tracking, meanwhile={LAST: lambda: setattr(bucket, "deletes", False)})
    cleaning, said = clean(bucket, tracking, database=database)
    assert said.splitlines() == [
        f"gone: run {RUN}",
        f"kept: objects of run {RUN}: the store let its objects be listed and not deleted; x is still in {PLACE}",
    ]
    assert cleaning.kept == 1 and tracking.removed == [RUN] and database.noted == [(PLACE, "run", RUN)]

    tracking.runs, bucket.deletes = [], True
    cleaning, said = clean(bucket, tracking, database=database)
    assert said == f"gone: objects of run {RUN}" and not bucket.objects and not database.noted and cleaning.kept == 0


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ({"versions": [("served", 3, f"{URI}/model", None)]}, "held: objects of run {}: version 3"),
        # A row that has come back by another way, as from a dump.
        ({"owners": [("run", RUN, URI)]}, "kept: objects of run {}: s3://bucket/prefix/1/{}/artifacts is a place of run"),
        ({"experiments": [(2, URI)]}, "kept: objects of run {}: experiment 2 has its place in"),
    ],
)
def test_objects_that_somebody_has_come_to_need_stay(rows, why):
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking(runs=())
    database = Database(tracking, noted=[(PLACE, "run", RUN)], **rows)
    cleaning, said = clean(bucket, tracking, database=database)
    assert said.startswith(why.replace("{}", RUN)) and bucket.objects and database.noted


def test_what_an_earlier_database_has_in_the_bucket_stays():
    # Experiments are numbered from 1 again; all else has random ids.
    old = {
        f"s3://bucket/prefix/1/{OTHER}/artifacts/x",
        f"s3://bucket/prefix/1/models/m-{OTHER}/artifacts/x",
        f"s3://bucket/prefix/1/traces/tr-{OTHER}/artifacts/x",
    }
    bucket = Bucket(f"{PLACE}/x", f"s3://bucket/prefix/1/traces/{TRACE}/artifacts/x", *old)
    tracking = Tracking(experiments=[("1", "mlflow-artifacts:/1")])
    cleaning, said = clean(bucket, tracking, experiments=[(1, "mlflow-artifacts:/1")], traces=[(TRACE, None, 1)])
    assert tracking.removed == [RUN, "1"] and bucket.objects == old
    assert said.endswith(f"left: s3://bucket/prefix/1: no row named the objects in {OTHER}, models, traces")


class Clock:
    def __init__(self, ahead):
        self.ahead = ahead

    def execute(self, dummy):
        return Rows([(time.time() + self.ahead,)])


@pytest.mark.parametrize("ahead", [-31 * 86400, -61, 61, 31 * 86400])
def test_with_another_clock_than_the_databases_nothing_goes(ahead):
    match = r"This host's clock says \S+ \S+ UTC and the database's \S+ \S+ UTC: more than 60"
    with pytest.raises(SystemExit, match=match) as refused:
        gc.compare_clocks(Clock(ahead))
    assert "\n" not in str(refused.value) and len(set(re.findall(r"\d{4}-\d\d-\d\d \S+", str(refused.value)))) == 2


@pytest.mark.parametrize("ahead", [-50, 0, 50])
def test_ages_are_by_the_databases_clock(ahead):
    assert abs(gc.compare_clocks(Clock(ahead)) - (time.time() + ahead) * 1000) < 2000


def test_what_is_old_enough_is_reckoned_from_the_databases_time(monkeypatch):
    """Within the minute in which both may differ, too."""
    cut_off = []

    class Database:
        def execute(self, query, given=None):
            return Rows([(True,)])

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    class Noted:
        gone = held = kept = 0

        def __init__(self, rows, store, before, dry_run):
            cut_off.append(before)

        def all(self):
            pass

    monkeypatch.setattr(gc.client, "connect", lambda *given, **more: Database())
    monkeypatch.setattr(gc, "check_schema", lambda database: None)
    monkeypatch.setattr(gc, "refuse_what_moved", lambda: None)
    monkeypatch.setattr(gc, "present_store", lambda database: ("s3://bucket", None))
    monkeypatch.setattr(gc, "compare_clocks", lambda database: 1_000_000_000)
    monkeypatch.setattr(gc, "Store", lambda *given: SimpleNamespace(probe=lambda writes: None))
    monkeypatch.setattr(gc, "Cleaning", Noted)
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://")
    stores = {
        "mlflow.store.artifact.artifact_repository_registry": {"get_artifact_repository": None},
        "mlflow.store.tracking.sqlalchemy_store": {"SqlAlchemyStore": lambda *given: None},
    }
    for name, content in stores.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))
    monkeypatch.setattr(sys, "argv", ["mlflow-gc", "--older-than", "2d"])
    assert gc.main() == 0
    assert cut_off == [1_000_000_000 - 2 * 86_400_000]


@pytest.mark.parametrize(
    ("table", "silent", "code", "said"),
    [
        (None, None, 0, "Another host is at it.\n"),
        ("there", None, 0, "Another host is at it.\n"),
        ("there", "2026-01-02 03:04:05", 1, "has done nothing since 2026-01-02 03:04:05 UTC, longer than 7 days: "),
    ],
)
def test_another_host_that_does_nothing_for_a_week_is_told_of(capsys, table, silent, code, said):
    def execute(query, given=None):
        return Rows([(table,)] if "to_regclass" in query else [(silent,)] if silent else [])

    assert gc.another_is_at_it(SimpleNamespace(execute=execute)) == code
    assert said in capsys.readouterr().out


def test_an_experiment_that_was_restored_meanwhile_keeps_its_traces():
    bucket = Bucket(f"s3://bucket/prefix/1/traces/{TRACE}/artifacts/x")
    cleaning, said, tracking = clean_experiment(bucket, "mlflow-artifacts:/1", [(TRACE, None)], stage="active")
    assert bucket.objects and not tracking.removed and said == ""


def test_what_was_restored_meanwhile_stays():
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking(stage="active")
    cleaning, said = clean(bucket, tracking)
    assert not tracking.removed and bucket.objects and cleaning.kept == 0 and said == ""


@pytest.mark.parametrize("source", [f"{URI}/model", f"runs:/{RUN}/model", PLACE])
def test_what_a_registered_model_refers_to_is_held(source):
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking()
    cleaning, said = clean(bucket, tracking, versions=[("served", 3, source, None)])
    assert said == f"held: run {RUN}: version 3 of the registered model served refers to it"
    assert not tracking.removed and bucket.objects and (cleaning.held, cleaning.kept) == (1, 0)


@pytest.mark.parametrize(("text", "expected"), [("30d", 2592000000), ("1.5h", 5400000), ("2d8h5m20s", 201920000)])
def test_durations_are_read_as_mlflow_does(text, expected):
    assert gc.milliseconds(text) == expected


@pytest.mark.parametrize("text", ["", "30", "d", "1w", "-1d", "1d ", "5s1d", "..d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no duration"):
        gc.milliseconds(text)


# -- what else keeps things from going ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rest, goes", [((), True), ((RUN,), False), ((RUN, OTHER), False)])
def test_an_experiment_stays_while_runs_in_it_are_held_or_kept(rest, goes):
    bucket = Bucket()
    cleaning, said, tracking = clean_experiment(bucket, "mlflow-artifacts:/1", [], rest=rest)
    assert tracking.removed == (["1"] if goes else [])
    assert goes or said == f"held: experiment 1: {len(rest)} of its runs and models are still there"


def test_an_experiment_goes_with_its_last_run():
    bucket = Bucket(f"{PLACE}/x")
    tracking = Tracking(experiments=[("1", "mlflow-artifacts:/1")])
    clean(bucket, tracking, rest=[RUN], experiments=[(1, "mlflow-artifacts:/1")])
    assert tracking.removed == [RUN, "1"] and not bucket.objects


@pytest.mark.parametrize("source", ["mlflow-artifacts:/1/its/files", "s3://bucket/prefix/1", "mlflow-artifacts:/1"])
def test_an_experiment_stays_while_a_registered_models_files_are_in_its_place(source):
    """It has no trace and no run any more; the files were put there by hand."""
    bucket = Bucket("s3://bucket/prefix/1/its/files/weights")
    cleaning, said, tracking = clean_experiment(bucket, "mlflow-artifacts:/1", [], versions=[("served", 3, source, None)])
    assert not tracking.removed and bucket.objects and said.startswith("held: experiment 1: version 3 of the registered model")


class Listed(Database):
    """Has experiments 0 and 1, both deleted, and leaves out what the question excludes."""

    def _answer(self, query, given):
        if "SELECT experiment_id FROM experiments WHERE lifecycle_stage" in query:
            excluded = [str(value) for value in given[1:]] if "experiment_id <> %s" in query else []
            return [(number,) for number in (0, 1) if str(number) not in excluded]
        return super()._answer(query, given)


def test_mlflows_default_experiment_stays_although_it_was_deleted():
    """Clients that name no experiment count on it, and MLflow makes it anew where it is missing."""
    tracking = Tracking(runs=(), experiments=[("0", "mlflow-artifacts:/0"), ("1", "mlflow-artifacts:/1")])
    database = Listed(tracking, experiments=[(0, "mlflow-artifacts:/0"), (1, "mlflow-artifacts:/1")])
    clean(Bucket(), tracking, database=database)
    assert tracking.removed == ["1"]


def test_models_of_the_default_experiment_stay_although_that_was_deleted():
    """They were never deleted themselves, and their experiment stays."""
    tracking = Tracking(uri=f"mlflow-artifacts:/0/models/{MODEL}/artifacts", runs=(), models=[MODEL])
    tracking.stage, tracking.experiment_is_deleted = "active", True

    class Default(Database):
        def _answer(self, query, given):
            if "WHERE experiment_id = (SELECT" in query:
                return [(0, True)]
            return super()._answer(query, given)

    bucket = Bucket(f"s3://bucket/prefix/0/models/{MODEL}/artifacts/x")
    assert clean(bucket, tracking, database=Default(tracking))[1] == ""
    assert not tracking.removed and bucket.objects


class Stores:
    """The database's table of the artifact stores that it was used with."""

    def __init__(self, row):
        self.row = row

    def execute(self, query):
        if self.row is psycopg2.errors.UndefinedTable:
            raise psycopg2.errors.UndefinedTable("relation does not exist")
        return Rows([self.row] if self.row else [])


DAY = 24 * 3600 * 1000


@pytest.mark.parametrize(
    "row, since",
    [
        # The first store: all that there is was made with it.
        (("s3://bucket/prefix", "", 0), 0),
        (("s3://bucket/prefix", "", -1), 0),
        # A later one, and for a day processes on other hosts may have gone on with the one before.
        (("s3://bucket/prefix", "", 1_700_000_000.5), 1_700_000_000_500 + DAY),
    ],
)
def test_what_was_made_before_the_store_or_on_the_day_of_its_change_is_not_taken_to_be_in_it(monkeypatch, row, since):
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "s3://bucket/prefix")
    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL", raising=False)
    assert gc.present_store(Stores(row)) == ("s3://bucket/prefix", since)


@pytest.mark.parametrize(
    "row, why",
    [
        (("s3://another/prefix", "", 0), "the database says s3://another/prefix"),
        (("s3://bucket/prefix", "https://s3.example.com", 0), "the database says s3://bucket/prefix at https://s3.example.com"),
        (None, "does not say which artifact stores"),
        (psycopg2.errors.UndefinedTable, "does not say which artifact stores"),
    ],
)
def test_nothing_goes_where_host_and_database_do_not_agree_on_the_store(monkeypatch, row, why):
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "s3://bucket/prefix")
    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL", raising=False)
    with pytest.raises(SystemExit, match=re.escape(why)):
        gc.present_store(Stores(row))
