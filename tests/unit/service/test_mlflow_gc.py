# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What mlflow-gc removes, and what it refuses to remove, with an artifact store that does as it is told."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

import mlflow_gc  # noqa: E402

RUN = "0123456789abcdef0123456789abcdef"
URI = f"mlflow-artifacts:/1/{RUN}/artifacts"
PLACE = f"s3://bucket/prefix/1/{RUN}/artifacts"


OTHER = "fedcba9876543210fedcba9876543210"
TRACE = f"tr-{RUN}"
MODEL = f"m-{RUN}"


class Bucket:
    """MLflow's artifact repositories of one bucket, by their address."""

    def __init__(self, *objects, lists=True, deletes=True):
        self.objects = set(objects)
        self.lists, self.deletes = lists, deletes

    def __call__(self, address):
        inside = f"{address.rstrip('/')}/"

        def names():
            if not self.lists:
                raise ConnectionError("no route\nto the store")
            found = {name.removeprefix(inside).split("/")[0] for name in self.objects if name.startswith(inside)}
            return [SimpleNamespace(path=name) for name in sorted(found)]

        def delete():
            if self.deletes:
                self.objects -= {name for name in self.objects if name.startswith(inside)}

        return SimpleNamespace(list_artifacts=names, delete_artifacts=delete)


class Tracking:
    """MLflow's store with a deleted run, or with a deleted experiment."""

    def __init__(self, uri=URI, made=5000, stage="deleted", runs=(RUN,), models=(), experiments=()):
        info = SimpleNamespace(artifact_uri=uri, start_time=made, lifecycle_stage=stage)
        self.run = SimpleNamespace(info=info)
        self.model = SimpleNamespace(artifact_location=uri, creation_timestamp=made)
        self.runs, self.models, self.experiments = list(runs), list(models), experiments
        self.removed = []

    def _get_deleted_runs(self, older_than):
        return self.runs

    def _get_deleted_logged_models(self, older_than):
        return self.models

    def search_experiments(self, **dummy):
        page = type("Page", (list,), {"token": None})
        return page(
            SimpleNamespace(experiment_id=name, artifact_location=place, creation_time=5000)
            for name, place in self.experiments
        )

    def get_run(self, dummy):
        return self.run

    def get_logged_model(self, dummy, allow_deleted):
        return self.model

    def _hard_delete_run(self, name):
        self.removed.append(name)

    _hard_delete_experiment = _hard_delete_logged_model = _hard_delete_run


class Rows(list):
    def fetchall(self):
        return list(self)

    def fetchone(self):
        return self[0] if self else None


class Database:
    """The rows that mlflow-gc asks for, by the table that it asks."""

    def __init__(self, versions=(), experiments=(), traces=(), owners=(), stage="deleted"):
        # A trace is its id, its tag and its experiment; an owner is its kind, its id and its address.
        self.versions, self.experiments, self.traces, self.owners = versions, dict(experiments), traces, owners
        self.stage = stage

    def execute(self, query, given=()):
        if "SELECT 'run'" in query:
            rows = [row for row in self.owners if row[1] in given["ids"]]
        elif "FROM model_versions" in query:
            rows = self.versions
        elif "trace_tags" in query:
            rows = [trace[:2] for trace in self.traces if trace[2] == given[0]]
        elif "FROM trace_info" in query:
            rows = [(trace[0], self.experiments[trace[2]]) for trace in self.traces if "/" in trace[0]]
        elif "FROM logged_models m" in query:
            rows = [(self.stage, "active")]
        elif "SELECT lifecycle_stage FROM experiments" in query:
            rows = [(self.stage,)]
        elif "FROM experiments" in query:
            rows = [row for row in self.experiments.items() if row[0] > given[0]]
        else:
            # The runs and models of an experiment.
            rows = []
        return Rows(rows)


def clean(bucket, tracking, versions=(), since=0, dry_run=False, **rows):
    said = []
    store = mlflow_gc.Store("s3://bucket/prefix/", since, bucket)
    store.probe()
    cleaning = mlflow_gc.Cleaning(tracking, Database(versions, **rows), store, 1000, dry_run, said.append)
    cleaning.all()
    return cleaning, "\n".join(said)


def clean_experiment(bucket, location, own, **rows):
    """Experiment 1, which was deleted, has this place and these traces; each is an id and the value of its tag."""
    tracking = Tracking(runs=(), experiments=[("1", location)])
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
        (Bucket(f"{PLACE}/x", deletes=False), Tracking(), 0, "listed and not deleted; x is still in s3://bucket/prefix/1/"),
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
    assert not tracking.removed and cleaning.kept == 1 and bucket.objects == before


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
    bucket, tracking = Bucket(f"s3://bucket/prefix/1/models/{MODEL}/artifacts/x"), Tracking(uri=uri, runs=(), models=[MODEL])
    cleaning, said = clean(bucket, tracking, stage="active")
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
    cleaning, said = clean(bucket, tracking, owners=[(kind, OTHER, around), ("run", RUN, tracking.run.info.artifact_uri)])
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
    assert bucket.objects == victims and not tracking.removed
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


@pytest.mark.parametrize("source", ["s3://[x", "s3://bucket/prefix", "mlflow-artifacts:/", "mlflow-artifacts:/10", "s3://bucket"])
def test_a_registered_model_with_an_address_of_no_use_holds_nothing(source):
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking()
    clean(bucket, tracking, versions=[("served", 3, source, None)])
    assert tracking.removed == [RUN] and not bucket.objects


def test_a_version_that_is_registered_meanwhile_is_seen():
    bucket, tracking = Bucket(f"{PLACE}/x"), Tracking(runs=[OTHER, RUN])
    versions = []
    tracking.get_run = lambda name: versions.append(("served", 3, f"runs:/{RUN}/model", None)) or tracking.run
    cleaning, said = clean(bucket, tracking, versions=versions)
    assert f"held: run {RUN}: version 3" in said and bucket.objects and not tracking.removed


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
    assert mlflow_gc.milliseconds(text) == expected


@pytest.mark.parametrize("text", ["", "30", "d", "1w", "-1d", "1d ", "5s1d", "..d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no duration"):
        mlflow_gc.milliseconds(text)
