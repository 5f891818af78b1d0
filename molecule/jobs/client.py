# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Have traces scored, as users do it: by a scorer that one of them wrote. Called with `jobs`, and with `stopped` while nobody runs
them. Prints what is left to do for whoever called it.
"""

import json
import os
import subprocess
import sys
import time

login = json.load(sys.stdin)
PASSWORD = "password-of-a-user-1"
URL, CERTIFICATE = "https://mlflow.example.com", "/etc/mlflow/tls/ca.crt"
os.environ.update(
    MLFLOW_TRACKING_URI=URL,
    MLFLOW_TRACKING_USERNAME=login["username"],
    MLFLOW_TRACKING_PASSWORD=login["password"],
    MLFLOW_TRACKING_SERVER_CERT_PATH=CERTIFICATE,
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS="true",
)

import mlflow  # noqa: E402
import requests  # noqa: E402

ADMIN = (login["username"], login["password"])
# What each of these says is looked at: a scorer is a person's code on a server of others.
ATTACKS = {
    "the database's password": "open('/etc/mlflow/pg_service.conf').read()",
    "what the jobs have": "open('/etc/mlflow/mlflow.env').read()",
    "another process": "[open('/proc/' + it + '/environ', 'rb').read() for it in os.listdir('/proc') if it.isdigit()][1]",
    "a socket": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "the server's socket": "socket.socket(socket.AF_UNIX).connect('/run/mlflow/mlflow.sock')",
    "a file of the server's": "open('/var/lib/mlflow/x', 'w')",
    "a file of the installation": "open('/opt/mlflow/current/x', 'w')",
    "logs": "os.listdir('/var/log')",
    "a trace of another process": "ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0) == 0 or 1 / 0",
}


def ask(method, path, user=ADMIN, expect=200, **body):
    how = {"json": body} if method != "GET" else {}
    answer = requests.request(method, f"{URL}{path}", auth=user, verify=CERTIFICATE, timeout=60, **how)
    assert answer.status_code == expect, (method, path, answer.status_code, answer.text[:500])
    return answer.json() if expect == 200 else None


def invoke(scorer, trace, experiment, user, expect=200):
    found = ask("POST", "/ajax-api/3.0/mlflow/scorer/invoke", user, expect, experiment_id=experiment, serialized_scorer=scorer,
                trace_ids=[trace], log_assessments=True)  # fmt: skip
    return found and found["jobs"][0]["job_id"]


def result(job, user, seconds=120):
    until = time.monotonic() + seconds
    while True:
        found = ask("GET", f"/ajax-api/3.0/mlflow/jobs/{job}", user)
        if found["status"] not in ("PENDING", "RUNNING"):
            assert found["status"] == "SUCCEEDED", found
            return found["result"]
        assert time.monotonic() < until, found
        time.sleep(1)


def scored(scorer, trace, experiment, user):
    (found,) = result(invoke(scorer, trace, experiment, user), user)[trace]["assessments"]
    return found["feedback"]


def traced(name):
    experiment = mlflow.set_experiment(name).experiment_id
    with mlflow.start_span("root") as span:
        span.set_outputs("answer-42")
    mlflow.flush_trace_async_logging()
    return experiment, mlflow.get_last_active_trace_id()


# A function's source is read from its file.
SCORERS = """
from mlflow.genai.scorers import scorer


@scorer
def length(trace):
    return len(trace.data.spans[0].outputs)


@scorer
def attack(trace):
    import ctypes, os, socket

    attacks = ATTACKS
    said = {}
    for name, code in attacks.items():
        try:
            said[name] = repr(eval(code))[:200]
        except BaseException as error:
            said[name] = ""
    return "; ".join(f"{name}: {it}" for name, it in said.items() if it) or "nothing"


@scorer
def greedy(trace):
    return len(bytes(3 << 30))
"""


def scorers():
    folder = "/tmp/scorers-of-users"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/of_users.py", "w", encoding="utf-8") as file:
        file.write(SCORERS.replace("ATTACKS", repr(ATTACKS)))
    sys.path.insert(0, folder)
    import of_users

    return {name: json.dumps(getattr(of_users, name).model_dump()) for name in ("length", "attack", "greedy")}


def jobs():
    editor, reader = ("editor", PASSWORD), ("reader", PASSWORD)
    for name, password in (editor, reader):
        ask("POST", "/api/2.0/mlflow/users/create", username=name, password=password)
    (theirs, trace), (others, foreign) = traced("theirs"), traced("others")
    grant = {"username": "editor", "resource_type": "experiment", "resource_id": theirs, "permission": "EDIT"}
    ask("POST", "/api/3.0/mlflow/users/permissions/grant", **grant)
    made = scorers()

    # Who may not change the experiment starts nothing in it, and nobody reaches the traces of another one by a job.
    invoke(made["length"], trace, theirs, reader, expect=403)
    invoke(made["length"], foreign, others, editor, expect=403)
    invoke(made["length"], foreign, theirs, editor, expect=403)
    invoke(made["length"], trace, theirs, None, expect=401)
    ask("POST", "/ajax-api/3.0/jobs/", editor, 404, job_name="invoke_scorer", params={})

    job = invoke(made["length"], trace, theirs, editor)
    ask("GET", f"/ajax-api/3.0/mlflow/jobs/{job}", reader, 403)
    (found,) = result(job, editor)[trace]["assessments"]
    assert found["feedback"]["value"] == len("answer-42"), found
    # It is there for whoever looks at the trace.
    seen = ask("GET", f"/api/3.0/mlflow/traces/{trace}", editor)["trace"]["trace_info"]["assessments"]
    assert [it["assessment_name"] for it in seen] == ["length"], seen

    got = scored(made["attack"], trace, theirs, editor)
    assert got.get("value") == "nothing", got
    # One that wants more memory than it may have is told so, and stands in nobody's way.
    got = scored(made["greedy"], trace, theirs, editor)
    assert "error" in got, got
    assert scored(made["length"], trace, theirs, editor)["value"] == len("answer-42")
    print(json.dumps({"trace": trace, "experiment": theirs}))


def stopped():
    experiment = mlflow.get_experiment_by_name("theirs").experiment_id
    (trace,) = (it.info.trace_id for it in mlflow.search_traces(locations=[experiment], return_type="list"))
    job = invoke(scorers()["length"], trace, experiment, ADMIN)
    time.sleep(5)
    assert ask("GET", f"/ajax-api/3.0/mlflow/jobs/{job}")["status"] == "PENDING"
    # The server goes on.
    run = mlflow.MlflowClient().create_run(experiment)
    mlflow.MlflowClient().log_metric(run.info.run_id, "loss", 0.5)
    subprocess.run(["systemctl", "start", "mlflow-jobs.service"], check=True)
    result(job, ADMIN)


{"jobs": jobs, "stopped": stopped}[sys.argv[1]]()
