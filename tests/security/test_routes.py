# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Every route that the installed MLflow has, asked by everyone: who may is in the table below, and a route that is not in it fails.

The routes are MLflow's own list, made on the host, so an upgrade that brings new ones fails here until somebody looked at them.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

import pytest
from attacks import API, API3, holds, refused, tally, together

HERE = Path(__file__).resolve().parent

# Who may, from nobody but the closed door to everyone. Each may also what those after him may.
CLOSED, ADMIN, OWNER, EDITOR, READER, LOGIN, ANYONE = "closed", "admin", "owner", "editor", "reader", "login", "anyone"
RANKS = (CLOSED, ADMIN, OWNER, EDITOR, READER, LOGIN, ANYONE)

# The first line that fits says who may, of the things of one experiment or one registered model. `*` is the rest of a path.
TABLE = """
    anyone    GET          /health
    anyone    GET          /static-files/*
    anyone    GET          /{api}/3.0/mlflow/server-info
    login     GET          /
    login     GET          /version
    login     *            /graphql

    closed    *            /ajax-api/3.0/mlflow/assistant*
    closed    *            /gateway/*
    closed    *            /{api}/*/mlflow/gateway*
    closed    *            /ajax-api/3.0/jobs*
    closed    *            /{api}/3.0/mlflow/jobs/*
    closed    *            /{api}/3.0/mlflow/prompt-optimization/*
    closed    *            /{api}/3.0/mlflow/*/invoke
    closed    *            /{api}/3.0/mlflow/scorers/online-config*
    closed    *            /{api}/3.0/mlflow/workspaces*
    closed    *            /ajax-api/3.0/mlflow/demo/*
    closed    *            /ajax-api/3.0/mlflow/ui-telemetry
    closed    *            /{api}/2.0/mlflow/get-online-trace-details
    closed    *            /{api}/2.0/mlflow/unified-traces
    closed    *            /{api}/2.0mlflow/*
    closed    *            /build/*

    admin     *            /{api}/2.0/mlflow/webhooks*
    admin     GET          /signup
"""


class Things:
    """One of each kind of thing in an experiment of the owner's, who lets the reader read and the editor write."""

    def __init__(self, people, grant):
        owner, again = people.owner, secrets.token_hex(5)
        self.again, self.experiment_name, self.model = again, f"routes-{again}", f"routes-model-{again}"
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
        self.run = run["run_id"]
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
        made = owner.must("POST", f"{API3}/label-schemas/create", name="label", type="FEEDBACK", title="t", input=self.input, **inside)
        self.label_schema = made["label_schema"]["schema_id"]
        owner.must("POST", f"{API3}/scorers/register", name="scorer", serialized_scorer="{}", **inside)
        made = owner.must("POST", f"{API3}/review-queues/create", name="queue", queue_type="CUSTOM", users=[], **inside)
        self.queue = made["review_queue"]["queue_id"]

    def in_path(self, people):
        folder = f"{self.experiment}/{self.run}/artifacts"
        return {
            "artifact_path": f"{folder}/notes.txt", "model_id": self.logged_model, "tag_key": "color", "key": "color",
            "request_id": self.trace, "trace_id": self.trace, "assessment_id": self.assessment, "dataset_id": self.dataset,
            "issue_id": self.issue, "name": self.mcp, "version": "1", "alias": "best", "endpoint_id": "1",
            "path": "index.html", "filename": "index.html", "webhook_id": "1", "job_id": "1", "workspace_name": "default",
            "session_id": "1", "provider": "ollama", "endpoint_name": "1",
        }  # fmt: skip

    def parameters(self, path):
        """What routes of this kind want to be told; the rest they leave alone."""
        inside = {"experiment_id": self.experiment}
        found = {
            **inside, "experiment_ids": [self.experiment], "run_id": self.run, "run_uuid": self.run, "run_ids": [self.run],
            "trace_id": self.trace, "request_id": self.trace, "trace_ids": [self.trace], "model_id": self.logged_model,
            "key": "color", "value": "blue", "path": "notes.txt", "metric_key": "loss", "metric_keys": ["loss"], "max_results": 5,
        }  # fmt: skip
        return found
