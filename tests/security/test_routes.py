# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Every route that the installed MLflow has, asked by everyone: who may is in the table below, and a route that is not in it fails.

The routes are MLflow's own list, made on the host, so an upgrade that brings new ones fails here until somebody looked at them.
"""

from __future__ import annotations

import re
import secrets

import pytest
from attacks import API, API3, ARTIFACTS, pairs, tally, together
from test_who_is_asking import FORGED

# Who may, of the things of one experiment and one registered model; whoever stands further down may less.
# closed is not there at all; nobody has no use of what MLflow itself answers with 404, but for others it may also be 403.
CLOSED, NOBODY, ADMIN, OWNER, EDITOR, READER, LOGIN, ANYONE = RANKS = (
    "closed", "nobody", "admin", "owner", "editor", "reader", "login", "anyone"
)  # fmt: skip

# The first line that fits a route says who may. `*` is any part of a path, {api} is api and ajax-api. By MLflow's rules,
# roles are shown to whoever has a grant of any kind, and a scorer is a thing of its own, which all may read by default.
TABLE = """
    anyone    GET                /health
    anyone    GET                /static-files/*
    anyone    GET                /{api}/3.0/mlflow/server-info
    login     GET                /
    login     GET                /version
    login     GET,POST           /graphql
    login     GET,POST           /ajax-api/3.0/mlflow/ui-telemetry
    login     GET,POST           /ajax-api/2.0/mlflow/gateway-proxy

    login     GET                /ajax-api/3.0/mlflow/assistant/config
    login     GET                /ajax-api/3.0/mlflow/assistant/providers
    closed    *                  /ajax-api/3.0/mlflow/assistant*
    closed    *                  /gateway/*
    closed    *                  /{api}/*/mlflow/gateway*
    closed    *                  /ajax-api/3.0/jobs*
    closed    *                  /{api}/3.0/mlflow/jobs/*
    closed    *                  /{api}/3.0/mlflow/*/invoke
    closed    *                  /ajax-api/3.0/mlflow/demo/*
    closed    POST               /{api}/3.0/mlflow/prompt-optimization/jobs
    closed    POST               /{api}/3.0/mlflow/prompt-optimization/jobs/*/cancel
    closed    DELETE             /{api}/3.0/mlflow/prompt-optimization/jobs/*
    reader    GET,POST           /{api}/3.0/mlflow/prompt-optimization/jobs/search

    admin     GET                /{api}/3.0/mlflow/prompt-optimization/jobs/*
    admin     *                  /{api}/3.0/mlflow/workspaces/*
    admin     POST               /{api}/3.0/mlflow/workspaces
    login     GET                /{api}/3.0/mlflow/workspaces
    nobody    *                  /{api}/2.0/mlflow/get-online-trace-details
    nobody    *                  /{api}/2.0/mlflow/unified-traces
    nobody    *                  /{api}/2.0mlflow/*
    nobody    *                  /build/*
    admin     *                  /{api}/2.0/mlflow/webhooks*
    admin     GET                /signup
    admin     *                  /{api}/2.0/mlflow/users/create*
    admin     *                  /{api}/2.0/mlflow/users/delete
    admin     *                  /{api}/2.0/mlflow/users/update-admin
    login     GET                /{api}/2.0/mlflow/users/current
    login     GET                /{api}/2.0/mlflow/users/list
    login     GET                /{api}/3.0/mlflow/users/current/permissions
    owner     GET,PATCH          /{api}/2.0/mlflow/users/*
    owner     POST               /{api}/3.0/mlflow/users/permissions/*
    owner     GET                /{api}/3.0/mlflow/users/*
    admin     GET                /{api}/3.0/mlflow/roles/users/list
    login     GET                /{api}/3.0/mlflow/roles/*
    admin     *                  /{api}/3.0/mlflow/roles/*

    login     POST               /{api}/2.0/mlflow/experiments/create
    login     GET,POST           /{api}/2.0/mlflow/experiments/search
    reader    GET,POST           /{api}/2.0/mlflow/experiments/get*
    reader    POST               /ajax-api/2.0/mlflow/experiments/search-datasets
    editor    POST               /{api}/2.0/mlflow/experiments/delete-experiment-tag
    owner     POST               /{api}/2.0/mlflow/experiments/delete
    owner     POST               /{api}/2.0/mlflow/experiments/restore
    editor    POST               /{api}/2.0/mlflow/experiments/*

    login     POST               /{api}/2.0/mlflow/runs/search
    reader    GET                /{api}/2.0/mlflow/runs/get
    owner     POST               /{api}/2.0/mlflow/runs/delete
    owner     POST               /{api}/2.0/mlflow/runs/restore
    editor    POST               /{api}/2.0/mlflow/runs/*
    reader    GET                /{api}/2.0/mlflow/metrics/*
    editor    POST               /{api}/2.0/mlflow/artifacts/presigned-upload-url
    reader    GET,POST           /{api}/2.0/mlflow/artifacts/*
    editor    POST               /ajax-api/2.0/mlflow/upload-artifact

    login     GET                /{api}/2.0/mlflow-artifacts/artifacts
    reader    GET                /{api}/2.0/mlflow-artifacts/*
    editor    PUT,POST           /{api}/2.0/mlflow-artifacts/*
    owner     DELETE             /{api}/2.0/mlflow-artifacts/*
    reader    GET                /get-artifact
    reader    GET                /model-versions/get-artifact
    reader    GET                /ajax-api/*/mlflow/get-trace-artifact

    login     POST               /{api}/2.0/mlflow/logged-models/search
    reader    GET                /{api}/2.0/mlflow/logged-models*
    owner     DELETE             /{api}/2.0/mlflow/logged-models*
    editor    POST,PATCH         /{api}/2.0/mlflow/logged-models*

    login     POST               /{api}/2.0/mlflow/registered-models/create
    login     GET                /{api}/2.0/mlflow/registered-models/search
    login     GET                /{api}/2.0/mlflow/model-versions/search
    reader    GET,POST           /{api}/2.0/mlflow/registered-models/get*
    reader    GET                /{api}/2.0/mlflow/registered-models/alias
    owner     DELETE             /{api}/2.0/mlflow/registered-models/delete
    owner     DELETE             /{api}/2.0/mlflow/registered-models/alias
    editor    *                  /{api}/2.0/mlflow/registered-models/*
    reader    GET                /{api}/2.0/mlflow/model-versions/*
    owner     DELETE             /{api}/2.0/mlflow/model-versions/*
    editor    *                  /{api}/2.0/mlflow/model-versions/*

    reader    GET                /{api}/2.0/mlflow/traces*
    owner     POST               /{api}/*/mlflow/traces/delete-traces
    editor    *                  /{api}/2.0/mlflow/traces*
    reader    GET                /{api}/3.0/mlflow/traces*
    reader    POST               /{api}/3.0/mlflow/traces/batchGetInfos
    reader    POST               /{api}/3.0/mlflow/traces/calculate-filter-correlation
    reader    POST               /{api}/3.0/mlflow/traces/metrics
    reader    POST               /{api}/3.0/mlflow/traces/search
    editor    *                  /{api}/3.0/mlflow/traces*
    editor    POST               /v1/traces

    reader    GET,POST           /{api}/3.0/mlflow/datasets/search
    reader    GET                /{api}/3.0/mlflow/datasets/*
    owner     DELETE             /{api}/3.0/mlflow/datasets/<dataset_id>
    editor    *                  /{api}/3.0/mlflow/datasets/*
    reader    POST               /{api}/3.0/mlflow/issues/search
    reader    GET                /{api}/3.0/mlflow/issues/*
    editor    *                  /{api}/3.0/mlflow/issues*
    reader    GET                /{api}/3.0/mlflow/label-schemas/*
    owner     *                  /{api}/3.0/mlflow/label-schemas/*
    reader    GET                /{api}/3.0/mlflow/scorers/list
    login     GET                /{api}/3.0/mlflow/scorers/*
    owner     DELETE             /{api}/3.0/mlflow/scorers/*
    editor    *                  /{api}/3.0/mlflow/scorers/*
    reader    GET                /{api}/3.0/mlflow/review-queues/list
    owner     GET                /{api}/3.0/mlflow/review-queues/*
    admin     POST               /{api}/3.0/mlflow/review-queues/items/set-status
    owner     POST               /{api}/3.0/mlflow/review-queues/items/remove
    owner     POST               /{api}/3.0/mlflow/review-queues/update
    owner     POST               /{api}/3.0/mlflow/review-queues/delete
    editor    POST               /{api}/3.0/mlflow/review-queues/*

    login     GET,POST           /{api}/3.0/mlflow/mcp-servers
    login     GET                /{api}/3.0/mlflow/mcp-servers/endpoints
    reader    GET                /{api}/3.0/mlflow/mcp-servers/*
    owner     DELETE             /{api}/3.0/mlflow/mcp-servers/*
    editor    *                  /{api}/3.0/mlflow/mcp-servers/*
"""


def _lines():
    for line in TABLE.splitlines():
        if line.strip():
            who, methods, path = line.split()
            pattern = re.escape(path).replace(r"\*", ".*").replace(r"\{api\}", "(ajax-)?api")
            yield who, None if methods == "*" else methods.split(","), re.compile(pattern)


LINES = list(_lines())


def who_may(method, route):
    """By the table; nothing where no line fits."""
    return next((who for who, methods, path in LINES if (not methods or method in methods) and path.fullmatch(route)), None)


# What ends or moves the thing that it is asked for: these honest calls come last, and in this order.
ENDS = re.compile(r"/(delete[-a-z]*|rename|restore|remove[-a-z]*|permissions/revoke|update-admin)$")
LAST = [
    "registered-models/rename", "registered-models/delete", "logged-models/<model_id>", "traces/delete-traces",
    "runs/delete", "runs/restore", "users/permissions/revoke", "experiments/delete", "experiments/restore",
    "users/update-admin", "users/delete",
]  # fmt: skip


def ends(method, route):
    return method == "DELETE" or bool(ENDS.search(route))


def how_late(method_and_route):
    _method, route = method_and_route
    late = [number for number, end in enumerate(LAST, 1) if route.endswith(f"/mlflow/{end}")]
    return (*(late or [0]), -route.count("/"), route)


class Things:
    """One of each kind of thing in an experiment of the owner's, who lets the reader read and the editor write."""

    def __init__(self, people, grant):
        owner, again = people.owner, secrets.token_hex(5)
        self.again, self.experiment_name, self.model = again, f"routes-{again}", f"routes-model-{again}"
        # What is asked for until its end has another name then.
        self.is_ended = False
        self.experiment = owner.must("POST", f"{API}/experiments/create", name=self.experiment_name)["experiment_id"]
        owner.must("POST", f"{API}/registered-models/create", name=self.model)
        self.mcp = f"com.example/{again}"
        owner.must("POST", f"{API3}/mcp-servers", name=self.mcp)
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
        self.trace = f"tr-{secrets.token_hex(16)}"
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
        self.leaver = f"leaver-{again}"
        people.admin.must("POST", f"{API}/users/create", username=self.leaver, password=f"password-{again}")
        made = owner.must("POST", f"{API3}/review-queues/create", name="queue", queue_type="CUSTOM", users=[], **inside)
        self.queue = made["review_queue"]["queue_id"]

    def in_path(self):
        folder = f"{self.experiment}/{self.run}/artifacts"
        return {
            "artifact_path": f"{folder}/notes.txt", "model_id": self.logged_model, "tag_key": "color", "key": "color",
            "request_id": self.trace, "trace_id": self.trace, "assessment_id": self.assessment, "dataset_id": self.dataset,
            "issue_id": self.issue, "name": self.mcp, "version": "1", "alias": "best", "endpoint_id": "1",
            "path": "index.html", "filename": "index.html", "webhook_id": "1", "job_id": "1", "workspace_name": "default",
            "session_id": "1", "provider": "ollama", "endpoint_name": "1",
        }  # fmt: skip

    def parameters(self, path, people):
        """What a route of this kind wants to be told, at the least."""
        again = secrets.token_hex(4)
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
            "experiments/create": {"name": f"experiment-{again}"},
            "experiments/get-by-name": {"experiment_name": self.experiment_name},
            "experiments/update": {**inside, "new_name": self.experiment_name},
            "issues": {**inside, "name": "slow", "description": "slow"},
            "issues/<issue_id>": {"name": "slower"},
            "label-schemas/create": {**inside, "name": again, "type": "FEEDBACK", "title": "t", "input": self.input},
            "label-schemas/get-by-name": {**inside, "name": "label"},
            "logged-models": {**inside, "name": "logged"}, "logged-models/<model_id>": {"status": "LOGGED_MODEL_READY"},
            "mcp-servers": {"name": f"com.example/{again}"},
            "mcp-servers/<name:path>/aliases": {"alias": "best", "version": "1"},
            "mcp-servers/<name:path>/endpoints": {"url": "https://example.com"},
            "mcp-servers/<name:path>/versions": {"server_json": {"name": self.mcp, "version": "1", "description": "d"}},
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
            "runs/log-model": {"run_id": self.run, "model_json": '{"artifact_path": "m", "flavors": {}}'},
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
            return {"trace": {"trace_info": {**trace, "trace_id": f"tr-{secrets.token_hex(16)}", "state": "OK",
                                             "request_time": "2026-01-01T00:00:00Z"}}}  # fmt: skip
        if kind in special:
            return special[kind]
        if kind.startswith("users/permissions/") and kind != "users/permissions/get":
            # What is granted and taken again is the reader's, and what one looks at is one's own.
            return {**(user if kind.endswith("list") else {"username": people.reader.username}), **of_thing}
        if kind.startswith("users/"):
            return {**user, **of_thing}
        if kind.startswith(("registered-models/", "model-versions/")):
            return {**model, "version": self.version}
        if kind.startswith("roles/"):
            role = {"role_id": self.role, "name": again, "workspace": "default", "resource_pattern": self.experiment}
            return {**role, **user, **of_thing}
        if kind.startswith("label-schemas/"):
            return {**inside, "schema_id": self.label_schema, "name": "label"}
        if kind.startswith("review-queues/"):
            item = {"item_type": "TRACE", "item_id": self.trace}
            of_queue = {**inside, "queue_id": self.queue, "items": [item], "status": "COMPLETE"}
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


def request(method, route, things, people):
    """The path and the parameters by which a route is asked about these things, and the headers."""
    path = re.sub(r"<(?:path:)?(\w+)(?::path)?>", lambda part: things.in_path()[part[1]], route)
    if path.endswith("/upload-artifact"):
        path += f"?run_uuid={things.run}&path=uploaded.txt"
    otel = {"Content-Type": "application/x-protobuf", "X-Mlflow-Experiment-Id": things.experiment}
    return method, path, things.parameters(route, people), otel if path == "/v1/traces" else {}


def test_each_route_is_in_the_table(routes):
    """A route that nobody has looked at yet is named here."""
    assert len(routes) > 400
    assert [f"{method} {route}" for method, route in routes if who_may(method, route) is None] == []
    unused = [path.pattern for who, methods, path in LINES
              if not any((not methods or method in methods) and path.fullmatch(route) for method, route in routes)]  # fmt: skip
    assert unused == [], "lines of the table without a route"
    tally["routes"] += len(routes)


def _problem(answer, caller, who):
    """What is wrong with an answer to somebody who may not."""
    if caller == "stranger":
        allowed = (401, 404) if who == CLOSED else (401,)
    else:
        allowed = {CLOSED: (404,), NOBODY: (403, 404)}.get(who, (403,))
    return None if answer.status in allowed else f"{caller} got {answer.status} {answer.body[:80]!r}"


@pytest.mark.slow
@pytest.mark.everyday
def test_whoever_may_not_is_refused(routes, things, people):
    """No login, no rights, only to read, rights on another experiment: on every route."""
    callers = {"stranger": ANYONE, "without_rights": LOGIN, "neighbour": LOGIN, "reader": READER}
    # These two say of each route that they are the host itself, each in another way; the next route gets the next ways.
    first, names = {"stranger": 0, "without_rights": len(FORGED) // 2}, list(FORGED)
    forged_routes = set()

    def look(number, method, route):
        who, found = who_may(method, route) or CLOSED, []
        for caller, rank in callers.items():
            if RANKS.index(rank) > RANKS.index(who):
                tally["attacks"] += 1
                method, path, parameters, headers = request(method, route, things, people)
                forged = names[(first[caller] + number) % len(names)] if caller in first else None
                if forged:
                    headers = [*pairs(headers), *FORGED[forged]]
                    forged_routes.add((method, route))
                problem = _problem(getattr(people, caller).call(method, path, parameters, headers), caller, who)
                found += [f"{method} {route} ({who}; {forged}): {problem}"] if problem else []
        return found

    found = together([lambda number=number, route=route: look(number, *route) for number, route in enumerate(routes)], threads=6)
    wrong = [problem for problems in found for problem in (problems if isinstance(problems, list) else [repr(problems)])]
    assert wrong == [], "\n".join([f"{len(wrong)} of {len(routes)} routes", *wrong])
    # What anyone may ask is no attack.
    assert forged_routes == {route for route in routes if who_may(*route) != ANYONE}


@pytest.mark.slow
@pytest.mark.everyday
def test_whoever_may_gets_through(routes, people, grant, things):
    """The least of those who may, with the same parameters; what ends a thing gets a thing of its own."""
    callers = {
        ADMIN: people.admin, OWNER: people.owner, EDITOR: people.editor, READER: people.reader,
        LOGIN: people.without_rights, ANYONE: people.stranger,
    }  # fmt: skip

    def look(method, route, things):
        who = who_may(method, route)
        if who in (CLOSED, NOBODY, None):
            return None
        tally["honest calls"] += 1
        answer = callers[who].call(*request(method, route, things, people))
        # That there is no such thing is said by MLflow itself, in its own words.
        missing = answer.status == 404 and b"error_code" in answer.body and b"ENDPOINT_NOT_FOUND" not in answer.body
        if answer.status in (401, 403, 429) or (answer.status == 404 and not missing):
            return f"{method} {route}: {who} got {answer.status} {answer.body[:120]!r}"
        return None

    found = together([lambda route=route: look(*route, things) for route in routes if not ends(*route)], threads=6)
    for ajax in (False, True):
        mine = Things(people, grant)
        mine.is_ended = True
        last = sorted((route for route in routes if ends(*route) and ("/ajax-api" in route[1]) == ajax), key=how_late)
        found += [look(*route, mine) for route in last]
    wrong = [str(problem) for problem in found if problem]
    assert wrong == [], "\n".join([f"{len(wrong)} of {len(routes)} routes", *wrong])
