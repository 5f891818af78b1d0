# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What the mlflow_server role does for nginx is whole at any moment: whatever boots in between starts."""

from __future__ import annotations

import hashlib
import shlex
import subprocess

import pytest
from expressions import evaluated
from repository import ROOT, load_yaml
from tasks import task

ROLE = ROOT / "roles" / "mlflow_server"


@pytest.fixture
def pem(tmp_path):
    """Certificates a and b with their keys, by openssl."""
    found = {}
    for name in "ab":
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 -subj /CN=x"
        key, crt = tmp_path / f"{name}.key", tmp_path / f"{name}.crt"
        subprocess.run([*command.split(), "-keyout", key, "-out", crt], check=True, capture_output=True)
        found[name] = (crt.read_text(), key.read_text())
    return found


def test_a_given_certificate_and_its_key_are_one_write_and_one_file():
    write = task("mlflow_server", "proxy.yml", "Write the given certificate and its key")
    assert "loop" not in write
    copy = write["ansible.builtin.copy"]
    assert "certificate_file" in copy["content"] and "key_file" in copy["content"] and copy["mode"] == "0600"
    variables = load_yaml(ROLE / "vars" / "main.yml")
    certificate, key = (variables[f"__mlflow_server_tls_{name}"] for name in ("certificate", "key"))
    assert "'provided': 'provided.pem'" in certificate and "'provided': 'provided.pem'" in key
    assert copy["dest"] == "{{ __mlflow_server_tls_certificate }}"


@pytest.mark.parametrize("certificate, key, fits", [("a", "a", True), ("a", "b", False), ("a", None, False), (None, "a", False)])
def test_what_does_not_belong_together_is_not_moved_to_its_place(pem, tmp_path, certificate, key, fits):
    check = task("mlflow_server", "proxy.yml", "Write the given certificate and its key")["ansible.builtin.copy"]["validate"]
    file = tmp_path / "provided.pem"
    file.write_text((pem[certificate][0] if certificate else "") + (pem[key][1] if key else ""))
    # As Ansible calls it: no shell of its own.
    done = subprocess.run(shlex.split(check % file), capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == fits, done.stderr


DIRECTORY = "https://ca.example.com/dir"
ASKED = {
    "mlflow_server_tls": "acme",
    "mlflow_server_acme_directory_url": DIRECTORY,
    "mlflow_server_public_name": "mlflow.example.com",
    "mlflow_server_extra_names": ["b.example.com", "192.0.2.7"],
}
NAMES = ["DNS:b.example.com", "DNS:mlflow.example.com"]
MARK = f"{DIRECTORY} mlflow.example.com b.example.com\n"


def certified(names=NAMES, days=60, mark=None, same_ca=True, lifetime=90, **more) -> dict:
    """The variables of a host with such a certificate."""
    files = {"/etc/mlflow/acme": {"sha256": hashlib.sha256(mark.encode()).hexdigest()}} if mark else {}
    certificate = {"names": names, "days": days, "lifetime_days": lifetime} if names else {}
    return {
        **ASKED,
        "ansible_check_mode": False,
        "__mlflow_server_host": {"files": files, "certificate": certificate},
        "__mlflow_server_acme_of": {"rc": 0 if same_ca else 1},
        **more,
    }


def said_of(cases: dict, expression: str, tmp_path) -> dict[str, bool]:
    answers = evaluated("mlflow_server", tmp_path, [case for case, dummy in cases.values()], [expression])
    return dict(zip(cases, [answer for (answer,) in answers], strict=True))


def test_a_certificate_that_is_there_is_not_asked_for_again(tmp_path):
    """Killed between certbot and its mark, each run would take one of the five that Let's Encrypt gives in a week."""
    asks = [f"({condition}) | bool" for condition in task("mlflow_server", "acme.yml", "Get the certificate")["when"]]
    cases = {
        "a host that is new": (certified(names=None, same_ca=False), True),
        "cut off before the mark": (certified(), False),
        "in capitals": (certified(names=["DNS:MLFLOW.example.com", "DNS:b.example.com"]), False),
        "of other names": (certified(names=["DNS:mlflow.example.com"]), True),
        "of another CA": (certified(same_ca=False), True),
        "with the mark of other names": (certified(mark=f"{DIRECTORY} mlflow.example.com\n", names=NAMES[1:]), True),
        "as it is noted": (certified(mark=MARK), False),
        "noted and at its end": (certified(mark=MARK, days=-1), True),
    }
    assert said_of(cases, " and ".join(asks), tmp_path) == {name: wanted for name, (dummy, wanted) in cases.items()}


def test_a_certificate_that_is_not_renewed_is_told(tmp_path):
    says = task("mlflow_server", "verify.yml", "Say that the certificate is not renewed")["when"]
    cases = {
        "just renewed": (certified(days=89), False),
        "due": (certified(days=20), False),
        "overdue": (certified(days=19), True),
        "at its end": (certified(days=-3), True),
        "got by this run": (certified(days=2, __mlflow_server_acme_got={"changed": True}), False),
        "of six days": (certified(days=3, lifetime=6), False),
        "of six days and overdue": (certified(days=1, lifetime=6), True),
        "none yet": (certified(names=None), False),
        "one's own": (certified(days=3, mlflow_server_tls="self_signed"), False),
    }
    assert said_of(cases, f"({says}) | bool", tmp_path) == {name: wanted for name, (dummy, wanted) in cases.items()}
