# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The local cloud is not laxer than AWS: what AWS refuses is refused here, so that it does not work here alone."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from localcloud.api import identity, policy, signature  # noqa: E402
from localcloud.api.policy import Effect, Request  # noqa: E402
from localcloud.api.wire import AwsError  # noqa: E402

OBJECT = "arn:aws:s3:::bucket/key"
ALLOW = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": OBJECT}
DENY = {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}
NOT_TEN = {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
BY_TLS = {"Bool": {"aws:SecureTransport": True}}
SSE = "s3:x-amz-server-side-encryption"


@pytest.mark.parametrize(
    "statements, resource, context, said",
    [
        ([ALLOW], OBJECT, {}, Effect.ALLOW),
        ([], OBJECT, {}, Effect.NONE),
        # A Deny wins, wherever it stands.
        ([ALLOW, DENY], OBJECT, {}, Effect.DENY),
        ([DENY, ALLOW], OBJECT, {}, Effect.DENY),
        ([DENY, {**ALLOW, "Action": "*", "Resource": "*"}], OBJECT, {}, Effect.DENY),
        # A resource that is not known is allowed by "*" alone, and denied by any.
        ([ALLOW], None, {}, Effect.NONE),
        ([{**ALLOW, "Resource": "arn:aws:s3:::*"}], None, {}, Effect.NONE),
        ([{**ALLOW, "Resource": "*"}], None, {}, Effect.ALLOW),
        ([{**ALLOW, "Resource": "*"}, {**DENY, "Resource": OBJECT}], None, {}, Effect.DENY),
        # NotAction and NotResource mean all others.
        ([{"Effect": "Allow", "NotAction": "s3:GetObject", "Resource": "*"}], OBJECT, {}, Effect.NONE),
        ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], OBJECT, {}, Effect.ALLOW),
        ([{"Effect": "Allow", "Action": "*", "NotResource": OBJECT}], OBJECT, {}, Effect.NONE),
        ([{"Effect": "Allow", "Action": "*", "NotResource": OBJECT}], None, {}, Effect.NONE),
        ([{"Effect": "Deny", "Action": "*", "NotResource": OBJECT}], None, {}, Effect.DENY),
        # A key that is absent fails an operator, but not its IfExists, and not one that negates.
        ([{**ALLOW, "Condition": {"StringEquals": {SSE: "AES256"}}}], OBJECT, {}, Effect.NONE),
        ([{**ALLOW, "Condition": {"StringEqualsIfExists": {SSE: "AES256"}}}], OBJECT, {}, Effect.ALLOW),
        ([{**ALLOW, "Condition": {"StringEqualsIfExists": {SSE: "AES256"}}}], OBJECT, {SSE: "aws:kms"}, Effect.NONE),
        ([{**ALLOW, "Condition": {"StringNotEquals": {SSE: "AES256"}}}], OBJECT, {}, Effect.ALLOW),
        ([{**ALLOW, "Condition": {"StringNotEquals": {SSE: ["AES256", "x"]}}}], OBJECT, {SSE: "x"}, Effect.NONE),
        ([{**ALLOW, "Condition": {"Null": {SSE: "true"}}}], OBJECT, {SSE: "AES256"}, Effect.NONE),
        ([{**ALLOW, "Condition": {"Null": {SSE: "true"}}}], OBJECT, {}, Effect.ALLOW),
        ([{**ALLOW, "Condition": NOT_TEN}], OBJECT, {"aws:sourceip": "10.1.2.3"}, Effect.NONE),
        ([{**ALLOW, "Condition": BY_TLS}], OBJECT, {"aws:securetransport": "false"}, Effect.NONE),
        # A variable is the caller's own value.
        ([{**ALLOW, "Resource": "arn:aws:s3:::bucket/${aws:username}"}], OBJECT, {"aws:username": "key"}, Effect.ALLOW),
        ([{**ALLOW, "Resource": "arn:aws:s3:::bucket/${aws:username}"}], OBJECT, {"aws:username": "other"}, Effect.NONE),
    ],
)
def test_what_a_policy_says(statements, resource, context, said):
    assert policy.evaluate({"Statement": statements}, Request("s3:GetObject", resource, context=context)) is said


