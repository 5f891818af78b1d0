# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The command line of the local cloud."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .config import Config, taken_slots
from .errors import LocalCloudError
from .parts.images import Images
from .parts.shell import Process, write_whole

NEEDED = {
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "nsenter": "util-linux",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
}
UP_SECONDS = 300


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m localcloud", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the cloud; what it held before is there again")
    up.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME",
        help="build this image now instead of at its first use; may be repeated (default: debian-13, postgresql-17)",
    )
    commands.add_parser("down", help="stop every part; disks and the API's memory stay")
    status = commands.add_parser("status", help="show what runs")
    status.add_argument("--json", action="store_true", help="for programs")
    commands.add_parser("reset", help="stop every part and delete all but the caches")
    commands.add_parser("serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    try:
        config = Config.from_environment()
        if arguments.command == "status":
            return show(config, as_json=arguments.json)
        if os.geteuid() != 0:
            raise LocalCloudError(f"the local cloud makes namespaces and mounts: run `{arguments.command}` as root.")
        if arguments.command == "serve":
            from .daemon import serve  # noqa: PLC0415 - loads moto, which the status can do without

            serve(config)
        elif arguments.command == "up":
            with _one_at_a_time(config):
                start(config, arguments.image or ["debian-13", "postgresql-17"])
        else:
            with _one_at_a_time(config):
                stop(config, forget=arguments.command == "reset")
    except LocalCloudError as error:
        print(f"localcloud: {error}", file=sys.stderr)
        return 1
    return 0


def start(config: Config, images: list[str]) -> None:
    """Bring the cloud up and wait until its API answers and its parts are back."""
    missing = sorted({package for command, package in NEEDED.items() if not shutil.which(command)})
    if missing:
        raise LocalCloudError(f"commands are missing on this host: apt-get install {' '.join(missing)}")
    config = take_slot(config.home)
    cache = Images(config.cache_dir)
    for image in images:
        cache.ensure(image, progress=_say)
    process = Process(config.pid_file)
    if process.pid is None:
        config.ready_file.unlink(missing_ok=True)
        config.status_file.unlink(missing_ok=True)
        _say(f"starting the AWS API at {config.api_url}")
        process.start(
            [sys.executable, "-m", "localcloud", "serve"],
            log=config.log_file,
            env={"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        )
    deadline = time.monotonic() + UP_SECONDS
    while not config.ready_file.exists() or _unsettled(config):
        if process.pid is None:
            tail = config.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
            raise LocalCloudError("the cloud's process ended:\n" + "\n".join(tail))
        if time.monotonic() > deadline:
            raise LocalCloudError(f"the cloud did not come up in {UP_SECONDS} s; its log is {config.log_file}.")
        time.sleep(0.2)
    _say(f"the local cloud {config.name} is up")


def stop(config: Config, forget: bool) -> None:
    """Stop the daemon and every part; with ``forget``, delete the cloud's folder."""
    if not config.cloud_dir.exists():
        _say(f"there is no local cloud {config.name}")
        return
    Process(config.pid_file).stop(signal.SIGTERM, patience=60)
    config.ready_file.unlink(missing_ok=True)
    # The daemon's own code stops the parts, also those of a daemon that was killed.
    from .parts.reconcile import Reconciler  # noqa: PLC0415

    Reconciler(config, api=None).power_off()
    if forget:
        shutil.rmtree(config.cloud_dir)
    _say(f"the local cloud {config.name} is {'gone' if forget else 'down'}")


def describe(config: Config) -> dict:
    """What ``status --json`` prints."""
    answer = {
        "name": config.name,
        "state": "down",
        "aws_endpoint_url": config.api_url,
        "ca_file": str(config.ca_file),
        "credentials_file": str(config.credentials_file),
        "machines": [],
        "databases": [],
    }
    if config.ready_file.exists() and Process(config.pid_file).pid is not None:
        answer.update(_parts(config), state="up")
    return answer


def _parts(config: Config) -> dict:
    try:
        return json.loads(config.status_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def show(config: Config, as_json: bool) -> int:
    """Print the status; exit code 0 when the cloud is up, 3 when not."""
    answer = describe(config)
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        print(f"{answer['name']}: {answer['state']}  {answer['aws_endpoint_url']}")
        for machine in answer["machines"]:
            print("  machine   {instance_id}  {state:<8} {address:<15} {image:<10} {name}".format(**machine))
        for database in answer["databases"]:
            print(
                "  database  {identifier}  {state:<8} {address}:{port}  PostgreSQL {engine_version}  {endpoint}".format(
                    **database
                )
            )
    return 0 if answer["state"] == "up" else 3


def _unsettled(config: Config) -> bool:
    """Whether parts that should run are not back yet."""
    parts = _parts(config)
    return not parts or any(not part["settled"] for part in parts["machines"] + parts["databases"])


def take_slot(home: Path, environ: dict[str, str] | None = None) -> Config:
    """Note the slot of the environment's cloud, so that no other one takes it; raises LocalCloudError where one has it."""
    with _locked(home / ".slots.lock"):
        # Only now: another cloud may have taken the one that was free before.
        config = Config.from_environment(environ)
        for name, taken in taken_slots(home).items():
            if name == config.name and taken != config.slot:
                raise LocalCloudError(f"LOCALCLOUD_SLOT is {config.slot}, but the local cloud {name} was made in slot {taken}.")
            if name != config.name and taken == config.slot:
                raise LocalCloudError(
                    f"LOCALCLOUD_SLOT is {config.slot}, which the local cloud {name} has; choose another (0 to 9), or none."
                )
        config.cloud_dir.mkdir(parents=True, exist_ok=True)
        # Others look at it without the lock.
        write_whole(config.slot_file, f"{config.slot}\n")
    return config


def _one_at_a_time(config: Config) -> contextlib.AbstractContextManager:
    """Two ``up`` or ``down`` of one cloud at once wait for each other."""
    return _locked(config.home / f".{config.name}.lock")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(text, flush=True)
