# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""/ready asks the artifact store with what MLflow's own client is told by the environment, so that both work or neither does."""

from __future__ import annotations

import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from stand_ins import store_of

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.http import ready  # noqa: E402

EMPTY = b'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name></ListBucketResult>'
REFUSED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
OWNER = "111122223333"


class S3(BaseHTTPRequestHandler):
    """A store of one owner; notes what it is asked."""

    def do_GET(self):
        self.server.asked.append((self.headers["Host"], self.path, self.headers.get("Authorization", "")))
        right = self.headers.get("x-amz-expected-bucket-owner", OWNER) == OWNER
        body = EMPTY if right else REFUSED
        self.send_response(200 if right else 403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def store(monkeypatch, tmp_path):
    """The service's environment with a store on this machine, and nothing checked of who is said to have it."""
    with store_of(S3, monkeypatch, asked=[]) as server:
        monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "s3://bucket/artifacts")
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://localhost:{server.server_port}")
        monkeypatch.setattr(ready._store, "check", lambda: None)
        ready._s3.cache_clear()
        yield server
        ready._s3.cache_clear()


@pytest.mark.parametrize(
    ("style", "host", "path"),
    [(None, "localhost", "/bucket?"), ("auto", "localhost", "/bucket?"), ("path", "localhost", "/bucket?"),
     ("virtual", "bucket.localhost", "/?")],
)  # fmt: skip
def test_the_bucket_is_named_as_mlflow_names_it(store, monkeypatch, style, host, path):
    if style:
        monkeypatch.setenv("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", style)
    # Whether the name of a bucket below localhost is known here is the resolver's matter.
    client = ready._s3()
    seen = []
    client.meta.events.register_first("before-send.s3", lambda request, **_: seen.append(request.url))
    try:
        ready.check_artifacts()
    except Exception:
        assert style == "virtual"
    assert len(seen) == 1
    assert seen[0].startswith(f"http://{host}:{store.server_port}{path}"), seen


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_certificate_that_mlflow_does_not_look_at_is_not_looked_at(store, monkeypatch, tmp_path):
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 -subj /CN=x -keyout key -out crt"
    subprocess.run(make.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    store.socket = context.wrap_socket(store.socket, server_side=True)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"https://localhost:{store.server_port}")
    for told, looks in ((None, True), ("false", True), ("0", True), ("true", False), ("True", False), ("1", False)):
        ready._s3.cache_clear()
        if told:
            monkeypatch.setenv("MLFLOW_S3_IGNORE_TLS", told)
        if looks:
            with pytest.raises(Exception, match="(?i)certificate"):
                ready.check_artifacts()
        else:
            ready.check_artifacts()
    assert len(store.asked) == 3


@pytest.mark.parametrize(("owner", "right"), [("", True), (OWNER, True), ("999900001111", False)])
def test_a_bucket_of_another_owner_is_none_of_ours(store, monkeypatch, owner, right):
    monkeypatch.setenv("MLFLOW_S3_EXPECTED_BUCKET_OWNER", owner)
    if right:
        ready.check_artifacts()
    else:
        with pytest.raises(Exception, match="AccessDenied"):
            ready.check_artifacts()


def test_a_store_that_wants_no_signature_gets_none(store, monkeypatch):
    ready.check_artifacts()
    monkeypatch.setenv("MLFLOW_EXPERIMENTAL_S3_SIGNATURE_VERSION", "UNSIGNED")
    ready._s3.cache_clear()
    ready.check_artifacts()
    signed, unsigned = (authorization for _host, _path, authorization in store.asked)
    assert signed.startswith("AWS4-HMAC-SHA256") and not unsigned
