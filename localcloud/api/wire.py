# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The wire: which operation a request asks for, and how an error looks in its service's protocol."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model
from werkzeug.exceptions import HTTPException

#: Protocol of each service that the local cloud answers, by the name it is signed for.
SERVICES = {
    "ec2": "ec2",
    "rds": "query",
    "iam": "query",
    "sts": "query",
    "s3": "rest-xml",
    "secretsmanager": "json",
    "ssm": "json",
    "kms": "json",
    "logs": "json",
}

#: S3 operations whose body is an object's content: it is spooled to a file and never parsed.
OBJECT_BODIES = {"PutObject", "UploadPart"}


class AwsError(Exception):
    """An error that the client gets in the shape its service uses."""

    def __init__(self, code: str, message: str, status: int = 400, **extra: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.extra = extra


@dataclass
class Call:
    """One request to the API, understood."""

    service: str
    protocol: str
    operation: str
    region: str
    environ: dict[str, Any] = field(repr=False)
    params: dict[str, Any] = field(default_factory=dict, repr=False)
    principal: Any = None
    bucket: str = ""
    key: str = ""

    def header(self, name: str) -> str | None:
        return header(self.environ, name)


def header(environ: dict[str, Any], name: str) -> str | None:
    key = name.upper().replace("-", "_")
    if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return environ.get(key)
    return environ.get("HTTP_" + key)


def guess_protocol(service: str, environ: dict[str, Any]) -> str:
    """The protocol of a request to a service that SERVICES may not have."""
    if service in SERVICES:
        return SERVICES[service]
    if header(environ, "x-amz-target"):
        return "json"
    if (header(environ, "content-type") or "").startswith("application/x-www-form-urlencoded"):
        return "query"
    return "rest-json"


def split_s3_path(environ: dict[str, Any]) -> tuple[str, str]:
    """Bucket and key of a path-style request."""
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace").lstrip("/")
    bucket, _, key = path.partition("/")
    return bucket, key


@cache
def _model(service: str) -> Any:
    return get_service_model(service)


def operation_of(service: str, environ: dict[str, Any], body: bytes | None) -> tuple[str, dict[str, Any]]:
    """Name and parameters of the operation. ``body`` is None where the content stays in its spool file."""
    protocol = SERVICES[service]
    if protocol == "rest-xml":
        return _rest_operation(service, environ, body)
    if protocol == "json":
        name = (header(environ, "x-amz-target") or "").rpartition(".")[2]
        if not name:
            raise AwsError("UnknownOperationException", "The request names no operation.")
        try:
            params = json.loads(body or b"{}")
        except ValueError as e:
            raise AwsError("SerializationException", "The body is not JSON.") from e
        return name, params
    form = parse_qs((body or b"").decode("utf-8", "replace"), keep_blank_values=True)
    form.update(parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    name = (form.get("Action") or [""])[0]
    if not name:
        raise AwsError("MissingAction", "The request names no Action.")
    model = _model(service)
    if name not in model.operation_names:
        raise AwsError("InvalidAction", f"The action {name} is not valid for this web service.")
    parser = PROTOCOL_PARSERS[protocol](model.operation_model(name))
    from werkzeug.datastructures import CombinedMultiDict, MultiDict

    values = CombinedMultiDict([MultiDict(form)])
    parsed = parser.parse(
        {"method": "POST", "values": values, "headers": {}, "body": body or b"", "url_path": "/", "url_params": {}}
    )
    return name, dict(parsed or {})


def _rest_operation(service: str, environ: dict[str, Any], body: bytes | None) -> tuple[str, dict[str, Any]]:
    request = Request(dict(environ))
    try:
        operation, uri = get_service_router(service).match(request)
    except (HTTPException, NotImplementedError):
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return "Options", {}
        raise AwsError("MethodNotAllowed", "The specified method is not allowed against this resource.", 405) from None
    params = dict(uri)
    params.update({k: v[0] for k, v in parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).items()})
    return operation.name, params


def error_response(
    error: AwsError, protocol: str, environ: dict[str, Any]
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of an error."""
    request_id = str(uuid.uuid4())
    code, message = escape(error.code), escape(error.message)
    if protocol == "ec2":
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{code}</Code>'
            f"<Message>{message}</Message></Error></Errors><RequestID>{request_id}</RequestID></Response>"
        )
        kind = "text/xml;charset=UTF-8"
    elif protocol == "query":
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        kind = "text/xml"
    elif protocol == "rest-xml":
        extra = "".join(f"<{k}>{escape(v)}</{k}>" for k, v in error.extra.items())
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{extra}'
            f"<RequestId>{request_id}</RequestId></Error>"
        )
        kind = "application/xml"
    else:
        text = json.dumps({"__type": error.code, "message": error.message})
        kind = "application/x-amz-json-1.1"
    headers = [("Content-Type", kind), ("x-amzn-RequestId", request_id), ("x-amz-request-id", request_id)]
    if protocol in ("json", "rest-json"):
        headers.append(("x-amzn-ErrorType", error.code))
    body = b"" if environ.get("REQUEST_METHOD") == "HEAD" else text.encode()
    headers.append(("Content-Length", str(len(body))))
    return error.status, headers, body
