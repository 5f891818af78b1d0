# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The built collection: it holds what a user needs, nothing else, and works where it is installed."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from repository import ROLES, ROOT

# What stands at the top of the tarball. A new folder of the repository goes here or into galaxy.yml's build_ignore.
SHIPPED = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "FILES.json",
    "LICENSE",
    "MANIFEST.json",
    "README.md",
    "changelogs",
    "docs",
    "examples",
    "inventory",
    "meta",
    "playbooks",
    "plugins",
    "requirements.txt",
    "requirements.yml",
    "roles",
    "rotate-db-password.yml",
    "site.yml",
}


def environment(**more: str) -> dict[str, str]:
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return {**keep, "ANSIBLE_NOCOLOR": "1", **more}


def ansible(*command: str, cwd: Path, **more: str) -> str:
    result = subprocess.run(
        command, cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=180, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def tarball(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("built")
    ansible("ansible-galaxy", "collection", "build", "--output-path", str(target), str(ROOT), cwd=target)
    (built,) = target.glob("mlops-mlflow_aws-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def installed(tarball, tmp_path_factory) -> Path:
    """The collection in a folder of its own, with no way to a server: its dependency is taken from the checkout's."""
    target = tmp_path_factory.mktemp("installed")
    ansible(
        *("ansible-galaxy", "collection", "install", str(tarball), "-p", str(target)),
        # By force: one that is installed elsewhere on this machine would do otherwise.
        *("--no-deps", "--offline", "--force"),
        cwd=target,
    )
    (target / "ansible_collections" / "amazon").symlink_to(ROOT / ".ansible/collections/ansible_collections/amazon")
    return target


def names(tarball: Path) -> list[str]:
    with tarfile.open(tarball) as archive:
        return archive.getnames()


def test_it_holds_what_users_need_and_nothing_else(tarball):
    tops = {name.split("/")[0] for name in names(tarball)}
    assert not tops - SHIPPED, "ships, and should not"
    assert {"README.md", "LICENSE", "CHANGELOG.md", "meta", "playbooks", "plugins", "roles", "site.yml"} <= tops


def test_nothing_that_a_tool_left_is_in_it(tarball):
    left = [name for name in names(tarball) if name.endswith((".pyc", ".retry", ".log")) or "/." in name]
    assert not left
    assert not [name for name in names(tarball) if "__pycache__" in name or name.startswith(".")]


def test_it_is_small(tarball):
    assert tarball.stat().st_size < 1_000_000


def test_every_role_is_in_it(tarball):
    files = set(names(tarball))
    assert not [role for role in ROLES if f"roles/{role}/tasks/main.yml" not in files]


@pytest.mark.parametrize("playbook", sorted(path.stem for path in (ROOT / "playbooks").glob("[a-z]*.yml")))
def test_installed_elsewhere_its_playbooks_are_found_by_name(installed, tmp_path, playbook):
    output = ansible(
        "ansible-playbook",
        f"mlops.mlflow_aws.{playbook}",
        "--syntax-check",
        cwd=tmp_path,
        ANSIBLE_COLLECTIONS_PATH=str(installed),
        ANSIBLE_HOME=str(tmp_path / "home"),
    )
    assert f"playbook: mlops.mlflow_aws.{playbook}" in output or "playbook:" in output


@pytest.mark.parametrize("module", sorted(path.stem for path in (ROOT / "plugins/modules").glob("[a-z]*.py")))
def test_installed_elsewhere_its_modules_have_documentation(installed, tmp_path, module):
    output = ansible(
        "ansible-doc",
        f"mlops.mlflow_aws.{module}",
        cwd=tmp_path,
        ANSIBLE_COLLECTIONS_PATH=str(installed),
        ANSIBLE_HOME=str(tmp_path / "home"),
    )
    assert module in output and "EXAMPLES" in output
