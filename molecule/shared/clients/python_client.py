# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What people do with a server by MLflow's own client, each read back; prints as JSON what is left for others to look at.

Standard input is {"username": …, "password": …, "certificate": FILE}.
"""

import hashlib
import json
import math
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

login = json.load(sys.stdin)
URL = "https://mlflow.example.com"
# A disk, as files are of any size; /tmp may be in memory.
tempfile.tempdir = "/var/tmp"
os.environ.update(
    MLFLOW_TRACKING_URI=URL,
    MLFLOW_TRACKING_USERNAME=login["username"],
    MLFLOW_TRACKING_PASSWORD=login["password"],
    MLFLOW_TRACKING_SERVER_CERT_PATH=login["certificate"],
    MLFLOW_DISABLE_TELEMETRY="true",
    # Each request has to be right the first time.
    MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    # There is no git here, which MLflow would tell at length.
    GIT_PYTHON_REFRESH="quiet",
)

import mlflow  # noqa: E402
import pandas  # noqa: E402
import requests  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Metric, Param, RunTag, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.server import get_app_client  # noqa: E402

client = MlflowClient()
again = secrets.token_hex(4)

POINTS = 5000
BATCH = 1000
LARGE_MIB = 300
# What a name may hold on the way through a URL, a proxy and a store.
FILES = {
    "words.txt": b"kept in the bucket\n",
    "größe und maß.txt": "Länge × Breite\n".encode(),
    "ein Ordner/noch einer/ça & là + (1).bin": os.urandom(100_000),
    "ein Ordner/nothing.bin": b"",
    "日本/データ.csv": b"x,y\n1,2\n",
}
MODEL = """
import mlflow

