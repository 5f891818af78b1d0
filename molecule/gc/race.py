# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Make an experiment with many runs and delete it; or, when it has been deleted for long: start mlflow-gc, restore the experiment
and register a version of one of its runs while that works, and see that all is there that MLflow says is there. Prints JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

given = json.load(sys.stdin)
os.environ.update(
    MLFLOW_TRACKING_URI="https://mlflow.example.com",
    MLFLOW_TRACKING_USERNAME=given["username"],
    MLFLOW_TRACKING_PASSWORD=given["password"],
    MLFLOW_TRACKING_SERVER_CERT_PATH="/etc/mlflow/tls/ca.crt",
    MLFLOW_DISABLE_TELEMETRY="true",
)

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import ViewType  # noqa: E402

RUNS = 50
client = MlflowClient()


def make():
    file = Path(tempfile.mkdtemp(), "words.txt")
    file.write_text("kept in the bucket\n")
    experiment = client.create_experiment(f"race-{os.urandom(4).hex()}")
    for _ in range(RUNS):
        client.log_artifact(client.create_run(experiment).info.run_id, str(file))
    model = client.create_logged_model(experiment, name="never deleted itself")
    client.log_model_artifact(model.model_id, str(file))
    client.delete_experiment(experiment)
    print(json.dumps({"experiment": experiment, "model": model.model_id}))


def runs(view):
    return client.search_runs([given["experiment"]], run_view_type=view, max_results=RUNS)


def state():
    return subprocess.run(["systemctl", "is-active", "mlflow-gc"], capture_output=True, text=True).stdout.strip()


def race():
    subprocess.run(["systemctl", "start", "--no-block", "mlflow-gc"], check=True)
    end = time.monotonic() + 120
    while len(runs(ViewType.DELETED_ONLY)) > RUNS - 3:
        if time.monotonic() > end:
            sys.exit("mlflow-gc has removed nothing")
    begin = time.monotonic()
    client.restore_experiment(given["experiment"])
    waited = time.monotonic() - begin
    restored = runs(ViewType.ACTIVE_ONLY)
    working = state()
    name = f"race-{given['experiment']}"
    client.create_registered_model(name)
    client.create_model_version(name, restored[0].info.artifact_uri, run_id=restored[0].info.run_id)
    while state() in ("activating", "deactivating"):
        time.sleep(0.2)
    there = {run.info.run_id for run in runs(ViewType.ACTIVE_ONLY)}
    problems = [f"{run.info.run_id} was restored and is gone" for run in restored if run.info.run_id not in there]
    problems += [f"{name} has lost its objects" for name in there if not client.list_artifacts(name)]
    if not client.list_logged_model_artifacts(given["model"]):
        problems.append("the model has lost its objects")
    if not 0 < len(restored) < RUNS or working != "activating" or waited > 5:
        problems.append(f"no race: {len(restored)} restored after {waited} s, mlflow-gc was {working}")
    print(json.dumps({"restored": len(restored), "waited": waited, "problems": problems}))


{"make": make, "race": race}[given["part"]]()
