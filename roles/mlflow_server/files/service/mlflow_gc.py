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
"""

import argparse
import json
import os
import re
import sys
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

EXPECTED = Path(sys.prefix) / "mlflow-server.json"
# Any number but mlflow_setup.py's, as long as all hosts use the same: one host works, the others have nothing to do.
LOCK = 0x6D6C666C6F7767
TABLE = "mlflow_aws_artifact_stores"
# After a change of the store, processes on other hosts go on with the one before for a while.
CHANGE_MILLISECONDS = 24 * 3600 * 1000
# MLflow makes it anew when it is missing, and clients count on it.
DEFAULT_EXPERIMENT = "0"


class Keep(Exception):
    """Why something can't go."""


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

    def address(self, uri, name, made):
        """Return where the objects of `uri` are in the store; `name` must be a folder in it."""
        parts = urlsplit(uri)
        folders = parts.path.split("/")
        if ".." in folders or name not in folders:
            raise Keep(f"{uri} is not a place of its own")
        if made < self._since:
            raise Keep(
                f"it was made before {self._root} was the artifact store, or on the day of the change, "
                "so its objects may be elsewhere"
            )
        if parts.scheme != "mlflow-artifacts":
            if parts.scheme != "s3":
                raise Keep(f"{uri} is an address that this server does not clean")
            return uri
        if parts.netloc:
            raise Keep(f"{uri} belongs to another server")
        if self._problem:
            raise Keep(self._problem)
        return f"{self._root}/{parts.path.strip('/')}"

    def remove(self, address, dry_run):
        """Delete the objects there, and prove that they are gone."""
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
        self._say = say
        self._used = {}
        self._addresses = []
        self._went_names = set()
        self.gone = self.held = self.kept = 0

    def all(self):
        self._look_at_registered()
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
            if kind != "experiment" and name in self._used:
                self._held(kind, name, f"{self._used[name]} refers to it")
                return
            remove(name)
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

    def _held(self, kind, name, why):
        self._say(f"held: {kind} {name}: {why}")
        self.held += 1

    def _run(self, run_id):
        info = self._tracking.get_run(run_id).info
        if info.lifecycle_stage != "deleted":
            # Restored in the meantime.
            return
        self._store.remove(self._store.address(info.artifact_uri, run_id, info.start_time or 0), self._dry_run)
        if not self._dry_run:
            self._tracking._hard_delete_run(run_id)
        self._went("run", run_id)

    def _model(self, model_id):
        model = self._tracking.get_logged_model(model_id, allow_deleted=True)
        address = self._store.address(model.artifact_location, model_id, model.creation_timestamp)
        self._store.remove(address, self._dry_run)
        if not self._dry_run:
            self._tracking._hard_delete_logged_model(model_id)
        self._went("model", model_id)

    def _experiment(self, experiment):
        name = experiment.experiment_id
        rest = {*self._ids("runs", "run_uuid", experiment), *self._ids("logged_models", "model_id", experiment)}
        rest -= self._went_names
        if rest:
            # Those that are old enough have told why they did not go.
            self._held("experiment", name, f"{len(rest)} of its runs and models are still there")
            return
        inside = f"{experiment.artifact_location.rstrip('/')}/"
        for version, address in self._addresses:
            if address.startswith(inside):
                self._held("experiment", name, f"{version} refers to {address}")
                return
        for uri, part in self._places_of(experiment):
            self._store.remove(self._store.address(uri, part, experiment.creation_time or 0), self._dry_run)
        if not self._dry_run:
            self._tracking._hard_delete_experiment(name)
        self._went("experiment", name)

    def _places_of(self, experiment):
        """Where an experiment has objects that belong to none of its runs and models: those of its traces."""
        name = experiment.experiment_id
        if experiment.artifact_location == f"mlflow-artifacts:/{name}":
            return [(experiment.artifact_location, name)]
        # A place that somebody chose may be shared with others.
        rows = self._database.execute(
            "SELECT t.value, i.request_id FROM trace_info i JOIN trace_tags t USING (request_id) "
            "WHERE i.experiment_id = %s AND t.key = 'mlflow.artifactLocation'",
            (int(name),),
        )
        return rows.fetchall()

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
            "SELECT name, version, source, storage_location FROM model_versions WHERE current_stage <> 'Deleted_Internal'"
        )
        for name, version, *addresses in rows.fetchall():
            title = f"version {version} of the registered model {name}"
            self._used.update(dict.fromkeys(words(*addresses), title))
            self._addresses += [(title, address) for address in addresses if address]


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
