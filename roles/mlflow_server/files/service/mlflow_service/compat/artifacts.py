# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Artifacts that pass through the server, put into MLflow.

MLflow has the place for the uploads itself: a store with StreamUploadMixin is given the stream. For the downloads a route of
the same path, and so with the same checks of login and permission, is put before MLflow's own.
"""

import asyncio
import json
import posixpath
from mimetypes import guess_type

from mlflow_service.compat.ground import GUARD, Moved, Patch
from mlflow_service.http.bodies import MIB
from mlflow_service.transfer.streams import (
    MISSING,
    MOST_PARTS,
    Download,
    Share,
    in_thread,
    only,
    present_owner,
    problem,
    upload,
)

ROUTER, S3 = "mlflow.server.artifact_router", "mlflow.store.artifact.s3_artifact_repo:S3ArtifactRepository"
PATHS = tuple(f"{prefix}/2.0/mlflow-artifacts/artifacts/{{artifact_path:path}}" for prefix in ("/api", "/ajax-api"))


def _target(store, path):
    """What S3 calls an artifact of this store."""
    bucket, root = store.parse_s3_compliant_uri(store.artifact_uri)
    return {"Bucket": bucket, "Key": posixpath.join(root, path), **getattr(store, "_bucket_owner_params", {})}


def _nobody_else_decides():
    """:raises Moved: where MLflow's route for downloads has something that decides before it."""
    from mlflow.server.artifact_router import artifact_router

    # create_fastapi_app, which takes this router in, is among what has to be known.
    if artifact_router.dependencies:
        raise Moved("the routes of artifacts depend on more than they did")
    found = []
    for route in artifact_router.routes:
        if getattr(route, "path", None) in PATHS and "GET" in route.methods:
            found.append(route.path)
            if route.dependencies or route.dependant.dependencies:
                raise Moved(f"GET {route.path} depends on more than it did")
    if sorted(found) != sorted(PATHS):
        raise Moved("artifacts are fetched from other routes")


STORING = Patch(
    "uploads",
    "artifacts go to S3 in parts as they come",
    without="all of an artifact is on the server's disk first",
    uses=(
        "mlflow.store.artifact.artifact_repository_registry:_artifact_repository_registry.register",
        "mlflow.store.artifact.artifact_repo:StreamUploadMixin.log_artifact_from_async_stream",
        "mlflow.store.artifact.artifact_repo:StreamUploadMixin.log_artifact_from_stream",
        f"{S3}._get_s3_client",
    ),
    replaces=(
        f"{ROUTER}:upload_artifact",
        *(
            f"{S3}.{name}"
            for name in (
                "__init__", "_upload_file", "log_artifact", "parse_s3_compliant_uri", "get_s3_file_upload_extra_args",
            )
        ),
    ),
)  # fmt: skip
DOWNLOADING = Patch(
    "downloads",
    "artifacts come from S3 in parts as they are asked for",
    without="all of an artifact is on the server's disk first",
    uses=tuple(
        f"{ROUTER}:{name}"
        for name in (
            "_is_serving_proxied_artifacts", "_get_workspace_scoped_path", "validate_path_is_safe", "_get_artifact_repo",
            "_guess_mime_type", "_content_disposition",
        )
    ),
    replaces=(f"{ROUTER}:download_artifact", "mlflow.server.fastapi_app:create_fastapi_app"),
    looks=(_nobody_else_decides,),
    needs=("uploads",),
)  # fmt: skip


PARTS = Patch(
    "parts",
    "an upload in parts has no more of them than a store takes",
    kind=GUARD,
    uses=(f"{S3}.create_multipart_upload",),
)


