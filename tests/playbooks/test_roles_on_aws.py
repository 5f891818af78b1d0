# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The roles that talk to AWS alone, on the local cloud's API: what AWS refuses, changes by itself or has from somebody else."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cloud import REGION, Cloud  # noqa: E402

BUCKET = f"mlflow-artifacts-123456789012-{REGION}"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    found = Cloud(tmp_path_factory.mktemp("cloud"), parts=True)
    yield found
    found.api.stop()


@pytest.fixture
def network(cloud):
    """What the role rds has from the role network."""
    ec2 = cloud.client("ec2")
    subnets = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"]
    return {
        "rds_subnet_ids": sorted(subnet["SubnetId"] for subnet in subnets),
        "rds_security_group_ids": [group["GroupId"] for group in groups if group["VpcId"] == subnets[0]["VpcId"]],
    }


@pytest.fixture
def database(cloud, run, network):
    """The database as it is by default; answers with what RDS says of it now."""
    run("rds", **network)

    def look():
        return cloud.client("rds").describe_db_instances(DBInstanceIdentifier="mlflow")["DBInstances"][0]

    yield look
    rds = cloud.client("rds")
    if not rds.describe_db_instances()["DBInstances"]:
        return
    if look()["DBInstanceStatus"] == "stopped":
        rds.start_db_instance(DBInstanceIdentifier="mlflow")
    rds.modify_db_instance(DBInstanceIdentifier="mlflow", DeletionProtection=False)
    rds.delete_db_instance(DBInstanceIdentifier="mlflow", SkipFinalSnapshot=True)
    cloud.client("secretsmanager").delete_secret(SecretId="mlflow/database/admin", ForceDeleteWithoutRecovery=True)


@pytest.fixture
def run(cloud, playbook, tmp_path):
    """Runs roles; answers with how many tasks changed something and the output in one line."""

    def run(*roles, fails=False, arguments=(), **variables):
        key, secret = cloud.root
        code, output = playbook(
            "tests/playbooks/roles.yml",
            *arguments,
            variables={
                "roles": roles,
                "mlflow_aws_name": "mlflow",
                "mlflow_aws_region": REGION,
                "mlflow_aws_allowed_cidrs": ["203.0.113.0/24"],
                "mlflow_aws_endpoint_url": f"https://127.0.0.1:{cloud.api.ports[0]}",
                "mlflow_aws_ca_bundle": str(cloud.config.ca_file),
                "mlflow_aws_access_key": key,
                "mlflow_aws_secret_key": secret,
                "ec2_ssh_private_key_file": str(tmp_path / "key"),
                **variables,
            },
        )
        assert code == (2 if fails else 0) and "Traceback" not in output, output
        return int(re.search(r"changed=(\d+)", output)[1]), " ".join(output.split())

    return run


# -- the bucket ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variables, wanted",
    [
        ({"s3_noncurrent_transition_days": 7}, "s3_noncurrent_transition_days is 7"),
        ({"s3_noncurrent_transition_days": 60, "s3_noncurrent_expiration_days": 60}, "s3_noncurrent_expiration_days is 60"),
        ({"s3_unfinished_upload_days": 0}, "s3_unfinished_upload_days is 0"),
    ],
)
def test_days_that_s3_refuses_are_told_before_there_is_a_bucket(cloud, run, variables, wanted):
    _changed, output = run("s3", fails=True, **variables)
    assert wanted in output
    assert cloud.client("s3").list_buckets()["Buckets"] == []


def test_days_that_s3_takes_are_its_rules(cloud, run):
    run("s3", s3_noncurrent_transition_days=30, s3_noncurrent_expiration_days=31, s3_unfinished_upload_days=1)
    rules = cloud.client("s3").get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert {rule["ID"]: rule.get("NoncurrentVersionExpiration") for rule in rules} == {
        "unfinished-uploads": None,
        "noncurrent-versions": {"NoncurrentDays": 31},
    }


# -- the database ----------------------------------------------------------------------------------------------------


def test_a_parameter_that_postgresql_takes_when_it_starts(cloud, run, network, database):
    wanted = {**network, "rds_parameters": {"max_connections": "60", "work_mem": "8192", "rds.logical_replication": 1}}
    _changed, output = run("rds", **wanted)
    assert "wait until PostgreSQL of mlflow restarts" in output
    (now,) = cloud.api.desired().databases
    assert (now.parameters["work_mem"], now.parameters.get("max_connections"), now.reboots) == ("8192", None, 0)

    changed, output = run("rds", rds_restart_for_parameters=True, **wanted)
    (now,) = cloud.api.desired().databases
    assert (changed, now.parameters["max_connections"], now.parameters["rds.logical_replication"]) == (1, "60", "1")
    assert database()["DBParameterGroups"][0]["ParameterApplyStatus"] == "in-sync"
    changed, output = run("rds", rds_restart_for_parameters=True, **wanted)
    assert changed == 0 and "wait until" not in output


def test_a_parameter_that_nobody_knew_to_be_static_waits_as_well(run, network, database, monkeypatch):
    from localcloud.api import rds_catalogue

    monkeypatch.setitem(rds_catalogue.PARAMETERS, "new.static", ("static", "string", "", ""))
    _changed, output = run("rds", rds_parameters={"new.static": "x"}, **network)
    assert "wait until PostgreSQL of mlflow restarts" in output


def test_a_database_that_somebody_stopped_is_started(cloud, run, network, database):
    cloud.client("rds").stop_db_instance(DBInstanceIdentifier="mlflow")
    changed, _output = run("rds", arguments=["--check"], **network)
    assert (changed, database()["DBInstanceStatus"]) == (1, "stopped")
    changed, _output = run("rds", rds_backup_retention_days=8, **network)
    assert (changed, database()["DBInstanceStatus"], database()["BackupRetentionPeriod"]) == (2, "available", 8)


def test_a_database_that_somebody_stopped_goes_into_its_final_snapshot(cloud, run, network, database):
    cloud.client("rds").stop_db_instance(DBInstanceIdentifier="mlflow")
    run("rds", rds_state="absent", **network)
    assert cloud.client("rds").describe_db_instances()["DBInstances"] == []
    (snapshot,) = cloud.client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    assert snapshot["DBSnapshotIdentifier"].startswith("mlflow-final-")
