# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Where a local cloud lives and which addresses it uses. Everything follows from three environment variables."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import LocalCloudError

DEFAULT_HOME = "/var/lib/mlflow-aws-localcloud"
MAX_SLOT = 9
NETWORK_DEVICES = Path("/sys/class/net")


@dataclass(frozen=True)
class Config:
    """
    One local cloud.

    Attributes:
        home: folder of all clouds and their shared caches (``LOCALCLOUD_HOME``).
        name: name of this cloud (``LOCALCLOUD_NAME``, default ``default``).
        slot: number from 0 to 9 that picks the addresses (``LOCALCLOUD_SLOT``). By default that in which the cloud was made,
            or the lowest that is free; 0 is for the cloud ``default`` alone.
    """

    home: Path
    name: str
    slot: int

    @classmethod
    def from_environment(cls, environ: dict[str, str] | None = None) -> Config:
        """Read the configuration; raises LocalCloudError for a value that can't be used."""
        env = os.environ if environ is None else environ
        name = env.get("LOCALCLOUD_NAME") or "default"
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,15}", name):
            raise LocalCloudError(
                f"LOCALCLOUD_NAME is {name!r}; wanted 1 to 16 characters: a lower-case letter, "
                "then lower-case letters, digits and dashes."
            )
        home = Path(env.get("LOCALCLOUD_HOME") or DEFAULT_HOME)
        if not home.is_absolute():
            raise LocalCloudError(f"LOCALCLOUD_HOME is {str(home)!r}; wanted an absolute path.")
        text = env.get("LOCALCLOUD_SLOT") or ""
        if not re.fullmatch(r"[0-9]?", text):
            raise LocalCloudError(f"LOCALCLOUD_SLOT is {text!r}; wanted a number from 0 to {MAX_SLOT}.")
        return cls(home=home, name=name, slot=int(text) if text else _own_slot(home, name))

    @property
    def slot_file(self) -> Path:
        return self.cloud_dir / "slot"

    @property
    def cache_dir(self) -> Path:
        """Images and packages; kept by ``down`` and ``reset``."""
        return self.home / "cache"

    @property
    def cloud_dir(self) -> Path:
        return self.home / "clouds" / self.name

    @property
    def api_address(self) -> str:
        """Address of the AWS API. 198.18.0.0/15 is set aside for tests (RFC 2544), so no real network has it."""
        return f"198.18.{self.slot}.1"

    @property
    def api_url(self) -> str:
        return f"https://{self.api_address}"

    @property
    def metadata_port(self) -> int:
        """Port on api_address that machines reach as 169.254.169.254:80."""
        return 8169

    @property
    def default_vpc_cidr(self) -> str:
        """AWS's own default VPC range in slot 0; the others lie below it."""
        return f"172.{31 - self.slot}.0.0/16"

    @property
    def api_device(self) -> str:
        return f"lcapi{self.slot}"

    @property
    def ca_file(self) -> Path:
        return self.cloud_dir / "ca.pem"

    @property
    def credentials_file(self) -> Path:
        return self.cloud_dir / "aws" / "credentials"

    @property
    def state_dir(self) -> Path:
        """What the AWS API remembers: snapshots of moto's backends and the bodies of S3 objects."""
        return self.cloud_dir / "api"

    @property
    def log_file(self) -> Path:
        return self.cloud_dir / "localcloud.log"

    @property
    def pid_file(self) -> Path:
        return self.cloud_dir / "daemon.pid"

    @property
    def ready_file(self) -> Path:
        """There while the daemon answers."""
        return self.cloud_dir / "ready"

    @property
    def status_file(self) -> Path:
        """What the daemon last saw of the parts."""
        return self.cloud_dir / "status.json"


def taken_slots(home: Path) -> dict[str, int]:
    """The slot of each cloud of this home, by its name."""
    taken = {}
    for file in home.glob("clouds/*/slot"):
        # A cloud that is removed at this moment has none any more.
        with contextlib.suppress(FileNotFoundError):
            taken[file.parent.name] = int(file.read_text(encoding="ascii"))
    return taken


def _own_slot(home: Path, name: str) -> int:
    taken = taken_slots(home)
    if name in taken:
        return taken[name]
    # A cloud of another home has its device, which goes only when that is down.
    free = (n for n in range(MAX_SLOT + 1) if n not in taken.values() and not (NETWORK_DEVICES / f"lcapi{n}").exists())
    slot = next((n for n in free if n or name == "default"), None)
    if slot is None:
        clouds = ", ".join(sorted(taken)) or "of another LOCALCLOUD_HOME"
        raise LocalCloudError(f"no slot is free for the local cloud {name}: reset one of those that there are ({clouds}).")
    return slot
