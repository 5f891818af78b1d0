# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What MLflow's store on S3 is kept from, and what it tells of an artifact that is not there; with stand-ins for MLflow."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.compat import artifacts  # noqa: E402
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
    """A store whose bucket says of an object what it is told to."""

    class S3:
        artifact_uri = "s3://bucket/root"
        says = None
        asked: list = []

        def parse_s3_compliant_uri(self, uri):
            return "bucket", "root"

        def _get_s3_client(self):
            def head_object(**about):
                self.asked.append(about)
                if self.says:
                    raise self.says

            return SimpleNamespace(head_object=head_object)

        def create_multipart_upload(self, local_file, num_parts=1, artifact_path=None):
            return local_file, num_parts, artifact_path

        def download_artifacts(self, artifact_path, dst_path=None, **options):
            if artifact_path == "there":
                return dst_path, options
            raise RuntimeError("MLflow's own failure")

    S3.asked = []
    modules = {
        "mlflow": {}, "mlflow.exceptions": {"MlflowException": MlflowException}, "mlflow.protos": {},
        "mlflow.protos.databricks_pb2": {"RESOURCE_DOES_NOT_EXIST": "gone"}, "mlflow.store": {}, "mlflow.store.artifact": {},
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
