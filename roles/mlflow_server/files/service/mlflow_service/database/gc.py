# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Remove for good what was deleted in MLflow longer ago than the retention: rows, and the objects that they name.

    GC --older-than 30d             what mlflow-gc.service runs; GC is python -m mlflow_service.database.gc
    GC --older-than 30d --dry-run   say what that would remove, and what would stay; changes nothing
    GC --all-objects-are-here       say that the objects of all runs made until now were moved to the present
                                    artifact store

`mlflow gc` deletes a run's rows wherever it finds nothing to delete in the store: also where the store is another one
than the run was made with, and where the store refuses to delete (S3 says so in an answer that MLflow does not read).
The objects are then in the bucket for ever, and nothing knows of them. Here the store has to show first that it lists and
deletes. What can't be proved stays, with a line that says why, and the exit code is 1.

Users restore, register and delete while this works. So each thing is looked at again at the last moment, in a transaction
that holds its row and its experiment's: who restores it comes first, and it stays, or waits for some milliseconds and is
told that there is no such run. Nothing is asked of the store meanwhile, since a large run takes minutes: the transaction
that deletes the rows notes the place of the objects in a table, and the note goes when the place is found empty. What is cut
off in between, or what the store does not delete after all, is gone on with by the next pass. MLflow's own methods delete
the rows, on the connection that holds them.

All times are the database's. Where this host's clock differs from it by more than a minute nothing is removed.

database/prepare.py keeps the artifact stores that this database was used with in a table, with the time of each change.
What was made before the present one came into use stays, because its objects may be in the one before.

What a registered model refers to stays as well; nothing is wrong then, so that is no failure.

