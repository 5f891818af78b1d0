# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The mlflow_server role switches last: what is refused, or breaks off, leaves a host that starts with what it had."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from expressions import evaluated
from pretended import Pretended
from repository import ROOT, load_yaml

ROLE = ROOT / "roles" / "mlflow_server"
# What a start of the service reads.
ARMS = re.compile(r"/current'?\"?, |__mlflow_server_(unit|next_unit|handover_unit|socket_unit) \}\}|mlflow\.env|auth\.ini")


def steps(tasks) -> list[dict]:
    """The tasks in the order in which they run, without those of a rescue."""
    found = []
    for task in tasks:
        inner = {key.split(".")[-1]: value for key, value in task.items()}
        if "block" in inner:
            found += steps(inner["block"])
        file = inner.get("import_tasks") or inner.get("include_tasks")
        if file:
            found += steps(load_yaml(ROLE / "tasks" / (file["file"] if isinstance(file, dict) else file)))
        elif "block" not in inner:
            found.append(task)
    return found


@pytest.fixture(scope="module")
def order() -> list[dict]:
    return steps(load_yaml(ROLE / "tasks" / "main.yml"))


def place(order, name) -> int:
    return next(number for number, task in enumerate(order) if task["name"] == name)


def writes(task) -> str:
    """What a task puts on the host, as text."""
    files = task.get("mlops.mlflow_aws.host_files")
    return json.dumps([files, task.get("vars")]) if files else ""


def test_the_database_is_looked_at_before_anything_is_switched(order):
    look, connections = place(order, "Look at the database"), place(order, "Refuse more connections than the database takes")
    migrate, key = place(order, "Migrate the database and make the administrator"), place(order, "Write the settings")
    assert look < place(order, "Refuse a database that can't be prepared") < connections < migrate < key
    assert "--check" in json.dumps(order[look])
    assert "--check" not in json.dumps(order[migrate])


def test_what_a_start_reads_is_written_after_the_migration(order):
    arming = [number for number, task in enumerate(order) if ARMS.search(writes(task))]
    assert arming, "the pattern finds nothing"
    migrate = place(order, "Migrate the database and make the administrator")
    assert not [order[number]["name"] for number in arming if number < migrate]
    # The service's own code as well, beside what asks the database.
    all_code = [number for number, task in enumerate(order) if "{{ __mlflow_server_code_files +" in writes(task)]
    assert all_code == [place(order, "Write the settings")]


def test_what_is_not_linked_yet_logs_in_by_its_own_path(order):
    # The first run has no link by then.
    link, service_file = place(order, "Write the settings"), place(order, "Write the database's address and password")
    assert service_file < link
    assert "__mlflow_server_login_python" in order[service_file]["mlops.mlflow_aws.mlflow_service_file"]["python"]
    assert "__mlflow_server_login_python: \"{{ __mlflow_server_venv }}" in (ROLE / "tasks" / "configure.yml").read_text()


def test_what_proved_itself_is_kept_before_and_after(order):
    kept = [number for number, task in enumerate(order) if task["name"] == "Keep what these processes were started with"]
    assert len(kept) == 2
    assert kept[0] < place(order, "Write the settings")
    assert kept[1] > place(order, "Hand over to processes with the new settings")


def test_what_did_not_prove_itself_is_put_back():
    block = load_yaml(ROLE / "tasks" / "service.yml")[0]
    assert "put_back.yml" in json.dumps(block["rescue"])


def test_all_that_is_kept_is_what_is_armed():
    kept = (ROLE / "tasks" / "keep.yml").read_text()
    units = ("__mlflow_server_unit", "next_unit", "handover_unit", "socket_unit")
    for name in ("current", "mlflow.env", "auth.ini", "aws-credentials", *units):
        assert name in kept
    # Right for any process: an old one must not come back.
    assert "pg_service" not in kept and "flask-secret-key" not in kept


def test_the_packages_are_on_the_disk_before_their_mark(order):
    mark = place(order, "Mark the venv as finished")
    assert order[mark - 1]["ansible.builtin.command"]["argv"][0] == "sync"
    assert place(order, "Compile what the server uses, and note what this version expects of its database") < mark - 1


def test_the_mark_names_packages_interpreter_and_its_version():
    variables = load_yaml(ROLE / "vars" / "main.yml")
    for name in ("requirements", "interpreter", "python_version"):
        assert f"__mlflow_server_{name}" in variables["__mlflow_server_venv_mark"]
    # Another lock file is another folder: what runs is not changed.
    assert "__mlflow_server_requirements" in variables["__mlflow_server_venv"]


