# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which versions the mlflow_server role takes a host to, and which it refuses before anything is changed."""

from __future__ import annotations

import pytest
from expressions import evaluated
from repository import ROOT, load_yaml

ROLE = ROOT / "roles" / "mlflow_server"
REFUSE = "Refuse to go back to a lower version unasked"


def host_tasks() -> list[dict]:
    return load_yaml(ROLE / "tasks" / "host.yml")


def installed(link: str | None, version: str = "3.17.2", **more) -> dict:
    links = {"/opt/mlflow/current": f"/opt/mlflow/{link}"} if link else {}
    return {"__mlflow_server_host": {"links": links}, "mlflow_server_version": version, "mlflow_server_state": "present", **more}


def test_a_lower_version_than_the_one_that_is_installed_is_refused(tmp_path):
    refuse = next(task for task in host_tasks() if task["name"] == REFUSE)
    expression = " and ".join(f"({condition})" for condition in refuse["when"])
    cases = {
        "nothing is there": (installed(None), False),
        "the same": (installed("3.17.2-7773d8d1"), False),
        "the same with other packages": (installed("3.17.2-0a0b0c0d"), False),
        "higher": (installed("3.17.2-7773d8d1", "3.18.0"), False),
        "a lower patch": (installed("3.17.2-7773d8d1", "3.17.0"), True),
        "a lower minor": (installed("3.18.0-7773d8d1", "3.17.2"), True),
        "not by the letters": (installed("3.17.10-7773d8d1", "3.17.9"), True),
        "nor the other way": (installed("3.17.9-7773d8d1", "3.17.10"), False),
        "a folder of before": (installed("3.17.2", "3.17.0"), True),
        "meant": (installed("3.17.2-7773d8d1", "3.17.0", mlflow_server_allow_downgrade=True), False),
        "to be removed": (installed("3.17.2-7773d8d1", "3.17.0", mlflow_server_state="absent"), False),
    }
    answers = evaluated("mlflow_server", tmp_path, [case for case, dummy in cases.values()], [f"({expression}) | bool"])
    assert dict(zip(cases, [answer for (answer,) in answers], strict=True)) == {
        name: wanted for name, (dummy, wanted) in cases.items()
    }


def test_the_refusal_names_both_versions_and_the_way_back():
    refuse = next(task for task in host_tasks() if task["name"] == REFUSE)
    said = refuse["ansible.builtin.fail"]["msg"]
    for word in ("installed_version", "mlflow_server_version is", "mlflow_server_allow_downgrade: true", "backup"):
        assert word in said


def test_the_link_is_looked_at_before_anything_is_changed():
    look, *rest = host_tasks()
    assert look["mlops.mlflow_aws.host_info"]["links"] == ["{{ __mlflow_server_current }}"]
    assert all("ansible.builtin.fail" in task for task in rest)
    assert load_yaml(ROLE / "vars" / "main.yml")["__mlflow_server_current"] == "{{ __mlflow_server_opt }}/current"
    settings = (ROLE / "tasks" / "settings.yml").read_text()
    assert '{path: "{{ __mlflow_server_opt }}/current", target' in settings


@pytest.mark.parametrize("file", ["README.md", "meta/argument_specs.yml"])
def test_the_lowest_version_is_documented(file):
    lowest = load_yaml(ROLE / "vars" / "main.yml")["__mlflow_server_lowest_version"]
    text = " ".join((ROLE / file).read_text().split())
    assert f"wants mlflow_server_allow_unlocked, and must be {lowest} or newer" in text
