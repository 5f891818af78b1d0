# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import datetime
import shlex
import string

import pytest
from ansible.errors import AnsibleFilterError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
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
        ([None], ["write it as a text"]),
        ([], []),
        # As long as it is well written, it may be a single address, and either half of the internet.
        (["203.0.113.7/32", "2001:db8::1/128", "0.0.0.0/1"], []),
        (["2001:db8::1/64"], ["write 2001:db8::/64 for the network, or 2001:db8::1/128 for the one address"]),
        # One that is wrong hides no other one.
        (["office/24", "203.0.113.7", "0.0.0.0/0"], ["'office/24' is not a network", "no prefix length", "0.0.0.0/0 opens"]),
        (["::/1", "8000::/1", "0.0.0.0/1"], ["::/0 opens the server"]),
        (["0.0.0.0/0", "::/0"], ["0.0.0.0/0 opens", "::/0 opens"]),
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


def test_cidr_problems_names_mistakes_also_where_the_public_is_let_in():
    filters = plugin("filter", "cidr_problems").FilterModule().filters()
    (said,) = filters["cidr_problems"](("203.0.113.7", "0.0.0.0/0"), allow_public=True)
    assert said.startswith("the list: '203.0.113.7' has no prefix length")


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
    assert host["ssh"]["ansible_ssh_private_key_file"] == "/keys/a key"


def test_a_host_whose_key_has_changed_is_not_talked_to():
    """All of SSH's options: the first key is kept, by the instance and for this deployment, and no other one is taken."""
    (host,) = plugin("module_utils", "_ssh").server_hosts([instance()], "/keys/a key")
    options = shlex.split(host["ssh"]["ansible_ssh_common_args"])
    assert options[::2] == ["-o"] * (len(options) // 2)
    assert dict(option.split("=", 1) for option in options[1::2]) == {
        "HostKeyAlias": "i-1",
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": "/keys/a key.known_hosts",
        "IdentitiesOnly": "yes",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
    }


def certificate(days, key):
    """A certificate in PEM that ends in so many days."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mlflow.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=90))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    "days, chain, theirs, said",
    [
        (30, "", True, []),
        (30, "other", True, []),
        (-1, "", True, ["ended on 20"]),
        (30, "", False, ["is not the key of the certificate"]),
        (-1, "", False, ["is not the key of the certificate", "ended on 20"]),
        (30, "other", False, ["must begin with the server's certificate"]),
        # What is behind the server's own is not looked at: a chain may hold an old one.
        (30, "ended", True, []),
    ],
)
def test_certificate_problems(days, chain, theirs, said):
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _unused in "ab")
    text = certificate(days, key) + {"": "", "other": certificate(30, other), "ended": certificate(-1, other)}[chain]
    kept = (key if theirs else other).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    problems = plugin("filter", "certificate_problems").certificate_problems(text, kept.decode(), "mlflow_server_tls")
    assert len(problems) == len(said)
    for problem, words in zip(problems, said, strict=True):
        assert words in problem and problem.startswith("mlflow_server_tls_") and "PRIVATE" not in problem


def test_a_key_is_of_the_chain_only_where_a_certificate_has_it():
    """Whichever of the two is the greater number."""
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    keys = [ec.generate_private_key(ec.SECP256R1()) for _unused in "ab"]
    for theirs, kept in (keys, keys[::-1]):
        found = plugin("filter", "certificate_problems").certificate_problems(
            certificate(30, theirs), kept.private_bytes(*plain).decode()
        )
        assert found == ["tls_key_file is not the key of the certificate in tls_certificate_file."]


def test_what_is_no_certificate_or_no_key_is_named():
    key = ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    plain = key.private_bytes(pem, pkcs8, serialization.NoEncryption()).decode()
    locked = key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"secret")).decode()
    for given, said in (
        (("no certificate", plain), ["tls_certificate_file holds no certificate in PEM."]),
        ((certificate(30, key), "no key"), ["tls_key_file holds no private key in PEM."]),
        ((certificate(30, key), certificate(30, key)), ["tls_key_file holds no private key in PEM."]),
        ((certificate(30, key), locked), ["tls_key_file is encrypted with a password; nginx needs it without one, and Ansible "
                                          "Vault protects it."]),
    ):  # fmt: skip
        assert plugin("filter", "certificate_problems").certificate_problems(*given) == said


def test_an_end_is_told_with_its_day():
    key = ec.generate_private_key(ec.SECP256R1())
    kept = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    day = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)
    filters = plugin("filter", "certificate_problems").FilterModule().filters()
    assert filters["certificate_problems"](certificate(-3, key), kept.decode()) == [
        f"tls_certificate_file ended on {day:%Y-%m-%d}."
    ]


def test_every_password_has_each_kind_of_sign():
    """Whoever asks for that in a password, as some databases do, takes each of them; a short one would often lack one."""
    passwords = plugin("module_utils", "_passwords")
    for _unused in range(300):
        text = passwords.generate(8)
        for kind in (string.ascii_lowercase, string.ascii_uppercase, string.digits, passwords.SYMBOLS):
            assert set(text) & set(kind), text


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


@pytest.mark.parametrize(
    "which, both, private_alone, public_alone",
    [
        ("auto", "198.51.100.7", "172.31.0.4", "198.51.100.7"),
        ("private", "172.31.0.4", "172.31.0.4", ""),
        ("public", "198.51.100.7", "", "198.51.100.7"),
    ],
)
def test_the_address_by_which_a_host_is_reached(which, both, private_alone, public_alone):
    address = plugin("module_utils", "_ssh").address
    private, public = {"private_ip": "172.31.0.4"}, {"public_ip": "198.51.100.7"}
    assert address({**private, **public}, which) == both
    for nothing in ({}, {"public_ip": None}, {"public_ip": ""}):
        assert address({**private, **nothing}, which) == private_alone
    for nothing in ({}, {"private_ip": None}, {"private_ip": ""}):
        assert address({**public, **nothing}, which) == public_alone
    assert address({}, which) == ""


def test_what_is_not_known_of_a_host_is_no_obstacle(monkeypatch):
    """As of one that is being started, or that somebody has taken the tags from."""
    monkeypatch.setenv("HOME", "/srv/me")
    bare = {"instance_id": "i-1", "tags": None, "private_ip_address": None, "public_ip_address": None, "launch_time": None}
    for given in (bare, {"instance_id": "i-1"}):
        (host,) = plugin("module_utils", "_ssh").server_hosts([given], "~/.ssh/a_key")
        ssh = host.pop("ssh")
        empty = dict.fromkeys(("private_ip", "public_ip", "launch_time", "address"), "")
        assert host == {"name": "i-1", "instance_id": "i-1", "user": "admin", **empty}
        assert ssh["ansible_ssh_private_key_file"] == "/srv/me/.ssh/a_key" and ssh["ansible_user"] == "admin"
        assert "UserKnownHostsFile=/srv/me/.ssh/a_key.known_hosts" in shlex.split(ssh["ansible_ssh_common_args"])
    (host,) = plugin("module_utils", "_ssh").server_hosts([instance(launch_time="2026-01-01T00:00:00+00:00")], "key")
    assert host["launch_time"] == "2026-01-01T00:00:00+00:00" and host["private_ip"] == "172.31.0.4"


def test_server_hosts_are_in_order():
    instances = [instance(tags={"Name": name}, instance_id=name) for name in ("b", "a")]
    assert [host["name"] for host in plugin("module_utils", "_ssh").server_hosts(instances, "key")] == ["a", "b"]
