# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which tasks were run is noted by Ansible itself, and those that were not are named."""

from __future__ import annotations

import os
import subprocess
import sys

import yaml
from repository import ROOT

sys.path.insert(0, str(ROOT / "bin"))

import _tasks_run  # noqa: E402

TASKS = """---
- name: Run
  ansible.builtin.debug:
    msg: "{{ {'name': 'no task'} }}"

- name: Not run
  ansible.builtin.debug:
  when: false

- name: A block
  block:
    - name: Within it
      ansible.builtin.command: "false"
  rescue:
    - name: Another file
      ansible.builtin.include_tasks: more.yml
  always:
    - ansible.builtin.meta: noop
    - name: Taken in
      ansible.builtin.import_tasks: more.yml
"""
MORE = """---
- name: More of it
  ansible.builtin.debug:
"""


def test_what_a_playbook_has_done_is_noted_and_the_rest_is_named(tmp_path):
    role = tmp_path / "roles" / "given" / "tasks"
    role.mkdir(parents=True)
    (role / "main.yml").write_text(TASKS)
    (role / "more.yml").write_text(MORE)
    (tmp_path / "play.yml").write_text("- hosts: localhost\n  gather_facts: false\n  roles: [given]\n")
    environ = {
        **os.environ,
        "TASKS_RUN": str(tmp_path / "noted"),
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "tasks_run",
    }
    done = subprocess.run(["ansible-playbook", "play.yml"], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tasks, run = _tasks_run.all_tasks(tmp_path), _tasks_run.run_tasks(tmp_path / "noted")
    assert sorted(tasks.values()) == ["Another file", "More of it", "Not run", "Run", "Within it"]
    assert _tasks_run.report(tasks, run, {}) == [
        "4 of 5 tasks of roles and playbooks were run on machines",
        "not run: roles/given/tasks/main.yml:6: Not run",
    ]
    known = {"roles/given/tasks/main.yml": {"Not run": "it has its reason"}}
    assert _tasks_run.report(tasks, run, known)[1] == "not run: roles/given/tasks/main.yml:6: Not run (it has its reason)"


def test_the_tasks_of_this_collection_are_found():
    tasks = _tasks_run.all_tasks()
    files = {file for file, _line in tasks}
    assert len(tasks) > 300 and {"playbooks/site.yml", "playbooks/tasks/lease.yml", "roles/rds/tasks/absent.yml"} <= files


def test_what_has_a_reason_is_there():
    """A task that was renamed or removed takes its reason with it."""
    known = yaml.safe_load(_tasks_run.KNOWN.read_text(encoding="utf-8"))
    there = {(file, name) for (file, _line), name in _tasks_run.all_tasks().items()}
    gone = [(file, name) for file, names in known.items() for name in names if (file, name) not in there]
    assert known and not gone
