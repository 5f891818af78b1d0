# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
May this caller do this? Identity policies, bucket policies and trust policies, on every call from the first.

Reference: "How Amazon S3 authorizes a request" (S3 User Guide), "Actions, resources, and condition keys for AWS
services" (Service Authorization Reference).

Differences from AWS: iam:PassRole is not asked for; permission boundaries, session policies, service control
policies and object ACLs don't take part; a resource that the local cloud can't tell from the request is allowed by
"*" only and denied by any resource of a Deny.
"""

from __future__ import annotations

import re
from urllib.parse import unquote
from xml.etree import ElementTree

from moto.s3.models import s3_backends

from .identity import ACCOUNT, PARTITION, Principal, _find_role
from .policy import Effect, Request, evaluate, validate
from .wire import AwsError, Call, header

#: S3 operations whose permission has another name.
_S3_ACTIONS = {
    "ListBuckets": "ListAllMyBuckets",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListParts": "ListMultipartUploadParts",
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
    "SelectObjectContent": "GetObject",
    "GetObjectTorrent": "GetObject",
    "GetBucketLifecycle": "GetLifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycle": "PutLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
    "GetBucketCors": "GetBucketCORS",
    "PutBucketCors": "PutBucketCORS",
    "DeleteBucketCors": "PutBucketCORS",
    "DeleteBucketTagging": "PutBucketTagging",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    "GetBucketReplication": "GetReplicationConfiguration",
    "PutBucketReplication": "PutReplicationConfiguration",
    "DeleteBucketReplication": "PutReplicationConfiguration",
    "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "PutBucketAccelerateConfiguration": "PutAccelerateConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
}
#: Those with a name of their own for a given version of an object.
_VERSIONED = {"GetObject", "DeleteObject", "GetObjectAcl", "PutObjectAcl", "GetObjectTagging", "PutObjectTagging",
              "DeleteObjectTagging", "GetObjectAttributes"}
#: What the account's root may do whatever a bucket's policy says, so that nobody is locked out.
_ROOT_ALWAYS = {"GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"}

#: Parameter that names the resource, by service: (parameter, resource type).
_RESOURCES: dict[str, list[tuple[str, str]]] = {
    "iam": [("PolicyArn", ""), ("RoleName", "role/"), ("UserName", "user/"), ("GroupName", "group/"),
            ("InstanceProfileName", "instance-profile/"), ("PolicyName", "policy/")],
    "rds": [("ResourceName", ""), ("DBInstanceIdentifier", "db:"), ("DBSnapshotIdentifier", "snapshot:"),
            ("DBParameterGroupName", "pg:"), ("DBSubnetGroupName", "subgrp:"), ("TargetDBInstanceIdentifier", "db:")],
    "ssm": [("Name", "parameter/")],
    "kms": [("KeyId", "key/")],
}


def context(call: Call) -> dict[str, str]:
    """Values of the condition keys for this request."""
    principal: Principal = call.principal
    environ = call.environ
    values = {
        "aws:securetransport": "true" if environ["wsgi.url_scheme"] == "https" else "false",
        "aws:sourceip": environ.get("REMOTE_ADDR", ""),
        "aws:requestedregion": call.region,
        "aws:resourceaccount": ACCOUNT,
    }
    if principal.kind != "Anonymous":
        values["aws:principalaccount"] = ACCOUNT
        values["aws:principaltype"] = principal.kind
        values["aws:userid"] = principal.user_id
        values["aws:principalarn"] = principal.arn
        if principal.role_name:
            role = _find_role(principal.role_name)
            if role is not None:
                values["aws:principalarn"] = role.arn
        if principal.user_name:
            values["aws:username"] = principal.user_name
    else:
        values["aws:principaltype"] = "Anonymous"
    if call.service == "s3":
        values["s3:resourceaccount"] = ACCOUNT
        for name in ("prefix", "delimiter"):
            if name in call.params:
                values[f"s3:{name}"] = call.params[name]
            elif call.operation in ("ListObjects", "ListObjectsV2", "ListObjectVersions"):
                values[f"s3:{name}"] = ""
        if "versionId" in call.params:
            values["s3:versionid"] = call.params["versionId"]
        for name in ("x-amz-acl", "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
                     "x-amz-storage-class", "x-amz-content-sha256"):
            value = header(environ, name)
            if value is not None:
                values[f"s3:{name}"] = value
        version = re.fullmatch(r"TLSv(\d(?:\.\d)?)", environ.get("SSL_PROTOCOL", ""))
        if version:
            values["s3:tlsversion"] = version.group(1)
        values["s3:signatureversion"] = "AWS4-HMAC-SHA256"
        presigned = "X-Amz-Signature=" in environ.get("QUERY_STRING", "")
        values["s3:authtype"] = "REST-QUERY-STRING" if presigned else "REST-HEADER"
    if call.service == "sts" and "ExternalId" in call.params:
        values["sts:externalid"] = call.params["ExternalId"]
    return values


def _denied(call: Call, action: str) -> AwsError:
    if call.service == "s3":
        return AwsError("AccessDenied", "Access Denied", 403)
    who = call.principal.arn
    if call.service == "ec2":
        return AwsError("UnauthorizedOperation", f"You are not authorized to perform this operation. User: {who} "
                        f"is not authorized to perform: {action}", 403)
    code = "AccessDenied" if call.protocol == "query" else "AccessDeniedException"
    return AwsError(code, f"User: {who} is not authorized to perform: {action}", 400 if code.endswith("n") else 403)


def _bucket_policy(bucket: str) -> bytes | None:
    found = s3_backends[ACCOUNT][PARTITION].buckets.get(bucket)
    return found.policy if found is not None else None


def _s3_arn(bucket: str, key: str = "") -> str:
    return f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket or '*'}"


def _s3_requests(call: Call) -> list[tuple[str, str, str]]:
    """All permissions that an S3 call needs: (action, bucket, key)."""
    name = _S3_ACTIONS.get(call.operation, call.operation)
    if name in _VERSIONED and "versionId" in call.params:
        name = re.sub(r"Object", "ObjectVersion", name, count=1)
    needed = [(f"s3:{name}", call.bucket, call.key)]
    if call.operation in ("PutObject", "CopyObject", "CreateMultipartUpload"):
        if header(call.environ, "x-amz-tagging"):
            needed.append(("s3:PutObjectTagging", call.bucket, call.key))
        if header(call.environ, "x-amz-acl"):
            needed.append(("s3:PutObjectAcl", call.bucket, call.key))
    if call.operation in ("CopyObject", "UploadPartCopy"):
        source = header(call.environ, "x-amz-copy-source") or ""
        path, _, query = source.partition("?")
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        action = "s3:GetObjectVersion" if query.startswith("versionId=") else "s3:GetObject"
        needed.append((action, bucket, key))
    return needed


def _s3_allowed(call: Call, action: str, bucket: str, key: str, values: dict[str, str]) -> bool:
    principal: Principal = call.principal
    request = Request(action, _s3_arn(bucket, key), principal.names(), values)
    effects = []
    policy = _bucket_policy(bucket)
    if policy and not (principal.is_root and call.operation in _ROOT_ALWAYS):
        effects.append(evaluate(policy.decode(), request))
    if principal.is_root:
        effects.append(Effect.ALLOW)
    effects += [evaluate(document, request) for document in principal.policies()]
    return Effect.DENY not in effects and Effect.ALLOW in effects


def authorize(call: Call) -> None:
    """Raise AccessDenied, as the service words it, unless all that the call needs is allowed."""
    values = context(call)
    if call.service == "s3":
        if call.operation == "Options":
            return
        if call.operation == "DeleteObjects":
            return  # decided for each key, see filter_deletes
        for action, bucket, key in _s3_requests(call):
            if not _s3_allowed(call, action, bucket, key, values):
                raise _denied(call, action)
        return
    principal: Principal = call.principal
    action = f"{call.service}:{call.operation}"
    if principal.is_root or action == "sts:GetCallerIdentity":
        return
    request = Request(action, _resource(call), principal.names(), values)
    effects = [evaluate(document, request) for document in principal.policies()]
    if action == "sts:AssumeRole":
        role = _find_role(call.params.get("RoleArn", "").rsplit("/", 1)[-1])
        trusted = role is not None and evaluate(role.assume_role_policy_document, request)
        names_me = role is not None and principal.arn in role.assume_role_policy_document
        if trusted is not Effect.ALLOW or (Effect.ALLOW not in effects and not names_me) or Effect.DENY in effects:
            raise _denied(call, action)
        return
    if Effect.DENY in effects or Effect.ALLOW not in effects:
        raise _denied(call, action)


def may(principal: Principal, action: str, resource: str) -> bool:
    """Whether a caller may do what a service does in the caller's name."""
    if principal.is_root:
        return True
    effects = [evaluate(document, Request(action, resource, principal.names(), {})) for document in principal.policies()]
    return Effect.DENY not in effects and Effect.ALLOW in effects


