# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Remove for good what was deleted in MLflow longer ago than the retention: the objects first, the rows after them.

    mlflow_gc.py --older-than 30d             what mlflow-gc.service runs
    mlflow_gc.py --older-than 30d --dry-run   say what that would remove, and what would stay; changes nothing
    mlflow_gc.py --all-objects-are-here       say that the objects of all runs made until now were moved to the present
                                              artifact store

`mlflow gc` deletes a run's rows wherever it finds nothing to delete in the store: also where the store is another one
than the run was made with, and where the store refuses to delete (S3 says so in an answer that MLflow does not read).
The objects are then in the bucket for ever, and nothing knows of them. Here a row goes only when its objects were
listed and deleted, and listing them again finds nothing. What can't be proved stays, with a line that says why, and
the exit code is 1. MLflow's own classes do the work, the same ones that `mlflow gc` uses.

mlflow_setup.py keeps the artifact stores that this database was used with in a table, with the time of each change.
What was made before the present one came into use stays, because its objects may be in the one before.

What a registered model refers to stays as well; nothing is wrong then, so that is no failure.

Users write a lot of what the rows say: where an experiment has its place, what a trace is called, the tags. So an address is
only taken where it ends with what MLflow itself adds to it, is below the root of the store, can be read in one way only, and
has nobody else's objects in it or around it. An experiment's folder is never removed as a whole.
"""

import argparse
import json
import os
import posixpath
import re
import sys
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg

EXPECTED = Path(sys.prefix) / "mlflow-server.json"
# Any number but mlflow_setup.py's, as long as all hosts use the same: one host works, the others have nothing to do.
LOCK = 0x6D6C666C6F7767
TABLE = "mlflow_aws_artifact_stores"
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


class Store:
    """Where the objects are."""

    def __init__(self, root, since, repository):
        # since: from when on (milliseconds) this store holds what is made; 0 for always.
        self._root = root.rstrip("/")
        self._since = since
        self._repository = repository
        self._problem = None

    def probe(self):
        """Ask the store once, so that one that does not answer is not asked for each run."""
        try:
            self._repository(f"{self._root}/.mlflow-gc").list_artifacts()
        except Exception as error:
            self._problem = f"{self._root} can't be listed: {_one_line(error)}"
        return self._problem

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

    def remove(self, place, dry_run):
        """Delete the objects there, and prove that they are gone."""
        address = self.address(place)
        try:
            repository = self._repository(address)
            # An answer proves that the store can be reached and listed, also where nothing was logged.
            found = repository.list_artifacts()
            if dry_run or not found:
                return
            repository.delete_artifacts()
            left = repository.list_artifacts()
        except Exception as error:
            raise Keep(f"its objects can't be listed or deleted: {_one_line(error)}") from None
        if left:
            raise Keep(f"the store let its objects be listed and not deleted; {left[0].path} is still in {address}")


class Cleaning:
    """One pass over all that was deleted longer ago than `age`."""

    def __init__(self, tracking, database, store, age, dry_run, say=print):
        self._tracking = tracking
        self._database = database
        self._store = store
        self._age = age
        self._dry_run = dry_run
        # Users choose names and addresses, and must not write lines of their own into the journal.
        self._say = lambda line: say("".join(sign if sign.isprintable() else "?" for sign in line))
        # The runs and models that registered models need, and the places: theirs, and all folders above those.
        self._used = {}
        self._registered = {}
        self._above_registered = {}
        self._registered_since = 0
        # The experiments that have their place in a folder, at any depth, and the traces of which that is no matter of course.
        self._experiments_in = {}
        self._experiments_until = -1
        self._traces_in = {}
        self._went_names = set()
        self.gone = self.held = self.kept = 0

    def all(self):
        self._look_at_traces()
        experiments = self._deleted_experiments()
        runs = self._tracking._get_deleted_runs(older_than=self._age)
        models = dict.fromkeys(self._tracking._get_deleted_logged_models(older_than=self._age))
        for experiment in experiments:
            # MLflow leaves the models of a deleted experiment as they are; their rows would go with the experiment's.
            models.update(dict.fromkeys(self._ids("logged_models", "model_id", experiment)))
        for run_id in runs:
            self._one("run", run_id, self._run)
        for model_id in models:
            self._one("model", model_id, self._model)
        for experiment in experiments:
            self._one("experiment", experiment.experiment_id, lambda dummy, it=experiment: self._experiment(it))

    def _one(self, kind, name, remove):
        try:
            # A pass takes hours where there is much to remove, and users go on meanwhile.
            self._look_at_registered()
            self._look_at_experiments()
            if kind != "experiment" and name in self._used:
                raise Held(f"{self._used[name]} refers to it")
            remove(name)
        except Held as why:
            self._say(f"held: {kind} {name}: {why}")
            self.held += 1
        except Keep as why:
            self._say(f"kept: {kind} {name}: {why}")
            self.kept += 1
        except psycopg.Error:
            raise
        except Exception as error:
            self._say(f"kept: {kind} {name}: {_one_line(error)}")
            self.kept += 1

    def _went(self, kind, name):
        self._say(f"{'would go' if self._dry_run else 'gone'}: {kind} {name}")
        self._went_names.add(name)
        self.gone += 1

    def _run(self, run_id):
        info = self._tracking.get_run(run_id).info
        if info.lifecycle_stage != "deleted":
            # Restored in the meantime.
            return
        self._remove("run", run_id, info.artifact_uri, info.start_time or 0, run_id, "artifacts")
        if not self._dry_run:
            self._tracking._hard_delete_run(run_id)
        self._went("run", run_id)

    def _model(self, model_id):
        stages = self._database.execute(
            "SELECT m.lifecycle_stage, e.lifecycle_stage FROM logged_models m JOIN experiments e USING (experiment_id) "
            "WHERE m.model_id = %s",
            (model_id,),
        ).fetchone()
        if not stages or "deleted" not in stages:
            # Restored in the meantime, or with its experiment.
            return
        model = self._tracking.get_logged_model(model_id, allow_deleted=True)
        made = model.creation_timestamp
        self._remove("model", model_id, model.artifact_location, made, "models", model_id, "artifacts")
        if not self._dry_run:
            self._tracking._hard_delete_logged_model(model_id)
        self._went("model", model_id)

    def _experiment(self, experiment):
        name = experiment.experiment_id
        stage = self._database.execute("SELECT lifecycle_stage FROM experiments WHERE experiment_id = %s", (int(name),))
        if stage.fetchone() != ("deleted",):
            # Restored in the meantime.
            return
        rest = {*self._ids("runs", "run_uuid", experiment), *self._ids("logged_models", "model_id", experiment)}
        rest -= self._went_names
        if rest:
            # Those that are old enough have told why they did not go.
            raise Held(f"{len(rest)} of its runs and models are still there")
        places = self._store.readings(experiment.artifact_location)
        for place in places & self._above_registered.keys():
            raise Held(f"{self._above_registered[place]} is in {self._store.address(place)}")
        self._traces(experiment)
        if not self._dry_run:
            self._tracking._hard_delete_experiment(name)
        self._went("experiment", name)
        for place in places:
            for folder in _up_from(place):
                self._experiments_in.get(folder, set()).discard(name)
            self._tell_what_is_left(place)

    def _traces(self, experiment):
        """Remove the objects of an experiment's traces, which go with its row. Where one must stay, the row stays, too."""
        rows = self._database.execute(
            "SELECT i.request_id, t.value FROM trace_info i LEFT JOIN trace_tags t "
            "ON t.request_id = i.request_id AND t.key = 'mlflow.artifactLocation' WHERE i.experiment_id = %s",
            (int(experiment.experiment_id),),
        ).fetchall()
        if not rows:
            return
        made = experiment.creation_time or 0
        folder = f"{experiment.artifact_location.rstrip('/')}/traces"
        # Most traces have no objects, so those that have are looked for with one question.
        there = self._store.names_in(self._store.place(folder, made, "traces"))
        held, kept = [], []
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
                if trace_id in there:
                    self._remove("trace", trace_id, uri, made, "traces", trace_id, "artifacts")
            except Held as why:
                held.append(f"trace {trace_id}: {why}")
            except Keep as why:
                kept.append(f"trace {trace_id}: {why}")
        for problems, kind in ((kept, Keep), (held, Held)):
            if problems:
                others = f", and {len(problems) - 1} more" if problems[1:] else ""
                raise kind(f"{problems[0]}{others}")

    def _remove(self, kind, name, uri, made, *end):
        place = self._store.place(uri, made, *end)
        self._see_that_nobody_else_needs(place, kind, name)
        self._store.remove(place, self._dry_run)

    def _see_that_nobody_else_needs(self, place, kind, name):
        if place in self._above_registered:
            raise Held(f"{self._above_registered[place]} is in {self._store.address(place)}")
        for depth in range(1, len(place)):
            if place[:depth] in self._registered:
                raise Held(f"{self._registered[place[:depth]]} is {self._store.address(place[:depth])}")
        for experiment in self._experiments_in.get(place, ()):
            raise Keep(f"experiment {experiment} has its place in {self._store.address(place)}")
        for trace_id in self._traces_in.get(place, set()) - {name}:
            raise Keep(f"trace {trace_id} has its place in {self._store.address(place)}")
        ids = [folder for folder, following in zip(place, place[1:], strict=False) if following == "artifacts"]
        for *other, uri in self._database.execute(OWNERS, {"ids": ids}).fetchall():
            if other != [kind, name] and any(it == place[: len(it)] for it in self._store.readings(uri)):
                raise Keep(f"{self._store.address(place)} is a place of {' '.join(other)}")

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

    def _deleted_experiments(self):
        found, token = [], None
        limit = int(time.time() * 1000) - self._age
        while True:
            # 2 is MLflow's ViewType.DELETED_ONLY.
            page = self._tracking.search_experiments(
                view_type=2, filter_string=f"last_update_time < {limit}", page_token=token
            )
            found += [item for item in page if item.experiment_id != DEFAULT_EXPERIMENT]
            token = page.token
            if not token:
                return found

    def _ids(self, table, column, experiment):
        query = f"SELECT {column} FROM {table} WHERE experiment_id = %s"
        return [row[0] for row in self._database.execute(query, (int(experiment.experiment_id),))]

    def _look_at_registered(self):
        """Note the runs, models and places whose files are those of a registered model."""
        rows = self._database.execute(
            "SELECT name, version, source, storage_location FROM model_versions "
            "WHERE current_stage <> 'Deleted_Internal' AND coalesce(creation_time, 0) >= %s",
            (self._registered_since,),
        )
        if not self._registered_since:
            # From the second time on what is new; the hour is for hosts whose clocks differ.
            self._registered_since = int(time.time() * 1000) - 3600 * 1000
        for name, version, *addresses in rows.fetchall():
            title = f"version {version} of the registered model {name}"
            self._used.update(dict.fromkeys(words(*addresses), title))
            for place in {place for address in addresses if address for place in self._store.readings(address)}:
                self._registered[place] = title
                self._above_registered.update(dict.fromkeys(_up_from(place), title))

    def _look_at_experiments(self):
        rows = self._database.execute(
            "SELECT experiment_id, artifact_location FROM experiments WHERE experiment_id > %s", (self._experiments_until,)
        )
        for number, uri in rows.fetchall():
            self._experiments_until = max(number, self._experiments_until)
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


