# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What the mlflow_server role does for nginx is whole at any moment: whatever boots in between starts."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from repository import ROOT, load_yaml

ROLE = ROOT / "roles" / "mlflow_server"


def tasks(name: str) -> list[dict]:
    """All tasks of a file, in their order."""

    def inner(items):
        for item in items:
            if "block" in item:
                yield from inner(item["block"])
            else:
                yield item

    return list(inner(load_yaml(ROLE / "tasks" / name)))


def task(file: str, name: str) -> dict:
    return next(item for item in tasks(file) if item["name"] == name)


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
    write = task("proxy.yml", "Write the given certificate and its key")
    assert "loop" not in write
    copy = write["ansible.builtin.copy"]
    assert "certificate_file" in copy["content"] and "key_file" in copy["content"] and copy["mode"] == "0600"
    variables = load_yaml(ROLE / "vars" / "main.yml")
    certificate, key = (variables[f"__mlflow_server_tls_{name}"] for name in ("certificate", "key"))
    assert "'provided': 'provided.pem'" in certificate and "'provided': 'provided.pem'" in key
    assert copy["dest"] == "{{ __mlflow_server_tls_certificate }}"


@pytest.mark.parametrize("certificate, key, fits", [("a", "a", True), ("a", "b", False), ("a", None, False), (None, "a", False)])
def test_what_does_not_belong_together_is_not_moved_to_its_place(pem, tmp_path, certificate, key, fits):
    check = task("proxy.yml", "Write the given certificate and its key")["ansible.builtin.copy"]["validate"]
    file = tmp_path / "provided.pem"
    file.write_text((pem[certificate][0] if certificate else "") + (pem[key][1] if key else ""))
    # As Ansible calls it: no shell of its own.
    done = subprocess.run(shlex.split(check % file), capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == fits, done.stderr
