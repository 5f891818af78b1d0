# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which addresses an ordinary user may name."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_sources import SOURCES, kind_problem, location_problem  # noqa: E402


@pytest.mark.parametrize("location", ["mlflow-artifacts:/team", "mlflow-artifacts:/team/a.b/2026", "mlflow-artifacts:/7b"])
def test_a_place_of_ones_own_on_the_server(location):
    assert location_problem(location) is None


@pytest.mark.parametrize(
    "location",
    [
        "s3://artifacts/root/7", "file:///etc", "http://192.0.2.1/x", "dbfs:/x", "/tmp/x", "MLFLOW-ARTIFACTS:/x",
        "mlflow-artifacts:/", "mlflow-artifacts:", "mlflow-artifacts://host/x", "mlflow-artifacts:///7",
        "mlflow-artifacts:/7", "mlflow-artifacts:/7/RUN/artifacts", "mlflow-artifacts:/workspaces/x",
        "mlflow-artifacts:/team/../7", "mlflow-artifacts:/./7", "mlflow-artifacts:/team//7", "mlflow-artifacts:/%37",
        "mlflow-artifacts:/team\\..\\7", "mlflow-artifacts:/team?x=1", "mlflow-artifacts:/team#x", "mlflow-artifacts:/a\n",
        "mlflow-artifacts:/..",
    ],
)  # fmt: skip
def test_what_is_elsewhere_or_another_ones(location):
    assert location_problem(location)


@pytest.mark.parametrize(
    "source", ["mlflow-artifacts:/7/RUN/artifacts/model", "runs:/RUN/model", "models:/m-1", "models:/name/1"]
)
def test_a_model_comes_from_the_server(source):
    assert re.search(f"^({SOURCES})", source)


@pytest.mark.parametrize(
    "source", ["s3://b/x", "file:///etc", "xmlflow-artifacts:/1", "mlflow-artifacts://host/1", "runs://x/1", "", "http://x"]
)
def test_and_from_nowhere_else(source):
    assert not re.search(f"^({SOURCES})", source)


@pytest.mark.parametrize("location", ["mlflow-artifacts:/team", "mlflow-artifacts:/7", "s3://team/x", "gs://b/x", "abfss://c@a/x"])
def test_an_administrator_may_name_any_store(location):
    assert kind_problem(location) is None


@pytest.mark.parametrize(
    "location", ["file:///etc", "/etc", "etc", "dbfs:/x", "http://192.0.2.1/x", "s3:x", "FILE:/etc", " s3://b", ""]
)
def test_but_not_the_host(location):
    assert kind_problem(location)