class Times(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["x"] * {factor}

mlflow.models.set_model(Times())
"""


def refused(status, call, *arguments, **options):
    """The server must answer this call with that status."""
    try:
        call(*arguments, **options)
    except MlflowException as error:
        assert error.get_http_status_code() == status, f"{call.__name__}: {error}"
    except requests.HTTPError as error:
        assert error.response.status_code == status, f"{call.__name__}: {error}"
    else:
        raise AssertionError(f"{call.__name__}{arguments} was not refused")


def in_pages(search, **options):
    """All that a search finds, and how many pages that took."""
    found, token, pages = [], None, 0
    while True:
        page = search(page_token=token, **options)
        found += page
        pages += 1
        token = page.token
        if not token:
            return found, pages


def nested_runs(experiment):
    """A run with others in it, found by their parent, by what they logged, in an order and in pages."""
    with mlflow.start_run(run_name="parent", description="compares depths") as parent:
        for depth in range(1, 8):
            with mlflow.start_run(run_name=f"depth {depth}", nested=True):
                mlflow.log_param("depth", depth)
                mlflow.log_metric("loss", abs(depth - 3) / 8)
                mlflow.set_tag("even", depth % 2 == 0)
    parent_id = parent.info.run_id
    of_parent = f"tags.mlflow.parentRunId = '{parent_id}'"

    best = client.search_runs([experiment], of_parent, order_by=["metrics.loss ASC"])
    assert [run.data.metrics["loss"] for run in best] == sorted(abs(d - 3) / 8 for d in range(1, 8)), best
    assert best[0].data.params == {"depth": "3"}, best[0].data.params
    assert best[0].data.tags["mlflow.parentRunId"] == parent_id
    some = client.search_runs([experiment], f"{of_parent} and metrics.loss < 0.2 and tags.even = 'True'")
    assert sorted(run.info.run_name for run in some) == ["depth 2", "depth 4"], some
    assert client.search_runs([experiment], f"{of_parent} and params.depth = '9'") == []
    everything, pages = in_pages(
        client.search_runs, experiment_ids=[experiment], filter_string=of_parent, max_results=3, order_by=["params.depth DESC"]
    )
    assert [run.info.run_name for run in everything] == [f"depth {depth}" for depth in range(7, 0, -1)], everything
    assert pages == 3, pages
    frame = mlflow.search_runs([experiment], of_parent)
    assert sorted(frame["params.depth"]) == list("1234567"), frame
    assert client.get_run(parent_id).info.status == "FINISHED"
    return parent_id


def batches(run_id):
    """Parameters and tags in one request, and a metric of some thousand points that comes back whole and in pages."""
    now = int(time.time() * 1000)
    values = [1 / (1 + step) for step in range(POINTS)]
    for first in range(0, POINTS, BATCH):
        client.log_batch(
            run_id, metrics=[Metric("loss", values[step], now + step, step) for step in range(first, first + BATCH)]
        )
    params = {f"layer/{number}": "ü" * number for number in range(1, 100)}
    client.log_batch(run_id, params=[Param(*item) for item in params.items()], tags=[RunTag("note", "a\nb 'c' \"d\"")])
    client.log_metric(run_id, "odd", math.nan, step=1)
    client.set_tag(run_id, "gone", "soon")
    client.delete_tag(run_id, "gone")

    data = client.get_run(run_id).data
    assert data.params == params
    assert data.metrics["loss"] == values[-1] and math.isnan(data.metrics["odd"]), data.metrics
    assert data.tags["note"] == "a\nb 'c' \"d\"" and "gone" not in data.tags, data.tags
    history = client.get_metric_history(run_id, "loss")
    assert sorted((point.step, point.value, point.timestamp) for point in history) == [
        (step, value, now + step) for step, value in enumerate(values)
    ]
    refused(400, client.log_param, run_id, "layer/1", "another value")

    session = requests.Session()
    session.auth, session.verify = (login["username"], login["password"]), login["certificate"]
    asked = {"run_id": run_id, "metric_key": "loss", "max_results": BATCH}
    steps, pages = [], 0
    while True:
        answer = session.get(f"{URL}/api/2.0/mlflow/metrics/get-history", params=asked, timeout=60)
        answer.raise_for_status()
        page = answer.json()
        steps += [int(point.get("step", 0)) for point in page["metrics"]]
        pages += 1
        if not page.get("next_page_token"):
            break
        asked["page_token"] = page["next_page_token"]
    assert sorted(steps) == list(range(POINTS)) and pages >= POINTS / BATCH, (len(steps), pages)


def datasets(experiment, run_id):
    frame = pandas.DataFrame({"rooms": [1, 2, 3], "price": [10.0, 20.5, 30.0]})
    dataset = mlflow.data.from_pandas(frame, source="https://example.com/houses.csv", name="houses", targets="price")
    with mlflow.start_run(run_id=run_id):
        mlflow.log_input(dataset, context="training", tags={"origin": "survey"})
    (kept,) = client.get_run(run_id).inputs.dataset_inputs
    assert (kept.dataset.name, kept.dataset.digest) == ("houses", dataset.digest), kept.dataset
    assert json.loads(kept.dataset.profile)["num_rows"] == 3, kept.dataset.profile
    columns = json.loads(kept.dataset.schema)["mlflow_colspec"]
    assert [column["name"] for column in columns] == ["rooms", "price"], columns
    assert {tag.key: tag.value for tag in kept.tags} == {"mlflow.data.context": "training", "origin": "survey"}, kept.tags
    assert mlflow.data.get_source(kept.dataset).url == "https://example.com/houses.csv"
    found = client.search_runs([experiment], "dataset.name = 'houses' and dataset.context = 'training'")
    assert [run.info.run_id for run in found] == [run_id], found


def checksum(file):
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def listed(run_id, path=None):
    """Every file below the path, with its size, which for an empty one MLflow leaves out."""
    found = {}
    for item in client.list_artifacts(run_id, path):
        found.update(listed(run_id, item.path) if item.is_dir else {item.path: item.file_size or 0})
    return found


def artifacts(run_id):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in FILES.items():
            file = Path(folder, "up", name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        client.log_artifacts(run_id, f"{folder}/up", "a tree/of files")
        client.log_artifact(run_id, f"{folder}/up/words.txt", "notes")
        client.log_dict(run_id, {"a": [1, 2]}, "notes/a.json")
        expected = {f"a tree/of files/{name}": content for name, content in FILES.items()}
        sizes = {name: len(content) for name, content in expected.items()}
        found = listed(run_id, "a tree")
        assert found == sizes, f"listed {found}, uploaded {sizes}"
        got = Path(client.download_artifacts(run_id, "a tree", tempfile.mkdtemp(dir=folder)))
        for name, content in expected.items():
            assert Path(got.parent, name).read_bytes() == content, name
        one = "a tree/of files/ein Ordner/noch einer/ça & là + (1).bin"
        assert Path(client.download_artifacts(run_id, one, tempfile.mkdtemp(dir=folder))).read_bytes() == expected[one]
        assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/words.txt") == "kept in the bucket\n"
        assert mlflow.artifacts.load_dict(f"runs:/{run_id}/notes/a.json") == {"a": [1, 2]}

        large = Path(folder, "large.bin")
        with large.open("wb") as stream:
            for _ in range(LARGE_MIB):
                stream.write(os.urandom(1 << 20))
        before = checksum(large)
        client.log_artifact(run_id, str(large), "large")
        large.unlink()
        assert listed(run_id, "large") == {"large/large.bin": LARGE_MIB << 20}
        assert checksum(client.download_artifacts(run_id, "large/large.bin", folder)) == before


def models(experiment):
    """Two versions of a model, told apart by what they answer."""
    name = f"times-{again}"
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_name="models") as run:
        for factor in (2, 3):
            code = Path(folder, f"times_{factor}.py")
            code.write_text(MODEL.format(factor=factor))
            mlflow.pyfunc.log_model(
                name=f"times-{factor}",
                python_model=str(code),
                signature=mlflow.models.infer_signature(pandas.DataFrame({"x": [1]}), pandas.Series([2])),
                registered_model_name=name,
                pip_requirements=["mlflow"],
            )
    question = pandas.DataFrame({"x": [1, 5]})

    def answers(which):
        return list(mlflow.pyfunc.load_model(f"models:/{name}{which}").predict(question))

    client.set_registered_model_alias(name, "champion", "1")
    assert answers("@champion") == [2, 10]
    client.set_registered_model_alias(name, "champion", "2")
    assert answers("@champion") == [3, 15] and answers("/1") == [2, 10]
    client.set_model_version_tag(name, "2", "approved", "yes")
    client.update_registered_model(name, "multiplies")
    version = client.get_model_version_by_alias(name, "champion")
    assert (version.version, version.tags, version.run_id) == (2, {"approved": "yes"}, run.info.run_id) or (
        version.version, version.tags, version.run_id) == ("2", {"approved": "yes"}, run.info.run_id), version  # fmt: skip
    assert client.get_registered_model(name).description == "multiplies"
    assert client.get_registered_model(name).aliases == {"champion": "2"}
    found = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
    assert [int(item.version) for item in found] == [2, 1], found
    assert [item.name for item in client.search_registered_models(f"name LIKE 'times-{again}%'")] == [name]
    logged = mlflow.search_logged_models([experiment], output_format="list", order_by=[{"field_name": "name"}])
    assert [model.name for model in logged] == ["times-2", "times-3"], logged

    client.delete_registered_model_alias(name, "champion")
    refused(400, client.get_model_version_by_alias, name, "champion")
    client.set_registered_model_alias(name, "champion", "2")
    client.create_registered_model(f"{name}-unwanted")
    client.rename_registered_model(f"{name}-unwanted", f"{name}-renamed")
    client.delete_registered_model(f"{name}-renamed")
    refused(404, client.get_registered_model, f"{name}-renamed")
    return name


def traces(experiment):
    text = "ein langer Text, " * 20_000

    @mlflow.trace(span_type="RETRIEVER")
    def look_up(question):
        return [text, question]

    with mlflow.start_span("answer a question") as root:
        root.set_inputs({"question": "größe?"})
        with mlflow.start_span("think", span_type="LLM") as inner:
            inner.set_attribute("tokens", 12)
            look_up("größe?")
        root.set_outputs("42")
    try:
        with mlflow.start_span("a question too many"):
            raise ValueError("no answer")
    except ValueError:
        pass
    mlflow.flush_trace_async_logging()

    trace = client.get_trace(root.trace_id, display=False)
    spans = {span.name: span for span in trace.data.spans}
    assert set(spans) == {"answer a question", "think", "look_up"}, spans
    assert spans["look_up"].parent_id == spans["think"].span_id
    assert spans["think"].parent_id == spans["answer a question"].span_id
    assert spans["look_up"].outputs == [text, "größe?"], "the long text came back as another one"
    assert spans["think"].get_attribute("tokens") == 12
    assert spans["answer a question"].inputs == {"question": "größe?"}

    client.set_trace_tag(root.trace_id, "seen", "yes")
    mlflow.log_feedback(trace_id=root.trace_id, name="right", value=True, rationale="it is")
    where = {"locations": [experiment]}
    found = client.search_traces(filter_string="tags.seen = 'yes'", **where)
    assert [item.info.trace_id for item in found] == [root.trace_id], found
    assert len(found[0].data.spans) == 3, found[0].data.spans
    assert [(item.name, item.value) for item in found[0].info.assessments] == [("right", True)], found[0].info.assessments
    (failed,) = client.search_traces(filter_string="attributes.status = 'ERROR'", **where)
    assert failed.data.spans[0].name == "a question too many"
    everything, pages = in_pages(client.search_traces, max_results=1, **where)
    assert len(everything) == 2 and pages >= 2, (everything, pages)
    assert client.delete_traces(experiment, trace_ids=[failed.info.trace_id]) == 1
    assert len(client.search_traces(**where)) == 1
    return root.trace_id


def deletion(experiment):
    """What is deleted is out of sight and comes back as it was."""
    run_id = client.create_run(experiment, run_name="deleted").info.run_id
    client.log_metric(run_id, "loss", 0.5)
    client.log_text(run_id, "still there\n", "notes/words.txt")
    client.set_terminated(run_id)

    def active(view=ViewType.ACTIVE_ONLY):
        return run_id in [run.info.run_id for run in client.search_runs([experiment], run_view_type=view)]

    client.delete_run(run_id)
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    assert not active() and active(ViewType.DELETED_ONLY) and active(ViewType.ALL)
    refused(400, client.log_metric, run_id, "loss", 0.4)
    client.restore_run(run_id)
    assert active() and client.get_run(run_id).data.metrics == {"loss": 0.5}
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/words.txt") == "still there\n"

    other = client.create_experiment(f"deleted-{again}", tags={"team": "blue"})
    inside = client.create_run(other).info.run_id

    def names(view=ViewType.ACTIVE_ONLY):
        return [item.name for item in client.search_experiments(view, filter_string="tags.team = 'blue'")]

    assert f"deleted-{again}" in names()
    client.delete_experiment(other)
    assert f"deleted-{again}" not in names() and f"deleted-{again}" in names(ViewType.DELETED_ONLY)
    assert client.get_run(inside).info.lifecycle_stage == "deleted"
    refused(400, client.create_run, other)
    refused(400, client.create_experiment, f"deleted-{again}")
    client.restore_experiment(other)
    assert f"deleted-{again}" in names()
    assert client.get_run(inside).info.lifecycle_stage == "active"
    # Out of the way, and for mlflow-gc to find.
    client.delete_experiment(other)


def many_experiments():
    """Experiments in pages and in an order."""
    names = [f"page-{again}-{number}" for number in range(5)]
    made = [client.create_experiment(name) for name in names]
    found, pages = in_pages(
        client.search_experiments, filter_string=f"name LIKE 'page-{again}-%'", order_by=["name DESC"], max_results=2
    )
    assert [item.name for item in found] == names[::-1] and pages == 3, (found, pages)
    client.rename_experiment(made[0], f"renamed-{again}")
    assert client.get_experiment_by_name(f"renamed-{again}").experiment_id == made[0]
    for experiment in made:
        client.delete_experiment(experiment)


def another_user(experiment, run_id, model):
    """Somebody who may read what is not his, and write what is."""
    logins = get_app_client("basic-auth", tracking_uri=URL)
    name, password = f"reader-{again}", secrets.token_urlsafe(24)
    logins.create_user(name, password)
    assert not logins.get_user(name).is_admin
    os.environ.update(MLFLOW_TRACKING_USERNAME=name, MLFLOW_TRACKING_PASSWORD=password)
    try:
        reader = MlflowClient()
        assert reader.get_experiment(experiment).experiment_id == experiment
        assert reader.get_run(run_id).info.run_id == run_id
        assert len(reader.get_metric_history(run_id, "loss")) == POINTS
        assert run_id in [run.info.run_id for run in reader.search_runs([experiment])]
        assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/words.txt") == "kept in the bucket\n"
        assert reader.get_model_version_by_alias(model, "champion").name == model
        assert len(reader.search_traces(locations=[experiment])) == 1

        refused(403, reader.create_run, experiment)
        refused(403, reader.log_metric, run_id, "loss", 0.1)
        refused(403, reader.log_param, run_id, "mine", "1")
        refused(403, reader.log_batch, run_id, tags=[RunTag("mine", "1")])
        refused(403, reader.set_tag, run_id, "mine", "1")
        refused(403, reader.log_text, run_id, "mine", "notes/words.txt")
        refused(403, reader.delete_run, run_id)
        refused(403, reader.delete_experiment, experiment)
        refused(403, reader.rename_experiment, experiment, "mine")
        refused(403, reader.set_registered_model_alias, model, "champion", "1")
        refused(403, reader.delete_registered_model, model)
        refused(403, logins.create_user, f"friend-{again}", password)
        refused(403, logins.update_user_admin, name, True)

        own = reader.create_experiment(f"of-the-reader-{again}")
        mine = reader.create_run(own).info.run_id
        reader.log_text(mine, "mine\n", "words.txt")
        assert mlflow.artifacts.load_text(f"runs:/{mine}/words.txt") == "mine\n"
        reader.delete_experiment(own)

        os.environ["MLFLOW_TRACKING_PASSWORD"] = "not-" + password
        refused(401, reader.get_experiment, experiment)
    finally:
        os.environ.update(MLFLOW_TRACKING_USERNAME=login["username"], MLFLOW_TRACKING_PASSWORD=login["password"])
    data = client.get_run(run_id).data
    assert "mine" not in {**data.params, **data.tags}
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/words.txt") == "kept in the bucket\n"
    logins.delete_user(name)


def main():
    experiment = client.create_experiment(f"clients-{again}")
    mlflow.set_experiment(experiment_id=experiment)
    parent_id = nested_runs(experiment)
    run_id = client.create_run(experiment, run_name="one of many points").info.run_id
    for step in (
        lambda: batches(run_id), lambda: artifacts(run_id), lambda: datasets(experiment, run_id), lambda: deletion(experiment),
        many_experiments,
    ):  # fmt: skip
        step()
    client.set_terminated(run_id)
    model = models(experiment)
    trace_id = traces(experiment)
    another_user(experiment, run_id, model)
    left = {"experiment": experiment, "name": f"clients-{again}", "run": run_id, "parent": parent_id, "model": model,
            "trace": trace_id, "deleted": f"deleted-{again}"}  # fmt: skip
    print(json.dumps(left))


main()
