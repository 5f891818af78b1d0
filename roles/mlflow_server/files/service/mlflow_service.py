# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The application that uvicorn runs: MLflow's own, started without its parent process.

`mlflow server` reads its options, passes them to the workers in the internal variables set below
and then stays in memory for nothing, hides uvicorn's exit code, keeps the Flask secret key in its
environment and can't be given a socket by systemd. Here each worker does that first step for itself:

    python mlflow_service.py --factory mlflow_service:create_app --fd 3 --workers N

The arguments are uvicorn's own. The first process imports MLflow once and the workers are forked from it, so they
share its memory and are ready in a second.

Beside MLflow's application there is what a service needs: /ready (mlflow_ready.py), /metrics where it is wanted
(mlflow_metrics.py), artifacts that pass through (mlflow_artifacts.py), pools that fit the database, and an end that loses
no request. And there is what stands before MLflow on a server that is shared: the routes that there are
(mlflow_routes.py), who is calling (mlflow_logins.py), what a request may bring (mlflow_bodies.py) and which addresses a
user may name (mlflow_sources.py).

The internal variables belong to MLflow and may change with any version, so the versions that this
file was tested with are named, and any other one is reported in the journal.
"""

import asyncio
import gc
import logging
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import mlflow_artifacts
import mlflow_bodies
import mlflow_connection
import mlflow_logins
import mlflow_malformed
import mlflow_metrics
import mlflow_routes
import mlflow_schema
import mlflow_shortcuts
import mlflow_sources
from mlflow_ready import Readiness

TESTED_VERSIONS = ("3.17.2",)
# The share of the database's connections that the workers of all hosts may take together. Monitoring, backups and people
# need some as well.
CONNECTIONS_SHARE = 0.8
# Pools of a worker: tracking, registry, authentication. And one connection for logins.
POOLS, ALONE = 3, 1
# At most what SQLAlchemy takes by itself.
POOL_LEAST, POOL_MOST = 4, 15

_logger = logging.getLogger("uvicorn.error")


def _set_internal_variables():
    """Say in MLflow's internal variables what the public ones say."""
    store = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ.update(
        _MLFLOW_SERVER_FILE_STORE=store,
        _MLFLOW_SERVER_REGISTRY_STORE=store,
        _MLFLOW_SGI_NAME="uvicorn",
        _MLFLOW_IN_JOB_EXECUTOR="false",
        # The role makes the administrator before the first start, so that no worker needs a password.
        _MLFLOW_AUTH_ADMIN_BOOTSTRAPPED="true",
    )
    artifacts = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    if os.environ["MLFLOW_SERVE_ARTIFACTS"] == "true":
        os.environ.update(
            _MLFLOW_SERVER_SERVE_ARTIFACTS="true",
            _MLFLOW_SERVER_ARTIFACT_ROOT="mlflow-artifacts:/",
            _MLFLOW_SERVER_ARTIFACT_DESTINATION=artifacts,
        )
    else:
        os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = artifacts


def _is_measured():
    return os.environ.get("MLFLOW_SERVER_METRICS") == "true"


def _fit_pools():
    """Size the pools so that all workers of all hosts together leave the database some connections.

    The inventory's own figures come first: then MLFLOW_SQLALCHEMYSTORE_POOL_SIZE is set.
    """
    if os.environ.get("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"):
        return
    with mlflow_connection.connect() as connection:
        maximum = int(connection.execute("SHOW max_connections").fetchone()[0])
        reserved = int(connection.execute("SHOW superuser_reserved_connections").fetchone()[0])
    maximum = int(os.environ["MLFLOW_SERVER_DATABASE_CONNECTIONS"]) or maximum - reserved
    workers = int(os.environ["MLFLOW_SERVER_WORKERS_OF_ALL_HOSTS"])
    each = int((CONNECTIONS_SHARE * maximum / workers - ALONE) / POOLS)
    each = min(max(each, POOL_LEAST), POOL_MOST)
    # What a pool opens beyond its size it closes again, so that idle connections are few.
    overflow = each // 2
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] = str(each - overflow)
    os.environ["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"] = str(overflow)


