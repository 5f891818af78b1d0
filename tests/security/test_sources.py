# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""An address that a user writes is one on this server: nobody reads or deletes with the server's own credentials."""

from __future__ import annotations

import re
import secrets

import boto3
import pytest
from attacks import holds, refused, works
from clients import AJAX, AJAX3, API, API3

ELSEWHERE = [
    "s3://{bucket}/{key}/{experiment}/{run}/artifacts", "s3://another-bucket/x", "S3://{bucket}/{key}", "s3:/{bucket}/{key}", "s3a://another/x",
    "file:///etc/passwd", "file:/etc/mlflow", "/etc/mlflow", "../../etc", "http://127.0.0.1:9/x", "https://attacker.example.net/x",
    "ftp://attacker.example.net/x", "sftp://attacker.example.net/x", "dbfs:/x", "dbfs:///x", "hdfs://attacker/x", "viewfs://attacker/x",
    "gs://attacker/x", "wasbs://c@attacker.blob.core.windows.net/x", "abfss://c@attacker.dfs.core.windows.net/x", "r2://x@attacker/x",
    "b2://attacker/x", "uc:/x", "mlflow-artifacts://attacker.example.net/x", "mlflow-artifacts://127.0.0.1:9/x",
    "mlflow-artifacts:/../../etc", "mlflow-artifacts:/{experiment}/%2e%2e/x", " s3://another-bucket/x", "%73%33://another-bucket/x",
]  # fmt: skip
# On the server, but another's.
ANOTHERS = ["mlflow-artifacts:/{experiment}/{run}/artifacts", "mlflow-artifacts:/{experiment}", "mlflow-artifacts:///{experiment}",
            "runs:/{run}/notes.txt", "models:/{model}/1", "models:/{logged}", "models:/{logged}/", "models:/{logged}/notes.txt",
            "models:///{logged}", "mlflow-artifacts:/{experiment}/models/{logged}/artifacts"]  # fmt: skip


@pytest.fixture(scope="module")
def root(server):
    """Bucket and prefix, as the service has them."""
    line = server.run("grep ^MLFLOW_ARTIFACTS_DESTINATION= /etc/mlflow/mlflow.env").partition("=")[2]
    bucket, _, key = line.strip("\"'").removeprefix("s3://").partition("/")
    return {"bucket": bucket, "key": key.strip("/")}


@pytest.fixture(scope="module")
def own(people):
    """What the neighbour has of his own: a run with a file, and a model."""
    again = secrets.token_hex(4)
    found = {"name": f"neighbours-model-{again}"}
    found["experiment"] = people.neighbour.must("POST", f"{API}/experiments/create", name=f"own-{again}")["experiment_id"]
    run = people.neighbour.must("POST", f"{API}/runs/create", experiment_id=found["experiment"])["run"]["info"]
    found["run"], found["uri"] = run["run_id"], run["artifact_uri"]
    path = found["uri"].removeprefix("mlflow-artifacts:/")
    works(people.neighbour.put(f"/api/2.0/mlflow-artifacts/artifacts/{path}/notes.txt", b"his own"))
    people.neighbour.must("POST", f"{API}/registered-models/create", name=found["name"])
    return found


def _logged_model(user, experiment, content):
    """A model that is logged and ready, with a file."""
    made = user.must("POST", f"{API}/logged-models", experiment_id=experiment, name="logged")["model"]["info"]
    path = made["artifact_uri"].removeprefix("mlflow-artifacts:/")
    works(user.put(f"/api/2.0/mlflow-artifacts/artifacts/{path}/notes.txt", content))
    user.must("PATCH", f"{API}/logged-models/{made['model_id']}", model_id=made["model_id"], status="LOGGED_MODEL_READY")
    return made["model_id"]


@pytest.fixture(scope="module")
def logged(people, world):
    """A logged model of the owner's, with his secret in it."""
    return _logged_model(people.owner, world.experiment, world.secret)


@pytest.mark.parametrize("source", ELSEWHERE + ANOTHERS)
def test_a_models_source_is_of_ones_own(people, world, root, own, logged, source):
    """Refused; and were it taken, nothing would be read by it."""
    address = source.format(**root, experiment=world.experiment, run=world.run, model=world.model, logged=logged)
    user = people.neighbour
    for api in (API, AJAX):
        for run in ({}, {"run_id": own["run"]}, {"model_id": logged}):
            answer = user.post(f"{api}/model-versions/create", name=own["name"], source=address, **run)
            if answer.status == 200:
                asked = {"name": own["name"], "version": answer.json["model_version"]["version"], "path": "notes.txt"}
                read = user.get("/model-versions/get-artifact", **asked)
                assert world.secret not in read.body, f"{address} was read"
            refused(answer, 400, 403, 404)


