# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What older stores want to know of a request that deletes many objects.

S3 wants a digest of such a request. boto3 sends a CRC32 since 1.36; MinIO before 2025 and older Ceph know the MD5 alone, and
refuse. So both are sent. S3 itself is not asked another way than boto3 does.
"""

import base64
import hashlib
from urllib.parse import urlsplit

AWS = (".amazonaws.com", ".amazonaws.com.cn")


def send_with(session):
    """Have all clients that a session of botocore makes send it."""
    session.register("before-call.s3.DeleteObjects", _add, unique_id="mlflow-server-content-md5")


def send_always():
    """Have all clients of boto3's own session send it, in a process that wants nothing else of that session."""
    import boto3
    import botocore.session

    session = botocore.session.get_session()
    send_with(session)
    boto3.setup_default_session(botocore_session=session)


def _add(params, **dummy):
    body, headers = params["body"], params["headers"]
    if (urlsplit(params["url"]).hostname or "").endswith(AWS) or "Content-MD5" in headers:
        return
    body = body.encode() if isinstance(body, str) else body
    digest = hashlib.md5(body, usedforsecurity=False).digest()  # noqa: S324
    headers["Content-MD5"] = base64.b64encode(digest).decode()
