# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The AWS API of the local cloud, asked by boto3 as a client of AWS would."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from cloud import REGION, Cloud  # noqa: E402

from localcloud.config import Config  # noqa: E402
from localcloud.errors import LocalCloudError  # noqa: E402

IMAGE = "ami-0de6131300000001"
PASSWORD = "correct-horse-42"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    found = Cloud(tmp_path_factory.mktemp("cloud"))
    yield found
    found.api.stop()


def code(error) -> str:
    return error.value.response["Error"]["Code"]


def run_instance(cloud, **kwargs):
    return cloud.client("ec2").run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1, InstanceType="t3.micro", **kwargs)[
        "Instances"
    ][0]


def a_role(cloud, name, document=None):
    iam = cloud.client("iam")
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"},
                            "Action": "sts:AssumeRole"}]}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    if document:
        iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=json.dumps(document))


def create_database(cloud, name, **kwargs):
    values = dict(DBInstanceIdentifier=name, Engine="postgres", EngineVersion="17", DBInstanceClass="db.t4g.small",
                  MasterUsername="mladmin", MasterUserPassword=PASSWORD, AllocatedStorage=20)
    values.update(kwargs)
    return cloud.client("rds").create_db_instance(**values)["DBInstance"]


# -- credentials ---------------------------------------------------------------------------------------------------


def test_root_credentials_are_private_and_name_the_root(cloud):
    assert cloud.config.credentials_file.stat().st_mode & 0o777 == 0o600
    assert cloud.client("sts").get_caller_identity()["Arn"] == "arn:aws:iam::123456789012:root"


def test_unknown_key_and_wrong_secret_are_refused(cloud):
    key, _ = cloud.root
    for service, call, unknown, wrong in (
        ("s3", "list_buckets", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
        ("iam", "list_users", "InvalidClientTokenId", "SignatureDoesNotMatch"),
        ("ec2", "describe_vpcs", "AuthFailure", "AuthFailure"),
    ):
        with pytest.raises(ClientError) as e:
            getattr(cloud.client(service, ("AKIANOBODY", "x")), call)()
        assert code(e) == unknown
        with pytest.raises(ClientError) as e:
            getattr(cloud.client(service, (key, "x")), call)()
        assert code(e) == wrong


def test_certificate_authority_key_is_private(cloud):
    assert (cloud.config.cloud_dir / "pki" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert cloud.config.ca_file.stat().st_mode & 0o777 == 0o644


# -- S3 ------------------------------------------------------------------------------------------------------------


def test_objects_round_trip_with_ranges_and_names(cloud):
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="round", CreateBucketConfiguration={"LocationConstraint": REGION})
    body = os.urandom(3_000_000)
    for key in ("plain", "a b/c+d%2F&ü=.txt"):
        put = s3.put_object(Bucket="round", Key=key, Body=body, Metadata={"kind": "test"})
        got = s3.get_object(Bucket="round", Key=key)
        assert got["Body"].read() == body
        assert got["ETag"] == put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        assert got["Metadata"] == {"kind": "test"}
        assert s3.get_object(Bucket="round", Key=key, Range="bytes=5-99999")["Body"].read() == body[5:100000]
        assert s3.get_object(Bucket="round", Key=key, Range="bytes=-7")["Body"].read() == body[-7:]
        assert s3.head_object(Bucket="round", Key=key)["ContentLength"] == len(body)
    s3.copy_object(Bucket="round", Key="copy", CopySource={"Bucket": "round", "Key": "plain"})
    s3.delete_object(Bucket="round", Key="plain")
    assert s3.get_object(Bucket="round", Key="copy")["Body"].read() == body


def test_multipart_upload_keeps_its_content(cloud):
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="multi", CreateBucketConfiguration={"LocationConstraint": REGION})
    parts = [os.urandom(5 << 20), os.urandom(1000)]
    upload = s3.create_multipart_upload(Bucket="multi", Key="m")["UploadId"]
    etags = [
        {"PartNumber": n, "ETag": s3.upload_part(Bucket="multi", Key="m", UploadId=upload, PartNumber=n, Body=p)["ETag"]}
        for n, p in enumerate(parts, 1)
    ]
    s3.complete_multipart_upload(Bucket="multi", Key="m", UploadId=upload, MultipartUpload={"Parts": etags})
    assert s3.get_object(Bucket="multi", Key="m")["Body"].read() == b"".join(parts)
    assert s3.get_object(Bucket="multi", Key="m", Range=f"bytes={(5 << 20) - 2}-{(5 << 20) + 1}")["Body"].read() == (
        parts[0][-2:] + parts[1][:2])


