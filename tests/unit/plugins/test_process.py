# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whether a run's process on the controller still is there; only what is certain counts."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_support import plugin


@pytest.fixture
def process():
    return plugin("module_utils", "_process")


@pytest.fixture
def other(process):
    """Another process, and how it would tell of itself."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield child, {**process.this_run(), "pid": child.pid, "started": process._started(child.pid)}
    child.kill()
    child.wait()


def ended(told):
    return plugin("filter", "process_ended").FilterModule().filters()["process_ended"](told)


def test_this_run():
    (told,) = plugin("lookup", "controller_process").LookupModule().run([])
    assert told["pid"] == os.getpid() and told["node"] and told["place"] and told["started"]
    assert not ended(told)


def test_a_worker_tells_of_the_run(process):
    """Ansible fills in templates in workers, which end with their task."""
    with multiprocessing.get_context("fork").Pool(1) as workers:
        assert workers.apply(process.this_run) == process.this_run()


def test_a_process_that_was_killed_has_ended_before_anybody_has_asked_for_its_end(other):
    child, told = other
    assert not ended(told)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert ended(told)
    child.wait()
    assert ended(told)


def test_one_that_is_stopped_has_not_ended(other):
    child, told = other
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert not ended(told)


def test_another_process_with_its_id_is_not_it(other):
    _child, told = other
    assert ended({**told, "started": "1"})


@pytest.mark.parametrize(
    "change",
    [{"node": "elsewhere"}, {"place": "another start"}, {"place": ""}, {"started": ""}],
    ids=lambda change: "-".join(f"{key} {value}" for key, value in change.items()),
)
def test_what_can_not_be_known_has_not_ended(other, change):
    child, told = other
    child.kill()
    child.wait()
    assert ended(told) and not ended({**told, **change})


def test_a_note_of_an_earlier_release_names_no_process():
    assert not ended({}) and not ended(None)


def test_one_that_is_hidden_has_not_ended(process, other, monkeypatch, tmp_path):
    """As another user's, where /proc shows each one only his own."""
    _child, told = other
    place = process._place()
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").touch()
    monkeypatch.setattr(process, "PROC", tmp_path)
    monkeypatch.setattr(process, "_place", lambda: place)
    assert not process.has_ended(told)


def test_without_proc_the_system_is_asked(process, other, monkeypatch, tmp_path):
    child, _told = other
    monkeypatch.setattr(process, "PROC", tmp_path)
    said = process._said
    monkeypatch.setattr(process, "_said", lambda *command: "a-start" if command[0] == "sysctl" else said(*command))
    told = {**process.this_run(), "pid": child.pid, "started": process._started(child.pid)}
    assert told["place"] == "a-start" and ":" in told["started"]
    assert not process.has_ended(told)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.has_ended(told)


def test_what_a_command_says_counts_only_where_it_succeeds(process, monkeypatch):
    monkeypatch.setenv("WORD", "kept")
    assert process._said("sh", "-c", "echo $WORD; echo \" $LC_ALL \"") == "kept C"
    assert process._said("sh", "-c", "echo half of it; exit 1") == "" == process._said("/nowhere/sysctl")

    def late(command, **_options):
        raise subprocess.TimeoutExpired(command, 10)

    monkeypatch.setattr(subprocess, "run", late)
    assert process._said("sysctl") == ""


def test_the_place_is_this_start_of_the_machine_and_this_list_of_processes(process):
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert process._place() == f"{boot} {os.readlink('/proc/self/ns/pid')}"


@pytest.mark.parametrize("known, place", [("kern.bootsessionuuid", "a-start"), ("kern.boot_id", "a-start"), ("", "")])
def test_without_proc_the_place_is_this_start_of_the_machine(process, monkeypatch, tmp_path, known, place):
    monkeypatch.setattr(process, "PROC", tmp_path)
    monkeypatch.setattr(process, "_said", lambda *command: "a-start" if command == ("sysctl", "-n", known) else "")
    assert process._place() == place


def test_where_nobody_knows_which_start_of_the_machine_it_is_nothing_has_ended(process, other, monkeypatch, tmp_path):
    """The id may be that of a process of another start, or of another container."""
    child, told = other
    child.kill()
    child.wait()
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").touch()
    monkeypatch.setattr(process, "PROC", tmp_path)
    assert process.this_run()["place"] == ""
    assert not process.has_ended({**told, "place": ""})


def test_one_of_which_the_start_is_not_known_may_be_any(other):
    _child, told = other
    assert not ended({**told, "started": ""})


def test_the_name_of_a_program_may_look_like_a_state(process):
    code = "open('/proc/self/comm', 'w').write('x) Z 1 (y'); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        before = process._started(child.pid)
        child.stdout.readline()
        assert Path(f"/proc/{child.pid}/comm").read_text() == "x) Z 1 (y\n"
        assert process._started(child.pid) == before and before.isdigit()
    finally:
        child.kill()
        child.communicate()


def test_another_users_process_is_seen_as_well(process, other, monkeypatch):
    child, told = other

    def refuse(_pid, _signal):
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        assert process._started(child.pid) == told["started"] and not ended(told)


def test_without_proc_and_without_an_answer_nothing_is_certain(process, other, monkeypatch, tmp_path):
    child, _told = other
    monkeypatch.setattr(process, "PROC", tmp_path)
    monkeypatch.setattr(process, "_said", lambda *command: "a-start" if command[0] == "sysctl" else "")
    assert process._started(child.pid) is None
    told = {**process.this_run(), "pid": child.pid, "started": "Mon Jan 1"}
    assert told["place"] == "a-start" and not process.has_ended(told)
    assert process.this_run()["started"] == ""
