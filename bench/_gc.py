# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
mlflow-gc against clients that delete, restore, register and copy while it works: MLflow's own stores on a real PostgreSQL, and
an S3 server in this process. Passes follow each other, two at once at times, and some are killed in the middle.

Nothing may be lost that a row names, and at the end nothing may be kept that none names. A second part makes the database anew
on the same bucket, as after a teardown: what the one before has there stays.

Started by bench/run, which prepares the environment. The clients and mlflow-gc are this file, too, run by the Python of an
environment that has MLflow as the role installs it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import postgres  # noqa: E402

SERVICE = ROOT / "roles" / "mlflow_server" / "files" / "service"
sys.path.insert(0, str(SERVICE))
LOCK_FILE = SERVICE.parent / "requirements" / "mlflow-3.17.2.txt"
BUCKET, PREFIX = "bucket", "artifacts"
# So long ago something must have been deleted to go. The clients restore both sooner and later.
RETENTION = 2
OBJECTS = 3


# --- what both sides know -------------------------------------------------------------------------------------------------


def s3():
    import boto3

    return boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])


def keys(client) -> set[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/")
    return {item["Key"] for page in pages for item in page.get("Contents", ())}


def key_of(uri: str) -> str:
    return f"{PREFIX}/{uri.removeprefix('mlflow-artifacts:/')}"


def empty_bucket() -> None:
    client = s3()
    for key in keys(client):
        client.delete_object(Bucket=BUCKET, Key=key)


# --- in MLflow's environment ----------------------------------------------------------------------------------------------


def stores():
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    return Tracking(uri, "mlflow-artifacts:/"), Registry(uri)


def prepare() -> None:
    """A database as the role leaves it."""
    from mlflow_service.database import client

    stores()
    with client.connect() as database:
        database.execute("CREATE TABLE mlflow_aws_artifact_stores (since timestamptz PRIMARY KEY, root text, endpoint text)")
        database.execute(
            "INSERT INTO mlflow_aws_artifact_stores VALUES (to_timestamp(-1), %s, %s)",
            (os.environ["MLFLOW_ARTIFACTS_DESTINATION"], os.environ["MLFLOW_S3_ENDPOINT_URL"]),
        )


def clean(*arguments: str) -> int:
    """mlflow-gc as it is, but for where it finds which schema belongs to MLflow."""
    import mlflow.store.db.utils as db
    from mlflow_service.database import gc, schema

    schema.EXPECTED = Path(os.environ["BENCH_FOLDER"], "mlflow-server.json")
    if not schema.EXPECTED.exists():
        schema.EXPECTED.write_text(json.dumps({"tracking": db._get_latest_schema_revision()}), encoding="utf-8")
    sys.argv[1:] = arguments
    return gc.main()


class Client:
    """One that deletes much and is sorry for half of it. What it was told is true it expects to be true."""

    def __init__(self, number: int):
        self.random = random.Random(number)
        self.tracking, self.registry = stores()
        self.s3 = s3()
        self.number = number
        self.counts = Counter()
        self.waits = []
        self.lost = []
        self.experiments = []
        self.runs = []

    def put(self, uri: str) -> None:
        for name in range(OBJECTS):
            self.s3.put_object(Bucket=BUCKET, Key=f"{key_of(uri)}/model/{name}", Body=b"x")

    def whole(self, uri: str) -> bool:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{key_of(uri)}/")
        return found["KeyCount"] == OBJECTS

    def expect(self, uri: str, what: str) -> None:
        if not self.whole(uri):
            self.lost.append(f"{what}: {uri}")

    def try_to(self, what: str, function, *arguments, **options):
        """What MLflow refuses is answered as an error, which is fine; also where gc was faster."""
        from mlflow.exceptions import MlflowException

        begin = time.monotonic()
        try:
            answer = function(*arguments, **options)
            self.counts[what] += 1
            return answer if answer is not None else True
        except MlflowException as error:
            kind = error.error_code if "expected to update" not in str(error) else "gone meanwhile"
            self.counts[f"{what}: {kind}"] += 1
            return None
        finally:
            self.waits.append(time.monotonic() - begin)

    def make_experiment(self) -> None:
        from mlflow.entities import TraceInfo, TraceLocation, TraceState

        name = self.tracking.create_experiment(f"{self.number}-{os.urandom(6).hex()}")
        self.experiments.append(name)
        for _ in range(self.random.randint(1, 5)):
            self.make_run(name)
        for _ in range(self.random.randint(0, 2)):
            model = self.tracking.create_logged_model(name, name="m")
            self.put(model.artifact_location)
        for _ in range(self.random.randint(0, 2)):
            trace = f"tr-{os.urandom(16).hex()}"
            info = TraceInfo(
                trace_id=trace,
                trace_location=TraceLocation.from_experiment_id(name),
                request_time=int(time.time() * 1000),
                state=TraceState.OK,
            )
            self.tracking.start_trace(info)
            self.put(f"{self.tracking.get_experiment(name).artifact_location}/traces/{trace}/artifacts")

    def make_run(self, experiment: str) -> None:
        from mlflow.entities import Metric, Param, RunTag

        run = self.tracking.create_run(experiment, "u", int(time.time() * 1000), [], "r").info
        self.put(run.artifact_uri)
        metrics = [Metric("loss", step, 0, step) for step in range(5)]
        self.tracking.log_batch(run.run_id, metrics, [Param("a", "b")], [RunTag("c", "d")])
        self.runs.append(run)

    def restore_experiment(self, name: str) -> None:
        if self.try_to("restore experiment", self.tracking.restore_experiment, name):
            # Told that it is there again: so is all that it has now.
            self.look_at(name, "restored experiment")

    def look_at(self, name: str, what: str) -> None:
        from mlflow.entities import ViewType

        page = self.tracking.search_runs([name], None, ViewType.ACTIVE_ONLY)
        for run in page:
            self.expect(run.info.artifact_uri, f"run of a {what}")
        for model in self.tracking.search_logged_models([name]):
            self.expect(model.artifact_location, f"model of a {what}")

    def restore_run(self, run) -> None:
        if self.try_to("restore run", self.tracking.restore_run, run.run_id):
            self.expect(run.artifact_uri, "restored run")

    def register(self, run) -> None:
        name = f"served-{self.number}"
        self.try_to("make model", self.registry.create_registered_model, name)
        source = self.random.choice([f"runs:/{run.run_id}/model", f"{run.artifact_uri}/model"])
        if not self.try_to("register", self.registry.create_model_version, name, source, run.run_id):
            return
        # Who finds the run after that can count on it, however it is deleted.
        if self.try_to("look at what was registered", self.tracking.get_run, run.run_id):
            self.expect(run.artifact_uri, "registered run")
            self.try_to("delete", self.tracking.delete_run, run.run_id)
            held.append(run)

    def step(self) -> None:
        chosen = self.random.random()
        if chosen < 0.15 or not self.experiments:
            self.make_experiment()
            return
        experiment, run = self.random.choice(self.experiments[-40:]), self.random.choice(self.runs[-150:])
        if chosen < 0.35:
            self.try_to("delete experiment", self.tracking.delete_experiment, experiment)
        elif chosen < 0.55:
            self.restore_experiment(experiment)
        elif chosen < 0.70:
            self.try_to("delete", self.tracking.delete_run, run.run_id)
        elif chosen < 0.85:
            self.restore_run(run)
        elif chosen < 0.90:
            self.register(run)
        elif chosen < 0.95:
            self.try_to("rename", self.tracking.rename_experiment, experiment, os.urandom(6).hex())
        else:
            self.try_to("make run", self.make_run, experiment)


held = []


def client(number: str, seconds: str) -> int:
    me = Client(int(number))
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        me.step()
    me.waits.sort()
    figures = {
        "counts": me.counts,
        "lost": me.lost,
        "held": [run.run_id for run in held],
        "slowest": me.waits[-1],
        "p99": me.waits[len(me.waits) * 99 // 100],
    }
    Path(os.environ["BENCH_FOLDER"], f"client-{number}.json").write_text(json.dumps(figures), encoding="utf-8")
    return 0


def rows() -> dict[str, list[str]]:
    """The places that rows name, by what they are."""
    from mlflow_service.database import client

    with client.connect() as database:
        return {
            "run": [it[0] for it in database.execute("SELECT artifact_uri FROM runs")],
            "model": [it[0] for it in database.execute("SELECT artifact_location FROM logged_models")],
            "trace": [
                it[0]
                for it in database.execute(
                    "SELECT artifact_location || '/traces/' || request_id || '/artifacts' "
                    "FROM trace_info JOIN experiments USING (experiment_id)"
                )
            ],
            "noted": [it[0] for it in database.execute("SELECT address FROM mlflow_aws_gc_places")],
            # What would stay of a trace whose row is deleted by a statement, as mlflow-gc does it for all of an experiment.
            "no cascade": [
                it[0]
                for it in database.execute(
                    "SELECT conrelid::regclass::text FROM pg_constraint "
                    "WHERE contype = 'f' AND confrelid = 'trace_info'::regclass AND confdeltype <> 'c'"
                )
            ],
            "orphan": [
                it[0]
                for it in database.execute(
                    "SELECT request_id FROM trace_tags WHERE request_id NOT IN (SELECT request_id FROM trace_info) "
                    "UNION ALL SELECT run_uuid FROM metrics WHERE run_uuid NOT IN (SELECT run_uuid FROM runs)"
                )
            ],
        }


def before() -> int:
    """Something of each kind in experiment 1, by a client of the database that is lost later."""
    me = Client(0)
    me.make_experiment()
    for _ in range(3):
        me.make_run("1")
    return 0


def anew() -> int:
    """The same in a new database, deleted."""
    me = Client(1)
    me.make_experiment()
    assert me.experiments == ["1"], me.experiments
    me.tracking.delete_experiment("1")
    return 0


# --- on this side -----------------------------------------------------------------------------------------------------------


class Ground:
    """PostgreSQL in a folder, S3 in this process, and MLflow's Python."""

    def __init__(self, folder: Path, python: Path):
        self.folder, self.python = folder, python
        self.postgres = postgres.server("max_connections=200")

    def __enter__(self):
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication
        from moto.server import ThreadedMotoServer

        # moto's S3 answers a listing with 500 where another thread deletes meanwhile.
        answer, one = DomainDispatcherApplication.__call__, threading.Lock()

        def in_turn(*request):
            with one:
                return answer(*request)

        DomainDispatcherApplication.__call__ = in_turn
        self.socket = self.postgres.__enter__()
        service = self.folder / "pg_service.conf"
        service.write_text(f"[mlflow]\nhost={self.socket}\ndbname=mlflow\nuser=mlflow\n", encoding="utf-8")
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        os.environ.update(
            PGSERVICEFILE=str(service),
            MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2:///?service=mlflow",
            MLFLOW_ARTIFACTS_DESTINATION=f"s3://{BUCKET}/{PREFIX}",
            MLFLOW_S3_ENDPOINT_URL=f"http://{host}:{port}",
            MLFLOW_DISABLE_TELEMETRY="true",
            AWS_ACCESS_KEY_ID="x",
            AWS_SECRET_ACCESS_KEY="x",  # noqa: S105
            AWS_DEFAULT_REGION="us-east-1",
            BENCH_FOLDER=str(self.folder),
            NO_PROXY="127.0.0.1",
            no_proxy="127.0.0.1",
        )
        s3().create_bucket(Bucket=BUCKET)
        self.new_database()
        return self

    def __exit__(self, *error):
        self.server.stop()
        self.postgres.__exit__(*error)

    def new_database(self) -> None:
        import psycopg

        with psycopg.connect(host=str(self.socket), user="mlflow", dbname="postgres", autocommit=True) as database:
            database.execute("DROP DATABASE IF EXISTS mlflow WITH (FORCE)")
            database.execute("CREATE DATABASE mlflow")
        self.call("prepare")

    def start(self, *arguments, **options) -> subprocess.Popen:
        return subprocess.Popen([self.python, __file__, *map(str, arguments)], text=True, **options)

    def call(self, *arguments) -> str:
        done = subprocess.run([self.python, __file__, *map(str, arguments)], text=True, capture_output=True)
        if done.returncode:
            raise SystemExit(f"{arguments} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout

    def gc(self, log, age: float = RETENTION) -> subprocess.Popen:
        return self.start("gc", "--older-than", f"{age}s", stdout=log, stderr=subprocess.STDOUT)


def passes(ground: Ground, clients: list[subprocess.Popen], log) -> Counter:
    """gc after gc while the clients work."""
    ended = Counter()
    while any(it.poll() is None for it in clients):
        here = [ground.gc(log) for _ in range(random.choice([1, 1, 2]))]
        if random.random() < 0.25:
            time.sleep(random.uniform(3, 8))
            here[0].kill()
        for it in here:
            ended[str(it.wait())] += 1
    return ended


def race(ground: Ground, seconds: float, number: int) -> dict:
    with (ground.folder / "gc.log").open("w", encoding="utf-8") as log:
        clients = [ground.start("client", it, seconds) for it in range(1, number + 1)]
        ended = passes(ground, clients, log)
    problems = [f"client {place} ended with {it.returncode}" for place, it in enumerate(clients, 1) if it.returncode]
    told = [json.loads(file.read_text(encoding="utf-8")) for file in ground.folder.glob("client-*.json")]
    time.sleep(RETENTION + 1)
    # What was held once more, and twice so that nothing noted is left.
    with (ground.folder / "last.log").open("w", encoding="utf-8") as log:
        for _ in range(2):
            if ground.gc(log).wait() != 0:
                problems.append(f"the last pass failed: {(ground.folder / 'last.log').read_text()[-2000:]}")
    counts = sum((Counter(it["counts"]) for it in told), Counter())
    problems += [line for it in told for line in it["lost"]]
    there, named = keys(s3()), json.loads(ground.call("rows"))
    runs = " ".join(named["run"])
    problems += [f"registered and gone: {run}" for it in told for run in it["held"] if run not in runs]
    for kind in ("run", "model", "trace"):
        for uri in named[kind]:
            missing = OBJECTS - sum(f"{key_of(uri)}/model/{it}" in there for it in range(OBJECTS))
            if missing:
                problems.append(f"lost: {missing} objects of the {kind} in {uri}")
    places = {f"{key_of(uri)}/model/{it}" for kind in ("run", "model", "trace") for uri in named[kind] for it in range(OBJECTS)}
    problems += [f"kept, and no row names it: {key}" for key in sorted(there - places)]
    problems += [f"still noted: {it}" for it in named["noted"]]
    problems += [f"{kind}: {it}" for kind in ("orphan", "no cascade") for it in named[kind]]
    said = Counter(line.split(":")[0] for line in (ground.folder / "gc.log").read_text().splitlines() if ": " in line)
    return {
        "seconds": seconds,
        "clients": number,
        "operations": dict(sorted(counts.items())),
        "passes": dict(ended),
        "gc": {kind: said[kind] for kind in ("gone", "held", "kept")},
        "rows": {kind: len(found) for kind, found in named.items()},
        "slowest": round(max(it["slowest"] for it in told), 3) if told else None,
        "p99": round(max(it["p99"] for it in told), 3) if told else None,
        "problems": problems,
    }


def new_database_on_an_old_bucket(ground: Ground) -> list[str]:
    client = s3()
    empty_bucket()
    ground.new_database()
    ground.call("before")
    old = keys(client)
    ground.new_database()
    ground.call("anew")
    new = keys(client) - old
    with (ground.folder / "anew.log").open("w", encoding="utf-8") as log:
        ended = ground.gc(log, 0).wait()
    there = keys(client)
    said = (ground.folder / "anew.log").read_text(encoding="utf-8")
    problems = [f"of the database before, and gone: {key}" for key in sorted(old - there)]
    problems += [f"of this database, and still there: {key}" for key in sorted(new & there)]
    if ended or not old or not new or "gone: experiment 1" not in said or "no row named the objects in" not in said:
        problems.append(f"gc ended with {ended}: {said}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/run gc", description="mlflow-gc against clients that restore and register")
    parser.add_argument("--seconds", type=float, default=600, help="how long the clients go on")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--python", type=Path, help="of an environment that has MLflow; without it one is made")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs")
    arguments = parser.parse_args()
    from _cloud import write

    folder = Path(tempfile.mkdtemp(prefix="bench-gc-"))
    python = arguments.python
    if python is None:
        subprocess.run(["uv", "venv", "--quiet", folder / "mlflow"], check=True)
        python = folder / "mlflow" / "bin" / "python"
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", LOCK_FILE], check=True)
    with Ground(folder, python) as ground:
        problems = new_database_on_an_old_bucket(ground)
        print(f"A new database on the bucket of another: {len(problems)} problems")
        ground.new_database()
        empty_bucket()
        figures = race(ground, arguments.seconds, arguments.clients)
    figures["problems"] = problems + figures["problems"]
    for name, value in figures.items():
        if name != "problems":
            print(f"{name:12} {value}")
    for line in figures["problems"][:40]:
        print(f"PROBLEM      {line}")
    write("gc", {**figures, "problems": figures["problems"][:200]})
    if arguments.keep or figures["problems"]:
        print(f"Logs: {folder}")
    else:
        subprocess.run(["rm", "-rf", folder], check=True)
    return bool(figures["problems"])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *dummy: sys.exit(143))
    PARTS = {"gc": clean, "client": client, "prepare": prepare, "before": before, "anew": anew}
    part = sys.argv[1] if sys.argv[1:] else ""
    if part == "rows":
        print(json.dumps(rows()))
    elif part in PARTS:
        sys.exit(PARTS[part](*sys.argv[2:]))
    else:
        sys.exit(main())
