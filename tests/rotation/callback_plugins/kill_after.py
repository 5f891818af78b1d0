# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Kills the run right after a task: KILL_AFTER=3 after the third that does something somewhere.

A task counts when it was done on any host, and not by the controller alone: one that only looks at variables, or makes
some, leaves behind what the task before it left behind. In KILL_NOTE each is a line: its number, its name, and "changed" where
a host or an API said so of it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: kill_after
type: aggregate
short_description: Kills the run right after a task
description: For tests.
"""

ONLY_VARIABLES = {"assert", "debug", "fail", "include_role", "include_tasks", "import_tasks", "meta", "set_fact"}


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kill_after"

    def __init__(self):
        super().__init__()
        self.limit = int(os.environ.get("KILL_AFTER", "0"))
        self.note = os.environ.get("KILL_NOTE")
        self.task = None
        self.done = set()
        self.changed = set()

    def _after(self):
        """Called when the next thing begins: the task before has ended on every host."""
        if self.task is None or self.task._uuid not in self.done:
            return
        name, changed = self.task.get_name().strip(), "changed" if self.task._uuid in self.changed else ""
        self.task = None
        self.count = getattr(self, "count", 0) + 1
        if self.note:
            with Path(self.note).open("a") as stream:
                stream.write(f"{self.count}\t{name}\t{changed}\n")
        if self.count == self.limit:
            # The run and all that it has started here; what it has started on the hosts goes on.
            os.killpg(os.getpgid(0), signal.SIGKILL)

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._after()
        self.task = task

    def v2_playbook_on_play_start(self, play):
        self._after()

    def v2_playbook_on_stats(self, stats):
        self._after()

    def v2_runner_on_ok(self, result):
        task = result._task if hasattr(result, "_task") else result.task
        if task.action.split(".")[-1] not in ONLY_VARIABLES:
            self.done.add(task._uuid)
            if (result._result if hasattr(result, "_result") else result.result).get("changed"):
                self.changed.add(task._uuid)