@pytest.mark.parametrize(
    "upload, parts, code",
    [
        ("no-such-upload", [{"PartNumber": 1, "ETag": "x"}], "NoSuchUpload"),
        # No XML could name it.
        ("\x84<\x0b&\U0010b3a1", [{"PartNumber": 1, "ETag": "x"}], "NoSuchUpload"),
        (None, [{"PartNumber": 1, "ETag": ""}], "MalformedXML"),
        (None, [{"PartNumber": 1, "ETag": "\"x\""}], "InvalidPart"),
    ],
)
def test_an_upload_that_can_not_be_completed_is_refused_as_s3_does(cloud, upload, parts, code):
    s3 = cloud.client("s3")
    bucket = f"refused-{code.lower()}-{len(upload or '')}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    known = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    with pytest.raises(ClientError) as refused:
        s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload or known, MultipartUpload={"Parts": parts})
    assert refused.value.response["Error"]["Code"] == code


@pytest.mark.parametrize("upload", ["no-such-upload", "\x84<\x0b&\U0010b3a1"])
def test_an_upload_that_is_not_there_can_not_be_ended(cloud, upload):
    s3 = cloud.client("s3")
    bucket = f"ended-{len(upload)}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    with pytest.raises(ClientError) as refused:
        s3.abort_multipart_upload(Bucket=bucket, Key="m", UploadId=upload)
    assert refused.value.response["Error"]["Code"] == "NoSuchUpload"


def test_a_folder_goes_with_the_last_object_in_it(cloud):
    """Also where the bucket keeps versions, and until one comes back."""
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="folders", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket="folders", VersioningConfiguration={"Status": "Enabled"})
    for key in ("a/one/x", "a/two/x", "b/x"):
        s3.put_object(Bucket="folders", Key=key, Body=b"x")
    marker = s3.delete_object(Bucket="folders", Key="a/one/x")["VersionId"]
    s3.delete_object(Bucket="folders", Key="b/x")

    def folders(lists, prefix):
        found = lists(Bucket="folders", Prefix=prefix, Delimiter="/")
        assert "Contents" not in found
        return [one["Prefix"] for one in found.get("CommonPrefixes", [])]

    for lists in (s3.list_objects_v2, s3.list_objects):
        assert folders(lists, "a/") == ["a/two/"] and folders(lists, "") == ["a/"]
    assert len(s3.list_object_versions(Bucket="folders")["Versions"]) == 3
    s3.delete_object(Bucket="folders", Key="a/one/x", VersionId=marker)
    assert folders(s3.list_objects_v2, "a/") == ["a/one/", "a/two/"]


def test_files_of_deleted_objects_are_removed(cloud):
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="gone", CreateBucketConfiguration={"LocationConstraint": REGION})
    folder = cloud.config.state_dir / "objects"
    before = sum(1 for p in folder.rglob("*") if p.is_file())
    s3.put_object(Bucket="gone", Key="k", Body=b"x" * 100)
    assert sum(1 for p in folder.rglob("*") if p.is_file()) == before + 1
    s3.delete_object(Bucket="gone", Key="k")
    s3.put_bucket_versioning(Bucket="gone", VersioningConfiguration={"Status": "Suspended"})
    assert sum(1 for p in folder.rglob("*") if p.is_file()) == before


def test_presigned_urls_work_and_are_checked(cloud):
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="signed", CreateBucketConfiguration={"LocationConstraint": REGION})
    import ssl

    context = ssl.create_default_context(cafile=str(cloud.config.ca_file))
    url = s3.generate_presigned_url("put_object", Params={"Bucket": "signed", "Key": "k y"})
    request = urllib.request.Request(url, data=b"presigned", method="PUT")
    assert urllib.request.urlopen(request, context=context).status == 200
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "signed", "Key": "k y"})
    assert urllib.request.urlopen(url, context=context).read() == b"presigned"
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(url.replace("k%20y", "other"), context=context)
    assert e.value.code == 403 and b"SignatureDoesNotMatch" in e.value.read()
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(url.partition("?")[0], context=context)
    assert e.value.code == 403


