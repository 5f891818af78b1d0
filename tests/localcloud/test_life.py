# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
The life of a local cloud with real machines and databases: made, cut off, found again, and gone without a trace.

Needs root. It uses a slot that is free.
"""

from __future__ import annotations

import configparser
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import botocore.exceptions
import psycopg
import pytest

from localcloud.config import Config

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "life"
CONFIG = Config.from_environment({**os.environ, "LOCALCLOUD_NAME": NAME, "LOCALCLOUD_SLOT": ""})
SLOT = str(CONFIG.slot)
BRIDGE_ADDRESS = CONFIG.default_vpc_cidr.replace(".0/16", ".1")
REGION = "eu-central-1"
PASSWORD = "Not-a-secret.1"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("systemd-nspawn"), reason="needs root and systemd-nspawn"
)


def localcloud(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "LOCALCLOUD_NAME": NAME, "LOCALCLOUD_SLOT": SLOT, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-m", "localcloud", *arguments], env=environ, text=True, capture_output=True, timeout=900
    )


def status() -> dict:
    return json.loads(localcloud("status", "--json").stdout)


def must(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stdout + result.stderr


class Cloud:
    """A cloud with one key, one group, one machine and one database, and the ways to reach them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.about = status()
        self.home = Path(self.about["ca_file"]).parent
        keys = configparser.ConfigParser()
        keys.read(self.about["credentials_file"])
        self.keys = keys["localcloud"]
        self.ec2, self.rds = self.client("ec2"), self.client("rds")

    def client(self, service: str):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.about["aws_endpoint_url"],
            verify=self.about["ca_file"],
            aws_access_key_id=self.keys["aws_access_key_id"],
            aws_secret_access_key=self.keys["aws_secret_access_key"],
        )

    def make(self) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "key")], check=True)
        self.ec2.import_key_pair(KeyName="life", PublicKeyMaterial=(self.folder / "key.pub").read_bytes())
        vpc = self.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        self.group = self.ec2.create_security_group(GroupName="life", Description="life", VpcId=vpc)["GroupId"]
        self.allow(22, IpRanges=[{"CidrIp": f"{BRIDGE_ADDRESS}/32"}])
        self.allow(5432, UserIdGroupPairs=[{"GroupId": self.group}])
        self.machine = self.run_machine("debian-13")
        subnets = [s["SubnetId"] for s in self.ec2.describe_subnets()["Subnets"]]
        self.rds.create_db_subnet_group(DBSubnetGroupName="life", DBSubnetGroupDescription="life", SubnetIds=subnets)
        self.rds.create_db_instance(
            DBInstanceIdentifier="life",
            Engine="postgres",
            EngineVersion="17",
            DBInstanceClass="db.t4g.micro",
            AllocatedStorage=20,
            MasterUsername="root1",
            MasterUserPassword=PASSWORD,
            DBSubnetGroupName="life",
            VpcSecurityGroupIds=[self.group],
        )
        self.wait_for("machine running", lambda: self.machine_state() == "running")
        self.wait_for("database available", lambda: self.database()["DBInstanceStatus"] == "available")

    def allow(self, port: int, **source) -> None:
        permission = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **source}
        self.ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[permission])

    def image(self, name: str) -> str:
        filters = [{"Name": "name", "Values": [f"{name}-amd64-*"]}]
        return self.ec2.describe_images(Owners=["136693071363"], Filters=filters)["Images"][0]["ImageId"]

    def run_machine(self, image: str, user_data: str = "#!/bin/sh\nhostname > /root/first-boot\n") -> dict:
        return self.ec2.run_instances(
            ImageId=self.image(image),
            MinCount=1,
            MaxCount=1,
            KeyName="life",
            InstanceType="t3.micro",
            SecurityGroupIds=[self.group],
            UserData=user_data,
        )["Instances"][0]

    def machine_state(self) -> str:
        return self.describe_machine()["State"]["Name"]

    def describe_machine(self) -> dict:
        answer = self.ec2.describe_instances(InstanceIds=[self.machine["InstanceId"]])
        return answer["Reservations"][0]["Instances"][0]

    def database(self) -> dict:
        return self.rds.describe_db_instances(DBInstanceIdentifier="life")["DBInstances"][0]

    def snapshot(self, identifier: str) -> str:
        return self.rds.describe_db_snapshots(DBSnapshotIdentifier=identifier)["DBSnapshots"][0]["Status"]

    def restore(self, snapshot: str) -> None:
        self.rds.restore_db_instance_from_db_snapshot(
            DBInstanceIdentifier="life",
            DBSnapshotIdentifier=snapshot,
            DBInstanceClass="db.t4g.micro",
            DBSubnetGroupName="life",
            VpcSecurityGroupIds=[self.group],
        )
        self.wait_for("restored", lambda: self.database()["DBInstanceStatus"] == "available")

    def database_address(self) -> str:
        return next(d["address"] for d in status()["databases"] if d["identifier"] == "life")

    def ssh(self, command: str) -> str:
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        options += ["-o", "ConnectTimeout=5", "-i", str(self.folder / "key")]
        target = f"admin@{self.machine['PrivateIpAddress']}"
        result = subprocess.run(["ssh", *options, target, command], text=True, capture_output=True, timeout=60)
        return result.stdout.strip()

    def reaches(self, port: int) -> bool:
        """Whether the machine can connect to the database's port."""
        return self.ssh(f"timeout 3 bash -c '</dev/tcp/{self.database_address()}/{port}' && echo open") == "open"

    @staticmethod
    def wait_for(what: str, condition, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.3)

    def sql(self, query: str, sslmode: str = "verify-full", password: str = PASSWORD):
        """Ask the database from inside the machine's network, as a server there would."""
        endpoint = self.database()["Endpoint"]["Address"]
        namespace = f"/run/netns/lc{SLOT}-{self.machine['InstanceId']}"
        code = (
            "import sys, psycopg\n"
            f"c = psycopg.connect(host={endpoint!r}, user='root1', dbname='postgres', password=sys.stdin.read(),"
            f" sslmode={sslmode!r}, sslrootcert={self.about['ca_file']!r}, connect_timeout=5, autocommit=True)\n"
            f"r = c.execute({query!r}); print(r.fetchone() if r.description else 'done')\n"
        )
        result = subprocess.run(
            ["nsenter", f"--net={namespace}", sys.executable, "-c", code],
            input=password,
            text=True,
            capture_output=True,
            timeout=30,
        )
        if result.returncode:
            raise psycopg.OperationalError(result.stderr.strip().splitlines()[-1])
        return result.stdout.strip()


