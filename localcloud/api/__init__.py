# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
The AWS API of the local cloud: moto's backends behind our own signature checks, permissions and refusals.

Where moto differs from AWS's documented behaviour, the correction is here, with the page of AWS's reference that says
so: ec2.py, rds.py, s3.py, iam.py. What the local cloud doesn't do is refused: refusals.py. What stays different from
AWS is listed at the head of iam.py and rds.py.
"""

from __future__ import annotations

import os

# moto reads these when it is imported.
os.environ["MOTO_ACCOUNT_ID"] = "123456789012"
os.environ.pop("MOTO_AMIS_PATH", None)
os.environ.setdefault("MOTO_S3_DEFAULT_MAX_KEYS", "1000")

import logging  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import uuid  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

from moto.core.base_backend import BackendDict  # noqa: E402

from ..config import Config  # noqa: E402
from ..model import Desired  # noqa: E402
from . import corrections, ec2, pki, rds  # noqa: E402
from .app import Application  # noqa: E402
from .identity import Identities  # noqa: E402
from .imds import Metadata  # noqa: E402
from .server import Listener  # noqa: E402
from .state import State  # noqa: E402

log = logging.getLogger("localcloud.api")

# A machine or a database is there in two or three seconds, unless its image has to be built first.
PATIENCE_SECONDS = 10.0


class Api:
    """The API side of one cloud; implements localcloud.model.CloudApi. One at a time in a process."""

    def __init__(
        self,
        config: Config,
        *,
        address: str | None = None,
        https_port: int = 443,
        http_port: int = 80,
        metadata_port: int | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ):
        """
        Args:
            config: the cloud.
            address: where to listen; config.api_address unless a test says otherwise.
            https_port, http_port, metadata_port: ports; 0 takes a free one, see ``ports``.
            patience_seconds: how long a call that starts or stops a machine or a database waits for it, at most.
        """
        self._config = config
        self._address = address or config.api_address
        self._wanted = (https_port, http_port, config.metadata_port if metadata_port is None else metadata_port)
        self._patience_seconds = patience_seconds
        self._lock = threading.RLock()
        self._state = State(config.state_dir, self._lock)
        self._identities = Identities(config, self._state.tables)
        self._callbacks: list[Callable[[], None]] = []
        self._listeners: list[Listener] = []

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Restore the state and listen. Raises LocalCloudError for a state or a port that can't be used."""
        self._config.cloud_dir.mkdir(parents=True, exist_ok=True)
        pki.ensure_ca(self._config)
        corrections.install(self._config)
        with self._lock:
            BackendDict.reset()
            self._state.load()
            new = "cloud_id" not in self._state.tables
            self._state.tables.setdefault("cloud_id", uuid.uuid4().hex)
            rds.install(self._state.tables["cloud_id"])
            if new:
                self._state.mark("control")
        self._state.commit()
        self._identities.ensure_root()
        api = Application(self._lock, self._state, self._identities, self._call_back)
        metadata = Metadata(self._lock, self._identities, self._save)
        https, http, imds = self._wanted
        self._listeners = [
            Listener(self._address, https, api, self._certificate()),
            Listener(self._address, http, api),
            Listener(self._address, imds, metadata),
        ]
        try:
            for listener in self._listeners:
                listener.start()
        except BaseException:
            self.stop()
            raise

    def _certificate(self) -> tuple[Path, Path]:
        addresses = sorted({self._address, self._config.api_address, "127.0.0.1"})
        key, certificate = pki.issue(self._config, ["localhost"], addresses)
        folder = self._config.cloud_dir / "pki"
        pki.write_file(folder / "api.key", key, 0o600)
        pki.write_file(folder / "api.pem", certificate, 0o644)
        return folder / "api.pem", folder / "api.key"

    def stop(self) -> None:
        """Stop listening and put the state on disk."""
        for listener in self._listeners:
            listener.stop()
        self._listeners = []
        self._state.commit()

    @property
    def ports(self) -> tuple[int, int, int]:
        """HTTPS, HTTP and metadata ports in use."""
        https, http, imds = self._listeners
        return https.port, http.port, imds.port

    def _save(self) -> None:
        with self._lock:
            self._state.mark("control")
        self._state.commit()

    def _call_back(self) -> None:
        for callback in list(self._callbacks):
            try:
                callback()
            except Exception:
                log.exception("on_change callback")
        if self._callbacks:
            self._wait_for_parts()

    def _wait_for_parts(self) -> None:
        """Answer when the parts are there, where that takes seconds: the waiters of AWS's clients ask every 15 or 30."""
        deadline = time.monotonic() + self._patience_seconds
        while self._is_moving() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _is_moving(self) -> bool:
        desired = self.desired()
        return (
            any(i.state in ("pending", "stopping", "shutting-down") for i in desired.instances)
            or any(d.status not in ("available", "stopped", "failed") for d in desired.databases)
            or any(s.status == "creating" for s in desired.snapshots)
        )

    # -- what the parts see ----------------------------------------------------------------------------------------

    def desired(self) -> Desired:
        with self._lock:
            return Desired(
                vpcs=ec2.desired_vpcs(),
                security_groups=ec2.desired_groups(),
                instances=ec2.desired_instances(),
                databases=rds.desired_databases(),
                snapshots=rds.desired_snapshots(),
            )

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _report(self, apply: Callable[[], bool]) -> None:
        with self._lock:
            changed = apply()
            if changed:
                self._state.mark("control")
        if changed:
            self._state.commit()

    def instance_state(self, instance_id: str, state: str, reason: str = "") -> None:
        self._report(lambda: ec2.report(instance_id, state, reason))

    def database_status(self, identifier: str, status: str, changes: int | None = None, reason: str = "") -> None:
        self._report(lambda: rds.report_database(identifier, status, changes, reason))

    def database_gone(self, identifier: str) -> None:
        self._report(lambda: rds.report_gone(identifier))

    def snapshot_status(self, identifier: str, status: str) -> None:
        self._report(lambda: rds.report_snapshot(identifier, status))
