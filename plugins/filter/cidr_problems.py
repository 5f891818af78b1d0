# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
name: cidr_problems
version_added: 0.1.0
short_description: What is wrong with a list of networks
description:
  - Looks at networks in CIDR notation, IPv4 or IPv6, and says in a sentence for each what is wrong with it.
  - An address with host bits set, such as 192.0.2.10/24, is a mistake more often than not, and so is refused.
  - Networks that together open a port to the whole internet are refused unless O(allow_public=true).
options:
  _input:
    description: The networks.
    type: list
    elements: str
    required: true
  variable:
    description: The variable's name, for the sentence.
    type: str
    default: the list
  allow_public:
    description: Whether the whole internet is allowed.
    type: bool
    default: false
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Check the networks that may reach the server
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join(' ') }}"
  vars:
    problems: "{{ mlflow_aws_allowed_cidrs | mlops.mlflow_aws.cidr_problems('mlflow_aws_allowed_cidrs') }}"
"""

RETURN = r"""
_value:
  description: A sentence for each problem. Empty when there is none.
  type: list
  elements: str
"""

import ipaddress

from ansible.errors import AnsibleFilterError


def _parse(value, variable):
    """Return (network, None) or (None, the problem)."""
    if not isinstance(value, str):
        return None, f"{variable}: {value!r} is not a network: write it as a text such as '192.0.2.0/24'."
    if "/" not in value:
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return None, f"{variable}: {value!r} is not a network in CIDR notation such as 192.0.2.0/24."
        return None, f"{variable}: {value!r} has no prefix length: for this one address write {value}/{address.max_prefixlen}."
    try:
        return ipaddress.ip_network(value, strict=True), None
    except ValueError:
        pass
    try:
        loose = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None, f"{variable}: {value!r} is not a network in CIDR notation such as 192.0.2.0/24."
    address = value.split("/", 1)[0]
    return None, (
        f"{variable}: {value!r} has host bits set: write {loose} for the network,"
        f" or {address}/{loose.max_prefixlen} for the one address."
    )


def cidr_problems(values, variable="the list", allow_public=False):
    if not isinstance(values, (list, tuple)):
        raise AnsibleFilterError(f"{variable}: wanted a list of networks, got {values!r}.")
    problems = []
    networks = []
    for value in values:
        network, problem = _parse(value, variable)
        if problem:
            problems.append(problem)
        else:
            networks.append(network)
    if not allow_public:
        for version in (4, 6):
            same = [network for network in networks if network.version == version]
            # Collapsed, so that two halves of the internet are seen as the whole of it.
            for network in ipaddress.collapse_addresses(same):
                if network.prefixlen == 0:
                    problems.append(
                        f"{variable}: {network} opens the server to the whole internet, where anyone can try"
                        " passwords and every hole that is found in MLflow can be used at once. Name the networks of"
                        " the people who need it. If the whole internet is really meant, say so with"
                        " mlflow_aws_allow_public: true."
                    )
    return problems


class FilterModule:
    def filters(self):
        return {"cidr_problems": cidr_problems}
