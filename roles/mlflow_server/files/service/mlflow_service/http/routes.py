# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which routes of MLflow there are on a shared server: those that somebody has looked at, and no others.

MLflow is made for one person's machine, too. Its assistant runs commands on the host for whoever it takes for a person in
front of it, other routes start jobs, call models of other firms or fill the database with demonstrations. None of these
exists here, but for what a variable of its own opens (FLASK_OF). What is not in this list is answered with 404, whoever asks;
so is what a later version of MLflow adds, until it is looked at, and mlflow_server_extra_routes opens it. The journal names
those of Flask's at the start.

Looked at in 3.17.0 and 3.17.2, whose routes are the same: tests/security compares this list with MLflow's own.
"""

import functools
import logging
import os
import re

from mlflow_service.http.bodies import answer

# A path begins with /api for programs and with /ajax-api for the web page.
API = ("api", "ajax-api")
# What is never opened, whatever extra routes say: it is for a person at the host itself.
NEVER = re.compile(r"/(ajax-)?api/[0-9.]+/mlflow/assistants?(/|$)")
# Nor do extra routes open one that a later version has somewhere else. A user's own names may well be the same word.
NO_EXTRA = re.compile(r"/assistants?(/|$)")
# Nor the AI gateway where it is off: it would have no passphrase for its keys.
OF_GATEWAY = re.compile(r"/gateway/|/(ajax-)?api/[0-9.]+/mlflow/gateway/")

# Flask's rules and methods. gateway-proxy tells the web page that there is no gateway, unless the unit's environment names one
# (MLFLOW_DEPLOYMENTS_TARGET).
FLASK = """
/ GET
/ajax-api/2.0/mlflow/experiments/search-datasets POST
/ajax-api/2.0/mlflow/gateway-proxy GET,POST
/ajax-api/2.0/mlflow/get-trace-artifact GET
/ajax-api/2.0/mlflow/logged-models/<model_id>/artifacts/files GET
/ajax-api/2.0/mlflow/metrics/get-history-bulk GET
/ajax-api/2.0/mlflow/runs/create-promptlab-run POST
/ajax-api/2.0/mlflow/upload-artifact POST
/ajax-api/3.0/mlflow/get-trace-artifact GET
/ajax-api/3.0/mlflow/ui-telemetry GET,POST
/api/2.0/mlflow/users/create-ui POST
/build/<path:filename> GET
/get-artifact GET
/graphql GET,POST
/health GET
/model-versions/get-artifact GET
/signup GET
/static-files/<path:path> GET
/version GET
/{api}/2.0/mlflow-artifacts/artifacts GET
/{api}/2.0/mlflow-artifacts/artifacts/<path:artifact_path> DELETE,GET,PUT
/{api}/2.0/mlflow-artifacts/mpu/abort/<path:artifact_path> POST
/{api}/2.0/mlflow-artifacts/mpu/complete/<path:artifact_path> POST
/{api}/2.0/mlflow-artifacts/mpu/create/<path:artifact_path> POST
/{api}/2.0/mlflow-artifacts/presigned/<path:artifact_path> GET
/{api}/2.0/mlflow/artifacts/list GET
/{api}/2.0/mlflow/artifacts/presigned-download-url POST
/{api}/2.0/mlflow/artifacts/presigned-upload-url POST
/{api}/2.0/mlflow/experiments/create POST
/{api}/2.0/mlflow/experiments/delete POST
/{api}/2.0/mlflow/experiments/delete-experiment-tag POST
/{api}/2.0/mlflow/experiments/get GET
/{api}/2.0/mlflow/experiments/get-by-name GET
/{api}/2.0/mlflow/experiments/restore POST
/{api}/2.0/mlflow/experiments/search GET,POST
/{api}/2.0/mlflow/experiments/set-experiment-tag POST
/{api}/2.0/mlflow/experiments/update POST
/{api}/2.0/mlflow/get-online-trace-details GET
/{api}/2.0/mlflow/logged-models POST
/{api}/2.0/mlflow/logged-models/<model_id> DELETE,GET,PATCH
/{api}/2.0/mlflow/logged-models/<model_id>/artifacts/directories GET
/{api}/2.0/mlflow/logged-models/<model_id>/params POST
/{api}/2.0/mlflow/logged-models/<model_id>/tags PATCH
/{api}/2.0/mlflow/logged-models/<model_id>/tags/<tag_key> DELETE
/{api}/2.0/mlflow/logged-models/search POST
/{api}/2.0/mlflow/metrics/get-history GET
/{api}/2.0/mlflow/metrics/get-history-bulk-interval GET
/{api}/2.0/mlflow/model-versions/create POST
/{api}/2.0/mlflow/model-versions/delete DELETE
/{api}/2.0/mlflow/model-versions/delete-tag DELETE
/{api}/2.0/mlflow/model-versions/get GET
/{api}/2.0/mlflow/model-versions/get-download-uri GET
/{api}/2.0/mlflow/model-versions/search GET
/{api}/2.0/mlflow/model-versions/set-tag POST
/{api}/2.0/mlflow/model-versions/transition-stage POST
/{api}/2.0/mlflow/model-versions/update PATCH
/{api}/2.0/mlflow/registered-models/alias DELETE,GET,POST
/{api}/2.0/mlflow/registered-models/create POST
/{api}/2.0/mlflow/registered-models/delete DELETE
/{api}/2.0/mlflow/registered-models/delete-tag DELETE
/{api}/2.0/mlflow/registered-models/get GET
/{api}/2.0/mlflow/registered-models/get-latest-versions GET,POST
/{api}/2.0/mlflow/registered-models/rename POST
/{api}/2.0/mlflow/registered-models/search GET
/{api}/2.0/mlflow/registered-models/set-tag POST
/{api}/2.0/mlflow/registered-models/update PATCH
/{api}/2.0/mlflow/runs/create POST
/{api}/2.0/mlflow/runs/delete POST
/{api}/2.0/mlflow/runs/delete-tag POST
/{api}/2.0/mlflow/runs/get GET
/{api}/2.0/mlflow/runs/log-batch POST
/{api}/2.0/mlflow/runs/log-inputs POST
/{api}/2.0/mlflow/runs/log-metric POST
/{api}/2.0/mlflow/runs/log-model POST
/{api}/2.0/mlflow/runs/log-parameter POST
/{api}/2.0/mlflow/runs/outputs POST
/{api}/2.0/mlflow/runs/restore POST
/{api}/2.0/mlflow/runs/search POST
/{api}/2.0/mlflow/runs/set-tag POST
/{api}/2.0/mlflow/runs/update POST
/{api}/2.0/mlflow/traces GET,POST
/{api}/2.0/mlflow/traces/<request_id> PATCH
/{api}/2.0/mlflow/traces/<request_id>/info GET
/{api}/2.0/mlflow/traces/<request_id>/tags DELETE,PATCH
/{api}/2.0/mlflow/traces/delete-traces POST
/{api}/2.0/mlflow/traces/link-prompts POST
/{api}/2.0/mlflow/traces/link-to-run POST
/{api}/2.0/mlflow/unified-traces GET
/{api}/2.0/mlflow/users/create POST
/{api}/2.0/mlflow/users/current GET
/{api}/2.0/mlflow/users/delete DELETE
/{api}/2.0/mlflow/users/get GET
/{api}/2.0/mlflow/users/list GET
/{api}/2.0/mlflow/users/update-admin PATCH
/{api}/2.0/mlflow/users/update-password PATCH
/{api}/2.0mlflow/experiments/search-datasets POST
/{api}/3.0/mlflow/datasets/<dataset_id> DELETE,GET
/{api}/3.0/mlflow/datasets/<dataset_id>/add-experiments POST
/{api}/3.0/mlflow/datasets/<dataset_id>/experiment-ids GET
/{api}/3.0/mlflow/datasets/<dataset_id>/records DELETE,GET,POST
/{api}/3.0/mlflow/datasets/<dataset_id>/remove-experiments POST
/{api}/3.0/mlflow/datasets/<dataset_id>/tags PATCH
/{api}/3.0/mlflow/datasets/<dataset_id>/tags/<key> DELETE
/{api}/3.0/mlflow/datasets/create POST
/{api}/3.0/mlflow/datasets/search GET,POST
/{api}/3.0/mlflow/issues POST
/{api}/3.0/mlflow/issues/<issue_id> GET,PATCH
/{api}/3.0/mlflow/issues/search POST
/{api}/3.0/mlflow/label-schemas/create POST
/{api}/3.0/mlflow/label-schemas/delete DELETE
/{api}/3.0/mlflow/label-schemas/get GET
/{api}/3.0/mlflow/label-schemas/get-by-name GET
/{api}/3.0/mlflow/label-schemas/list GET
/{api}/3.0/mlflow/label-schemas/update PATCH
/{api}/3.0/mlflow/prompt-optimization/jobs/<job_id> GET
/{api}/3.0/mlflow/prompt-optimization/jobs/search GET,POST
/{api}/3.0/mlflow/review-queues/create POST
/{api}/3.0/mlflow/review-queues/delete POST
/{api}/3.0/mlflow/review-queues/get GET
/{api}/3.0/mlflow/review-queues/get-by-name GET
/{api}/3.0/mlflow/review-queues/get-or-create-user POST
/{api}/3.0/mlflow/review-queues/items/add POST
/{api}/3.0/mlflow/review-queues/items/list GET
/{api}/3.0/mlflow/review-queues/items/remove POST
/{api}/3.0/mlflow/review-queues/items/set-status POST
/{api}/3.0/mlflow/review-queues/list GET
/{api}/3.0/mlflow/review-queues/update POST
/{api}/3.0/mlflow/roles/assign POST
/{api}/3.0/mlflow/roles/create POST
/{api}/3.0/mlflow/roles/delete DELETE
/{api}/3.0/mlflow/roles/get GET
/{api}/3.0/mlflow/roles/list GET
/{api}/3.0/mlflow/roles/permissions/add POST
/{api}/3.0/mlflow/roles/permissions/list GET
/{api}/3.0/mlflow/roles/permissions/remove DELETE
/{api}/3.0/mlflow/roles/permissions/update PATCH
/{api}/3.0/mlflow/roles/unassign DELETE
/{api}/3.0/mlflow/roles/update PATCH
/{api}/3.0/mlflow/roles/users/list GET
/{api}/3.0/mlflow/scorers/delete DELETE
/{api}/3.0/mlflow/scorers/get GET
/{api}/3.0/mlflow/scorers/list GET
/{api}/3.0/mlflow/scorers/online-config PUT
/{api}/3.0/mlflow/scorers/online-configs GET
/{api}/3.0/mlflow/scorers/register POST
/{api}/3.0/mlflow/scorers/versions GET
/{api}/3.0/mlflow/server-info GET
/{api}/3.0/mlflow/traces POST
/{api}/3.0/mlflow/traces/<trace_id> GET
/{api}/3.0/mlflow/traces/<trace_id>/assessments POST
/{api}/3.0/mlflow/traces/<trace_id>/assessments/<assessment_id> DELETE,GET,PATCH
/{api}/3.0/mlflow/traces/<trace_id>/tags DELETE,PATCH
/{api}/3.0/mlflow/traces/batchGet GET
/{api}/3.0/mlflow/traces/batchGetInfos POST
/{api}/3.0/mlflow/traces/calculate-filter-correlation POST
/{api}/3.0/mlflow/traces/delete-traces POST
/{api}/3.0/mlflow/traces/get GET
/{api}/3.0/mlflow/traces/metrics POST
/{api}/3.0/mlflow/traces/search POST
/{api}/3.0/mlflow/users/current/permissions GET
/{api}/3.0/mlflow/users/permissions/get GET
/{api}/3.0/mlflow/users/permissions/grant POST
/{api}/3.0/mlflow/users/permissions/list GET
/{api}/3.0/mlflow/users/permissions/revoke POST
/{api}/3.0/mlflow/users/roles/list GET
/{api}/3.0/mlflow/workspaces GET,POST
/{api}/3.0/mlflow/workspaces/<workspace_name> DELETE,GET,PATCH
"""

# What is open by a variable of its own, by the words of MLFLOW_SERVER_OPENED.
WEBHOOKS, GATEWAY, JOBS = "webhooks", "gateway", "jobs"
FLASK_OF = {
    WEBHOOKS: """
