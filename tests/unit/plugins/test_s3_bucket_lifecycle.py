# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import boto3
import pytest
from plugin_support import REGION

BUCKET = "some-bucket"
UPLOADS = {"ID": "uploads", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}
OLD = {"ID": "old", "NoncurrentVersionExpiration": {"NoncurrentDays": 90}}


@pytest.fixture
def client(aws):
    client = boto3.client("s3", region_name=REGION)
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    return client


def rules_of(client):
    try:
        return {rule["ID"]: rule for rule in client.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]}
    except client.exceptions.ClientError as e:
        assert e.response["Error"]["Code"] == "NoSuchLifecycleConfiguration"
        return {}


def test_ladder(module, client):
    missing = module("s3_bucket_lifecycle", rules=[UPLOADS])
    assert missing["failed"] and "name" in missing["msg"]

    planned = module("s3_bucket_lifecycle", name=BUCKET, rules=[UPLOADS], check_mode=True)
    assert planned["changed"] and rules_of(client) == {}
    assert planned["diff"]["before"] == {"rules": {}}
    assert list(planned["diff"]["after"]["rules"]) == ["uploads"]

    made = module("s3_bucket_lifecycle", name=BUCKET, rules=[UPLOADS])
    assert made["changed"] and set(rules_of(client)) == {"uploads"}
    assert rules_of(client)["uploads"]["Status"] == "Enabled"

    again = module("s3_bucket_lifecycle", name=BUCKET, rules=[UPLOADS])
    assert not again["changed"]

    more = module("s3_bucket_lifecycle", name=BUCKET, rules=[OLD], purge_rules=False)
    assert more["changed"] and set(rules_of(client)) == {"uploads", "old"}

    purged = module("s3_bucket_lifecycle", name=BUCKET, rules=[OLD])
    assert purged["changed"] and set(rules_of(client)) == {"old"}

    one_gone = module("s3_bucket_lifecycle", name=BUCKET, rules=[UPLOADS], state="absent")
    assert not one_gone["changed"]

    gone = module("s3_bucket_lifecycle", name=BUCKET, state="absent")
    assert gone["changed"] and rules_of(client) == {}
    assert not module("s3_bucket_lifecycle", name=BUCKET, state="absent")["changed"]


def test_a_rule_changes(module, client):
    module("s3_bucket_lifecycle", name=BUCKET, rules=[OLD])
    changed = module(
        "s3_bucket_lifecycle", name=BUCKET, rules=[{"ID": "old", "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}]
    )
    assert changed["changed"]
    assert rules_of(client)["old"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30


def test_rules_need_ids(module, client):
    answer = module("s3_bucket_lifecycle", name=BUCKET, rules=[{"Status": "Enabled"}])
    assert answer["failed"] and "ID" in answer["msg"]


def test_a_bucket_that_is_not_there(module, aws):
    assert module("s3_bucket_lifecycle", name="nobodys", rules=[OLD], check_mode=True)["changed"]
    answer = module("s3_bucket_lifecycle", name="nobodys", rules=[OLD])
    assert answer["failed"] and "There is no bucket nobodys" in answer["msg"]
    assert not module("s3_bucket_lifecycle", name="nobodys", state="absent")["changed"]
