# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
name: oldest_authority
version_added: 0.3.0
short_description: Of several CAs the one that has been trusted for longest
description:
  - Takes the one that ends first, and leaves out those that have ended.
options:
  _input:
    description: The CAs, each a text with its certificate and its key in PEM.
    type: list
    elements: str
    required: true
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Take what is there
  ansible.builtin.set_fact:
    authority: "{{ kept.results | map(attribute='content') | map('b64decode') | mlops.mlflow_aws.oldest_authority }}"
  no_log: true
"""

RETURN = r"""
_value:
  description: Its C(certificate) and its C(key), in PEM. Empty where there is none.
  type: dict
"""

from ansible_collections.mlops.mlflow_aws.plugins.module_utils._authority import oldest


class FilterModule:
    def filters(self):
        return {"oldest_authority": oldest}
