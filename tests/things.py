# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""One thing of each kind that MLflow keeps, and by which request each of its routes is asked about them."""

from __future__ import annotations

import json
import random
import re

from clients import API, API3, ARTIFACTS

MPU, OTLP, MCP_VERSION = "/api/2.0/mlflow-artifacts/mpu", {"Content-Type": "application/x-protobuf"}, "1.0.0"
# What ends or moves the thing that it is asked for: these honest calls come last, and in this order.
ENDS = re.compile(r"/(delete[-a-z]*|rename|restore|remove[-a-z]*|permissions/revoke|update-admin)$")
LAST = [
    "roles/permissions/remove", "roles/unassign", "roles/delete", "model-versions/delete", "registered-models/rename",
    "registered-models/delete", "logged-models/<model_id>", "traces/delete-traces", "runs/delete", "runs/restore",
    "users/permissions/revoke", "experiments/delete", "experiments/restore", "users/update-admin", "users/delete",
]  # fmt: skip


def ends(method, route):
    return method == "DELETE" or bool(ENDS.search(route))


def how_late(method_and_route):
    _method, route = method_and_route
    late = [number for number, end in enumerate(LAST, 1) if route.endswith(f"/mlflow/{end}")]
    return (*(late or [0]), -route.count("/"), route)