def traces() -> dict[str, list[str]]:
    """Everything outside its folders that a running cloud of this slot has."""
    run = Path("/run/netns")
    mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    groups = [str(p) for root in ("/sys/fs/cgroup",) for p in Path(root).glob(f"**/localcloud{SLOT}-*")]
    tables = subprocess.run(["nft", "list", "tables"], text=True, capture_output=True, check=True).stdout.splitlines()
    processes = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"/clouds/{NAME}/" in words or f"/lc{SLOT}-" in words:
            processes.append(words)
    return {
        "namespaces": [p.name for p in run.glob(f"lc{SLOT}-*")] if run.is_dir() else [],
        "devices": [d for d in os.listdir("/sys/class/net") if d.startswith((f"lc{SLOT}", f"lcapi{SLOT}"))],
        "mounts": [m for m in mounts if f"/clouds/{NAME}/" in m],
        "control groups": groups,
        "tables": [t for t in tables if f"localcloud{SLOT}" in t],
        "processes": processes,
        "names": [line for line in Path("/etc/hosts").read_text(encoding="utf-8").splitlines() if NAME in line.split()],
    }


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    must(localcloud("reset"))
    must(localcloud("up"))
    made = Cloud(tmp_path_factory.mktemp("life"))
    made.make()
    yield made
    localcloud("reset")


def test_machine_is_a_booted_systemd_that_ran_its_user_data(cloud):
    assert cloud.ssh("systemctl is-system-running --wait") == "running"
    assert cloud.ssh("sudo cat /root/first-boot") == cloud.ssh("hostname")
    assert cloud.machine["PrivateIpAddress"] in cloud.ssh("ip -4 -o address show dev eth0")


def test_machine_cannot_change_its_security_group(cloud):
    assert cloud.ssh("sudo ip link set eth0 down; sudo ip route del default; echo $?") != "0"
    assert cloud.ssh("echo still here") == "still here"


def test_database_is_reached_by_verified_tls_from_its_group_only(cloud):
    assert cloud.sql("SELECT version()").startswith("('PostgreSQL 17")
    assert cloud.sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "(True,)"
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        cloud.sql("SELECT 1", sslmode="disable")
    with pytest.raises(OSError):
        socket.create_connection((cloud.database_address(), 5432), timeout=2)


def test_master_user_is_no_superuser(cloud):
    assert cloud.sql("SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user") == (
        "(False, True, True)"
    )


def test_a_rule_that_goes_closes_the_port_at_once(cloud):
    assert cloud.reaches(5432)
    source = [{"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": cloud.group}]}]
    cloud.ec2.revoke_security_group_ingress(GroupId=cloud.group, IpPermissions=source)
    cloud.wait_for("port closed", lambda: not cloud.reaches(5432), seconds=20)
    cloud.allow(5432, UserIdGroupPairs=[{"GroupId": cloud.group}])
    cloud.wait_for("port open again", lambda: cloud.reaches(5432), seconds=20)


def test_new_master_password_takes_the_place_of_the_old(cloud):
    cloud.rds.modify_db_instance(DBInstanceIdentifier="life", MasterUserPassword=PASSWORD + "2", ApplyImmediately=True)
    cloud.wait_for("available", lambda: cloud.database()["DBInstanceStatus"] == "available")
    assert cloud.sql("SELECT 1", password=PASSWORD + "2") == "(1,)"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        cloud.sql("SELECT 1")
    cloud.rds.modify_db_instance(DBInstanceIdentifier="life", MasterUserPassword=PASSWORD, ApplyImmediately=True)
    cloud.wait_for("available", lambda: cloud.database()["DBInstanceStatus"] == "available")


