# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from plugin_support import plugin


@pytest.mark.parametrize(
    "values, said",
    [
        (["203.0.113.0/24", "2001:db8::/32"], []),
        (["203.0.113.7/24"], ["write 203.0.113.0/24"]),
        (["203.0.113.7"], ["write 203.0.113.7/32"]),
        (["2001:db8::1"], ["write 2001:db8::1/128"]),
        (["203.0.113.0/33"], ["is not a network"]),
        (["office", ""], ["'office' is not a network", "'' is not a network"]),
        ([10], ["write it as a text"]),
        (["0.0.0.0/0"], ["0.0.0.0/0 opens the server"]),
        (["0.0.0.0/1", "128.0.0.0/1"], ["0.0.0.0/0 opens the server"]),
        (["::/0"], ["::/0 opens the server"]),
    ],
)
def test_cidr_problems(values, said):
    problems = plugin("filter", "cidr_problems").cidr_problems(values, "some_variable")
    assert len(problems) == len(said)
    for problem, text in zip(problems, said, strict=True):
        assert text in problem and problem.startswith("some_variable: ")


def test_cidr_problems_lets_the_public_in_when_told_so():
    assert plugin("filter", "cidr_problems").cidr_problems(["0.0.0.0/0", "::/0"], "x", True) == []


def test_cidr_problems_wants_a_list():
    with pytest.raises(AnsibleFilterError, match="wanted a list"):
        plugin("filter", "cidr_problems").cidr_problems("203.0.113.0/24", "x")


def instance(**more):
    return {
        "instance_id": "i-1",
        "private_ip_address": "172.31.0.4",
        "public_ip_address": "198.51.100.7",
        "tags": {"Name": "mlflow-server-1", "mlflow_aws_user": "ubuntu"},
        **more,
    }


def test_server_hosts():
    (host,) = plugin("filter", "server_hosts").FilterModule().filters()["server_hosts"]([instance()], "/keys/a key")
    assert host["name"] == "mlflow-server-1"
    assert host["address"] == host["ssh"]["ansible_host"] == "198.51.100.7"
    assert host["ssh"]["ansible_user"] == "ubuntu"
    assert "-o HostKeyAlias=i-1 " in host["ssh"]["ansible_ssh_common_args"]
    assert "'UserKnownHostsFile=/keys/a key.known_hosts'" in host["ssh"]["ansible_ssh_common_args"]


@pytest.mark.parametrize(
    "public, which, address",
    [
        ("198.51.100.7", "auto", "198.51.100.7"),
        ("198.51.100.7", "private", "172.31.0.4"),
        ("", "auto", "172.31.0.4"),
        (None, "public", ""),
    ],
)
def test_server_hosts_address(public, which, address):
    (host,) = plugin("module_utils", "_ssh").server_hosts([instance(public_ip_address=public)], "key", which)
    assert host["address"] == address


def test_server_hosts_are_in_order():
    instances = [instance(tags={"Name": name}, instance_id=name) for name in ("b", "a")]
    assert [host["name"] for host in plugin("module_utils", "_ssh").server_hosts(instances, "key")] == ["a", "b"]
