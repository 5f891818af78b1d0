# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A store that wants Content-MD5 where many objects are deleted, as MinIO before 2025 and older Ceph, lets them be deleted."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ClientError
from stand_ins import store_of

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.database import gc  # noqa: E402
from mlflow_service.transfer import digests, streams  # noqa: E402

REFUSED = b"<Error><Code>MissingContentMD5</Code><Message>Missing required header: Content-Md5.</Message></Error>"


class OldStore(BaseHTTPRequestHandler):
    def do_GET(self):
        contents = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in sorted(self.server.keys))
        self._answer(
            200, f"<ListBucketResult><KeyCount>{len(self.server.keys)}</KeyCount>{contents}</ListBucketResult>".encode()
        )

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.add(self.path.partition("?")[0].removeprefix("/bucket/"))
        self._answer(200, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.headers.append(self.headers)
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        if self.headers["Content-MD5"] != digest or "content-md5" not in self.headers["Authorization"]:
            return self._answer(400, REFUSED)
        self.server.keys -= set(re.findall(r"<Key>(.*?)</Key>", body.decode()))
        return self._answer(200, b"<DeleteResult></DeleteResult>")

    def _answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with store_of(OldStore, monkeypatch, keys={"run/a", "run/b"}, headers=[]) as server:
        yield server


def s3(server):
    """As MLflow makes it: of boto3's own session."""
    return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.server_port}")


def delete(client):
    return client.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "run/a"}, {"Key": "run/b"}]})


def test_the_store_refuses_what_boto3_does_by_itself(store):
    with pytest.raises(ClientError, match="MissingContentMD5"):
        delete(s3(store))
    assert store.keys == {"run/a", "run/b"}


def test_the_service_deletes(store):
    streams.give_up_in_time()
    delete(s3(store))
    assert store.keys == set()
    # What S3 itself goes by is there as it was.
    assert store.headers[-1]["x-amz-checksum-crc32"]


class Repository:
    """What mlflow-gc asks of MLflow's."""

    def __init__(self, server, uri):
        self._client = s3(server)
        self._prefix = uri.removeprefix("s3://bucket/")

    def list_artifacts(self):
        found = self._client.list_objects_v2(Bucket="bucket").get("Contents", [])
        return [it["Key"] for it in found if it["Key"].startswith(self._prefix)]

    def log_artifact(self, file):
        self._client.put_object(Bucket="bucket", Key=f"{self._prefix}/{Path(file).name}", Body=Path(file).read_bytes())

    def delete_artifacts(self):
        self._client.delete_objects(
            Bucket="bucket", Delete={"Objects": [{"Key": key} for key in self.list_artifacts()]}
        )


def test_mlflow_gc_finds_that_the_store_deletes(store, monkeypatch):
    problems = []

    class Noted:
        gone = held = kept = 0

        def __init__(self, rows, found, before, dry_run):
            problems.append((found._problem, found._refusal))

        def all(self):
            pass

    class Database:
        def execute(self, query, given=None):
            return SimpleNamespace(fetchone=lambda: (True,))

        __enter__ = __exit__ = lambda *dummy: None

    answers = {"check_schema": None, "refuse_what_moved": None, "present_store": ("s3://bucket", 0), "compare_clocks": 10**9}
    for name, answer in answers.items():
        monkeypatch.setattr(gc, name, lambda *dummy, answer=answer: answer)
    monkeypatch.setattr(gc.client, "connect", lambda *dummy: Database())
    monkeypatch.setattr(gc, "Cleaning", Noted)
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://")
    of_mlflow = {
        "mlflow.store.artifact.artifact_repository_registry": {
            "get_artifact_repository": lambda uri: Repository(store, uri)
        },
        "mlflow.store.tracking.sqlalchemy_store": {"SqlAlchemyStore": lambda *dummy: None},
    }
    for name, content in of_mlflow.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))
    monkeypatch.setattr(sys, "argv", ["mlflow-gc", "--older-than", "2d"])
    assert gc.main() == 0
    assert problems == [(None, None)] and store.keys == {"run/a", "run/b"}


@pytest.mark.parametrize(
    ("address", "sent"),
    [("https://s3.eu-central-1.amazonaws.com", False), ("https://s3.cn-north-1.amazonaws.com.cn", False), (None, False),
     ("https://minio.example.com:9000", True), ("https://amazonaws.com.example.com", True)],
)  # fmt: skip
def test_aws_is_asked_as_boto3_asks(store, address, sent):
    digests.send_always()
    client, seen = boto3.client("s3", endpoint_url=address), []

    def note(request, **dummy):
        seen.append(request.headers)
        raise InterruptedError

    client.meta.events.register_first("before-send.s3", note)
    with pytest.raises(InterruptedError):
        delete(client)
    assert ("Content-MD5" in seen[0]) is sent and "x-amz-checksum-crc32" in seen[0]
