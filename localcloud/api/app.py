# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
The way of a request: body in, signature, permission, our checks, moto, snapshot, answer.

Only moto itself runs under the lock. Uploads are read and downloads are sent without it.
"""

from __future__ import annotations

import io
import logging
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.sax.saxutils import escape

from moto.core.base_backend import BackendDict
from moto.moto_server.werkzeug_app import create_backend_app

from . import body as bodies
from . import ec2, iam, identity, objects, rds, refusals, s3, signature, wire
from .state import State
from .wire import AwsError, Call

log = logging.getLogger("localcloud.api")

_READS = re.compile(
    r"(Describe|Get(?!Random)|List|Head|Search|Lookup|Simulate|Validate|Test|Check|Select|Options|Decode|Verify|"
    r"BatchGet|GenerateCredential|Download).*"
)
_CHECKS: dict[str, dict[str, Callable[[Call], None]]] = {"ec2": ec2.CHECKS, "rds": rds.CHECKS}


class Application:
    """The AWS API as a WSGI application."""

    def __init__(self, lock: Any, state: State, identities: identity.Identities, changed: Callable[[], None]):
        self._lock = lock
        self._state = state
        self._identities = identities
        self._changed = changed
        self._apps: dict[str, Any] = {}
        self._apps_lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        protocol = "rest-xml"
        spool = None
        try:
            claim = signature.claim_of(environ)
            service = claim.service if claim else "s3"
            if claim is None and (wire.header(environ, "content-type") or "").startswith(
                "application/x-www-form-urlencoded"
            ):
                protocol = "query"
                raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
            protocol = wire.guess_protocol(service, environ)
            refusals.check_service(service)
            raw = signature._raw_path(environ)
            environ["PATH_INFO"] = unquote_to_bytes(raw).decode("latin-1")
            environ["RAW_URI"] = environ.get("REQUEST_URI", raw)
            spool = bodies.Spool(environ)
            status, headers, content = self._serve(environ, claim, service, spool)
        except AwsError as error:
            status, headers, body = wire.error_response(error, protocol, environ)
            content = [body]
        except Exception:
            log.exception("%s %s", environ.get("REQUEST_METHOD"), environ.get("PATH_INFO"))
            error = AwsError("InternalFailure" if protocol != "rest-xml" else "InternalError",
                             "The local cloud failed on this request; its log says why.", 500)
            status, headers, body = wire.error_response(error, protocol, environ)
            content = [body]
        finally:
            if spool is not None:
                spool.close()
        start_response(f"{status} {_REASONS.get(status, 'Status')}", headers)
        return content

    def _serve(
        self, environ: dict[str, Any], claim: signature.Claim | None, service: str, spool: bodies.Spool
    ) -> tuple[int, list[tuple[str, str]], Iterable[bytes]]:
        principal = identity.ANONYMOUS
        if claim is not None:
            with self._lock:
                principal = self._identities.find(claim)
            signature.check(environ, claim, principal.secret, spool.sha256)
        call = Call(service, wire.SERVICES[service], "", claim.region if claim else "us-east-1", environ)
        call.principal = principal
        if service == "s3":
            call.bucket, call.key = wire.split_s3_path(environ)
            call.operation, call.params = wire.operation_of(service, dict(environ, **_no_virtual_host()), None)
            data = b"" if call.operation in wire.OBJECT_BODIES else spool.bytes()
        else:
            data = spool.bytes()
            call.operation, call.params = wire.operation_of(service, environ, data)
        refusals.check_operation(service, call.operation)
        with self._lock:
            iam.authorize(call)
        upload = None
        if service == "s3" and call.operation in wire.OBJECT_BODIES:
            chunk_check = None
            if claim and (wire.header(environ, "x-amz-content-sha256") or "") in signature.STREAMING_SIGNED:
                chunk_check = signature.ChunkSignatures(claim, principal.secret)
            upload = bodies.store_object(environ, spool, chunk_check)
        with self._lock:
            result = self._call_moto(call, data, upload)
        self._state.commit()
        if not _READS.match(call.operation) and service in ("ec2", "rds"):
            self._changed()
        return result

    def _call_moto(
        self, call: Call, data: bytes, upload: objects.Content | None
    ) -> tuple[int, list[tuple[str, str]], Iterable[bytes]]:
        iam.check_new_policy(call, data)
        backends_before = _count_backends()
        writes = not _READS.match(call.operation)
        status = 0  # stays so when moto raises: then it may have kept what it got
        try:
            check = _CHECKS.get(call.service, {}).get(call.operation)
            if check:
                check(call)
            if call.service == "ec2" and not writes:
                ec2.forget_terminated()
            status, headers, content = self._dispatch(call, data, upload)
        finally:
            if call.service == "s3":
                if writes and status < 400:
                    self._state.mark("s3")
                elif upload is not None and writes:
                    for segment in upload.segments:
                        objects.store.drop(segment.name)
            elif writes:
                self._state.mark("control")
            if _count_backends() != backends_before:
                self._state.mark("control")
                self._state.mark("s3")
        return status, headers, content

    def _dispatch(
        self, call: Call, data: bytes, upload: objects.Content | None
    ) -> tuple[int, list[tuple[str, str]], Iterable[bytes]]:
        if call.service == "sts" and call.operation == "GetCallerIdentity":
            return _caller_identity(call)
        denied: list[str] = []
        if call.service == "s3" and call.operation == "DeleteObjects":
            data, denied = iam.filter_deletes(call, data)
            if denied and b"<Key>" not in data and b":Key>" not in data:
                return _plain(200, "application/xml", s3.delete_errors(b"", denied))
        s3.transfer.upload, s3.transfer.download = upload, None
        try:
            status, headers, body = self._run(call, self._environ_for_moto(call, data, upload))
            download = s3.transfer.download
        finally:
            s3.transfer.upload = s3.transfer.download = None
        if call.service == "s3":
            if status == 404 and call.operation in ("GetObject", "HeadObject") and not iam.may_list(call):
                raise AwsError("AccessDenied", "Access Denied", 403)
            if denied:
                body = s3.delete_errors(body, denied)
                headers = _with_length(headers, len(body))
        if download is not None:
            headers = _with_length(headers, len(download))
            return status, headers, objects.Reader(download)
        return status, headers, [body]

    def _run(self, call: Call, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
        answer: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            answer[:] = [int(status.split()[0]), list(headers)]

        try:
            chunks = self._app(call.service)(environ, start_response)
            try:
                body = b"".join(chunks)
            finally:
                if hasattr(chunks, "close"):
                    chunks.close()
        except NotImplementedError:
            raise refusals.not_implemented(call.service, call.operation) from None
        status, headers = answer
        return status, [h for h in headers if h[0].lower() not in ("connection", "server", "date")], body

    def _app(self, service: str) -> Any:
        with self._apps_lock:
            if service not in self._apps:
                self._apps[service] = create_backend_app(service)  # type: ignore[arg-type]
            return self._apps[service]

    def _environ_for_moto(self, call: Call, data: bytes, upload: objects.Content | None) -> dict[str, Any]:
        environ = {k: v for k, v in call.environ.items() if not k.startswith("SSL_")}
        for name in ("HTTP_TRANSFER_ENCODING", "wsgi.input_terminated", "HTTP_EXPECT", "HTTP_X_AMZ_CONTENT_SHA256",
                     "HTTP_X_AMZ_TRAILER", "HTTP_X_AMZ_DECODED_CONTENT_LENGTH", "HTTP_X_MOTO_ACCOUNT_ID"):
            environ.pop(name, None)
        environ["wsgi.input"] = io.BytesIO(data)
        environ["CONTENT_LENGTH"] = str(len(data))
        # moto reads the region and the caller's key from here, also for presigned requests.
        key = call.principal.access_key_id or "AKIAANONYMOUS"
        environ["HTTP_AUTHORIZATION"] = (
            f"AWS4-HMAC-SHA256 Credential={key}/20260101/{call.region}/{call.service}/aws4_request, "
            "SignedHeaders=host, Signature=checked"
        )
        environ["HTTP_USER_AGENT"] = "localcloud"
        if call.service == "s3":
            environ.update(_no_virtual_host())
            encoding = [e.strip() for e in environ.get("HTTP_CONTENT_ENCODING", "").split(",")]
            encoding = [e for e in encoding if e and e != "aws-chunked"]
            environ.pop("HTTP_CONTENT_ENCODING", None)
            if encoding:
                environ["HTTP_CONTENT_ENCODING"] = ",".join(encoding)
            if upload is not None:
                for algorithm, value in upload.checksums.items():
                    environ[f"HTTP_X_AMZ_CHECKSUM_{algorithm}"] = value
                    environ.setdefault("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", algorithm)
        return environ


_REASONS = {200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content", 301: "Moved",
            304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
            405: "Method Not Allowed", 409: "Conflict", 412: "Precondition Failed", 413: "Payload Too Large",
            416: "Range Not Satisfiable", 500: "Internal Server Error", 501: "Not Implemented"}


def _no_virtual_host() -> dict[str, str]:
    """Buckets are always in the path here: endpoints are addresses."""
    return {"HTTP_HOST": "localhost"}


def _count_backends() -> int:
    return sum(len(regions) for service in BackendDict._instances for regions in service.values())


def _with_length(headers: list[tuple[str, str]], length: int) -> list[tuple[str, str]]:
    return [h for h in headers if h[0].lower() != "content-length"] + [("Content-Length", str(length))]


def _plain(status: int, kind: str, body: bytes) -> tuple[int, list[tuple[str, str]], list[bytes]]:
    return status, [("Content-Type", kind), ("Content-Length", str(len(body)))], [body]


def _caller_identity(call: Call) -> tuple[int, list[tuple[str, str]], list[bytes]]:
    who = call.principal
    text = (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
        f"<Arn>{escape(who.arn)}</Arn><UserId>{escape(who.user_id)}</UserId><Account>{identity.ACCOUNT}</Account>"
        "</GetCallerIdentityResult><ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId>"
        "</ResponseMetadata></GetCallerIdentityResponse>"
    )
    return _plain(200, "text/xml", text.encode())
