# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which calls may go to Flask at once, past the layers of FastAPI: http/classic_calls.py."""

from mlflow_service.compat.ground import Moved, Patch

APP, AUTH = "mlflow.server.fastapi_app", "mlflow.server.auth"
# The layers of MLflow's application, in every version that somebody has read: none of them has anything to say of a classic
# call that does not come from a page.
LAYERS = frozenset(
    [
        "gateway_timing_middleware",
        "workspace_context_middleware",
        "HostValidationMiddleware",
        "CORSMiddleware",
        "CORSBlockingMiddleware",
        "SecurityHeadersMiddleware",
    ]
)


def _no_other_layers():
    """:raises Moved: where MLflow's application has a layer that nobody has read."""
    from mlflow.server.fastapi_app import app

    for layer in app.user_middleware:
        name = getattr(layer.kwargs.get("dispatch"), "__name__", layer.cls.__name__)
        if name not in LAYERS:
            raise Moved(f"MLflow's application has another layer, {name}")


PATCH = Patch(
    "classic",
    "calls that are Flask's alone go to Flask past the layers of FastAPI",
    replaces=(
        f"{APP}:create_fastapi_app",
        f"{APP}:add_fastapi_workspace_middleware",
        f"{APP}:_EfficientWSGIMiddleware",
        "mlflow.server.fastapi_security:init_fastapi_security",
        f"{AUTH}:create_app",
        f"{AUTH}:_find_fastapi_validator",
    ),
    looks=(_no_other_layers,),
)


def checked_before_flask(with_logins):
    """What says of a path and a method whether FastAPI's part of MLflow's authentication checks them before Flask's."""
    if not with_logins:
        return lambda path, method: False
    from mlflow.server import auth

    return auth._find_fastapi_validator
