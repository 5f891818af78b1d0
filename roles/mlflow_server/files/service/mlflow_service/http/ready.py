# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whether this server can do its work now: its database lets it in, and its artifact store answers.

MLflow's own /health is a constant. GET /ready answers 200 where the database lets it in and 503 where not, with
{"ready": ..., "checks": {"database": ..., "artifacts": ...}}. An artifact store that does not answer is told there and is
no reason to send clients elsewhere: to every other host it does not answer either, and runs and metrics need none. Who
wants to know of both asks /ready?artifacts, which is 503 as well where the store is not there, or is not the one that the
database says: this host has missed a change of it, and what it stores the others do not find. A read replica that can't be
reached is told, too, and counts for /ready?replica alone: the database answers for it. None of them needs a login, and
strangers are told no more than ok or failed; why something failed is told to who asks on the socket itself
(X-Ready-Details, which nginx takes away), and to the journal when it changes. An answer is kept for some seconds, so that
asking often costs nothing.
"""

import asyncio
import functools
import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psycopg2

from mlflow_service.compat.environment import has_replica
from mlflow_service.database import client, schema

PATH = "/ready"
KEPT_SECONDS = 3.0
# Below the patience of a load balancer, which is 5 s at AWS.
CHECK_SECONDS = 4.0
# How long it is believed that the database says this store: that changes once in years.
STORE_SECONDS = 60.0

_logger = logging.getLogger("uvicorn.error")


def check_database():
    """Log in anew, as the pools do when they need a connection, and read what every MLflow database has."""
    with client.connect("service=mlflow connect_timeout=3") as connection:
        connection.execute("SELECT 1 FROM alembic_version")


@functools.cache
def _s3():
    """
    A client with the settings of MLflow's own (_get_s3_client in mlflow.store.artifact.s3_artifact_repo), by the same variables.
    Not that one, which is more patient than whoever asks here.
    """
    # Making one takes a tenth of a second; it renews the role's credentials by itself.
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    signature = os.environ.get("MLFLOW_EXPERIMENTAL_S3_SIGNATURE_VERSION", "s3v4")
    return boto3.session.Session().client(
        "s3",
        endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"),
        verify=False if os.environ.get("MLFLOW_S3_IGNORE_TLS", "").lower() in ("true", "1") else None,
        config=Config(
            connect_timeout=2,
            read_timeout=3,
            retries={"total_max_attempts": 1},
            signature_version=UNSIGNED if signature.lower() == "unsigned" else signature,
            s3={"addressing_style": os.environ.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "auto")},
        ),
    )


class Store:
    """The artifact store that all hosts should have, as the database says."""

    def __init__(self):
        self._until = 0.0

    def check(self):
        """Whether this process has it. Where the database does not answer, that is what check_database says."""
        if time.monotonic() < self._until:
            return
        try:
            with client.connect("service=mlflow connect_timeout=3") as connection:
                noted = schema.artifact_store(connection)
        except psycopg2.OperationalError:
            return
        here = (os.environ["MLFLOW_ARTIFACTS_DESTINATION"], os.environ.get("MLFLOW_S3_ENDPOINT_URL", ""))
        if noted and noted != here:
            stores = [" at ".join(part for part in store if part) for store in (here, noted)]
            raise ValueError(
                f"this host's artifact store is {stores[0]} and the database says {stores[1]}: "
                "run the mlflow_server role on all hosts"
            )
        self._until = time.monotonic() + STORE_SECONDS


_store = Store()


def check_artifacts():
    """List one object where the artifacts are: that needs the store, the credentials and the bucket."""
    _store.check()
    root = urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
    owner = os.environ.get("MLFLOW_S3_EXPECTED_BUCKET_OWNER")
    about = {"ExpectedBucketOwner": owner} if owner else {}
    _s3().list_objects_v2(Bucket=root.netloc, Prefix=root.path.lstrip("/"), MaxKeys=1, **about)


def check_replica():
    """Log in to the read replica. Where it can't be reached, the database itself has answered, which is none."""
    with client.connect(f"{client.REPLICA} connect_timeout=2") as connection:
        if not connection.execute("SELECT pg_is_in_recovery()").fetchone()[0]:
            raise ConnectionError("it can't be reached, and searches are the database's")


CHECKS = {"database": check_database, "artifacts": check_artifacts}
REPLICA = {"replica": check_replica}
# What every request needs. The others count where they are asked for.
NEEDED = ("database",)


class Readiness:
    """An ASGI application that answers PATH itself and leaves the rest to another one."""

    def __init__(self, app, checks=None, left_out=()):
        """
        :arg left_out: What details say besides: of the service's own ways those that are not taken, one sentence for each.
        """
        self._app = app
        self._left_out = list(left_out)
        # Of its own: what else uses those of the loop must not make this server look as if it were not there.
        self._checks = checks or CHECKS | (REPLICA if has_replica() else {})
        self._threads = ThreadPoolExecutor(len(self._checks), thread_name_prefix="ready")
        self._lock = None
        self._found = {}
        self._until = 0.0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        found = await self._look()
        asked = scope.get("query_string", b"").decode("latin-1").split("&")
        ready = not any(why for name, why in found.items() if name in NEEDED or name in asked)
        details = any(name == b"x-ready-details" and value for name, value in scope["headers"])
        said = {
            "ready": ready,
            "checks": {name: (why if details and why else "failed" if why else "ok") for name, why in found.items()},
        }
        if details and self._left_out:
            said["left_out"] = self._left_out
        body = json.dumps(said).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200 if ready else 503, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _look(self):
        # Made here, since a lock belongs to the loop that runs.
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            if time.monotonic() >= self._until:
                names = list(self._checks)
                problems = await asyncio.gather(*(self._ask(name) for name in names))
                found = dict(zip(names, problems, strict=True))
                self._tell(found)
                self._found = found
                self._until = time.monotonic() + KEPT_SECONDS
            return self._found

    async def _ask(self, name):
        """Nothing, or what is wrong."""
        try:
            look = asyncio.get_running_loop().run_in_executor(self._threads, self._checks[name])
            await asyncio.wait_for(look, CHECK_SECONDS)
        except TimeoutError:
            return f"no answer in {CHECK_SECONDS:.0f} s"
        except Exception as error:
            return f"{type(error).__name__}: {str(error).strip() or 'failed'}"
        return ""

    def _tell(self, found):
        for name, why in found.items():
            before = self._found.get(name, "")
            if why and not before:
                _logger.error("not ready: %s: %s", name, why)
            elif before and not why:
                _logger.info("ready again: %s", name)
