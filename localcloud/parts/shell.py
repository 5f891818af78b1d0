# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Commands of the host, and processes that outlive the daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from ..errors import LocalCloudError

MOUNTS = Path("/proc/mounts")


def run(*argv: str | Path, stdin: str | None = None, timeout: float = 600, check: bool = True) -> str:
    """Run a command and return its standard output; a failure is a LocalCloudError with the command's own words."""
    command = [str(a) for a in argv]
    result = subprocess.run(
        command, input=stdin, text=True, capture_output=True, timeout=timeout, check=False
    )
    if check and result.returncode != 0:
        said = (result.stderr.strip() or result.stdout.strip())[-2000:]
        raise LocalCloudError(f"{' '.join(command[:6])} failed with exit code {result.returncode}: {said}")
    return result.stdout


def succeeds(*argv: str | Path, timeout: float = 60) -> bool:
    """Whether a command exits with 0."""
    try:
        return (
            subprocess.run(
                [str(a) for a in argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=timeout,
                check=False,
            ).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        return False


def last_lines(path: Path, lines: int = 15) -> str:
    """The end of a log, or nothing where there is none."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return "\n".join(text.splitlines()[-lines:])


def start_time(pid: int) -> str | None:
    """The kernel's start time of a process, or None when it is gone or a zombie: with the pid it names one process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step, for those who may read it at this moment."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


class Process:
    """
    A process remembered in a file by pid and start time, so that a later daemon finds it again
    and a reused pid is never mistaken for it.
    """

    def __init__(self, record: Path):
        self.record = record

    def start(self, argv: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self.remember(child.pid)

    def remember(self, pid: int) -> None:
        write_whole(self.record, json.dumps({"pid": pid, "start": start_time(pid)}))

    @property
    def pid(self) -> int | None:
        """The pid when the remembered process still runs."""
        try:
            known = json.loads(self.record.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        _reap(known["pid"])
        alive = start_time(known["pid"])
        return known["pid"] if alive is not None and alive == known["start"] else None

    def send(self, number: int) -> None:
        pid = self.pid
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def stop(self, number: int = signal.SIGTERM, patience: float = 60) -> None:
        """Ask it to end; after ``patience`` seconds, make it."""
        self.send(number)
        if not self.wait(patience):
            self.send(signal.SIGKILL)
            self.wait(10)
        self.record.unlink(missing_ok=True)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False when it still runs after ``seconds``."""
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def cgroup_mounts() -> list[Path]:
    """Where a process is put to have a control group of its own: the unified tree and systemd's named one."""
    found = []
    for line in MOUNTS.read_text(encoding="utf-8").splitlines():
        _device, path, kind, options = line.split()[:4]
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(path))
    return found


def host_has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def enter_cgroup(name: str, argv: list[str]) -> list[str]:
    """
    A command line that puts itself in a control group of its own and then becomes ``argv``.

    Two machines in one control group would manage each other's processes. A host with systemd hands the group out
    (a scope with delegation); elsewhere the group is made by hand.
    """
    if host_has_systemd():
        return ["systemd-run", "--quiet", "--collect", "--scope", f"--unit={name}", "--property=Delegate=yes", "--", *argv]
    steps = "".join(f'mkdir -p "{m}/{name}" && echo $$ > "{m}/{name}/cgroup.procs" && ' for m in cgroup_mounts())
    return ["sh", "-c", steps + 'exec "$@"', "sh", *argv]


def remove_cgroup(name: str) -> None:
    """Remove what enter_cgroup made, with the groups that a machine's systemd left in it."""
    if host_has_systemd():
        return
    for mount in cgroup_mounts():
        top = mount / name
        for folder, _dirs, _files in sorted(os.walk(top), key=lambda entry: -len(entry[0])):
            try:
                os.rmdir(folder)
            except OSError:
                pass
