# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What MLflow's store on S3 is kept from, what it tells of an artifact that is not there, and what it is told of a stream; and
before which of MLflow's routes ours are put. With stand-ins for MLflow.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.compat import artifacts  # noqa: E402
from mlflow_service.compat.ground import Patch, moved  # noqa: E402
from mlflow_service.transfer.streams import MOST_PARTS  # noqa: E402


class MlflowException(Exception):
    def __init__(self, message, error_code=None):
        super().__init__(message)
        self.error_code = error_code

    @classmethod
    def invalid_parameter_value(cls, message):
        return cls(message, "INVALID_PARAMETER_VALUE")


@pytest.fixture
def store(monkeypatch):
    """A store whose bucket says of an object what it is told to; `streaming` is what is registered in its place."""

    class S3:
        artifact_uri = "s3://bucket/root"
        says = None
        asked: list = []

        def parse_s3_compliant_uri(self, uri):
            return "bucket", "root"

        def _get_s3_client(self):
            def call(**about):
                self.asked.append(about)
                if self.says:
                    raise self.says

            meta = SimpleNamespace(config=SimpleNamespace(request_checksum_calculation="when_required"))
            return SimpleNamespace(head_object=call, put_object=call, meta=meta)

        def get_s3_file_upload_extra_args(self):
            return None

        def create_multipart_upload(self, local_file, num_parts=1, artifact_path=None):
            return local_file, num_parts, artifact_path

        def download_artifacts(self, artifact_path, dst_path=None, **options):
            if artifact_path == "there":
                return dst_path, options
            raise RuntimeError("MLflow's own failure")

    S3.asked = []
    registry = SimpleNamespace(register=lambda scheme, made: setattr(S3, "streaming", made))
    modules = {
        "mlflow": {}, "mlflow.exceptions": {"MlflowException": MlflowException}, "mlflow.protos": {},
        "mlflow.protos.databricks_pb2": {"RESOURCE_DOES_NOT_EXIST": "gone", "TEMPORARILY_UNAVAILABLE": "away"},
        "mlflow.store": {},
        "mlflow.store.artifact": {"artifact_repository_registry": SimpleNamespace(_artifact_repository_registry=registry)},
        "mlflow.store.artifact.artifact_repo": {"StreamUploadMixin": type("StreamUploadMixin", (), {})},
        "mlflow.store.artifact.s3_artifact_repo": {"S3ArtifactRepository": S3},
    }  # fmt: skip
    for name, content in modules.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))
    return S3


def test_nobody_begins_an_upload_of_more_parts_than_a_store_takes(store):
    artifacts.bound_parts()
    assert store().create_multipart_upload("file", MOST_PARTS, artifact_path="x") == ("file", MOST_PARTS, "x")
    assert store().create_multipart_upload("file") == ("file", 1, None)
    with pytest.raises(MlflowException, match=f"num_parts is {MOST_PARTS + 1}; it must be {MOST_PARTS} or less") as refused:
        store().create_multipart_upload("file", MOST_PARTS + 1)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def error(code):
    return ClientError({"Error": {"Code": code}}, "HeadObject")


@pytest.mark.parametrize("code", ["404", "NoSuchKey", "NotFound"])
def test_what_is_not_there_is_told_as_that(store, code):
    artifacts.tell_what_is_not_there()
    store.says = error(code)
    with pytest.raises(MlflowException, match="There is no such artifact") as told:
        store().download_artifacts("folder/x")
    assert told.value.error_code == "gone" and isinstance(told.value.__cause__, RuntimeError)
    assert store.asked == [{"Bucket": "bucket", "Key": "root/folder/x"}]


@pytest.mark.parametrize("says", [None, error("403"), error("SlowDown"), EndpointConnectionError(endpoint_url="https://s3")])
def test_another_failure_stays_what_it_is(store, says):
    artifacts.tell_what_is_not_there()
    store.says = says
    with pytest.raises(RuntimeError, match="MLflow's own failure"):
        store().download_artifacts("x")


def test_what_is_there_is_fetched_as_before(store):
    artifacts.tell_what_is_not_there()
    assert store().download_artifacts("there", "/tmp/x", more=1) == ("/tmp/x", {"more": 1})
    assert store.asked == []