def _application():
    """Return MLflow's ASGI application, with its basic authentication where that is configured."""
    if not os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
        from mlflow.server.fastapi_app import app

        return app

    # The key comes from systemd's credential, is in the environment of this process while MLflow
    # reads it, and never in what the kernel shows of the process (/proc/PID/environ).
    key = Path(os.environ["CREDENTIALS_DIRECTORY"], "flask-secret-key").read_text(encoding="utf-8").strip()
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = key
    try:
        from mlflow.server.auth import create_app as create_auth_app

        return create_auth_app()
    finally:
        del os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"]


def _keep_artifacts_proxied():
    """Do not send clients to S3 with signed addresses: they need reach nothing but this server.

    MLflow offers that by itself wherever the store can sign, and a client that can't reach or
    does not trust the store then fails instead of asking the server for the file.
    """
    from mlflow.server import server_info_api

    offered = server_info_api.build_server_info_payload

    def proxied():
        return {name: False if "multipart" in name else value for name, value in offered().items()}

    server_info_api.build_server_info_payload = proxied


# What a client is told where the database fails.
AWAY = "The database does not answer."


def _answer_what_went_wrong():
    """Answer 503, which clients try again, where the database went away in the middle of a call.

    Flask makes a 500 of it where a check before or after the call fails, and where a transaction can't even be taken
    back on a connection that has ended.
    """
    from flask import Response
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
    from mlflow.server import app
    from sqlalchemy.exc import OperationalError

    def answer(error):
        cause = getattr(error, "original_exception", None)
        if isinstance(cause, OperationalError):
            cause = MlflowException(AWAY, TEMPORARILY_UNAVAILABLE)
        if not isinstance(cause, MlflowException):
            return error
        return Response(cause.serialize_as_json(), cause.get_http_status_code(), mimetype="application/json")

    app.register_error_handler(500, answer)


def _say_nothing_of_the_database():
    """Have every failure of the database be told in one sentence: MLflow passes on the driver's words, which name its address,
    a role and the statement. Those are for the journal.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.exc import OperationalError

    class Unavailable(OperationalError):
        def __init__(self, error):
            super().__init__(None, None, error)

        def __str__(self):
            took_long = getattr(self.orig, "pgcode", None) == "57014"
            return f"This takes the database longer than {STATEMENT_SECONDS} s." if took_long else AWAY

    @event.listens_for(Engine, "handle_error")
    def say_less(context):
        # The pool looks at what its own question has met.
        if isinstance(context.sqlalchemy_exception, OperationalError) and not context.is_pre_ping:
            _logger.error("the database: %s", " ".join(str(context.original_exception).split()))
            raise Unavailable(context.original_exception)


def _open_stores():
    """Open the stores now, and return them: a worker that can't reach its database must not be called ready."""
    from mlflow.server.handlers import _get_model_registry_store, _get_tracking_store

    store = _get_tracking_store()
    mlflow_shortcuts.ask_a_store_less(store)
    store.get_experiment("0")
    stores = [store, _get_model_registry_store()]
    if os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
        from mlflow.server import auth

        stores.append(auth.store)
    return stores