Users write a lot of what the rows say: where an experiment has its place, what a trace is called, the tags. So an address is
only taken where it ends with what MLflow itself adds to it, is below the root of the store, can be read in one way only, and
has nobody else's objects in it or around it. An experiment's folder is never removed as a whole.
"""

import argparse
import os
import posixpath
import re
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg2
import psycopg2.errors

from mlflow_service.compat import deletion
from mlflow_service.compat.ground import known, moved
from mlflow_service.database import client, schema
from mlflow_service.transfer import digests

# Any number but database/prepare.py's, as long as all hosts use the same: one host works, the others have nothing to do.
LOCK = 0x6D6C666C6F7767
TABLE = schema.ARTIFACT_STORES
# The objects of rows that are gone, and when a pass last did something.
PLACES = "mlflow_aws_gc_places"
LIFE = "mlflow_aws_gc_life"
MAKE_TABLES = f"""
CREATE TABLE IF NOT EXISTS {PLACES}
  (address text PRIMARY KEY, kind text NOT NULL, name text NOT NULL, noted timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE IF NOT EXISTS {LIFE} (one boolean PRIMARY KEY DEFAULT true CHECK (one), at timestamptz NOT NULL)
"""
# An earlier pass that has the lock for so long and did nothing has come to grief. The unit's own end is after 12 hours.
SILENCE = "7 days"
CLOCK_SECONDS = 60
# How long this waits for somebody who has a row, and how long somebody may wait for this. The deletion of a run with a very
# long history takes its time; the last is for a host that is gone with the transaction open.
LIMITS = """
SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '5min'; SET LOCAL idle_in_transaction_session_timeout = '30s'
"""
NO_MORE_VERSIONS = "SET LOCAL lock_timeout = '500ms'; LOCK TABLE model_versions IN SHARE MODE"
# What MLflow puts at the end of an address.
ENDS = {
    "run": lambda name: (name, "artifacts"),
    "model": lambda name: ("models", name, "artifacts"),
    "trace": lambda name: ("traces", name, "artifacts"),
}
# Both are asked with the row and its experiment held, so an answer holds until the transaction ends.
RUN = """
SELECT artifact_uri, start_time FROM runs
WHERE run_uuid = %(name)s AND lifecycle_stage = 'deleted' AND deleted_time <= %(limit)s
"""
# Not where the experiment's row says so: MLflow leaves the models of a deleted experiment as they are.
MODEL = """
SELECT artifact_location, creation_timestamp_ms FROM logged_models
WHERE model_id = %(name)s AND (%(with_experiment)s OR lifecycle_stage = 'deleted' AND last_updated_timestamp_ms <= %(limit)s)
"""
EXPERIMENT = """
SELECT artifact_location, creation_time FROM experiments
WHERE experiment_id = %(name)s AND lifecycle_stage = 'deleted' AND last_update_time <= %(limit)s
"""
# After a change of the store, processes on other hosts go on with the one before for a while.
CHANGE_MILLISECONDS = 24 * 3600 * 1000
# MLflow makes it anew when it is missing, and clients count on it.
DEFAULT_EXPERIMENT = "0"
# The client chooses a trace's id, so it may be anything. These two are what MLflow 3 and MLflow 2 make.
TRACE_ID = re.compile(r"(tr-)?[0-9a-f]{32}")
# MLflow's client, the web server and S3 do not agree on what these mean in an address.
AMBIGUOUS = re.compile(r"[\x00-\x1f\x7f%?#;\\]")
# Whose objects are at or around a place: MLflow gives each of these a folder ID/artifacts.
OWNERS = """
SELECT 'run', run_uuid, artifact_uri FROM runs WHERE run_uuid = ANY(%(ids)s)
UNION ALL SELECT 'model', model_id, artifact_location FROM logged_models WHERE model_id = ANY(%(ids)s)
UNION ALL SELECT 'trace', request_id, artifact_location || '/traces/' || request_id || '/artifacts'
  FROM trace_info JOIN experiments USING (experiment_id) WHERE request_id = ANY(%(ids)s)
"""


VERSIONS = """
SELECT name, version, source, storage_location FROM model_versions WHERE current_stage <> 'Deleted_Internal'
"""


class Keep(Exception):
    """Why something can't go."""


class Held(Exception):
    """What else needs it."""


def milliseconds(text):
    """Read a duration as `mlflow gc --older-than` does."""
    number = r"\d+(?:\.\d+)?"
    parts = re.fullmatch(
        rf"(?:(?P<days>{number})d)?(?:(?P<hours>{number})h)?(?:(?P<minutes>{number})m)?(?:(?P<seconds>{number})s)?", text
    )
    if not text or not parts:
        raise argparse.ArgumentTypeError(f"'{text}' is no duration; it must be one such as 30d, 12h or 2d8h5m20s")
    given = {name: float(value) for name, value in parts.groupdict().items() if value}
    return int(timedelta(**given).total_seconds() * 1000)


def words(*addresses):
    """The parts of addresses such as mlflow-artifacts:/1/RUN/artifacts, runs:/RUN/model or models:/m-ID."""
    return {word for address in addresses if address for word in re.split(r"[/:?#]+", address)}


class Rows:
    """
    The database, by the connection that has the lock, and MLflow's own deletion of rows in its transactions. On a connection
    of MLflow's pool that would wait for ever for what this one holds.
    """

    def __init__(self, connection, tracking):
        from sqlalchemy import create_engine
        from sqlalchemy.pool import StaticPool

        self._connection = connection
        self._tracking = tracking
        self._engine = create_engine("postgresql+psycopg2://", creator=lambda: connection, poolclass=StaticPool)
        self._session = None

    def execute(self, *statement):
        return self._connection.execute(*statement)

    @contextmanager
    def transaction(self):
        from sqlalchemy.orm import Session

        self._connection.autocommit = False
        try:
            with Session(self._engine) as self._session, self._session.begin():
                # Else the session would commit nothing where only others than itself have asked something.
                self._session.connection()
                self._connection.execute(LIMITS)
                yield
        finally:
            self._session = None
            if not self._connection.closed:
                self._connection.autocommit = True

    def delete(self, kind, name):
        """Delete what MLflow deletes with it; only in a transaction."""

        with deletion.in_session(self._tracking, self._session):
            if kind == "run":
                deletion.delete_run(self._tracking, name)
            elif kind == "model":
                deletion.delete_model(self._tracking, name)
            else:
                # MLflow would load all traces with their spans into memory to delete them one by one.
                self.execute("DELETE FROM trace_info WHERE experiment_id = %s", (int(name),))
                deletion.delete_experiment(self._tracking, name)


class Store:
    """Where the objects are."""

    def __init__(self, root, since, repository):
        # since: from when on (milliseconds) this store holds what is made; 0 for always.
        self._root = root.rstrip("/")
        self._since = since
        self._repository = repository
        self._problem = None
        self._refusal = None

    def probe(self, writes=True):
        """
        Ask the store once, so that one that does not answer is not asked for each run; and see whether it deletes, since rows
        go before their objects do.
        """
        # A place of its own: users may choose any other.
        repository = self._repository(f"{self._root}/.mlflow-gc/{uuid.uuid4().hex}")
        try:
            repository.list_artifacts()
        except Exception as error:
            self._problem = f"{self._root} can't be listed: {_one_line(error)}"
        if writes and not self._problem:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder, "probe")
                    file.write_text("mlflow-gc tries whether this can be deleted.\n", encoding="utf-8")
                    repository.log_artifact(str(file))
                repository.delete_artifacts()
                if repository.list_artifacts():
                    self._refusal = "the store let its objects be listed and not deleted"
            except Exception as error:
                self._refusal = f"an object can't be written to {self._root} and deleted: {_one_line(error)}"
        return self._problem or self._refusal

    def see_that_it_deletes(self):
        if self._refusal:
            raise Keep(f"{self._refusal} in {self._root}")

    def ask_for(self, place):
        """Prove before a row goes that the store answers for its place, and deletes where there is something."""
        if self.names_in(place):
            self.see_that_it_deletes()

    def place(self, uri, made, *end):
        """
        Return where the objects of `uri` are, as the folders below the root; `end` is what MLflow itself puts at an address's
        end, with the id. All that comes before is what a user may have chosen.
        """
        if uri.startswith(f"{self._root}/"):
            path = uri[len(self._root) + 1 :]
        elif uri.startswith("mlflow-artifacts://"):
            raise Keep(f"{uri} belongs to another server")
        elif uri.startswith("mlflow-artifacts:/"):
            path = uri.removeprefix("mlflow-artifacts:/")
        else:
            raise Keep(f"{uri} is not in {self._root}, so this server does not clean it")
        folders = tuple(path.split("/"))
        if AMBIGUOUS.search(path) or {"", ".", ".."} & set(folders) or folders[-len(end) :] != end:
            raise Keep(f"{uri} is not a place of its own")
        if made < self._since:
            raise Keep(
                f"it was made before {self._root} was the artifact store, or on the day of the change, "
                "so its objects may be elsewhere"
            )
        if self._problem:
            raise Keep(self._problem)
        return folders

    def readings(self, uri):
        """Every place below the root that somebody may mean by an address. What is to stay is read with good will."""
        found = set()
        root = urlsplit(self._root)
        for text in {uri, unquote(uri)}:
            try:
                parts = urlsplit(re.split(r"[?#]", text)[0])
            except ValueError:
                continue
            path = posixpath.normpath(f"/{parts.path}").lstrip("/")
            if parts.scheme in ("http", "https"):
                path = path.partition("mlflow-artifacts/artifacts/")[2]
            elif parts.scheme in ("s3", "s3a", "s3n"):
                base = posixpath.normpath(f"/{root.path}").lstrip("/")
                if parts.netloc != root.netloc or base and not path.startswith(f"{base}/"):
                    continue
                path = path.removeprefix(f"{base}/")
            elif parts.scheme != "mlflow-artifacts":
                continue
            if path:
                found.add(tuple(path.split("/")))
        return found

    def names_in(self, place):
        """The names of the folders and files there."""
        try:
            found = self._repository(self.address(place)).list_artifacts()
        except Exception as error:
            raise Keep(f"{self.address(place)} can't be listed: {_one_line(error)}") from None
        return {item.path.rsplit("/", 1)[-1] for item in found}

    def address(self, place):
        return "/".join((self._root, *place))

    def remove(self, place):
        """Delete the objects there, and prove that they are gone."""
        address = self.address(place)
        try:
            repository = self._repository(address)
            repository.delete_artifacts()
            left = repository.list_artifacts()
        except Exception as error:
            raise Keep(f"its objects can't be listed or deleted: {_one_line(error)}") from None
        if left:
            raise Keep(f"the store let its objects be listed and not deleted; {left[0].path} is still in {address}")


