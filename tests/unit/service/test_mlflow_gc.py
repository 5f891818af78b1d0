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


class Bucket:
    """MLflow's artifact repositories of one bucket, by their address."""

    def __init__(self, *objects, lists=True, deletes=True):
        self.objects = set(objects)
        self.lists, self.deletes = lists, deletes

    def __call__(self, address):
        def inside():
            if not self.lists:
                raise ConnectionError("no route\nto the store")
            return [SimpleNamespace(path=name) for name in sorted(self.objects) if name.startswith(address + "/")]

        def delete():
            if self.deletes:
                self.objects -= {item.path for item in inside()}

        return SimpleNamespace(list_artifacts=inside, delete_artifacts=delete)


class Tracking:
    def __init__(self, uri=URI, made=5000, stage="deleted"):
        info = SimpleNamespace(artifact_uri=uri, start_time=made, lifecycle_stage=stage)
        self.run = SimpleNamespace(info=info)
        self.removed = []

    def _get_deleted_runs(self, older_than):
        return [RUN]

    def _get_deleted_logged_models(self, older_than):
        return []

    def search_experiments(self, **dummy):
        page = type("Page", (list,), {"token": None})
        return page()

    def get_run(self, dummy):
        return self.run

    def _hard_delete_run(self, run_id):
        self.removed.append(run_id)


class Database:
    def __init__(self, versions=()):
        self.versions = versions

    def execute(self, dummy):
        return SimpleNamespace(fetchall=lambda: list(self.versions))


def clean(bucket, tracking, versions=(), since=0, dry_run=False):
    said = []
    store = mlflow_gc.Store("s3://bucket/prefix/", since, bucket)
    store.probe()
    cleaning = mlflow_gc.Cleaning(tracking, Database(versions), store, 1000, dry_run, said.append)
    cleaning.all()
    return cleaning, "\n".join(said)


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
        (Bucket(f"{PLACE}/x", deletes=False), Tracking(), 0, "listed and not deleted; s3://bucket/prefix/1/"),
        (Bucket(), Tracking(), 6000, "it was made before s3://bucket/prefix was the artifact store"),
        (Bucket(), Tracking(uri=f"file:///tmp/{RUN}"), 0, "an address that this server does not clean"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts://other:5000/1/{RUN}/artifacts"), 0, "belongs to another server"),
        (Bucket(), Tracking(uri="mlflow-artifacts:/1"), 0, "not a place of its own"),
        (Bucket(), Tracking(uri=f"mlflow-artifacts:/1/../{RUN}/artifacts"), 0, "not a place of its own"),
    ],
)
def test_what_is_not_proved_stays(bucket, tracking, since, why):
    before = set(bucket.objects)
    cleaning, said = clean(bucket, tracking, since=since)
    assert said.startswith(f"kept: run {RUN}: ") and why in said
    assert not tracking.removed and cleaning.kept == 1 and bucket.objects == before


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
