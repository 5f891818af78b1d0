# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Call a server as clients do, and see that each call is answered rightly, whatever the version.

    python calls.py URL [--no-downloads] <LOGIN

LOGIN is {"username": …, "password": …}. With --no-downloads MLflow itself is to refuse those. Prints the calls with their
statuses as JSON; ends with 1 and names what was wrong.
"""

from __future__ import annotations

import json
import secrets
import sys
import time

import urllib3

API, API3, ARTIFACTS = "/api/2.0/mlflow", "/api/3.0/mlflow", "/api/2.0/mlflow-artifacts/artifacts"


class Caller:
    def __init__(self, url: str, username: str, password: str):
        urllib3.disable_warnings()
        self.url, self.pool = url, urllib3.PoolManager(cert_reqs="CERT_NONE", retries=False, timeout=60)
        self.login = urllib3.make_headers(basic_auth=f"{username}:{password}")
        self.said: list[str] = []
        self.wrong: list[str] = []

    def __call__(self, what: str, wanted: int, method: str, place: str, /, body=None, headers=None, **fields):
        given = {**(self.login if headers is None else headers)}
        if body is None and method != "GET":
            body, given["Content-Type"] = json.dumps(fields).encode(), "application/json"
            fields = {}
        answer = self.pool.request(method, self.url + place, body=body, headers=given, fields=fields or None)
        self.said.append(f"{what}: {answer.status}")
        if answer.status != wanted:
            self.wrong.append(f"{what}: {answer.status} and not {wanted}: {answer.data[:300]!r}")
        return answer

    def holds(self, what: str, condition: bool, about) -> None:
        self.said.append(f"{what}: {bool(condition)}")
        if not condition:
            self.wrong.append(f"{what}: {about!r}")


def call_all(call: Caller, downloads: bool) -> None:
    again, now = secrets.token_hex(4), int(time.time() * 1000)
    name = f"größe-{again}"
    for what, headers in {
        "no login": {},
        "a token": {"Authorization": "Bearer abc"},
        "a digest": {"Authorization": "Digest x"},
        "no password": {"Authorization": "Basic YWRtaW4="},
        "broken": {"Authorization": "Basic !"},
        "a wrong password": urllib3.make_headers(basic_auth=f"admin:{again}"),
    }.items():
        call(f"search with {what}", 401, "POST", f"{API}/experiments/search", headers=headers, max_results=1)
        call(f"a file with {what}", 401, "GET", f"{ARTIFACTS}/0/x", headers=headers)
    info = call("server-info", 200, "GET", f"{API3}/server-info").json()
    call.holds("nobody is sent to the store", not any(value for key, value in info.items() if "multipart" in key), info)

    tags = [{"key": "a", "value": "b"}]
    made = call("make an experiment", 200, "POST", f"{API}/experiments/create", name=name, tags=tags).json()
    experiment = made["experiment_id"]
    for how, fields in {"get": {"experiment_id": experiment}, "get-by-name": {"experiment_name": name}}.items():
        found = call(f"experiments/{how}", 200, "GET", f"{API}/experiments/{how}", **fields).json()["experiment"]
        call.holds(f"its name by {how}", found["name"] == name and found["tags"] == tags, found)
    call("an experiment that is not there", 404, "GET", f"{API}/experiments/get", experiment_id="999999999")
    call("an id that is no number", 400, "GET", f"{API}/experiments/get", experiment_id="x")
    call("the same name again", 400, "POST", f"{API}/experiments/create", name=name)

    run = call("make a run", 200, "POST", f"{API}/runs/create", experiment_id=experiment, start_time=now).json()
    run = run["run"]["info"]["run_id"]
    metrics = [{"key": f"m{number}", "value": number, "timestamp": now, "step": 0} for number in range(100)]
    params = [{"key": "depth", "value": "3"}]
    for _ in range(2):
        call("log a batch", 200, "POST", f"{API}/runs/log-batch", run_id=run, metrics=metrics, params=params)
    dataset = {"name": "rows", "digest": "abc", "source_type": "local", "source": "{}"}
    call("log an input", 200, "POST", f"{API}/runs/log-inputs", run_id=run, datasets=[{"dataset": dataset}])
    found = call("get the run", 200, "GET", f"{API}/runs/get", run_id=run).json()["run"]
    call.holds("all metrics", len(found["data"]["metrics"]) == 100, len(found["data"]["metrics"]))
    call.holds("its input", found["inputs"]["dataset_inputs"][0]["dataset"]["name"] == "rows", found["inputs"])
    query = {"experiment_ids": [experiment], "filter": "metrics.m7 > 6 and params.depth = '3'"}
    found = call("search runs", 200, "POST", f"{API}/runs/search", **query).json()
    call.holds("it is found", [it["info"]["run_id"] for it in found["runs"]] == [run], found)
    call("a filter that is none", 400, "POST", f"{API}/runs/search", experiment_ids=[experiment], filter="metrics.")
    call("a text that the database has none for", 400, "POST", f"{API}/runs/set-tag", run_id=run, key="k", value="a\0b")
    call("a run that is not there", 404, "GET", f"{API}/runs/get", run_id="0" * 32)

    call("make a model", 200, "POST", f"{API}/registered-models/create", name=name)
    for number in ("1", "2"):
        call("make a version", 200, "POST", f"{API}/model-versions/create", name=name, source=f"runs:/{run}/model", run_id=run)
        fields = {"name": name, "version": number, "stage": "Production", "archive_existing_versions": True}
        call("move it to a stage", 200, "POST", f"{API}/model-versions/transition-stage", **fields)
    call("a source elsewhere", 400, "POST", f"{API}/model-versions/create", name=name, source="s3://elsewhere/x")
    made = call("make a dataset", 200, "POST", f"{API3}/datasets/create", name=name, experiment_ids=["0"]).json()["dataset"]
    path = f"{API3}/datasets/{made['dataset_id']}/add-experiments"
    call("add it to an experiment", 200, "POST", path, dataset_id=made["dataset_id"], experiment_ids=[experiment])

    folder = f"{experiment}/{run}/artifacts"
    for size in (0, 1000, 9 << 20):
        content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        call(f"upload {size} bytes", 200, "PUT", f"{ARTIFACTS}/{folder}/{size}.bin", body=content)
        got = call(f"download {size} bytes", 200 if downloads else 403, "GET", f"{ARTIFACTS}/{folder}/{size}.bin")
        call.holds(f"what was uploaded, {size} bytes", not downloads or got.data == content, len(got.data))
    call("a file that is not there", 404 if downloads else 403, "GET", f"{ARTIFACTS}/{folder}/nope.txt")
    if downloads:
        call("the page's file that is not there", 404, "GET", "/get-artifact", path="nope.txt", run_uuid=run)
    listed = call("list", 200, "GET", f"{API}/artifacts/list", run_id=run).json()
    call.holds("all are listed", sorted(it["path"] for it in listed["files"]) == ["0.bin", "1000.bin", f"{9 << 20}.bin"], listed)

    user = {"username": f"user-{again}", "password": f"password-{again}-x"}
    call("make a user", 200, "POST", f"{API}/users/create", **user)
    other = Caller(call.url, user["username"], user["password"])
    other("he reads", 200, "GET", f"{API}/runs/get", run_id=run)
    other("he does not write", 403, "POST", f"{API}/runs/set-tag", run_id=run, key="k", value="v")
    other("nor delete", 403, "POST", f"{API}/experiments/delete", experiment_id=experiment)
    other("nor send the server elsewhere", 400, "POST", f"{API}/experiments/create", name=f"{name}-x", artifact_location="s3://else/x")
    other("he makes his own", 200, "POST", f"{API}/experiments/create", name=f"{name}-own")
    other("nor makes users", 403, "POST", f"{API}/users/create", username=f"more-{again}", password=f"password-{again}-y")
    call("remove him", 200, "DELETE", f"{API}/users/delete", username=user["username"])
    other("he is nobody", 401, "GET", f"{API}/runs/get", run_id=run)
    call.said += other.said
    call.wrong += other.wrong
    call("delete it", 200, "POST", f"{API}/experiments/delete", experiment_id=experiment)


def main() -> None:
    login = json.load(sys.stdin)
    call = Caller(sys.argv[1], login["username"], login["password"])
    try:
        call_all(call, "--no-downloads" not in sys.argv)
    except Exception as error:
        call.wrong.append(f"after {call.said[-1]}: {type(error).__name__}: {error}")
    print(json.dumps(call.said))
    if call.wrong:
        sys.exit("\n".join(call.wrong))


if __name__ == "__main__":
    main()