def test_the_source_that_clients_give_is_taken(people, own):
    user = people.neighbour
    answer = works(user.post(f"{API}/model-versions/create", name=own["name"], source=own["uri"], run_id=own["run"]))
    asked = {"name": own["name"], "version": answer.json["model_version"]["version"], "path": "notes.txt"}
    assert works(user.get("/model-versions/get-artifact", **asked)).body == b"his own"
    refused(people.stranger.get("/model-versions/get-artifact", **asked), 401)
    works(user.post(f"{API}/model-versions/create", name=own["name"], source=f"runs:/{own['run']}/m", run_id=own["run"]))
    # A logged model of his own, and nobody else reads the version that is made of it.
    mine = _logged_model(user, own["experiment"], b"his own model")
    answer = works(user.post(f"{API}/model-versions/create", name=own["name"], source=f"models:/{mine}", model_id=mine))
    asked = {"name": own["name"], "version": answer.json["model_version"]["version"], "path": "notes.txt"}
    assert works(user.get("/model-versions/get-artifact", **asked)).body == b"his own model"
    refused(people.stranger.get("/model-versions/get-artifact", **asked), 401)
    # What MLflow writes for a prompt.
    prompt = f"prompt-{secrets.token_hex(4)}"
    is_prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    works(user.post(f"{API}/registered-models/create", name=prompt, tags=is_prompt))
    text = [*is_prompt, {"key": "mlflow.prompt.text", "value": "Say hello."}]
    works(user.post(f"{API}/model-versions/create", name=prompt, source="dummy-source", tags=text))


PLACES = [
    *ELSEWHERE, *ANOTHERS[:3], "mlflow-artifacts:/", "mlflow-artifacts:/x/../{experiment}", "mlflow-artifacts:/./{experiment}",
    "mlflow-artifacts:/x\\..\\{experiment}", "mlflow-artifacts:/%31", "runs:/{run}",
]  # fmt: skip


@pytest.mark.parametrize("location", PLACES)
def test_an_experiments_location_is_on_the_server_and_nobody_elses(people, world, root, location):
    address = location.format(**root, experiment=world.experiment, run=world.run, model=world.model)
    for api in (API, AJAX):
        name = f"e-{secrets.token_hex(6)}"
        refused(people.neighbour.post(f"{api}/experiments/create", name=name, artifact_location=address), 400, 403)


def test_the_location_that_is_ones_own_is_taken(people, root):
    name = f"place-{secrets.token_hex(4)}"
    location = f"mlflow-artifacts:/{name}"
    answer = works(people.neighbour.post(f"{API}/experiments/create", name=name, artifact_location=location))
    made = answer.json["experiment_id"]
    found = works(people.neighbour.get(f"{API}/experiments/get", experiment_id=made)).json["experiment"]
    assert found["artifact_location"] == location
    # Who is an administrator may name the bucket.
    elsewhere = f"s3://{root['bucket']}/{root['key']}/elsewhere-{name}"
    works(people.admin.post(f"{API}/experiments/create", name=f"{name}-s3", artifact_location=elsewhere))
    refused(people.neighbour.post(f"{API}/experiments/create", name=f"{name}-s4", artifact_location=elsewhere), 400, 403)


# An administrator may give such a place, and a database that was taken over may have one: MLflow takes them of anybody.
INTO_ANOTHERS = ["mlflow-artifacts:/{experiment}", "mlflow-artifacts:/{experiment}/{run}",
                 "mlflow-artifacts:/{experiment}/{run}/artifacts", "s3://{bucket}/{key}/{experiment}",
                 "s3://{bucket}/{key}/{experiment}/{run}/artifacts"]  # fmt: skip
UP = ["", "notes.txt", "../notes.txt", "../../notes.txt", "../../../{run}/artifacts/notes.txt", "../../{run}/artifacts", "..",
      "../..", "%2e%2e/%2e%2e/notes.txt", "..%2f..%2fnotes.txt", "/{experiment}/{run}/artifacts/notes.txt"]  # fmt: skip


