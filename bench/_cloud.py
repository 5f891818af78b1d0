# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
What the benchmarks on a local cloud of their own share: machines for the roles, one with PostgreSQL, playbooks with the time
of each task, and the file with the figures.
"""

from __future__ import annotations

import configparser
import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
sys.path.insert(0, str(ROOT))

DATABASE = "db.example.internal"
REGION = "eu-central-1"


def run(*command: str, text: str | None = None, timeout: float = 600, **options) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout, cwd=ROOT, **options)
    if done.returncode:
        output = (done.stdout + done.stderr)[-4000:]
        raise SystemExit(f"{' '.join(command)[:300]} failed with exit code {done.returncode}:\n{output}")
    return done.stdout.strip()


def changes(output: str) -> int:
    """Sum of changed= in Ansible's recap."""
    return sum(int(number) for number in re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", output, re.MULTILINE))


def write(benchmark: str, figures: dict) -> None:
    """The figures as JSON, with the machine that they are of."""
    about = {
        "benchmark": benchmark,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{benchmark}.json"
    file.write_text(json.dumps(about, indent=2) + "\n")
    print(f"\nWritten to {file.relative_to(ROOT)}")


@dataclass
class Played:
    """What a playbook took, as a whole and by the name of each task, and how many changes it reported."""

    seconds: float
    tasks: dict[str, float]
    changed: int


class Cloud:
    """Machines that the roles serve MLflow on, and one with PostgreSQL, all of them made by the plays of the scenarios."""

    def __init__(self, benchmark: str, folder: Path, servers: list[str], base: str):
        from localcloud.config import Config

        self.benchmark, self.folder, self.servers, self.base = benchmark, folder, servers, base
        self.scenario = f"bench-{benchmark}"
        self.config = Config.from_environment()
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ANSIBLE_", "MOLECULE_"))}
        self.environ = {
            **environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_HOST_KEY_CHECKING": "false",
            "ANSIBLE_NOCOLOR": "1",
            # Else the tasks' lines come in bundles, and their times with them.
            "PYTHONUNBUFFERED": "1",
            # Without skipped hosts a task's line comes with its first result, and its time would be the next one's.
            "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true",
            "MOLECULE_SCENARIO_NAME": self.scenario,
            "MOLECULE_EPHEMERAL_DIRECTORY": str(folder),
            "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
        }
        self.key = folder / "ssh_key"
        self.bucket = f"molecule-{self.scenario}-artifacts"
        self.instances = folder / "instances.yml"
        self.addresses: dict[str, str] = {}

    def localcloud(self, command: str, check: bool = True) -> bool:
        done = subprocess.run(
            [sys.executable, "-m", "localcloud", command], cwd=ROOT, env=self.environ, capture_output=True, text=True
        )
        if check and done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return done.returncode == 0

    def play(self, playbook: str, *arguments: str, variables: dict | None = None, log: str = "") -> Played:
        file = RESULTS / "log" / f"{self.benchmark}-{log or Path(playbook).stem}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        command = ["ansible-playbook", playbook, *arguments]
        if variables:
            command += ["-e", json.dumps(variables)]
        tasks: dict[str, float] = {}
        begin = since = time.monotonic()
        name = ""
        with file.open("w", buffering=1) as output, subprocess.Popen(
            command, cwd=ROOT, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        ) as process:  # fmt: skip
            for line in process.stdout:
                output.write(line)
                if found := re.match(r"^(?:TASK|RUNNING HANDLER|PLAY RECAP) ?\[?(.*?)\]? \*+$", line):
                    now = time.monotonic()
                    if name:
                        tasks[name] = tasks.get(name, 0) + now - since
                    name, since = found[1].split(" : ")[-1], now
        seconds = time.monotonic() - begin
        text = file.read_text()
        if process.returncode:
            raise SystemExit(f"{playbook} failed with exit code {process.returncode}:\n{text[-4000:]}")
        return Played(seconds, tasks, changes(text))

    def up(self, **variables) -> None:
        """The machines, and on them what somebody has who has no MLflow yet."""
        names = [*self.servers, self.base]
        self.play(
            "molecule/shared/create.yml",
            variables={
                "molecule_yml": {"platforms": [{"name": name, "image": "debian-13"} for name in names]},
                "molecule_instance_config": str(self.instances),
            },
        )
        self.find()
        hosts = {
            name: {
                "ansible_host": address,
                "ansible_user": "admin",
                "ansible_ssh_private_key_file": str(self.key),
                "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
                "ansible_python_interpreter": "/usr/bin/python3",
            }
            for name, address in self.addresses.items()
        }
        groups = {
            "mlflow": {"hosts": {name: hosts[name] for name in self.servers}},
            "database": {"hosts": {self.base: hosts[self.base]}},
        }
        (self.folder / "inventory.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
        self.open_ports()
        self.play("molecule/shared/prepare.yml", *self.inventory, variables=variables)

    def open_ports(self) -> None:
        """More than the scenarios need."""

    @property
    def inventory(self) -> list[str]:
        return ["-i", str(self.folder / "inventory.yml")]

    def find(self) -> None:
        self.addresses = {about["instance"]: about["address"] for about in yaml.safe_load(self.instances.read_text())}

    def aws(self, service: str):
        import boto3
        from botocore.config import Config

        login = configparser.ConfigParser()
        login.read(self.config.credentials_file)
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.config.api_url,
            verify=str(self.config.ca_file),
            aws_access_key_id=login["localcloud"]["aws_access_key_id"],
            aws_secret_access_key=login["localcloud"]["aws_secret_access_key"],
            config=Config(retries={"total_max_attempts": 1}, read_timeout=600),
        )

    def ssh_command(self, host: str, *command: str) -> list[str]:
        return [
            "ssh", "-i", str(self.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
            "LogLevel=ERROR", "-o", "ConnectTimeout=20", f"admin@{self.addresses[host]}", "sudo", *command,
        ]  # fmt: skip

    def ssh(self, host: str, script: str, timeout: float = 600) -> str:
        """A script by standard input, so that nothing in it is in an argument."""
        return run(*self.ssh_command(host, "bash", "-eus"), text=script, timeout=timeout)
