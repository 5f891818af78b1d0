# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations


class ModuleDocFragment:
    """How a module reaches PostgreSQL as its administrator."""

    DOCUMENTATION = r"""
requirements:
  - psycopg2 2.8 or newer on the host that runs the module
options:
  host:
    description: The server's name. With O(sslmode=verify-full) it must be the name in the server's certificate.
    type: str
    required: true
  port:
    description: The server's port.
    type: int
    default: 5432
  admin_password:
    description: The administrator's password.
    type: str
    required: true
  admin_database:
    description: The database that the administrator connects to.
    type: str
    default: postgres
  sslmode:
    description: How the connection is protected, in the words of libpq.
    type: str
    default: verify-full
    choices: [disable, allow, prefer, require, verify-ca, verify-full]
  ca_certificate:
    description: The certificate of the CA that signed the server's, as PEM text.
    type: str
  ca_path:
    description: A file on this host with that certificate, where O(ca_certificate) is not given.
    type: path
  connect_timeout:
    description: Seconds to wait for a connection.
    type: int
    default: 10
"""
