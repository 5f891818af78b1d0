# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What MLFLOW_S3_UPLOAD_EXTRA_ARGS says of an object arrives, each where S3 wants it; against moto's S3 in this process."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os

import pytest

# Fixtures, which pytest finds by their names here.
from test_streams import PART, TARGET, ClientError, s3, stream, upload  # noqa: F401

# The fixtures of the other file are arguments here.
# ruff: noqa: F811

KEY = "k" * 32
KEY_MD5 = base64.b64encode(hashlib.md5(KEY.encode()).digest()).decode()  # noqa: S324 - S3 wants this one
BEGIN, PARTS, END = "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"


@pytest.fixture
def told(s3):
    """What S3 was told, by operation: the headers of each request."""
    seen = {}

    def note(request, operation_name=None, **_):
        headers = {name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
        seen.setdefault(request.context["operation"], []).append(headers)

    def name(params, model, context, **_):
        context["operation"] = model.name

    s3.meta.events.register("before-call.s3", name)
    s3.meta.events.register("request-created.s3", note)
    return seen


def store(s3, size=2 * PART + 1, **more):
    asyncio.run(upload(s3, stream(os.urandom(size)), **TARGET, **more))


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA1", "CRC32"])
def test_a_checksum_that_is_asked_for_is_of_each_part(s3, told, algorithm):
    """S3 refuses parts with another one than the upload was begun with."""
    store(s3, ChecksumAlgorithm=algorithm)
    header = f"x-amz-checksum-{algorithm.lower()}"
    assert told[BEGIN][0]["x-amz-checksum-algorithm"] == algorithm
    assert len(told[PARTS]) == 3
    for headers in told[PARTS]:
        assert header in headers or headers.get("x-amz-trailer") == header, headers
        others = {name for name in headers if name.startswith("x-amz-checksum-")} - {header, "x-amz-checksum-algorithm"}
        assert not others


def test_a_small_object_has_that_checksum_too(s3, told):
    store(s3, 10, ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE")
    (headers,) = told["PutObject"]
    assert "x-amz-checksum-sha256" in headers or headers.get("x-amz-trailer") == "x-amz-checksum-sha256"


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({"ServerSideEncryption": "aws:kms"}, ("x-amz-server-side-encryption", "aws:kms")),
        (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/mlflow"},
            ("x-amz-server-side-encryption-aws-kms-key-id", "alias/mlflow"),
        ),
        ({"ACL": "bucket-owner-full-control"}, ("x-amz-acl", "bucket-owner-full-control")),
        ({"Tagging": "team=ml&cost=1"}, ("x-amz-tagging", "team=ml&cost=1")),
        ({"StorageClass": "STANDARD_IA"}, ("x-amz-storage-class", "STANDARD_IA")),
        ({"Metadata": {"team": "ml"}}, ("x-amz-meta-team", "ml")),
    ],
)
@pytest.mark.parametrize("size", [10, 2 * PART + 1])
def test_what_is_of_the_object_is_said_once_where_it_begins(s3, told, given, header, size):
    store(s3, size, **given)
    name, value = header
    first = told["PutObject" if size < PART else BEGIN]
    assert [headers.get(name) for headers in first] == [value]
    assert not [headers for operation in (PARTS, END) for headers in told.get(operation, []) if name in headers]


@pytest.mark.parametrize("more", [{}, {"SSECustomerKey": base64.b64encode(KEY.encode()).decode(), "SSECustomerKeyMD5": KEY_MD5}])
def test_a_key_of_the_customer_s_is_said_each_time(s3, told, more):
    """As it is, or encoded and with its checksum."""
    store(s3, **{"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY, **more})
    wanted = {
        "x-amz-server-side-encryption-customer-algorithm": "AES256",
        "x-amz-server-side-encryption-customer-key": base64.b64encode(KEY.encode()).decode(),
        "x-amz-server-side-encryption-customer-key-md5": KEY_MD5,
    }
    for operation in (BEGIN, PARTS, END):
        for headers in told[operation]:
            assert {name: headers.get(name) for name in wanted} == wanted, operation


def test_what_breaks_off_leaves_nothing_with_such_a_key_either(s3):
    """S3 takes no key where an upload is given up."""

    async def broken():
        yield b"x" * (2 * PART + 1)
        raise ConnectionError("the client is gone")

    with pytest.raises(ConnectionError):
        asyncio.run(upload(s3, broken(), SSECustomerAlgorithm="AES256", SSECustomerKey=KEY, ChecksumAlgorithm="SHA256", **TARGET))
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="artifacts")


def test_the_owner_of_the_bucket_is_said_each_time(s3, told):
    store(s3, ExpectedBucketOwner="123456789012", RequestPayer="requester")
    for operation in (BEGIN, PARTS, END):
        for headers in told[operation]:
            assert headers["x-amz-expected-bucket-owner"] == "123456789012" and headers["x-amz-request-payer"] == "requester"


def test_every_part_is_at_its_place_with_a_checksum_of_the_whole(s3):
    data = os.urandom(2 * PART + 5)
    asyncio.run(upload(s3, stream(data), ChecksumAlgorithm="SHA256", **TARGET))
    assert s3.get_object(**TARGET)["Body"].read() == data
