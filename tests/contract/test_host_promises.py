# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What is on a host: who may read and write each file, what each unit may do, and how the service reaches its database."""

from __future__ import annotations

import re

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from repository import ROOT, load_yaml, relative
from tasks import FILES, module_of, tasks_of
from templates import rendered, sections
from test_modules import collections, specification  # noqa: F401 - the fixture lets modules be imported

ROLE = ROOT / "roles" / "mlflow_server"
# Modules that write a file with the rights that they are told.
WRITE = {"copy", "template", "file", "get_url", "lineinfile", "blockinfile", "unarchive", "assemble", "mlflow_service_file"}
# What stands in the file is a secret, whether by its name, its content or where the content comes from.
SECRET = re.compile(
    r"password|secret|credential|\.key\b|key_file|private|pg_service|auth\.ini|mlflow\.env|/tls[/}]|provided\.pem"
)
NO_SECRET = re.compile(r"known_hosts|password_left|\.pub\b")


def written(monkeypatch) -> list[tuple[str, dict]]:
    """Each file and folder that a task writes, with owner, group and mode as the module will have them."""
    spec = specification("host_files", monkeypatch)
    found = []
    for path in FILES:
        for item in tasks_of(path):
            module, arguments = module_of(item)
            where = f"{relative(path)}: {item.get('name')}"
            short = module.split(".")[-1]
            if short in WRITE and arguments.get("state") != "absent":
                what = str(arguments.get("dest") or arguments.get("path"))
                found.append((f"{where}: {what}", {"what": f"{what} {arguments.get('content', '')}", **arguments}))
            elif short == "host_files":
                found += [(f"{where}: {item['path']}", item) for item in host_items(item, arguments, spec)]
    return found


def host_items(task: dict, arguments: dict, spec: dict):
    """The items of a task of host_files, also those that stand in the task's variables, with the module's defaults."""
    for kind in ("files", "folders", "takes"):
        lists = [arguments.get(kind) or []]
        if isinstance(lists[0], str) and "'path':" not in lists[0]:
            known = {**variables(), **task.get("vars", {})}
            lists = [known[name] for name in re.findall(r"\b__\w+", lists[0]) if "path" in str(known.get(name))]
            lists = [items for items in lists if not isinstance(items, str) or re.search("'path':|key_name='path'", items)]
            assert lists, f"{arguments[kind]}: where do its items stand?"
        for items in lists:
            if isinstance(items, str):
                # Made by a filter: each with a path and a content, and the rights that are said once, or the defaults.
                mode = re.search(r"'mode': '(\d+)'", items)
                items = [{"path": "of the service", "content": "", **({"mode": mode[1]} if mode else {})}]
            for item in items:
                item = item.get("file", item)
                given = {key: value for key, value in item.items() if key in spec[kind]["options"]}
                needed = {"content": "", "source": "/x", "path": "/x"}
                needed = {key: value for key, value in needed.items() if key in spec[kind]["options"]}
                checked = ArgumentSpecValidator(spec[kind]["options"]).validate({**needed, **given})
                assert not checked.error_messages
                rights = {key: checked.validated_parameters[key] for key in ("owner", "group", "mode")}
                yield {"what": f"{item['path']} {item.get('content', '')}", **rights, "path": item["path"], "kind": kind}


def variables() -> dict:
    return load_yaml(ROLE / "vars" / "main.yml")


def mode_of(rights: dict) -> int | None:
    mode = str(rights.get("mode") or "")
    return int(mode, 8) if re.fullmatch(r"0?[0-7]{3,4}", mode) else None


def test_every_file_has_an_owner_and_a_mode_and_none_is_for_others_to_write(monkeypatch):
    """A unit, a program or a CA that others may write is root for all of them."""
    wrong, seen = [], 0
    for where, rights in written(monkeypatch):
        seen += 1
        mode = mode_of(rights)
        # On the controller the file is the person's own; elsewhere the mode may be a variable, which is compared below.
        templated = "{{" in str(rights.get("mode") or "")
        if not templated and (mode is None or mode & 0o022):
            wrong.append(f"{where}: mode {rights.get('mode')}")
        if rights.get("kind") and not rights.get("owner"):
            wrong.append(f"{where}: no owner")
    assert seen > 20 and not wrong


