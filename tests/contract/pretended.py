# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A role of this checkout, run by Ansible with modules that only note what they are asked and answer what a test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from repository import ROOT

# Ansible hands a module with this word its arguments in a file, and adds nothing to it.
MODULE = """#!{python}
# WANT_JSON
import fcntl, json, sys
with open(sys.argv[1]) as file:
    asked = {{name: value for name, value in json.load(file).items() if not name.startswith("_ansible")}}
with open({folder!r} + "/calls", "a") as calls:
    fcntl.flock(calls, fcntl.LOCK_EX)
    with open({folder!r} + "/rules") as file:
        rules = json.load(file)
    answer = {{}}
    for rule in rules:
        fits = rule["module"] == {module!r} and all(asked.get(name) == value for name, value in rule.get("asked", {{}}).items())
        if fits and rule["answers"]:
            # The last of the answers is given from then on.
            answer = rule["answers"].pop(0) if len(rule["answers"]) > 1 else rule["answers"][0]
            break
    with open({folder!r} + "/rules", "w") as file:
        json.dump(rules, file)
    calls.write(json.dumps([{module!r}, asked]) + chr(10))
print(json.dumps(answer))
"""


class Pretended:
    """
    A role whose modules of amazon.aws and of this collection are pretended; those of ansible.builtin are real.

    Attributes:
        calls: what the pretended modules were asked, in order, as (module, arguments).
        output: what Ansible said.
    """

    def __init__(self, folder: Path, rules: list[dict]):
        self._folder = folder
        self._modules = sorted({rule["module"] for rule in rules})
        self.calls: list[tuple[str, dict]] = []
        self.output = ""
        (folder / "rules").write_text(json.dumps(rules))
        (folder / "calls").write_text("")
        ours = folder / "ansible_collections" / "mlops" / "mlflow_aws"
        (ours / "plugins").mkdir(parents=True)
        (ours / "roles").symlink_to(ROOT / "roles")
        for name in ("filter", "module_utils"):
            (ours / "plugins" / name).symlink_to(ROOT / "plugins" / name)
        for module in self._modules:
            *collection, name = module.split(".")
            file = folder.joinpath("ansible_collections", *collection, "plugins", "modules", f"{name}.py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(MODULE.format(python=sys.executable, folder=str(folder), module=module))

    def run(self, role: str, variables: dict, *arguments: str, tasks_from: str = "main") -> int:
        """Run the role, or one of its files, on this machine; the exit code."""
        include = {"name": f"mlops.mlflow_aws.{role}", "tasks_from": tasks_from}
        return self._play({"name": "Run the role", "ansible.builtin.include_role": include}, variables, arguments)

    def run_tasks(self, file: Path, variables: dict, *arguments: str) -> int:
        """The same of a file with tasks, such as a playbook includes."""
        return self._play({"name": "Run the tasks", "ansible.builtin.include_tasks": str(file)}, variables, arguments)

    def _play(self, task: dict, variables: dict, arguments: tuple[str, ...]) -> int:
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
            "tasks": [task],
        }
        playbook, given = self._folder / "play.yml", self._folder / "variables.json"
        playbook.write_text(yaml.safe_dump([play]))
        given.write_text(json.dumps(variables))
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-e", f"@{given}", *arguments, playbook],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(self._folder), "ANSIBLE_NOCOLOR": "1"},
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.output = done.stdout
        self.calls = [tuple(json.loads(line)) for line in (self._folder / "calls").read_text().splitlines()]
        return done.returncode
