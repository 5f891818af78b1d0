# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which process a run of a playbook is, so that another run on the same controller can tell whether it still goes on.

Private to the collection. Only what is certain counts: a process on another machine, or one that can't be looked at, has not
ended as far as anybody knows here.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import subprocess
from pathlib import Path

PROC = Path("/proc")
# A process that nobody has asked for its end yet is none any more.
ENDED_STATES = "ZX"


def _said(*command):
    """What a command prints, in one line; nothing where it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.SubprocessError):
        return ""
    return " ".join(done.stdout.split()) if done.returncode == 0 else ""


def _place():
    """Where a process id means something: this start of this machine and, in containers, this list of processes."""
    if (PROC / "self" / "stat").exists():
        try:
            return f"{(PROC / 'sys/kernel/random/boot_id').read_text().strip()} {os.readlink(PROC / 'self/ns/pid')}"
        except OSError:
            return ""
    return _said("sysctl", "-n", "kern.bootsessionuuid") or _said("sysctl", "-n", "kern.boot_id")


def _started(pid):
    """When a process was started, as the system counts it; nothing where there is none, None where nobody can tell."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    if (PROC / "self" / "stat").exists():
        try:
            # The program's name is in brackets, and may have any character in it.
            state, *rest = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            # Ended in this moment, or somebody else's where /proc hides those.
            return None
        return "" if state in ENDED_STATES else rest[18]
    state = _said("ps", "-o", "stat=", "-p", str(pid))
    started = _said("ps", "-o", "lstart=", "-p", str(pid))
    return "" if state and state[0] in ENDED_STATES else started or None


def this_run():
    """The process of the playbook that is running; templates are filled in by its workers as well."""
    parent = multiprocessing.parent_process()
    pid = parent.pid if parent else os.getpid()
    return {"node": platform.node(), "place": _place(), "pid": pid, "started": _started(pid) or ""}


def has_ended(process):
    """Whether a process that this_run has told of is certainly no more."""
    if not process or not process.get("place") or not process.get("started"):
        return False
    if (process.get("node"), process["place"]) != (platform.node(), _place()):
        return False
    now = _started(int(process["pid"]))
    return now is not None and now != process["started"]
