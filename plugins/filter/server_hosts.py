# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
name: server_hosts
version_added: 0.1.0
short_description: What is worth knowing about EC2 instances, and how Ansible reaches them
description:
  - Makes the list that the role ec2 publishes out of what M(amazon.aws.ec2_instance_info) answers.
  - A host's SSH key is remembered under the instance's id, in a file beside the private key, so that another instance
    with the same address is not taken for an attack.
options:
  _input:
    description: The instances.
    type: list
    elements: dict
    required: true
  private_key_file:
    description: The private key on the controller.
    type: str
    required: true
  which:
    description: The address to use. V(auto) is the public one where there is one.
    type: str
    choices: [auto, public, private]
    default: auto
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Print the hosts
  ansible.builtin.debug:
    msg: "{{ found.instances | mlops.mlflow_aws.server_hosts('~/.ssh/mlflow_ed25519') }}"
"""

RETURN = r"""
_value:
  description:
    - The hosts by name, each with the keys C(name), C(instance_id), C(private_ip), C(public_ip), C(address),
      C(launch_time), C(user) and C(ssh), the connection variables.
  type: list
  elements: dict
"""

from ansible_collections.mlops.mlflow_aws.plugins.module_utils._ssh import server_hosts


class FilterModule:
    def filters(self):
        return {"server_hosts": server_hosts}
