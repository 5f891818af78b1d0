# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""S3 between our middleware and moto: contents go past moto as references, bucket policies are ours to enforce."""

from __future__ import annotations

import copy
from typing import Any
from xml.sax.saxutils import escape

from moto import settings
from moto.s3 import models, responses

from . import objects
from .wire import AwsError


class Transfer:
    """The contents of the request that holds the lock: what came up, what goes down."""

    upload: objects.Content | None = None
    download: objects.Content | None = None


transfer = Transfer()

_put_object = responses.S3Response.put_object
_upload_part = responses.S3Response.upload_part
_key_response = responses.S3Response.key_response
_list_objects = models.S3Backend.list_objects
_put_lifecycle = models.S3Backend.put_bucket_lifecycle_configuration

#: The fewest days after which S3 moves an object to a class.
_FEWEST_DAYS = {"STANDARD_IA": 30, "ONEZONE_IA": 30}


def _with_upload(method: Any) -> Any:
    def run(self: Any) -> Any:
        if transfer.upload is not None:
            self.body = transfer.upload
        return method(self)

    return run


def _capture(self: Any, *args: Any, **kwargs: Any) -> Any:
    response = _key_response(self, *args, **kwargs)
    if isinstance(response, tuple) and isinstance(response[2], objects.Content):
        status, headers, transfer.download = response
        return status, headers, b""
    return response


def _neutral(self: Any, action: str, resource: str) -> Any:
    from moto.iam.access_control import PermissionResult

    return PermissionResult.NEUTRAL


def _list_what_is_there(self: Any, bucket: Any, *args: Any, **kwargs: Any) -> Any:
    """
    What was deleted in a bucket with versions is in no listing of objects, nor is the folder that it was alone in. moto leaves
    the folder.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
    """
    present = copy.copy(bucket)
    if isinstance(bucket, models.FakeBucket):
        present.keys = {name: key for name, key in bucket.keys.items() if not isinstance(key, models.FakeDeleteMarker)}
    return _list_objects(self, present, *args, **kwargs)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _check_days(rule: dict[str, Any], days: str, transition: str, expiration: str) -> None:
    moved = 0
    for action in _as_list(rule.get(transition)):
        number, storage_class = int(action.get(days) or 0), action.get("StorageClass", "")
        if days in action and number < _FEWEST_DAYS.get(storage_class, 0):
            raise AwsError("InvalidArgument", f"'{days}' in {transition} action must be greater than or equal to "
                           f"{_FEWEST_DAYS[storage_class]} for storageClass '{storage_class}'")
        moved = max(moved, number)
    ends = (rule.get(expiration) or {}).get(days)
    if ends is None:
        return
    if int(ends) < 1:
        raise AwsError("InvalidArgument", f"'{days}' for {expiration} action must be a positive integer")
    if rule.get(transition) and int(ends) <= moved:
        raise AwsError("InvalidArgument", f"'{days}' in the {expiration} action must be greater than '{days}' in the "
                       f"{transition} action")


def _put_lifecycle_configuration(self: Any, bucket_name: str, rules: list[dict[str, Any]]) -> None:
    """
    PutBucketLifecycleConfiguration: days that S3 does not take.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html
    """
    for rule in rules:
        _check_days(rule, "Days", "Transition", "Expiration")
        _check_days(rule, "NoncurrentDays", "NoncurrentVersionTransition", "NoncurrentVersionExpiration")
        if int((rule.get("AbortIncompleteMultipartUpload") or {}).get("DaysAfterInitiation", 1)) < 1:
            raise AwsError("InvalidArgument", "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a "
                           "positive integer")
    _put_lifecycle(self, bucket_name, rules)


def delete_errors(body: bytes, denied: list[str]) -> bytes:
    """Add the keys that were denied to the answer of DeleteObjects."""
    errors = "".join(
        f"<Error><Key>{escape(key)}</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        for key in denied
    )
    text = body.decode()
    end = text.rfind("</DeleteResult>")
    if end < 0:
        return (f'<?xml version="1.0" encoding="UTF-8"?>\n<DeleteResult '
                f'xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{errors}</DeleteResult>').encode()
    return (text[:end] + errors + text[end:]).encode()


def install() -> None:
    """Put the corrections in moto's place."""
    objects.install()
    settings.S3_IGNORE_SUBDOMAIN_BUCKETNAME = True
    responses.S3Response.put_object = _with_upload(_put_object)  # type: ignore[method-assign]
    responses.S3Response.upload_part = _with_upload(_upload_part)  # type: ignore[method-assign]
    responses.S3Response.key_response = _capture  # type: ignore[method-assign]
    models.S3Backend.list_objects = _list_what_is_there  # type: ignore[method-assign]
    models.S3Backend.put_bucket_lifecycle_configuration = _put_lifecycle_configuration  # type: ignore[method-assign]
    models.FakeBucket.get_permission = _neutral  # type: ignore[method-assign]
