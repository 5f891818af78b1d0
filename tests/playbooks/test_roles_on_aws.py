# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The roles that talk to AWS alone, on the local cloud's API: what AWS refuses, changes by itself or has from somebody else."""

from __future__ import annotations

import re
import sys
import time
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
    rds.delete_db_parameter_group(DBParameterGroupName="mlflow-postgres17")
    rds.delete_db_subnet_group(DBSubnetGroupName="mlflow")
    cloud.client("secretsmanager").delete_secret(SecretId="mlflow/database/admin", ForceDeleteWithoutRecovery=True)


@pytest.fixture
def run(cloud, playbook, tmp_path):
    """Runs roles; answers with how many tasks changed something and the output in one line."""

    def run(*roles, fails=False, arguments=(), environment=None, **variables):
        key, secret = cloud.root
        given = {
            "wanted_roles": roles,
            "mlflow_aws_name": "mlflow",
            "mlflow_aws_region": REGION,
            "mlflow_aws_allowed_cidrs": ["203.0.113.0/24"],
            "mlflow_aws_endpoint_url": f"https://127.0.0.1:{cloud.api.ports[0]}",
            "mlflow_aws_ca_bundle": str(cloud.config.ca_file),
            "mlflow_aws_access_key": key,
            "mlflow_aws_secret_key": secret,
            "ec2_ssh_private_key_file": str(tmp_path / "key"),
            **variables,
        }
        code, output = playbook(
            "tests/playbooks/roles.yml",
            *arguments,
            variables={name: value for name, value in given.items() if value is not None},
            environment=environment,
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


def test_a_minor_version_that_rds_has_raised_is_left(cloud, run, network, database):
    assert database()["EngineVersion"].startswith("17.")
    cloud.client("rds").modify_db_instance(DBInstanceIdentifier="mlflow", EngineVersion="17.6", ApplyImmediately=True)
    changed, _output = run("rds", rds_engine_version="17.4", **network)
    assert (changed, database()["EngineVersion"]) == (0, "17.6")
    _changed, output = run("rds", rds_engine_version="15", fails=True, **network)
    assert "mlflow_aws_database_version (rds_engine_version) is '15', and the database mlflow runs PostgreSQL 17.6" in output


def test_logs_are_kept_for_as_long_as_asked_and_go_with_the_data(cloud, run, network, database):
    logs = cloud.client("logs")

    def groups():
        found = logs.describe_log_groups(logGroupNamePrefix="/aws/rds/instance/mlflow/")["logGroups"]
        return {group["logGroupName"].rsplit("/")[-1]: group.get("retentionInDays") for group in found}

    assert groups() == {"postgresql": None, "upgrade": None}
    changed, _output = run("rds", rds_log_retention_days=30, **network)
    assert (changed, groups()) == (1, {"postgresql": 30, "upgrade": 30})
    changed, _output = run("rds", rds_log_retention_days=30, **network)
    assert changed == 0
    run("rds", rds_state="absent", rds_destroy_data=True, **network)
    assert groups() == {}


def test_storage_that_rds_refuses_and_storage_that_it_takes(cloud, run, network, database):
    _changed, output = run("rds", rds_allocated_storage=21, fails=True, **network)
    assert "rds_allocated_storage is 21, and the database mlflow has 20 GiB" in output
    began = time.monotonic()
    changed, _output = run("rds", rds_allocated_storage=400, rds_max_allocated_storage=0, **network)
    # It serves; the module would have waited for the end of it.
    assert database()["DBInstanceStatus"] == "storage-optimization" and time.monotonic() - began < 100
    found = database()
    assert (changed, found["AllocatedStorage"], found.get("MaxAllocatedStorage")) == (1, 400, None)
    assert (found["Iops"], found["StorageThroughput"]) == (12000, 500)
    changed, _output = run("rds", rds_allocated_storage=400, rds_max_allocated_storage=0, **network)
    assert changed == 0


def test_a_subnet_more_changes_nothing(cloud, run, database, network):
    ec2, rds = cloud.client("ec2"), cloud.client("rds")
    first = ec2.describe_subnets(SubnetIds=network["rds_subnet_ids"][:1])["Subnets"][0]
    more = ec2.create_subnet(VpcId=first["VpcId"], CidrBlock="172.31.240.0/24", AvailabilityZone=first["AvailabilityZone"])
    grown = [*network["rds_subnet_ids"], more["Subnet"]["SubnetId"]]

    def group():
        found = rds.describe_db_subnet_groups(DBSubnetGroupName="mlflow")["DBSubnetGroups"][0]["Subnets"]
        return sorted(subnet["SubnetIdentifier"] for subnet in found)

    before = group()
    # As the role network publishes them, and as somebody names them.
    given = {**network, "network_subnet_ids": grown, "rds_subnet_ids": "{{ network_subnet_ids }}"}
    changed, _output = run("rds", **given)
    assert (changed, group()) == (0, before)
    changed, _output = run("rds", mlflow_aws_subnet_ids=grown, **given)
    assert (changed, group()) == (1, sorted(grown))
    ec2.delete_subnet(SubnetId=more["Subnet"]["SubnetId"])


def test_the_parameter_groups_of_former_versions_go_with_the_database(cloud, run, network, database):
    rds = cloud.client("rds")
    for name, owner in (("mlflow-postgres15", "mlflow"), ("mlflow-postgres15-mine", "mlflow"), ("mlflow-postgres16", "other")):
        rds.create_db_parameter_group(
            DBParameterGroupName=name, DBParameterGroupFamily="postgres15", Description="x",
            Tags=[{"Key": "mlflow_aws_name", "Value": owner}],
        )
    run("rds", rds_state="absent", rds_destroy_data=True, **network)
    left = {group["DBParameterGroupName"] for group in rds.describe_db_parameter_groups()["DBParameterGroups"]}
    assert {name for name in left if name.startswith("mlflow")} == {"mlflow-postgres15-mine", "mlflow-postgres16"}


# -- instances -------------------------------------------------------------------------------------------------------


def test_a_type_that_an_instance_cannot_become_stops_nothing(cloud, run, tmp_path):
    """It is placed where its type can be had, and another type is refused while it runs."""
    ec2, iam = cloud.client("ec2", region="us-east-1"), cloud.client("iam")
    subnets = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]}
    iam.create_instance_profile(InstanceProfileName="fleet")
    given = {
        "mlflow_aws_name": "fleet",
        "mlflow_aws_region": "us-east-1",
        "ec2_subnet_ids": [subnets["us-east-1e"], subnets["us-east-1b"]],
        "ec2_security_group_ids": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
        "ec2_instance_profile": "fleet",
    }

    def instance():
        found = ec2.describe_instances(Filters=[{"Name": "tag:mlflow_aws_name", "Values": ["fleet"]}])["Reservations"]
        return found[0]["Instances"][0]

    _changed, output = run("ec2", ec2_instance_type="t3.small", arguments=["--check"], **given)
    assert "Would make the instance fleet-server-1: t3.small" in output
    run("ec2", ec2_instance_type="t3.small", **given)
    changed, _output = run("ec2", ec2_instance_type="t3.small", **given)
    assert changed == 0
    assert (instance()["State"]["Name"], instance()["Placement"]["AvailabilityZone"]) == ("running", "us-east-1b")
    _changed, output = run("ec2", ec2_instance_type="t4g.small", fails=True, **given)
    assert "It can't become t4g.small (mlflow_aws_instance_type, ec2_instance_type), which is for arm64" in output
    assert (instance()["State"]["Name"], instance()["InstanceType"]) == ("running", "t3.small")
    ec2.terminate_instances(InstanceIds=[instance()["InstanceId"]])


