# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The local cloud is not laxer than AWS: what AWS refuses is refused here, so that it does not work here alone."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import sys
import types
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from localcloud.api import identity, policy, refusals, signature  # noqa: E402
from localcloud.api.policy import Effect, Request  # noqa: E402
from localcloud.api.wire import AwsError  # noqa: E402
from localcloud.config import Config  # noqa: E402

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
        # One that says nothing of the request is passed over.
        ([{**ALLOW, "Action": "s3:PutObject"}, ALLOW], OBJECT, {}, Effect.ALLOW),
        ([{**DENY, "Action": "iam:*"}, ALLOW], OBJECT, {}, Effect.ALLOW),
        (ALLOW, OBJECT, {}, Effect.ALLOW),
        # The case of an action does not matter, that of a resource does; and only * and ? mean something.
        ([{**ALLOW, "Action": ["iam:*", "S3:getobject"]}], OBJECT, {}, Effect.ALLOW),
        ([{**ALLOW, "Resource": OBJECT.upper()}], OBJECT, {}, Effect.NONE),
        ([{**ALLOW, "Resource": "arn:aws:s3:::bucket/k?y"}], OBJECT, {}, Effect.ALLOW),
        ([{**ALLOW, "Resource": "arn:aws:s3:::bucket/k.y"}], OBJECT, {}, Effect.NONE),
        ([{**ALLOW, "Resource": "arn:aws:s3:::bucket/?"}], OBJECT, {}, Effect.NONE),
        ([{**ALLOW, "Resource": "arn:aws:s3:::bucket/*"}], "arn:aws:s3:::bucket/two\nlines", {}, Effect.ALLOW),
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


@pytest.mark.parametrize(
    "operator, wanted, holds_for, and_not_for",
    [
        ("StringEquals", "b", ["b"], ["a", "c", "B", "b*"]),
        ("StringEquals", "Bc", ["Bc"], ["bc"]),
        ("StringNotEquals", "b", ["a", "c", "B"], ["b"]),
        ("StringEqualsIgnoreCase", "Bc", ["bC"], ["a", "d", "bcd"]),
        ("StringNotEqualsIgnoreCase", "Bc", ["a", "d"], ["bC"]),
        ("StringLike", "a*c?", ["acd", "abcd"], ["Acd", "ac"]),
        ("StringNotLike", "a*", ["ba", "A"], ["a", "ab"]),
        ("ArnEquals", "arn:aws:s3:::a*", ["arn:aws:s3:::ab"], ["arn:aws:s3:::b"]),
        ("ArnNotEquals", "arn:aws:s3:::a*", ["arn:aws:s3:::b"], ["arn:aws:s3:::ab"]),
        ("ArnLike", "arn:aws:s3:::a*", ["arn:aws:s3:::ab"], ["arn:aws:s3:::b"]),
        ("ArnNotLike", "arn:aws:s3:::a*", ["arn:aws:s3:::b"], ["arn:aws:s3:::ab"]),
        ("Bool", False, ["false", "False"], ["true", "a", "z"]),
        ("IpAddress", ["10.0.0.5/8", "192.0.2.1"], ["10.1.2.3", "192.0.2.1"], ["11.0.0.1", "192.0.2.2", "nowhere", "::1"]),
        ("NotIpAddress", "10.0.0.0/8", ["11.0.0.1"], ["10.1.2.3"]),
        ("NumericEquals", "5", ["5", "5.0"], ["4", "6", "five"]),
        ("NumericNotEquals", 5, ["4", "6"], ["5"]),
        ("NumericLessThan", "5", ["4", "-10"], ["5", "6", "few"]),
        ("NumericLessThanEquals", "5", ["4", "5"], ["6", "10", "few"]),
        ("NumericGreaterThan", "5", ["6", "10"], ["5", "4", "many"]),
        ("NumericGreaterThanEquals", "5", ["5", "10"], ["4", "many"]),
    ],
)
def test_each_operator_tells_its_values_from_others(operator, wanted, holds_for, and_not_for):
    document = {"Statement": {**ALLOW, "Condition": {operator: {"S3:Prefix": wanted}}}}
    for value, effect in [(v, Effect.ALLOW) for v in holds_for] + [(v, Effect.NONE) for v in and_not_for]:
        request = Request("s3:GetObject", OBJECT, context={"s3:prefix": value})
        assert policy.evaluate(json.dumps(document), request) is effect, value


