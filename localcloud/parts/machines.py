# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
EC2 instances as booted machines: systemd-nspawn on a cached Debian image, in a network namespace of their own.

A machine's disk is an overlay: the image below, what the machine wrote above. The processes outlive the daemon, which
finds them again by their record.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from ..config import Config
from ..errors import LocalCloudError
from ..model import Instance, Vpc
from .images import RECORD, Images
from .network import Network
from .shell import Process, enter_cgroup, last_lines, remove_cgroup, run, succeeds

LOG = logging.getLogger(__name__)
BOOT_SECONDS = 120
STOP_SECONDS = 90
# With --keep-unit, systemd-nspawn leaves a guest's reboot to whoever started it and says so by this exit code.
REBOOT_EXIT_CODE = 133
RESTARTED = ("sh", "-c", f'while "$@"; code=$?; [ $code -eq {REBOOT_EXIT_CODE} ]; do :; done; exit $code', "sh")


class Machines:
    """The machines of one cloud. Methods for one machine are called by one thread at a time."""

    def __init__(self, config: Config, network: Network, images: Images):
        self.config = config
        self.network = network
        self.images = images
        self.folder = config.cloud_dir / "machines"

    def known(self) -> set[str]:
        """Instance ids that have a disk here."""
        return {p.name for p in self.folder.iterdir()} if self.folder.is_dir() else set()

    def is_running(self, instance_id: str) -> bool:
        return self._process(instance_id).pid is not None

    def start(self, instance: Instance, vpc: Vpc, apply_rules: Callable[[], None]) -> None:
        """Boot the machine and wait until it lets people in. Raises LocalCloudError with the end of its console."""
        home = self.folder / instance.instance_id
        home.mkdir(parents=True, exist_ok=True)
        # A machine's files keep their owners' numbers: no user of the host may walk in.
        self.folder.chmod(0o700)
        process = self._process(instance.instance_id)
        if process.pid is None:
            root = self._mount(instance)
            if not (home / "prepared").exists():
                self._prepare(instance, root)
                (home / "prepared").touch()
            self.network.ensure_part(instance.instance_id, vpc, instance.private_ip, instance.mac)
            apply_rules()
            self._write_memory(instance.instance_id, {"reboots": instance.reboots})
            process.start(
                [*RESTARTED, *enter_cgroup(self._cgroup(instance.instance_id), self._command(instance, root))],
                log=home / "console.log",
                env={"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )
        self._wait_ready(instance.instance_id)

    def reboot(self, instance: Instance) -> None:
        """What RebootInstances asks for: an orderly restart of the guest."""
        if self._memory(instance.instance_id).get("reboots", 0) >= instance.reboots:
            return
        leader = self._leader(instance.instance_id)
        self._write_memory(instance.instance_id, {"reboots": instance.reboots})
        if leader is not None:
            os.kill(leader, signal.SIGRTMIN + 5)  # systemd: start reboot.target
            self._wait_new_leader(instance.instance_id, leader)
            self._wait_ready(instance.instance_id)

    def stop(self, instance_id: str) -> None:
        """Shut the guest down; its disk stays."""
        process = self._process(instance_id)
        nspawn = self._nspawn(instance_id)
        if nspawn is not None:
            os.kill(nspawn, signal.SIGTERM)
        process.wait(STOP_SECONDS)
        process.stop(signal.SIGKILL)
        self.network.remove_part(instance_id)
        self._unmount(instance_id)
        remove_cgroup(self._cgroup(instance_id))

    def remove(self, instance_id: str) -> None:
        """Stop the machine and delete its disk."""
        self.stop(instance_id)
        shutil.rmtree(self.folder / instance_id, ignore_errors=True)

    def console(self, instance_id: str) -> str:
        return last_lines(self.folder / instance_id / "console.log")

    # --- disk ------------------------------------------------------------------------------------------------------

    def _mount(self, instance: Instance) -> Path:
        home = self.folder / instance.instance_id
        root = home / "root"
        if os.path.ismount(root):
            return root
        # A machine keeps the image it began with, even when a newer one is built.
        record = home / RECORD
        if not record.exists():
            record.write_text(str(self.images.ensure(instance.image)), encoding="utf-8")
        image = record.read_text(encoding="utf-8")
        for name in ("root", "upper", "work"):
            (home / name).mkdir(exist_ok=True)
        run(
            "mount",
            "-t",
            "overlay",
            f"localcloud-{instance.instance_id}",
            "-o",
            f"lowerdir={image},upperdir={home / 'upper'},workdir={home / 'work'}",
            root,
        )
        return root

    def _unmount(self, instance_id: str) -> None:
        root = self.folder / instance_id / "root"
        for _attempt in range(50):
            if not os.path.ismount(root):
                return
            if succeeds("umount", root):
                return
            time.sleep(0.2)
        run("umount", "--lazy", root)

    def _prepare(self, instance: Instance, root: Path) -> None:
        """What cloud-init does at a first boot: identity, name, key, host keys, user data."""
        (root / "etc/machine-id").write_text(uuid.uuid4().hex + "\n", encoding="utf-8")
        (root / "etc/hostname").write_text(instance.hostname.split(".")[0] + "\n", encoding="utf-8")
        (root / "etc/hosts").write_text(
            f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
            f"{instance.private_ip} {instance.hostname} {instance.hostname.split('.')[0]}\n",
            encoding="utf-8",
        )
        resolver = root / "etc/resolv.conf"
        resolver.unlink(missing_ok=True)
        resolver.write_text(f"nameserver {self.config.api_address}\n", encoding="utf-8")
        if instance.public_key:
            folder = root / "home/admin/.ssh"
            folder.mkdir(mode=0o700, exist_ok=True)
            keys = folder / "authorized_keys"
            keys.write_text(instance.public_key.strip() + "\n", encoding="utf-8")
            keys.chmod(0o600)
            owner = (root / "home/admin").stat()
            os.chown(folder, owner.st_uid, owner.st_gid)
            os.chown(keys, owner.st_uid, owner.st_gid)
        run("ssh-keygen", "-A", "-f", root)
        if instance.user_data.strip():
            if not instance.user_data.startswith(b"#!"):
                raise LocalCloudError(
                    "user data has to be a script that begins with #!; the local cloud's machines have no cloud-init."
                )
            script = root / "var/lib/localcloud/user-data"
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_bytes(instance.user_data)
            script.chmod(0o700)

    # --- process ---------------------------------------------------------------------------------------------------

    def _command(self, instance: Instance, root: Path) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            f"--network-namespace-path={self.network.namespace_path(instance.instance_id)}",
            f"--directory={root}",
            f"--machine={instance.instance_id}",
            "--boot",
            "--kill-signal=SIGRTMIN+3",
            # Security groups are rules in the machine's own namespace: it must not be able to change them.
            "--drop-capability=CAP_NET_ADMIN",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=pipe",
        ]

    def _process(self, instance_id: str) -> Process:
        return Process(self.folder / instance_id / "process.json")

    def _cgroup(self, instance_id: str) -> str:
        return f"localcloud{self.config.slot}-{instance_id}"

    def _nspawn(self, instance_id: str) -> int | None:
        pid = self._process(instance_id).pid
        return next((c for c in _children(pid) if _name(c) == "systemd-nspawn"), None) if pid else None

    def _leader(self, instance_id: str) -> int | None:
        """The guest's first process, as the host numbers it."""
        nspawn = self._nspawn(instance_id)
        return next((c for c in _children(nspawn) if _number_inside(c) == "1"), None) if nspawn else None

    def _wait_ready(self, instance_id: str) -> None:
        """Until ssh answers and logins are no longer held back by the boot."""
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if not self.is_running(instance_id):
                raise LocalCloudError(f"machine {instance_id} ended while it booted:\n{self.console(instance_id)}")
            leader = self._leader(instance_id)
            if leader is not None and self._lets_in(instance_id, leader):
                return
            time.sleep(0.25)
        raise LocalCloudError(f"machine {instance_id} did not come up in {BOOT_SECONDS} s:\n{self.console(instance_id)}")

    def _lets_in(self, instance_id: str, leader: int) -> bool:
        run_dir = Path(f"/proc/{leader}/root/run")
        try:
            if not (run_dir / "systemd/system").is_dir() or (run_dir / "nologin").exists():
                return False
        except OSError:
            return False
        return succeeds(
            "nsenter",
            f"--net={self.network.namespace_path(instance_id)}",
            "bash",
            "-c",
            "exec 3<>/dev/tcp/127.0.0.1/22 && read -t 3 -r banner <&3 && [[ $banner == SSH-* ]]",
            timeout=5,
        )

    def _wait_new_leader(self, instance_id: str, old: int) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            leader = self._leader(instance_id)
            if leader is not None and leader != old:
                return
            time.sleep(0.2)
        raise LocalCloudError(f"machine {instance_id} did not reboot in {STOP_SECONDS} s.")

    def _memory(self, instance_id: str) -> dict[str, int]:
        path = self.folder / instance_id / "memory.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _write_memory(self, instance_id: str, values: dict[str, int]) -> None:
        (self.folder / instance_id / "memory.json").write_text(json.dumps(values), encoding="utf-8")


def _children(pid: int) -> list[int]:
    return [int(c) for c in run("ps", "-o", "pid=", "--ppid", str(pid), check=False).split()]


def _status(pid: int, field: str) -> str:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(f"{field}:")), "")


def _name(pid: int) -> str:
    return _status(pid, "Name")


def _number_inside(pid: int) -> str:
    """A process's number in its innermost process namespace."""
    return (_status(pid, "NSpid").split() or [""])[-1]
