# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Ways round work that MLflow does for every request and that most requests do not need.

What is asked, who may ask it and what is answered stay as they are; docs/performance.md has what each is worth.
"""

import asyncio
import contextvars
import copy
from concurrent.futures import ThreadPoolExecutor

METHODS = frozenset(["GET", "POST", "PUT", "PATCH", "DELETE"])
PREFIXES = ("/api/2.0/mlflow/", "/api/3.0/mlflow/")
# As many as MLflow's own bridge has.
THREADS = 40


def classic_paths(flask_app, fastapi_app, checked=lambda path, method: False):
    """The paths of the REST API that are Flask's alone, without parameters in them.

    A path that a route of FastAPI could match, whatever the method, is none of them; nor is one that FastAPI's
    authentication checks (`checked`) before Flask does.
    """
    # Flask is mounted at "", below all of them. A match is none (0), of the path alone (1), or whole (2).
    native = [route for route in fastapi_app.routes if getattr(route, "path", None) != ""]

    def is_native(path):
        scope = {"type": "http", "path": path, "method": "GET", "root_path": "", "headers": [], "path_params": {}}
        return any(route.matches(scope)[0].value for route in native)

    return frozenset(
        rule.rule
        for rule in flask_app.url_map.iter_rules()
        if rule.rule.startswith(PREFIXES)
        and not rule.arguments
        and not is_native(rule.rule)
        and not any(checked(rule.rule, method) for method in METHODS)
    )


class ClassicCalls:
    """An ASGI application that hands the classic REST calls to Flask itself and leaves the rest to another one.

    MLflow has Flask below FastAPI, whose layers, each a task of its own, cost more than the call. Flask's own checks of
    host, origin, login and permission are those that MLflow has where it runs on Flask alone, and they stay. What a
    browser sends from a page (Origin) goes the whole way.
    """

    def __init__(self, app, wsgi, paths):
        self._app = app
        self._wsgi = wsgi
        self._paths = paths
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="classic")

    async def __call__(self, scope, receive, send):
        if (
            scope["type"] != "http"
            or scope["path"] not in self._paths
            or scope["method"] not in METHODS
            or any(name == b"origin" for name, _ in scope["headers"])
        ):
            await self._app(scope, receive, send)
            return
        parts, more = [], True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        call = contextvars.copy_context().run
        work = asyncio.get_running_loop().run_in_executor(self._threads, call, self._ask, scope, b"".join(parts))
        status, headers, body = await work
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _ask(self, scope, body):
        from starlette.middleware.wsgi import build_environ

        begin = []

        def start_response(status, headers, exc_info=None):
            begin[:] = [int(status.split(" ", 1)[0]), headers]

        answer = self._wsgi(build_environ(scope, body), start_response)
        try:
            content = b"".join(answer)
        finally:
            if hasattr(answer, "close"):
                answer.close()
        status, headers = begin
        return status, [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers], content


# What reads one thing by two statements, of which each is right for itself.
READS = ("get_experiment", "get_experiment_by_name", "get_run")


def ask_a_store_less(store):
    """Let MLflow's store of runs take fewer and cheaper ways to the database.

    - READS do without a transaction, whose begin and end are two of the four trips to the database that they take.
    - The tags of an experiment are asked for by its id, as MLflow asks for a run's, and not by the whole query once more,
      which SQLAlchemy can't keep and puts together each time.
    - Whether a run that is just being made has inputs is not asked.
    """
    from mlflow.store.db.utils import _get_managed_session_maker
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlRun
    from sqlalchemy.orm import selectinload, sessionmaker

    # Whatever calls the store's own get_experiment, as create_run does, takes this way, too.
    reader = copy.copy(store)
    maker = sessionmaker(bind=store.engine.execution_options(isolation_level="AUTOCOMMIT"))
    reader.ManagedSessionMaker = _get_managed_session_maker(maker, store.db_type)
    reader._get_eager_experiment_query_options = lambda: [selectinload(SqlExperiment.tags)]
    for name in READS:
        setattr(store, name, getattr(reader, name))

    asks = store._get_run_inputs

    def _get_run_inputs(session, run_uuids):
        made = {item.run_uuid for item in session.new if isinstance(item, SqlRun)}
        return [[] for _ in run_uuids] if made.issuperset(run_uuids) else asks(session, run_uuids)

    store._get_run_inputs = _get_run_inputs
