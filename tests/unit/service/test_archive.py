# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Old traces are archived: all of them, wherever one stays, and none into somebody else's folder."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.database import archive, gc  # noqa: E402

NAME = "tr-" + "0" * 31


class Tracking:
    """Archives the first so many that it has, as MLflow does; what it can't archive comes first again the next time."""

    def __init__(self, *traces, broken=()):
        self.left, self.broken, self.written, self.asked = list(traces), broken, [], []

    def archive_traces(self, *, resolved_trace_archival_location, broader_retention, max_traces_per_pass):
        self.asked.append((resolved_trace_archival_location, broader_retention))
        done = [it for it in self.left[:max_traces_per_pass] if self._archive_trace_candidate(trace_id=it, where="s3")]
        self.left = [it for it in self.left if it not in done]
        return len(done)

    def _archive_trace_candidate(self, *, trace_id, where):
        assert where == "s3"
        if trace_id in self.broken:
            logging.getLogger(archive.STORE).warning("Failed to archive trace %s; leaving it eligible for retry.", trace_id)
            return False
        self.written.append(trace_id)
        return True


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(archive, "AT_ONCE", 2)


def names(*ends):
    return [f"{NAME}{end}" for end in ends]


def test_all_that_is_old_goes_in_as_many_passes_as_it_takes():
    tracking = Tracking(*names(*"12345"))
    assert archive.archive(tracking, "s3://bucket/x", "90d") == (5, 0) and tracking.left == []
    assert set(tracking.asked) == {("s3://bucket/x", "90d")}


@pytest.mark.parametrize("named", ["../../8/traces/" + NAME + "1", "x", "", NAME + "1/..", NAME.upper() + "1", "tr-" + "0" * 33])
def test_a_trace_whose_id_is_an_address_is_written_nowhere(named):
    tracking, said = Tracking(named, *names("1")), []
    assert archive.archive(tracking, "s3://bucket", "1h", said.append) == (1, 1)
    assert tracking.written == names("1") and said == [f"trace {named!r}: its id is no name of a folder"]


def test_what_stays_is_told_once_and_stands_in_nobodys_way():
    """More than are looked at in one pass, and the oldest."""
    broken = names(*"12345")
    tracking = Tracking("odd", *broken, *names("a", "b", "c"), broken=broken)
    logging.getLogger(archive.STORE).propagate = False
    found = archive.archive(tracking, "s3://bucket", "1h", lambda line: None)
    assert tracking.left == ["odd", *broken] and found == (3, 6)
    # It listens to MLflow no longer than that.
    assert logging.getLogger(archive.STORE).handlers == []


class Database:
    """Answers what is asked of it by a word in the question."""

    def __init__(self, **answers):
        self.answers = answers

    def execute(self, statement, given=None):
        self.row = next(row for word, row in self.answers.items() if word in statement)
        return self

    def fetchone(self):
        return self.row


@pytest.mark.parametrize(("of", "found", "told"), [
    ("schema", "another", "so nothing is archived"),
    ("endpoint", ("s3://other", "", 0), "so nothing is archived: run the mlflow_server role on all hosts"),
    ("clock_timestamp", (0,), "knows what is old, and nothing is archived"),
    (None, None, None),
])  # fmt: skip
def test_what_keeps_mlflow_gc_from_its_work_keeps_this_from_its_own(monkeypatch, of, found, told):
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "s3://bucket")
    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(gc.schema, "expected", lambda: {"tracking": "t3"})
    monkeypatch.setattr(gc.schema, "revision", lambda database, kind: found if of == "schema" else "t3")
    answers = {"endpoint": ("s3://bucket", "", 0), "clock_timestamp": (time.time(),)}
    database = Database(**answers | ({of: found} if of in answers else {}))
    if not told:
        assert archive.place(database) == "s3://bucket"
        return
    with pytest.raises(SystemExit, match=told):
        archive.place(database)