def _one_line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def present_store(database):
    """Return the artifact store in use and from when on everything is in it, in milliseconds."""
    root = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL", "")
    try:
        row = database.execute(
            f"SELECT root, endpoint, extract(epoch FROM since) FROM {TABLE} ORDER BY since DESC LIMIT 1"
        ).fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    if row is None:
        raise SystemExit("The database does not say which artifact stores it was used with: run the mlflow_server role.")
    if row[:2] != (root, endpoint):
        raise SystemExit(
            f"This host's artifact store is {_name(root, endpoint)} and the database says {_name(*row[:2])}, "
            "so nothing is removed: run the mlflow_server role on all hosts."
        )
    since = row[2]
    return root, 0 if since <= 0 else int(since * 1000) + CHANGE_MILLISECONDS


def _name(root, endpoint):
    return f"{root} at {endpoint}" if endpoint else root


def check_schema(database):
    """Opening MLflow's store on a database that is behind would migrate it."""
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))["tracking"]
    found = database.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    if found != expected:
        raise SystemExit(f"The database's schema is {found} and this MLflow's is {expected}, so nothing is removed.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--older-than", type=milliseconds, metavar="DURATION", help="such as 30d or 2d8h5m20s")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
    parser.add_argument("--all-objects-are-here", action="store_true", help="the present store has the objects of all runs")
    arguments = parser.parse_args()
    if (arguments.older_than is None) == (not arguments.all_objects_are_here):
        parser.error("give either --older-than or --all-objects-are-here")

    try:
        database = psycopg.connect("service=mlflow connect_timeout=10", autocommit=True)
    except psycopg.OperationalError as error:
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
        # Held until the connection ends.
        if not database.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()[0]:
            print("Another host is at it.")
            return 0

        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        store = Store(root, since, get_artifact_repository)
        problem = store.probe()
        if problem:
            print(problem)
        tracking = SqlAlchemyStore(os.environ["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/")
        cleaning = Cleaning(tracking, database, store, arguments.older_than, arguments.dry_run)
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
    except psycopg.Error as broken:
        sys.exit(f"The database broke off, so this is where it ends: {_one_line(broken)}")
