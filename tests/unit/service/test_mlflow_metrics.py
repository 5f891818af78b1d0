# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The routes that requests are counted by: as many as MLflow has, however many paths are tried."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

import mlflow_metrics  # noqa: E402

RULES = [
    "/",
    "/api/2.0/mlflow/runs/create",
    "/api/3.0/mlflow/traces/<trace_id>",
    "/api/3.0/mlflow/traces/<trace_id>/tags",
    "/static-files/<path:path>",
]


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/ready", "/ready"),
        ("/api/2.0/mlflow/runs/create", "/api/2.0/mlflow/runs/create"),
        ("/api/3.0/mlflow/traces/tr-1", "/api/3.0/mlflow/traces/<trace_id>"),
        ("/api/3.0/mlflow/traces/tr-1/tags", "/api/3.0/mlflow/traces/<trace_id>/tags"),
        ("/api/3.0/mlflow/traces/tr-1/more", "other"),
        ("/static-files/static/js/main.js", "/static-files/..."),
        ("/api/2.0/mlflow-artifacts/artifacts/1/a/b.bin", "/api/2.0/mlflow-artifacts/artifacts/..."),
        ("/api/2.0/mlflow/runs/create/", "other"),
        ("/wp-login.php", "other"),
        ("/api/2.0/mlflow/runsXcreate", "other"),
    ],
)
def test_a_path_has_a_route(path, route):
    assert mlflow_metrics.Routes(RULES).of(path) == route


def test_many_paths_are_few_routes():
    routes = mlflow_metrics.Routes(RULES)
    found = {routes.of(f"/api/3.0/mlflow/traces/{number}") for number in range(10000)}
    found |= {routes.of(f"/{number}") for number in range(10000)}
    assert found == {"/api/3.0/mlflow/traces/<trace_id>", "other"}
    assert routes.of.cache_info().currsize <= 4096