@pytest.mark.parametrize(
    "first",
    [
        {"ArnLike": {"aws:SourceArn": "arn:aws:ec2:*"}},
        {"Null": {SSE: "true"}},
        {"StringEqualsIfExists": {SSE: "AES256"}},
        {"StringNotEquals": {SSE: "AES256"}},
    ],
)
@pytest.mark.parametrize("prefix, said", [("in/", Effect.ALLOW), ("out/", Effect.NONE)])
def test_all_conditions_must_hold_whatever_the_first_of_them_is(first, prefix, said):
    """Those that are satisfied by a key that is absent come first here."""
    operator, keys = next(iter(first.items()))
    second = {"StringEquals": {"s3:prefix": "in/"}}
    request = Request("s3:GetObject", OBJECT, context={"s3:prefix": prefix})
    assert policy.evaluate({"Statement": {**ALLOW, "Condition": first | second}}, request) is said
    if operator in ("StringEqualsIfExists", "ArnLike"):
        both = {"StringEqualsIfExists": {**keys, "s3:prefix": "in/"}}
        assert policy.evaluate({"Statement": {**ALLOW, "Condition": both}}, request) is said


ANN = "arn:aws:iam::123456789012:user/ann"
USER = {ANN, "123456789012"}
EC2 = {"ec2.amazonaws.com"}


@pytest.mark.parametrize(
    "principal, whom, not_whom",
    [
        ("*", [USER, {"*"}], [EC2]),
        ({"AWS": "*"}, [USER, {"*"}], [EC2]),
        ({"AWS": ANN}, [USER], [{"123456789012"}, {"*"}, EC2]),
        ({"AWS": [ANN + "a", ANN]}, [USER], [EC2]),
        ({"AWS": "123456789012"}, [USER], [{"210987654321"}]),
        ({"AWS": "arn:aws:iam::123456789012:root"}, [USER, {"123456789012"}], [{"210987654321"}, {"*"}, EC2]),
        ({"Service": "ec2.amazonaws.com"}, [EC2], [USER, {"rds.amazonaws.com"}]),
        ({"AWS": ANN, "Service": ["rds.amazonaws.com", "ec2.amazonaws.com"]}, [USER, EC2], [{"*"}]),
        ({"Service": "*"}, [], [USER, EC2]),
    ],
)
def test_a_principal_is_whom_a_policy_names(principal, whom, not_whom):
    document = {"Statement": [{**ALLOW, "Principal": principal}]}
    for names, effect in [(names, Effect.ALLOW) for names in whom] + [(names, Effect.NONE) for names in not_whom]:
        assert policy.evaluate(document, Request("s3:GetObject", OBJECT, frozenset(names))) is effect, names


def test_a_trust_policy_has_no_resource():
    document = {"Statement": {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}}
    for resource in (None, OBJECT):
        assert policy.evaluate(document, Request("sts:AssumeRole", resource, frozenset(EC2))) is Effect.ALLOW


BUCKET, TRUST = {**ALLOW, "Principal": "*"}, {"Effect": "Allow", "Principal": {"AWS": ANN}, "Action": "sts:AssumeRole"}


def without(statement, *names):
    return {name: value for name, value in statement.items() if name not in names}


