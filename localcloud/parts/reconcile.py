# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Makes the parts what the API says they are, and tells the API what became of them.

One loop looks at the whole; each machine, database and snapshot is worked on by one thread at a time. The loop may be
ended at any instant: all it knows stands in the API's state and in the parts' own records.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..config import Config
from ..errors import LocalCloudError
from ..model import CloudApi, Database, Desired, Instance, Snapshot, Vpc
from .databases import Databases, Restart
from .images import Images
from .machines import Machines
from .names import Names
from .network import Network
from .shell import write_whole

LOG = logging.getLogger(__name__)
LOOK_SECONDS = 2.0


class Reconciler:
    """The real parts of one cloud, kept in step with its API."""

    def __init__(self, config: Config, api: CloudApi):
        self.config = config
        self.api = api
        self.network = Network(config)
        self.images = Images(config.cache_dir)
        self.machines = Machines(config, self.network, self.images)
        self.databases = Databases(config, self.network, self.images)
        self.names = Names(config)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._rules_lock = threading.Lock()
        self._busy: set[str] = set()
        self._busy_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="part")
        # Machines that this daemon has seen running: one of them that ends was shut down from inside,
        # while any other was cut off by the end of the host or the cloud and is booted again.
        self._started: set[str] = set()

    def run(self) -> None:
        """Work until stop() is called."""
        self.api.on_change(self._wake.set)
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception:  # the loop outlives whatever one look ran into
                LOG.exception("could not look at the cloud's parts")
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()

    def stop(self) -> None:
        """End the loop; parts stay as they are."""
        self._stopping.set()
        self._wake.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def look(self) -> None:
        """One look at the whole cloud."""
        desired = self.api.desired()
        vpcs = {v.vpc_id: v for v in desired.vpcs}
        self.names.apply(desired)
        self._apply_rules(desired)
        for instance in desired.instances:
            self._submit(instance.instance_id, self._instance, instance, vpcs.get(instance.vpc_id))
        being_copied = {s.database_identifier for s in desired.snapshots if s.status == "creating"}
        for database in desired.databases:
            # A database that is deleted with a final snapshot goes when that is whole.
            if database.status == "deleting" and database.identifier in being_copied:
                continue
            self._submit(f"db-{database.identifier}", self._database, database, vpcs.get(database.vpc_id))
        for snapshot in desired.snapshots:
            self._submit(f"snapshot-{snapshot.identifier}", self._snapshot, snapshot)
        for stray in self.machines.known() - {i.instance_id for i in desired.instances}:
            self._submit(stray, self.machines.remove, stray)
        for stray in self.databases.known() - {d.identifier for d in desired.databases}:
            self._submit(f"db-{stray}", self.databases.remove, stray)
        self._write_status(desired)

    def _apply_rules(self, desired: Desired | None = None) -> None:
        with self._rules_lock:
            self.network.apply_security_groups(desired or self.api.desired())

    def _write_status(self, desired: Desired) -> None:
        """What ``status`` shows; a part is settled when it is what the API says it is."""
        answer = {
            "machines": [
                {
                    "instance_id": i.instance_id,
                    "name": i.name,
                    "address": i.private_ip,
                    "image": i.image,
                    "state": i.state,
                    "settled": i.state == "stopped" or (i.state == "running" and i.instance_id in self._started),
                }
                for i in desired.instances
            ],
            "databases": [
                {
                    "identifier": d.identifier,
                    "endpoint": d.endpoint,
                    "address": d.private_ip,
                    "port": d.port,
                    "engine_version": d.engine_version,
                    "state": d.status,
                    "settled": d.status in ("stopped", "failed")
                    or (d.status == "available" and self.databases.is_running(d.identifier)),
                }
                for d in desired.databases
            ],
        }
        write_whole(self.config.status_file, json.dumps(answer))

    def _submit(self, part: str, work: Callable[..., None], *args: object) -> None:
        with self._busy_lock:
            if part in self._busy or self._stopping.is_set():
                return
            self._busy.add(part)

        def job() -> None:
            try:
                work(*args)
            except Exception:
                LOG.exception("%s: the work on it failed", part)
            finally:
                with self._busy_lock:
                    self._busy.discard(part)

        self._pool.submit(job)

    # --- one part --------------------------------------------------------------------------------------------------

    def _instance(self, instance: Instance, vpc: Vpc | None) -> None:
        running = self.machines.is_running(instance.instance_id)
        if instance.state == "pending":
            self._start_instance(instance, vpc)
        elif instance.state == "running":
            if not running and instance.instance_id in self._started:
                LOG.info("%s: shut down from inside", instance.instance_id)
                self.machines.stop(instance.instance_id)
                self._started.discard(instance.instance_id)
                self.api.instance_state(instance.instance_id, "stopped", "Client.InstanceInitiatedShutdown")
            elif not running:
                self._start_instance(instance, vpc)
            else:
                self._started.add(instance.instance_id)
                self.machines.reboot(instance)
        elif instance.state == "stopping":
            self.machines.stop(instance.instance_id)
            self._started.discard(instance.instance_id)
            self.api.instance_state(instance.instance_id, "stopped")
        elif instance.state == "shutting-down":
            self.machines.remove(instance.instance_id)
            self.api.instance_state(instance.instance_id, "terminated")

    def _start_instance(self, instance: Instance, vpc: Vpc | None) -> None:
        try:
            if vpc is None:
                raise LocalCloudError(f"{instance.instance_id}: its VPC {instance.vpc_id} is not known.")
            LOG.info("%s: booting %s at %s", instance.instance_id, instance.image, instance.private_ip)
            self.machines.start(instance, vpc, self._apply_rules)
        except LocalCloudError as error:
            LOG.error("%s: %s", instance.instance_id, error)
            self.machines.stop(instance.instance_id)
            self.api.instance_state(instance.instance_id, "terminated", f"Server.InternalError: {error}")
            return
        self._started.add(instance.instance_id)
        LOG.info("%s: running", instance.instance_id)
        if instance.state == "pending":
            self.api.instance_state(instance.instance_id, "running")

    def _database(self, database: Database, vpc: Vpc | None) -> None:
        name = database.identifier
        try:
            if database.status == "deleting":
                self.databases.remove(name)
                self.api.database_gone(name)
            elif database.status == "stopping":
                self.databases.stop(name)
                self.api.database_status(name, "stopped", database.changes)
            elif database.status not in ("stopped", "failed"):
                self._keep_database(database, vpc)
        except LocalCloudError as error:
            LOG.error("%s: %s", name, error)
            if database.status == "creating":
                self.api.database_status(name, "failed", database.changes, str(error))

    def _keep_database(self, database: Database, vpc: Vpc | None) -> None:
        name = database.identifier
        reached = self.databases.applied(name)
        current = (reached.get("changes"), reached.get("reboots")) == (database.changes, database.reboots)
        if database.status == "available" and current and self.databases.is_running(name):
            return
        if vpc is None:
            raise LocalCloudError(f"{name}: its VPC {database.vpc_id} is not known.")
        LOG.info("%s: PostgreSQL %s at %s", name, database.engine_version, database.private_ip)
        try:
            self.databases.start(database, vpc, self._apply_rules)
        except Restart:
            self.databases.start(database, vpc, self._apply_rules)
        LOG.info("%s: available", name)
        self.api.database_status(name, "available", database.changes)

    def _snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.status == "creating":
            try:
                self.databases.take_snapshot(snapshot)
            except LocalCloudError as error:
                LOG.error("%s", error)
                self.api.snapshot_status(snapshot.identifier, "failed")
                return
            self.api.snapshot_status(snapshot.identifier, "available")
        elif snapshot.status == "deleting":
            self.databases.remove_snapshot(snapshot.identifier)
            self.api.snapshot_status(snapshot.identifier, "deleted")

    # --- the end ---------------------------------------------------------------------------------------------------

    def power_off(self) -> None:
        """Stop every part and remove every trace outside the cloud's folder. The disks stay."""
        for instance_id in self.machines.known():
            self.machines.stop(instance_id)
        for identifier in self.databases.known():
            self.databases.stop(identifier)
        self.names.stop()
        self.network.stop()