# -- signatures ------------------------------------------------------------------------------------------------------

BODY = b"what was sent"
SECRET = "a secret of nobody"  # throw-away


def signed(service="s3", age=0, unsigned=(), sent=BODY, declared=None, token=None):
    """A request of so many seconds ago, signed over all headers but some, and the claim that it makes."""
    stamp = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)).strftime("%Y%m%dT%H%M%SZ")
    sha256 = hashlib.sha256(sent).hexdigest()
    headers = {"host": "s3.example.com", "x-amz-date": stamp, "x-amz-content-sha256": declared or sha256}
    if token:
        headers["x-amz-security-token"] = token
    names = sorted(name for name in headers if name not in unsigned)
    scope = f"{stamp[:8]}/eu-central-1/{service}/aws4_request"
    canonical = ["PUT", "/key", "", *(f"{name}:{headers[name]}" for name in names), "", ";".join(names)]
    canonical = "\n".join([*canonical, headers["x-amz-content-sha256"] if service == "s3" else sha256])
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    proof = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    environ = {"REQUEST_METHOD": "PUT", "PATH_INFO": "/key", "REQUEST_URI": "/key", "QUERY_STRING": ""}
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    environ["HTTP_AUTHORIZATION"] = (
        f"AWS4-HMAC-SHA256 Credential=AKIANOBODY/{scope}, SignedHeaders={';'.join(names)}, Signature={proof}"
    )
    return environ


def refused(environ):
    """The code of the error that a request gets, or nothing where its signature is taken."""
    try:
        signature.check(environ, signature.claim_of(environ), SECRET, hashlib.sha256(BODY).hexdigest())
    except AwsError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "request_, code",
    [
        ({}, None),
        ({"service": "iam"}, None),
        ({"token": "a token"}, None),
        ({"age": 14 * 60}, None),
        # Recorded, and sent again later.
        ({"age": 16 * 60}, "RequestTimeTooSkewed"),
        ({"age": -16 * 60}, "RequestTimeTooSkewed"),
        ({"age": 16 * 60, "service": "iam"}, "SignatureDoesNotMatch"),
        ({"age": 16 * 60, "service": "ec2"}, "RequestExpired"),
        # Another body than was signed.
        ({"sent": b"another body"}, "XAmzContentSHA256Mismatch"),
        ({"sent": b"another body", "service": "iam"}, "SignatureDoesNotMatch"),
        ({"declared": "UNSIGNED-PAYLOAD"}, None),
        # What decides something could be exchanged on its way.
        ({"token": "a token", "unsigned": ["x-amz-security-token"]}, "SignatureDoesNotMatch"),
        ({"unsigned": ["x-amz-date"]}, "SignatureDoesNotMatch"),
        ({"unsigned": ["x-amz-content-sha256"]}, "SignatureDoesNotMatch"),
        ({"unsigned": ["host"]}, "SignatureDoesNotMatch"),
    ],
)
def test_signatures_that_aws_refuses(request_, code):
    assert refused(signed(**request_)) == code


# -- credentials -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service, code", [("s3", "ExpiredToken"), ("ec2", "RequestExpired"), ("iam", "ExpiredToken")])
@pytest.mark.parametrize("minutes, fine", [(1, True), (-1, False)])
def test_a_roles_credentials_end(service, code, minutes, fine):
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
    session = {"role": "r", "session": "i-1", "secret": SECRET, "token": "a token", "expires": expires}
    identities = identity.Identities(None, {"sessions": {"ASIANOBODY": session}})
    claim = signature.Claim("ASIANOBODY", "", "", service, [], "", "", "a token", False)
    if fine:
        assert identities.find(claim).kind == "AssumedRole"
        return
    with pytest.raises(AwsError) as error:
        identities.find(claim)
    assert error.value.code == code