def test_tls_only_policy_denies_plain_http_alone(cloud):
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="tls", CreateBucketConfiguration={"LocationConstraint": REGION})
    policy = {"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*",
                             "Resource": ["arn:aws:s3:::tls", "arn:aws:s3:::tls/*"],
                             "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}
    s3.put_bucket_policy(Bucket="tls", Policy=json.dumps(policy))
    s3.put_object(Bucket="tls", Key="k", Body=b"x")
    plain = cloud.client("s3", plain=True)
    for call in (lambda: plain.put_object(Bucket="tls", Key="k", Body=b"x"),
                 lambda: plain.get_object(Bucket="tls", Key="k"), lambda: plain.list_objects_v2(Bucket="tls")):
        with pytest.raises(ClientError) as e:
            call()
        assert code(e) == "AccessDenied"


@pytest.mark.parametrize("change", [
    {"Condition": {"StringEquals": {"aws:SourceVpce": "vpce-1"}}},
    {"Condition": {"DateLessThan": {"aws:SecureTransport": "x"}}},
    {"NotPrincipal": {"AWS": "*"}},
])
def test_policies_that_cannot_be_enforced_are_refused(cloud, change):
    s3 = cloud.client("s3")
    try:
        s3.create_bucket(Bucket="refuse", CreateBucketConfiguration={"LocationConstraint": REGION})
    except s3.exceptions.BucketAlreadyOwnedByYou:
        pass
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::refuse/*"}
    statement.update(change)
    with pytest.raises(ClientError) as e:
        s3.put_bucket_policy(Bucket="refuse", Policy=json.dumps({"Statement": [statement]}))
    assert code(e) == "MalformedPolicy"


def test_a_slow_upload_holds_nobody_up(cloud):
    trusting = ssl.create_default_context(cafile=str(cloud.config.ca_file))
    connection = http.client.HTTPSConnection("127.0.0.1", cloud.api.ports[0], context=trusting)
    connection.putrequest("PUT", "/nobody/slow")
    connection.putheader("Content-Length", "1000000")
    connection.putheader("Authorization", "AWS4-HMAC-SHA256 Credential=A/20260101/eu-central-1/s3/aws4_request, "
                         "SignedHeaders=host, Signature=x")
    connection.putheader("x-amz-date", "20260101T000000Z")
    connection.endheaders()
    connection.send(b"x" * 10)
    began = time.monotonic()
    cloud.client("s3").list_buckets()
    assert time.monotonic() - began < 2
    connection.close()


def test_whoever_connects_and_says_nothing_holds_nobody_up(cloud):
    """As a host whose packets are lost from one moment on."""
    silent = [socket.create_connection(("127.0.0.1", cloud.api.ports[0])) for _ in range(5)]
    try:
        began = time.monotonic()
        cloud.client("sts").get_caller_identity()
        cloud.client("s3").list_buckets()
        assert time.monotonic() - began < 2
        # Nor does who says what is no TLS; the connection is ended, and nothing else.
        silent[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
        silent[0].settimeout(5)
        assert b"HTTP/1.1 200" not in silent[0].recv(1000)
        cloud.client("s3").list_buckets()
    finally:
        for connection in silent:
            connection.close()


# -- roles and metadata --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine(cloud):
    """A running instance with a role, at 127.0.0.1 as far as the metadata service can tell."""
    s3 = cloud.client("s3")
    for bucket in ("art", "other"):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="art", Key="in/x", Body=b"1")
    a_role(cloud, "server", {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::art/in/*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::art",
         "Condition": {"StringLike": {"s3:prefix": ["in/*", "in/"]}}},
    ]})
    cloud.client("ec2").import_key_pair(KeyName="mine", PublicKeyMaterial=b"ssh-ed25519 "
                                        b"AAAAC3NzaC1lZDI1NTE5AAAAIMTQBp7KZWoA9mX8GnlSBkWB0pdtX7s56usEUYIYWylq me")
    instance = run_instance(cloud, KeyName="mine", IamInstanceProfile={"Name": "server"}, UserData="#!/bin/sh\ntrue\n",
                            MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
                            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "one"}]}])
    from localcloud.api import ec2

    nic = ec2.find_instance(instance["InstanceId"]).nics[0]
    address, nic.private_ip_address = nic.private_ip_address, "127.0.0.1"
    yield instance
    nic.private_ip_address = address


def token(cloud):
    return cloud.metadata("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")[1]


def test_metadata_wants_a_token_and_knows_its_caller(cloud, machine):
    def written():
        return {file: file.stat().st_mtime_ns for file in cloud.config.state_dir.rglob("*")}

    before = written()
    assert cloud.metadata("/latest/meta-data/instance-id")[0] == 401
    headers = {"X-aws-ec2-metadata-token": token(cloud)}
    assert cloud.metadata("/latest/meta-data/instance-id", headers) == (200, machine["InstanceId"])
    assert cloud.metadata("/latest/meta-data/placement/region", headers) == (200, REGION)
    assert cloud.metadata("/latest/user-data", headers) == (200, "#!/bin/sh\ntrue\n")
    assert cloud.metadata("/latest/meta-data/public-keys/0/openssh-key", headers)[1].startswith("ssh-ed25519 AAAA")
    assert json.loads(cloud.metadata("/latest/dynamic/instance-identity/document", headers)[1])["region"] == REGION
    assert cloud.metadata("/latest/meta-data/public-keys/", headers) == (200, "0=mine")
    assert "instance-id" in cloud.metadata("/latest/meta-data/", headers)[1].splitlines()
    assert cloud.metadata("/latest/meta-data/nothing", headers)[0] == 404
    assert cloud.metadata("/latest/meta-data/instance-id", headers, source="127.0.0.2")[0] == 404
    assert cloud.metadata("/latest/api/token", {}, "PUT")[0] == 400
    # Machines ask all the time, and nothing is written to the disk for that.
    assert written() == before != {}


def test_a_token_of_the_metadata_is_for_its_instance_and_its_time(cloud, machine, monkeypatch):
    from localcloud.api import ec2

    wanted = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    # Whoever asks through a proxy of the instance gets none.
    assert cloud.metadata("/latest/api/token", {**wanted, "X-Forwarded-For": "203.0.113.7"}, "PUT")[0] == 403
    headers = {"X-aws-ec2-metadata-token": token(cloud)}
    # Whoever else on it asks for one takes this one away from nobody.
    assert token(cloud) != headers["X-aws-ec2-metadata-token"]
    assert cloud.metadata("/latest/meta-data/instance-id", headers)[0] == 200
    assert cloud.metadata("/latest/meta-data/instance-id", {"X-aws-ec2-metadata-token": "of nobody"})[0] == 401
    other = run_instance(cloud)
    nic = ec2.find_instance(other["InstanceId"]).nics[0]
    monkeypatch.setattr(nic, "private_ip_address", "127.0.0.3")
    assert cloud.metadata("/latest/meta-data/instance-id", headers, source="127.0.0.3")[0] == 401
    now = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr("localcloud.api.imds.time.monotonic", lambda: now + 61)
        assert cloud.metadata("/latest/meta-data/instance-id", headers)[0] == 401


def test_instance_role_may_do_what_its_policy_says(cloud, machine):
    headers = {"X-aws-ec2-metadata-token": token(cloud)}
    assert cloud.metadata("/latest/meta-data/iam/security-credentials/", headers) == (200, "server")
    found = json.loads(cloud.metadata("/latest/meta-data/iam/security-credentials/server", headers)[1])
    keys = (found["AccessKeyId"], found["SecretAccessKey"], found["Token"])
    assert cloud.client("sts", keys).get_caller_identity()["Arn"] == (
        f"arn:aws:sts::123456789012:assumed-role/server/{machine['InstanceId']}")
    s3 = cloud.client("s3", keys)
    s3.put_object(Bucket="art", Key="in/y", Body=b"2")
    assert s3.get_object(Bucket="art", Key="in/x")["Body"].read() == b"1"
    assert len(s3.list_objects_v2(Bucket="art", Prefix="in/")["Contents"]) == 2
    for call in (
        lambda: s3.put_object(Bucket="art", Key="out/y", Body=b""),
        lambda: s3.delete_object(Bucket="art", Key="in/x"),
        lambda: s3.delete_bucket(Bucket="art"),
        lambda: s3.list_objects_v2(Bucket="art"),
        lambda: s3.list_objects_v2(Bucket="other", Prefix="in/"),
        lambda: s3.list_buckets(),
        lambda: s3.get_object(Bucket="art", Key="in/missing"),
    ):
        with pytest.raises(ClientError) as e:
            call()
        assert code(e) == "AccessDenied"
    denied = s3.delete_objects(Bucket="art", Delete={"Objects": [{"Key": "in/x"}]})
    assert [(d["Key"], d["Code"]) for d in denied["Errors"]] == [("in/x", "AccessDenied")]
    with pytest.raises(ClientError) as e:
        cloud.client("ec2", keys).describe_instances()
    assert code(e) == "UnauthorizedOperation"
    with pytest.raises(ClientError) as e:
        cloud.client("secretsmanager", keys).get_secret_value(SecretId="x")
    assert code(e) == "AccessDeniedException"
    with pytest.raises(ClientError) as e:
        cloud.client("s3", keys[:2] + ("wrong",)).list_buckets()
    assert code(e) == "InvalidToken"
    with pytest.raises(ClientError) as e:
        cloud.client("s3", keys[:2]).list_buckets()
    assert code(e) == "InvalidToken"


def test_users_get_their_policies(cloud):
    iam = cloud.client("iam")
    iam.create_user(UserName="ann")
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    ann = (key["AccessKeyId"], key["SecretAccessKey"])
    with pytest.raises(ClientError) as e:
        cloud.client("iam", ann).list_users()
    assert code(e) == "AccessDenied"
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"},
                              {"Effect": "Deny", "Action": "iam:Delete*", "Resource": "*"}]}
    arn = iam.create_policy(PolicyName="most", PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    iam.attach_user_policy(UserName="ann", PolicyArn=arn)
    assert cloud.client("iam", ann).list_users()["Users"]
    with pytest.raises(ClientError) as e:
        cloud.client("iam", ann).delete_user(UserName="ann")
    assert code(e) == "AccessDenied"
    # A key that is deactivated is nobody's, until it is activated again.
    for status in ("Inactive", "Active"):
        iam.update_access_key(UserName="ann", AccessKeyId=ann[0], Status=status)
        if status == "Active":
            assert cloud.client("iam", ann).list_users()["Users"]
            continue
        with pytest.raises(ClientError) as e:
            cloud.client("iam", ann).list_users()
        assert code(e) == "InvalidClientTokenId"


# -- EC2 -----------------------------------------------------------------------------------------------------------


def test_instance_goes_through_its_states_as_the_parts_report(cloud):
    ec2 = cloud.client("ec2")
    events = []
    cloud.api.on_change(lambda: events.append(1))
    instance_id = run_instance(cloud)["InstanceId"]
    assert events

    def state():
        return ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]["State"]["Name"]

    assert state() == "pending"
    threading.Timer(0.2, lambda: cloud.api.instance_state(instance_id, "running")).start()
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    statuses = ec2.describe_instance_status(InstanceIds=[instance_id])["InstanceStatuses"]
    assert statuses[0]["InstanceStatus"]["Status"] == "ok"
    ec2.reboot_instances(InstanceIds=[instance_id])
    assert next(i for i in cloud.api.desired().instances if i.instance_id == instance_id).reboots == 1
    ec2.stop_instances(InstanceIds=[instance_id])
    assert state() == "stopping"
    cloud.api.instance_state(instance_id, "running")  # a late report changes nothing
    assert state() == "stopping"
    cloud.api.instance_state(instance_id, "stopped")
    ec2.start_instances(InstanceIds=[instance_id])
    assert state() == "pending"
    ec2.terminate_instances(InstanceIds=[instance_id])
    assert state() == "shutting-down"
    assert instance_id in [i.instance_id for i in cloud.api.desired().instances]
    cloud.api.instance_state(instance_id, "terminated")
    assert state() == "terminated"
    assert instance_id not in [i.instance_id for i in cloud.api.desired().instances]


def test_failed_instance_says_why(cloud):
    instance_id = run_instance(cloud)["InstanceId"]
    cloud.api.instance_state(instance_id, "terminated", "ssh never answered")
    found = cloud.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    assert found["State"]["Name"] == "terminated"
    assert "ssh never answered" in found["StateReason"]["Message"]


def test_addresses_are_unique_and_not_reserved(cloud):
    made = [run_instance(cloud)["PrivateIpAddress"] for _ in range(4)]
    create_database(cloud, "addr")
    addresses = [i.private_ip for i in cloud.api.desired().instances] + [d.private_ip for d in
                                                                        cloud.api.desired().databases]
    assert len(set(addresses)) == len(addresses)
    assert all(a.startswith("172.31.") and int(a.rsplit(".", 1)[1]) >= 4 for a in made)
    taken = next(d.private_ip for d in cloud.api.desired().databases if d.identifier == "addr")
    with pytest.raises(ClientError) as e:
        run_instance(cloud, PrivateIpAddress=taken)
    assert code(e) == "InvalidIPAddress.InUse"


def test_root_volume_is_what_was_asked(cloud):
    instance = run_instance(cloud, BlockDeviceMappings=[
        {"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "VolumeType": "gp3", "VolumeSize": 30}}])
    assert instance["RootDeviceName"] == "/dev/xvda" and "PublicIpAddress" not in instance
    ec2 = cloud.client("ec2")
    volumes = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id",
                                             "Values": [instance["InstanceId"]]}])["Volumes"]
    assert [(v["Encrypted"], v["VolumeType"], v["Size"]) for v in volumes] == [(True, "gp3", 30)]


@pytest.mark.parametrize("change, wanted", [
    ({"ImageId": "ami-12345678"}, "InvalidAMIID.NotFound"),
    ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
    ({"NetworkInterfaces": [{"DeviceIndex": 0, "AssociatePublicIpAddress": True}]}, "UnsupportedOperation"),
])
def test_instances_that_cannot_be_had_are_refused(cloud, change, wanted):
    values = {"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1}
    values.update(change)
    with pytest.raises(ClientError) as e:
        cloud.client("ec2").run_instances(**values)
    assert code(e) == wanted


def test_second_region_with_the_same_range_is_refused(cloud):
    run_instance(cloud)
    with pytest.raises(ClientError) as e:
        cloud.client("ec2", region="eu-west-1").run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1)
    assert code(e) == "UnsupportedOperation" and "overlaps" in str(e.value)


def test_security_group_in_use_stays(cloud):
    ec2 = cloud.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    first = ec2.create_security_group(GroupName="one", Description="d", VpcId=vpc)["GroupId"]
    second = ec2.create_security_group(GroupName="two", Description="d", VpcId=vpc)["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=second, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": first}]}])
    instance_id = run_instance(cloud, SecurityGroupIds=[second])["InstanceId"]
    wanted = next(g for g in cloud.api.desired().security_groups if g.group_id == second)
    assert [(r.protocol, r.from_port, r.to_port, r.group_ids) for r in wanted.ingress] == [
        ("tcp", 5432, 5432, (first,))]
    assert wanted.egress[0].cidrs == ("0.0.0.0/0",)
    for group in (first, second):
        with pytest.raises(ClientError) as e:
            ec2.delete_security_group(GroupId=group)
        assert code(e) == "DependencyViolation"
    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.api.instance_state(instance_id, "terminated")
    ec2.delete_security_group(GroupId=second)
    ec2.delete_security_group(GroupId=first)


# -- RDS -----------------------------------------------------------------------------------------------------------


def database(cloud, name):
    return cloud.client("rds").describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]


def wanted_database(cloud, name):
    return next(d for d in cloud.api.desired().databases if d.identifier == name)


def test_database_life(cloud):
    rds = cloud.client("rds")
    created = create_database(cloud, "life", DBName="app", DeletionProtection=True)
    assert created["DBInstanceStatus"] == "creating" and "Endpoint" not in created
    wanted = wanted_database(cloud, "life")
    assert (wanted.engine_version, wanted.master_password, wanted.dbname) == ("17.6", PASSWORD, "app")
    small = wanted.instance_class_memory
    cloud.api.database_status("life", "available", 0)
    assert database(cloud, "life")["Endpoint"]["Address"] == wanted.endpoint
    rds.modify_db_instance(DBInstanceIdentifier="life", MasterUserPassword="another-horse-43",
                           DBInstanceClass="db.t4g.medium", ApplyImmediately=True)
    found = database(cloud, "life")
    assert found["DBInstanceStatus"] == "modifying" and found["DBInstanceClass"] == "db.t4g.small"
    assert found["PendingModifiedValues"] == {"DBInstanceClass": "db.t4g.medium", "MasterUserPassword": "****"}
    cloud.api.database_status("life", "available", 0)  # from before the change
    assert database(cloud, "life")["DBInstanceStatus"] == "modifying"
    changed = wanted_database(cloud, "life")
    assert changed.master_password == "another-horse-43" and changed.instance_class_memory > 2 * small
    cloud.api.database_status("life", "available", changed.changes)
    found = database(cloud, "life")
    assert found["DBInstanceStatus"] == "available" and found["DBInstanceClass"] == "db.t4g.medium"
    assert not found.get("PendingModifiedValues")
    rds.modify_db_instance(DBInstanceIdentifier="life", DBInstanceClass="db.t4g.large", ApplyImmediately=False)
    found = database(cloud, "life")
    assert (found["DBInstanceStatus"], found["PendingModifiedValues"]) == (
        "available", {"DBInstanceClass": "db.t4g.large"})
    rds.reboot_db_instance(DBInstanceIdentifier="life")
    assert database(cloud, "life")["DBInstanceStatus"] == "rebooting"
    cloud.api.database_status("life", "available", wanted_database(cloud, "life").changes)
    with pytest.raises(ClientError) as e:
        rds.delete_db_instance(DBInstanceIdentifier="life", SkipFinalSnapshot=True)
    assert code(e) == "InvalidParameterCombination"
    rds.modify_db_instance(DBInstanceIdentifier="life", DeletionProtection=False)
    with pytest.raises(ClientError) as e:
        rds.delete_db_instance(DBInstanceIdentifier="life")
    assert "FinalDBSnapshotIdentifier is required" in str(e.value)
    rds.delete_db_instance(DBInstanceIdentifier="life", FinalDBSnapshotIdentifier="last")
    assert database(cloud, "life")["DBInstanceStatus"] == "deleting"
    assert [s.status for s in cloud.api.desired().snapshots if s.identifier == "last"] == ["creating"]
    cloud.api.snapshot_status("last", "available")
    cloud.api.database_gone("life")
    with pytest.raises(rds.exceptions.DBInstanceNotFoundFault):
        database(cloud, "life")
    rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="again", DBSnapshotIdentifier="last")
    again = wanted_database(cloud, "again")
    assert again.restore_from_snapshot == "last" and again.master_username == "mladmin"
    rds.delete_db_snapshot(DBSnapshotIdentifier="last")
    cloud.api.snapshot_status("last", "deleted")
    with pytest.raises(rds.exceptions.DBSnapshotNotFoundFault):
        rds.describe_db_snapshots(DBSnapshotIdentifier="last")


@pytest.mark.parametrize("change, wanted", [
    ({"Engine": "mysql"}, "InvalidParameterCombination"),
    ({"EngineVersion": "16"}, "InvalidParameterCombination"),
    ({"MasterUserPassword": "has/slash-in-it"}, "InvalidParameterValue"),
    ({"MasterUserPassword": "short"}, "InvalidParameterValue"),
    ({"DBInstanceClass": "db.z9.huge"}, "InvalidParameterValue"),
    ({"DBParameterGroupName": "nobody"}, "DBParameterGroupNotFound"),
    ({"PubliclyAccessible": True}, "InvalidParameterCombination"),
])
def test_databases_that_cannot_be_had_are_refused(cloud, change, wanted):
    with pytest.raises(ClientError) as e:
        create_database(cloud, "bad", **change)
    assert code(e) == wanted


def test_parameter_groups(cloud):
    rds = cloud.client("rds")
    with pytest.raises(rds.exceptions.DBParameterGroupNotFoundFault):
        rds.describe_db_parameter_groups(DBParameterGroupName="pg")
    rds.create_db_parameter_group(DBParameterGroupName="pg", DBParameterGroupFamily="postgres17", Description="d")
    create_database(cloud, "params", DBParameterGroupName="pg")
    cloud.api.database_status("params", "available", 0)
    rds.modify_db_parameter_group(DBParameterGroupName="pg", Parameters=[
        {"ParameterName": "log_lock_waits", "ParameterValue": "1", "ApplyMethod": "immediate"},
        {"ParameterName": "max_connections", "ParameterValue": "50", "ApplyMethod": "pending-reboot"}])
    assert wanted_database(cloud, "params").parameters == {"log_lock_waits": "1"}
    assert database(cloud, "params")["DBParameterGroups"][0]["ParameterApplyStatus"] == "pending-reboot"
    rds.reboot_db_instance(DBInstanceIdentifier="params")
    assert wanted_database(cloud, "params").parameters == {"log_lock_waits": "1", "max_connections": "50"}
    with pytest.raises(ClientError) as e:
        rds.modify_db_parameter_group(DBParameterGroupName="pg", Parameters=[
            {"ParameterName": "no_such", "ParameterValue": "1", "ApplyMethod": "immediate"}])
    assert code(e) == "InvalidParameterValue"


# -- the rest ------------------------------------------------------------------------------------------------------


def test_secret_stages(cloud):
    sm = cloud.client("secretsmanager")
    first = sm.create_secret(Name="s", SecretString="1")["VersionId"]
    second = sm.put_secret_value(SecretId="s", SecretString="2", VersionStages=["AWSPENDING"])["VersionId"]
    assert sm.get_secret_value(SecretId="s")["SecretString"] == "1"
    assert sm.get_secret_value(SecretId="s", VersionStage="AWSPENDING")["SecretString"] == "2"
    sm.update_secret_version_stage(SecretId="s", VersionStage="AWSCURRENT", MoveToVersionId=second,
                                   RemoveFromVersionId=first)
    assert sm.get_secret_value(SecretId="s")["SecretString"] == "2"
    assert sm.get_secret_value(SecretId="s", VersionStage="AWSPREVIOUS")["SecretString"] == "1"


@pytest.mark.parametrize("service, call, arguments", [
    ("elbv2", "describe_load_balancers", {}),
    ("autoscaling", "describe_auto_scaling_groups", {}),
    ("lambda", "list_functions", {}),
    ("ecs", "list_clusters", {}),
    ("eks", "list_clusters", {}),
    ("ec2", "allocate_address", {}),
    ("ec2", "create_nat_gateway", {"SubnetId": "subnet-1"}),
    ("ec2", "create_vpc_endpoint", {"VpcId": "vpc-1", "ServiceName": "com.amazonaws.eu-central-1.s3"}),
    ("rds", "create_db_cluster", {"DBClusterIdentifier": "c", "Engine": "aurora-postgresql"}),
])
def test_what_has_no_effect_is_refused(cloud, service, call, arguments):
    with pytest.raises(ClientError) as e:
        getattr(cloud.client(service), call)(**arguments)
    assert code(e) == "LocalCloudUnsupported"
    assert "local cloud doesn't have" in str(e.value)


SERVE = """
    import sys, time
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from localcloud.api import Api
    from localcloud.config import Config
    api = Api(Config(Path({home!r}), "test", 0), address="127.0.0.1", https_port=0, http_port=0, metadata_port=0)
    api.start()
    print(*api.ports, flush=True)
    time.sleep(60)
"""


class Elsewhere(Cloud):
    """An Api in a process of its own."""

    def __init__(self, home: Path):
        self.config = Config(home, "test", 0)
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVE.format(root=str(ROOT), home=str(home)))],
            stdout=subprocess.PIPE, text=True)
        ports = tuple(int(p) for p in self.process.stdout.readline().split())
        self.api = type("Ports", (), {"ports": ports})()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


def test_everything_is_there_after_a_kill(tmp_path):
    cloud = Elsewhere(tmp_path)
    try:
        vpc = cloud.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        instance_id = run_instance(cloud)["InstanceId"]
        create_database(cloud, "kept")
        cloud.client("secretsmanager").create_secret(Name="kept", SecretString="s")
        cloud.client("iam").create_user(UserName="kept")
        cloud.client("ssm").put_parameter(Name="/kept", Value="v", Type="SecureString")
        s3 = cloud.client("s3")
        s3.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket="kept", Key="k", Body=b"body")
        root = cloud.root
    finally:
        cloud.kill()
    cloud = Elsewhere(tmp_path)
    try:
        assert cloud.root == root
        assert cloud.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"] == vpc
        found = cloud.client("ec2").describe_instances()["Reservations"][0]["Instances"][0]
        assert (found["InstanceId"], found["State"]["Name"]) == (instance_id, "pending")
        assert database(cloud, "kept")["DBInstanceStatus"] == "creating"
        assert cloud.client("secretsmanager").get_secret_value(SecretId="kept")["SecretString"] == "s"
        assert cloud.client("iam").get_user(UserName="kept")
        parameter = cloud.client("ssm").get_parameter(Name="/kept", WithDecryption=True)["Parameter"]
        assert parameter["Value"] == "v"
        assert cloud.client("s3").get_object(Bucket="kept", Key="k")["Body"].read() == b"body"
        assert run_instance(cloud)["PrivateIpAddress"] != found["PrivateIpAddress"]
    finally:
        cloud.kill()


def test_state_of_another_moto_is_refused(tmp_path):
    config = Config(tmp_path, "test", 0)
    config.state_dir.mkdir(parents=True)
    (config.state_dir / "control.state").write_bytes(b'{"format": 1, "moto": "4.0.0"}\n')
    from localcloud.api.state import State

    with pytest.raises(LocalCloudError, match="reset"):
        State(config.state_dir, threading.RLock()).load()


def test_uploads_side_by_side_lose_nothing(cloud):
    """A file must survive the clearing up that follows the snapshot of another call."""
    from concurrent.futures import ThreadPoolExecutor

    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="many", CreateBucketConfiguration={"LocationConstraint": REGION})

    def put(n):
        s3.put_object(Bucket="many", Key=f"k{n % 20}", Body=b"%d" % n * 1000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(80)))
    for n in range(20):
        assert s3.get_object(Bucket="many", Key=f"k{n}")["Body"].read()


def test_a_repeated_run_instances_makes_no_second_machine(cloud):
    first = run_instance(cloud, ClientToken="once")
    assert run_instance(cloud, ClientToken="once")["InstanceId"] == first["InstanceId"]
