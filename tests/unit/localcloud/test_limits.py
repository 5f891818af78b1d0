# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Values that AWS refuses and moto takes: the local cloud refuses them too, asked by boto3 as a client of AWS would."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from moto.rds.models import rds_backends

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cloud import REGION, Cloud  # noqa: E402

from localcloud.api import rds as rds_of_cloud  # noqa: E402
from localcloud.api import secrets_manager  # noqa: E402
from localcloud.api.identity import ACCOUNT  # noqa: E402
from localcloud.api.rds_catalogue import class_memory  # noqa: E402


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    found = Cloud(tmp_path_factory.mktemp("cloud"), parts=True)
    yield found
    found.api.stop()


def refusal(call, **arguments) -> tuple[str, str]:
    """Code and message of what must be refused."""
    with pytest.raises(ClientError) as e:
        call(**arguments)
    return e.value.response["Error"]["Code"], e.value.response["Error"]["Message"]


# -- S3 --------------------------------------------------------------------------------------------------------------


def noncurrent(transition: int, expiration: int, storage_class: str = "STANDARD_IA") -> dict:
    return {
        "NoncurrentVersionTransitions": [{"NoncurrentDays": transition, "StorageClass": storage_class}],
        "NoncurrentVersionExpiration": {"NoncurrentDays": expiration},
    }


def current(transition: int, expiration: int) -> dict:
    return {"Transitions": [{"Days": transition, "StorageClass": "STANDARD_IA"}], "Expiration": {"Days": expiration}}


