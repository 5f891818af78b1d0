# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A PgBouncer in front of a PostgreSQL of postgres.py, where the machine has it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import postgres


@contextmanager
def pooler(server, mode, ignores=""):
    """
    The folder of its socket, with the port of PostgreSQL; it lets everybody in.

    :arg server: The folder of PostgreSQL's socket.
    :arg mode: session, transaction or statement.
    :arg ignores: Settings of a login that it leaves out without a word.
    :raises Missing: before anything is made.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        raise postgres.Missing("there is no PgBouncer on this machine")
    who = postgres._as_who()
    folder = Path(server) / "pooler"
    folder.mkdir(mode=0o755)
    settings = {
        "unix_socket_dir": folder,
        "listen_port": 5432,
        "auth_type": "any",
        "pool_mode": mode,
        "ignore_startup_parameters": ignores,
    }
    lines = ["[databases]", f"* = host={server} port=5432 user=mlflow", "[pgbouncer]"]
    (folder / "pgbouncer.ini").write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items()), ""]))
    if who:
        os.chown(folder, who["user"], who["group"])
    process = subprocess.Popen([program, "-q", folder / "pgbouncer.ini"], stderr=subprocess.DEVNULL, **who)
    try:
        _wait(folder / ".s.PGSQL.5432", process)
        yield folder
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _wait(path, process):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, "PgBouncer has ended"
        with socket.socket(socket.AF_UNIX) as client:
            if not client.connect_ex(str(path)):
                return
        time.sleep(0.05)
    raise AssertionError("PgBouncer does not answer")
