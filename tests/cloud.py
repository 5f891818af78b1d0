# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The API of the local cloud in this process, with clients for it and without machines behind it."""

from __future__ import annotations

import configparser
import http.client
import sys
from pathlib import Path

import boto3
from botocore.config import Config as ClientConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from localcloud.api import Api  # noqa: E402
from localcloud.config import Config  # noqa: E402

REGION = "eu-central-1"


class Cloud:
    """A started Api and clients for it."""

    def __init__(self, home: Path, parts: bool = False):
        """``parts``: what is asked for is there at once. Without it a test says when a machine runs; no call waits for one."""
        self.config = Config(home, "test", 0)
        self.api = Api(
            self.config, address="127.0.0.1", https_port=0, http_port=0, metadata_port=0, patience_seconds=0
        )
        if parts:
            self.api.on_change(self.be_parts)
        self.api.start()

    def be_parts(self) -> None:
        """Report all that is under way as done."""
        desired = self.api.desired()
        for instance in desired.instances:
            state = {"pending": "running", "stopping": "stopped", "shutting-down": "terminated"}.get(instance.state)
            if state:
                self.api.instance_state(instance.instance_id, state)
        for database in desired.databases:
            if database.status == "deleting":
                self.api.database_gone(database.identifier)
            elif database.status in ("creating", "modifying", "rebooting", "starting", "stopping"):
                status = "stopped" if database.status == "stopping" else "available"
                self.api.database_status(database.identifier, status, database.changes)
        for snapshot in desired.snapshots:
            if snapshot.status in ("creating", "deleting"):
                self.api.snapshot_status(snapshot.identifier, {"creating": "available", "deleting": "deleted"}[snapshot.status])

    @property
    def root(self) -> tuple[str, str]:
        parser = configparser.ConfigParser()
        parser.read(self.config.credentials_file)
        section = parser["localcloud"]
        return section["aws_access_key_id"], section["aws_secret_access_key"]

    def client(self, service: str, key: tuple[str, ...] | None = None, region: str = REGION, plain: bool = False):
        key = key or self.root
        https, http_port, _ = self.api.ports
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=f"http://127.0.0.1:{http_port}" if plain else f"https://127.0.0.1:{https}",
            verify=str(self.config.ca_file),
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            aws_session_token=key[2] if len(key) > 2 else None,
            config=ClientConfig(signature_version="s3v4" if service == "s3" else None, retries={"max_attempts": 0}),
        )

    def metadata(self, path: str, headers: dict[str, str] | None = None, method: str = "GET", source="127.0.0.1"):
        """Status and text of a request whose source address is ``source``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api.ports[2], timeout=5, source_address=(source, 0))
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()
