# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The application that uvicorn runs: MLflow's own, started without its parent process.

`mlflow server` reads its options, passes them to the workers in internal variables (compat/environment.py)
and then stays in memory for nothing, hides uvicorn's exit code, keeps the Flask secret key in its
environment and can't be given a socket by systemd. Here each worker does that first step for itself:

    python -m mlflow_service --factory mlflow_service.application:create_app --fd 3 --workers N

The arguments are uvicorn's own. The first process imports MLflow once and the workers are forked from it, so they
share its memory and are ready in a second.

Beside MLflow's application there is what a service needs: /ready (http/ready.py), /metrics where it is wanted
(http/metrics.py), artifacts that pass through (transfer/), pools that fit the database, and an end that loses
no request. And there is what stands before MLflow on a server that is shared: the routes that there are
(http/routes.py), who is calling (http/logins.py), what a request may bring (http/bodies.py) and which addresses a
user may name (http/sources.py).

What MLflow, uvicorn and SQLAlchemy keep to themselves is touched in compat/ alone, and only where it is what somebody has read
(compat/ground.py). What is left out because it is another is named in the journal.
"""

import functools
import logging
import os
import signal
import sys
from pathlib import Path

from mlflow_service import keys
from mlflow_service.compat import (
    artifacts,
    auth,
    classic,
    environment,
    gateway,
    jobs,
    patches,
    processes,
    sources,
    store,
    traces,
    webhooks,
)
from mlflow_service.compat.ground import LEFT_OUT, Ground, with_logins
from mlflow_service.database import client, errors, schema
from mlflow_service.http import bodies, classic_calls, logins, malformed, metrics, routes
from mlflow_service.http.admission import Admission
from mlflow_service.http.proxied import Proxied
from mlflow_service.http.ready import Readiness
from mlflow_service.http.searches import Searches
from mlflow_service.states import tell_systemd
from mlflow_service.transfer import streams

# The share of the database's connections that the workers of all hosts may take together. Monitoring, backups and people
# need some as well.
CONNECTIONS_SHARE = 0.8
# Pools of a worker: tracking, registry, authentication. And one connection for logins.
POOLS, ALONE = 3, 1
# Those for a read replica, of tracking and registry, which come to the database while it is away.
REPLICA_POOLS = 2
# What runs jobs takes so many, and each of them so many more.
JOBS_TAKE, EACH_JOB_TAKES = 9, 8
# At most what SQLAlchemy takes by itself.
POOL_LEAST, POOL_MOST = 4, 15

_logger = logging.getLogger("uvicorn.error")


def is_measured():
    return os.environ.get("MLFLOW_SERVER_METRICS") == "true"


def _fit_pools():
    """Size the pools so that all workers of all hosts together leave the database some connections.

    The inventory's own figures come first: then MLFLOW_SQLALCHEMYSTORE_POOL_SIZE is set.
    """
    if os.environ.get("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"):
        return
    with client.connect() as connection:
        maximum = int(connection.execute("SHOW max_connections").fetchone()[0])
        reserved = int(connection.execute("SHOW superuser_reserved_connections").fetchone()[0])
    maximum = int(os.environ["MLFLOW_SERVER_DATABASE_CONNECTIONS"]) or maximum - reserved
    if at_once := int(os.environ.get("MLFLOW_SERVER_JOBS_AT_ONCE", "0")):
        maximum -= JOBS_TAKE + at_once * EACH_JOB_TAKES
    workers = int(os.environ["MLFLOW_SERVER_WORKERS_OF_ALL_HOSTS"])
    pools = POOLS + REPLICA_POOLS if environment.has_replica() else POOLS
    each = int((CONNECTIONS_SHARE * maximum / workers - ALONE) / pools)
    if environment.has_replica():
        with client.connect(client.REPLICA) as connection:
            there = int(connection.execute("SHOW max_connections").fetchone()[0])
        each = min(each, int(CONNECTIONS_SHARE * there / workers / REPLICA_POOLS))
    each = min(max(each, POOL_LEAST), POOL_MOST)
    # What a pool opens beyond its size it closes again, so that idle connections are few.
    overflow = each // 2
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] = str(each - overflow)
    os.environ["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"] = str(overflow)


def _application():
    """Return MLflow's ASGI application, with its basic authentication where that is configured."""
    if not with_logins():
        from mlflow.server.fastapi_app import app

        return app

    # The key comes from systemd's credential, is in the environment of this process while MLflow
    # reads it, and never in what the kernel shows of the process (/proc/PID/environ).
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = keys.handed(keys.SESSIONS)
    try:
        from mlflow.server.auth import create_app as create_auth_app

        return create_auth_app()
    finally:
        del os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"]


@functools.cache
def ground():
    """What of MLflow is as it was when somebody has read it. Imports MLflow."""
    return Ground(patches.ALL, os.environ.get(LEFT_OUT, "").split(), with_logins())


