# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What is counted, and the routes that it is counted by: as many as MLflow has, however many paths are tried."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.http import metrics as mlflow_metrics  # noqa: E402

RULES = [
    "/",
    "/api/2.0/mlflow/runs/create",
    "/api/3.0/mlflow/traces/<trace_id>",
    "/api/3.0/mlflow/traces/<trace_id>/tags",
    "/static-files/<path:path>",
]


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/ready", "/ready"),
        ("/api/2.0/mlflow/runs/create", "/api/2.0/mlflow/runs/create"),
        ("/api/3.0/mlflow/traces/tr-1", "/api/3.0/mlflow/traces/<trace_id>"),
        ("/api/3.0/mlflow/traces/tr-1/tags", "/api/3.0/mlflow/traces/<trace_id>/tags"),
        ("/api/3.0/mlflow/traces/tr-1/more", "other"),
        ("/static-files/static/js/main.js", "/static-files/..."),
        ("/api/2.0/mlflow-artifacts/artifacts/1/a/b.bin", "/api/2.0/mlflow-artifacts/artifacts/..."),
        ("/api/2.0/mlflow/runs/create/", "other"),
        ("/wp-login.php", "other"),
        ("/api/2.0/mlflow/runsXcreate", "other"),
    ],
)
def test_a_path_has_a_route(path, route):
    assert mlflow_metrics.Routes(RULES).of(path) == route


def test_many_paths_are_few_routes():
    routes = mlflow_metrics.Routes(RULES)
    found = {routes.of(f"/api/3.0/mlflow/traces/{number}") for number in range(10000)}
    found |= {routes.of(f"/{number}") for number in range(10000)}
    assert found == {"/api/3.0/mlflow/traces/<trace_id>", "other"}
    assert routes.of.cache_info().currsize <= 4096


def test_a_rule_that_is_one_of_both_is_one_route():
    routes = mlflow_metrics.Routes(["/health", "/a.b/<name>"])
    assert routes.of("/health") == "/health" and routes.of("/a.b/x") == "/a.b/<name>" and routes.of("/aXb/x") == "other"
    # A parameter is one part of a path, and has something in it.
    assert routes.of("/a.b/x/y") == "other" and routes.of("/a.b/") == "other"


# --- what is counted; without prometheus_client, which the service has and the tests don't ---

VALUES: Counter[tuple] = Counter()


class Metric:
    """Any of the library's, as far as it is used; what it holds is in VALUES, by name and labels."""

    def __init__(self, name, text, labels=(), **options):
        self.name, self.names, self.values = name, labels, ()

    def labels(self, *values):
        assert len(values) == len(self.names)
        found = Metric(self.name, "", self.names)
        found.values = values
        return found

    def inc(self, step=1):
        VALUES[(self.name, *self.values)] += step

    def dec(self):
        self.inc(-1)

    def set(self, value):
        VALUES[(self.name, *self.values)] = value

    def observe(self, value):
        VALUES[(self.name, *self.values)] += value


@pytest.fixture
def values(monkeypatch):
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", "1")
    library = SimpleNamespace(
        Counter=Metric, Gauge=Metric, Histogram=Metric, CONTENT_TYPE_LATEST="text/plain; version=1", CollectorRegistry=list,
        generate_latest=lambda registry: b" ".join(registry),
        multiprocess=SimpleNamespace(MultiProcessCollector=lambda registry: registry.append(b"all of it")),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "prometheus_client", library)
    VALUES.clear()
    return VALUES


async def below(scope, receive, send):
    assert VALUES[("mlflow_requests_in_progress",)] == 1
    await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"MLflow", "status": 999})


def ask(metrics, path="/", method="GET", kind="http"):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(metrics({"type": kind, "path": path, "method": method}, None, send))
    return sent


@pytest.mark.parametrize(("method", "counted"), [("POST", "POST"), ("HEAD", "HEAD"), ("BREW", "other"), ("post", "other")])
def test_a_request_is_counted_by_method_route_and_status(values, method, counted):
    metrics = mlflow_metrics.Metrics(below, RULES, "3.17.2")
    for _ in range(2):
        assert [message.get("body") for message in ask(metrics, "/api/3.0/mlflow/traces/tr-1", method)] == [None, b"MLflow"]
    route = "/api/3.0/mlflow/traces/<trace_id>"
    assert values[("mlflow_requests", counted, route, "201")] == 2
    assert values[("mlflow_requests_in_progress",)] == 0 and values[("mlflow_info", "3.17.2")] == 1
    assert 0.04 <= values[("mlflow_request_seconds", counted, route)] < 2
    assert len(values) == 4