@pytest.mark.parametrize(
    "kind, statement, why",
    [
        ("identity", ALLOW, None),
        ("identity", DENY, None),
        ("bucket", BUCKET, None),
        ("bucket", {**BUCKET, "Principal": {"AWS": "*", "Service": "ec2.amazonaws.com"}}, None),
        ("trust", TRUST, None),
        ("identity", {**without(ALLOW, "Action", "Resource"), "NotAction": "iam:*", "NotResource": OBJECT}, None),
        ("identity", {**ALLOW, "Condition": {"Null": {SSE: True}, "stringlikeifexists": {"S3:Prefix": "a"}}}, None),
        ("trust", {**TRUST, "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}}}, None),
        ("identity", {**ALLOW, "Effect": "allow"}, "Effect"),
        ("identity", {**ALLOW, "Effect": "Grant"}, "Effect"),
        ("identity", without(ALLOW, "Effect"), "Effect"),
        ("identity", "Allow", "Effect"),
        ("bucket", {**BUCKET, "NotPrincipal": "*"}, "NotPrincipal"),
        ("identity", BUCKET, "should not specify a principal"),
        ("bucket", ALLOW, "Missing required field Principal"),
        ("trust", without(TRUST, "Principal"), "Missing required field Principal"),
        ("bucket", {**BUCKET, "Principal": ANN}, "Invalid principal"),
        ("bucket", {**BUCKET, "Principal": "!"}, "Invalid principal"),
        ("trust", {**TRUST, "Principal": {"AWS": ANN, "Federated": "x", "CanonicalUser": "y"}}, "CanonicalUser is not supported"),
        ("identity", {**ALLOW, "NotAction": "iam:*"}, "either Action or NotAction"),
        ("identity", without(ALLOW, "Action"), "either Action or NotAction"),
        ("identity", {**ALLOW, "NotResource": OBJECT}, "either Resource or NotResource"),
        ("bucket", without(BUCKET, "Resource"), "either Resource or NotResource"),
        ("trust", {**TRUST, "Resource": "*"}, "prohibited field Resource"),
        ("trust", {**TRUST, "NotResource": "*"}, "prohibited field Resource"),
        ("identity", {**ALLOW, "Condition": {"DateLessThan": {SSE: "x"}}}, "operator DateLessThan"),
        ("identity", {**ALLOW, "Condition": {"NullIfExists": {SSE: "x"}}}, "operator NullIfExists"),
        ("identity", {**ALLOW, "Condition": {"StringEquals": {SSE: "x", "aws:SourceVpce": "x"}}}, "key aws:SourceVpce"),
        ("identity", {**ALLOW, "Condition": {"StringEquals": {"aws:SourceAccount": "1"}}}, "key aws:SourceAccount"),
        ("bucket", {**BUCKET, "Condition": {"StringEquals": {"aws:SourceArn": "1"}}}, "key aws:SourceArn"),
    ],
)
def test_what_can_not_be_enforced_is_not_stored(kind, statement, why):
    fine = {"identity": ALLOW, "bucket": BUCKET, "trust": TRUST}[kind]
    for document in ({"Statement": [fine, statement]}, {"Statement": statement}):
        if why is None:
            policy.validate(json.dumps(document), kind, "MalformedPolicy")
            continue
        with pytest.raises(AwsError) as error:
            policy.validate(json.dumps(document), kind, "MalformedPolicy")
        assert error.value.code == "MalformedPolicy" and why in error.value.message


@pytest.mark.parametrize("document", ["{", "[]", "{}", '"Statement"', "null"])
def test_what_is_no_policy_is_not_stored(document):
    with pytest.raises(AwsError, match="valid JSON with a Statement") as error:
        policy.validate(document, "identity", "MalformedPolicyDocument")
    assert error.value.code == "MalformedPolicyDocument"


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
        ({"age": 16 * 60, "service": "autoscaling"}, "SignatureDoesNotMatch"),
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


def by_botocore(signer, url="https://s3.example.com/a%20b/c", headers=None, method="PUT", token=None):
    """A request that AWS's own client has signed."""
    # The signature in a query is of an address: what is sent there is not known yet.
    query = isinstance(signer(None), auth.SigV4QueryAuth)
    request = AWSRequest(method, url, headers=headers or {}, data=b"" if query else BODY)
    signer(Credentials("AKIANOBODY", SECRET, token)).add_auth(request)
    parts = urlsplit(request.prepare().url)
    environ = {"REQUEST_METHOD": method, "REQUEST_URI": f"{parts.path}?{parts.query}", "QUERY_STRING": parts.query}
    environ["HTTP_HOST"] = parts.netloc
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": str(value) for name, value in request.headers.items()}
    return environ


def s3_url(expires=600):
    return lambda credentials: auth.S3SigV4QueryAuth(credentials, "s3", "eu-central-1", expires)


def of_service(service, kind=auth.SigV4Auth):
    return lambda credentials: kind(credentials, service, "eu-central-1")


ODD = "https://s3.example.com/a%20b/%C3%BC~.txt?versionId=1&empty=&flag&plus=a+b&same=2&same=1&e=a%2Fb%26%3D"


@pytest.mark.parametrize("token", [None, "a token+/="])
@pytest.mark.parametrize(
    "signer, url",
    [
        (s3_url(), "https://s3.example.com/a%20b/c"),
        (s3_url(604800), "https://s3.example.com/%C3%BC~-_.txt"),
        (of_service("s3", auth.S3SigV4Auth), ODD.replace("plus=a+b&", "")),
        (of_service("iam"), "https://iam.example.com/"),
        (of_service("iam"), "https://iam.example.com/a%20b?x=1"),
        (of_service("ec2"), "https://ec2.example.com/?Action=DescribeVpcs"),
    ],
)
def test_what_awss_own_client_signs_is_taken(signer, url, token):
    environ = by_botocore(signer, url, token=token)
    claim = signature.claim_of(environ)
    assert (claim.access_key_id, claim.region, claim.token) == ("AKIANOBODY", "eu-central-1", token)
    assert refused(environ) is None
    # Nothing that it says can be exchanged on its way.
    for name, other in [("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/other"), ("HTTP_HOST", "example.org")]:
        assert refused({**environ, name: other}) in ("SignatureDoesNotMatch", "AuthFailure")
    more = f"{environ['QUERY_STRING']}&more=1"
    assert refused({**environ, "QUERY_STRING": more}) in ("SignatureDoesNotMatch", "AuthFailure")


def test_a_request_without_a_body_may_be_signed_with_a_length_of_none():
    """Clients sign the length of 0 that they send, and servers hand such a request over as one without a length."""
    environ = by_botocore(of_service("s3", auth.S3SigV4Auth), headers={"Content-Length": "0"})
    assert "content-length" in signature.claim_of(environ).signed_headers and "CONTENT_LENGTH" not in environ
    assert refused(environ) is None
    assert refused({**environ, "CONTENT_LENGTH": "1"}) == "SignatureDoesNotMatch"


def test_a_path_is_that_of_the_request_line_however_the_server_hands_it_over():
    environ = by_botocore(s3_url())
    path = environ.pop("REQUEST_URI")
    assert refused({**environ, "RAW_URI": path}) is None
    assert refused({**environ, "REQUEST_URI": f"https://s3.example.com{path}"}) is None
    assert refused({**environ, "PATH_INFO": "/a b/c"}) is None
    assert refused({**environ, "PATH_INFO": "/a b/d"}) == "SignatureDoesNotMatch"
    # One that is part of a query is no address.
    root = by_botocore(s3_url(), "https://s3.example.com/?x=http://y")
    assert refused(root) is None and refused({**root, "REQUEST_URI": "?x"}) is None


@pytest.fixture
def later(monkeypatch):
    """Call it with a number of seconds: the checks believe that they are later by as much."""
    def shift(seconds):
        class Shifted(datetime.datetime):
            @classmethod
            def now(cls, zone=None):
                return datetime.datetime.now(zone) + datetime.timedelta(seconds=seconds)

        monkeypatch.setattr(signature, "datetime", types.SimpleNamespace(datetime=Shifted, UTC=datetime.UTC))

    return shift


@pytest.mark.parametrize(
    "seconds, said",
    [(590, None), (620, "Request has expired"), (-880, None), (-920, "Request is not yet valid")],
)
def test_an_address_that_is_signed_has_its_time(later, seconds, said):
    environ = by_botocore(s3_url(600))
    later(seconds)
    if said is None:
        assert refused(environ) is None
        return
    with pytest.raises(AwsError, match=said) as error:
        signature.check(environ, signature.claim_of(environ), SECRET, hashlib.sha256(BODY).hexdigest())
    assert (error.value.code, error.value.status) == ("AccessDenied", 403)


@pytest.mark.parametrize("expires, said", [("0", "week"), ("-1", "week"), ("604801", "week"), ("x", "number"), ("", "number")])
def test_an_address_is_signed_for_a_week_at_most(expires, said):
    environ = by_botocore(s3_url(600))
    environ["QUERY_STRING"] = environ["QUERY_STRING"].replace("X-Amz-Expires=600", f"X-Amz-Expires={expires}")
    with pytest.raises(AwsError, match=said) as error:
        signature.claim_of(environ)
    assert error.value.code == "AuthorizationQueryParametersError"


@pytest.mark.parametrize(
    "environ, code",
    [
        ({}, None),
        ({"QUERY_STRING": "x=1&&AWSAccessKeyId=A"}, None),
        ({"QUERY_STRING": "Signature=x"}, None),
        ({"QUERY_STRING": "AWSAccessKeyId=A&Signature=x"}, "InvalidRequest"),
        ({"HTTP_AUTHORIZATION": "AWS AKIANOBODY:x"}, "InvalidRequest"),
        ({"HTTP_AUTHORIZATION": "Basic eDp5"}, "InvalidRequest"),
        ({"HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256"}, "IncompleteSignature"),
        ({"QUERY_STRING": "X-Amz-Signature=x"}, "IncompleteSignature"),
    ],
)
def test_who_signs_nothing_is_anonymous_and_who_signs_otherwise_is_refused(environ, code):
    if code is None:
        assert signature.claim_of(environ) is None
        return
    with pytest.raises(AwsError) as error:
        signature.claim_of(environ)
    assert error.value.code == code


@pytest.mark.parametrize(
    "part, instead",
    [("Credential=", "Cred="), ("SignedHeaders=", "Headers="), ("Signature=", "Sign="), ("aws4_request", "aws3_request"),
     ("/eu-central-1", "")],
)  # fmt: skip
def test_a_signature_that_lacks_a_part_is_refused(part, instead):
    environ = signed()
    environ["HTTP_AUTHORIZATION"] = environ["HTTP_AUTHORIZATION"].replace(part, instead)
    with pytest.raises(AwsError) as error:
        signature.claim_of(environ)
    assert error.value.code == "IncompleteSignature"
    environ = signed()
    del environ["HTTP_X_AMZ_DATE"]
    assert pytest.raises(AwsError, signature.claim_of, environ).value.code == "IncompleteSignature"


def test_s3_wants_to_be_told_the_hash_of_the_body():
    environ = by_botocore(of_service("s3"))
    assert refused(environ) == "InvalidRequest"


def test_the_chunks_of_awss_own_example_are_taken_and_no_others():
    """"Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks", S3 API Reference."""
    first = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    claim = signature.Claim("AKIAIOSFODNN7EXAMPLE", "20130524", "us-east-1", "s3", [], first, "20130524T000000Z", None, False)
    chunks = [
        (b"a" * 65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (b"a" * 1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (b"", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ]
    checks = signature.ChunkSignatures(claim, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    for content, proof in chunks:
        with pytest.raises(AwsError):
            checks.check(proof, hashlib.sha256(content + b"b").hexdigest())
        checks.check(proof, hashlib.sha256(content).hexdigest())
    # One that was taken is not taken again.
    with pytest.raises(AwsError):
        checks.check(chunks[0][1], hashlib.sha256(chunks[0][0]).hexdigest())


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


def a_claim(service="s3", key="AKIANOBODY", token=None):
    return signature.Claim(key, "", "", service, [], "", "", token, False)


@pytest.mark.parametrize(
    "service, unknown, of_another_token",
    [
        ("s3", ("InvalidAccessKeyId", 403), ("InvalidToken", 400)),
        ("ec2", ("AuthFailure", 401), ("AuthFailure", 401)),
        ("secretsmanager", ("UnrecognizedClientException", 403), ("UnrecognizedClientException", 403)),
        ("logs", ("UnrecognizedClientException", 403), ("UnrecognizedClientException", 403)),
        ("iam", ("InvalidClientTokenId", 403), ("InvalidClientTokenId", 403)),
        ("rds", ("InvalidClientTokenId", 403), ("InvalidClientTokenId", 403)),
    ],
)
def test_each_service_refuses_those_who_are_nobody_in_its_own_words(service, unknown, of_another_token):
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)
    session = {"role": "r", "session": "i-1", "secret": SECRET, "token": "a token", "expires": expires}
    identities = identity.Identities(None, {"sessions": {"ASIANOBODY": session}})
    for claim, wanted in [
        (a_claim(service), unknown),
        (a_claim(service, "ASIANOBODY", "another"), of_another_token),
        (a_claim(service, "ASIANOBODY"), of_another_token),
    ]:
        with pytest.raises(AwsError) as error:
            identities.find(claim)
        assert (error.value.code, error.value.status) == wanted


def test_the_root_is_made_once_and_what_else_is_in_its_file_is_kept(tmp_path):
    config = Config(tmp_path, "unit", 0)
    config.credentials_file.parent.mkdir(parents=True)
    config.credentials_file.write_text("[mine]\naws_access_key_id = AKIAMINE\n", encoding="utf-8")
    keys = set()
    for _start in range(2):
        identities = identity.Identities(config, {})
        identities.ensure_root()
        text = config.credentials_file.read_text(encoding="utf-8")
        key = text.partition("[localcloud]")[2].partition("aws_access_key_id = ")[2].split()[0]
        keys.add(key)
        root = identities.find(a_claim(key=key))
        assert root.is_root and root.arn == "arn:aws:iam::123456789012:root" and root.secret in text
        assert len(root.secret) == 40 and "AKIAMINE" in text and config.credentials_file.stat().st_mode & 0o777 == 0o600
        # The root has no token.
        assert pytest.raises(AwsError, identities.find, a_claim(key=key, token="a token")).value.code == "InvalidToken"
    assert len(keys) == 1 and key.startswith("AKIA") and len(key) == 20
    # Nobody can guess those of another cloud.
    other = Config(tmp_path, "other", 1)
    identity.Identities(other, {}).ensure_root()
    assert key not in other.credentials_file.read_text(encoding="utf-8")


def a_role(**trusted):
    statement = {"Effect": "Allow", "Principal": trusted, "Action": "sts:AssumeRole"}
    return types.SimpleNamespace(name="server", assume_role_policy_document=json.dumps({"Statement": [statement]}))


def test_an_instance_has_its_roles_credentials_until_they_are_about_to_end():
    tables = {}
    identities = identity.Identities(None, tables)
    role = a_role(Service="ec2.amazonaws.com")
    first, new = identities.instance_credentials(role, "i-1")
    assert new and first["Code"] == "Success"
    left = datetime.datetime.fromisoformat(first["Expiration"]) - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(hours=5) < left <= datetime.timedelta(hours=6)
    began = datetime.datetime.fromisoformat(first["LastUpdated"])
    assert abs(began - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
    caller = identities.find(a_claim(key=first["AccessKeyId"], token=first["Token"]))
    assert caller.secret == first["SecretAccessKey"] and not caller.is_root
    assert caller.arn == "arn:aws:sts::123456789012:assumed-role/server/i-1"
    assert identities.instance_credentials(role, "i-1") == (first, False)
    # Another instance of the role has others, and so has another role.
    second, new = identities.instance_credentials(role, "i-2")
    assert new and not {first[name] for name in ("AccessKeyId", "SecretAccessKey", "Token")} & set(second.values())
    third, new = identities.instance_credentials(types.SimpleNamespace(**{**vars(role), "name": "other"}), "i-1")
    assert new and third["AccessKeyId"] != first["AccessKeyId"]
    # Those that soon end are good meanwhile.
    session = tables["sessions"][first["AccessKeyId"]]
    session["expires"] = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=59)
    fourth, new = identities.instance_credentials(role, "i-1")
    assert new and fourth["AccessKeyId"] != first["AccessKeyId"]
    assert identities.find(a_claim(key=first["AccessKeyId"], token=first["Token"])).secret == first["SecretAccessKey"]
    session["expires"] = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    assert identities.instance_credentials(role, "i-1") == (fourth, False)
    assert set(tables["sessions"]) == {each["AccessKeyId"] for each in (second, third, fourth)}


@pytest.mark.parametrize("trusted", [{"Service": "rds.amazonaws.com"}, {"AWS": "*"}])
def test_an_instance_has_no_credentials_of_a_role_that_does_not_trust_it(trusted):
    tables = {}
    assert identity.Identities(None, tables).instance_credentials(a_role(**trusted), "i-1") == (None, False)
    assert not tables.get("sessions")


def test_a_caller_has_the_policies_of_its_groups_and_of_no_others():
    backend = identity.iam_backends[identity.ACCOUNT][identity.PARTITION]
    document = json.dumps({"Version": "2012-10-17", "Statement": {**ALLOW, "Sid": "mine"}})
    for number in (1, 2):
        backend.create_user("us-east-1", f"unit-user{number}")
        backend.create_group(f"unit-group{number}")
        backend.add_user_to_group(f"unit-group{number}", f"unit-user{number}")
        backend.put_group_policy(f"unit-group{number}", "inline", document.replace("mine", f"group{number}"))
        backend.put_user_policy(f"unit-user{number}", "inline", document.replace("mine", f"user{number}"))
    managed = backend.create_policy(None, "/", document.replace("mine", "old"), "unit-managed", [])
    backend.create_policy_version(managed.arn, document.replace("mine", "default"), "true")
    backend.attach_group_policy(managed.arn, "unit-group2")

    def names(principal):
        return sorted(json.loads(each)["Statement"]["Sid"] for each in principal.policies())

    try:
        assert names(identity.Principal("User", ANN, "id", user_name="unit-user1")) == ["group1", "user1"]
        assert names(identity.Principal("User", ANN, "id", user_name="unit-user2")) == ["default", "group2", "user2"]
        assert identity.ANONYMOUS.policies() == [] and identity.ANONYMOUS.names() == {"*"}
        gone = identity.Principal("AssumedRole", "arn:aws:sts::123456789012:assumed-role/gone/s", "id", role_name="gone")
        assert gone.policies() == [] and gone.names() == {gone.arn, "123456789012"}
        # Whoever prints one does not print the secret.
        assert SECRET not in repr(identity.Principal("User", ANN, "id", secret=SECRET))
    finally:
        backend.detach_group_policy(managed.arn, "unit-group2")
        for number in (1, 2):
            backend.remove_user_from_group(f"unit-group{number}", f"unit-user{number}")
            backend.delete_user_policy(f"unit-user{number}", "inline")
            backend.delete_user(f"unit-user{number}")
            backend.delete_group_policy(f"unit-group{number}", "inline")
            backend.delete_group(f"unit-group{number}")


def test_each_session_of_a_role_is_its_own():
    backend, identities = identity.sts_backends[identity.ACCOUNT][identity.PARTITION], identity.Identities(None, {})
    before = list(backend.assumed_roles)
    try:
        for name in ("one", "two"):
            backend.assume_role("us-east-1", name, f"arn:aws:iam::123456789012:role/unit-{name}", None, 3600, None)
        for made, name in zip(backend.assumed_roles[len(before) :], ("one", "two"), strict=True):
            found = identities.find(a_claim(key=made.access_key_id, token=made.session_token))
            assert found.arn == f"arn:aws:sts::123456789012:assumed-role/unit-{name}/{name}"
            assert found.secret == made.secret_access_key and found.role_name == f"unit-{name}"
            with pytest.raises(AwsError, match="InvalidToken"):
                identities.find(a_claim(key=made.access_key_id, token="another"))
        for key in ("A", "Z" * 20):
            with pytest.raises(AwsError, match="InvalidAccessKeyId"):
                identities.find(a_claim(key=key))
    finally:
        backend.assumed_roles[:] = before


# -- what there is not -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "service, operation, what",
    [
        ("ec2", "AllocateAddress", "public addresses"),
        ("ec2", "CreateNetworkAcl", "network ACLs"),
        ("ec2", "ModifyVolume", "volumes"),
        ("rds", "CreateDBCluster", "DB clusters"),
        ("rds", "DescribeDBLogFiles", "log files"),
        ("ssm", "DescribeInstanceInformation", "Systems Manager"),
        ("sts", "GetFederationToken", "federation"),
        ("s3", "PutBucketReplication", "this part of S3"),
        ("ec2", "DescribeAddresses", None),
        ("ec2", "CreateVpc", None),
        # A client that looks for what there might be is told that there is none.
        ("rds", "DescribeDBClusters", None),
        ("rds", "CreateDBInstance", None),
        ("ssm", "GetParameter", None),
        ("sts", "GetCallerIdentity", None),
        ("kms", "Encrypt", None),
    ],
)
def test_a_call_without_an_effect_is_told_what_is_missing(service, operation, what):
    if what is None:
        refusals.check_operation(service, operation)
        return
    with pytest.raises(AwsError) as error:
        refusals.check_operation(service, operation)
    assert (error.value.code, error.value.status) == ("LocalCloudUnsupported", 501)
    assert operation in error.value.message and what in error.value.message


def test_a_service_that_is_not_there_is_told_which_are():
    for service in ("ec2", "s3", "logs"):
        refusals.check_service(service)
    for service in ("lambda", "a", "zz"):
        with pytest.raises(AwsError) as error:
            refusals.check_service(service)
        assert error.value.status == 501 and service in error.value.message and "ec2, iam" in error.value.message
    assert "kms:Sign" in refusals.not_implemented("kms", "Sign").message