class Cleaning:
    """One pass over all that was deleted before `limit`, in milliseconds of the database's clock."""

    def __init__(self, database, store, limit, dry_run, say=print):
        self._database = database
        self._store = store
        self._limit = limit
        self._dry_run = dry_run
        # Users choose names and addresses, and must not write lines of their own into the journal.
        self._say = lambda line: say("".join(sign if sign.isprintable() else "?" for sign in line))
        # The runs and models that registered models need, and the places: theirs, and all folders above those.
        self._used = {}
        self._registered = {}
        self._above_registered = {}
        self._registered_since = 0
        self._versions = set()
        # The experiments that have their place in a folder, at any depth, and the traces of which that is no matter of course.
        self._experiments_in = {}
        self._experiments = {-1}
        self._traces_in = {}
        self._went_names = set()
        self.gone = self.held = self.kept = 0

    def all(self):
        self._look_at_traces()
        self._finish_what_was_begun()
        experiments = [
            str(row[0])
            for row in self._rows(
                "SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'deleted' AND last_update_time <= %s "
                "AND experiment_id <> %s ORDER BY experiment_id",
                (self._limit, DEFAULT_EXPERIMENT),
            )
        ]
        runs = self._rows(
            "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'deleted' AND deleted_time <= %s ORDER BY experiment_id",
            (self._limit,),
        )
        models = self._rows(
            "SELECT model_id FROM logged_models JOIN experiments e USING (experiment_id) "
            "WHERE logged_models.lifecycle_stage = 'deleted' AND last_updated_timestamp_ms <= %(limit)s "
            # MLflow leaves the models of a deleted experiment as they are; their rows would go with the experiment's.
            "OR experiment_id <> %(default)s AND e.lifecycle_stage = 'deleted' AND last_update_time <= %(limit)s",
            {"limit": self._limit, "default": DEFAULT_EXPERIMENT},
        )
        for (run_id,) in runs:
            self._one("run", run_id, self._run_or_model)
        for (model_id,) in models:
            self._one("model", model_id, self._run_or_model)
        for experiment_id in experiments:
            self._one("experiment", experiment_id, self._experiment)

    def _one(self, kind, name, remove):
        try:
            remove(kind, name)
        except Held as why:
            self._say(f"held: {kind} {name}: {why}")
            self.held += 1
        except Keep as why:
            self._say(f"kept: {kind} {name}: {why}")
            self.kept += 1
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
            self._say(f"held: {kind} {name}: somebody was at work with it")
            self.held += 1
        except psycopg2.errors.QueryCanceled as error:
            self._say(f"kept: {kind} {name}: {_one_line(error)}")
            self.kept += 1
        except psycopg2.Error:
            raise
        except Exception as error:
            self._say(f"kept: {kind} {name}: {_one_line(error)}")
            self.kept += 1

    def _went(self, kind, name):
        self._say(f"{'would go' if self._dry_run else 'gone'}: {kind} {name}")
        self._went_names.add(name)
        self.gone += 1

    def _run_or_model(self, kind, name):
        # What takes time comes before the transaction, and all is looked at again in it.
        found = self._hold(kind, name, locks=False)
        if not found:
            return
        self._look_again(name)
        if name in self._used:
            raise Held(f"{self._used[name]} refers to it")
        self._store.ask_for(self._store.place(*found, *ENDS[kind](name)))
        with self._transaction():
            found = self._hold(kind, name)
            if not found:
                return
            self._look_again(name)
            place = self._store.place(*found, *ENDS[kind](name))
            self._see_that_nobody_else_needs(place, kind, name)
            self._delete(kind, name, [(place, kind, name)])
        self._went(kind, name)
        self._remove_noted([(place, kind, name)])

    def _hold(self, kind, name, locks=True):
        """
        Return the address of a run, model or experiment, and when it was made, or nothing where it is not to go (any more).
        It stays as it is until the transaction ends: the experiment first and the rest after it, as MLflow's own restoring
        does it, so that neither waits for the other for ever.
        """
        locks = locks and not self._dry_run
        given = {"name": name, "limit": self._limit, "with_experiment": False}
        if kind == "experiment":
            query = EXPERIMENT
            given["name"] = int(name)
        else:
            query, table, key = (RUN, "runs", "run_uuid") if kind == "run" else (MODEL, "logged_models", "model_id")
            # New runs of an experiment that is in use do not wait for this.
            experiment = self._rows(
                "SELECT experiment_id, lifecycle_stage = 'deleted' AND last_update_time <= %(limit)s FROM experiments "
                f"WHERE experiment_id = (SELECT experiment_id FROM {table} WHERE {key} = %(name)s)"
                f"{' FOR NO KEY UPDATE' if locks else ''}",
                given,
            )
            if not experiment:
                return None
            given["with_experiment"] = bool(experiment[0][1]) and str(experiment[0][0]) != DEFAULT_EXPERIMENT
        found = self._rows(f"{query}{' FOR UPDATE' if locks else ''}", given)
        return (found[0][0] or "", found[0][1] or 0) if found else None

    def _experiment(self, kind, name):
        found = self._hold(kind, name, locks=False)
        if not found:
            return
        # Most traces have no objects, so those that have are looked for with one question.
        seen = {row[0] for row in self._trace_rows(name)}
        there = self._store.names_in(self._traces_folder(*found)) if seen else set()
        with self._transaction():
            found = self._hold(kind, name)
            if not found:
                return
            self._look_again()
            location, made = found
            rest = {*self._ids("runs", "run_uuid", name), *self._ids("logged_models", "model_id", name)}
            rest -= self._went_names
            if rest:
                # Those that are old enough have told why they did not go.
                raise Held(f"{len(rest)} of its runs and models are still there")
            places = self._store.readings(location)
            self._see_that_nothing_registered_is_in(places)
            traces = self._traces(name, location, made, seen, there)
            self._delete(kind, name, traces, places)
        self._went(kind, name)
        self._remove_noted(traces)
        for place in places:
            for folder in _up_from(place):
                self._experiments_in.get(folder, set()).discard(name)
            self._tell_what_is_left(place)

    def _trace_rows(self, experiment_id):
        return self._rows(
            "SELECT i.request_id, t.value FROM trace_info i LEFT JOIN trace_tags t "
            "ON t.request_id = i.request_id AND t.key = 'mlflow.artifactLocation' WHERE i.experiment_id = %s",
            (int(experiment_id),),
        )

    def _traces_folder(self, location, made):
        return self._store.place(f"{location.rstrip('/')}/traces", made, "traces")

    def _traces(self, experiment_id, location, made, seen, there):
        """Return the places of an experiment's traces, which go with its row. Where one must stay, the row stays, too."""
        folder = f"{location.rstrip('/')}/traces"
        rows = self._trace_rows(experiment_id)
        if rows:
            self._traces_folder(location, made)
        places, held, kept = [], [], []
        for trace_id, noted in rows:
            try:
                uri = f"{folder}/{trace_id}/artifacts"
                if not TRACE_ID.fullmatch(trace_id):
                    raise Keep("MLflow makes no such id")
                # Users can set that tag: it may say why something stays, and never what goes.
                if noted not in (None, uri):
                    raise Keep(f"its tag mlflow.artifactLocation says {noted}")
                if trace_id in self._used:
                    raise Held(f"{self._used[trace_id]} refers to it")
                # One that came since the store was asked may have objects.
                if trace_id in there or trace_id not in seen:
                    place = self._store.place(uri, made, *ENDS["trace"](trace_id))
                    if trace_id in there:
                        self._store.see_that_it_deletes()
                    places.append((place, "trace", trace_id))
            except Held as why:
                held.append(f"trace {trace_id}: {why}")
            except Keep as why:
                kept.append(f"trace {trace_id}: {why}")
        # In one question for many: somebody may be waiting for the experiment.
        owners = self._owners([place for place, *dummy in places])
        for place, kind, trace_id in places:
            try:
                self._see_that_nobody_else_needs(place, kind, trace_id, owners)
            except Held as why:
                held.append(f"trace {trace_id}: {why}")
            except Keep as why:
                kept.append(f"trace {trace_id}: {why}")
        for problems, kind in ((kept, Keep), (held, Held)):
            if problems:
                others = f", and {len(problems) - 1} more" if problems[1:] else ""
                raise kind(f"{problems[0]}{others}")
        return places

    @contextmanager
    def _transaction(self):
        if self._dry_run:
            yield
        else:
            with self._database.transaction():
                yield

    def _delete(self, kind, name, places, folders=()):
        """Delete the rows, and note where the objects are that nothing else names any more."""
        if self._dry_run:
            return
        if places:
            self._database.execute(
                f"INSERT INTO {PLACES} (address, kind, name) SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]) "
                "ON CONFLICT DO NOTHING",
                (
                    [self._store.address(place) for place, *dummy in places],
                    [what for dummy, what, *dummy in places],
                    [owner for *dummy, owner in places],
                ),
            )
        self._database.delete(kind, name)
        self._database.execute(f"UPDATE {LIFE} SET at = clock_timestamp()")
        # A version that comes from here on finds no such run. All who register wait, so this is the last thing.
        self._database.execute(NO_MORE_VERSIONS)
        self._look_at_registered(name if kind != "experiment" else None)
        self._see_that_nothing_registered_is_in(folders)
        for place, *_, owner in places:
            self._see_that_nothing_registered_needs(place, owner)

    def _remove_noted(self, places):
        for place, kind, name in places:
            self._one(f"objects of {kind}", name, lambda *dummy, it=place: self._remove(it))

    def _remove(self, place):
        if self._dry_run:
            return
        self._store.remove(place)
        self._database.execute(f"DELETE FROM {PLACES} WHERE address = %s", (self._store.address(place),))
        self._database.execute(f"UPDATE {LIFE} SET at = clock_timestamp()")

    def _finish_what_was_begun(self):
        """Remove the objects of rows that an earlier pass deleted, unless somebody has come to need them."""
        if not schema.there(self._database, PLACES):
            return
        for found in self._rows(f"SELECT address, extract(epoch FROM noted) * 1000, kind, name FROM {PLACES} ORDER BY noted"):
            self._one(f"objects of {found[2]}", found[3], lambda *dummy, it=found: self._finish(*it))

    def _finish(self, address, noted, kind, name):
        self._look_again(name)
        place = self._store.place(address, noted, *ENDS[kind](name))
        # By another kind than any row's, so that a row of this name that there is again counts as somebody else's.
        self._see_that_nobody_else_needs(place, f"objects of {kind}", name)
        self._remove(place)
        self._went(f"objects of {kind}", name)

    def _see_that_nothing_registered_is_in(self, folders):
        for folder in folders:
            if folder in self._above_registered:
                raise Held(f"{self._above_registered[folder]} is in {self._store.address(folder)}")

    def _see_that_nothing_registered_needs(self, place, name):
        if name in self._used:
            raise Held(f"{self._used[name]} refers to it")
        self._see_that_nothing_registered_is_in([place])
        for depth in range(1, len(place)):
            if place[:depth] in self._registered:
                raise Held(f"{self._registered[place[:depth]]} is {self._store.address(place[:depth])}")

    def _see_that_nobody_else_needs(self, place, kind, name, owners=None):
        self._see_that_nothing_registered_needs(place, name)
        for experiment in self._experiments_in.get(place, ()):
            raise Keep(f"experiment {experiment} has its place in {self._store.address(place)}")
        for trace_id in self._traces_in.get(place, set()) - {name}:
            raise Keep(f"trace {trace_id} has its place in {self._store.address(place)}")
        if owners is None:
            owners = self._owners([place])
        for folder in _may_be_ids(place):
            for *other, uri in owners.get(folder, ()):
                if other != [kind, name] and any(it == place[: len(it)] for it in self._store.readings(uri)):
                    raise Keep(f"{self._store.address(place)} is a place of {' '.join(other)}")

    def _owners(self, places):
        """The rows that may have their objects at or around these places, by their ids."""
        ids = list({folder for place in places for folder in _may_be_ids(place)})
        found = {}
        for row in self._rows(OWNERS, {"ids": ids}) if ids else ():
            found.setdefault(row[1], []).append(row)
        return found

    def _tell_what_is_left(self, place):
        """Objects that no row names are nobody's to remove, and who pays for them should know."""
        if self._dry_run or self._experiments_in.get(place):
            return
        try:
            left = self._store.names_in(place)
        except Keep:
            return
        if left:
            self._say(f"left: {self._store.address(place)}: no row named the objects in {', '.join(sorted(left)[:5])}")

    def _rows(self, query, given=None):
        return self._database.execute(query, given).fetchall()

    def _ids(self, table, column, experiment_id):
        return [row[0] for row in self._rows(f"SELECT {column} FROM {table} WHERE experiment_id = %s", (int(experiment_id),))]

    def _look_again(self, name=None):
        """A pass takes hours where there is much to remove, and users go on meanwhile."""
        self._look_at_registered(name)
        self._look_at_experiments()

    def _look_at_registered(self, name=None):
        """Note the runs, models and places whose files are those of a registered model."""
        rows = []
        if name is None:
            self._registered_since = 0
        else:
            # From the second time on what is new. The hour is for the clocks of other hosts, which write that time; what names
            # the thing in question is found whatever they wrote.
            rows = self._rows(f"{VERSIONS} AND strpos(concat_ws(' ', source, storage_location), %s) > 0", (name,))
        rows += self._rows(f"{VERSIONS} AND coalesce(creation_time, 0) >= %s", (self._registered_since,))
        self._registered_since = self._now() - 3600 * 1000
        for row in rows:
            if row in self._versions:
                continue
            self._versions.add(row)
            model, version, *addresses = row
            title = f"version {version} of the registered model {model}"
            self._used.update(dict.fromkeys(words(*addresses), title))
            for place in {place for address in addresses if address for place in self._store.readings(address)}:
                self._registered[place] = title
                self._above_registered.update(dict.fromkeys(_up_from(place), title))

    def _now(self):
        return int(self._rows("SELECT extract(epoch FROM clock_timestamp()) * 1000")[0][0])

    def _look_at_experiments(self):
        # The hundred is for numbers that were given out and not committed when this was asked last.
        for number, uri in self._rows(
            "SELECT experiment_id, artifact_location FROM experiments WHERE experiment_id > %s", (max(self._experiments) - 100,)
        ):
            if number in self._experiments:
                continue
            self._experiments.add(number)
            for place in self._store.readings(uri or ""):
                for folder in _up_from(place):
                    self._experiments_in.setdefault(folder, set()).add(str(number))

    def _look_at_traces(self):
        """Note the traces whose ids can lead into another's folder. The client chooses them."""
        rows = self._database.execute(
            "SELECT request_id, artifact_location FROM trace_info JOIN experiments USING (experiment_id) "
            "WHERE request_id LIKE '%/%'"
        )
        for trace_id, location in rows.fetchall():
            for place in self._store.readings(f"{location}/traces/{trace_id}/artifacts"):
                for folder in _up_from(place):
                    self._traces_in.setdefault(folder, set()).add(trace_id)