def _tell_systemd(message):
    """Send a state to systemd, as sd_notify(3) does."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.connect(path)
        connection.sendall(message.encode())


# What asks the artifact store while Flask waits for it: lists, files of the web page, and all of the proxy's but its streams.
STORE = re.compile(
    r"/(ajax-)?api/[0-9.]+/("
    r"mlflow-artifacts/.*|mlflow/(artifacts/(list|presigned-[a-z-]+)|get-trace-artifact|upload-artifact|logged-models/[^/]+/artifacts/.*)"
    r")|/get-artifact|/model-versions/get-artifact"
)
# How many may ask the store at once, and for how many seconds others wait for that. One user has half of it at most.
STORE_TURNS, STORE_WAIT = 8, 30.0
# It may list artifacts too, whatever else it asks.
GRAPHQL, GRAPHQL_TURNS = "/graphql", 4
# Of all turns, those that one user may have at most.
MOST = 3 / 4
# For how many seconds a statement of a request may take; nginx waits no longer for an answer.
STATEMENT_SECONDS = 300


class Admission:
    """Lets no more requests at a time into a worker than its pools can serve; the others wait for their turn.

    Many of MLflow's requests take a second connection while they hold a first one. As many requests as a pool has
    connections can then hold all of them and wait for one another, until they fail after 30 seconds. With one less in, one of
    them always goes on.

    What needs the artifact store has turns of its own: it needs the database for a moment only, and a store that does not
    answer must not stop those who log metrics.

    One user has most of the turns and never all of them, so that his long searches leave room for others.
    """

    FREE = ("/static-files/", "/health")

    def __init__(self, app, connections):
        self._app = app
        self._limit = max(connections - 1, 1)
        self._turns = self._graphql = self._store = None

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Made here, since they belong to the loop that runs.
        if self._turns is None:
            self._turns = mlflow_bodies.Budget(self._limit, max(int(self._limit * MOST), min(self._limit, 2)))
            self._graphql = asyncio.Semaphore(min(GRAPHQL_TURNS, self._limit))
            self._store = mlflow_bodies.Budget(STORE_TURNS)
        path = scope["path"]
        # Streams have a budget and threads of their own.
        if path.startswith(self.FREE) or mlflow_artifacts.is_stream(scope):
            await self._carry_out(scope, receive, send)
        elif STORE.fullmatch(path):
            await self._with_the_store(scope, receive, send)
        elif path == GRAPHQL:
            async with self._graphql:
                await self._in_turn(scope, receive, send)
        else:
            await self._in_turn(scope, receive, send)

    async def _in_turn(self, scope, receive, send):
        owner = mlflow_bodies.owner_of(scope)
        await self._turns.acquire(1, owner)
        await self._with_one_of(self._turns, owner, scope, receive, send)

    async def _with_the_store(self, scope, receive, send):
        owner = mlflow_bodies.owner_of(scope)
        try:
            async with asyncio.timeout(STORE_WAIT):
                await self._store.acquire(1, owner)
        except TimeoutError:
            said = b"The artifact store is slow, and others are waiting for it already; try again."
            await mlflow_bodies.answer(send, 503, said, [(b"retry-after", b"10")])
            return
        await self._with_one_of(self._store, owner, scope, receive, send)

    async def _with_one_of(self, turns, owner, scope, receive, send):
        """With a turn that was taken, and is given back."""
        try:
            await self._carry_out(scope, receive, send)
        finally:
            turns.release(1, owner)

    async def _carry_out(self, scope, receive, send):
        # Here and not before: whoever lost a right while the request waited must not get it carried out.
        refusal = await mlflow_logins.refusal_of(scope)
        if refusal:
            await mlflow_bodies.answer(send, *refusal)
        else:
            await self._app(scope, receive, send)


class Draining:
    """Ends a worker without losing a request.

    uvicorn closes the idle connections at once when it is told to stop, and what nginx is just sending on one of them
    is lost: nginx does not send a POST twice. Here the worker stops to accept (systemd holds the socket, so whoever
    connects is served by another worker, or waits for it), answers what comes on the connections that are open with
    `Connection: close`, and leaves it to the clients to close those that are idle.
    """

    def __init__(self, stores=()):
        from uvicorn.server import Server

        self._stores = stores
        self._seconds = float(os.environ.get("MLFLOW_SERVER_DRAIN_SECONDS", "300"))
        original = Server.shutdown

        async def shutdown(server, sockets=None):
            await self._drain(server)
            await original(server, sockets=sockets)

        Server.shutdown = shutdown

    async def _drain(self, server):
        for listener in server.servers:
            listener.close()
        # The processes that come need these connections; who still works opens one when he has to.
        for store in self._stores:
            store.engine.dispose()
        state = server.server_state
        # Nobody sets them anew any more; uvicorn does while it serves.
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        # What was accepted in this instant is not among the connections yet.
        await asyncio.sleep(0.2)
        deadline = time.monotonic() + self._seconds
        while (state.connections or state.tasks) and not server.force_exit and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if state.connections:
            _logger.warning("%d connections were still open after %.0f s", len(state.connections), self._seconds)


def _take_shortcuts(app):
    """Put the ways of mlflow_shortcuts.py round MLflow's application."""
    from mlflow.server import app as flask_app

    checked = {}
    if os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
        from mlflow.server import auth

        checked = {"checked": auth._find_fastapi_validator}
    return mlflow_shortcuts.ClassicCalls(app, flask_app, mlflow_shortcuts.classic_paths(flask_app, app, **checked))


