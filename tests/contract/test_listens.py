# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""nginx of mlflow_server listens on IPv6 where the host has it, and starts where it has none."""

from __future__ import annotations

import re

import pytest
from expressions import evaluated
from repository import ROOT

SITE = f"lookup('ansible.builtin.template', '{ROOT / 'roles' / 'mlflow_server' / 'templates' / 'nginx.conf.j2'}')"


def site(tls: str, ipv6: bool, system: tuple[str, str] = ("debian", "13")) -> dict:
    distribution = {"id": system[0], "version": system[1], "family": "debian"}
    about = {"distribution": distribution, "ipv6": ipv6, "addresses": ["192.0.2.7"], "default_address": "192.0.2.7"}
    return {
        "__mlflow_server_host": about,
        "__mlflow_server_venv": "/opt/mlflow/1",
        "mlflow_server_tls": tls,
    }


@pytest.fixture(scope="module")
def listens(tmp_path_factory):
    """What nginx listens to, and with which words, by kind of host."""
    cases = {
        "both": site("self_signed", True),
        "IPv4 alone": site("self_signed", False),
        "an older nginx": site("self_signed", True, ("debian", "12")),
        "behind a load balancer": site("none", True),
        "other ports": {**site("self_signed", True), "mlflow_server_https_port": 8443, "mlflow_server_http_port": 8080},
    }
    texts = evaluated("mlflow_server", tmp_path_factory.mktemp("listens"), list(cases.values()), [SITE])
    found = {name: re.findall(r"^ *listen (.*);$", text, re.MULTILINE) for name, (text,) in zip(cases, texts, strict=True)}
    return found | {"text": texts[0][0]}


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("both", ["80 default_server", "[::]:80 default_server", "443 ssl default_server", "[::]:443 ssl default_server"]),
        ("IPv4 alone", ["80 default_server", "443 ssl default_server"]),
        (
            "an older nginx",
            ["80 default_server", "[::]:80 default_server", "443 ssl http2 default_server", "[::]:443 ssl http2 default_server"],
        ),
        ("behind a load balancer", ["80 default_server", "[::]:80 default_server"]),
        (
            "other ports",
            ["8080 default_server", "[::]:8080 default_server", "8443 ssl default_server", "[::]:8443 ssl default_server"],
        ),
    ],
)
def test_nginx_listens_on_what_the_host_has(listens, kind, wanted):
    assert listens[kind] == wanted


def test_http2_is_said_once(listens):
    assert listens["text"].count("http2 on;") == 1
