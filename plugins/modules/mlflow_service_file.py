#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mlflow_service_file
short_description: Write the libpq service file of MLflow on a host, once its login is proven
version_added: "0.3.0"
description:
  - A file that has another content is replaced only after a login with exactly the new content, by the host's own MLflow, its
    user and its PostgreSQL client. The login is made and the file written in one go, however long ago the content was made.
  - Where the login fails, the file stays what it was. So it does where the login does not find the tables of MLflow that the
    database has, or may not read them, and where a pooler such as PgBouncer answers in place of PostgreSQL.
  - It also stays where it names another role of the same database that still logs in and has the password of a later rotation,
    by the notes that M(mlops.mlflow_aws.mlflow_database_rotation) keeps. That role is about to be the only one.
  - The file is written beside its place, with its rights, and moved there, so that a reader sees the old one or the new one.
author:
  - the mlops.mlflow_aws contributors
options:
  path:
    description: The service file. Its folder must be one that nobody but root may write.
    type: path
    default: /etc/mlflow/pg_service.conf
  content:
    description: What is to be in it.
    type: str
    required: true
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
  group:
    description: The group of the file; its owner is root.
    type: str
    default: mlflow
  mode:
    description: Its mode, as octal digits.
    type: str
    default: "0640"
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
    description: Says whether the file would be written. Nobody logs in, since the database may have that login only later.
    support: full
  diff_mode:
    description: Not given; the file holds a password.
    support: none
"""

EXAMPLES = r"""
- name: Write the database's address and password
  mlops.mlflow_aws.mlflow_service_file:
    content: "{{ lookup('ansible.builtin.template', 'pg_service.conf.j2') }}"
    expect: mlflow_b
  no_log: true
"""

RETURN = r"""
written:
  description: Whether the file got another content, or in check mode would get it.
  returned: success
  type: bool
login:
  description: The role that logged in before the file was written.
  returned: when the file was written
  type: str
"""

import contextlib
import errno
import grp
import os
import secrets
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow_aws.plugins.module_utils import _postgresql as pg
from ansible_collections.mlops.mlflow_aws.plugins.module_utils._login import login, misfit, problem


class Refused(Exception):
    """The file stays what it was; in words without a secret."""


def read(path):
    """What is in the file; nothing where there is none, or something else that a file is to replace."""
    try:
        descriptor = os.open(path, os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read().decode(errors="replace") if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def set_rights(target, group, mode, check_mode=False):
    """Give a file, by its path or open, its owner, group and mode; returns whether they were others."""
    state = os.stat(target)
    before = state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)
    after = os.geteuid(), grp.getgrnam(group).gr_gid, int(mode, 8)
    if before != after and not check_mode:
        os.chown(target, after[0], after[1])
        os.chmod(target, after[2])
    return before != after


def write(path, content, group, mode):
    """Write it beside its place, whole and with its rights, and move it there."""
    folder = os.path.dirname(path)
    beside = os.path.join(folder, f".new-{secrets.token_hex(8)}")
    # With O_EXCL no link is followed.
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content.encode())
            stream.flush()
            set_rights(descriptor, group, mode)
            os.fsync(descriptor)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    folder = os.open(folder or ".", os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def settings(content):
    """The settings of a service file."""
    return dict(line.split("=", 1) for line in (content or "").splitlines() if "=" in line and not line.startswith("#"))


def prove(params, before, login=login):
    """Log in with the new content; refuse it where the host would not get in, or would soon not any more."""
    old, new = settings(before), settings(params["content"])
    same = all(old.get(name) == new.get(name) for name in ("host", "port", "dbname"))
    former = old.get("user", "") if same else ""
    answer = login({**params, "path": None, "former": former})
    wrong = problem(answer, params)
    if wrong:
        raise Refused(f"{wrong.rstrip('.')}. What was read may have been rotated since: run this again.")
    wrong = misfit(answer, params)
    if wrong:
        raise Refused(wrong)
    role = answer["roles"].get(former, {}) if former != params["expect"] else {}
    mine, theirs = (pg.note_in(answer["roles"].get(name, {}).get("note")) for name in (params["expect"], former))
    if role.get("can_login") and theirs.get("created", 0) > mine.get("created", 0):
        # With another password it is no better than the new one.
        still = login({**params, "path": None, "content": before, "expect": former, "former": "", "patience": 0})
        if not still.get("error"):
            raise Refused(
                f"This host logs in to its database as {former}, which has the password of a later rotation "
                f"({pg.told(theirs)}) than {params['expect']} ({pg.told(mine)}). What was read has been rotated since: run this "
                "again."
            )
    return answer


def ensure(params, check_mode, prove=prove):
    """Make sure of the file."""
    before = read(params["path"])
    if before == params["content"]:
        return {"changed": set_rights(params["path"], params["group"], params["mode"], check_mode), "written": False}
    if check_mode:
        return {"changed": True, "written": True}
    answer = prove(params, before)
    write(params["path"], params["content"], params["group"], params["mode"])
    return {"changed": True, "written": True, "login": answer["login"]}


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/mlflow/pg_service.conf"},
            "content": {"type": "str", "required": True, "no_log": True},
            "expect": {"type": "str", "required": True},
            "acts_as": {"type": "str"},
            "service": {"type": "str", "default": "mlflow"},
            "user": {"type": "str", "default": "mlflow"},
            "group": {"type": "str", "default": "mlflow"},
            "mode": {"type": "str", "default": "0640"},
            "python": {"type": "path", "default": "/opt/mlflow/current/bin/python"},
            "patience": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        module.exit_json(**ensure(module.params, module.check_mode))
    except Refused as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"Could not put {path} right: {error.strerror or error}.")
    except KeyError as error:
        # getgrnam says which group it does not know.
        module.fail_json(msg=f"Could not put {path} right: {error.args[0]}.")


if __name__ == "__main__":
    main()
