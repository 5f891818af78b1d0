# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
What may break under a server that people work with, one entry each: given, when, then.

In each of them two servers have 8 clients that write, 2 that upload artifacts and 20 that read, and nothing that was acknowledged
may be lost. `then` says what else must hold: how long no write is answered at most, and which requests may be refused.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import boto3
from deployment import NAME
from ledger import KINDS, Large
from network import rules, store_is_away


@dataclass
class Then:
    #: The longest time in which no write is answered well, in seconds; of the hosts that are not broken where there are any.
    pause: float
    #: The kinds of requests (write, read, artifact) that may be refused.
    may_refuse: tuple = ()
    #: The longest that a write or a read may take, in seconds.
    slowest: float = 90.0
    #: Whether the first host must not notice, since only the second one is broken.
    one_host: bool = False
    #: The pause on the second host, where that must go on, too.
    there: float = 0.0


# The other host goes on as if nothing were; and what a database takes until it is there again.
ONE_HOST = Then(pause=10, may_refuse=KINDS, one_host=True)
FAILOVER = Then(pause=45, may_refuse=KINDS)


@dataclass
class Fault:
    name: str
    when: str
    #: Called with the deployment; what is broken is mended at the end of its block, or mends itself.
    happens: Callable
    #: For how many seconds it is broken.
    seconds: float
    then: Then
    #: How many people look at artifacts in the web page besides.
    clickers: int = 0
    #: Whether it is in every run of bin/test: those that a server did not bear before.
    everyday: bool = False


def first(deployment):
    return sorted(deployment.hosts)[0]


def second(deployment):
    return sorted(deployment.hosts)[1]


@contextlib.contextmanager
def connections_are_dropped(deployment):
    def established(host):
        ports = deployment.ssh(host, "ss -tnH state established '( dport = :5432 )' | awk '{print $3}' | sed 's/.*://' | sort -u")
        assert ports, f"{host} has no connection to the database"
        ports = ", ".join(ports.split())
        return (
            f"add rule inet faults out tcp dport 5432 tcp sport {{ {ports} }} drop; "
            f"add rule inet faults in tcp sport 5432 tcp dport {{ {ports} }} drop"
        )

    with rules(deployment, established):
        yield


@contextlib.contextmanager
def database_restarts(deployment):
    boto3.client("rds", **deployment.aws).reboot_db_instance(DBInstanceIdentifier=NAME)
    yield


def on_the_second(command):
    @contextlib.contextmanager
    def happens(deployment):
        deployment.ssh(second(deployment), command, check=False)
        yield

    return happens


@contextlib.contextmanager
def second_is_ended(deployment, how):
    deployment.ssh(second(deployment), f"nohup sh -c 'sleep 1; {how}' >/dev/null 2>&1 &", check=False)
    yield
    assert deployment.serves(second(deployment)), "the host does not serve again"


MEMORY = Path("/sys/fs/cgroup/memory")
# What the service has left before its memory runs out, in bytes; and where only what is new counts, so that a new worker fits.
LEFT, LEFT_AND_A_WORKER = 64 << 20, 192 << 20


@contextlib.contextmanager
def memory_runs_out(deployment):
    """What the service has now and a little more is all that it may have, while somebody sends what takes more."""
    host = second(deployment)
    with (limited_here if MEMORY.is_dir() else limited_by_systemd)(deployment, host) as killed:
        address, login = deployment.hosts[host]["ansible_host"], deployment.user
        with Large([address], login["username"], login["password"]):
            yield
        assert killed() > 0, "the kernel has ended nothing"


@contextlib.contextmanager
def limited_by_systemd(deployment, host):
    def show(name):
        return deployment.ssh(host, f"systemctl show --property={name} --value mlflow.service")

    limit, events = show("MemoryMax"), f"/sys/fs/cgroup/{show('ControlGroup')}/memory.events"
    deployment.ssh(host, f"systemctl set-property --runtime mlflow.service MemoryMax={int(show('MemoryCurrent')) + LEFT}")
    try:
        yield lambda: int(deployment.ssh(host, f"sed -n 's/^oom_kill //p' {events}"))
    finally:
        deployment.ssh(host, f"systemctl set-property --runtime mlflow.service MemoryMax={limit}")


@contextlib.contextmanager
def limited_here(deployment, host):
    """Where the kernel's memory controller is that of cgroup v1, which a machine's systemd can't use, by a group of our own."""
    unit = f"localcloud{deployment.config.slot}-{deployment.hosts[host]['instance_id']}/payload/system.slice/mlflow.service"
    path = re.search(":memory:/(.*)", Path("/proc/self/cgroup").read_text())[1]
    group = MEMORY / path / "faults"
    group.mkdir()
    try:
        # What they have already stays with the group that they come from.
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if unit in (folder / "cgroup").read_text():
                    (group / "cgroup.procs").write_text(folder.name)
        (group / "memory.limit_in_bytes").write_text(str(LEFT_AND_A_WORKER))
        counts = group / "memory.oom_control"
        yield lambda: int(dict(line.split() for line in counts.read_text().splitlines())["oom_kill"])
    finally:
        (group / "memory.limit_in_bytes").write_text("-1")
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()


FAULTS = [
    Fault(
        "connections to the database are dropped without a word",
        when="a failover in which the former primary is cut off: what is open gets no answer any more, and what is new does",
        happens=connections_are_dropped,
        seconds=75,
        then=FAILOVER,
        everyday=True,
    ),
    Fault(
        "the artifact store does not answer",
        when="each packet to S3 is lost, while people click on the artifacts of runs",
        happens=store_is_away,
        seconds=60,
        then=Then(pause=5, may_refuse=("artifact",), slowest=10),
        # More than all workers have turns.
        clickers=100,
        everyday=True,
    ),
    Fault(
        "PostgreSQL is restarted",
        when="RDS reboots the instance",
        happens=database_restarts,
        seconds=30,
        then=FAILOVER,
    ),
    Fault(
        "a worker is killed",
        when="the kernel ends one process of the service, as it does where memory is short",
        happens=on_the_second("pkill --newest --signal KILL --uid mlflow mlflow-worker"),
        seconds=10,
        then=ONE_HOST,
    ),
    Fault(
        "memory runs out",
        when="requests take more memory than there is, and the kernel ends a process of the service",
        happens=memory_runs_out,
        seconds=20,
        then=Then(pause=10, may_refuse=KINDS, one_host=True, there=10),
    ),
    Fault(
        "the first process of the service is killed",
        when="the kernel ends the parent of the workers",
        happens=on_the_second("kill -KILL $(systemctl show --property=MainPID --value mlflow.service)"),
        seconds=15,
        then=ONE_HOST,
    ),
    Fault(
        "a host is rebooted",
        when="a person or an update reboots the second host",
        happens=lambda deployment: second_is_ended(deployment, "systemctl reboot"),
        seconds=15,
        then=ONE_HOST,
    ),
    Fault(
        "a host loses its power",
        when="the second host ends at once, with nothing written that was not, and starts again",
        happens=lambda deployment: second_is_ended(deployment, "systemctl --force --force reboot"),
        seconds=15,
        then=ONE_HOST,
    ),
]
