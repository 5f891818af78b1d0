# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Run on a host with the service's Python and settings: every route that its MLflow has, as JSON, whatever is closed later."""

import json
import os

os.environ.update(
    _MLFLOW_SERVER_FILE_STORE=os.environ["MLFLOW_BACKEND_STORE_URI"],
    _MLFLOW_SGI_NAME="uvicorn",
    _MLFLOW_AUTH_ADMIN_BOOTSTRAPPED="true",
    _MLFLOW_SERVER_SERVE_ARTIFACTS="true",
    _MLFLOW_SERVER_ARTIFACT_ROOT="mlflow-artifacts:/",
    _MLFLOW_SERVER_ARTIFACT_DESTINATION=os.environ["MLFLOW_ARTIFACTS_DESTINATION"],
    MLFLOW_FLASK_SERVER_SECRET_KEY="of this process alone",
)


def native(routes, prefix=""):
    """The routes of FastAPI, with those of the routers that it includes."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        path = prefix + (getattr(route, "path", None) or "")
        if inner is not None:
            yield from native(inner.routes, prefix + getattr(route, "include_context", route).prefix)
        elif getattr(route, "methods", None):
            yield from ((method, path) for method in route.methods)
        elif getattr(route, "app", None) is None:
            raise SystemExit(f"what kind of a route is {route!r}?")


def main():
    from mlflow.server import app as flask_app
    from mlflow.server.auth import create_app

    app = create_app()
    found = {(method, rule.rule) for rule in flask_app.url_map.iter_rules() for method in rule.methods - {"HEAD", "OPTIONS"}}
    found |= {(method, path.replace("{", "<").replace("}", ">")) for method, path in native(app.routes)}
    print("ROUTES " + json.dumps(sorted(found)))


main()
