# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
name: new_authority
version_added: 0.3.0
short_description: A new private CA
description:
  - Makes the key and the certificate of a CA that may sign certificates of servers and no further CA. It is good for ten years.
  - It is another one at each call, and whoever has its key can be any server for those who trust it. Tasks that handle it
    need C(no_log=true).
options:
  _input:
    description: What its name begins with.
    type: str
    required: true
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Make sure that there is a CA
  mlops.mlflow_aws.secretsmanager_password:
    secrets:
      - name: mlflow/ca
        generate: []
        initial: "{{ 'mlflow.example.com' | mlops.mlflow_aws.new_authority }}"
  register: result
  no_log: true
"""

RETURN = r"""
_value:
  description: Its C(certificate) and its C(key), in PEM.
  type: dict
"""

from ansible_collections.mlops.mlflow_aws.plugins.module_utils._authority import make


class FilterModule:
    def filters(self):
        return {"new_authority": make}
