# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What talks to a host: as whom, and what becomes of the others where it is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from repository import ROOT, load_yaml
from tasks import module_of, tasks_in, tasks_of

# What the controller does by itself.
OF_THE_CONTROLLER = re.compile(
    r"(assert|fail|debug|set_fact|meta|pause|include_|import_|add_host|validate_argument_spec|group_by)"
)


def module_name(task: dict) -> str:
    """Without its collection; it may have no arguments, or one that is a text."""
    return next((key.rpartition(".")[2] for key in task if "." in key), "")


def talks(task: dict) -> bool:
    module = module_name(task)
    return bool(module) and not OF_THE_CONTROLLER.match(module) and task.get("delegate_to") != "localhost"


def brought(path: Path, task: dict) -> Path | None:
    """The file of tasks that a task brings in, where that has a name of its own."""
    module, arguments = module_name(task), next((value for key, value in task.items() if "." in key), None)
    if module in ("include_tasks", "import_tasks"):
        name = arguments["file"] if isinstance(arguments, dict) else arguments
        return None if "{{" in name else path.parent / name
    if module in ("include_role", "import_role"):
        role, part = arguments["name"].rpartition(".")[2], arguments.get("tasks_from", "main")
        return None if "{{" in role + part else ROOT / "roles" / role / "tasks" / f"{part.removesuffix('.yml')}.yml"
    return None


def below(path: Path, tasks: list, seen: set | None = None):
    """The tasks, and those that they bring in, with their files."""
    seen = set() if seen is None else seen
    for task in tasks_in(tasks):
        yield path, task
        file = brought(path, task)
        if file and file not in seen and file.exists():
            seen.add(file)
            yield from below(file, load_yaml(file), seen)


# Only where something is missing, before anything is changed: there the host's own words are enough.
ENDS_ALL = {
    "Fetch the certificate of the database's CA",
    "Gather the facts that are needed",
    "Install the PostgreSQL client of the system's Python (apt)",
    "Install the PostgreSQL client of the system's Python (dnf)",
}
PLAYS = [
    (path, play)
    for path in sorted((ROOT / "playbooks").glob("*.yml"))
    for play in load_yaml(path)
    if play.get("ignore_unreachable") and play.get("hosts") != "localhost"
]


@pytest.mark.parametrize("path, play", PLAYS, ids=[f"{path.stem}: {play['name']}" for path, play in PLAYS])
def test_a_host_that_is_not_there_is_named_before_the_others_end(path, play):
    """A task by which a run ends for all says nothing of who was the reason, so that this is left to the next one."""
    assert play["any_errors_fatal"] is True
    found = [(file, task) for file, task in below(path, play["tasks"]) if talks(task)]
    assert found
    wrong = {task["name"] for _, task in found if task.get("any_errors_fatal") is not False}
    assert wrong <= ENDS_ALL


# A ping, and what MLflow is asked by its own API.
AS_ANYBODY = ("Look whether the host is there", "MLflow: {{ mlflow_server_user_password.title }}")
ROLE = ROOT / "roles" / "mlflow_server" / "tasks"


def test_what_is_roots_is_done_as_root():
    """By the task itself, by a block, or by who brings in its file."""
    files = {path: tasks_of(path) for path in sorted(ROLE.glob("*.yml"))}
    by_others: dict[Path, list[bool]] = {}
    for path, tasks in files.items():
        for task in tasks:
            file = brought(path, task)
            if file:
                applied = module_of(task)[1].get("apply", {}).get("become")
                by_others.setdefault(file, []).append(bool(applied or task.get("become")))
    wrong = []
    for path, tasks in files.items():
        given = by_others.get(path)
        if given and all(given):
            continue
        wrong += [f"{path.name}: {task['name']}" for task in tasks if talks(task) and task.get("become") is not True]
    assert wrong == [f"reach.yml: {AS_ANYBODY[0]}", f"user_password.yml: {AS_ANYBODY[1]}"]