def bound_parts():
    """MLflow signs as many addresses as it is asked for, which is minutes of a processor for a number that no store takes."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    begins = S3ArtifactRepository.create_multipart_upload

    def create_multipart_upload(self, local_file, num_parts=1, *more, **named):
        if num_parts > MOST_PARTS:
            raise MlflowException.invalid_parameter_value(f"num_parts is {num_parts}; it must be {MOST_PARTS} or less.")
        return begins(self, local_file, num_parts, *more, **named)

    S3ArtifactRepository.create_multipart_upload = create_multipart_upload


ABSENT = Patch(
    "missing",
    "an artifact that is not there is answered with 404",
    optional=False,
    without="it is a failure of the server's, which clients try again for minutes",
    uses=(f"{S3}.download_artifacts", f"{S3}._get_s3_client", f"{S3}.parse_s3_compliant_uri"),
)


def tell_what_is_not_there():
    """What the web page shows. MLflow makes a failure of its own of one that is not there."""
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    fetches = S3ArtifactRepository.download_artifacts

    def is_missing(store, path):
        target = _target(store, path)
        try:
            store._get_s3_client().head_object(**target)
        except ClientError as error:
            return error.response["Error"]["Code"] in MISSING
        except BotoCoreError:
            pass
        return False

    def download_artifacts(self, artifact_path, *more, **named):
        try:
            return fetches(self, artifact_path, *more, **named)
        except Exception as error:
            if is_missing(self, artifact_path):
                raise MlflowException("There is no such artifact.", RESOURCE_DOES_NOT_EXIST) from error
            raise

    S3ArtifactRepository.download_artifacts = download_artifacts


def store_in_parts():
    """Let MLflow's store on S3 take streams."""
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow.store.artifact import artifact_repository_registry as registry
    from mlflow.store.artifact.artifact_repo import StreamUploadMixin
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    class StreamingS3(S3ArtifactRepository, StreamUploadMixin):
        async def client(self):
            # To make one takes a tenth of a second.
            return await in_thread(self._get_s3_client)

        async def log_artifact_from_async_stream(self, chunks, artifact_file_name, artifact_path=None):
            about = dict(zip(("ContentType", "ContentEncoding"), guess_type(artifact_file_name), strict=True))
            about = {name: value for name, value in about.items() if value} | (self.get_s3_file_upload_extra_args() or {})
            target = _target(self, posixpath.join(artifact_path or "", posixpath.basename(artifact_file_name)))
            try:
                with Share(present_owner()) as share:
                    # As in MLflow's own uploads, what the environment says of the owner comes first.
                    await upload(await self.client(), chunks, share, **{**target, **about, **only(target, ("Bucket", "Key"))})
            except (BotoCoreError, ClientError, TimeoutError) as error:
                raise problem(error) from error

        def log_artifact_from_stream(self, stream, artifact_file_name, artifact_path=None):
            async def chunks():
                while chunk := stream.read(MIB):
                    yield chunk

            asyncio.run(self.log_artifact_from_async_stream(chunks(), artifact_file_name, artifact_path))

    registry._artifact_repository_registry.register("s3", StreamingS3)


def fetch_in_parts(app):
    """Let MLflow's application (FastAPI's) pass artifacts on as they come, from a store of store_in_parts."""
    from botocore.exceptions import BotoCoreError, ClientError
    from fastapi import HTTPException
    from fastapi.responses import JSONResponse, StreamingResponse
    from fastapi.routing import APIRoute
    from mlflow.exceptions import MlflowException
    from mlflow.server import artifact_router

    class Stream(StreamingResponse):
        """Ends its iterator with itself: that of a client who has gone would hold its memory until the collector comes by."""

        def __init__(self, download, share, headers):
            super().__init__(download.stream(share), headers=headers)
            self._share = share

        async def __call__(self, scope, receive, send):
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self.body_iterator.aclose()
                self._share.end()

    async def download_artifact(artifact_path: str):
        if not artifact_router._is_serving_proxied_artifacts():
            raise HTTPException(503, "This server passes no artifacts through (mlflow_server_artifact_access is direct).")
        try:
            path = artifact_router._get_workspace_scoped_path(artifact_router.validate_path_is_safe(artifact_path))
            store = artifact_router._get_artifact_repo()
            share = Share(present_owner())
            try:
                download = await Download.begin(await store.client(), share, **_target(store, path))
            except BaseException as error:
                share.end()
                if isinstance(error, (BotoCoreError, ClientError)):
                    raise problem(error) from error
                raise
        except MlflowException as error:
            return JSONResponse(json.loads(error.serialize_as_json()), error.get_http_status_code())
        name = posixpath.basename(path)
        return Stream(
            download,
            share,
            headers={
                "Content-Type": artifact_router._guess_mime_type(name),
                "Content-Disposition": artifact_router._content_disposition(name),
                "Content-Length": str(download.length),
                "X-Content-Type-Options": "nosniff",
            },
        )

    for path in PATHS:
        app.router.routes.insert(0, APIRoute(path, download_artifact, methods=["GET"]))
