# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Notes which tasks were done, in the folder TASKS_RUN, for bin/_tasks_run.py. One that was skipped on each host was not."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: tasks_run
type: aggregate
short_description: Notes which tasks were done
description: For tests.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "tasks_run"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        folder = os.environ.get("TASKS_RUN")
        self.file = Path(folder) / str(os.getpid()) if folder else None
        self.seen = set()

    def note(self, task):
        path = task.get_path()
        if self.file is None or not path or path in self.seen:
            return
        self.seen.add(path)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:
            file.write(f"{path}\n")

    def v2_runner_on_ok(self, result):
        self.note(result.task if hasattr(result, "task") else result._task)

    def v2_runner_on_unreachable(self, result):
        self.v2_runner_on_ok(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.v2_runner_on_ok(result)

    def v2_playbook_on_include(self, included_file):
        self.note(included_file._task)
