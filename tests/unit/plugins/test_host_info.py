# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_support import plugin

ADDRESSES = [
    {"ifname": "lo", "flags": ["LOOPBACK", "UP"], "addr_info": [{"local": "127.0.0.1"}]},
    {"ifname": "eth0", "flags": ["UP"], "addr_info": [{"local": "192.0.2.20"}]},
    {"ifname": "eth1", "flags": ["UP"], "addr_info": [{"local": "192.0.2.10"}]},
]


def host(answers=None, os_release="/etc/os-release"):
    """A host whose programs answer by their name; what is not among them is not installed."""

    def run(argv):
        answer = (answers or {}).get(argv[0])
        return (127, "", "") if answer is None else answer(argv) if callable(answer) else (0, answer, "")

    return plugin("modules", "host_info").Host(run, os_release)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ID=debian\nVERSION_ID="13"\n', {"id": "debian", "version": "13", "family": "debian"}),
        ('ID=ubuntu\nVERSION_ID="24.04"\nID_LIKE=debian\n', {"id": "ubuntu", "version": "24.04", "family": "debian"}),
        ('ID="amzn"\nVERSION_ID="2023"\nID_LIKE="fedora"\n', {"id": "amzn", "version": "2023", "family": "redhat"}),
        ("ID=alpine\n# no version\n", {"id": "alpine", "version": "", "family": "alpine"}),
    ],
)
def test_distribution(tmp_path, text, expected):
    (tmp_path / "os-release").write_text(text)
    assert host(os_release=str(tmp_path / "os-release")).distribution() == expected


@pytest.mark.parametrize(
    ("routes", "default"),
    [
        ([{"dev": "eth0", "metric": 200}, {"dev": "eth1", "metric": 100}], "192.0.2.10"),
        ([{"dev": "eth1", "prefsrc": "192.0.2.11"}], "192.0.2.11"),
        ([], ""),
    ],
)
def test_addresses(routes, default):
    found = host({"ip": lambda argv: (0, json.dumps(routes if "route" in argv else ADDRESSES), "")}).addresses()
    assert found == (["192.0.2.10", "192.0.2.20"], default)


def test_addresses_without_the_program():
    assert host().addresses() == ([], "")


def test_missing_packages():
    debian = host({"dpkg-query": "nginx-light installed\npython3-venv config-files\n"})
    wanted = {"debian": ["nginx-light"], "debian-13": ["nginx-light", "python3-venv", "openssl"]}
    version = {"id": "debian", "family": "debian"}
    assert debian.missing_packages({**version, "version": "13"}, wanted) == ["python3-venv", "openssl"]
    assert debian.missing_packages({**version, "version": "12"}, wanted) == []
    amazon = host({"rpm": lambda argv: (int(argv[-1] == "nginx"), "", "")})
    distribution = {"id": "amzn", "version": "2023", "family": "redhat"}
    assert amazon.missing_packages(distribution, {"amzn-2023": ["nginx", "openssl"]}) == ["nginx"]


def test_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one\n")
    path.chmod(0o640)
    found = host().file(str(path))
    assert found["sha256"] == hashlib.sha256(b"one\n").hexdigest() and found["mode"] == "0640"
    assert host().file(str(tmp_path / "none")) is None


def test_certificate(tmp_path):
    path = tmp_path / "crt"
    names = "subjectAltName=DNS:mlflow.example.com,IP:192.0.2.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "40",
         "-subj", "/CN=x", "-addext", names, "-keyout", tmp_path / "key", "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip

    def openssl(argv):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    real = host({"openssl": openssl})
    names = ["DNS:mlflow.example.com", "IP Address:192.0.2.1"]
    assert real.certificate(str(path)) == {"names": names, "days": 39, "lifetime_days": 40}
    assert real.certificate(str(tmp_path / "key")) == {} and real.certificate(None) == {}


def test_unit():
    found = host({"systemctl": "ActiveState=active\nUnitFileState=disabled\nNeedDaemonReload=no\n"}).unit("nginx.service")
    assert found == {"active": True, "enabled": False, "outdated": False}
    assert host({"systemctl": "ActiveState=active\nNeedDaemonReload=yes\n"}).unit("nginx.service")["outdated"]


def test_newer(tmp_path):
    newer = plugin("modules", "host_info").Host.newer
    for name, moment in (("mark", 100), ("old", 50), ("new", 150), ("folder/new", 150), ("same", 100)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        os.utime(path, (moment, moment))
    os.utime(tmp_path / "folder", (50, 50))
    paths = [str(tmp_path / name) for name in ("old", "new", "folder", "none", "same")]
    assert newer(str(tmp_path / "mark"), paths) == [str(tmp_path / "new"), str(tmp_path / "folder" / "new")]
    assert newer(str(tmp_path / "none"), paths) == [str(tmp_path / "none")]


def test_what_differs_from_what_was_noted(tmp_path):
    paths = [str(tmp_path / name) for name in ("same", "other", "new", "gone", "none")]
    for path in paths[:4]:
        Path(path).write_text(path)
    noted = tmp_path / "noted"
    noted.write_text(subprocess.run(["sha256sum", *paths[:2], paths[3]], capture_output=True, text=True, check=True).stdout)
    Path(paths[1]).write_text("another")
    # A clock that was ahead, or files with times of before.
    os.utime(paths[1], (50, 50))
    Path(paths[3]).unlink()
    assert host().differing(str(noted), paths) == [paths[1], paths[2], paths[3]]
    assert host().differing(str(tmp_path / "missing"), paths) == [str(tmp_path / "missing")]


def test_the_version_of_an_interpreter():
    def run(argv):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    asked = host({sys.executable: run, "/usr/bin/broken": lambda argv: (1, "", "no")})
    assert asked.python(sys.executable) == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert asked.python("/usr/bin/broken") is None
    assert asked.python("/usr/bin/nothing") is None
