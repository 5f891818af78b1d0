# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
name: signed_certificate
version_added: 0.3.0
short_description: A server's certificate, signed by a private CA
description:
  - Signs on the controller, so that the CA's key is on no server and the server's key stays there.
  - Of the request only the public key counts; the names are those that are given here.
options:
  _input:
    description: The request that the server has made with its key, in PEM.
    type: str
    required: true
  authority:
    description: The CA, as C(certificate) and C(key) in PEM.
    type: dict
    required: true
  names:
    description: The server's names, as openssl writes them. The first one is also the common name.
    type: list
    elements: str
    required: true
  days:
    description: For how many days it is good. It never outlives the CA.
    type: int
    default: 825
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Write the certificate
  ansible.builtin.copy:
    content: "{{ request.stdout | mlops.mlflow_aws.signed_certificate(ca, ['DNS:mlflow.example.com', 'IP Address:192.0.2.7']) }}"
    dest: /etc/mlflow/tls/server.crt
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The certificate in PEM.
  type: str
"""

from ansible_collections.mlops.mlflow_aws.plugins.module_utils._authority import sign


def signed_certificate(request, authority, names, days=825):
    return sign(request, authority, names, days)


class FilterModule:
    def filters(self):
        return {"signed_certificate": signed_certificate}
