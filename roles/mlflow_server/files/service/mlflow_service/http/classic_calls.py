# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Ways round work that MLflow does for every request and that most requests do not need.

What is asked, who may ask it and what is answered stay as they are; docs/performance.md has what each is worth.
"""

import asyncio
import contextvars
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