/{api}/2.0/mlflow/webhooks GET,POST
/{api}/2.0/mlflow/webhooks/<webhook_id> DELETE,GET,PATCH
/{api}/2.0/mlflow/webhooks/<webhook_id>/test POST
""",
    # Guardrails and budgets may be read, since the web page asks for them. None is made: whoever sets one up relies on it, and a
    # guardrail asks this server by an address that the client has named, and each worker counts a budget for itself.
    GATEWAY: """
/ajax-api/3.0/mlflow/gateway/provider-config GET
/ajax-api/3.0/mlflow/gateway/secrets/config GET
/ajax-api/3.0/mlflow/gateway/supported-models GET
/ajax-api/3.0/mlflow/gateway/supported-providers GET
/{api}/3.0/mlflow/gateway/budgets/get GET
/{api}/3.0/mlflow/gateway/budgets/list GET
/{api}/3.0/mlflow/gateway/budgets/windows GET
/{api}/3.0/mlflow/gateway/endpoints/bindings/create POST
/{api}/3.0/mlflow/gateway/endpoints/bindings/delete DELETE
/{api}/3.0/mlflow/gateway/endpoints/bindings/list GET
/{api}/3.0/mlflow/gateway/endpoints/create POST
/{api}/3.0/mlflow/gateway/endpoints/delete DELETE
/{api}/3.0/mlflow/gateway/endpoints/delete-tag DELETE
/{api}/3.0/mlflow/gateway/endpoints/get GET
/{api}/3.0/mlflow/gateway/endpoints/list GET
/{api}/3.0/mlflow/gateway/endpoints/models/attach POST
/{api}/3.0/mlflow/gateway/endpoints/models/detach POST
/{api}/3.0/mlflow/gateway/endpoints/set-tag POST
/{api}/3.0/mlflow/gateway/endpoints/update POST
/{api}/3.0/mlflow/gateway/guardrails/get GET
/{api}/3.0/mlflow/gateway/guardrails/list GET
/{api}/3.0/mlflow/gateway/guardrails/list-for-endpoint GET
/{api}/3.0/mlflow/gateway/model-definitions/create POST
/{api}/3.0/mlflow/gateway/model-definitions/delete DELETE
/{api}/3.0/mlflow/gateway/model-definitions/get GET
/{api}/3.0/mlflow/gateway/model-definitions/list GET
/{api}/3.0/mlflow/gateway/model-definitions/update POST
/{api}/3.0/mlflow/gateway/secrets/create POST
/{api}/3.0/mlflow/gateway/secrets/delete DELETE
/{api}/3.0/mlflow/gateway/secrets/get GET
/{api}/3.0/mlflow/gateway/secrets/list GET
/{api}/3.0/mlflow/gateway/secrets/update POST
""",
    # Where there is somebody who runs jobs. MLflow looks whether the caller may change the experiment, and whether the traces are
    # of that one; a job is its creator's. Any other way to start one does not look at what the job is given, so it stays closed.
    JOBS: """