class Things:
    """One of each kind of thing in an experiment of the owner's, who lets the reader read and the editor write."""

    def __init__(self, people, grant, words=None):
        """
        :arg words: Where names come from, a random.Random; two that begin with one seed call their things alike.
        """
        self.words = words or random.SystemRandom()
        owner, again = people.owner, self.word(10)
        self.again, self.experiment_name, self.model = again, f"routes-{again}", f"routes-model-{again}"
        # What is asked for until its end has another name then.
        self.is_ended = False
        self.experiment = owner.must("POST", f"{API}/experiments/create", name=self.experiment_name)["experiment_id"]
        owner.must("POST", f"{API}/registered-models/create", name=self.model)
        self.mcp = f"com.example/{again}"
        owner.must("POST", f"{API3}/mcp-servers", name=self.mcp)
        description = {"name": self.mcp, "version": MCP_VERSION, "description": "d"}
        owner.must("POST", f"{API3}/mcp-servers/{self.mcp}/versions", server_json=description)
        owner.must("POST", f"{API3}/mcp-servers/{self.mcp}/aliases", alias="best", version=MCP_VERSION)
        made = owner.must(
            "POST", f"{API3}/mcp-servers/{self.mcp}/endpoints", url="https://example.com", server_version=MCP_VERSION
        )
        self.endpoint = made["id"]
        grants = {"without_rights": "DENY", "neighbour": "DENY", "reader": "READ", "editor": "EDIT"}
        for name, permission in grants.items():
            grant(getattr(people, name), permission, "experiment", self.experiment)
            grant(getattr(people, name), permission, "registered_model", self.model)
            grant(getattr(people, name), permission, "mcp_server", self.mcp)
        inside = {"experiment_id": self.experiment}
        run = owner.must("POST", f"{API}/runs/create", **inside)["run"]["info"]
        self.run, self.artifact_uri = run["run_id"], run["artifact_uri"]
        kept = owner.put(f"{ARTIFACTS}/{self.experiment}/{self.run}/artifacts/notes.txt", b"notes")
        assert kept.status == 200, str(kept)
        self.version = owner.must(
            "POST", f"{API}/model-versions/create", name=self.model, source=run["artifact_uri"], run_id=self.run
        )["model_version"]["version"]  # fmt: skip
        owner.must("POST", f"{API}/registered-models/alias", name=self.model, alias="best", version=self.version)
        model = owner.must("POST", f"{API}/logged-models", name="logged", source_run_id=self.run, **inside)
        self.logged_model = model["model"]["info"]["model_id"]
        kept = owner.put(f"{ARTIFACTS}/{self.experiment}/models/{self.logged_model}/artifacts/notes.txt", b"notes")
        assert kept.status == 200, str(kept)
        made = owner.must("POST", f"{MPU}/create/{self.experiment}/{self.run}/artifacts", path="large.bin", num_parts=1)
        self.upload = made["upload_id"]
        self.trace = f"tr-{self.word(32)}"
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": inside}
        about = {"trace_id": self.trace, "trace_location": place, "request_time": "2026-01-01T00:00:00Z", "state": "OK"}
        owner.must("POST", f"{API3}/traces", trace={"trace_info": about})
        opinion = {"assessment_name": "good", "trace_id": self.trace, "feedback": {"value": 1},
                   "source": {"source_type": "HUMAN", "source_id": owner.username}}  # fmt: skip
        made = owner.must("POST", f"{API3}/traces/{self.trace}/assessments", assessment=opinion)
        self.assessment, self.opinion = made["assessment"]["assessment_id"], opinion
        made = owner.must("POST", f"{API3}/datasets/create", name=f"data-{again}", experiment_ids=[self.experiment])
        self.dataset = made["dataset"]["dataset_id"]
        self.issue = owner.must("POST", f"{API3}/issues", name="slow", description="slow", **inside)["issue"]["issue_id"]
        self.input = {"pass_fail": {"positive_label": "yes", "negative_label": "no"}}
        schema = {**inside, "name": "label", "type": "FEEDBACK", "title": "t", "input": self.input}
        made = owner.must("POST", f"{API3}/label-schemas/create", **schema)
        self.label_schema = made["label_schema"]["schema_id"]
        made = owner.must("POST", f"{API3}/scorers/register", name="scorer", serialized_scorer="{}", **inside)
        self.scorer = made["scorer_id"]
        made = people.admin.must("POST", f"{API3}/roles/create", name=f"role-{again}", workspace="default")
        self.role = made["role"]["id"]
        made = people.admin.must("POST", f"{API3}/roles/permissions/add", role_id=self.role, resource_type="registered_model",
                                 resource_pattern=self.model, permission="READ")  # fmt: skip
        self.role_permission = made["role_permission"]["id"]
        # One with a span in it, which is told by OpenTelemetry.
        told = owner.call("POST", "/v1/traces", self.span(), {**OTLP, "X-Mlflow-Experiment-Id": self.experiment})
        assert told.status == 200, str(told)
        self.told_trace = f"tr-{self.told}"
        self.leaver = f"leaver-{again}"
        people.admin.must("POST", f"{API}/users/create", username=self.leaver, password=f"password-{again}")
        made = owner.must("POST", f"{API3}/review-queues/create", name="queue", queue_type="CUSTOM", users=[], **inside)
        self.queue = made["review_queue"]["queue_id"]

    def span(self):
        """A span of a new trace, as OpenTelemetry's exporters send it: ExportTraceServiceRequest, in protocol buffers."""
        self.told = self.word(32)

        def field(number, content):
            return bytes([number << 3 | 2]) + bytes([len(content)]) + content

        def nanoseconds(number, value):
            return bytes([number << 3 | 1]) + value.to_bytes(8, "little")

        span = field(1, bytes.fromhex(self.told)) + field(2, bytes.fromhex(self.word(16))) + field(5, b"step")
        span += bytes([6 << 3, 1])
        span += nanoseconds(7, 1_767_225_600_000_000_000) + nanoseconds(8, 1_767_225_601_000_000_000)
        return field(1, field(2, field(2, span)))

    def word(self, length=8):
        """A name that nobody had before, in so many hexadecimal digits."""
        return f"{self.words.getrandbits(4 * length):0{length}x}"

    def in_path(self):
        folder = f"{self.experiment}/{self.run}/artifacts"
        return {
            "artifact_path": f"{folder}/notes.txt", "model_id": self.logged_model, "tag_key": "color", "key": "color",
            "request_id": self.trace, "trace_id": self.trace, "assessment_id": self.assessment, "dataset_id": self.dataset,
            "issue_id": self.issue, "name": self.mcp, "version": MCP_VERSION, "alias": "best", "endpoint_id": self.endpoint,
            "path": "index.html", "filename": "index.html", "webhook_id": "1", "job_id": "1", "workspace_name": "default",
            "session_id": "1", "provider": "ollama", "endpoint_name": "1",
        }  # fmt: skip

    def parameters(self, path, people):
        """What a route of this kind wants to be told, at the least."""
        again = self.word()
        inside = {"experiment_id": self.experiment}
        kind = re.sub(r"^/(ajax-)?api/\d\.\d/mlflow/", "", path)
        model = {"name": self.model, "key": "color", "value": "blue"}
        user = {"username": people.owner.username}
        of_thing = {"resource_type": "experiment", "resource_id": self.experiment, "permission": "READ"}
        trace = {"trace_id": self.trace, "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": inside}}
        special = {
            "/": {}, "/graphql": {"query": "query { __typename }"},
            "/model-versions/get-artifact": {"name": self.model, "version": self.version, "path": "notes.txt"},
            "artifacts/presigned-upload-url": {"run_id": self.run, "path": "notes.txt"},
            "datasets/<dataset_id>/remove-experiments": {"experiment_ids": ["0"]},
            "datasets/<dataset_id>/records": {"records": "[]"}, "datasets/<dataset_id>/tags": {"tags": "{}"},
            "datasets/create": {"name": f"data-{again}", "experiment_ids": [self.experiment]},
            "experiments/search": {"filter": f"name LIKE '%{self.again}%'", "max_results": 5},
            "registered-models/search": {"filter": f"name LIKE '%{self.again}%'", "max_results": 5},
            "model-versions/search": {"filter": f"name = '{self.model}'", "max_results": 5},
            "experiments/create": {"name": f"experiment-{again}"},
            "experiments/get-by-name": {"experiment_name": self.experiment_name},
            "experiments/update": {**inside, "new_name": self.experiment_name},
            "issues": {**inside, "name": "slow", "description": "slow"},
            "issues/<issue_id>": {"issue_id": self.issue, "name": "slower"},
            "label-schemas/create": {**inside, "name": again, "type": "FEEDBACK", "title": "t", "input": self.input},
            "label-schemas/get-by-name": {**inside, "name": "label"},
            "logged-models": {**inside, "name": "logged"},
            "logged-models/<model_id>": {"model_id": self.logged_model, "status": "LOGGED_MODEL_READY"},
            "logged-models/<model_id>/tags": {"model_id": self.logged_model, "tags": [{"key": "color", "value": "blue"}]},
            "logged-models/<model_id>/artifacts/files": {"artifact_file_path": "notes.txt"},
            "mcp-servers": {"name": f"com.example/{again}"},
            "mcp-servers/<name:path>/aliases": {"alias": "best", "version": MCP_VERSION},
            "mcp-servers/<name:path>/endpoints": {"url": f"https://{again}.example.com", "server_version": MCP_VERSION},
            "mcp-servers/<name:path>/endpoints/<endpoint_id>": {"url": f"https://{again}.example.com"},
            "mcp-servers/<name:path>/versions": {
                "server_json": {"name": self.mcp, "version": f"1.1.{int(again[:7], 16)}", "description": "d"}
            },
            "mcp-servers/<name:path>/versions/<version:path>": {"display_name": again},
            "model-versions/create": {"name": self.model, "run_id": self.run, "source": self.artifact_uri},
            "model-versions/transition-stage": {"name": self.model, "version": self.version, "stage": "Staging"},
            "registered-models/create": {"name": f"model-{again}"},
            "registered-models/rename": {"name": self.model, "new_name": f"{self.model}-2"},
            "registered-models/delete": {"name": self.model + ("-2" if self.is_ended else "")},
            "registered-models/alias": {"name": self.model, "alias": "best", "version": self.version},
            "review-queues/create": {**inside, "name": again, "queue_type": "CUSTOM", "users": []},
            "review-queues/get-or-create-user": {**inside, "user": people.owner.username},
            "review-queues/get-by-name": {**inside, "name": "queue"},
            "runs/log-metric": {"run_id": self.run, "key": "loss", "value": 1, "timestamp": 1},
            "runs/log-model": {"run_id": self.run, "model_json": json.dumps({
                "artifact_path": "m", "flavors": {}, "utc_time_created": "2026-01-01 00:00:00", "run_id": self.run,
            })},
            "runs/outputs": {"run_id": self.run, "models": [{"model_id": self.logged_model, "step": 0}]},
            "traces/<request_id>": {"request_id": self.trace, "timestamp_ms": 2, "status": "OK"},
            "traces/get": {"trace_id": self.told_trace}, "traces/batchGet": {"trace_ids": [self.told_trace]},
            "runs/search": {"experiment_ids": [self.experiment]},
            "scorers/register": {**inside, "name": "scorer", "serialized_scorer": "{}"},
            "scorers/online-config": {**inside, "name": "scorer", "sample_rate": 0.0},
            "scorers/online-configs": {"scorer_ids": [self.scorer]},
            "traces/<trace_id>/assessments": {"assessment": self.opinion},
            "traces/<trace_id>/assessments/<assessment_id>": {"assessment": self.opinion, "update_mask": "feedback"},
            "traces/calculate-filter-correlation": {"experiment_ids": [self.experiment], "filter_string1": "trace.status = 'OK'",
                                                    "filter_string2": "trace.status = 'ERROR'"},
            "traces/link-prompts": {"trace_id": self.trace, "prompt_versions": [{"name": "p", "version": "1"}]},
            "traces/metrics": {"experiment_ids": [self.experiment], "view_type": "TRACES", "metric_name": "trace_count",
                               "aggregations": [{"aggregation_type": "COUNT"}]},
            "traces/search": {"locations": [trace["trace_location"]]},
            "traces/delete-traces": {**inside, "request_ids": [self.trace]},
            "users/create": {"username": f"user-{again}", "password": f"password-{again}"},
            "users/update-password": {**user, "password": people.owner.password},
            "users/update-admin": {"username": self.leaver, "is_admin": False}, "users/delete": {"username": self.leaver},
        }  # fmt: skip
        if path.endswith("api/3.0/mlflow/traces"):
            return {"trace": {"trace_info": {**trace, "trace_id": f"tr-{self.word(32)}", "state": "OK",
                                             "request_time": "2026-01-01T00:00:00Z"}}}  # fmt: skip
        if "/mpu/" in path:
            return {"path": "large.bin", "num_parts": 1, "upload_id": self.upload}
        if kind in special:
            return special[kind]
        if kind.startswith("users/permissions/") and kind != "users/permissions/get":
            # What is granted and taken again is his who leaves, and what one looks at is one's own.
            return {**(user if kind.endswith("list") else {"username": self.leaver}), **of_thing}
        if kind.startswith("users/"):
            return {**user, **of_thing}
        if kind.startswith(("registered-models/", "model-versions/")):
            return {**model, "version": self.version}
        if kind.startswith("roles/"):
            role = {"role_id": self.role, "name": again, "workspace": "default", "resource_pattern": self.experiment,
                    "role_permission_id": self.role_permission}
            return {**role, **user, **of_thing}
        if kind.startswith("label-schemas/"):
            return {**inside, "schema_id": self.label_schema, "name": "label"}
        if kind.startswith("review-queues/"):
            item = {"item_type": "TRACE", "item_id": self.trace}
            of_queue = {**inside, "queue_id": self.queue, "item_ids": [self.trace], "status": "COMPLETE"}
            return {**of_queue, **item, "user": people.owner.username}
        if kind.startswith("scorers/"):
            return {**inside, "name": "scorer"}
        # What most of the others ask by.
        return {
            **inside, "experiment_ids": [self.experiment], "run_id": self.run, "run_uuid": self.run, "run_ids": [self.run],
            "trace_id": self.trace, "request_id": self.trace, "trace_ids": [self.trace], "model_id": self.logged_model,
            "key": "color", "value": "blue", "path": "notes.txt", "metric_key": "loss", "metric_keys": ["loss"],
            "artifact_file_path": "notes.txt", "max_results": 5,
        }  # fmt: skip


# A part of a route's path, as Flask and FastAPI name it.
PART = re.compile(r"<(?:path:)?(\w+)(?::path)?>")


def request(method, route, things, people, **instead):
    """
    The path and the parameters by which a route is asked about these things, and the headers.

    :arg instead: What stands in parts of the path by their names, in place of what is right there.
    """
    parts = {**things.in_path(), **instead}
    path = PART.sub(lambda part: parts[part[1]], route)
    if path.endswith("/upload-artifact"):
        path += f"?run_uuid={things.run}&path=uploaded.txt"
    if path == "/v1/traces":
        return method, path, things.span(), {**OTLP, "X-Mlflow-Experiment-Id": things.experiment}
    return method, path, things.parameters(route, people), {}
