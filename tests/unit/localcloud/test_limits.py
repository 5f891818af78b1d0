# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Values that AWS refuses and moto takes: the local cloud refuses them too, asked by boto3 as a client of AWS would."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cloud import REGION, Cloud  # noqa: E402


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
        return rds.describe_db_instances(DBInstanceIdentifier="limits")["DBInstances"][0]

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