def test_what_the_store_says_of_its_buckets_owner_is_said_here_too(store):
    artifacts.tell_what_is_not_there()
    it = store()
    it._bucket_owner_params = {"ExpectedBucketOwner": "123456789012"}
    store.says = error("404")
    with pytest.raises(MlflowException):
        it.download_artifacts("x")
    assert store.asked == [{"Bucket": "bucket", "Key": "root/x", "ExpectedBucketOwner": "123456789012"}]


# --- streams ---


@pytest.mark.parametrize(
    "name, folder, told",
    [
        ("model.json.gz", "a/b", {"Key": "root/a/b/model.json.gz", "ContentType": "application/json", "ContentEncoding": "gzip"}),
        ("x/page.html", None, {"Key": "root/page.html", "ContentType": "text/html"}),
        ("weights", "", {"Key": "root/weights"}),
    ],
)
def test_a_stream_is_stored_at_its_place_as_what_its_name_says(store, name, folder, told):
    artifacts.store_in_parts()
    store.streaming().log_artifact_from_stream(io.BytesIO(b"data"), name, folder)
    assert store.asked == [{"Bucket": "bucket", "Body": b"data", **told}]


@pytest.mark.parametrize(
    "says, why",
    [
        (error("AccessDenied"), "AccessDenied"),
        (EndpointConnectionError(endpoint_url="https://s3"), "EndpointConnectionError"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_who_uploads_is_told_that_it_is_the_store_and_may_come_again(store, says, why):
    """Else it is a failure of the server's, with nothing to go by."""
    artifacts.store_in_parts()
    store.says = says
    with pytest.raises(MlflowException, match=f"The artifact store does not take part: {why}") as told:
        store.streaming().log_artifact_from_stream(io.BytesIO(b"data"), "x")
    assert told.value.error_code == "away"


# --- MLflow's own routes for downloads, before which ours are put ---


def route(path, *methods, around=(), inside=()):
    dependant = SimpleNamespace(dependencies=list(inside))
    return SimpleNamespace(path=path, methods=set(methods), dependencies=list(around), dependant=dependant)


API, AJAX = (route(path, "GET") for path in artifacts.PATHS)


@pytest.fixture
def look(monkeypatch):
    """Why downloads are left to a router of MLflow's; nothing where they are not."""

    def look(*routes, around=()):
        router = SimpleNamespace(routes=list(routes), dependencies=list(around))
        for name in ("mlflow", "mlflow.server"):
            monkeypatch.setitem(sys.modules, name, SimpleNamespace())
        monkeypatch.setitem(sys.modules, "mlflow.server.artifact_router", SimpleNamespace(artifact_router=router))
        return moved(Patch("x", "something", looks=artifacts.DOWNLOADING.looks), {})

    return look


def test_what_else_a_router_has_is_no_matter_of_downloads(look):
    # Uploads, other paths, and what is no route of FastAPI's.
    others = [route(path, "PUT", around=["a check"]) for path in artifacts.PATHS]
    assert look(*others, API, AJAX, route("/health", "GET", inside=["a check"]), SimpleNamespace()) == ""


@pytest.mark.parametrize("place", ["around", "inside"])
@pytest.mark.parametrize("path", artifacts.PATHS)
def test_a_check_that_mlflow_makes_before_a_download_is_not_gone_round(look, path, place):
    routes = [route(it, "GET", **({place: ["a check"]} if it == path else {})) for it in artifacts.PATHS]
    assert look(*routes) == f"GET {path} depends on more than it did"


def test_a_check_of_all_that_a_router_has_is_not_gone_round_either(look):
    assert look(API, AJAX, around=["a check"]) == "the routes of artifacts depend on more than they did"


@pytest.mark.parametrize(
    "routes",
    [(), (API,), (AJAX,), (API, AJAX, AJAX), (API, route(AJAX.path, "PUT")), (API, route("/another", "GET"))],
    ids=["none", "API", "AJAX", "twice", "for uploads", "elsewhere"],
)
def test_routes_that_are_not_those_that_somebody_has_read_are_left_alone(look, routes):
    assert look(*routes) == "artifacts are fetched from other routes"
