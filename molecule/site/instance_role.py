# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What the credentials of the instance's role may do: BUCKET ENDPOINT REGION."""

import sys

import boto3
from botocore.exceptions import ClientError

bucket, endpoint, region = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=endpoint, region_name=region)
iam = boto3.client("iam", endpoint_url=endpoint, region_name=region)
key = "artifacts/scenario.txt"


def attempt(call, *args, **arguments):
    try:
        call(*args, **arguments)
    except ClientError as e:
        return e.response["Error"]["Code"]
    return "allowed"


upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
found = {
    "put": attempt(s3.put_object, Bucket=bucket, Key=key, Body=b"scenario"),
    "get": attempt(s3.get_object, Bucket=bucket, Key=key),
    "list": attempt(s3.list_objects_v2, Bucket=bucket),
    "delete": attempt(s3.delete_object, Bucket=bucket, Key=key),
    "abort": attempt(s3.abort_multipart_upload, Bucket=bucket, Key=key, UploadId=upload),
    "delete the bucket": attempt(s3.delete_bucket, Bucket=bucket),
    "change the policy": attempt(s3.delete_bucket_policy, Bucket=bucket),
    "list buckets": attempt(s3.list_buckets),
    "list roles": attempt(iam.list_roles),
}
wrong = {
    what: answer
    for what, answer in found.items()
    if (answer != "allowed") == (what in ("put", "get", "list", "delete", "abort"))
}
print(found)
sys.exit(f"not as it should be: {wrong}" if wrong else 0)
