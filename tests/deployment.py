# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A deployment on a local cloud of its own, and the ways to look into every part of it."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import psycopg
import pytest
from elsewhere import elsewhere

from localcloud.config import Config
from localcloud.parts.databases import SUPERUSER

ROOT = Path(__file__).resolve().parents[1]
NAME, REGION = "mlflow", "eu-central-1"
APP, ADMIN, USER = f"{NAME}/database/app", f"{NAME}/database/admin", f"{NAME}/mlflow/admin"
LOGINS = ("mlflow_a", "mlflow_b")
SERVICE_FILE = "/etc/mlflow/pg_service.conf"


def plain(value):
    """A value as ansible-inventory writes it, without its mark."""
    return value["__ansible_unsafe"] if isinstance(value, dict) and "__ansible_unsafe" in value else value


def at(task, command):
    """The environment of a run in which this command runs right before this task."""
    return {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "rotation" / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "at_task",
        "AT_TASK": task,
        "AT_COMMAND": command,
    }


@contextlib.contextmanager
def deployed(folder, **options):
    """A deployment for all tests of a folder, removed at the end; or the one that is up in the cloud of that name."""
    if os.geteuid() != 0 or not shutil.which("systemd-nspawn"):
        pytest.skip("needs root and systemd-nspawn")
    deployment = Deployment(folder, **options)
    try:
        deployment.up()
        yield deployment
    finally:
        deployment.down()


