# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A PostgreSQL of one's own in a temporary folder, where the machine has its programs."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path


class Missing(Exception):
    """Why there can be none."""


def _programs() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not folders or not (folders[0] / "initdb").exists():
        raise Missing("there is no PostgreSQL on this machine")
    return folders[0]


def _as_who() -> dict:
    """PostgreSQL refuses to run as root."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise Missing("there is no user but root")


@contextmanager
def _running(programs, made, settings, may_be_gone=False):
    """
    The folder of the socket of a server.

    :arg made: What makes its data, without the folder that they are to be in.
    """
    who = _as_who()
    # A socket's path may have a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if who:
        os.chown(folder, who["user"], who["group"])
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, "env": environment, **who}
    data = folder / "data"
    try:
        subprocess.run([programs / made[0], "-D", data, *made[1:]], **quiet)
        own = ("listen_addresses=", f"unix_socket_directories={folder}")
        options = " ".join(f"-c {setting}" for setting in (*own, *settings))
        subprocess.run([programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"], **quiet)
        try:
            yield folder
        finally:
            stop = [programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"]
            subprocess.run(stop, **{**quiet, "check": not may_be_gone})
    finally:
        shutil.rmtree(folder)


@contextmanager
def server(*settings):
    """
    The folder of its socket; its superuser is mlflow, who needs no password.

    :arg settings: such as max_connections=200.
    :raises Missing: before anything is made.
    """
    made = ["initdb", "-U", "mlflow", "-A", "trust", "-E", "UTF8", "-N", "--no-instructions"]
    with _running(_programs(), made, ("fsync=off", "deadlock_timeout=100ms", *settings)) as folder:
        yield folder


@contextmanager
def replica(primary):
    """The folder of the socket of a physical replica of a server of the above; a test may have ended it."""
    made = ["pg_basebackup", "-h", primary, "-U", "mlflow", "-R", "-c", "fast"]
    # A link to one of its programs does not lead to the others.
    with _running((_programs() / "initdb").resolve().parent, made, (), may_be_gone=True) as folder:
        yield folder
