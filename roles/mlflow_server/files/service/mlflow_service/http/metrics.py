# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""GET /metrics: what this server does, in the words of Prometheus.

MLflow's own exporter counts the routes of Flask alone; artifacts, OpenTelemetry and server-info go past it. Here all
that comes is counted, around the whole application. The workers write into files of one folder and whichever is asked
adds them up. nginx says who may ask; a login is not needed.

    mlflow_requests_total{method, route, status}
    mlflow_request_seconds{method, route}        until the last byte of the answer
    mlflow_requests_in_progress
    mlflow_database_connections{pool, state}     open, in_use; and maximum, to compare the others with
    mlflow_info{version}

A route is a path of MLflow's as it is written there, with /... for what comes below artifacts, and `other` for what is
no path of MLflow's: however many paths somebody tries, there are no more routes than MLflow has.
"""

import asyncio
import functools
import os
import re
import time
from pathlib import Path

PATH = "/metrics"
# In the unit's own /tmp (PrivateTmp), which is new at each start and another one in mlflow-next.service.
FOLDER = "/tmp/mlflow-metrics"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
# Those of the routes that are not Flask's.
NATIVE = (
    "/health",
    "/ready",
    "/v1/traces",
    "/api/2.0/mlflow-artifacts/artifacts/<path:path>",
    "/ajax-api/2.0/mlflow-artifacts/artifacts/<path:path>",
)


class Routes:
    """Which route a path is of."""

    def __init__(self, rules):
        rules = list(dict.fromkeys([*NATIVE, *rules]))
        self._exact = {rule for rule in rules if "<" not in rule}
        self._patterns = [(re.compile(self._pattern(rule)), self._name(rule)) for rule in rules if "<" in rule]
        self.of = functools.lru_cache(maxsize=4096)(self._of)

    @staticmethod
    def _pattern(rule):
        parts = re.split(r"(<[^>]*>)", rule)
        return "".join((".+" if part.startswith("<path:") else "[^/]+") if part[:1] == "<" else re.escape(part) for part in parts)

    @staticmethod
    def _name(rule):
        return re.sub(r"<path:.*", "...", rule)

    def _of(self, path):
        if path in self._exact:
            return path
        return next((name for pattern, name in self._patterns if pattern.fullmatch(path)), "other")


class Metrics:
    """An ASGI application that measures another one, and answers PATH itself."""

    def __init__(self, app, rules, version):
        from prometheus_client import Counter, Gauge, Histogram

        self._app = app
        self._routes = Routes(rules)
        self._requests = Counter("mlflow_requests", "Requests that were answered.", ["method", "route", "status"])
        self._seconds = Histogram(
            "mlflow_request_seconds", "Until the last byte of the answer.", ["method", "route"], buckets=BUCKETS
        )
        self._in_progress = Gauge(
            "mlflow_requests_in_progress", "Requests that are being answered.", multiprocess_mode="livesum"
        )
        self._connections = Gauge(
            "mlflow_database_connections",
            "Connections of the pools of all workers of this host: open, in use, and as many as there may be.",
            ["pool", "state"],
            multiprocess_mode="livesum",
        )
        Gauge("mlflow_info", "The version of MLflow.", ["version"], multiprocess_mode="max").labels(version).set(1)

    def watch(self, name, engine):
        """Count the connections of one of SQLAlchemy's engines."""
        from sqlalchemy import event

        opened, used = self._connections.labels(name, "open"), self._connections.labels(name, "in_use")
        pool = engine.pool
        # MLflow has opened the stores by now.
        opened.set(pool.checkedin() + pool.checkedout())
        used.set(pool.checkedout())
        self._connections.labels(name, "maximum").set(pool.size() + int(os.environ["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"]))
        for what, gauge, step in (("connect", opened, 1), ("close", opened, -1), ("checkout", used, 1), ("checkin", used, -1)):
            event.listen(engine, what, functools.partial(self._step, gauge, step))

    @staticmethod
    def _step(gauge, step, *dummy):
        gauge.inc(step)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == PATH:
            await self._answer(scope, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = self._routes.of(scope["path"])
        # Where nothing is sent, the client went away or the application broke off.
        status = "none"

        async def note(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        begun = time.perf_counter()
        self._in_progress.inc()
        try:
            await self._app(scope, receive, note)
        finally:
            self._in_progress.dec()
            self._seconds.labels(method, route).observe(time.perf_counter() - begun)
            self._requests.labels(method, route, status).inc()

    async def _answer(self, scope, send):
        from prometheus_client import CONTENT_TYPE_LATEST

        body = await asyncio.to_thread(self._collect)
        headers = [
            (b"content-type", CONTENT_TYPE_LATEST.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    @staticmethod
    def _collect():
        from prometheus_client import CollectorRegistry, generate_latest, multiprocess

        _forget_dead_workers()
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry)


def _forget_dead_workers():
    """Remove what a worker that is gone had in progress; what it counted stays."""
    for file in Path(FOLDER).glob("gauge_live*.db"):
        if not os.path.exists(f"/proc/{file.stem.rpartition('_')[2]}"):
            file.unlink(missing_ok=True)


def prepare():
    """Make the folder; the library asks for it when it is imported, which MLflow may do."""
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = FOLDER


def measure(app, version, stores):
    """
    Wrap the application.

    :arg stores: MLflow's stores, opened, by their names.
    """
    from mlflow.server import app as flask_app

    metrics = Metrics(app, [rule.rule for rule in flask_app.url_map.iter_rules()], version)
    for name, store in stores.items():
        metrics.watch(name, store.engine)
    return metrics
