# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
name: process_ended
version_added: 0.1.0
short_description: Whether a playbook's process on this controller is no more
description:
  - Takes what P(mlops.mlflow_aws.controller_process#lookup) has told of a run, and looks for it on the controller.
  - It is V(true) only where that is certain. A run on another controller, or before this one was started anew, counts as one
    that goes on, and so does one that is stopped.
options:
  _input:
    description: The process.
    type: dict
    required: true
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Say that nobody is at it any more
  ansible.builtin.debug:
    msg: That run has ended.
  when: process | mlops.mlflow_aws.process_ended
"""

RETURN = r"""
_value:
  description: Whether it has ended.
  type: bool
"""

from ansible_collections.mlops.mlflow_aws.plugins.module_utils._process import has_ended


class FilterModule:
    def filters(self):
        return {"process_ended": has_ended}
