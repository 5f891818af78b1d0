# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whose turn it is, and that a request whose user lost a right while it waited is not carried out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
import types
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service import application  # noqa: E402
from mlflow_service.compat import environment as told  # noqa: E402
from mlflow_service.compat.processes import Draining  # noqa: E402
from mlflow_service.http import (
    admission,  # noqa: E402
    logins,  # noqa: E402
)
from mlflow_service.http.admission import Admission  # noqa: E402
from mlflow_service.http.proxied import Proxied  # noqa: E402

RUN, ARTIFACT = "/api/2.0/mlflow/runs/create", "/api/2.0/mlflow-artifacts/artifacts/1/x"


class Asked:
    def __init__(self, path, age, refusal):
        self.carried_out, self.looked, self.sent, self.refusal = 0, 0, [], refusal
        self.scope = {"type": "http", "path": path, "method": "POST", "headers": [], "mlflow.login": self.again}
        self.scope["mlflow.checked"] = time.monotonic() - age

    async def again(self):
        self.looked += 1
        return self.refusal

    async def app(self, scope, receive, send):
        self.carried_out += 1
        await asyncio.sleep(0.05)

    async def receive(self):
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)


async def ask(asked, admission=None):
    await (admission or Admission(asked.app, 5))(asked.scope, asked.receive, asked.send)


@pytest.mark.parametrize("path", [RUN, ARTIFACT])
@pytest.mark.parametrize("age, looked", [(0.0, 0), (60.0, 1)])
def test_a_login_that_is_old_by_now_is_looked_at_again(path, age, looked):
    asked = Asked(path, age, None)
    asyncio.run(ask(asked))
    assert (asked.looked, asked.carried_out) == (looked, 1)
    gone = Asked(path, age, logins.NOBODY)
    asyncio.run(ask(gone))
    assert gone.carried_out == (0 if looked else 1)
    if looked:
        assert gone.sent[0]["status"] == 401


@pytest.mark.parametrize(
    "path",
    ["/api/2.0/mlflow/users/create", "/ajax-api/3.0/mlflow/roles/list", "/api/2.0/mlflow/experiments/permissions/update"],
)
def test_who_manages_users_is_looked_at_in_the_very_moment(path):
    gone = Asked(path, 0.0, logins.NOBODY)
    asyncio.run(ask(gone))
    assert (gone.looked, gone.carried_out) == (1, 0)


def test_waiting_for_a_turn_makes_a_login_old(monkeypatch):
    monkeypatch.setattr(logins, "OLD", 0.01)

    async def run():
        first, second = Asked(RUN, 0.0, None), Asked(RUN, 0.0, logins.NOBODY)
        admission = Admission(first.app, 2)
        await asyncio.gather(ask(first, admission), ask(second, admission))
        return first, second

    first, second = asyncio.run(run())
    assert first.carried_out == 1 and second.looked == 1 and second.sent[0]["status"] == 401


# --- an artifact store that does not answer ---

LIST, GET = "/api/2.0/mlflow/artifacts/list", "/get-artifact"


class Hanging:
    """MLflow, whose requests for the store never come back."""

    def __init__(self):
        self.hanging, self.answered, self.sent = 0, [], []

    async def app(self, scope, receive, send):
        if scope["path"] in (LIST, GET, "/graphql"):
            self.hanging += 1
            await asyncio.Event().wait()
        self.answered.append(scope["path"])

    async def ask(self, admission, path, method="GET", user="somebody"):
        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            self.sent.append(message)

        scope = {"type": "http", "path": path, "method": method, "headers": [], "mlflow.user": user}
        await admission(scope, receive, send)