def test_whoever_takes_requests_is_started_again_when_it_dies(tmp_path):
    """The stand-in too: nobody else takes requests while mlflow.service answers what it was asked."""
    template = ROLE / "templates" / "mlflow.service.j2"
    look = f"lookup('ansible.builtin.template', '{template}', template_vars="
    units = [look + "{'__mlflow_server_is_next': " + word + "})" for word in ("true", "false")]
    case = {"__mlflow_server_host": {}, "__mlflow_server_venv": "/opt/mlflow/1", "mlflow_server_version": "1"}
    for unit in evaluated("mlflow_server", tmp_path, [case], units)[0]:
        lines = unit.splitlines()
        assert "Restart=always" in lines and "StartLimitIntervalSec=0" in lines
        # What ends the loop of one that never gets ready is the hand-over, which starts it and waits.
    assert "systemctl stop mlflow-next.service" in (ROLE / "templates" / "mlflow-handover.service.j2").read_text()


def test_what_the_processes_read_is_noted_at_their_start(tmp_path):
    """By content: times say nothing where the clock was ahead when they started."""
    template = ROLE / "templates" / "mlflow.service.j2"
    unit = f"lookup('ansible.builtin.template', '{template}', template_vars={{'__mlflow_server_is_next': false}})"
    case = {
        "__mlflow_server_host": {},
        "__mlflow_server_etc": str(tmp_path / "etc"),
        "__mlflow_server_venv": str(tmp_path / "venv"),
        "__mlflow_server_unit": str(tmp_path / "mlflow.service"),
        "__mlflow_server_started": str(tmp_path / "started"),
        "mlflow_server_version": "1",
        "mlflow_server_s3_access_key_id": "x",
    }
    text, reads = evaluated("mlflow_server", tmp_path, [case], [unit, "__mlflow_server_service_reads"])[0]
    for number, path in enumerate(reads):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(str(number))
    (command,) = re.findall(r"^ExecStartPre=-\+(/bin/sh -c .*)$", text, re.MULTILINE)
    for _again in range(2):
        subprocess.run(shlex.split(command), check=True)
    noted = tmp_path / "started"
    assert noted.stat().st_mode & 0o777 == 0o600
    assert subprocess.run(["sha256sum", "--check", "--strict", noted], capture_output=True, check=False).returncode == 0
    assert [line.split("  ")[1] for line in noted.read_text().splitlines()] == reads


def test_other_processes_are_wanted_where_something_else_would_be_read(tmp_path):
    def host(differing=(), outdated=False):
        unit = {"active": True, "enabled": True, "outdated": outdated}
        return {
            "__mlflow_server_finished": True,
            "__mlflow_server_service_reads": ["/etc/mlflow/mlflow.env"],
            "__mlflow_server_host": {"differing": {"service": list(differing)}, "units": {"mlflow.service": unit}},
        }

    cases = [
        host(),
        host(differing=["/etc/mlflow/mlflow.env"]),
        # A run was cut off before systemd read the unit, and systemd has started the processes again since.
        host(outdated=True),
        host() | {"__mlflow_server_finished": False},
        host() | {"__mlflow_server_settings": {"paths": ["/etc/mlflow/mlflow.env"]}},
        host() | {"__mlflow_server_settings": {"paths": ["/etc/tmpfiles.d/mlflow.conf"]}},
    ]
    answers = [answer for (answer,) in evaluated("mlflow_server", tmp_path, cases, ["__mlflow_server_replace | bool"])]
    assert answers == [False, True, True, True, True, False]


def test_one_host_at_a_time_has_twice_as_many_connections():
    """Where all of them hand over at once, the database would refuse the half."""
    block = load_yaml(ROLE / "tasks" / "service.yml")[0]["block"]
    assert [task.get("throttle") for task in block if task["name"].startswith("Hand over")] == [1]


def test_versions_that_nobody_needs_go_where_others_were_switched_to(tmp_path):
    """Not in a plan, and not where nothing was replaced."""
    (task,) = [task for task in load_yaml(ROLE / "tasks" / "switch.yml") if task["name"] == "Remove versions that nobody needs"]
    cases = [{"__mlflow_server_replace": there, "in_a_plan": plan} for there in (True, False) for plan in (False, True)]
    answers = evaluated("mlflow_server", tmp_path, cases, [task["when"].replace("ansible_check_mode", "in_a_plan")])
    assert answers == [[True], [False], [False], [False]]