def _guard(app, fastapi_app):
    """Put before it, from the outside in: who is calling, which routes there are, what the request brings, whose turn it is."""
    from mlflow.server import app as flask_app
    from mlflow.server import otel_api

    connections = sum(int(os.environ[f"MLFLOW_SQLALCHEMYSTORE_{name}"]) for name in ("POOL_SIZE", "MAX_OVERFLOW"))
    mlflow_bodies.bound_expansion(otel_api)
    app = mlflow_routes.NoAssistant(Admission(app, connections))
    app = mlflow_bodies.Bodies(app, mlflow_artifacts.is_upload)
    routes = mlflow_routes.Routes()
    mlflow_routes.close_flask(flask_app, routes)
    mlflow_routes.tell(flask_app, routes)
    app = mlflow_routes.Doors(app, fastapi_app, routes)
    # The cookie of the form on /signup goes by TLS only, where clients come by it.
    flask_app.config.update(
        SESSION_COOKIE_SECURE=os.environ.get("MLFLOW_SERVER_TLS") == "true", SESSION_COOKIE_SAMESITE="Lax"
    )
    if os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
        from mlflow.server import auth

        app = mlflow_logins.Logins(app, *mlflow_logins.take_over(auth))
    return app


def create_app():
    """Make the application for one worker; the first worker that gets here makes the unit ready."""
    # A fork has its parent's command line; this is what tells them apart.
    Path("/proc/self/comm").write_text("mlflow-worker", encoding="ascii")
    # It has no request yet. uvicorn would only note that it shall end, and MLflow tries a database that does not let it in
    # for a hundred seconds.
    noted = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Before a store is opened: it would migrate a schema that is behind.
    mlflow_schema.refuse_another(with_auth=bool(os.environ.get("MLFLOW_AUTH_CONFIG_PATH")))
    _set_internal_variables()
    _fit_pools()
    mlflow_schema.begin_sessions_with("statement_timeout", f"{STATEMENT_SECONDS}s")
    mlflow_artifacts.give_up_in_time()
    fastapi_app = _application()
    mlflow_artifacts.pass_through(fastapi_app)
    mlflow_sources.keep_to_the_server()
    app = _guard(_take_shortcuts(fastapi_app), fastapi_app)
    _keep_artifacts_proxied()
    _answer_what_went_wrong()
    mlflow_malformed.answer_malformed_requests(sys.modules["mlflow.server"].app, fastapi_app)

    from mlflow.version import VERSION

    if VERSION not in TESTED_VERSIONS:
        _logger.warning("MLflow %s: this service was tested with %s", VERSION, ", ".join(TESTED_VERSIONS))
    Draining(_open_stores())
    # From here on somebody is answered; before, the journal wants the driver's words, which MLflow puts there.
    _say_nothing_of_the_database()
    signal.signal(signal.SIGTERM, noted)
    _tell_systemd(f"READY=1\nSTATUS=MLflow {VERSION} serves")
    app = Readiness(app)
    app = mlflow_metrics.measure(app, VERSION) if _is_measured() else app
    return mlflow_bodies.Lingering(app)


def import_everything():
    """Import what the workers use. Nothing may be opened or started here: a fork would share it.

    The installation calls this too, so that the bytecode of what is imported is there.
    """
    import boto3  # noqa: F401
    import mlflow.server.fastapi_app
    import mlflow.store.artifact.s3_artifact_repo
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow_engine  # noqa: F401
    import sqlalchemy.dialects.postgresql.psycopg2
    import sqlalchemy.orm
    import uvicorn.lifespan.on
    import uvicorn.loops.uvloop
    import uvicorn.middleware.proxy_headers
    import uvicorn.protocols.http.httptools_impl
    import uvicorn.protocols.websockets.auto
    import uvicorn.supervisors  # noqa: F401

    if os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
        import mlflow.server.auth  # noqa: F401
    sqlalchemy.orm.configure_mappers()


def main():
    """Be uvicorn, whose workers are forks of this process."""
    import multiprocessing

    import uvicorn
    import uvicorn._subprocess

    gc.disable()
    _set_internal_variables()
    if _is_measured():
        mlflow_metrics.prepare()
    import_everything()
    # What is there now stays, so the collector need neither look at it nor write to it, which would copy it.
    gc.freeze()
    gc.enable()
    uvicorn._subprocess.spawn = multiprocessing.get_context("fork")
    sys.exit(uvicorn.main())


if __name__ == "__main__":
    main()