def test_a_request_that_breaks_off_is_counted_and_not_in_progress_any_more(values):
    async def breaks(scope, receive, send):
        raise ConnectionError

    with pytest.raises(ConnectionError):
        ask(mlflow_metrics.Metrics(breaks, RULES, "x"))
    assert values[("mlflow_requests", "GET", "/", "none")] == 1 and values[("mlflow_requests_in_progress",)] == 0


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_no_request_is_not_counted(values, kind):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    ask(mlflow_metrics.Metrics(app, RULES, "x"), "/metrics", kind=kind)
    assert seen == [kind] and set(values) == {("mlflow_info", "x")}


@pytest.mark.parametrize(("method", "body"), [("GET", b"all of it"), ("HEAD", b""), ("POST", b"all of it")])
def test_metrics_are_told_and_count_nothing(values, tmp_path, monkeypatch, method, body):
    monkeypatch.setattr(mlflow_metrics, "FOLDER", str(tmp_path))
    start, end = ask(mlflow_metrics.Metrics(below, RULES, "x"), "/metrics", method)
    headers = dict(start["headers"])
    assert start["status"] == 200 and end["body"] == body and headers[b"content-length"] == b"9"
    assert headers[b"content-type"] == b"text/plain; version=1" and headers[b"cache-control"] == b"no-store"
    assert set(values) == {("mlflow_info", "x")}


def connections(values):
    return [values[("mlflow_database_connections", "tracking", state)] for state in ("open", "in_use", "maximum")]


def test_connections_are_counted_as_they_come_and_go(values):
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=3, max_overflow=1)
    kept, used = engine.connect(), engine.connect()
    used.close()
    mlflow_metrics.Metrics(below, RULES, "x").watch("tracking", engine)
    assert connections(values) == [2, 1, 4]
    more = [engine.connect() for _ in range(3)]
    assert connections(values) == [4, 4, 4]
    for connection in more:
        connection.close()
    assert connections(values) == [4, 1, 4]
    kept.close()
    engine.dispose()
    assert connections(values) == [0, 0, 4]


def test_what_a_dead_worker_had_in_progress_is_forgotten_and_what_it_counted_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow_metrics, "FOLDER", str(tmp_path))
    gone = subprocess.Popen(["true"])
    gone.wait()
    live = f"gauge_livesum_{os.getpid()}.db"
    names = {live, f"gauge_livesum_{gone.pid}.db", f"counter_{gone.pid}.db"}
    for name in names:
        (tmp_path / name).touch()
    mlflow_metrics._forget_dead_workers()
    assert {path.name for path in tmp_path.iterdir()} == {live, f"counter_{gone.pid}.db"}


def test_the_folder_is_made_once_and_for_nobody_else(tmp_path, monkeypatch):
    folder = tmp_path / "metrics"
    monkeypatch.setattr(mlflow_metrics, "FOLDER", str(folder))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    for _ in range(2):
        mlflow_metrics.prepare()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(folder)


@pytest.mark.parametrize("with_auth", [False, True])
def test_all_pools_of_a_worker_are_watched(values, monkeypatch, with_auth):
    engines = [create_engine("sqlite://", poolclass=QueuePool, pool_size=size, max_overflow=1) for size in (2, 3, 4)]
    stores = [SimpleNamespace(engine=engine) for engine in engines]
    rules = SimpleNamespace(iter_rules=lambda: [SimpleNamespace(rule="/a/<x>")])
    for name, module in (("mlflow", SimpleNamespace()), ("mlflow.server", SimpleNamespace(app=SimpleNamespace(url_map=rules)))):
        monkeypatch.setitem(sys.modules, name, module)
    named = dict(zip(("tracking", "registry", "authentication")[: 3 if with_auth else 2], stores, strict=False))
    ask(mlflow_metrics.measure(below, "3.17.2", named), "/a/1")
    maxima = {key[1]: value for key, value in values.items() if key[0] == "mlflow_database_connections" and key[2] == "maximum"}
    assert maxima == {"tracking": 3, "registry": 4, **({"authentication": 5} if with_auth else {})}
    assert values[("mlflow_requests", "GET", "/a/<x>", "201")] == 1