/ajax-api/3.0/mlflow/genai/evaluate/invoke POST
/ajax-api/3.0/mlflow/jobs/<job_id> GET
/ajax-api/3.0/mlflow/jobs/cancel/<job_id> PATCH
/ajax-api/3.0/mlflow/scorer/invoke POST
""",
}
# Of FastAPI's. What passes any path on to a provider is not there, and neither is what MLflow lets nobody but administrators use.
NATIVE_OF = {
    GATEWAY: """
/gateway/{endpoint_name}/mlflow/invocations POST
/gateway/anthropic/v1/messages POST
/gateway/gemini/v1beta/models/{endpoint_name}:generateContent POST
/gateway/gemini/v1beta/models/{endpoint_name}:streamGenerateContent POST
/gateway/mlflow/v1/chat/completions POST
/gateway/mlflow/v1/models GET
/gateway/openai/v1/chat/completions POST
/gateway/openai/v1/embeddings POST
/gateway/openai/v1/responses POST
""",
}

# FastAPI's, with {name} for a part of a path and {name:path} for one that may have slashes.
NATIVE = """
/health GET
/v1/traces POST
/{api}/2.0/mlflow-artifacts/artifacts/{path:path} GET,PUT
/{api}/3.0/mlflow/server-info GET
/{api}/3.0/mlflow/mcp-servers GET,POST
/{api}/3.0/mlflow/mcp-servers/endpoints GET
/{api}/3.0/mlflow/mcp-servers/{name:path} DELETE,GET,PATCH
/{api}/3.0/mlflow/mcp-servers/{name:path}/aliases POST
/{api}/3.0/mlflow/mcp-servers/{name:path}/aliases/{alias:path} DELETE,GET
/{api}/3.0/mlflow/mcp-servers/{name:path}/endpoints GET,POST
/{api}/3.0/mlflow/mcp-servers/{name:path}/endpoints/{endpoint} DELETE,GET,PATCH
/{api}/3.0/mlflow/mcp-servers/{name:path}/tags POST
/{api}/3.0/mlflow/mcp-servers/{name:path}/tags/{key:path} DELETE
/{api}/3.0/mlflow/mcp-servers/{name:path}/versions GET,POST
/{api}/3.0/mlflow/mcp-servers/{name:path}/versions/{version:path} DELETE,GET,PATCH
/{api}/3.0/mlflow/mcp-servers/{name:path}/versions/{version:path}/tags POST
/{api}/3.0/mlflow/mcp-servers/{name:path}/versions/{version:path}/tags/{key:path} DELETE
"""

# The web page asks these two of every server, and says so in the browser's console where there is no answer. This is what a
# server without an assistant answers: there is none to choose, nothing is configured, and it is not to be had from afar.
NO_ASSISTANT = {
    "/ajax-api/3.0/mlflow/assistant/config": b'{"providers": {}, "projects": {}, "remote_access_allowed": false}',
    "/ajax-api/3.0/mlflow/assistant/providers": b'{"providers": [], "resolved": null, "gateway_vendor_options": {}}',
}

# No pattern is tried on these, MLflow's least of all: it may take seconds to find out that a long path with a line break in
# it fits none. Names of artifacts may be as long as S3's.
STRANGE = re.compile(r"[\x00-\x1f\x7f]|^(?!/(ajax-)?api/2\.0/mlflow-artifacts/).{1024}|^.{2048}", re.DOTALL)

# How many native routes that are closed a worker names in the journal; any client may ask for them.
TOLD = 20
# Longer paths are looked at each time, so that nobody fills the memory with them.
LONG = 256
NOT_HERE = b'{"error_code": "ENDPOINT_NOT_FOUND", "message": "There is no such route on this server."}'
JSON = [(b"content-type", b"application/json")]

_logger = logging.getLogger("uvicorn.error")


def _listed(text):
    """{path: methods} of a list above."""
    routes = {}
    for line in text.split("\n"):
        path, _, methods = line.rpartition(" ")
        if path:
            for api in API if "{api}" in path else ("",):
                routes[path.replace("{api}", api)] = frozenset(methods.split(","))
    return routes


def _pattern(path):
    parts = re.split(r"(\{[^}]*\})", path)
    return "".join((".+" if ":path" in part else "[^/]+") if part[:1] == "{" else re.escape(part) for part in parts)


def allows(methods, method):
    """Whether a route that is listed with `methods` is open for `method`; HEAD and OPTIONS ask about the others."""
    return method in methods or method == "OPTIONS" or (method == "HEAD" and "GET" in methods)


def opened():
    """The words for what is open by a variable of its own."""
    return frozenset(os.environ.get("MLFLOW_SERVER_OPENED", "").split())


class Routes:
    def __init__(self, extra=None, also=None):
        """
        :arg extra: Beginnings of paths that are open as well.
        :arg also: Words for what is open as well, as in FLASK_OF.
        """
        given = os.environ.get("MLFLOW_SERVER_EXTRA_ROUTES", "").split() if extra is None else extra
        self._extra = tuple(given)
        also = opened() if also is None else frozenset(also)
        self._has_gateway = GATEWAY in also
        self._flask, native = _listed(FLASK), _listed(NATIVE)
        for word in also:
            self._flask |= _listed(FLASK_OF.get(word, ""))
            native |= _listed(NATIVE_OF.get(word, ""))
        self._native = [(re.compile(_pattern(path)), methods) for path, methods in native.items()]

    def is_extra(self, path):
        if not self._has_gateway and OF_GATEWAY.match(path):
            return False
        return bool(self._extra) and path.startswith(self._extra) and not NO_EXTRA.search(path)

    def flask_is_open(self, rule, path, method):
        """Whether a rule of Flask's, which a path has matched, is open for a method."""
        methods = self._flask.get(rule)
        return (methods is not None and allows(methods, method)) or self.is_extra(path)

    def native_is_open(self, path, method):
        return any(allows(methods, method) and pattern.fullmatch(path) for pattern, methods in self._native) or (
            self.is_extra(path)
        )

    def closed(self, rules):
        """Which of Flask's rules, as pairs of rule and methods, are not open; for the journal."""
        return sorted(
            f"{'|'.join(sorted(shut))} {rule}"
            for rule, methods in rules
            if (shut := {method for method in methods if not self.flask_is_open(rule, rule, method)})
        )