def test_no_key_and_no_secret_is_for_others_to_read(monkeypatch):
    wrong, seen = [], []
    for where, rights in written(monkeypatch):
        if rights.get("kind") == "folders" or rights.get("state") == "directory":
            continue
        if SECRET.search(rights["what"]) and not NO_SECRET.search(rights["what"]):
            seen.append(where)
            mode = mode_of(rights)
            if mode is None or mode & 0o007:
                wrong.append(f"{where}: mode {rights.get('mode')}")
    assert not wrong
    for known in ("pg_service.conf", "mlflow.env", "flask-secret-key", "aws-credentials", "auth.ini", "certificate and its key"):
        assert [where for where in seen if known in where], f"{known} is written by nobody whom this test sees"


def test_the_key_that_a_host_makes_for_itself_is_for_nobody_else():
    """openssl makes files with the umask's rights."""
    made = [item for path in FILES for item in tasks_of(path) if "openssl req" in str(item)]
    assert made
    for item in made:
        command = module_of(item)[1]["cmd"]
        assert command.index("umask 077") < command.index("openssl req")
        assert not re.search(r"chmod \S+ \S*\.key", command)


# -- units -----------------------------------------------------------------------------------------------------------

# What none of the service's processes may do, and why.
SANDBOX = {
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "NoNewPrivileges": "true",
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "InaccessiblePaths": "-/var/log",
    "PrivateTmp": "true",
    "PrivateDevices": "true",
    "PrivateUsers": "true",
    "ProtectClock": "true",
    "ProtectControlGroups": "true",
    "ProtectHostname": "true",
    "ProtectKernelLogs": "true",
    "ProtectKernelModules": "true",
    "ProtectKernelTunables": "true",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "RemoveIPC": "true",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces": "true",
    "RestrictRealtime": "true",
    "RestrictSUIDSGID": "true",
    "LockPersonality": "true",
    "MemoryDenyWriteExecute": "true",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
    "UMask": "0077",
    "StateDirectoryMode": "0700",
    "User": "mlflow",
    "Group": "mlflow",
}
FILTERS = ["@system-service", "~@privileged @resources"]


UNITS = {
    "mlflow.service": ("mlflow.service.j2", {"__mlflow_server_is_next": False}),
    "mlflow-next.service": ("mlflow.service.j2", {"__mlflow_server_is_next": True}),
    "mlflow-gc.service": ("mlflow-gc.service.j2", {}),
    "mlflow-jobs.service": ("mlflow-jobs.service.j2", {}),
    "mlflow-trace-archival.service": ("mlflow-trace-archival.service.j2", {}),
}


def test_a_service_that_ends_has_the_time_that_its_first_process_may_take_to_hear_of_it():
    """It may look after a worker that hangs for so long, and each worker may drain and shut down after it."""
    for unit in ("mlflow.service", "mlflow-next.service"):
        name, given = UNITS[unit]
        found = sections(rendered(name, **given))["Service"]
        hangs, shuts = (int(re.search(rf"--{option} (\d+)", found["ExecStart"][0])[1])
                        for option in ("timeout-worker-healthcheck", "timeout-graceful-shutdown"))  # fmt: skip
        # 60 is what is given for the drain.
        assert int(found["TimeoutStopSec"][0]) >= 60 + hangs + shuts
        assert found["OOMPolicy"] == ["continue"] and found["KillMode"] == ["mixed"]


@pytest.mark.parametrize("unit", ["mlflow-gc.service", "mlflow-trace-archival.service"])
def test_removing_and_archiving_end_and_leave_the_server_its_memory(unit):
    """One that hangs holds the lock by which hosts take turns, and what it takes the server's processes do not have."""
    name, given = UNITS[unit]
    found = sections(rendered(name, **given))["Service"]
    assert found["Type"] == ["oneshot"]
    # systemd gives such a unit no end by itself, and takes a start for the whole of its work.
    assert re.fullmatch(r"(\d+)h", found["TimeoutStartSec"][0]) and int(found["TimeoutStartSec"][0][:-1]) <= 24
    assert found["MemoryMax"] == ["1G"] and int(found["OOMScoreAdjust"][0]) > 0


def test_a_stand_in_does_not_stay_beside_a_service_that_has_come_back_by_itself():
    """As where the database was away between the two steps of a hand-over."""
    name, given = UNITS["mlflow.service"]
    (after,) = sections(rendered(name, **given))["Service"]["ExecStartPost"]
    assert after.endswith("systemctl stop --no-block mlflow-next.service")
    name, given = UNITS["mlflow-next.service"]
    assert "ExecStartPost" not in sections(rendered(name, **given))["Service"]


