# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
name: controller_process
version_added: 0.1.0
short_description: Which process on the controller runs this playbook
description:
  - Tells the process of C(ansible-playbook) by its id, by the time when it was started, and by the machine and its start, so that
    P(mlops.mlflow_aws.process_ended#filter) can tell whether it still goes on.
options:
  _terms:
    description: Nothing is asked for.
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Note which process this is
  ansible.builtin.set_fact:
    process: "{{ lookup('mlops.mlflow_aws.controller_process') }}"
"""

RETURN = r"""
_raw:
  description: One item with the keys C(node), C(place), C(pid) and C(started). What the system does not tell is empty.
  type: list
  elements: dict
"""

from ansible.plugins.lookup import LookupBase
from ansible_collections.mlops.mlflow_aws.plugins.module_utils._process import this_run


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        return [this_run()]
