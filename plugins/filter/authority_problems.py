# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
name: authority_problems
version_added: 0.3.0
short_description: What is wrong with the certificate and the key of a CA
description:
  - Looks at the certificate of a CA in PEM and at its key, and says in a sentence for each what keeps it from signing
    certificates that clients take.
options:
  _input:
    description: The CA's certificate.
    type: str
    required: true
  key:
    description: Its key. It is never part of what is said.
    type: str
    required: true
  variable:
    description: The prefix of the two variables' names, for the sentence.
    type: str
    default: tls_ca
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Check the CA
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join(' ') }}"
  vars:
    problems: "{{ ca_certificate | mlops.mlflow_aws.authority_problems(ca_key) }}"
"""

RETURN = r"""
_value:
  description: A sentence for each problem. Empty when there is none.
  type: list
  elements: str
"""

from ansible_collections.mlops.mlflow_aws.plugins.module_utils._authority import problems


def authority_problems(certificate, key, variable="tls_ca"):
    return problems(certificate, key, variable)


class FilterModule:
    def filters(self):
        return {"authority_problems": authority_problems}