class Deployment:
    def __init__(self, folder, servers=2, recycle=3, grace=1, lease=5, tests="rotation", more=None):
        self.folder = Path(folder)
        # Who works on these tests has a deployment up already.
        self.as_it_is = bool(os.environ.get(f"{tests.upper()}_AS_IT_IS"))
        self.servers = servers
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ANSIBLE_"))}
        if "TASKS_RUN" in environ:
            # bin/test wants to know which tasks are run.
            environ |= {name: os.environ[name] for name in ("ANSIBLE_CALLBACK_PLUGINS", "ANSIBLE_CALLBACKS_ENABLED")}
        self.environ = {
            **environ,
            "LOCALCLOUD_NAME": os.environ.get("LOCALCLOUD_NAME", tests),
            "PATH": f"{Path(sys.executable).parent}:{environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONPATH": str(ROOT),
        }
        self.variables = {
            "mlflow_aws_server_count": servers,
            "mlflow_aws_database_class": "db.t4g.small",
            "mlflow_server_pool_recycle": recycle,
            "mlflow_aws_rotation_grace_seconds": grace,
            "mlflow_aws_rotation_lease_seconds": lease,
            **(more or {}),
        }
        self.logs = 0
        self.prefix = []

    # --- up and down ---

    def localcloud(self, command):
        done = subprocess.run(
            [sys.executable, "-m", "localcloud", command], cwd=ROOT, env=self.environ, text=True, capture_output=True
        )
        assert done.returncode in (0, 3), done.stdout + done.stderr
        return done.returncode == 0

    def up(self):
        self.was_up = self.localcloud("status")
        if not self.was_up:
            self.localcloud("up")
        # Which slot it has is known by now.
        self.config = Config.from_environment(self.environ)
        if not (self.was_up and self.as_it_is):
            code, output = self.site()
            assert code == 0, output[-6000:]
        keys = configparser.ConfigParser()
        keys.read(self.config.credentials_file)
        self.aws = {
            "region_name": REGION,
            "endpoint_url": self.config.api_url,
            "verify": str(self.config.ca_file),
            "aws_access_key_id": keys["localcloud"]["aws_access_key_id"],
            "aws_secret_access_key": keys["localcloud"]["aws_secret_access_key"],
        }
        self.secrets = boto3.client("secretsmanager", **self.aws)
        self.look_at_hosts()
        if "AWSPENDING" in self.labels(APP) or "AWSPENDING" in self.labels(ADMIN):
            self.must_rotate()

    def look_at_hosts(self):
        """The servers as the inventory names them."""
        listed = subprocess.run(
            ["ansible-inventory", "-i", "inventory/local", "--list"],
            cwd=ROOT, env=self.environ, text=True, capture_output=True, check=True,
        )  # fmt: skip
        about = json.loads(listed.stdout)
        self.hosts = {
            name: {key: plain(value) for key, value in about["_meta"]["hostvars"][name].items()}
            for name in about["mlflow_server"]["hosts"]
        }
        self.addresses = [host["ansible_host"] for host in self.hosts.values()]

    def down(self):
        if not self.was_up:
            self.localcloud("reset")

    # --- playbooks ---

    @contextlib.contextmanager
    def elsewhere(self):
        """
        Playbooks and the AWS API get only the processor time that nobody else wants: in life they are on other machines.

        What a playbook does on the hosts is not held back.
        """
        with elsewhere(json.loads(self.config.pid_file.read_text())["pid"]) as self.prefix:
            yield
        self.prefix = []

    def start(self, playbook, *arguments, environ=None, **variables):
        """A playbook in a process group of its own."""
        # A file and no pipe: ssh's master connection holds a pipe open long after the playbook.
        self.logs += 1
        log = self.folder / f"{self.logs}.log"
        command = [*self.prefix, "ansible-playbook", playbook, "-i", "inventory/local", *arguments]
        command += ["-e", json.dumps({**self.variables, **variables})]
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**self.environ, **(environ or {})}, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        process.log = log
        return process

    def end(self, process, timeout=900):
        """Its exit code and its output."""
        try:
            process.wait(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode, process.log.read_text(errors="replace")

    def play(self, playbook, *arguments, **options):
        return self.end(self.start(playbook, *arguments, **options))

    def site(self, *arguments, **options):
        return self.play("site.yml", *arguments, **options)

    def site_changes_nothing(self):
        code, output = self.site()
        assert code == 0, output[-4000:]
        changed = [int(number) for number in re.findall(r"changed=(\d+)", output)]
        assert changed and sum(changed) == 0, output[-4000:]

    def rotate(self, *arguments, **options):
        return self.play("rotate-db-password.yml", *arguments, **options)

    def must_rotate(self, *arguments, **options):
        code, output = self.rotate(*arguments, **options)
        assert code == 0, output[-6000:]
        return output

    # --- AWS ---

    def content(self, name, stage="AWSCURRENT"):
        return json.loads(self.secrets.get_secret_value(SecretId=name, VersionStage=stage)["SecretString"])

    @property
    def user(self):
        """MLflow's administrator, as he logs in now: a test may have given him another password."""
        return self.content(USER)

    def labels(self, name):
        """The version that has each label."""
        versions = self.secrets.describe_secret(SecretId=name)["VersionIdsToStages"]
        return {label: version for version, labels in versions.items() for label in labels}

    # --- the database ---

    def connect(self, database="postgres", **options):
        """As the cluster's own superuser, who does not come through the network."""
        folder = self.config.cloud_dir / "databases" / NAME / "socket"
        return psycopg.connect(host=str(folder), user=SUPERUSER, dbname=database, **options)

    def sql(self, statement, parameters=None):
        with self.connect(autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def roles(self):
        """Of each role of MLflow: whether it can log in, whether it has a password, and its sessions."""
        rows = self.sql(
            "SELECT rolname, rolcanlogin, rolpassword IS NOT NULL, "
            "(SELECT count(*) FROM pg_stat_activity WHERE usename = rolname) FROM pg_authid WHERE rolname LIKE 'mlflow%'"
        )
        return {name: (can_login, has_password, sessions) for name, can_login, has_password, sessions in rows}

    # --- the hosts ---

    def here(self, command):
        """Run on the machine that the local cloud is on."""
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def ssh_to(self, host, *options):
        """The command that connects to a host."""
        about = self.hosts[host]
        return [
            "ssh", "-i", about["ansible_ssh_private_key_file"], "-o", "StrictHostKeyChecking=no", "-o",
            "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", *options, f"{about['ansible_user']}@{about['ansible_host']}",
        ]  # fmt: skip

    def ssh(self, host, command, check=True, text=None):
        done = subprocess.run(
            [*self.ssh_to(host), "sudo", "bash", "-s"],
            input=command if text is None else text, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{host}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def serves(self, host, seconds=180):
        """Whether a host serves, now or within so many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):
                self.ssh(host, "mlflow-ready")
                return True
            time.sleep(2)
        return False

    def wait_for_connection(self, host):
        """Until Ansible reaches a host again. The connection that it kept from before may need a while to notice."""
        command = ["ansible", host, "-i", "inventory/local", "-m", "ansible.builtin.wait_for_connection", "-a", "timeout=120"]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environ, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=180
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def booted(self, host):
        """What is another one after each start of the machine."""
        return self.ssh(host, "systemctl show --property=UserspaceTimestampMonotonic")

    @contextlib.contextmanager
    def stopped(self, host):
        """Its instance does not run, and so is not in the inventory."""
        instance = self.hosts[host]["instance_id"]
        ec2 = boto3.client("ec2", **self.aws)
        ec2.stop_instances(InstanceIds=[instance])
        ec2.get_waiter("instance_stopped").wait(InstanceIds=[instance], WaiterConfig={"Delay": 2})
        try:
            self.look_at_hosts()
            assert host not in self.hosts
            yield
        finally:
            ec2.start_instances(InstanceIds=[instance])
            ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 2})
            self.look_at_hosts()
        self.wait_for_connection(host)

    def main_pids(self):
        return {name: self.ssh(name, "systemctl show --property=MainPID --value mlflow.service") for name in self.hosts}

    def service_user(self, host):
        return re.search(r"^user=(.*)$", self.ssh(host, f"cat {SERVICE_FILE}"), re.MULTILINE)[1]

    def can_log_in(self, host, username, password):
        """From a host, as MLflow would."""
        program = (
            "import psycopg2, sys\n"
            f"text = open({SERVICE_FILE!r}).read()\n"
            "known = dict(line.split('=', 1) for line in text.splitlines() if '=' in line)\n"
            f"known.update(user={username!r}, password={password!r})\n"
            "try:\n    psycopg2.connect(**known).close()\nexcept psycopg2.OperationalError as e:\n    print('no', e)\n"
            "else:\n    print('yes')\n"
        )
        return self.ssh(host, f"/opt/mlflow/current/bin/python - <<'PROGRAM'\n{program}PROGRAM\n").startswith("yes")

    # --- what has to hold after a rotation ---

    def check_finished(self):
        """One login is valid, on every host, and nothing is left over."""
        app = self.content(APP)
        active = app["username"]
        idle = next(name for name in LOGINS if name != active)
        labels = self.labels(APP)
        assert "AWSPENDING" not in labels and "AWSPENDING" not in self.labels(ADMIN), labels
        roles = self.roles()
        assert sorted(roles) == ["mlflow_a", "mlflow_admin", "mlflow_b", "mlflow_owner", "mlflow_owner_lock"], "another role"
        assert roles["mlflow_owner_lock"] == (False, False, 0)
        assert roles[active][0] and roles[active][1]
        assert roles[idle] == (False, False, 0), f"{idle} is not retired: {roles[idle]}"
        with ThreadPoolExecutor() as hosts:
            list(hosts.map(lambda host: self._check_host(host, app), self.hosts))
        return app

    def _check_host(self, host, app):
        assert self.service_user(host) == app["username"]
        assert self.can_log_in(host, app["username"], app["password"])
        folders = "/etc/mlflow /run/mlflow /tmp ~admin/.ansible/tmp /root/.ansible/tmp"
        left = self.ssh(host, f"find {folders} -name '.new-*' -o -name 'ansible*' -o -name 'tmp*.pem' 2>/dev/null", False)
        assert left == "", f"{host}: {left}"
