# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Which tasks of roles and playbooks no test has run on machines. Called by bin/test.

    python bin/_tasks_run.py FOLDER

FOLDER has what tests/callback_plugins/tasks_run.py has noted. Why some are not run stands in tests/tasks_not_run.yml. Nothing
fails by it: whether somebody had to be waited for, say, is up to chance.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
KNOWN = ROOT / "tests" / "tasks_not_run.yml"
# A block is no task, and Ansible tells nobody of meta.
NO_TASK = {"block", "ansible.builtin.meta", "hosts", "ansible.builtin.import_playbook"}
# These take the place of what they name, before anything is run.
STATIC = {"ansible.builtin.import_tasks", "ansible.builtin.import_role"}


def mappings(node):
    if isinstance(node, yaml.MappingNode):
        yield node
        for _key, value in node.value:
            yield from mappings(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from mappings(item)


def tasks_of(path):
    """{line: name} of the tasks in a file."""
    found = {}
    for node in mappings(yaml.compose(path.read_text(encoding="utf-8"))):
        keys = {key.value: value for key, value in node.value}
        # A task has a module, which is written with the name of its collection.
        modules = {key for key in keys if re.fullmatch(r"[a-z_]+\.[a-z_]+\.[a-z0-9_]+", key)}
        if modules and not (keys.keys() | modules) & (NO_TASK | STATIC):
            name = keys["name"].value if "name" in keys else next(iter(modules))
            found[node.start_mark.line + 1] = name
    return found


def all_tasks(root=ROOT):
    files = [*root.glob("roles/*/tasks/*.yml"), *root.glob("playbooks/*.yml"), *root.glob("playbooks/tasks/*.yml")]
    return {(str(file.relative_to(root)), line): name for file in sorted(files) for line, name in tasks_of(file).items()}


def run_tasks(folder):
    """The places of those that were run: a checkout and a collection that is installed name them by other folders."""
    found = set()
    for file in Path(folder).glob("*"):
        for text in file.read_text(encoding="utf-8").splitlines():
            path, _, line = text.rpartition(":")
            place = re.search(r"(?:^|/)((?:roles/[^/]+/tasks|playbooks(?:/tasks)?)/[^/]+)$", path)
            if place:
                found.add((place[1], int(line)))
    return found


def report(tasks, run, known):
    """
    Lines to show.

    :arg tasks: {(file, line): name}
    :arg run: {(file, line)}
    :arg known: {file: {name: reason}} of those that are not run.
    """
    left = {place: name for place, name in tasks.items() if place not in run}
    lines = [f"{len(tasks) - len(left)} of {len(tasks)} tasks of roles and playbooks were run on machines"]
    for (file, line), name in left.items():
        reason = known.get(file, {}).get(name)
        lines.append(f"not run: {file}:{line}: {name}" + (f" ({reason})" if reason else ""))
    return lines


def main():
    known = yaml.safe_load(KNOWN.read_text(encoding="utf-8")) or {}
    print("\n".join(report(all_tasks(), run_tasks(sys.argv[1]), known)))


if __name__ == "__main__":
    main()
