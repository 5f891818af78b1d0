# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Log a run and an artifact as a client does, read both back, and print the run's id."""

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
    MLFLOW_TRACKING_SERVER_CERT_PATH="/etc/mlflow/tls/ca.crt",
    MLFLOW_DISABLE_TELEMETRY="true",
)

import mlflow  # noqa: E402

mlflow.set_experiment("verify")
with mlflow.start_run() as run:
    mlflow.log_param("answer", 42)
    mlflow.log_metrics({"loss": 0.5}, step=1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "words.txt")
        file.write_text("kept in the bucket\n")
        mlflow.log_artifact(str(file), "notes")

found = mlflow.get_run(run.info.run_id)
assert found.data.params == {"answer": "42"}, found.data.params
assert found.data.metrics == {"loss": 0.5}, found.data.metrics
text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/words.txt")
assert text == "kept in the bucket\n", text
print(run.info.run_id)