@pytest.mark.parametrize("location", INTO_ANOTHERS)
def test_a_place_inside_anothers_experiment_is_no_way_into_it(people, world, root, grant, location):
    """Who has all rights on such an experiment, and none on the other one: nothing is read, listed, written or removed there."""
    user, names = people.neighbour, {**root, "experiment": world.experiment, "run": world.run}
    made = people.admin.must(
        "POST", f"{API}/experiments/create", name=f"into-{secrets.token_hex(6)}", artifact_location=location.format(**names)
    )["experiment_id"]
    grant(user, "MANAGE", "experiment", made)
    run = works(user.post(f"{API}/runs/create", experiment_id=made)).json["run"]["info"]
    model = user.must("POST", f"{API}/logged-models", experiment_id=made, name="logged")["model"]["info"]["model_id"]
    trace = works(user.post(f"{API3}/traces", **_trace(user, made))).json["trace"]["trace_info"]["trace_id"]
    works(user.get(f"{API}/artifacts/list", run_id=run["run_id"]))
    for path in (it.format(**names) for it in UP):
        asked = [
            user.get(f"{API}/artifacts/list", run_id=run["run_id"], path=path),
            user.get(f"{AJAX}/artifacts/list", run_id=run["run_id"], path=path),
            user.get("/get-artifact", run_uuid=run["run_id"], path=path),
            user.get(f"{AJAX}/logged-models/{model}/artifacts/files", artifact_file_path=path),
            user.get(f"{AJAX}/logged-models/{model}/artifacts/directories", artifact_directory_path=path),
            *(user.get(f"{api}/get-trace-artifact", request_id=trace, path=path) for api in (AJAX, AJAX3)),
        ]
        for answer in asked:
            holds(world.secret not in answer.body, f"{location} and {path}: the other's file was read")
            found = answer.json.get("files") or [] if answer.status == 200 and answer.body.startswith(b"{") else []
            holds(not any("notes.txt" in it["path"] or world.run in it["path"] for it in found), f"{path}: {found}")
        if path.startswith((".", "/", "%")):
            user.post(f"{AJAX}/upload-artifact?run_uuid={run['run_id']}&path={path}", x="mine")
    # By the address that MLflow gives to clients, and by that of the other's: his rights decide.
    folder = run["artifact_uri"].partition(":/")[2].strip("/") if run["artifact_uri"].startswith("mlflow-artifacts:") else ""
    for path in filter(None, [folder, f"{world.experiment}/{world.run}/artifacts"]):
        refused(user.put(f"/api/2.0/mlflow-artifacts/artifacts/{path}/notes.txt", b"mine"), 403)
        refused(user.get(f"/api/2.0/mlflow-artifacts/artifacts/{path}/notes.txt"), 403)
        refused(user.get("/api/2.0/mlflow-artifacts/artifacts", path=path), 403)
        refused(user.call("DELETE", f"/api/2.0/mlflow-artifacts/artifacts/{path}/notes.txt"), 403)
    # Nor with a version of a model, which has its files of the run.
    name = f"into-{secrets.token_hex(6)}"
    works(user.post(f"{API}/registered-models/create", name=name))
    source = f"runs:/{run['run_id']}/../../artifacts"
    answer = user.post(f"{API}/model-versions/create", name=name, source=source, run_id=run["run_id"])
    if answer.status == 200:
        asked = {"name": name, "version": answer.json["model_version"]["version"], "path": "notes.txt"}
        holds(world.secret not in user.get("/model-versions/get-artifact", **asked).body, "the other's file was read")
    user.delete(f"{API}/runs/delete", run_id=run["run_id"])
    assert works(people.owner.get(f"{world.folder}/notes.txt")).body == world.secret


@pytest.mark.parametrize("location", ["http://127.0.0.1:9/x", "https://attacker.example.net/x", "file:///etc", "/etc", "dbfs:/x", "ftp://x/y"])
def test_not_even_an_administrator_gives_a_place_that_is_no_store(people, location):
    for api in (API, AJAX):
        asked = {"name": f"e-{secrets.token_hex(6)}", "artifact_location": location}
        refused(people.admin.post(f"{api}/experiments/create", **asked), 400)


def test_in_a_place_of_ones_own_it_is_as_mlflow_has_it(people, root):
    """MLflow finds no experiment in the address, so what everybody may by default decides: to read, and not to write."""
    name = f"used-{secrets.token_hex(4)}"
    user, location = people.neighbour, f"mlflow-artifacts:/{name}"
    made = works(user.post(f"{API}/experiments/create", name=name, artifact_location=location)).json["experiment_id"]
    run = works(user.post(f"{API}/runs/create", experiment_id=made)).json["run"]["info"]
    assert run["artifact_uri"] == f"{location}/{run['run_id']}/artifacts"
    address = f"/api/2.0/mlflow-artifacts/artifacts/{name}/{run['run_id']}/artifacts/notes.txt"
    refused(user.put(address, b"his own"), 403)
    works(people.admin.put(address, b"his own"))
    assert works(user.get(address)).body == b"his own"
    assert works(user.get("/get-artifact", run_uuid=run["run_id"], path="notes.txt")).body == b"his own"
    assert works(user.get(f"{API}/artifacts/list", run_id=run["run_id"])).json["files"][0]["path"] == "notes.txt"
    refused(people.stranger.get(address), 401)