class Doors:
    """An ASGI application that answers for routes that are not open, and leaves the others to another one."""

    def __init__(self, app, fastapi_app, routes):
        self._app = app
        self._routes = routes
        # Flask is mounted at "", below all of them. A match is none (0), of the path alone (1), or whole (2); what only
        # matches by its path is Flask's.
        self._native = [route for route in fastapi_app.routes if getattr(route, "path", None) != ""]
        self._left_to_tell = TOLD
        self._remembered = functools.lru_cache(maxsize=4096)(self._is_open)

    def _is_open(self, path, method):
        if NEVER.match(path):
            # Two are answered, for whoever logs in, by NoAssistant.
            return path in NO_ASSISTANT and method == "GET"
        if self._routes.native_is_open(path, method):
            return True
        scope = {"type": "http", "path": path, "method": method, "root_path": "", "headers": [], "path_params": {}}
        # What is Flask's is decided by Flask's own router, in close_flask.
        if not any(route.matches(scope)[0].value == 2 for route in self._native):
            return True
        self._tell(path, method)
        return False

    def _tell(self, path, method):
        """FastAPI has no list of all its routes that stays the same, so these are named when somebody asks for one."""
        if KNOWN_CLOSED.search(path) or self._left_to_tell <= 0:
            return
        self._left_to_tell -= 1
        _logger.warning(
            "%s %s has not been looked at, so it is closed (mlflow_server_extra_routes opens it)", method, path[:LONG]
        )

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # No route of MLflow's takes a WebSocket.
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"]
        looks = self._remembered if len(path) < LONG else self._is_open
        if not STRANGE.search(path) and looks(path, scope["method"]):
            await self._app(scope, receive, send)
            return
        await answer(send, 404, NOT_HERE, JSON)


