# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
What passes between the AWS API (localcloud.api) and the real parts (localcloud.parts).

The API side turns moto's backends into these plain values. The parts side makes them true and reports back through
CloudApi. Neither reads the other's insides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Vpc:
    vpc_id: str
    region: str
    cidr: str


@dataclass(frozen=True)
class Rule:
    """One direction of one permission. Ports are inclusive; protocol is tcp, udp, icmp or all."""

    protocol: str
    from_port: int | None
    to_port: int | None
    cidrs: tuple[str, ...] = ()
    group_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class SecurityGroup:
    group_id: str
    vpc_id: str
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Instance:
    """An EC2 instance as the API wants it. ``state`` is EC2's: pending, running, stopping, stopped, shutting-down, terminated."""

    instance_id: str
    region: str
    state: str
    image: str  # "debian-13" or "debian-12"
    private_ip: str
    mac: str
    vpc_id: str
    hostname: str  # private DNS name, e.g. ip-172-31-0-10.eu-central-1.compute.internal
    name: str  # tag Name, or ""
    public_key: str  # OpenSSH format of the key pair, or ""
    user_data: bytes
    security_group_ids: tuple[str, ...]
    reboots: int = 0  # how often RebootInstances was called


@dataclass(frozen=True)
class Database:
    """
    An RDS instance as the API wants it.

    ``status`` is RDS's: creating, available, modifying, rebooting, stopping, stopped, starting, deleting.
    ``changes`` counts calls that need an effect (modify, reboot, restore); the parts report the count they reached.
    """

    identifier: str
    region: str
    status: str
    engine_version: str
    endpoint: str  # DNS name
    private_ip: str
    port: int
    vpc_id: str
    master_username: str
    master_password: str = field(repr=False, default="")
    dbname: str = ""
    parameters: dict[str, str] = field(default_factory=dict)  # user-set values of its parameter group
    instance_class_memory: int = 0  # bytes
    security_group_ids: tuple[str, ...] = ()
    restore_from_snapshot: str = ""  # snapshot identifier, when it was made by RestoreDBInstanceFromDBSnapshot
    changes: int = 0
    reboots: int = 0


@dataclass(frozen=True)
class Snapshot:
    """An RDS snapshot; ``status`` is creating, available or deleting."""

    identifier: str
    region: str
    status: str
    database_identifier: str
    engine_version: str


@dataclass(frozen=True)
class Desired:
    vpcs: tuple[Vpc, ...] = ()
    security_groups: tuple[SecurityGroup, ...] = ()
    instances: tuple[Instance, ...] = ()
    databases: tuple[Database, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()


class CloudApi(Protocol):
    """The API side, as the parts see it. All calls are thread-safe."""

    def desired(self) -> Desired:
        """What should be there now. Terminated instances are left out."""

    def on_change(self, callback: Callable[[], None]) -> None:
        """Register a callback that is called (quickly, from any thread) after a call that may need effects."""

    def instance_state(self, instance_id: str, state: str, reason: str = "") -> None:
        """Report an instance's new state; a failure is ``terminated`` with a reason that DescribeInstances shows."""

    def database_status(self, identifier: str, status: str, changes: int | None = None, reason: str = "") -> None:
        """Report a database's status (``available``, ``failed``, ``stopped``) and the change count it has reached."""

    def database_gone(self, identifier: str) -> None:
        """The parts of a database with status deleting are gone: forget it."""

    def snapshot_status(self, identifier: str, status: str) -> None:
        """Report ``available`` or ``failed``; for status deleting, ``deleted`` forgets it."""
