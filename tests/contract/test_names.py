# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A name is the same name in any case and with a dot at its end: the mlflow_server role serves the one that clients ask for."""

from __future__ import annotations

import pytest
import yaml
from expressions import evaluated
from repository import ROOT, load_yaml

ROLE = ROOT / "roles" / "mlflow_server"
HOST = {
    "addresses": ["172.31.0.5"],
    "default_address": "172.31.0.5",
    "distribution": {"id": "debian", "version": "13", "family": "debian"},
    "ipv6": True,
}
GIVEN = {
    "__mlflow_server_host": HOST,
    "__mlflow_server_venv": "/opt/mlflow/1",
    "mlflow_server_public_name": "MLflow.Example.COM.",
    "mlflow_server_extra_names": ["LB.Example.com.", "b.example.com", "192.0.2.7"],
}
REFUSED = "__mlflow_server_problems | selectattr('bad') | map(attribute='say') | select('search', '(public|extra)_name') | length"


def template(name: str) -> str:
    return f"lookup('ansible.builtin.template', '{ROLE / 'templates' / name}')"


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, object]:
    """What is made of names in mixed case and with a dot at their end."""
    expressions = {
        "names": "__mlflow_server_names",
        "hosts": "__mlflow_server_allowed_hosts",
        "origins": "__mlflow_server_origins",
        "certificate": "__mlflow_server_sans",
        "acme": "__mlflow_server_acme_names",
        "request": template("openssl.cnf.j2"),
        "nginx": template("nginx.conf.j2"),
        "problems": REFUSED,
    }
    ((answers),) = evaluated("mlflow_server", tmp_path_factory.mktemp("names"), [GIVEN], list(expressions.values()))
    return dict(zip(expressions, answers, strict=True))


def test_names_are_those_that_clients_ask_for(said):
    assert said["names"] == ["mlflow.example.com", "lb.example.com", "b.example.com", "192.0.2.7", "172.31.0.5"]
    assert said["problems"] == 0


@pytest.mark.parametrize("place", ["hosts", "origins", "certificate", "acme", "request", "nginx"])
def test_a_name_is_written_the_same_everywhere(said, place):
    text = str(said[place])
    assert "mlflow.example.com" in text and "lb.example.com" in text
    assert "example.com." not in text and "Example" not in text


def test_an_address_is_no_name_for_a_ca(said):
    assert said["acme"] == ["mlflow.example.com", "lb.example.com", "b.example.com"]


def test_what_is_no_name_is_still_refused(tmp_path):
    names = ["mlflow.example.com..", ".", "-x.example.com", "mlflow.example.com:443"]
    cases = [{"mlflow_server_public_name": name} for name in names] + [{"mlflow_server_extra_names": [name]} for name in names]
    answers = [answer for (answer,) in evaluated("mlflow_server", tmp_path, cases, [REFUSED])]
    assert answers == [1] * len(cases)


def test_a_client_of_the_role_asks_with_the_port_of_the_address(tmp_path):
    """Where the port is no default one, it is part of the name that MLflow is asked for."""
    cases = [
        {},
        {"mlflow_server_https_port": 8443},
        {"mlflow_server_tls": "none"},
        {"mlflow_server_tls": "none", "mlflow_server_http_port": 8080},
    ]
    answers = [answer for (answer,) in evaluated("mlflow_server", tmp_path, cases, ["__mlflow_server_port_suffix"])]
    assert answers == ["", ":8443", "", ":8080"]


@pytest.mark.parametrize("file", ["verify.yml", "ask.yml", "user_password.yml"])
def test_the_role_asks_for_the_name_that_clients_ask_for(file):
    """What a person wrote is in no task: it is not what MLflow lets in."""
    text = yaml.safe_dump(load_yaml(ROLE / "tasks" / file))
    assert "__mlflow_server_port_suffix" in text
    assert "mlflow_server_public_name" not in text.replace("__mlflow_server_public_name", "")


def test_the_address_that_people_are_told_is_one_that_is_let_in(tmp_path):
    expression = load_yaml(ROOT / "playbooks" / "vars" / "server.yml")["mlflow_server_public_name"].strip().strip("{}").strip()
    known = {"mlflow_aws_known": {"ec2_hosts": [{"address": "192.0.2.1"}]}}
    cases = [known | {"mlflow_aws_public_name": "MLflow.Example.com."}, known]
    assert evaluated("mlflow_server", tmp_path, cases, [expression]) == [["mlflow.example.com"], ["192.0.2.1"]]
