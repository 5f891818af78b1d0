# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Runs AT_COMMAND right before the first task whose name has AT_TASK in it: a fault at a known moment."""

from __future__ import annotations

import os
import subprocess

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: at_task
type: aggregate
short_description: Runs a command right before a task
description: For tests.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "at_task"
    done = False

    def v2_playbook_on_task_start(self, task, is_conditional):
        if not self.done and os.environ["AT_TASK"] in task.get_name():
            self.done = True
            subprocess.run(["sh", "-c", os.environ["AT_COMMAND"]], check=True, stdin=subprocess.DEVNULL)