@pytest.mark.parametrize("unit", UNITS)
def test_what_reads_peoples_models_can_do_nothing_else_to_the_host(unit):
    name, given = UNITS[unit]
    found = sections(rendered(name, **given))["Service"]
    assert {key: found.get(key) for key in SANDBOX} == {key: [value] for key, value in SANDBOX.items()}
    assert found["SystemCallFilter"] == FILTERS
    # The state folder alone may be written.
    assert "ReadWritePaths" not in found and found["StateDirectory"] == ["mlflow"]


@pytest.mark.parametrize("unit", UNITS)
def test_a_spool_elsewhere_may_be_written_and_nothing_beside_it(unit):
    name, given = UNITS[unit]
    found = sections(rendered(name, **given, mlflow_server_spool_dir="/srv/spool"))["Service"]
    assert found["ReadWritePaths"] == ["/srv/spool"]


@pytest.mark.parametrize("unit", UNITS)
def test_only_what_the_unit_itself_tells_systemd_runs_as_root(unit):
    """A command with + or ! before it leaves the sandbox; it must not run what the service may have written."""
    name, given = UNITS[unit]
    for key, commands in sections(rendered(name, **given))["Service"].items():
        for command in commands if key.startswith("Exec") else []:
            prefix, path = re.match(r"([-+!@:|]*)(\S+)", command).groups()
            if set(prefix) & set("+!"):
                assert path in ("/bin/sh", "/usr/bin/systemctl"), command
                assert key != "ExecStart", command


def test_the_servers_socket_is_for_nginx_alone():
    found = dict(line.split("=", 1) for line in rendered("mlflow.socket.j2").splitlines() if "=" in line and line[0] != "#")
    assert (found["SocketUser"], found["SocketMode"]) == ("root", "0660")


# -- what the service is told ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sslmode, checked", [("verify-full", True), ("verify-ca", True), ("require", False)])
def test_the_service_checks_its_database_as_it_is_told(sslmode, checked):
    text = rendered("pg_service.conf.j2", mlflow_server_database_sslmode=sslmode, mlflow_server_database_ca_file="",
                    mlflow_server_database_ca_url="")
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] not in "#[")
    assert found["sslmode"] == sslmode
    assert (found.get("sslrootcert") == "/etc/mlflow/database-ca.pem") == checked


def test_a_database_that_goes_away_without_a_word_is_noticed_in_half_a_minute():
    """Also while something that was sent is not acknowledged, for which the kernel tries for a quarter of an hour."""
    text = rendered("pg_service.conf.j2", mlflow_server_database_sslmode="require")
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] not in "#[")
    assert 0 < int(found["tcp_user_timeout"]) <= 30_000
    idle, every, tries = (int(found[f"keepalives_{name}"]) for name in ("idle", "interval", "count"))
    assert idle + every * tries <= 60
    assert 0 < int(found["connect_timeout"]) <= 10


def test_who_says_nothing_has_the_name_in_the_databases_certificate_checked():
    """By the server and by what prepares its database."""
    for role in ("mlflow_server", "mlflow_database"):
        defaults = load_yaml(ROOT / "roles" / role / "defaults" / "main.yml")
        (mode,) = [value for name, value in defaults.items() if name.endswith("_sslmode")]
        assert mode == "verify-full", role


def test_clients_are_given_no_reasons_by_nginx():
    """A location with a proxy_set_header of its own has none of its server's any more."""
    text = (ROLE / "templates" / "nginx.conf.j2").read_text()
    text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|#.*", "", text)
    servers = [part for part in re.split(r"^server \{", text, flags=re.MULTILINE)[1:] if "proxy_pass" in part]
    assert servers
    for server in servers:
        locations = re.findall(r"location [^{]+\{([^}]*)\}", server)
        around = re.sub(r"location [^{]+\{[^}]*\}", "", server)
        for location in locations:
            if "proxy_pass" in location:
                set_there = location if "proxy_set_header" in location else around
                assert re.search(r'proxy_set_header X-Ready-Details "";', set_there), location


SILENT = [("MLFLOW_MODEL_CATALOG_URI", ""), ("MLFLOW_DISABLE_TELEMETRY", "true"), ("DO_NOT_TRACK", "true")]


@pytest.mark.parametrize("variable, value", SILENT)
def test_the_service_tells_nobody_outside_of_its_use(variable, value):
    text = (ROLE / "templates" / "mlflow.env.j2").read_text()
    assert re.search(rf"^{variable}=[\"']?{value}[\"']?$", text, re.MULTILINE)
