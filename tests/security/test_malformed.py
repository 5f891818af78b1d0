# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A request that can't be read is refused as the client's fault: no 500, which clients try again, and no traceback."""

from __future__ import annotations

import json

import pytest
from attacks import refused, works
from clients import API, API3

MPU = "/api/2.0/mlflow-artifacts/mpu"
ODD = "%c3%a9"
JSON = {"Content-Type": "application/json"}

# EXPERIMENT stands for one that the client may write.
MALFORMED = [
    ("POST", "/graphql", {}),
    ("POST", "/graphql", {"query": "v"}),
    ("POST", f"{API}/runs/create", "x"),
    ("POST", f"{API}/runs/create", 4),
    ("POST", f"{API}/runs/create", {"experiment_id": "EXPERIMENT", "start_time": "x"}),
    ("POST", f"{API}/runs/create", {"experiment_id": "99999999999999999999"}),
    ("POST", f"{API}/runs/search", {"experiment_ids": ["EXPERIMENT"], "page_token": "é"}),
    ("POST", f"{API}/runs/search", {"experiment_ids": ["EXPERIMENT"], "order_by": ["metrics.m DESC", "metrics.m DESC"]}),
    ("POST", f"{API}/experiments/search", {"max_results": 5, "page_token": "é"}),
    ("POST", f"{API}/experiments/create", {"name": "a\0b"}),
    ("GET", f"{API}/registered-models/search?page_token={ODD}", None),
    ("GET", f"{API}/experiments/get?experiment_id=99999999999999999999", None),
    ("GET", f"{API3}/mcp-servers?page_token={ODD}", None),
    ("POST", f"{API}/traces", {}),
    ("POST", f"{API3}/traces", {"trace": {}}),
    ("POST", f"{API3}/issues", {"experiment_id": "EXPERIMENT", "name": "x", "description": "d", "status": "odd"}),
    ("POST", f"{API3}/datasets/create", {"name": "a", "experiment_ids": ["EXPERIMENT"], "tags": "no json"}),
    ("POST", f"{API3}/scorers/register", {"experiment_id": "EXPERIMENT", "name": "s", "serialized_scorer": "4"}),
    ("POST", f"{MPU}/create/EXPERIMENT/x", {"path": "x", "num_parts": [[1], {}]}),
    ("POST", f"{MPU}/abort/EXPERIMENT/x", {"path": "x", "upload_id": "no"}),
    ("POST", f"{MPU}/abort/EXPERIMENT/x", {"path": "x", "upload_id": "\x84<\x0b&"}),
    ("POST", f"{MPU}/complete/EXPERIMENT/x", {"path": "x", "upload_id": "no", "parts": [{"part_number": 1, "etag": "x"}]}),
]
# What asks for rights on an experiment gets no further without one; who needs none does.
OF_AN_ADMINISTRATOR = [
    ("POST", f"{API3}/traces", {"trace": {}}),
    ("GET", "/model-versions/get-artifact?name=MODEL&path=model", None),
    ("GET", f"{API}/registered-models/search?order_by=name&order_by=name", None),
    ("GET", f"{API}/model-versions/search?order_by=name&order_by=name", None),
    ("POST", f"{API}/model-versions/transition-stage",
     {"name": "MODEL", "version": "1", "stage": "none", "archive_existing_versions": True}),
]


@pytest.mark.parametrize("method, path, body", MALFORMED)
def test_what_can_not_be_read_is_the_clients_fault(people, world, server, method, path, body):
    content = None if body is None else json.dumps(body).replace("EXPERIMENT", world.experiment).encode()
    with server.no_traceback():
        answer = people.owner.send(method, path.replace("EXPERIMENT", world.experiment), JSON, content)
        refused(answer, 400, 403, 404)
    works(people.owner.get(f"{API}/experiments/get", experiment_id=world.experiment))


@pytest.mark.parametrize("method, path, body", OF_AN_ADMINISTRATOR)
def test_nor_is_it_the_servers_where_an_administrator_sends_it(admin, world, server, method, path, body):
    content = None if body is None else json.dumps(body).replace("MODEL", world.model).encode()
    with server.no_traceback():
        refused(admin.send(method, path.replace("MODEL", world.model), JSON, content), 400, 404)
    works(admin.get(f"{API}/users/current"))
