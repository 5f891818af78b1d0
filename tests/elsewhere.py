# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Processor time for what in life is on a machine of its own: it gets what nobody else wants.

`nice` does not do that: every session is scheduled as one group (sched_autogroup), and Ansible makes a session for each
task on each host, so that each of these got as much as all of a server's workers together.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

NAME = "rotation-elsewhere"


def hierarchy(root="/sys/fs/cgroup"):
    """The directory of the processor's control groups, the file for the weight, and the smallest weight."""
    root = Path(root)
    if (root / "cgroup.controllers").exists():
        (root / "cgroup.subtree_control").write_text("+cpu")
        return root, "cpu.weight", "1"
    return next(path for path in (root / "cpu", root / "cpu,cpuacct") if path.is_dir()), "cpu.shares", "2"


def group_of(pid, top):
    """The group that a process is in."""
    pattern = r"^0::(.*)$" if (top / "cgroup.controllers").exists() else r"^\d+:(?:cpu|cpu,cpuacct):(.*)$"
    return top / re.search(pattern, Path(f"/proc/{pid}/cgroup").read_text(), re.MULTILINE)[1].lstrip("/")


@contextlib.contextmanager
def elsewhere(*pids):
    """A group in which these processes are for as long as the block lasts; answers with how a command begins that joins them."""
    top, weight, least = hierarchy()
    group = top / NAME
    group.mkdir(exist_ok=True)
    (group / weight).write_text(least)
    before = {pid: group_of(pid, top) for pid in pids}
    try:
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        yield ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        # ssh's master connections outlive the playbook.
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (before.get(int(pid), top) / "cgroup.procs").write_text(pid)
        with contextlib.suppress(OSError):
            group.rmdir()