def _up_from(place):
    """A place and the folders above it, without the root."""
    return [place[:depth] for depth in range(1, len(place) + 1)]


def _may_be_ids(place):
    return [folder for folder, following in zip(place, place[1:], strict=False) if following == "artifacts"]


def _one_line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def present_store(database, so="nothing is removed"):
    """Return the artifact store in use and from when on everything is in it, in milliseconds."""
    root = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL", "")
    try:
        row = database.execute(
            f"SELECT root, endpoint, extract(epoch FROM since) FROM {TABLE} ORDER BY since DESC LIMIT 1"
        ).fetchone()
    except psycopg2.errors.UndefinedTable:
        row = None
    if row is None:
        raise SystemExit("The database does not say which artifact stores it was used with: run the mlflow_server role.")
    if row[:2] != (root, endpoint):
        raise SystemExit(
            f"This host's artifact store is {_name(root, endpoint)} and the database says {_name(*row[:2])}, "
            f"so {so}: run the mlflow_server role on all hosts."
        )
    since = row[2]
    return root, 0 if since <= 0 else int(since * 1000) + CHANGE_MILLISECONDS


def _name(root, endpoint):
    return f"{root} at {endpoint}" if endpoint else root


def check_schema(database, so="nothing is removed"):
    """Opening MLflow's store on a database that is behind would migrate it."""
    expected = schema.expected()["tracking"]
    found = schema.revision(database, "tracking")
    if found != expected:
        raise SystemExit(f"The database's schema is {found} and this MLflow's is {expected}, so {so}.")


