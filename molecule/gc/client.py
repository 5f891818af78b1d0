# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Make what mlflow-gc is to remove and what it is to leave, as a client does, and print the ids."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

login = json.load(sys.stdin)
os.environ.update(
    MLFLOW_TRACKING_URI="https://mlflow.example.com",
    MLFLOW_TRACKING_USERNAME=login["username"],
    MLFLOW_TRACKING_PASSWORD=login["password"],
    MLFLOW_TRACKING_SERVER_CERT_PATH="/etc/mlflow/tls/ca.crt",
    MLFLOW_DISABLE_TELEMETRY="true",
)

import requests  # noqa: E402
from mlflow import MlflowClient  # noqa: E402

client = MlflowClient()
file = Path(tempfile.mkdtemp(), "words.txt")
file.write_text("kept in the bucket\n")
again = os.urandom(4).hex()
experiment = client.create_experiment(f"gc-{again}")
abandoned = client.create_experiment(f"abandoned-{again}")


def ask(method, path, **options):
    answer = requests.request(
        method,
        f"https://mlflow.example.com/api/{path}",
        auth=(login["username"], login["password"]),
        verify="/etc/mlflow/tls/ca.crt",
        timeout=60,
        **options,
    )
    answer.raise_for_status()


def trace(where):
    """A trace as MLflow's clients make it: they choose its id, and put what is large with the artifacts."""
    made = f"tr-{os.urandom(16).hex()}"
    about = {
        "trace_id": made,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": where}},
        "request_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "state": "OK",
    }
    ask("POST", "3.0/mlflow/traces", json={"trace": {"trace_info": about}})
    place = client.get_experiment(where).artifact_location.removeprefix("mlflow-artifacts:/")
    ask("PUT", f"2.0/mlflow-artifacts/artifacts/{place}/traces/{made}/artifacts/traces.json", data=b"{}")
    return made


def run(where=experiment):
    made = client.create_run(where).info
    client.log_artifact(made.run_id, str(file), "notes/deep")
    return made


runs = {name: run() for name in ("old", "recent", "live", "registered", "later")}
empty = client.create_run(experiment).info.run_id
inside = run(abandoned)
honest = trace(abandoned)
# An experiment that has its place in the folder of the one that is deleted.
nested = run(client.create_experiment(f"nested-{again}", artifact_location=f"mlflow-artifacts:/{abandoned}/nested-{again}"))
# Somebody's experiment, and one with a place that was chosen, whose traces verify.yml makes hostile.
victim = client.create_experiment(f"victim-{again}")
prey = run(victim)
chosen = client.create_experiment(f"chosen-{again}", artifact_location=f"mlflow-artifacts:/chosen-{again}")
beside = trace(chosen)
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
            "trace": honest,
            "nested": nested.run_id,
            "victim": victim,
            "prey": prey.run_id,
            "chosen": chosen,
            "beside": beside,
        }
    )
)