@pytest.mark.parametrize("path", [LIST, GET, "/graphql"])
def test_runs_and_metrics_go_on_where_the_artifact_store_does_not(path):
    mlflow = Hanging()

    async def run():
        admission = Admission(mlflow.app, 15)
        clicks = [asyncio.create_task(mlflow.ask(admission, path, user=str(number))) for number in range(60)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(1):
            await asyncio.gather(*(mlflow.ask(admission, RUN, "POST") for _ in range(50)))
        for click in clicks:
            click.cancel()
        await asyncio.gather(*clicks, return_exceptions=True)
        # Those who have gone have given their turns back.
        assert admission._store.free == admission._store.total

    asyncio.run(run())
    assert mlflow.answered == [RUN] * 50 and 0 < mlflow.hanging <= 8


def test_one_user_has_half_of_the_turns_that_need_the_store():
    mlflow = Hanging()

    async def run():
        admission = Admission(mlflow.app, 15)
        clicks = [asyncio.create_task(mlflow.ask(admission, GET, user="one")) for _ in range(30)]
        await asyncio.sleep(0.05)
        assert mlflow.hanging == 4
        await asyncio.wait_for(mlflow.ask(admission, "/model-versions/get-artifact", user="another"), 1)
        for click in clicks:
            click.cancel()

    asyncio.run(run())
    assert mlflow.answered == ["/model-versions/get-artifact"]


def test_who_waits_for_the_store_is_told_so_in_the_end(monkeypatch):
    monkeypatch.setattr(admission, "STORE_WAIT", 0.05)
    mlflow = Hanging()

    async def run():
        admission = Admission(mlflow.app, 15)
        clicks = [asyncio.create_task(mlflow.ask(admission, LIST)) for _ in range(4)]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(mlflow.ask(admission, LIST), 1)
        for click in clicks:
            click.cancel()

    asyncio.run(run())
    assert mlflow.sent[0]["status"] == 503 and (b"retry-after", b"10") in mlflow.sent[0]["headers"]


def test_an_artifact_that_does_not_pass_through_takes_a_turn_of_the_store(monkeypatch):
    """MLflow then writes all of it to the disk, in threads that others need, too."""
    monkeypatch.setattr(admission, "STORE_WAIT", 0.05)
    mlflow = Hanging()

    async def run():
        let_in = Admission(mlflow.app, 15, passes=lambda scope: False)
        clicks = [asyncio.create_task(mlflow.ask(let_in, LIST)) for _ in range(4)]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(mlflow.ask(let_in, ARTIFACT, "GET"), 1)
        for click in clicks:
            click.cancel()

    asyncio.run(run())
    assert mlflow.sent[0]["status"] == 503 and ARTIFACT not in mlflow.answered


@pytest.mark.parametrize(
    "method, path", [("GET", ARTIFACT), ("PUT", ARTIFACT), ("GET", "/health"), ("GET", "/static-files/x.js")]
)
def test_streams_and_files_wait_for_nobody(method, path):
    mlflow = Hanging()

    async def run():
        admission = Admission(mlflow.app, 2)
        clicks = [asyncio.create_task(mlflow.ask(admission, LIST, user=str(number))) for number in range(20)]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(mlflow.ask(admission, path, method), 1)
        for click in clicks:
            click.cancel()

    asyncio.run(run())
    assert mlflow.answered == [path]


@pytest.mark.parametrize("users, connections, at_once", [(40, 15, 14), (40, 3, 2), (40, 1, 1), (1, 15, 10), (1, 3, 2), (1, 1, 1)])
def test_no_more_requests_are_let_in_than_a_pool_can_serve(users, connections, at_once):
    """Each may need a second connection while it has a first one, so that one of them has to go on always; and one user, who
    may search for long, leaves turns for others.
    """
    inside, most = 0, 0

    async def app(scope, receive, send):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.01)
        inside -= 1

    async def run():
        admission = Admission(app, connections)
        scope = {"type": "http", "path": RUN, "method": "POST", "headers": []}
        await asyncio.gather(*(admission({**scope, "mlflow.user": f"user {n % users}"}, None, None) for n in range(40)))

    asyncio.run(run())
    assert most == at_once


@pytest.fixture
def drain(monkeypatch):
    """Ends a worker that has one connection."""
    module = types.ModuleType("uvicorn.server")
    module.Server = type("Server", (), {"shutdown": None})
    monkeypatch.setitem(sys.modules, "uvicorn", types.ModuleType("uvicorn"))
    monkeypatch.setitem(sys.modules, "uvicorn.server", module)
    state = types.SimpleNamespace(connections={"one"}, tasks=set(), default_headers=[])
    server = types.SimpleNamespace(servers=[], server_state=state, force_exit=False)

    def drain(seconds, *stores):
        monkeypatch.setenv("MLFLOW_SERVER_DRAIN_SECONDS", str(seconds))
        return Draining(stores)._drain(server)

    drain.state = state
    return drain


def test_who_ends_leaves_the_databases_connections_to_who_comes(drain):
    """Both have some for as long as somebody is still answered, and all hosts together have so many."""
    said, state = [], drain.state
    engine = types.SimpleNamespace(dispose=lambda: said.append(f"with {len(state.connections)} left"))

    async def run():
        draining = asyncio.create_task(drain(30, types.SimpleNamespace(engine=engine)))
        await asyncio.sleep(0.3)
        assert not draining.done()
        state.connections.clear()
        await asyncio.wait_for(draining, 2)

    asyncio.run(run())
    assert said == ["with 1 left"] and state.default_headers == [(b"connection", b"close")]