# -- what somebody else has put there --------------------------------------------------------------------------------


def test_tags_and_policies_of_others_stay_and_are_no_change(cloud, run, network, database):
    roles = ("network", "s3", "iam")
    run(*roles)
    ec2, s3, iam, rds = (cloud.client(service) for service in ("ec2", "s3", "iam", "rds"))
    tag = {"Key": "cost-centre", "Value": "7"}
    groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["mlflow-server", "mlflow-database"]}])
    ids = [group["GroupId"] for group in groups["SecurityGroups"]]
    ec2.create_tags(Resources=ids, Tags=[tag])
    s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": [*s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"], tag]})
    iam.tag_role(RoleName="mlflow-server", Tags=[tag])
    iam.tag_instance_profile(InstanceProfileName="mlflow-server", Tags=[tag])
    arns = [
        database()["DBInstanceArn"],
        rds.describe_db_parameter_groups(DBParameterGroupName="mlflow-postgres17")["DBParameterGroups"][0]["DBParameterGroupArn"],
        rds.describe_db_subnet_groups(DBSubnetGroupName="mlflow")["DBSubnetGroups"][0]["DBSubnetGroupArn"],
    ]
    for arn in arns:
        rds.add_tags_to_resource(ResourceName=arn, Tags=[tag])
    document = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ssm:*", "Resource": "*"}]}'
    policy = iam.create_policy(PolicyName="agent", PolicyDocument=document)["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="mlflow-server", PolicyArn=policy)

    changed, output = run(*roles, "rds", **network)
    assert changed == 0, output
    found = [
        *(group["Tags"] for group in ec2.describe_security_groups(GroupIds=ids)["SecurityGroups"]),
        s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"],
        iam.get_role(RoleName="mlflow-server")["Role"]["Tags"],
        iam.get_instance_profile(InstanceProfileName="mlflow-server")["InstanceProfile"]["Tags"],
        *(rds.list_tags_for_resource(ResourceName=arn)["TagList"] for arn in arns),
    ]
    assert all({"cost-centre", "mlflow_aws_name"} <= {tag["Key"] for tag in tags} for tags in found)

    def attached():
        return [one["PolicyArn"] for one in iam.list_attached_role_policies(RoleName="mlflow-server")["AttachedPolicies"]]

    assert attached() == [policy]
    # The word that the role has these and no others.
    changed, _output = run("iam", iam_bucket=BUCKET, iam_purge_managed_policies=True)
    assert (changed, attached()) == (1, [])
    changed, _output = run("iam", iam_bucket=BUCKET, iam_managed_policies=[policy])
    assert (changed, attached()) == (1, [policy])
    run("iam", iam_state="absent")
    assert iam.list_roles()["Roles"] == []


# -- who is asking ---------------------------------------------------------------------------------------------------


def test_a_profile_beside_keys_in_the_environment(run, tmp_path, cloud):
    key, secret = cloud.root
    config = tmp_path / "config"
    config.write_text(f"[profile research]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    others = {"AWS_ACCESS_KEY_ID": "AKIAOTHER", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "x"}
    others["AWS_CONFIG_FILE"] = str(config)
    run("iam", iam_state="absent", environment=others, mlflow_aws_profile="research", mlflow_aws_access_key=None,
        mlflow_aws_secret_key=None)


def test_keys_beside_a_profile_in_the_environment(run, tmp_path):
    config = tmp_path / "config"
    config.write_text("[profile other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = x\n")
    run("iam", iam_state="absent", environment={"AWS_PROFILE": "other", "AWS_CONFIG_FILE": str(config)})