class NoAssistant:
    """An ASGI application that tells the web page that there is no assistant, and leaves the rest to another one."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] in NO_ASSISTANT:
            await answer(send, 200, NO_ASSISTANT[scope["path"]], JSON)
            return
        await self._app(scope, receive, send)


def close_flask(flask_app, routes):
    """Let Flask ask, before anything else, whether the rule that it has found for a request is open."""
    from flask import Response, request

    def refuse_what_is_closed():
        rule = request.url_rule
        if rule is None or routes.flask_is_open(rule.rule, request.path, request.method):
            return None
        return Response(NOT_HERE, 404, mimetype="application/json")

    flask_app.before_request_funcs.setdefault(None, []).insert(0, refuse_what_is_closed)


def tell(flask_app, routes):
    """Name in the journal what is closed and not known to be: it came with another version of MLflow."""
    rules = [(rule.rule, rule.methods - {"HEAD", "OPTIONS"}) for rule in flask_app.url_map.iter_rules()]
    unknown = [line for line in routes.closed(rules) if not KNOWN_CLOSED.search(line)]
    if unknown:
        _logger.warning(
            "%d routes of this MLflow have not been looked at and are closed (mlflow_server_extra_routes opens them): %s",
            len(unknown), ", ".join(unknown),
        )  # fmt: skip


# Looked at, and closed: what starts jobs or calls models of others (both are switched off), and what writes demonstrations
# into everybody's database or removes them, which MLflow lets any user do. And webhooks, where they are switched off.
KNOWN_CLOSED = re.compile(
    r"^/gateway/|/3\.0/mlflow/(gateway|genai|jobs|prompt-optimization|demo)/|/(issues|scorer)/invoke$|/2\.0/mlflow/webhooks(/|$)"
)
