# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
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
        ('ID="rocky"\nVERSION_ID="9.4"\nID_LIKE="rhel centos fedora"\n', {"id": "rocky", "version": "9.4", "family": "redhat"}),
        ("ID='fedora'\nVERSION_ID=42\n", {"id": "fedora", "version": "42", "family": "redhat"}),
        ('NAME="a=b"\n', {"id": "", "version": "", "family": ""}),
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
        # One without a metric comes first.
        ([{"dev": "eth1", "metric": 100}, {"dev": "eth0"}], "192.0.2.20"),
        ([{"dev": "tunnel"}], ""),
        ([{}], ""),
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
    found = real.certificate(str(path))
    assert (found["names"], found["days"], found["lifetime_days"]) == (names, 39, 40)
    # It is its own authority, by the same words, and comes back as it is in its file.
    assert len(found["key"].split(":")) == 20 and found["key"] == found["authority"]
    assert found["pem"].strip() == path.read_text().strip()
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


@pytest.mark.parametrize("fails", ["address", "route"])
def test_what_can_not_be_asked_of_addresses_is_empty(fails):
    answers = {"address": json.dumps(ADDRESSES), "route": json.dumps([{"dev": "eth1"}])}

    def ip(argv):
        (asked,) = set(answers) & set(argv)
        return (1, "no JSON", "") if asked == fails else (0, answers[asked], "")

    assert host({"ip": ip}).addresses() == (([], "") if fails == "address" else (["192.0.2.10", "192.0.2.20"], ""))
    assert host({"ip": ""}).addresses() == ([], "")


def test_an_interface_without_an_address_has_none():
    links = [{"ifname": "eth0"}, {"ifname": "eth1", "addr_info": [{}, {"local": "192.0.2.10"}]}]
    found = host({"ip": lambda argv: (0, json.dumps([{"dev": "eth0"}] if "route" in argv else links), "")}).addresses()
    assert found == (["192.0.2.10"], "")


def test_a_host_with_ipv6_is_one(monkeypatch):
    module = plugin("modules", "host_info")

    class Socket(contextlib.nullcontext):
        def bind(self, address):
            assert address == ("::", 0)

    monkeypatch.setattr(module.socket, "socket", lambda *_kinds: contextlib.nullcontext(Socket()))
    assert module.Host.ipv6() is True


def test_packages_are_those_of_the_version_or_else_of_the_distribution():
    asked = []
    empty = host({"dpkg-query": lambda argv: asked.append(argv[3:]) or (1, "", "no packages found")})
    wanted = {"debian": ["a", "b"], "debian-13": ["c"], "debian-14": []}
    for version, names in (("12", ["a", "b"]), ("13", ["c"]), ("14", ["a", "b"])):
        assert empty.missing_packages({"id": "debian", "family": "debian", "version": version}, wanted) == names
    assert asked == [["a", "b"], ["c"], ["a", "b"]]
    # Nobody is asked for nothing.
    assert empty.missing_packages({"id": "alpine", "family": "alpine", "version": "3"}, wanted) == [] and len(asked) == 3