def test_nobody_is_upgraded_while_a_host_is_away(order, tmp_path):
    """It would go on with the version of before, on a schema that this version does not know."""
    number = place(order, "Refuse an upgrade while a host is away")
    assert number < place(order, "Migrate the database and make the administrator")
    answers = {
        # upgrades, who is missing, who of them is there and has failed, the rule
        (True, ("b",), (), "stop"): True,
        (True, (), (), "stop"): False,
        (False, ("b",), (), "stop"): False,
        (True, ("b",), (), "go_on"): False,
        # What has failed there may fail here, too.
        (True, ("b",), ("b",), "go_on"): True,
        (True, ("b", "c"), ("c",), "go_on"): True,
        # No word that nobody knows opens it.
        (True, ("b",), (), "Go on"): True,
    }
    names = ("__mlflow_server_upgrades", "__mlflow_server_missing", "__mlflow_server_fallen", "mlflow_server_host_away")
    condition = " and ".join(f"({each})" for each in order[number]["when"])
    found = evaluated("mlflow_server", tmp_path, [dict(zip(names, case, strict=True)) for case in answers], [condition])
    assert dict(zip(answers, [answer for (answer,) in found], strict=True)) == answers


def test_a_host_that_is_not_reached_is_another_matter_than_one_where_a_task_has_failed(tmp_path):
    gone, there = {"unreachable": True, "msg": "no"}, {"ping": "pong"}
    found = {
        "ping unreachable": ({"__mlflow_server_reached": gone}, False),
        "ping timed out": ({"__mlflow_server_reached": {"failed": True, "timedout": {"period": 60}}}, False),
        "ping failed": ({"__mlflow_server_reached": {"failed": True, "msg": "no Python"}}, True),
        "went away after it": ({"__mlflow_server_reached": there, "__mlflow_server_host": gone}, False),
        "failed after it": ({"__mlflow_server_reached": there, "__mlflow_server_host": {"distribution": {}}}, True),
        "without the look, unreachable": ({"__mlflow_server_host": gone}, False),
        "without the look, failed after it": ({"__mlflow_server_host": {"distribution": {}}}, True),
        "before anything was asked": ({}, False),
    }
    cases = [{"__mlflow_server_of_missing": [{"key": "b", "value": looks}]} for looks, fallen in found.values()]
    answers = evaluated("mlflow_server", tmp_path, cases, ["__mlflow_server_fallen | length > 0"])
    assert dict(zip(found, [answer for (answer,) in answers], strict=True)) == {
        name: fallen for name, (looks, fallen) in found.items()
    }


def test_another_version_is_tried_on_one_host_first():
    play = next(play for play in load_yaml(ROOT / "playbooks" / "site.yml") if play["name"] == "Make sure of the MLflow servers")
    (block,) = (task["block"] for task in play["tasks"] if "block" in task)
    found = {task["name"]: (number, task) for number, task in enumerate(block)}
    names = ("Switch to it", "Leave the other hosts what they are", "Switch the others to it")
    first, stop, others = (found[name] for name in names)
    assert first[0] < stop[0] < others[0]
    assert first[1]["when"] == "mlflow_aws_goes_first in ['', inventory_hostname]"
    assert stop[1]["when"] == ["mlflow_aws_goes_first != ''", "mlflow_aws_goes_first not in ansible_play_hosts"]


def damage(tmp_path, whole):
    """The role's look at a venv, on this machine; whether its mark is still there."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "service").mkdir()
    python = venv / "bin" / "python"
    python.write_text(f"#!/bin/sh\n{'true' if whole else 'echo mlflow/__init__.py is not what was installed >&2; false'}\n")
    python.chmod(0o755)
    mark = venv / "finished"
    mark.write_text("")
    # What can't be asked for without systemd; nothing runs from here.
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "systemctl").write_text("#!/bin/sh\ncase $1 in show) echo 0;; *) false;; esac\n")
    (tmp_path / "path" / "systemctl").chmod(0o755)
    rules = [{"module": "mlops.mlflow_aws.host_files", "answers": [{"changed": True}]}]
    role = Pretended(tmp_path, rules)
    variables = {"__mlflow_server_venv": str(venv), "__mlflow_server_mark_file": str(mark)}
    assert role.run("mlflow_server", variables, tasks_from="damaged") == 0, role.output
    return [asked["absent"] for _module, asked in role.calls] == [[str(mark)]]


@pytest.mark.parametrize("whole", [True, False])
def test_what_a_loss_of_power_has_emptied_is_installed_anew(tmp_path, monkeypatch, whole):
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    assert damage(tmp_path, whole) != whole
