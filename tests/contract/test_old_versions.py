# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which installations the mlflow_server role removes, and that it looks for room before it makes one."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager

import pytest
from expressions import evaluated
from pretended import Pretended
from repository import ROOT, load_yaml

TASKS = ROOT / "roles" / "mlflow_server" / "tasks"
VERSIONS = ["3.16.1-aaaaaaaa", "3.17.0", "3.17.1-bbbbbbbb", "3.17.2-cccccccc"]


@pytest.fixture
def opt(tmp_path):
    """The folder of the installations, of which the last one runs."""
    folder = tmp_path / "opt"
    for name in [*VERSIONS, "uv"]:
        (folder / name / "bin").mkdir(parents=True)
    (folder / "mlflow-3.17.2.txt").write_text("")
    (folder / "current").symlink_to(folder / VERSIONS[-1])
    return folder


def left(opt, tmp_path, wanted=VERSIONS[-1]) -> tuple[list[str], str]:
    """The versions that are there after the role's look, and what Ansible said."""
    role = Pretended(tmp_path, [])
    variables = {"__mlflow_server_opt": str(opt), "__mlflow_server_venv": str(opt / wanted), "ansible_become": False}
    code = role.run("mlflow_server", variables, tasks_from="old_versions")
    assert code == 0, role.output
    assert (opt / "uv").is_dir() and (opt / "mlflow-3.17.2.txt").is_file() and (opt / "current").is_dir()
    return sorted(path.name for path in opt.iterdir() if path.name[0].isdigit()), role.output


@contextmanager
def running(folder):
    """A process of that installation."""
    program = folder / "bin" / "python"
    shutil.copy(shutil.which("sleep"), program)
    process = subprocess.Popen([program, "600"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_current_version_and_the_one_before_stay(opt, tmp_path):
    (opt / "before").symlink_to(opt / VERSIONS[2])
    found, said = left(opt, tmp_path)
    assert found == VERSIONS[2:] and "changed=1" in said


def test_what_was_installed_and_is_not_linked_yet_stays(opt, tmp_path):
    (opt / "before").symlink_to(opt / VERSIONS[2])
    assert left(opt, tmp_path, wanted=VERSIONS[0])[0] == [VERSIONS[0], *VERSIONS[2:]]


def test_what_a_process_runs_from_stays(opt, tmp_path):
    (opt / "before").symlink_to(opt / VERSIONS[2])
    with running(opt / VERSIONS[0]):
        assert left(opt, tmp_path)[0] == [VERSIONS[0], *VERSIONS[2:]]


def test_nothing_is_removed_where_nobody_knows_which_was_before(opt, tmp_path):
    found, said = left(opt, tmp_path)
    assert found == VERSIONS and "changed=0" in said


@pytest.mark.parametrize("kept, wanted", [(None, None), (VERSIONS[3], None), (VERSIONS[1], VERSIONS[1])])
def test_the_version_before_is_noted_with_what_proved_itself(opt, tmp_path, kept, wanted):
    store, current = tmp_path / "kept", opt / "current"
    if kept:
        inside = store / str(current).lstrip("/")
        inside.parent.mkdir(parents=True)
        inside.symlink_to(opt / kept)
    (argv,) = [task["ansible.builtin.command"]["argv"] for task in load_yaml(TASKS / "keep.yml")]
    for _again in range(2):
        # The second time the same runs as before, which is no other version.
        subprocess.run([*argv[:3], store, current], check=True)
    before = opt / "before"
    assert (before.readlink().name if before.is_symlink() else None) == wanted


def test_versions_are_removed_last():
    names = [task["name"] for task in load_yaml(TASKS / "switch.yml")]
    assert names[-2:] == ["Verify", "Remove versions that nobody needs"]


def test_the_room_for_an_installation_is_looked_at_before_anything(tmp_path):
    names = [task["name"] for task in load_yaml(TASKS / "host.yml")]
    refuse = load_yaml(TASKS / "host.yml")[names.index("Refuse a disk that has no room for the installation")]
    when = " and ".join(f"(({condition}) | bool)" for condition in refuse["when"])
    cases = [
        {"__mlflow_server_finished": finished, "__mlflow_server_host": {"free_mib": {"/opt/mlflow": free}}}
        for finished, free in ((False, 1023), (False, 1024), (True, 10))
    ]
    assert evaluated("mlflow_server", tmp_path, cases, [when]) == [[True], [False], [False]]
    said = refuse["ansible.builtin.fail"]["msg"]
    for word in ("free_mib[__mlflow_server_opt]", "__mlflow_server_venv", "__mlflow_server_install_mib"):
        assert word in said