def _patch(fastapi_app):
    """Put what has ground to stand on into MLflow; returns the application that is asked, from the inside out."""
    from mlflow.server import app as flask_app

    used = ground().has
    if used(artifacts.STORING):
        artifacts.store_in_parts()
    if used(artifacts.DOWNLOADING):
        artifacts.fetch_in_parts(fastapi_app)
    artifacts.bound_parts()
    if used(artifacts.ABSENT):
        artifacts.tell_what_is_not_there()
    sources.keep_to_the_server()
    traces.look_at_traces(fastapi_app)
    if routes.WEBHOOKS not in routes.opened():
        webhooks.deliver_none()
    gateway.take_passphrase(routes.GATEWAY in routes.opened())
    if os.environ.get("MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS") == "true":
        jobs.keep_code_out(jobs.refused)
    if not used(classic.PATCH):
        return fastapi_app
    paths = classic_calls.classic_paths(flask_app, fastapi_app, classic.checked_before_flask(with_logins()))
    return classic_calls.ClassicCalls(fastapi_app, flask_app, paths)


def _guard(app, fastapi_app):
    """Put before it, from the outside in: who is calling, which routes there are, what the request brings, whose turn it is."""
    from mlflow.server import app as flask_app

    connections = sum(int(os.environ[f"MLFLOW_SQLALCHEMYSTORE_{name}"]) for name in ("POOL_SIZE", "MAX_OVERFLOW"))
    through = {"PUT": ground().has(artifacts.STORING), "GET": ground().has(artifacts.DOWNLOADING)}
    if routes.GATEWAY in routes.opened():
        # Its calls ask the database beside the turns, on the loop and so one at a time.
        connections -= 1
    admission = Admission(Proxied(app), connections, lambda scope: streams.is_stream(scope) and through[scope["method"]])
    app = routes.NoAssistant(Searches(admission) if environment.has_replica() else admission)
    app = bodies.Bodies(app, streams.is_upload)
    there = routes.Routes()
    routes.close_flask(flask_app, there)
    routes.tell(flask_app, there)
    app = routes.Doors(app, fastapi_app, there)
    # The cookie of the form on /signup goes by TLS only, where clients come by it.
    flask_app.config.update(
        SESSION_COOKIE_SECURE=os.environ.get("MLFLOW_SERVER_TLS") == "true", SESSION_COOKIE_SAMESITE="Lax"
    )
    if ground().has(auth.PATCH):
        app = logins.Logins(app, *auth.take_over())
    elif with_logins():
        auth.remember_nobody()
    return app


def _open_stores():
    """Open the stores now, and return them: a worker that can't reach its database must not be called ready."""
    stores = store.open_stores(with_logins())
    if environment.has_replica():
        for name in ("tracking", "registry"):
            store.search_in_the_replica(stores[name])
    if ground().has(store.READING):
        store.read_without_a_transaction(stores["tracking"])
    if ground().has(store.INPUTS):
        store.ask_for_no_inputs_of_a_new_run(stores["tracking"])
    stores["tracking"].get_experiment("0")
    return stores


def create_app():
    """Make the application for one worker; the first worker that gets here makes the unit ready."""
    # A fork has its parent's command line; this is what tells them apart.
    Path("/proc/self/comm").write_text("mlflow-worker", encoding="ascii")
    # Before anything is put into MLflow. In a fork that is done, and another process has to import it.
    import_everything()
    ground()
    # It has no request yet. uvicorn would only note that it shall end, and MLflow tries a database that does not let it in
    # for a hundred seconds.
    noted = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Before a store is opened: it would migrate a schema that is behind.
    schema.refuse_another(with_auth=with_logins(), replica=environment.has_replica())
    environment.set_internal_variables()
    _fit_pools()
    schema.begin_sessions_with("statement_timeout", f"{errors.STATEMENT_SECONDS}s")
    streams.give_up_in_time()
    fastapi_app = _application()
    app = _guard(_patch(fastapi_app), fastapi_app)
    errors.answer_what_went_wrong()
    malformed.answer_malformed_requests(sys.modules["mlflow.server"].app, fastapi_app)

    from mlflow.version import VERSION

    stores = _open_stores()
    if ground().has(processes.DRAINING):
        processes.Draining(stores.values())
    # From here on somebody is answered; before, the journal wants the driver's words, which MLflow puts there.
    errors.say_nothing_of_the_database()
    signal.signal(signal.SIGTERM, noted)
    tell_systemd(f"READY=1\nSTATUS=MLflow {VERSION} serves")
    app = Readiness(app, left_out=ground().left_out)
    app = metrics.measure(app, VERSION, stores) if is_measured() else app
    return bodies.Lingering(app)


def import_everything():
    """Import what the workers use. Nothing may be opened or started here: a fork would share it.

    The installation calls this too, so that the bytecode of what is imported is there.
    """
    # Before anything else of MLflow's, whose tables are defined with it.
    with webhooks.key_in_the_environment():
        import mlflow.store.model_registry.dbmodels.models  # noqa: F401

    import boto3  # noqa: F401
    import mlflow.server.fastapi_app
    import mlflow.store.artifact.s3_artifact_repo
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store
    import sqlalchemy.dialects.postgresql.psycopg2
    import sqlalchemy.orm
    import uvicorn.lifespan.on
    import uvicorn.loops.uvloop
    import uvicorn.middleware.proxy_headers
    import uvicorn.protocols.http.httptools_impl
    import uvicorn.protocols.websockets.auto
    import uvicorn.supervisors  # noqa: F401


    if with_logins():
        import mlflow.server.auth  # noqa: F401
    sqlalchemy.orm.configure_mappers()
