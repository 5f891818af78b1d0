# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The tasks of roles and playbooks, and their arguments as Ansible would give them to the module."""

from __future__ import annotations

import re
from pathlib import Path

from expressions import evaluated_together
from repository import ROOT, load_yaml

# Where tasks are, and in playbooks/vars some files that have none.
FILES = sorted((ROOT / "roles").glob("*/tasks/*.yml")) + sorted((ROOT / "playbooks").rglob("*.yml"))
INNER = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")
# What a block says for the tasks in it, as far as somebody asks.
HANDED_DOWN = ("no_log", "diff", "become", "delegate_to", "any_errors_fatal")
# What Ansible leaves out of a module's arguments.
OMITTED = "(left out)"


def tasks_of(path: Path) -> list[dict]:
    """Every task of a file, in its order, those within blocks and plays included; with what its blocks say of it."""
    return tasks_in(load_yaml(path))


def tasks_in(items: list | None) -> list[dict]:
    """The same of what a file or a play has."""
    return list(_inner(items, {}))


def _inner(items, around):
    for item in items or []:
        if not isinstance(item, dict) or "import_playbook" in item or "ansible.builtin.import_playbook" in item:
            continue
        inner = [key for key in INNER if key in item]
        handed_down = {key: item[key] for key in HANDED_DOWN if key in item}
        own_vars = {**around.get("vars", {}), **(item.get("vars") or {})}
        below = {**around, **handed_down, "vars": own_vars}
        for key in inner:
            yield from _inner(item[key], below)
        if not inner and "hosts" not in item:
            yield {**item, **below, **{key: value for key, value in item.items() if key != "vars"}}


def task(role: str, file: str, name: str) -> dict:
    (found,) = [item for item in tasks_of(ROOT / "roles" / role / "tasks" / file) if item.get("name") == name]
    return found


def module_of(item: dict) -> tuple[str, dict]:
    """The name of a task's module, and its arguments."""
    for key, value in item.items():
        if "." in key and isinstance(value, dict):
            return key, value
    return "", {}


def rendered(tmp_path, questions: list[tuple[str, list[dict], list]]) -> list[list[list]]:
    """
    For each role and each of its cases, which is variables, what is in each tree with the role's defaults and vars below
    them. A tree may also be different from case to case: then the case names it, and the tree is "{{ its name }}".
    """
    asked = []
    for role, cases, trees in questions:
        names = [f"rendered_{number}" for number in range(len(trees))]
        given = dict(zip(names, map(without_omit, trees), strict=True))
        asked.append((role, [{"not_given": OMITTED, **case, **given} for case in cases], names))
    return evaluated_together(tmp_path, asked)


def without_omit(tree):
    """Ansible fills `omit` only in a module's own arguments."""
    if isinstance(tree, dict):
        return {key: without_omit(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_omit(value) for value in tree]
    if isinstance(tree, str):
        return re.sub(r"\bomit\b", "not_given", tree)
    return tree
