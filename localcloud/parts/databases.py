# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
RDS instances as real PostgreSQL clusters: the asked major version from a cached image, TLS with a certificate for the
endpoint's name, rds.force_ssl obeyed, and a master user with rds_superuser's limits.

The local superuser ``rdsadmin`` (its name on RDS as well) answers only on a Unix socket that root alone can reach.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from ..api import pki
from ..config import Config
from ..errors import LocalCloudError
from ..model import Database, Snapshot, Vpc
from .images import RECORD, Images
from .network import Network
from .shell import Process, enter_cgroup, last_lines, remove_cgroup, run

LOG = logging.getLogger(__name__)
START_SECONDS = 60
STOP_SECONDS = 60
SUPERUSER = "rdsadmin"

# What rds_superuser is a member of on RDS; those that a major version lacks are left out.
SUPERUSER_ROLES = (
    "pg_monitor",
    "pg_signal_backend",
    "pg_checkpoint",
    "pg_read_all_data",
    "pg_write_all_data",
    "pg_use_reserved_connections",
    "pg_create_subscription",
    "pg_maintain",
)


class Databases:
    """The databases of one cloud. Methods for one database are called by one thread at a time."""

    def __init__(self, config: Config, network: Network, images: Images):
        self.config = config
        self.network = network
        self.images = images
        self.folder = config.cloud_dir / "databases"
        self.snapshots = config.cloud_dir / "snapshots"

    def known(self) -> set[str]:
        return {p.name for p in self.folder.iterdir()} if self.folder.is_dir() else set()

    def is_running(self, identifier: str) -> bool:
        return self._process(identifier).pid is not None

    def applied(self, identifier: str) -> dict[str, int]:
        """The change and reboot counts that this database has reached."""
        path = self.folder / identifier / "applied.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def start(self, database: Database, vpc: Vpc, apply_rules: Callable[[], None]) -> None:
        """Create the cluster when it is new, start it, and wait until it answers."""
        home = self.folder / database.identifier
        for name in ("socket", "data"):
            (home / name).mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        image = self._image(database.engine_version)
        process = self._process(database.identifier)
        if process.pid is None:
            (home / RECORD).write_text(str(image), encoding="utf-8")
        if process.pid is None and not (home / "initialised").exists():
            self._initialise(database, image)
        if process.pid is None:
            self._write_config(database)
            part = f"db-{database.identifier}"
            self.network.ensure_part(part, vpc, database.private_ip)
            apply_rules()
            (home / "data/postmaster.pid").unlink(missing_ok=True)
            process.start(
                enter_cgroup(
                    self._cgroup(database.identifier),
                    self._nspawn(
                        image,
                        database.identifier,
                        [f"{self._bin(image)}/postgres", "-D", "/data"],
                        options=[
                            f"--network-namespace-path={self.network.namespace_path(part)}",
                            # PostgreSQL's fast shutdown.
                            "--kill-signal=SIGINT",
                        ],
                    ),
                ),
                log=home / "postgresql.log",
            )
        self._wait_ready(database.identifier)
        if not (home / "initialised").exists():
            self._first_roles(database)
            (home / "initialised").touch()
        self.apply(database)

    def apply(self, database: Database) -> None:
        """What ModifyDBInstance and RebootDBInstance ask of a running cluster."""
        reached = self.applied(database.identifier)
        if reached.get("changes", -1) != database.changes:
            self._write_config(database)
            with self._connect(database.identifier) as connection:
                connection.execute("SELECT pg_reload_conf()")
                if database.master_password:
                    self._set_password(connection, database.master_username, database.master_password)
        if reached.get("reboots", database.reboots) != database.reboots:
            self._process(database.identifier).stop(signal.SIGTERM, STOP_SECONDS)
            reached["reboots"] = database.reboots
            self._remember(database, reached.get("changes", database.changes))
            raise Restart
        self._remember(database, database.changes)

    def stop(self, identifier: str) -> None:
        self._process(identifier).stop(signal.SIGTERM, STOP_SECONDS)
        self.network.remove_part(f"db-{identifier}")
        remove_cgroup(self._cgroup(identifier))

    def remove(self, identifier: str) -> None:
        """Stop the cluster and delete its data; snapshots stay."""
        self.stop(identifier)
        shutil.rmtree(self.folder / identifier, ignore_errors=True)

    def tail(self, identifier: str) -> str:
        return last_lines(self.folder / identifier / "postgresql.log")

    # --- snapshots -------------------------------------------------------------------------------------------------

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """A base backup of the running cluster."""
        home = self.folder / snapshot.database_identifier
        if not self.is_running(snapshot.database_identifier):
            raise LocalCloudError(f"snapshot {snapshot.identifier}: {snapshot.database_identifier} is not running.")
        image = self._image(snapshot.engine_version)
        target = self.snapshots / snapshot.identifier
        shutil.rmtree(target, ignore_errors=True)
        (target / "data").mkdir(parents=True)
        target.chmod(0o700)
        owner = (home / "data").stat()
        os.chown(target / "data", owner.st_uid, owner.st_gid)
        (target / "data").chmod(0o700)
        # Its process namespace must see the same user ids, not the server's files.
        self._run_once(
            self._nspawn(
                image,
                f"{snapshot.database_identifier}-backup",
                [f"{self._bin(image)}/pg_basebackup", "-h", "/sockets", "-U", SUPERUSER, "-D", "/data", "-c", "fast"],
                data=target / "data",
                sockets=home / "socket",
            ),
            self._cgroup(f"{snapshot.database_identifier}-backup"),
        )

    def remove_snapshot(self, identifier: str) -> None:
        shutil.rmtree(self.snapshots / identifier, ignore_errors=True)

    # --- cluster ---------------------------------------------------------------------------------------------------

    def _image(self, engine_version: str) -> Path:
        return self.images.ensure(f"postgresql-{engine_version.split('.')[0]}")

    @staticmethod
    def _bin(image: Path) -> str:
        found = sorted((image / "usr/lib/postgresql").iterdir())
        return f"/usr/lib/postgresql/{found[-1].name}/bin"

    def _nspawn(
        self,
        image: Path,
        name: str,
        command: list[str],
        options: list[str] | None = None,
        data: Path | None = None,
        sockets: Path | None = None,
    ) -> list[str]:
        home = self.folder / name
        return [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            f"--directory={image}",
            "--read-only",
            f"--machine=db-{name}",
            "--user=postgres",
            "--tmpfs=/tmp:mode=1777",
            f"--bind={data or home / 'data'}:/data",
            f"--bind={sockets or home / 'socket'}:/sockets",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=pipe",
            *(options or []),
            "--",
            *command,
        ]

    def _initialise(self, database: Database, image: Path) -> None:
        home = self.folder / database.identifier
        shutil.rmtree(home / "data")
        owner = self._postgres_ids(image)
        if database.restore_from_snapshot:
            source = self.snapshots / database.restore_from_snapshot / "data"
            if not source.is_dir():
                raise LocalCloudError(f"snapshot {database.restore_from_snapshot!r} has no data.")
            run("cp", "-a", "--reflink=auto", source, home / "data")
        else:
            (home / "data").mkdir(mode=0o700)
        for name in ("data", "socket"):
            os.chown(home / name, *owner)
            (home / name).chmod(0o700)
        if not database.restore_from_snapshot:
            self._run_once(
                self._nspawn(
                    image,
                    database.identifier,
                    [
                        f"{self._bin(image)}/initdb",
                        "--pgdata=/data",
                        f"--username={SUPERUSER}",
                        "--encoding=UTF8",
                        "--locale=C.UTF-8",
                        "--data-checksums",
                        "--no-sync",
                        "--auth=reject",
                    ],
                ),
                self._cgroup(database.identifier),
            )
        key, certificate = pki.issue(self.config, [database.endpoint], [database.private_ip])
        for name, content in (("server.key", key), ("server.crt", certificate)):
            path = home / "data" / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            path.chmod(0o600)
            os.chown(path, *owner)

    @staticmethod
    def _run_once(command: list[str], cgroup: str) -> None:
        run(*enter_cgroup(cgroup, command))
        remove_cgroup(cgroup)

    @staticmethod
    def _postgres_ids(image: Path) -> tuple[int, int]:
        for line in (image / "etc/passwd").read_text(encoding="utf-8").splitlines():
            fields = line.split(":")
            if fields[0] == "postgres":
                return int(fields[2]), int(fields[3])
        raise LocalCloudError(f"image {image.name} has no user postgres.")

    def _write_config(self, database: Database) -> None:
        data = self.folder / database.identifier / "data"
        parameters = {k: v for k, v in database.parameters.items() if not k.startswith("rds.")}
        parameters.setdefault("max_connections", str(min(database.instance_class_memory // 9531392, 5000) or 100))
        for name, value in parameters.items():
            # RDS's formulas, such as {DBInstanceClassMemory/32768}, are its own language.
            if not re.fullmatch(r"[a-z_][a-z0-9_.]*", name) or "{" in value:
                raise LocalCloudError(f"parameter {name}={value!r}: the local cloud takes plain values only.")
        fixed = {
            "listen_addresses": database.private_ip,
            "port": str(database.port),
            "unix_socket_directories": "/sockets",
            "ssl": "on",
            "ssl_cert_file": "server.crt",
            "ssl_key_file": "server.key",
            "ssl_min_protocol_version": "TLSv1.2",
            "password_encryption": "scram-sha-256",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        lines = [f"{name} = '{_quoted(value)}'" for name, value in {**parameters, **fixed}.items()]
        # 1 is the default of RDS for PostgreSQL 15 and later.
        forced = database.parameters.get("rds.force_ssl", "1") == "1"
        kind = "hostssl" if forced else "host"
        access = [
            f"local all {SUPERUSER} trust",
            f"local replication {SUPERUSER} trust",
            f"host all {SUPERUSER} all reject",
            "host replication all all reject",
            f"{kind} all all all scram-sha-256",
        ]
        for path, text in ((data / "postgresql.conf", lines), (data / "pg_hba.conf", access)):
            owner = data.stat()
            path.write_text("\n".join(text) + "\n", encoding="utf-8")
            os.chown(path, owner.st_uid, owner.st_gid)
            path.chmod(0o600)

    def _first_roles(self, database: Database) -> None:
        with self._connect(database.identifier) as connection:
            master = sql.Identifier(database.master_username)
            if not database.restore_from_snapshot:
                connection.execute("CREATE ROLE rds_superuser NOLOGIN")
                have = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
                for role in (r for r in SUPERUSER_ROLES if r in have):
                    connection.execute(
                        sql.SQL("GRANT {} TO rds_superuser WITH ADMIN OPTION").format(sql.Identifier(role))
                    )
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER CREATEDB CREATEROLE VALID UNTIL 'infinity'").format(master)
                )
                connection.execute(sql.SQL("GRANT rds_superuser TO {}").format(master))
                connection.execute(sql.SQL("ALTER DATABASE postgres OWNER TO {}").format(master))
                if database.dbname and database.dbname != "postgres":
                    connection.execute(
                        sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database.dbname), master)
                    )
            if database.master_password:
                self._set_password(connection, database.master_username, database.master_password)

    @staticmethod
    def _set_password(connection: psycopg.Connection, role: str, password: str) -> None:
        # The verifier is made here, so that the password itself reaches no log of the server.
        verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
        )

    def _connect(self, identifier: str) -> psycopg.Connection:
        port = self._port(identifier)
        return psycopg.connect(
            host=str(self.folder / identifier / "socket"), port=port, user=SUPERUSER, dbname="postgres", autocommit=True
        )

    def _port(self, identifier: str) -> int:
        config = (self.folder / identifier / "data/postgresql.conf").read_text(encoding="utf-8")
        return int(re.search(r"^port = '(\d+)'", config, re.MULTILINE)[1])

    def _wait_ready(self, identifier: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.is_running(identifier):
                raise LocalCloudError(f"PostgreSQL of {identifier} ended as it started:\n{self.tail(identifier)}")
            try:
                with self._connect(identifier):
                    return
            except (psycopg.OperationalError, TypeError):
                time.sleep(0.2)
        raise LocalCloudError(f"PostgreSQL of {identifier} gave no answer in {START_SECONDS} s:\n{self.tail(identifier)}")

    def _remember(self, database: Database, changes: int) -> None:
        path = self.folder / database.identifier / "applied.json"
        path.write_text(json.dumps({"changes": changes, "reboots": database.reboots}), encoding="utf-8")

    def _process(self, identifier: str) -> Process:
        return Process(self.folder / identifier / "process.json")

    def _cgroup(self, identifier: str) -> str:
        return f"localcloud{self.config.slot}-db-{identifier}"


class Restart(Exception):
    """The cluster was stopped for a reboot and has to be started again."""


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