def test_snapshots_bring_the_rows_back(cloud):
    cloud.sql("CREATE TABLE kept AS SELECT 42 AS answer")
    cloud.rds.create_db_snapshot(DBSnapshotIdentifier="early", DBInstanceIdentifier="life")
    cloud.wait_for("snapshot", lambda: cloud.snapshot("early") == "available")
    cloud.sql("UPDATE kept SET answer = 43")
    cloud.rds.delete_db_instance(DBInstanceIdentifier="life", FinalDBSnapshotIdentifier="final")
    cloud.wait_for("database gone", lambda: not cloud.rds.describe_db_instances()["DBInstances"])
    assert cloud.snapshot("final") == "available"
    cloud.restore("early")
    assert cloud.sql("SELECT answer FROM kept") == "(42,)"
    cloud.rds.delete_db_instance(DBInstanceIdentifier="life", SkipFinalSnapshot=True)
    cloud.wait_for("database gone", lambda: not cloud.rds.describe_db_instances()["DBInstances"])
    cloud.restore("final")
    assert cloud.sql("SELECT answer FROM kept") == "(43,)"



def test_reboots_by_the_api_and_from_inside(cloud):
    # Nothing else in the answer: what asks systemd fails on a machine that is going down, and would look like a new boot.
    boot = "cat /proc/sys/kernel/random/boot_id"
    before = cloud.ssh(boot)
    cloud.ec2.reboot_instances(InstanceIds=[cloud.machine["InstanceId"]])
    cloud.wait_for("rebooted by the API", lambda: cloud.ssh(boot) not in ("", before))
    before = cloud.ssh(boot)
    cloud.ssh("sudo systemctl reboot")
    cloud.wait_for("rebooted from inside", lambda: cloud.ssh(boot) not in ("", before))


def test_machine_that_shuts_itself_down_is_stopped_and_starts_again_with_its_disk(cloud):
    cloud.wait_for("booted", lambda: cloud.ssh("systemctl is-system-running") in ("running", "degraded"))
    assert cloud.ssh("echo mine | sudo tee /root/mine; sync; sudo systemctl poweroff") == "mine"
    cloud.wait_for("stopped", lambda: cloud.machine_state() == "stopped")
    cloud.ec2.start_instances(InstanceIds=[cloud.machine["InstanceId"]])
    cloud.wait_for("running", lambda: cloud.machine_state() == "running")
    assert cloud.ssh("sudo cat /root/mine") == "mine"


def test_user_data_it_cannot_run_is_told(cloud):
    made = cloud.run_machine("debian-13", user_data="#cloud-config\npackages: [nginx]\n")

    def describe() -> dict:
        return cloud.ec2.describe_instances(InstanceIds=[made["InstanceId"]])["Reservations"][0]["Instances"][0]

    cloud.wait_for("terminated", lambda: describe()["State"]["Name"] == "terminated")
    assert "has to be a script" in describe()["StateReason"]["Message"]


def test_version_that_is_not_there_is_refused(cloud):
    with pytest.raises(botocore.exceptions.ClientError, match="Cannot find version 14"):
        cloud.rds.create_db_instance(
            DBInstanceIdentifier="old",
            Engine="postgres",
            EngineVersion="14",
            DBInstanceClass="db.t4g.micro",
            AllocatedStorage=20,
            MasterUsername="root1",
            MasterUserPassword=PASSWORD,
        )


def test_killed_daemon_finds_its_parts_again(cloud):
    cloud.sql("CREATE TABLE IF NOT EXISTS survives (a int)")
    boot = cloud.ssh("systemctl show -p UserspaceTimestampMonotonic --value")
    daemon = json.loads((cloud.home / "daemon.pid").read_text(encoding="utf-8"))["pid"]
    os.kill(daemon, signal.SIGKILL)
    cloud.wait_for("daemon gone", lambda: status()["state"] == "down")
    must(localcloud("up"))
    assert cloud.machine_state() == "running"
    assert cloud.ssh("systemctl show -p UserspaceTimestampMonotonic --value") == boot, "the machine was restarted"
    assert cloud.sql("SELECT to_regclass('survives')::text") == "('survives',)"


def test_down_leaves_nothing_and_up_brings_all_back(cloud):
    must(localcloud("down"))
    assert {what: found for what, found in traces().items() if found} == {}
    assert status()["state"] == "down"
    must(localcloud("up"))
    assert cloud.machine_state() == "running"
    assert cloud.ssh("hostname").startswith("ip-" + "-".join(BRIDGE_ADDRESS.split(".")[:2]) + "-")
    assert cloud.sql("SELECT to_regclass('survives')::text") == "('survives',)"


def test_down_after_a_kill_leaves_nothing(cloud):
    daemon = json.loads((cloud.home / "daemon.pid").read_text(encoding="utf-8"))["pid"]
    os.kill(daemon, signal.SIGKILL)
    must(localcloud("reset"))
    assert {what: found for what, found in traces().items() if found} == {}
    assert not cloud.home.exists()
