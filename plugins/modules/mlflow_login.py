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
"""

import json
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

# Runs with MLflow's Python and as its user. What it is asked comes from its standard input, and a content that is not
# in a file yet becomes one in memory, which libpq opens by its descriptor.
PROGRAM = """
import json, os, sys
import psycopg
asked = json.load(sys.stdin)
if asked["content"]:
    descriptor = os.memfd_create("pg_service")
    os.write(descriptor, asked["content"].encode())
    os.environ["PGSERVICEFILE"] = f"/proc/self/fd/{descriptor}"
else:
    os.environ["PGSERVICEFILE"] = asked["path"]
try:
    with psycopg.connect(f"service={asked['service']}", autocommit=True) as connection:
        answer = connection.execute(
            "SELECT session_user::text, current_user::text, "
            "coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)"
        ).fetchone()
    print(json.dumps(dict(zip(("login", "acts_as", "tls"), answer))))
except psycopg.Error as error:
    print(json.dumps({"error": " ".join(str(error).split())}))
"""

# What trying again does not mend.
FINAL = ("password authentication failed", "not permitted to log in", "certificate", "definition of service", "does not exist")


def attempt(params, run=subprocess.run):
    """Log in once; returns the answer, or {"error": ...}."""
    user = params["user"]
    command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "env", "-i", "-C", "/"]
    command += [params["python"], "-I", "-c", PROGRAM]
    asked = json.dumps({name: params[name] for name in ("path", "content", "service")})
    try:
        done = run(command, input=asked, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    except ValueError:
        return {"error": f"{params['python']} ended with code {done.returncode}: {done.stderr.strip()[-500:]}"}


def login(params, attempt=attempt, sleep=time.sleep, clock=time.monotonic):
    deadline = clock() + params["patience"]
    while True:
        answer = attempt(params)
        error = answer.get("error")
        if not error or clock() >= deadline or any(words in error for words in FINAL):
            return answer
        sleep(1)


def problem(answer, params):
    """What is wrong with the answer, in words without a secret; or nothing."""
    if answer.get("error"):
        return f"MLflow on this host can't log in to its database as {params['expect']}: {answer['error']}"
    if answer["login"] != params["expect"]:
        return f"MLflow on this host logs in to its database as {answer['login']}, and should as {params['expect']}."
    if params["acts_as"] and answer["acts_as"] != params["acts_as"]:
        return (
            f"{params['expect']} acts as {answer['acts_as']} in the database, and should as {params['acts_as']}: "
            "its tables would be lost to the other login."
        )
    return None


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
    wrong = problem(answer, module.params)
    if wrong:
        module.fail_json(msg=wrong)
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
