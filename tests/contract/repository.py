# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What the tests of the repository's promises have in common."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


@cache
def repository_files() -> tuple[Path, ...]:
    """All files that are, or with the next commit will be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return tuple(path for name in sorted(set(listed.split("\0"))) if name and (path := ROOT / name).is_file())


def text_of(path: Path) -> str:
    """The file's text; empty for one that is none."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


class Loader(yaml.SafeLoader):
    """YAML as Ansible has it: its own tags are no error."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def load_yaml(path: Path):
    with path.open() as stream:
        return yaml.load(stream, Loader)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))
