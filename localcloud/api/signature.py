# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Who signed a request: AWS Signature Version 4 in the header or in the query string.

Reference: "AWS Signature Version 4 for API requests" in the IAM User Guide and "Authenticating Requests (AWS
Signature Version 4)" in the S3 API Reference. Version 2 is refused, as newer regions of AWS do.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from .wire import AwsError, header

_ALGORITHM = "AWS4-HMAC-SHA256"
_MAX_SKEW = 15 * 60
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
STREAMING = (*STREAMING_SIGNED, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")


@dataclass
class Claim:
    """What a request says about its signer. Nothing of it is proven before ``check``."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: list[str]
    signature: str
    timestamp: str
    token: str | None
    presigned: bool
    expires: int | None = None

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def _query(environ: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = []
    for part in environ.get("QUERY_STRING", "").split("&"):
        if part:
            k, _, v = part.partition("=")
            pairs.append((unquote_to_bytes(k.replace("+", " ")).decode("utf-8", "replace"),
                          unquote_to_bytes(v.replace("+", " ")).decode("utf-8", "replace")))
    return pairs


def claim_of(environ: dict[str, Any]) -> Claim | None:
    """The claim of a request, or None for an anonymous one."""
    authorization = header(environ, "authorization")
    if authorization:
        if not authorization.startswith(_ALGORITHM):
            raise AwsError(
                "InvalidRequest",
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
            )
        fields = dict(re.findall(r"(Credential|SignedHeaders|Signature)=([^,\s]+)", authorization))
        timestamp = header(environ, "x-amz-date") or ""
        return _claim(fields.get("Credential", ""), fields.get("SignedHeaders", ""), fields.get("Signature", ""),
                      timestamp, header(environ, "x-amz-security-token"), False)
    query = dict(_query(environ))
    if "X-Amz-Signature" in query:
        claim = _claim(query.get("X-Amz-Credential", ""), query.get("X-Amz-SignedHeaders", ""),
                       query["X-Amz-Signature"], query.get("X-Amz-Date", ""), query.get("X-Amz-Security-Token"), True)
        try:
            claim.expires = int(query.get("X-Amz-Expires", ""))
        except ValueError:
            raise AwsError("AuthorizationQueryParametersError", "X-Amz-Expires should be a number") from None
        if not 0 < claim.expires <= 604800:
            raise AwsError("AuthorizationQueryParametersError", "X-Amz-Expires must be less than a week (in seconds)")
        return claim
    if "AWSAccessKeyId" in query and "Signature" in query:
        raise AwsError(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        )
    return None


def _claim(credential: str, signed: str, signature: str, timestamp: str, token: str | None, presigned: bool) -> Claim:
    parts = credential.split("/")
    if len(parts) < 5 or parts[-1] != "aws4_request" or not signed or not signature or not timestamp:
        raise AwsError("IncompleteSignature", "The request signature does not conform to AWS standards.")
    return Claim("/".join(parts[:-4]), parts[-4], parts[-3], parts[-2], signed.split(";"), signature, timestamp,
                 token, presigned)


def _raw_path(environ: dict[str, Any]) -> str:
    raw = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    if raw is None:
        return quote(environ.get("PATH_INFO", "/").encode("latin-1"), safe="/-_.~")
    if "://" in raw.split("?", 1)[0]:
        raw = "/" + raw.split("://", 1)[1].partition("/")[2]
    return raw.split("?", 1)[0] or "/"


def _canonical(environ: dict[str, Any], claim: Claim, payload_hash: str) -> str:
    raw = _raw_path(environ)
    if claim.service == "s3":
        path = quote(unquote_to_bytes(raw), safe="/-_.~")
    else:
        path = quote(raw, safe="/-_.~")
    pairs = sorted(
        (quote(k.encode(), safe="-_.~"), quote(v.encode(), safe="-_.~"))
        for k, v in _query(environ)
        if k != "X-Amz-Signature"
    )
    query = "&".join(f"{k}={v}" for k, v in pairs)
    lines = []
    for name in claim.signed_headers:
        value = header(environ, name)
        if value is None and name == "content-length":
            value = "0"
        lines.append(f"{name}:{' '.join((value or '').split())}\n")
    return "\n".join(
        [environ["REQUEST_METHOD"], path, query, "".join(lines), ";".join(claim.signed_headers), payload_hash]
    )


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signing_key(secret: str, claim: Claim) -> bytes:
    key = _hmac(("AWS4" + secret).encode(), claim.date)
    for part in (claim.region, claim.service, "aws4_request"):
        key = _hmac(key, part)
    return key


def _mismatch(claim: Claim) -> AwsError:
    if claim.service == "ec2":
        return AwsError(
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
            401,
        )
    return AwsError(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. "
        "Check your AWS Secret Access Key and signing method.",
        403,
    )


def check(environ: dict[str, Any], claim: Claim, secret: str, body_sha256: str) -> None:
    """Prove the claim with the secret key, or raise the error that AWS gives."""
    declared = header(environ, "x-amz-content-sha256")
    if claim.presigned:
        payload = declared or dict(_query(environ)).get("X-Amz-Content-Sha256") or (
            UNSIGNED if claim.service == "s3" else body_sha256)
    elif claim.service == "s3":
        if not declared:
            raise AwsError("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        payload = declared
    else:
        payload = body_sha256
    if "host" not in claim.signed_headers:
        raise _mismatch(claim)
    for name in ("x-amz-security-token", "x-amz-date", "x-amz-content-sha256"):
        # A header that decides something must be under the signature.
        if not claim.presigned and header(environ, name) is not None and name not in claim.signed_headers:
            raise _mismatch(claim)
    canonical = _canonical(environ, claim, payload)
    text = "\n".join([_ALGORITHM, claim.timestamp, claim.scope, hashlib.sha256(canonical.encode()).hexdigest()])
    expected = hmac.new(signing_key(secret, claim), text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, claim.signature):
        raise _mismatch(claim)
    _check_time(claim)
    if claim.service == "s3" and payload != UNSIGNED and payload not in STREAMING and payload != body_sha256:
        raise AwsError(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )


def _check_time(claim: Claim) -> None:
    try:
        signed = datetime.datetime.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        raise AwsError("IncompleteSignature", "Date must be in ISO-8601 'basic format'.") from None
    age = (datetime.datetime.now(datetime.UTC) - signed).total_seconds()
    if claim.presigned:
        if age > (claim.expires or 0):
            raise AwsError("AccessDenied", "Request has expired", 403)
        if age < -_MAX_SKEW:
            raise AwsError("AccessDenied", "Request is not yet valid", 403)
    elif abs(age) > _MAX_SKEW:
        if claim.service == "s3":
            raise AwsError(
                "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.",
                403,
            )
        code = "RequestExpired" if claim.service == "ec2" else "SignatureDoesNotMatch"
        raise AwsError(code, f"Signature expired or not yet current: {claim.timestamp}", 403)


class ChunkSignatures:
    """Checks the signature of each chunk of a STREAMING-AWS4-HMAC-SHA256-PAYLOAD upload."""

    def __init__(self, claim: Claim, secret: str):
        self._key = signing_key(secret, claim)
        self._claim = claim
        self._previous = claim.signature

    def check(self, signature: str, chunk_sha256: str) -> None:
        empty = hashlib.sha256(b"").hexdigest()
        text = "\n".join(
            ["AWS4-HMAC-SHA256-PAYLOAD", self._claim.timestamp, self._claim.scope, self._previous, empty, chunk_sha256]
        )
        expected = hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            raise _mismatch(self._claim)
        self._previous = expected
