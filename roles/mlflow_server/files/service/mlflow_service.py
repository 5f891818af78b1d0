# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The application that uvicorn runs: MLflow's own, started without its parent process.

`mlflow server` reads its options, passes them to the workers in the internal variables set below
and then stays in memory for nothing, hides uvicorn's exit code and keeps the Flask secret key in
its environment. Here each worker does that first step for itself:

    python -m uvicorn --factory mlflow_service:create_app --uds SOCKET --workers N

The internal variables belong to MLflow and may change with any version, so the versions that this
file was tested with are named, and any other one is reported in the journal.
"""

import logging
import os
import socket
from pathlib import Path

TESTED_VERSIONS = ("3.17.2",)

_logger = logging.getLogger("uvicorn.error")


def _set_internal_variables():
    """Say in MLflow's internal variables what the public ones say."""
    store = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ.update(
        _MLFLOW_SERVER_FILE_STORE=store,
        _MLFLOW_SERVER_REGISTRY_STORE=store,
        _MLFLOW_SERVER_SERVE_ARTIFACTS="true",
        _MLFLOW_SERVER_ARTIFACT_ROOT="mlflow-artifacts:/",
        _MLFLOW_SERVER_ARTIFACT_DESTINATION=os.environ["MLFLOW_ARTIFACTS_DESTINATION"],
        _MLFLOW_SGI_NAME="uvicorn",
        _MLFLOW_IN_JOB_EXECUTOR="false",
        # The role makes the administrator before the first start, so that no worker needs a password.
        _MLFLOW_AUTH_ADMIN_BOOTSTRAPPED="true",
    )


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


def _open_stores():
    """Open the stores now: a worker that can't reach its database must not be called ready."""
    from mlflow.server.handlers import _get_model_registry_store, _get_tracking_store

    _get_tracking_store().get_experiment("0")
    _get_model_registry_store()


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


def create_app():
    """Make the application for one worker; the first worker that gets here makes the unit ready."""
    _set_internal_variables()
    app = _application()
    _keep_artifacts_proxied()

    from mlflow.version import VERSION

    if VERSION not in TESTED_VERSIONS:
        _logger.warning("MLflow %s: this service was tested with %s", VERSION, ", ".join(TESTED_VERSIONS))
    _open_stores()
    _tell_systemd(f"READY=1\nSTATUS=MLflow {VERSION} serves")
    return app
