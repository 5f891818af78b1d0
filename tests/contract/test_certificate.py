# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
The private CA of a deployment, by the role's own tasks on hosts that are folders of this machine: each host's Python sees its
folder as /etc/mlflow, in a mount namespace of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from expressions import CALLBACK
from repository import ROOT
from tasks import task
from templates import rendered

ROLE = ROOT / "roles" / "mlflow_server"
PYTHON = """#!/bin/sh
exec unshare --mount sh -c 'mkdir -p /etc/mlflow; mount --bind {folder} /etc/mlflow; exec {python} "$@"' sh "$@"
"""
NAMED = {"mlflow_server_public_name": "mlflow.example.com"}


class Deployment:
    """Hosts by name; `run` is the role's way to a certificate on all of them, or on some."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.hosts: list[str] = []
        self.away: set[str] = set()
        self.output = ""
        top = folder / "collections" / "ansible_collections" / "mlops"
        top.mkdir(parents=True)
        (top / "mlflow_aws").symlink_to(ROOT)

    def add(self, *names: str) -> None:
        for name in names:
            (self.folder / name / "tls").mkdir(parents=True)
            python = self.folder / f"{name}.python"
            python.write_text(PYTHON.format(folder=self.folder / name, python=sys.executable))
            python.chmod(0o755)
            self.hosts.append(name)

    def run(self, variables: dict | None = None, *arguments: str, serial: int = 0) -> dict[str, int]:
        """The number of changes by host; -1 where it has failed."""
        # What proxy.yml asks before it takes this way, and takes this way.
        way = task("mlflow_server", "proxy.yml", "Have a certificate by the private CA")
        look = task("mlflow_server", "host.yml", "Look at the host")["mlops.mlflow_aws.host_info"]
        tasks = [
            {
                # Of the files those alone that this way asks for.
                "mlops.mlflow_aws.host_info": {
                    "files": [item for item in look["files"] if "ca_file" in item],
                    **{key: look[key] for key in ("certificate", "certificates")},
                },
                "register": "__mlflow_server_host",
            },
            {"ansible.builtin.include_tasks": str(ROLE / "tasks" / "certificate.yml"), "when": way["when"]},
            # The end of the role, in which these say what is to come.
            *[task("mlflow_server", "verify.yml", name) for name in (
                "Say whom clients should trust before it is too late", "Say that the CA ends",
            )],
        ]  # fmt: skip
        files = [str(ROLE / folder / "main.yml") for folder in ("defaults", "vars")]
        play = {"hosts": "all", "gather_facts": False, "vars_files": files, "tasks": tasks, "serial": serial or 10}
        hosts = {
            name: {
                "ansible_connection": "local",
                "ansible_python_interpreter": str(self.folder / f"{name}.python"),
                # Root already, and maybe without sudo.
                "ansible_become": False,
            }
            for name in self.hosts
        }
        # Nobody listens there.
        nowhere = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
        hosts |= {name: {**hosts[name], **nowhere} for name in self.away}
        (self.folder / "play.yml").write_text(yaml.safe_dump([play]))
        (self.folder / "inventory.yml").write_text(json.dumps({"all": {"hosts": hosts}}))
        given = {**NAMED, "mlflow_server_hosts": len(self.hosts), "__mlflow_server_distribution": {}, **(variables or {})}
        (self.folder / "given.json").write_text(json.dumps(given))
        paths = f"{self.folder / 'collections'}:{os.environ.get('ANSIBLE_COLLECTIONS_PATH', '')}"
        quiet = {**CALLBACK, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "0"}
        ansible = str(Path(sys.executable).parent / "ansible-playbook")
        done = subprocess.run(
            [ansible, "-i", "inventory.yml", "-e", "@given.json", *arguments, "play.yml"],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": paths, **quiet},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        self.output = " ".join((done.stdout + done.stderr).split())
        recap = [line.replace("=", " ").split() for line in done.stdout.splitlines() if "unreachable=" in line]
        assert recap, done.stdout + done.stderr
        answers = {line[0]: dict(zip(line[2::2], map(int, line[3::2]), strict=True)) for line in recap}
        return {host: -1 if told["failed"] or told["unreachable"] else told["changed"] for host, told in answers.items()}

    def file(self, host: str, name: str) -> Path:
        return self.folder / host / "tls" / name

    def read(self, host: str, name: str) -> str:
        return self.file(host, name).read_text()

    def comes_in(self, trusted: str, host: str, name: str = "mlflow.example.com") -> bool:
        """Whether a client that has this file takes what the host serves, as strict as Python 3.13 is."""
        (self.folder / "trusted.pem").write_text(trusted)
        certificate = self.file(host, "server.crt")
        command = "openssl verify -x509_strict -purpose sslserver -CAfile trusted.pem -verify_hostname".split()
        done = subprocess.run([*command, name, certificate], cwd=self.folder, capture_output=True, check=False)
        # And whether it is that of the host's key, without which nginx does not start.
        asked = (["pkey", "-pubout", "-in", self.file(host, "server.key")], ["x509", "-noout", "-pubkey", "-in", certificate])
        keys = [subprocess.run(["openssl", *words], capture_output=True, check=True).stdout for words in asked]
        assert keys[0] == keys[1]
        return done.returncode == 0

    def signed_itself(self, host: str, days: int = 400, name: str = "mlflow.example.com") -> str:
        """What the role made before there was a CA."""
        addresses = self.addresses(host)
        text = rendered(
            "openssl.cnf.j2", __mlflow_server_public_name=name,
            __mlflow_server_sans=[f"DNS:{name}", *(f"IP Address:{address}" for address in addresses)],
        )  # fmt: skip
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -sha256 -config /dev/stdin"
        out = ["-days", str(days), "-keyout", self.file(host, "server.key"), "-out", self.file(host, "server.crt")]
        subprocess.run([*command.split(), *out], input=text, text=True, check=True, capture_output=True)
        return self.read(host, "server.crt")

    @staticmethod
    def addresses(host: str) -> list[str]:
        found = json.loads(subprocess.run(["ip", "-j", "-4", "address"], capture_output=True, check=True).stdout)
        links = [link for link in found if "LOOPBACK" not in link["flags"]]
        return sorted(item["local"] for link in links for item in link["addr_info"] if "local" in item)


@pytest.fixture
def deployment(tmp_path):
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs root and mount namespaces")
    return Deployment(tmp_path)


def test_another_name_is_another_certificate_and_clients_go_on(deployment):
    deployment.add("a", "b")
    # In a plan nothing is made, and what would be is told.
    assert deployment.run({}, "--check") == {"a": 1, "b": 1} and not list(deployment.file("a", ".").iterdir())
    assert min(deployment.run().values()) > 0 and "clients trust /etc/mlflow/tls/ca.crt from now on" in deployment.output
    trusted, first, key = (deployment.read("a", name) for name in ("ca.crt", "server.crt", "server.key"))
    assert all(deployment.comes_in(trusted, host) for host in "ab")
    # The CA's key is root's and on one host, and what clients get is for everybody.
    kept = deployment.file("a", "authority.pem")
    assert kept.stat().st_mode & 0o777 == deployment.file("a", "server.key").stat().st_mode & 0o777 == 0o600
    assert kept.read_text().split("-----BEGIN PRIVATE KEY-----")[1].splitlines()[1] not in deployment.output
    assert {path.name for path in deployment.file("a", ".").iterdir()} == {"authority.pem", "ca.crt", "server.crt", "server.key"}
    assert {path.name for path in deployment.file("b", ".").iterdir()} == {"ca.crt", "server.crt", "server.key"}
    assert deployment.read("b", "ca.crt") == trusted and "PRIVATE" not in trusted
    assert deployment.file("b", "ca.crt").stat().st_mode & 0o777 == 0o644
    # Nothing is to be done, and so nobody looks any further.
    assert deployment.run() == {"a": 0, "b": 0} and "Look who keeps" not in deployment.output
    assert deployment.read("a", "server.crt") == first
    other = {"mlflow_server_public_name": "tracking.example.com"}
    assert deployment.run(other, "--check") == {"a": 1, "b": 1} and deployment.read("a", "server.crt") == first
    assert deployment.run(other) == {"a": 1, "b": 1} and "from now on" not in deployment.output
    assert deployment.read("a", "ca.crt") == trusted and deployment.read("a", "server.key") == key
    for host in "ab":
        assert deployment.comes_in(trusted, host, "tracking.example.com") and not deployment.comes_in(trusted, host)


def test_a_host_that_comes_later_has_the_same_ca(deployment):
    """By its name it is the first one; and one after the other no host knows yet what is on those that come after it."""
    deployment.add("m")
    deployment.run()
    trusted = deployment.read("m", "ca.crt")
    deployment.hosts = []
    deployment.add("a")
    deployment.hosts.append("m")
    changes = deployment.run(serial=1)
    assert changes["a"] > 0 and changes["m"] == 0
    assert deployment.read("a", "ca.crt") == trusted and deployment.comes_in(trusted, "a")
    assert not deployment.file("a", "authority.pem").exists() and deployment.run() == {"a": 0, "m": 0}


def test_a_host_by_itself_makes_no_second_ca(deployment):
    deployment.add("a", "b")
    # Nobody says yet whether there is one.
    assert deployment.run({}, "--limit", "b") == {"b": -1}
    assert "mlflow_server_hosts is 2, this run is for 1" in deployment.output and not deployment.file("b", "ca.crt").exists()
    deployment.run()
    before = deployment.read("b", "server.crt")
    assert deployment.run({}, "--limit", "b") == {"b": 0}
    other = {"mlflow_server_public_name": "tracking.example.com"}
    assert deployment.run(other, "--limit", "b") == {"b": -1}
    assert "of b, and none of the hosts of this run keeps it" in deployment.output
    assert deployment.read("b", "server.crt") == before
    # Whatever is said of the number of hosts.
    assert deployment.run({**other, "mlflow_server_hosts": 1}, "--limit", "b") == {"b": -1}


def test_a_host_that_is_away_may_keep_the_ca(deployment):
    deployment.add("a", "b", "c")
    deployment.hosts.remove("b")
    deployment.run()
    trusted = deployment.read("c", "ca.crt")
    deployment.hosts.append("b")
    deployment.away = {"a"}
    assert deployment.run() == {"a": -1, "b": -1, "c": 0} and "a can not be reached, and may keep it" in deployment.output
    deployment.away = {"c"}
    assert deployment.run()["b"] > 0 and deployment.read("b", "ca.crt") == trusted and deployment.comes_in(trusted, "b")


def test_a_ca_that_is_lost_is_not_replaced_without_a_word(deployment):
    deployment.add("a", "b")
    deployment.run()
    trusted = deployment.read("b", "ca.crt")
    for path in deployment.file("a", ".").iterdir():
        path.unlink()
    assert deployment.run() == {"a": -1, "b": 0}
    assert "there is one by /etc/mlflow/tls/ca.crt of b" in deployment.output and "gone for good" in deployment.output
    # As it says.
    deployment.file("b", "ca.crt").unlink()
    assert min(deployment.run().values()) > 0
    assert deployment.read("a", "ca.crt") == deployment.read("b", "ca.crt") != trusted
    assert all(deployment.comes_in(deployment.read("a", "ca.crt"), host) for host in "ab")


def test_two_cas_become_the_older_one(deployment):
    """Of hosts that were made without each other."""
    deployment.add("m")
    deployment.run()
    trusted = deployment.read("m", "ca.crt")
    deployment.add("a")
    # The ends have no parts of a second, and Ansible takes longer than that.
    deployment.run({"mlflow_server_hosts": 1}, "--limit", "a")
    assert deployment.read("a", "ca.crt") != trusted
    changes = deployment.run()
    assert changes["m"] == 0 and changes["a"] > 0 and "It is another CA than before" in deployment.output
    assert deployment.read("a", "ca.crt") == trusted and not deployment.file("a", "authority.pem").exists()
    assert deployment.comes_in(trusted, "a") and deployment.run() == {"a": 0, "m": 0}


def test_a_certificate_that_signed_itself_is_served_until_it_would_have_been_replaced(deployment):
    deployment.add("a")
    former = deployment.signed_itself("a")
    assert deployment.run()["a"] > 0
    given = deployment.read("a", "ca.crt")
    assert deployment.read("a", "server.crt") == former and former in given
    assert "clients trust /etc/mlflow/tls/ca.crt from now on" in deployment.output
    assert "is served for 369 more days" in deployment.output and "give them /etc/mlflow/tls/ca.crt before" in deployment.output
    # Who has fetched the new file in time comes in now and later, and who has the old one as long as before.
    assert deployment.comes_in(given, "a") and deployment.comes_in(former, "a")
    assert deployment.run() == {"a": 0} and "WARNING: a: The certificate of before" in deployment.output
    other = {"mlflow_server_public_name": "tracking.example.com"}
    assert deployment.run(other)["a"] > 0 and "clients that trust just that one need this file now" in deployment.output
    assert deployment.comes_in(given, "a", "tracking.example.com") and former not in deployment.read("a", "ca.crt")
    assert deployment.run(other) == {"a": 0} and "WARNING" not in deployment.output


def test_a_certificate_near_its_end_is_renewed(deployment):
    deployment.add("a")
    deployment.signed_itself("a", days=30)
    deployment.run()
    trusted = deployment.read("a", "ca.crt")
    assert trusted.count("BEGIN CERTIFICATE") == 1 and deployment.comes_in(trusted, "a")


def given_ca(deployment, days: int) -> dict[str, str]:
    """The variables of a CA that was made by hand."""
    key, certificate = deployment.folder / "given.key", deployment.folder / "given.crt"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -subj /CN=ours"
    more = ["-addext", "keyUsage=critical,keyCertSign", "-days", str(days), "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *more], check=True, capture_output=True)
    return {"mlflow_server_tls_ca_certificate": certificate.read_text(), "mlflow_server_tls_ca_key": key.read_text()}


def test_a_given_ca_is_on_no_host_and_outlives_each_of_them(deployment):
    deployment.add("a", "b")
    ca = given_ca(deployment, 3000)
    assert min(deployment.run(ca).values()) > 0
    trusted = ca["mlflow_server_tls_ca_certificate"]
    key = ca["mlflow_server_tls_ca_key"].splitlines()[1]
    for host in "ab":
        assert deployment.comes_in(trusted, host) and deployment.read(host, "ca.crt").strip() == trusted.strip()
        assert not [path for path in deployment.file(host, ".").iterdir() if key in path.read_text()]
    assert key not in deployment.output and deployment.run(ca) == {"a": 0, "b": 0}
    # Each host by itself, and one that is new.
    for path in deployment.file("a", ".").iterdir():
        path.unlink()
    assert deployment.run(ca, "--limit", "a")["a"] > 0 and deployment.comes_in(trusted, "a")
    assert deployment.run(ca) == {"a": 0, "b": 0}


def test_a_ca_that_ends_is_told_and_its_certificates_are_not_renewed_for_nothing(deployment):
    deployment.add("a")
    ca = given_ca(deployment, 20)
    assert deployment.run(ca)["a"] > 0
    assert deployment.comes_in(ca["mlflow_server_tls_ca_certificate"], "a")
    assert deployment.run(ca) == {"a": 0} and "ends in 19 days, and so does every certificate of it" in deployment.output
    # Another one is taken, and it is said to whom that matters.
    other = given_ca(deployment, 3000)
    assert deployment.run(other)["a"] > 0 and "It is another CA than before" in deployment.output
    assert deployment.comes_in(other["mlflow_server_tls_ca_certificate"], "a") and "ends in" not in deployment.output


def test_what_a_run_has_left_that_was_cut_off_is_made_good(deployment):
    deployment.add("a")
    deployment.run()
    trusted, leaf = deployment.read("a", "ca.crt"), deployment.read("a", "server.crt")
    # Between the certificate and what clients trust, and with neither of the host's own.
    for lost in (["ca.crt"], ["server.crt", "server.key"]):
        for name in lost:
            deployment.file("a", name).unlink()
        assert deployment.run()["a"] > 0
        assert deployment.read("a", "ca.crt") == trusted and deployment.comes_in(trusted, "a")
    assert deployment.read("a", "server.crt") != leaf and deployment.run() == {"a": 0}
