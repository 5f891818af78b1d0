# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Make what mlflow-gc is to remove and what it is to leave, as a client does, and print the ids."""

import json
import os
import sys
import tempfile
from pathlib import Path

login = json.load(sys.stdin)
os.environ.update(
    MLFLOW_TRACKING_URI="https://mlflow.example.com",
    MLFLOW_TRACKING_USERNAME=login["username"],
    MLFLOW_TRACKING_PASSWORD=login["password"],
    MLFLOW_TRACKING_SERVER_CERT_PATH="/etc/mlflow/tls/server.crt",
    MLFLOW_DISABLE_TELEMETRY="true",
)

from mlflow import MlflowClient  # noqa: E402

client = MlflowClient()
file = Path(tempfile.mkdtemp(), "words.txt")
file.write_text("kept in the bucket\n")
again = os.urandom(4).hex()
experiment = client.create_experiment(f"gc-{again}")
abandoned = client.create_experiment(f"abandoned-{again}")


def run(where=experiment):
    made = client.create_run(where).info
    client.log_artifact(made.run_id, str(file), "notes/deep")
    return made


runs = {name: run() for name in ("old", "recent", "live", "registered", "later")}
empty = client.create_run(experiment).info.run_id
inside = run(abandoned)
model = client.create_logged_model(abandoned, name="forgotten")
client.log_model_artifact(model.model_id, str(file))
client.create_registered_model(f"served-{again}")
client.create_model_version(f"served-{again}", f"{runs['registered'].artifact_uri}/notes", run_id=runs["registered"].run_id)

for name, info in runs.items():
    if name != "live":
        client.delete_run(info.run_id)
client.delete_run(empty)
client.delete_experiment(abandoned)
print(
    json.dumps(
        {
            **{name: info.run_id for name, info in runs.items()},
            "empty": empty,
            "inside": inside.run_id,
            "model": model.model_id,
            "experiment": abandoned,
            "served": f"served-{again}",
        }
    )
)
