# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Traces by OpenTelemetry's exporters: how much one request may become, and that nobody else waits for it."""

import asyncio
import contextvars
import json
import zlib
from concurrent.futures import ThreadPoolExecutor

from mlflow_service.compat.ground import GUARD, Patch
from mlflow_service.http.bodies import EXPANSION, WAIT, Budget, TooLarge, answer, expand, limit, owner_of
from mlflow_service.http.spans import TOO_MANY, TooMany, memory, things, too_large

PATCH = Patch(
    "traces",
    "a trace is unpacked up to a size, has so many things at most, and keeps nobody else waiting",
    kind=GUARD,
    uses=("mlflow.server.otel_api:otel_router",),
)
# What has no more than this many bytes and things is converted at once: that takes milliseconds.
SMALL, FEW = 64 << 10, 10_000
# Threads that convert larger ones. A worker's loop answers others meanwhile.
THREADS = 4
# What the objects of all traces of a worker may take, roughly, as a multiple of the limit of a body.
MEMORY = 32
# Whether what MLflow takes is JSON, by its type; and how it may be compressed.
KINDS, ENCODINGS = {"application/x-protobuf": False, "application/json": True}, ("", "gzip", "deflate")
JSON = [(b"content-type", b"application/json")]


def _header(scope, name):
    """The first one of a name, which is the one that counts in MLflow."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _all_of(receive):
    """The body, which http/bodies.py has read; nothing where the client has gone."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _giving(body):
    given = False

    async def receive():
        nonlocal given
        if given:
            return {"type": "http.disconnect"}
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _plain(scope, body, encoding=""):
    """The request as one that brings this body, as a rule one that was never compressed."""
    left = [(name, value) for name, value in scope["headers"] if name not in (b"content-encoding", b"content-length")]
    how = [(b"content-encoding", encoding.encode("latin-1"))] if encoding else []
    return {**scope, "headers": [*left, *how, (b"content-length", str(len(body)).encode())]}


class Busy(Exception):
    pass


class Traces:
    """An ASGI application that looks at a trace, and has MLflow's own route, given as one as well, take it."""

    def __init__(self, route, maximum=None):
        self._route = route
        self._maximum = maximum or EXPANSION * limit()
        self._threads = ThreadPoolExecutor(THREADS, "traces")
        self._budget = Budget(MEMORY * self._maximum // EXPANSION)
        self._looking = None

    async def __call__(self, scope, receive, send):
        # Made here, since it belongs to the loop that runs.
        self._looking = self._looking or asyncio.Lock()
        body = await _all_of(receive)
        if body is None:
            return
        kind = _header(scope, b"content-type").split(";")[0].strip()
        encoding = _header(scope, b"content-encoding").lower()
        if kind not in KINDS or encoding not in ENCODINGS:
            # MLflow takes no others, and says so without a look at the body.
            await self._route(_plain(scope, b"", encoding), _giving(b""), send)
            return
        try:
            await self._take(scope, body, KINDS[kind], encoding, send)
        except TooMany:
            await self._refuse(send, 413, TOO_MANY)
        except TooLarge:
            await self._refuse(send, 413, too_large(self._maximum))
        except zlib.error:
            # In MLflow's words.
            await self._refuse(send, 400, f"Failed to decompress {encoding} payload")
        except Busy:
            await self._refuse(send, 503, "There is no memory for this trace now; try again.", [(b"retry-after", b"5")])

    async def _take(self, scope, body, is_json, encoding, send):
        unpacked = self._small(body, encoding)
        if unpacked is not None and things(unpacked, is_json) <= FEW:
            await self._route(_plain(scope, unpacked), _giving(unpacked), send)
            return
        # One is looked at a time, and unpacked again when there is memory for what it becomes.
        async with self._looking:
            takes = await self._in_thread(lambda: memory(self._unpack(body, encoding), is_json))
        owner = owner_of(scope)
        try:
            async with asyncio.timeout(WAIT):
                await self._budget.acquire(takes, owner)
        except TimeoutError:
            raise Busy from None
        try:
            messages = await self._in_thread(lambda: self._answer(scope, self._unpack(body, encoding)))
        finally:
            self._budget.release(takes, owner)
        for message in messages:
            await send(message)

    def _unpack(self, body, encoding, maximum=None):
        return expand(body, encoding, maximum or self._maximum) if encoding else body

    def _small(self, body, encoding):
        """The content of a body that is small; nothing of one that is not."""
        if len(body) > SMALL:
            return None
        try:
            return self._unpack(body, encoding, SMALL)
        except TooLarge:
            return None

    async def _in_thread(self, function):
        # MLflow keeps what it knows of a request in variables of its context.
        return await asyncio.get_running_loop().run_in_executor(self._threads, contextvars.copy_context().run, function)

    def _answer(self, scope, body):
        """What MLflow's route answers. It converts the spans in its loop, so it is given one of its own."""
        messages = []

        async def keep(message):
            messages.append(message)

        asyncio.run(self._route(_plain(scope, body), _giving(body), keep))
        return messages

    @staticmethod
    async def _refuse(send, status, said, headers=()):
        await answer(send, status, json.dumps({"detail": said}, separators=(",", ":")).encode(), [*JSON, *headers])


def look_at_traces(app):
    """Put a route before that of MLflow's application (FastAPI's), of the same path and so with the same checks."""
    from mlflow.server.otel_api import otel_router
    from starlette.routing import Match, Route

    routes = app.router.routes

    async def original(scope, receive, send, own):
        for route in routes:
            if route is own:
                continue
            match, more = route.matches(scope)
            if match is Match.FULL:
                await route.handle({**scope, **more}, receive, send)
                return
        raise RuntimeError("MLflow's route for traces is gone")

    mine = Route(otel_router.prefix, Traces(lambda *asked: original(*asked, own=mine)), methods=["POST"])
    routes.insert(0, mine)