@pytest.mark.parametrize(
    "rule, why",
    [
        (noncurrent(29, 90), "greater than or equal to 30"),
        (noncurrent(30, 30), "must be greater than"),
        (current(29, 90), "greater than or equal to 30"),
        (current(30, 30), "must be greater than"),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 0}}, "positive integer"),
        ({"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 0}}, "positive integer"),
        (noncurrent(30, 31), None),
        (noncurrent(0, 1, "GLACIER_IR"), None),
        (current(30, 31), None),
    ],
)
def test_days_of_a_life_cycle(cloud, rule, why):
    s3 = cloud.client("s3")
    name = "days"
    if name not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    rules = {"Rules": [{"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}, **rule}]}
    if why is None:
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=rules)
    else:
        code, message = refusal(s3.put_bucket_lifecycle_configuration, Bucket=name, LifecycleConfiguration=rules)
        assert (code, why in message) == ("InvalidArgument", True), message


# -- RDS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(cloud):
    """A new database; answers with what RDS says of it now."""
    rds = cloud.client("rds")
    rds.create_db_instance(
        DBInstanceIdentifier="limits", Engine="postgres", EngineVersion="17", DBInstanceClass="db.t4g.small",
        MasterUsername="mladmin", MasterUserPassword="correct-horse-42", AllocatedStorage=100, StorageType="gp3",
    )

    def look():
        found = rds.describe_db_instances(DBInstanceIdentifier="limits")["DBInstances"][0]
        del found["LatestRestorableTime"]
        return found

    yield look
    rds.delete_db_instance(DBInstanceIdentifier="limits", SkipFinalSnapshot=True)


def test_a_stopped_database_is_not_changed(cloud, database):
    rds = cloud.client("rds")
    rds.stop_db_instance(DBInstanceIdentifier="limits")
    code, _message = refusal(rds.modify_db_instance, DBInstanceIdentifier="limits", BackupRetentionPeriod=3)
    assert code == "InvalidDBInstanceState"
    rds.start_db_instance(DBInstanceIdentifier="limits")
    rds.modify_db_instance(DBInstanceIdentifier="limits", BackupRetentionPeriod=3)
    assert database()["BackupRetentionPeriod"] == 3


@pytest.mark.parametrize(
    "change, why",
    [
        ({"EngineVersion": "17.4"}, "Cannot upgrade postgres from 17.6 to 17.4"),
        ({"EngineVersion": "17.99"}, "Cannot find version 17.99"),
        ({"AllocatedStorage": 109}, "at least 10%"),
        ({"MaxAllocatedStorage": 109}, "at least 10%"),
        ({"AllocatedStorage": 200, "Iops": 4000}, "less than 400"),
        ({"AllocatedStorage": 200, "StorageThroughput": 200}, "less than 400"),
        ({"AllocatedStorage": 400, "Iops": 11999}, "12000"),
        ({"AllocatedStorage": 400, "Iops": 12000, "StorageThroughput": 499}, "500"),
    ],
)
def test_a_change_that_rds_refuses(cloud, database, change, why):
    rds = cloud.client("rds")
    before = database()
    code, message = refusal(rds.modify_db_instance, DBInstanceIdentifier="limits", ApplyImmediately=True, **change)
    assert (code, why in message) == ("InvalidParameterCombination", True), message
    assert database() == before


def test_a_version_is_a_whole_one_and_is_raised(cloud, database):
    rds = cloud.client("rds")
    assert database()["EngineVersion"] == "17.6"
    rds.modify_db_instance(DBInstanceIdentifier="limits", EngineVersion="17", ApplyImmediately=True)
    assert database()["EngineVersion"] == "17.6" and not database().get("PendingModifiedValues")


def test_storage_grows_and_stops_growing(cloud, database):
    rds = cloud.client("rds")
    rds.modify_db_instance(DBInstanceIdentifier="limits", MaxAllocatedStorage=110)
    assert database()["MaxAllocatedStorage"] == 110
    rds.modify_db_instance(DBInstanceIdentifier="limits", MaxAllocatedStorage=100)
    assert "MaxAllocatedStorage" not in database()
    rds.modify_db_instance(DBInstanceIdentifier="limits", AllocatedStorage=400, ApplyImmediately=True)
    found = database()
    assert (found["AllocatedStorage"], found["Iops"], found["StorageThroughput"]) == (400, 12000, 500)


@pytest.mark.parametrize("name, fewest, most", [
    ("db.t4g.micro", 80, 90), ("db.t4g.small", 190, 200), ("db.t4g.medium", 405, 420), ("db.m7g.large", 850, 860),
])  # fmt: skip
def test_postgresql_has_less_than_the_memory_of_its_class(name, fewest, most):
    """Measured on AWS: https://gist.github.com/guizmaii/1cacffef793c2ba9645083c3e18b3d8c"""
    assert fewest <= class_memory(name) // 9531392 <= most


def test_storage_that_has_grown_is_optimized_for_a_while(cloud, database, monkeypatch):
    monkeypatch.setattr(rds_of_cloud, "storage_optimization_seconds", 2.0)
    rds = cloud.client("rds")
    rds.modify_db_instance(DBInstanceIdentifier="limits", AllocatedStorage=200, ApplyImmediately=True)
    assert database()["DBInstanceStatus"] == "storage-optimization"
    refusal(rds.modify_db_instance, DBInstanceIdentifier="limits", AllocatedStorage=300, ApplyImmediately=True)
    rds.modify_db_instance(DBInstanceIdentifier="limits", MasterUserPassword="another-horse-42", ApplyImmediately=True)
    assert database()["DBInstanceStatus"] == "storage-optimization"
    time.sleep(2.1)
    assert database()["DBInstanceStatus"] == "available"


def test_the_first_database_of_an_account_has_rds_make_its_role(cloud, monkeypatch):
    monkeypatch.delattr(rds_backends[ACCOUNT]["us-east-1"], "lc_linked_role", raising=False)
    iam, by = cloud.client("iam"), {}
    for name, actions in (("poor", ["rds:*", "ec2:*"]), ("rich", ["rds:*", "ec2:*", "iam:CreateServiceLinkedRole"])):
        iam.create_user(UserName=name)
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        iam.put_user_policy(UserName=name, PolicyName="x", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        by[name] = cloud.client("rds", (key["AccessKeyId"], key["SecretAccessKey"]))
    wanted = {
        "Engine": "postgres", "DBInstanceClass": "db.t4g.small", "MasterUsername": "mladmin", "AllocatedStorage": 20,
        "MasterUserPassword": "correct-horse-42",
    }  # fmt: skip
    _code, message = refusal(by["poor"].create_db_instance, DBInstanceIdentifier="first", **wanted)
    assert "service linked role" in message
    by["rich"].create_db_instance(DBInstanceIdentifier="first", **wanted)
    by["poor"].create_db_instance(DBInstanceIdentifier="second", **wanted)
    for name in ("first", "second"):
        by["rich"].delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)


# -- Secrets Manager -------------------------------------------------------------------------------------------------


def test_a_secret_that_was_deleted_for_good_keeps_its_name_for_a_while(cloud, monkeypatch):
    monkeypatch.setattr(secrets_manager, "lingering_seconds", 1.0)
    client = cloud.client("secretsmanager")
    client.create_secret(Name="lingers", SecretString="{}")
    client.delete_secret(SecretId="lingers", ForceDeleteWithoutRecovery=True)
    code, _message = refusal(client.create_secret, Name="lingers", SecretString="{}")
    assert code == "InvalidRequestException"
    client.create_secret(Name="another", SecretString="{}")
    time.sleep(1.1)
    client.create_secret(Name="lingers", SecretString="{}")


# -- EC2 -------------------------------------------------------------------------------------------------------------

IMAGE = "ami-0de6131300000001"


def test_a_type_for_other_processors(cloud):
    ec2 = cloud.client("ec2")
    code, _message = refusal(ec2.run_instances, ImageId=IMAGE, MinCount=1, MaxCount=1, InstanceType="t4g.small")
    assert code == "InvalidParameterValue"
    name = ec2.run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1, InstanceType="t3.small")["Instances"][0]["InstanceId"]
    ec2.stop_instances(InstanceIds=[name])
    code, _message = refusal(ec2.modify_instance_attribute, InstanceId=name, InstanceType={"Value": "t4g.small"})
    assert code == "InvalidParameterValue"
    ec2.modify_instance_attribute(InstanceId=name, InstanceType={"Value": "t3.medium"})
    ec2.terminate_instances(InstanceIds=[name])


def test_a_zone_without_the_type(cloud):
    ec2 = cloud.client("ec2", region="us-east-1")
    subnets = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]}
    wanted = {"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.small"}
    code, message = refusal(ec2.run_instances, SubnetId=subnets["us-east-1e"], **wanted)
    assert code == "Unsupported" and "us-east-1a" in message
    (made,) = ec2.run_instances(SubnetId=subnets["us-east-1a"], **wanted)["Instances"]
    ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