def test_who_ends_waits_for_those_who_stay_as_long_as_was_said_and_no_longer(drain, caplog):
    """An upload may come to its end; a client who never goes holds up no restart."""
    begun = time.monotonic()
    asyncio.run(asyncio.wait_for(drain(0.5), 5))
    assert time.monotonic() - begun >= 0.5 and "1 connections were still open" in caplog.text


@pytest.fixture
def as_a_worker():
    """What create_app changes of its process is put back."""
    comm = Path("/proc/self/comm")
    noted, name, session = signal.getsignal(signal.SIGTERM), comm.read_text(), boto3.DEFAULT_SESSION
    yield
    signal.signal(signal.SIGTERM, noted)
    comm.write_text(name)
    boto3.DEFAULT_SESSION = session


@pytest.mark.usefixtures("as_a_worker")
def test_a_worker_opens_no_store_on_a_schema_that_is_not_its_own(monkeypatch):
    """MLflow migrates what is behind as soon as a store is opened, each worker of each host by itself."""

    def another(with_auth, replica):
        assert not replica
        raise SystemExit(f"The database is for MLflow 3.99, whether with users: {with_auth}.")

    def opened(*_given):
        raise AssertionError("the application was made")

    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", "/etc/mlflow/auth.ini")
    monkeypatch.setattr(application.schema, "refuse_another", another)
    monkeypatch.setattr(application, "import_everything", lambda: None)
    monkeypatch.setattr(application, "ground", lambda: None)
    for name in ("_application", "_open_stores", "_fit_pools"):
        monkeypatch.setattr(application, name, opened)
    with pytest.raises(SystemExit, match=r"for MLflow 3\.99, whether with users: True"):
        application.create_app()


