# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What `mlflow server` tells its workers by internal variables. Each worker does that for itself here."""

import os

from mlflow_service.compat.ground import NEEDED, Patch

STORE, REGISTRY = "_MLFLOW_SERVER_FILE_STORE", "_MLFLOW_SERVER_REGISTRY_STORE"
SERVES, DESTINATION = "_MLFLOW_SERVER_SERVE_ARTIFACTS", "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
REPLICA = "_MLFLOW_SERVER_READ_REPLICA_BACKEND_STORE"

PATCH = Patch(
    "environment",
    "the workers are told what `mlflow server` tells them",
    kind=NEEDED,
    values={
        "mlflow.server:BACKEND_STORE_URI_ENV_VAR": STORE,
        "mlflow.server:REGISTRY_STORE_URI_ENV_VAR": REGISTRY,
        "mlflow.server:SERVE_ARTIFACTS_ENV_VAR": SERVES,
        "mlflow.server:ARTIFACT_ROOT_ENV_VAR": ROOT,
        "mlflow.server:ARTIFACTS_DESTINATION_ENV_VAR": DESTINATION,
    },
    uses=("mlflow.server.fastapi_app:app",),
)


def has_replica():
    """Whether searches go to a read replica."""
    return bool(os.environ.get("MLFLOW_READ_REPLICA_BACKEND_STORE_URI"))


def set_internal_variables():
    """Say in MLflow's internal variables what the public ones say."""
    store = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ.update(
        {
            STORE: store,
            REGISTRY: store,
            "_MLFLOW_SGI_NAME": "uvicorn",
            "_MLFLOW_IN_JOB_EXECUTOR": "false",
            # The role makes the administrator before the first start, so that no worker needs a password.
            "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED": "true",
        }
    )
    if has_replica():
        os.environ[REPLICA] = os.environ["MLFLOW_READ_REPLICA_BACKEND_STORE_URI"]
    artifacts = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    if os.environ["MLFLOW_SERVE_ARTIFACTS"] == "true":
        os.environ.update({SERVES: "true", ROOT: "mlflow-artifacts:/", DESTINATION: artifacts})
    else:
        os.environ[ROOT] = artifacts