def _resource(call: Call) -> str | None:
    params = call.params
    if call.service == "secretsmanager":
        return _secret_arn(call)
    if call.service == "sts":
        return params.get("RoleArn")
    for parameter, kind in _RESOURCES.get(call.service, []):
        value = params.get(parameter)
        if isinstance(value, str) and value:
            if value.startswith("arn:"):
                return value
            region = "" if call.service == "iam" else call.region
            return f"arn:aws:{call.service}:{region}:{ACCOUNT}:{kind}{value.lstrip('/')}"
    return None


def _secret_arn(call: Call) -> str | None:
    from moto.secretsmanager.models import secretsmanager_backends

    name = call.params.get("SecretId") or call.params.get("Name")
    if not name:
        return None
    if name.startswith("arn:"):
        return name
    for secret in secretsmanager_backends[ACCOUNT][call.region].secrets.values():
        if secret.name == name:
            return secret.arn
    return f"arn:aws:secretsmanager:{call.region}:{ACCOUNT}:secret:{name}"


def may_list(call: Call) -> bool:
    """S3 tells that a key is missing only to those who may list ("GetObject" in the S3 API Reference)."""
    return _s3_allowed(call, "s3:ListBucket", call.bucket, "", context(call))


def filter_deletes(call: Call, body: bytes) -> tuple[bytes, list[str]]:
    """DeleteObjects is decided key by key: the body without what is denied, and the denied keys."""
    values = context(call)
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return body, []
    space = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
    denied = []
    for element in list(root.findall(f"{space}Object")):
        key = element.findtext(f"{space}Key") or ""
        action = "s3:DeleteObjectVersion" if element.findtext(f"{space}VersionId") else "s3:DeleteObject"
        if not _s3_allowed(call, action, call.bucket, key, values):
            denied.append(key)
            root.remove(element)
    if not denied:
        return body, []
    ElementTree.register_namespace("", space.strip("{}"))
    return ElementTree.tostring(root), denied


def check_new_policy(call: Call, body: bytes) -> None:
    """Refuse a policy that couldn't be enforced, before moto stores it."""
    if call.service == "s3" and call.operation == "PutBucketPolicy":
        validate(body.decode("utf-8", "replace"), "bucket", "MalformedPolicy")
    elif call.service == "iam":
        if call.operation in ("PutRolePolicy", "PutUserPolicy", "PutGroupPolicy", "CreatePolicy",
                              "CreatePolicyVersion"):
            validate(call.params.get("PolicyDocument", ""), "identity", "MalformedPolicyDocument")
        elif call.operation == "CreateRole":
            validate(call.params.get("AssumeRolePolicyDocument", ""), "trust", "MalformedPolicyDocument")
        elif call.operation == "UpdateAssumeRolePolicy":
            validate(call.params.get("PolicyDocument", ""), "trust", "MalformedPolicyDocument")
        if call.params.get("PermissionsBoundary") or call.operation.endswith("PermissionsBoundary"):
            raise AwsError("InvalidInput", "The local cloud doesn't enforce permissions boundaries, so it refuses them.")