@pytest.mark.usefixtures("as_a_worker")
def test_a_worker_gives_up_a_silent_store_before_it_opens_one(monkeypatch):
    """MLflow's own client waits for a minute, five times."""

    class Enough(Exception):
        pass

    def make():
        # With a configuration of its own that says nothing of it, as MLflow makes it.
        config = boto3.client("s3", config=Config(signature_version="s3v4"), region_name="eu-central-1").meta.config
        raise Enough(config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"])

    monkeypatch.setattr(application.schema, "refuse_another", lambda **_given: None)
    monkeypatch.setattr(application, "import_everything", lambda: None)
    monkeypatch.setattr(application, "ground", lambda: None)
    monkeypatch.setattr(application, "_fit_pools", lambda: None)
    monkeypatch.setattr(application.environment, "set_internal_variables", lambda: None)
    monkeypatch.setattr(application, "_application", make)
    monkeypatch.setenv("PGOPTIONS", "")
    with pytest.raises(Enough) as found:
        application.create_app()
    assert os.environ["PGOPTIONS"] == "-c statement_timeout=300s"
    assert found.value.args == (5, 30, 3)


# --- what is told by the environment ---


@pytest.fixture
def environment(monkeypatch):
    """Sets what is given; what the service sets in between is taken back."""
    names = ("_MLFLOW_SERVER_FILE_STORE", "_MLFLOW_SERVER_REGISTRY_STORE", "_MLFLOW_SGI_NAME", "_MLFLOW_IN_JOB_EXECUTOR",
             "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED", "_MLFLOW_SERVER_SERVE_ARTIFACTS", "_MLFLOW_SERVER_ARTIFACT_ROOT",
             "_MLFLOW_SERVER_ARTIFACT_DESTINATION", "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW",
             "MLFLOW_FLASK_SERVER_SECRET_KEY", "NOTIFY_SOCKET", "MLFLOW_SERVER_METRICS", "MLFLOW_AUTH_CONFIG_PATH")  # fmt: skip
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def set_to(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return set_to


# An inventory may say what it likes in mlflow_server_environment; where it is not "true", clients may name the store's addresses.
@pytest.mark.parametrize("served", ["true", "false", "yes"])
def test_mlflow_is_told_where_artifacts_are(environment, served):
    environment(
        MLFLOW_BACKEND_STORE_URI="postgresql://", MLFLOW_ARTIFACTS_DESTINATION="s3://b/a", MLFLOW_SERVE_ARTIFACTS=served
    )
    told.set_internal_variables()
    proxied = served == "true"
    assert os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] == ("mlflow-artifacts:/" if proxied else "s3://b/a")
    assert os.environ.get("_MLFLOW_SERVER_SERVE_ARTIFACTS") == ("true" if proxied else None)
    assert os.environ.get("_MLFLOW_SERVER_ARTIFACT_DESTINATION") == ("s3://b/a" if proxied else None)
    assert os.environ["_MLFLOW_SERVER_FILE_STORE"] == os.environ["_MLFLOW_SERVER_REGISTRY_STORE"] == "postgresql://"


@pytest.mark.parametrize("said, measured", [("true", True), ("false", False), ("zzz", False), ("", False), (None, False)])
def test_what_is_not_wanted_is_not_measured(environment, said, measured):
    if said is not None:
        environment(MLFLOW_SERVER_METRICS=said)
    assert application.is_measured() is measured


@pytest.mark.parametrize(
    "maximum, reserved, given, workers, size, overflow",
    [
        # 80 of 100, by 4 workers, less one for logins, by three pools: 6.
        (103, 3, 0, 4, 3, 3),
        # 0.8 * 97 / 3 = 25, less one, by three: 8.
        (100, 3, 0, 3, 4, 4),
        # Without the reserved ones: 0.8 * 90 / 3 = 24, less one, by three: 7.
        (120, 30, 0, 3, 4, 3),
        # What the inventory says is what there is.
        (100, 3, 400, 8, 7, 6),
        # Never less than four and never more than fifteen.
        (20, 3, 0, 16, 2, 2),
        (1000, 3, 0, 2, 8, 7),
    ],
)
def test_all_workers_of_all_hosts_leave_the_database_some_connections(
    environment, monkeypatch, maximum, reserved, given, workers, size, overflow
):
    rows = {"SHOW max_connections": str(maximum), "SHOW superuser_reserved_connections": str(reserved)}

    class Connection:
        def __enter__(self):
            return self

        def __exit__(self, *dummy):
            pass

        def execute(self, query):
            return types.SimpleNamespace(fetchone=lambda: (rows[query],))

    monkeypatch.setattr("mlflow_service.database.client.connect", Connection)
    environment(MLFLOW_SERVER_DATABASE_CONNECTIONS=given, MLFLOW_SERVER_WORKERS_OF_ALL_HOSTS=workers)
    application._fit_pools()
    found = [int(os.environ[f"MLFLOW_SQLALCHEMYSTORE_{name}"]) for name in ("POOL_SIZE", "MAX_OVERFLOW")]
    assert found == [size, overflow]
    least = 3 * application.POOL_LEAST + 1
    there = given or maximum - reserved
    assert workers * (3 * sum(found) + 1) <= 0.8 * there or 3 * sum(found) + 1 == least


def test_pools_leave_room_for_those_of_a_replica_and_fit_a_smaller_one(environment, monkeypatch):
    """While the replica is away, its pools are at the database."""
    maxima = {}

    class Connection:
        def __init__(self, about="service=mlflow"):
            self._maximum = maxima[about]

        def __enter__(self):
            return self

        def __exit__(self, *_exc):
            return None

        def execute(self, statement):
            return types.SimpleNamespace(fetchone=lambda: (self._maximum if statement == "SHOW max_connections" else 3,))

    def fitted():
        monkeypatch.delenv("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", raising=False)
        application._fit_pools()
        return sum(int(os.environ[f"MLFLOW_SQLALCHEMYSTORE_{name}"]) for name in ("POOL_SIZE", "MAX_OVERFLOW"))

    monkeypatch.setattr("mlflow_service.database.client.connect", Connection)
    monkeypatch.setenv("MLFLOW_READ_REPLICA_BACKEND_STORE_URI", "postgresql+psycopg2:///?service=mlflow_read")
    environment(MLFLOW_SERVER_DATABASE_CONNECTIONS=0, MLFLOW_SERVER_WORKERS_OF_ALL_HOSTS=4)
    maxima.update({"service=mlflow": 203, "service=mlflow_read": 203})
    assert 4 * (5 * fitted() + 1) <= 160 < 4 * (5 * (fitted() + 1) + 1)
    # What runs jobs has its own.
    environment(MLFLOW_SERVER_JOBS_AT_ONCE=2)
    assert 4 * (5 * fitted() + 1) + 25 * 0.8 <= 160 < 4 * (5 * (fitted() + 1) + 1) + 25 * 0.8
    monkeypatch.delenv("MLFLOW_SERVER_JOBS_AT_ONCE")
    maxima["service=mlflow_read"] = 60
    assert 4 * 2 * fitted() <= 48 < 4 * 2 * (fitted() + 1)


def test_pools_that_the_inventory_sizes_stay(environment, monkeypatch):
    monkeypatch.setattr("mlflow_service.database.client.connect", None)
    environment(MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=7)
    application._fit_pools()
    assert os.environ["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] == "7"
    assert "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW" not in os.environ


def test_the_key_of_flask_is_in_the_environment_only_while_mlflow_reads_it(environment, monkeypatch, tmp_path):
    (tmp_path / "flask-secret-key").write_text("key\n")
    key, fails = "MLFLOW_FLASK_SERVER_SECRET_KEY", []

    def create_app():
        if fails:
            raise RuntimeError
        return os.environ[key]

    for name in ("mlflow", "mlflow.server"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "mlflow.server.auth", types.SimpleNamespace(create_app=create_app))
    monkeypatch.setitem(sys.modules, "mlflow.server.fastapi_app", types.SimpleNamespace(app="without logins"))
    assert application._application() == "without logins"
    environment(MLFLOW_AUTH_CONFIG_PATH="/etc/mlflow/auth.ini", CREDENTIALS_DIRECTORY=tmp_path)
    assert application._application() == "key" and key not in os.environ
    fails.append(True)
    with pytest.raises(RuntimeError):
        application._application()
    assert key not in os.environ


INFO = "/api/3.0/mlflow/server-info"


def told_by(body, path=INFO, status=200, pieces=1):
    """What a client gets of it, with its headers."""
    sent, headers = [], [(b"cache-control", b"no-store"), (b"content-length", b"9"), (b"x-other", b"y")]

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        size = -(-len(body) // pieces)
        for number in range(pieces):
            part = body[number * size : (number + 1) * size]
            await send({"type": "http.response.body", "body": part, "more_body": number < pieces - 1})

    async def send(message):
        sent.append(message)

    asyncio.run(Proxied(app)({"type": "http", "path": path}, None, send))
    assert sent[0]["status"] == status
    return b"".join(message["body"] for message in sent[1:]), sorted(sent[0]["headers"])


@pytest.mark.parametrize("path", [INFO, "/ajax-api/3.0/mlflow/server-info"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_clients_are_not_sent_to_the_store(path, pieces):
    offered = {"multipart_upload": True, "presigned-multipart": {"x": 1}, "version": "3", "workspaces": True}
    body, headers = told_by(json.dumps(offered).encode(), path, pieces=pieces)
    assert json.loads(body) == {"multipart_upload": False, "presigned-multipart": False, "version": "3", "workspaces": True}
    # Two lengths would be an answer that no client takes.
    assert headers == [(b"cache-control", b"no-store"), (b"content-length", str(len(body)).encode()), (b"x-other", b"y")]


@pytest.mark.parametrize(
    "body, about",
    [(b'{"multipart": true}', {"path": "/api/2.0/mlflow/runs/get"}), (b'{"multipart": true}', {"status": 401}), (b"not JSON", {}),
     (b'["multipart"]', {})],
)  # fmt: skip
def test_what_is_no_offer_stays_as_it_is(body, about):
    assert told_by(body, **about)[0] == body


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_where_it_listens(environment, tmp_path, abstract):
    application.tell_systemd("READY=1")
    name = f"@mlflow-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listens:
        listens.bind("\0" + name[1:] if abstract else name)
        listens.settimeout(2)
        environment(NOTIFY_SOCKET=name)
        application.tell_systemd("READY=1\nSTATUS=x")
        assert listens.recv(100) == b"READY=1\nSTATUS=x"


def test_what_is_no_request_has_no_turn():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    for kind in ("lifespan", "websocket"):
        asyncio.run(Admission(app, 1)({"type": kind}, None, None))
    assert seen == [{"type": "lifespan"}, {"type": "websocket"}]


@pytest.mark.parametrize("path, needs", [
    (LIST, True), (GET, True), ("/model-versions/get-artifact", True), ("/ajax-api/2.0/mlflow/get-trace-artifact", True),
    ("/ajax-api/2.0/mlflow/upload-artifact", True), ("/api/2.0/mlflow/logged-models/m-1/artifacts/directories", True),
    ("/api/2.0/mlflow-artifacts/mpu/create/x", True), ("/api/2.0/mlflow/artifacts/presigned-upload-url", True),
    (RUN, False), ("/api/2.0/mlflow/logged-models/search", False), ("/get-artifact/x", False), ("/graphql", False),
])  # fmt: skip
def test_what_asks_the_store_has_turns_of_its_own(path, needs):
    assert bool(admission.STORE.fullmatch(path)) is needs
