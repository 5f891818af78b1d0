# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What the mlflow_server role installs is for the service and nginx to read, whatever umask the host has."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from expressions import evaluated
from repository import ROOT, load_yaml
from tasks import task

ROLE = ROOT / "roles" / "mlflow_server"
INSTALLERS = [
    "Make an empty venv",
    "Install uv",
    "Install the packages with uv",
    "Install the packages with pip (takes some minutes)",
    # What it imports first is compiled before it can say anything of that.
    "Compile what the server uses, and note what this version expects of its database",
]
REPAIR = "Let the service and nginx read what is installed"


def unreadable(folder: Path) -> list[str]:
    """What others than the owner can't read, or enter."""
    wrong = []
    for path in [folder, *folder.rglob("*")]:
        mode = path.lstat().st_mode
        wanted = 0o055 if stat.S_ISDIR(mode) else 0o044
        if not stat.S_ISLNK(mode) and mode & wanted != wanted:
            wrong.append(str(path.relative_to(folder)))
    return wrong


def run_with(umask: int, argv: list[str]) -> None:
    subprocess.run(argv, check=True, umask=umask)


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_a_venv_is_readable_whatever_the_umask(tmp_path, umask):
    venv = tmp_path / "venv"
    case = {"__mlflow_server_venv": str(venv), "__mlflow_server_interpreter": sys.executable}
    expression = task("mlflow_server", "venv.yml", "Make an empty venv")["ansible.builtin.command"]["argv"].strip()[2:-2]
    ((argv,),) = evaluated("mlflow_server", tmp_path, [case], [expression])
    run_with(umask, argv)
    assert (venv / "pyvenv.cfg").is_file() and not unreadable(venv)


@pytest.mark.parametrize("name", INSTALLERS)
def test_each_program_that_installs_has_a_umask_of_its_own(name):
    argv = task("mlflow_server", "venv.yml", name)["ansible.builtin.command"]["argv"]
    text = argv if isinstance(argv, str) else " ".join(argv)
    assert "umask 022" in text or "__mlflow_server_for_all" in text
    assert "umask 022" in " ".join(load_yaml(ROLE / "vars" / "main.yml")["__mlflow_server_for_all"])


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_what_was_installed_so_before_is_repaired(tmp_path, umask):
    venv = tmp_path / "3.17.2-aaaaaaaa"
    script = 'mkdir "$0"; cd "$0"; mkdir bin lib lib/a; touch pyvenv.cfg lib/a/b bin/c; chmod u+x bin/c; ln -s lib lib64'
    run_with(umask, ["sh", "-ec", script, str(venv)])
    assert unreadable(venv)
    argv = task("mlflow_server", "install.yml", REPAIR)["ansible.builtin.command"]["argv"]
    run_with(umask, [*argv[:3], str(venv)])
    assert not unreadable(venv)
    assert os.access(venv / "bin" / "c", os.X_OK) and (venv / "bin" / "c").stat().st_mode & 0o011 == 0o011
    # Nobody else may write it.
    assert not [path for path in venv.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]


def test_it_is_repaired_where_it_is_needed_and_nowhere_else(tmp_path):
    def host(mode):
        files = {"/opt/mlflow/1/pyvenv.cfg": {"mode": mode}} if mode else {}
        return {"__mlflow_server_host": {"files": files}, "__mlflow_server_venv": "/opt/mlflow/1"}

    cases = [host("0644"), host("0640"), host("0600"), host("0664"), host(None)]
    answers = [answer for (answer,) in evaluated("mlflow_server", tmp_path, cases, ["__mlflow_server_unreadable | bool"])]
    assert answers == [False, True, True, False, False]
    look = load_yaml(ROLE / "tasks" / "host.yml")[0]["mlops.mlflow_aws.host_info"]
    assert "{{ __mlflow_server_venv }}/pyvenv.cfg" in look["files"]
    assert "__mlflow_server_unreadable | bool" in task("mlflow_server", "install.yml", REPAIR)["when"]
