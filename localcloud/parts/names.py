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
from pathlib import Path

from ..config import Config
from ..model import Desired
from .shell import Process

HOSTS = Path("/etc/hosts")


class Names:
    """The names of one cloud."""

    def __init__(self, config: Config):
        self.config = config
        self.file = config.cloud_dir / "names"
        self.process = Process(config.cloud_dir / "dnsmasq.json")
        self._written: str | None = None

    def start(self) -> None:
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
            ],
            log=self.config.cloud_dir / "dnsmasq.log",
        )

    def apply(self, desired: Desired) -> None:
        """Write the names of what is there now."""
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
