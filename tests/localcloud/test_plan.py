# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
The first plan: site.yml in check mode on an account in which nothing is, which must stay so.

Needs root. It uses a slot that is free.
"""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRON = {
    **os.environ,
    "LOCALCLOUD_NAME": "plan",
    "PYTHONPATH": str(REPOSITORY),
    "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
}

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("systemd-nspawn"), reason="needs root and systemd-nspawn"
)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    # Ansible refuses an input that does not block, such as some callers' own.
    given = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run(command, cwd=REPOSITORY, env=ENVIRON, timeout=300, **given)


@pytest.fixture(scope="module")
def cloud():
    for action in ("reset", "up"):
        done = run(sys.executable, "-m", "localcloud", action)
        assert done.returncode == 0, done.stdout + done.stderr
    yield json.loads(run(sys.executable, "-m", "localcloud", "status", "--json").stdout)
    run(sys.executable, "-m", "localcloud", "reset")


def account(cloud) -> dict:
    """All that the account holds of what site.yml makes."""
    keys = configparser.ConfigParser()
    keys.read(cloud["credentials_file"])

    def ask(service: str, action: str, answer: str):
        client = boto3.client(
            service,
            region_name="eu-central-1",
            endpoint_url=cloud["aws_endpoint_url"],
            verify=cloud["ca_file"],
            aws_access_key_id=keys["localcloud"]["aws_access_key_id"],
            aws_secret_access_key=keys["localcloud"]["aws_secret_access_key"],
        )
        return getattr(client, action)()[answer]

    return {
        action: ask(service, action, answer)
        for service, action, answer in (
            ("s3", "list_buckets", "Buckets"),
            ("iam", "list_roles", "Roles"),
            ("iam", "list_instance_profiles", "InstanceProfiles"),
            ("iam", "list_policies", "Policies"),
            ("ec2", "describe_security_groups", "SecurityGroups"),
            ("ec2", "describe_key_pairs", "KeyPairs"),
            ("ec2", "describe_instances", "Reservations"),
            ("ec2", "describe_volumes", "Volumes"),
            ("rds", "describe_db_instances", "DBInstances"),
            ("rds", "describe_db_subnet_groups", "DBSubnetGroups"),
            ("rds", "describe_db_parameter_groups", "DBParameterGroups"),
            ("secretsmanager", "list_secrets", "SecretList"),
        )
    }


def files(cloud) -> set[Path]:
    """The files that a run might leave where it keeps the SSH key."""
    return set((Path(cloud["ca_file"]).parent / "ssh").glob("*"))


def test_a_first_plan_ends_well_and_changes_nothing(cloud):
    before = account(cloud), files(cloud)
    done = run("ansible-playbook", "site.yml", "-i", "inventory/local", "--check", "--diff")
    assert done.returncode == 0 and "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    for planned in ("Would make the bucket", "Would make the database", "Would make the instance"):
        assert planned in done.stdout, done.stdout
    assert (account(cloud), files(cloud)) == before