def refuse_what_moved():
    """MLflow's own deletion is called in a way that fits the versions that somebody has read."""
    why = moved(deletion.PATCH, known())
    if why:
        raise SystemExit(f"Nothing is removed with this MLflow, which deletes in another way than mlflow-gc knows: {why}.")


def compare_clocks(database, so="nothing is removed"):
    """Return the database's time in milliseconds. With a clock that is a month ahead all that was deleted yesterday is old."""
    before = time.time()
    now = float(database.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()[0])
    after = time.time()
    if not before - CLOCK_SECONDS <= now <= after + CLOCK_SECONDS:
        here, there = (datetime.fromtimestamp(it, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") for it in (after, now))
        raise SystemExit(
            f"This host's clock says {here} and the database's {there}: more than {CLOCK_SECONDS} seconds apart, so nobody "
            f"knows what is old, and {so}."
        )
    return int(now * 1000)


def another_is_at_it(database):
    """Return the exit code: another host that does its work is none of this one's business."""
    silent = None
    if schema.there(database, LIFE):
        silent = database.execute(
            f"SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM {LIFE} "
            f"WHERE at < clock_timestamp() - interval '{SILENCE}'"
        ).fetchone()
    if silent is None:
        print("Another host is at it.")
        return 0
    print(
        f"Another host is at it, and has done nothing since {silent[0]} UTC, longer than {SILENCE}: look at mlflow-gc.service "
        f"on all hosts, and end the database's session that holds the advisory lock {LOCK}."
    )
    return 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--older-than", type=milliseconds, metavar="DURATION", help="such as 30d or 2d8h5m20s")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
    parser.add_argument("--all-objects-are-here", action="store_true", help="the present store has the objects of all runs")
    arguments = parser.parse_args()
    if (arguments.older_than is None) == (not arguments.all_objects_are_here):
        parser.error("give either --older-than or --all-objects-are-here")

    try:
        database = client.connect("service=mlflow connect_timeout=10")
    except psycopg2.OperationalError as error:
        raise SystemExit(f"The database does not let MLflow in: {str(error).strip()}") from None
    with database:
        check_schema(database)
        root, since = present_store(database)
        if arguments.all_objects_are_here:
            if not arguments.dry_run:
                with database.transaction():
                    database.execute(f"DELETE FROM {TABLE}")
                    database.execute(
                        f"INSERT INTO {TABLE} (since, root, endpoint) VALUES (to_timestamp(-1), %s, %s)",
                        (root, os.environ.get("MLFLOW_S3_ENDPOINT_URL", "")),
                    )
            print(f"From now on the objects of all runs that there are count as being in {root}.")
            return 0
        refuse_what_moved()
        now = compare_clocks(database)
        # Held until the connection ends.
        if not database.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()[0]:
            return another_is_at_it(database)
        if not arguments.dry_run:
            database.execute(MAKE_TABLES)
            database.execute(
                f"INSERT INTO {LIFE} (at) VALUES (clock_timestamp()) ON CONFLICT (one) DO UPDATE SET at = EXCLUDED.at"
            )

        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        digests.send_always()
        store = Store(root, since, get_artifact_repository)
        problem = store.probe(writes=not arguments.dry_run)
        if problem:
            print(problem)
        tracking = SqlAlchemyStore(os.environ["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/")
        cleaning = Cleaning(Rows(database, tracking), store, now - arguments.older_than, arguments.dry_run)
        cleaning.all()
    print(
        f"{'Would go' if arguments.dry_run else 'Gone'}: {cleaning.gone}. "
        f"Held, because something else needs it: {cleaning.held}. Kept, see above: {cleaning.kept}."
    )
    return 1 if cleaning.kept else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    try:
        sys.exit(main())
    except psycopg2.Error as broken:
        sys.exit(f"The database broke off, so this is where it ends: {_one_line(broken)}")
