# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Modules that run on the hosts are right with the oldest Python that a host has: 3.9, for all of Amazon Linux 2023's life.

https://docs.aws.amazon.com/linux/al2023/ug/python.html
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

import ansible
import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
OLDEST = (3, 9)
# The others ask AWS, on the controller.
HOST_SIDE = [path for path in sorted((PLUGINS / "modules").glob("*.py")) if "ansible_collections.amazon" not in path.read_text()]
FILES = [*HOST_SIDE, *sorted((PLUGINS / "module_utils").glob("*.py"))]

# What came with 3.10 and later, as far as one might want it in a module.
NEWER = {
    "asyncio": {"TaskGroup", "timeout", "Runner", "Barrier"},
    "contextlib": {"aclosing", "chdir"},
    "datetime": {"UTC"},
    "enum": {"StrEnum", "verify", "member", "nonmember", "EnumType", "ReprEnum"},
    "functools": {"Placeholder"},
    "hashlib": {"file_digest"},
    "inspect": {"get_annotations"},
    "itertools": {"batched", "pairwise"},
    "operator": {"call"},
    "types": {"EllipsisType", "NoneType", "NotImplementedType", "UnionType"},
    "typing": {"Concatenate", "LiteralString", "Never", "NotRequired", "ParamSpec", "Required", "Self", "TypeAlias", "TypeGuard",
               "assert_never", "override", "reveal_type"},
}  # fmt: skip
NEWER_NAMES = {"aiter", "anext", "BaseExceptionGroup", "ExceptionGroup", "EncodingWarning"}
NEWER_MODULES = {"tomllib"}
NEWER_ARGUMENTS = {"zip": {"strict"}, "dataclass": {"kw_only", "slots"}, "bisect_left": {"key"}, "insort": {"key"}}


def newer(source: str) -> list[str]:
    """What of a module's text a Python 3.9 does not know."""
    found = []
    for node in ast.walk(ast.parse(source, feature_version=OLDEST)):
        if isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{one.name}" for one in node.names if one.name in NEWER.get(node.module, ())]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in NEWER.get(node.value.id, ()):
            found.append(f"{node.value.id}.{node.attr}")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else [node.module]
            found += [name for name in names if name in NEWER_MODULES]
        if isinstance(node, ast.Name) and node.id in NEWER_NAMES:
            found.append(node.id)
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            found += [f"{name}({key.arg}=)" for key in node.keywords if key.arg in NEWER_ARGUMENTS.get(name, ())]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_newer_than_the_oldest_python(path):
    assert newer(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("source, found", [
    ("from datetime import UTC, datetime", ["datetime.UTC"]),
    ("import datetime\ndatetime.UTC", ["datetime.UTC"]),
    ("zip(a, b, strict=True)", ["zip(strict=)"]),
    ("import tomllib", ["tomllib"]),
    ("try:\n  x\nexcept ExceptionGroup:\n  y", ["ExceptionGroup"]),
    ("from datetime import timezone\nzip(a, b)", []),
])  # fmt: skip
def test_what_is_newer_is_seen(source, found):
    assert newer(source) == found


def test_syntax_that_is_newer_is_seen():
    with pytest.raises(SyntaxError):
        newer("match x:\n  case 1:\n    pass")


def oldest_python() -> str | None:
    kept = sorted((Path.home() / ".pyenv" / "versions").glob("3.9.*/bin/python3.9"))
    for one in (*map(str, kept), shutil.which("python3.9")):
        if one and subprocess.run([one, "-c", ""], capture_output=True, check=False).returncode == 0:
            return one
    return None


@pytest.mark.parametrize("path", HOST_SIDE, ids=lambda path: path.name)
def test_the_oldest_python_imports_it(path, collections):
    python = oldest_python()
    if python is None:
        pytest.skip("there is no Python 3.9 on this machine")
    # As on a host: nothing of the controller's but Ansible's own module_utils, which are in what is sent there.
    folder = collections / "for_a_host"
    if not folder.exists():
        folder.mkdir()
        (folder / "ansible").symlink_to(Path(ansible.__file__).parent)
    done = subprocess.run(
        [python, "-I", "-c", f"import sys; sys.path[:0] = [{str(folder)!r}, {str(collections)!r}]; "
         f"import ansible_collections.mlops.mlflow_aws.plugins.modules.{path.stem}"],
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
