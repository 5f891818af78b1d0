# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Names of endpoints and machines: dnsmasq for the machines, a marked block of /etc/hosts for the host itself.

dnsmasq sends what it doesn't know to the host's own resolvers.
"""

from __future__ import annotations

import fcntl
import re
import signal
import socket
import time
from pathlib import Path

from ..config import Config
from ..errors import LocalCloudError
from ..model import Desired
from .shell import Process

HOSTS = Path("/etc/hosts")
START_SECONDS = 10


class Names:
    """The names of one cloud."""

    def __init__(self, config: Config):
        self.config = config
        self.file = config.cloud_dir / "names"
        self.process = Process(config.cloud_dir / "dnsmasq.json")
        self.log = config.cloud_dir / "dnsmasq.log"
        self._written: str | None = None

    def start(self) -> None:
        """Start dnsmasq and wait until it listens: a SIGHUP before that would end it."""
        self.process.stop()
        self.file.touch()
        self.process.start(
            [
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--bind-interfaces",
                f"--listen-address={self.config.api_address}",
                "--except-interface=lo",
                "--no-hosts",
                f"--addn-hosts={self.file}",
                "--pid-file=",
                "--user=root",
                "--local-ttl=5",
                "--log-facility=-",
            ],
            log=self.log,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            if self.process.pid is None or time.monotonic() > deadline:
                said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
                raise LocalCloudError("dnsmasq did not start: " + " ".join(said))
            time.sleep(0.05)

    def _listens(self) -> bool:
        try:
            socket.create_connection((self.config.api_address, 53), timeout=1).close()
        except OSError:
            return False
        return True

    def apply(self, desired: Desired) -> None:
        """Write the names of what is there now; a dnsmasq that ended is started again."""
        if self.process.pid is None:
            self.start()
        lines = [f"{i.private_ip} {i.hostname}" for i in desired.instances if i.private_ip and i.hostname]
        lines += [f"{d.private_ip} {d.endpoint}" for d in desired.databases if d.private_ip]
        text = "".join(f"{line}\n" for line in sorted(lines))
        if text != self._written:
            self.file.write_text(text, encoding="utf-8")
            self._write_block(text)
            self.process.send(signal.SIGHUP)
            self._written = text

    def stop(self) -> None:
        self.process.stop()
        self._write_block("")

    def _write_block(self, text: str) -> None:
        begin = f"# BEGIN mlflow-aws local cloud {self.config.name}\n"
        end = f"# END mlflow-aws local cloud {self.config.name}\n"
        with HOSTS.open("r+", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            old = handle.read()
            kept = re.sub(re.escape(begin) + ".*?" + re.escape(end), "", old, flags=re.DOTALL)
            new = kept + (begin + text + end if text else "")
            if new != old:
                # In place, for /etc/hosts may be a bind mount that can't be replaced.
                handle.seek(0)
                handle.write(new)
                handle.truncate()