def test_whose_a_file_is(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("")
    path.chmod(0o4711)
    found = host().file(str(path))
    assert (found["owner"], found["group"]) == (pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name)
    assert found["mode"] == "4711"

    def unknown(number):
        raise KeyError(number)

    # Of a user that was removed.
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(grp, "getgrgid", unknown)
    found = host().file(str(path))
    assert (found["owner"], found["group"]) == (str(os.getuid()), str(os.getgid()))


@pytest.mark.parametrize(
    "end, days, names, found",
    [
        # Some CAs count the last second in.
        ("May 31 23:59:59 2020 GMT", 90, "", []),
        ("Jun  1 00:00:00 2020 GMT", 90, "Subject Alternative Name: \n    IP Address:192.0.2.1\n", ["IP Address:192.0.2.1"]),
        ("Jun  8 00:00:00 2020 GMT", 97, "Subject Alternative Name: \n    DNS:a, DNS:b\n", ["DNS:a", "DNS:b"]),
    ],
)
def test_a_certificate_that_has_ended(monkeypatch, end, days, names, found):
    module = plugin("modules", "host_info")
    now = module.ssl.cert_time_to_seconds("Jun 10 12:00:00 2020 GMT")
    monkeypatch.setattr(module.time, "time", lambda: now)
    text = f"notBefore=Mar  3 00:00:00 2020 GMT\nnotAfter={end}\n{names}"
    asked = host({"openssl": text}).certificate("/etc/crt")
    assert (asked["names"], asked["days"], asked["lifetime_days"]) == (found, {90: -10, 97: -3}[days], days)
    assert (asked["key"], asked["authority"], asked["pem"]) == ("", "", "")
    assert host().certificate("/etc/crt") == {}


def test_a_unit_that_runs_with_every_boot():
    text = "ActiveState=failed\nUnitFileState=enabled\nNeedDaemonReload=\n"
    assert host({"systemctl": text}).unit("nginx.service") == {"active": False, "enabled": True, "outdated": False}
    assert host().unit("nginx.service") == {"active": False, "enabled": False, "outdated": False}


def test_memory_and_disk_are_counted_in_mib(tmp_path):
    (total,) = [line.split() for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:")]
    memory = host().memory_mib()
    assert isinstance(memory, int) and abs(memory - int(total[1]) // 1024) <= 1
    # Others write to the disk meanwhile.
    free = shutil.disk_usage(tmp_path).free / 2**20
    for path in (tmp_path, tmp_path / "not" / "yet", Path("/proc/self/../..") / tmp_path.relative_to("/")):
        found = host().free_mib(str(path))
        assert isinstance(found, int) and abs(found - free) < 500


def test_a_folder_is_newer_where_something_was_put_into_it(tmp_path):
    newer = plugin("modules", "host_info").Host.newer
    (tmp_path / "folder").mkdir()
    (tmp_path / "mark").write_text("")
    os.utime(tmp_path / "mark", (100, 100))
    (tmp_path / "folder" / "dangling").symlink_to("nowhere")
    assert newer(str(tmp_path / "mark"), [str(tmp_path / "folder")]) == [str(tmp_path / "folder")]


@pytest.mark.parametrize("check_mode", [False, True])
def test_the_module_answers_for_all_that_it_is_asked_and_changes_nothing(tmp_path, capsys, check_mode):
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").write_text("one\n")
    (tmp_path / "noted").write_text("")
    there, link, missing = str(tmp_path / "file"), str(tmp_path / "link"), str(tmp_path / "missing")
    about = {"name": "it", "paths": [there]}
    given = {
        "packages": {},
        "files": [there, missing],
        "links": [link, there, missing],
        "certificate": missing,
        "certificates": [missing, there],
        "disks": [str(tmp_path)],
        "pythons": [sys.executable, missing],
        "units": ["no-such.service"],
        "newer": [{**about, "than": missing}],
        "checksums": [{**about, "noted": str(tmp_path / "noted")}],
        "_ansible_check_mode": check_mode,
    }
    with patch_module_args(given), pytest.raises(SystemExit):
        plugin("modules", "host_info").main()
    told = json.loads(capsys.readouterr().out)
    assert not told["changed"] and not told.get("failed") and not told.get("skipped")
    assert set(told["files"]) == {there} and told["files"][there]["sha256"] == hashlib.sha256(b"one\n").hexdigest()
    assert told["links"] == {link: "file"} and told["missing_packages"] == []
    assert told["certificate"] == told["certificates"] == {}
    assert told["processors"] >= 1 and set(told["free_mib"]) == {str(tmp_path)}
    assert told["pythons"] == {sys.executable: f"{sys.version_info[0]}.{sys.version_info[1]}"}
    assert told["python_homes"] == {sys.executable: os.path.realpath(sys.base_prefix)}
    assert told["units"] == {"no-such.service": {"active": False, "enabled": False, "outdated": False}}
    assert told["newer"] == {"it": [missing]} and told["differing"] == {"it": [there]}
    assert isinstance(told["ipv6"], bool) and told["distribution"]["id"]


@pytest.mark.parametrize("kind, item", [("newer", {"than": "/a"}), ("checksums", {"noted": "/a"})])
def test_what_is_only_half_said_is_refused(capsys, kind, item):
    item = {"name": "it", "paths": ["/b"], **item}
    for name in item:
        half = {key: value for key, value in item.items() if key != name}
        with patch_module_args({kind: [half]}), pytest.raises(SystemExit):
            plugin("modules", "host_info").main()
        assert f"missing required arguments: {name} found in {kind}" in json.loads(capsys.readouterr().out)["msg"]
