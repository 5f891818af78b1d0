# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A PostgreSQL of the tests' own, where the machine has its programs."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest


def _programs() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not folders or not (folders[0] / "initdb").exists():
        pytest.skip("there is no PostgreSQL on this machine")
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
    pytest.skip("there is no user but root")


@contextmanager
def server():
    """The folder of its socket."""
    programs, who = _programs(), _as_who()
    # A socket's path may have a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if who:
        os.chown(folder, who["user"], who["group"])
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, "env": environment, **who}
    data = folder / "data"
    try:
        how = ["-U", "mlflow", "-A", "trust", "-E", "UTF8", "-N", "--no-instructions"]
        subprocess.run([programs / "initdb", "-D", data, *how], **quiet)
        settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c deadlock_timeout=100ms"
        subprocess.run([programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", settings, "start"], **quiet)
        try:
            yield folder
        finally:
            subprocess.run([programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], **quiet)
    finally:
        shutil.rmtree(folder)
