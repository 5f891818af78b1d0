# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""bin/quickstart and bin/test: what they say where they can't help, and what they count."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from repository import ROOT, repository_files, text_of

BAD_MACHINES = {
    "ubuntu": ('ID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n', "Ubuntu 24.04.1 LTS"),
    "old debian": ('ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\n', "Debian GNU/Linux 11"),
}


def call(*command: str, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **more}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", ["bin/quickstart", "bin/test", "bench/run"])
def test_help_works_and_changes_nothing(command):
    result = call(command, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"Usage: {command}")


@pytest.mark.parametrize("command", ["bin/quickstart", "bin/test", "bench/run"])
def test_an_unknown_word_is_refused_by_name(command):
    result = call(command, "--no-such-thing")
    assert result.returncode != 0
    assert "--no-such-thing" in result.stderr


@pytest.mark.parametrize("machine", BAD_MACHINES)
def test_quickstart_refuses_a_system_it_was_not_made_for(machine, tmp_path):
    content, name = BAD_MACHINES[machine]
    (tmp_path / "os-release").write_text(content)
    # The check alone: a check that fails to refuse must not go on and build a cloud.
    result = call("bash", "-c", ". bin/_env.sh; need_debian", OS_RELEASE=str(tmp_path / "os-release"))
    assert result.returncode == 1
    assert "Debian 12 and 13" in result.stderr and name in result.stderr


def test_quickstart_checks_before_it_does_anything():
    text = text_of(ROOT / "bin" / "quickstart").split("# --- the command line")[1]
    assert text.index("\nneed_debian\n") < text.index("\nneed_root") < text.index("mkdir")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes nobody, which takes root")
def test_quickstart_says_that_it_needs_root():
    # As nobody, and by standard input: the checkout may lie where nobody can't read.
    result = subprocess.run(
        ["bash", "-s"],
        input=text_of(ROOT / "bin" / "_env.sh") + "\nPROGRAM=quickstart\nneed_root\n",
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "needs root" in result.stderr and "sudo bin/quickstart" in result.stderr


def test_the_readme_names_every_option_of_its_commands():
    usage = call("bin/quickstart", "--help").stdout
    readme = text_of(ROOT / "README.md")
    for option in ("--down", "--example"):
        assert option in usage
        assert f"bin/quickstart {option}" in readme


def test_shell_scripts_stop_at_the_first_error():
    scripts = [path for path in repository_files() if text_of(path).startswith("#!/usr/bin/env bash")]
    assert {"quickstart", "test", "run"} <= {path.name for path in scripts}
    assert not [path.name for path in scripts if "\nset -euo pipefail\n" not in text_of(path)]


def test_no_command_hands_a_password_to_another_program():
    """Arguments and the environment of a process can be read by others; a file of mode 0600 can't."""
    for name in ("quickstart", "test", "_env.sh"):
        text = text_of(ROOT / "bin" / name)
        assert not re.search(r"-e \"?[a-z_]*password=|-u \"?\$\{?MLFLOW|MLFLOW_TRACKING_PASSWORD", text), name
    task = text_of(ROOT / "bin" / "_client_env.yml").split("- name: Write the settings")[1]
    assert 'mode: "0600"' in task and "no_log: true" in task and "diff: false" in task


REPORT = '<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10" /></testsuites>'


def test_the_count_takes_errors_for_failures(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    result = call(sys.executable, "bin/_count.py", str(tmp_path / "report.xml"))
    assert result.stdout == "4 3 3\n"


def test_a_step_that_fails_shows_the_end_of_its_log(tmp_path):
    program = ". bin/_env.sh; run 'A step' a-step bash -c 'echo first; echo last words; exit 7'"
    result = call("bash", "-c", program, LOG_DIR=str(tmp_path))
    assert result.returncode == 7
    assert "failed after" in result.stderr and "last words" in result.stderr
    assert (tmp_path / "a-step.log").read_text() == "first\nlast words\n"


def test_a_step_that_works_keeps_its_output_in_its_log(tmp_path):
    result = call("bash", "-c", ". bin/_env.sh; run 'A step' a-step echo quiet; echo rc $?", LOG_DIR=str(tmp_path))
    assert "rc 0" in result.stdout and "quiet" not in result.stdout


def test_a_step_leaves_no_lock_to_what_it_starts(tmp_path):
    """The local cloud outlives the command that started it; a lock that it held would shut the next one out."""
    program = (
        f"exec 9>{tmp_path}/lock; flock -n 9; . bin/_env.sh;"
        "run start start bash -c 'setsid sleep 5 >/dev/null 2>&1 & echo $!'; exec 9>&-"
    )
    assert call("bash", "-c", program, LOG_DIR=str(tmp_path)).returncode == 0
    free = call("flock", "-n", f"{tmp_path}/lock", "true")
    os.kill(int((tmp_path / "start.log").read_text()), 15)
    assert free.returncode == 0
