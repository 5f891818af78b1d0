#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mlflow_login
short_description: Prove that MLflow on a host can log in to its database
version_added: "0.1.0"
description:
  - Logs in with the host's own MLflow, its user and its PostgreSQL client, by a libpq service file that is there, or by
    the content of one that is not there yet and that is never written to a disk.
  - Fails as well where that login does not find the tables of MLflow that the database has, or may not read them, and where a
    pooler such as PgBouncer answers in place of PostgreSQL.
  - Changes nothing.
author:
  - the mlops.mlflow_aws contributors
options:
  path:
    description: The service file.
    type: path
  content:
    description: The content of a service file, in place of O(path).
    type: str
  expect:
    description: The role that the login must have.
    type: str
    required: true
  acts_as:
    description: The role that it must act as, which owns what it makes.
    type: str
  service:
    description: The name of the service in the file.
    type: str
    default: mlflow
  user:
    description: The user that MLflow runs as.
    type: str
    default: mlflow
  python:
    description: The Python that MLflow runs with.
    type: path
    default: /opt/mlflow/current/bin/python
  patience:
    description: For how many seconds the login is tried again while the server can't be reached.
    type: int
    default: 60
attributes:
  check_mode:
    description: Does the same, since nothing is changed.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Prove the login of the service file
  mlops.mlflow_aws.mlflow_login:
    path: /etc/mlflow/pg_service.conf
    expect: mlflow_b
"""

RETURN = r"""
login:
  description: The role that logged in.
  returned: success
  type: str
acts_as:
  description: The role that it acts as.
  returned: success
  type: str
tls:
  description: Whether the connection is encrypted.
  returned: success
  type: bool
address:
  description: The address that the database sees it come from. Null through a Unix socket.
  returned: success
  type: str
  sample: 10.0.1.7
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow_aws.plugins.module_utils._login import login, misfit, problem


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path"},
            "content": {"type": "str", "no_log": True},
            "expect": {"type": "str", "required": True},
            "acts_as": {"type": "str"},
            "service": {"type": "str", "default": "mlflow"},
            "user": {"type": "str", "default": "mlflow"},
            "python": {"type": "path", "default": "/opt/mlflow/current/bin/python"},
            "patience": {"type": "int", "default": 60},
        },
        mutually_exclusive=[("path", "content")],
        required_one_of=[("path", "content")],
        supports_check_mode=True,
    )
    answer = login(module.params)
    wrong = problem(answer, module.params) or misfit(answer, module.params)
    if wrong:
        module.fail_json(msg=wrong)
    module.exit_json(changed=False, **{name: answer[name] for name in ("login", "acts_as", "tls", "address")})


if __name__ == "__main__":
    main()
