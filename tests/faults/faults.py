# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
What may break under a server that people work with, one entry each: given, when, then.

In each of them two servers have 8 clients that write, 2 that upload artifacts and 20 that read, and nothing that was acknowledged
may be lost. `then` says what else must hold: how long no write is answered at most, and which requests may be refused.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import boto3
from deployment import NAME
from ledger import KINDS


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


def inside(deployment, host):
    """How a command begins that changes a machine's network. The machine itself may not."""
    return f"ip netns exec lc{deployment.config.slot}-{deployment.hosts[host]['instance_id']}"


@contextlib.contextmanager
def rules(deployment, of_host):
    """Rules of nft on machines, in a table of our own, as long as the block lasts. `of_host` gives them for a host."""
    done = []
    try:
        for host in deployment.hosts:
            chains = (
                "add table inet faults; add chain inet faults out { type filter hook output priority -300; }; "
                "add chain inet faults in { type filter hook input priority -300; }"
            )
            deployment.here(f"{inside(deployment, host)} nft '{chains}; {of_host(host)}'")
            done.append(host)
        yield
    finally:
        for host in done:
            deployment.here(f"{inside(deployment, host)} nft delete table inet faults")


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
def store_is_away(deployment):
    address = urlsplit(deployment.aws["endpoint_url"]).hostname
    # The names of that address are asked for there, too, and go on.
    with rules(deployment, lambda host: f"add rule inet faults out ip daddr {address} tcp dport 443 drop"):
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
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            deployment.ssh(second(deployment), "mlflow-ready")
            return
        time.sleep(2)
    raise AssertionError("the host does not serve again")


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