TAG = "mlflow.artifactLocation"


def _trace(user, experiment, **about):
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    given = {"trace_id": f"tr-{secrets.token_hex(16)}", "request_time": "2026-01-01T00:00:00Z", "state": "OK"}
    return {"trace": {"trace_info": {**given, "trace_location": place, **about}}}


@pytest.fixture(scope="module")
def another_bucket(deployment):
    """A bucket that is not the server's, with a file in it."""
    name, s3 = f"others-{secrets.token_hex(6)}", boto3.client("s3", **deployment.aws)
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": deployment.aws["region_name"]})
    s3.put_object(Bucket=name, Key="x/notes.txt", Body=b"root:another bucket's")
    yield name
    s3.delete_object(Bucket=name, Key="x/notes.txt")
    s3.delete_bucket(Bucket=name)


# Somebody who waits at an address of the host itself, and notes who comes.
LISTEN = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open("/run/tests-listener.log", "a") as log:
            log.write(self.path + "\\n")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"root:from http")
    do_HEAD = do_POST = do_PUT = do_GET
http.server.HTTPServer(("127.0.0.1", 8099), Answer).serve_forever()
"""
LISTENER = "http://127.0.0.1:8099"


@pytest.fixture
def visitors(server):
    """What was asked of the listener, each time that this is called."""
    server.run(f"cat >/run/tests-listener.py <<'PROGRAM'\n{LISTEN}PROGRAM\n: >/run/tests-listener.log\n"
               "systemd-run --quiet --collect --unit=tests-listener /opt/mlflow/current/bin/python /run/tests-listener.py\n"
               f"curl --silent --retry 20 --retry-connrefused --retry-delay 1 {LISTENER}/honest")  # fmt: skip
    yield lambda: server.run("cat /run/tests-listener.log").split()
    server.run("systemctl stop tests-listener; rm -f /run/tests-listener.*", check=False)


def test_where_a_traces_data_is_no_tag_says(people, world, root, own, another_bucket, visitors):
    """
    Set later, set at the start, by each version of the API: the data of another's trace or run is not read by it, nor that of
    another bucket, and the server asks nobody for it.
    """
    user = people.neighbour
    targets = [f"s3://{root['bucket']}/{root['key']}/{world.experiment}/{world.run}/artifacts",
               f"mlflow-artifacts:/{world.experiment}/{world.run}/artifacts", "file:///etc",
               f"s3://{another_bucket}/x", f"{LISTENER}/x", "mlflow-artifacts://127.0.0.1:8099/x",
               f"mlflow-artifacts:{LISTENER.removeprefix('http:')}/api/2.0/mlflow-artifacts/artifacts/x"]  # fmt: skip
    made = works(user.post(f"{API3}/traces", **_trace(user, own["experiment"]))).json["trace"]["trace_info"]["trace_id"]
    for target in targets:
        for api in (API, AJAX, API3, AJAX3):
            refused(user.patch(f"{api}/traces/{made}/tags", key=TAG, value=target), 400, 403)
        begun = user.post(f"{API3}/traces", **_trace(user, own["experiment"], tags={TAG: target}))
        tags = [{"key": TAG, "value": target}]
        begun_before = user.post(f"{API}/traces", experiment_id=own["experiment"], timestamp_ms=1, tags=tags)
        ids = [begun.json["trace"]["trace_info"]["trace_id"]] if begun.status == 200 else []
        ids += re.findall(r'"request_id": "(.*?)"', begun_before.body.decode()) if begun_before.status == 200 else []
        for trace in [made, *ids]:
            for api in (AJAX, AJAX3):
                for path in ("notes.txt", "../artifacts/notes.txt", "passwd", ""):
                    read = user.get(f"{api}/get-trace-artifact", request_id=trace, path=path)
                    holds(world.secret not in read.body and b"root:" not in read.body, f"{target} was read")
        refused(user.delete(f"{API3}/traces/{made}/tags", key=TAG), 400, 403, 404)
    # The one who came is the honest call.
    holds(visitors() == ["/honest"], visitors())
    works(user.patch(f"{API3}/traces/{made}/tags", key="color", value="blue"))
    assert works(user.get(f"{API3}/traces/{made}")).json["trace"]["trace_info"]["tags"]["color"] == "blue"
