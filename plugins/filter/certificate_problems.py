# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
name: certificate_problems
version_added: 0.1.0
short_description: What is wrong with a certificate and its key
description:
  - Looks at a certificate for a server in PEM, with its chain behind it, and at its key, and says in a sentence for each
    what is wrong with them.
  - A key that is another certificate's, an end that has passed and a chain whose first certificate is not the server's are
    found before they are on a host.
options:
  _input:
    description: The content of the certificate's file.
    type: str
    required: true
  key:
    description: The content of the key's file. It is never part of what is said.
    type: str
    required: true
  variable:
    description: The prefix of the two variables' names, for the sentence.
    type: str
    default: tls
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Check the certificate
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join(' ') }}"
  vars:
    certificate: "{{ lookup('ansible.builtin.file', 'server.crt') }}"
    problems: "{{ certificate | mlops.mlflow_aws.certificate_problems(lookup('ansible.builtin.file', 'server.key')) }}"
"""

RETURN = r"""
_value:
  description: A sentence for each problem. Empty when there is none.
  type: list
  elements: str
"""

from ansible_collections.mlops.mlflow_aws.plugins.module_utils._authority import end_of, now, public_of, read_key
from cryptography import x509


def certificate_problems(certificate, key, variable="tls"):
    try:
        parsed = x509.load_pem_x509_certificates(certificate.encode())
    except ValueError:
        return [f"{variable}_certificate_file holds no certificate in PEM."]
    try:
        private = read_key(key)
    except TypeError:
        return [f"{variable}_key_file is encrypted with a password; nginx needs it without one, and Ansible Vault protects it."]
    except ValueError:
        return [f"{variable}_key_file holds no private key in PEM."]
    problems = []
    first = parsed[0]
    public = public_of(private)
    if public_of(first) != public:
        in_chain = any(public_of(item) == public for item in parsed)
        problems.append(
            f"{variable}_certificate_file must begin with the server's certificate, and the chain behind it."
            if in_chain
            else f"{variable}_key_file is not the key of the certificate in {variable}_certificate_file."
        )
    if end_of(first) < now():
        problems.append(f"{variable}_certificate_file ended on {end_of(first):%Y-%m-%d}.")
    return problems


class FilterModule:
    def filters(self):
        return {"certificate_problems": certificate_problems}
