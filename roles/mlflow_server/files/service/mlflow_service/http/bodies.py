# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a request may bring: how large its body is, how long it may take, and how much memory all of them hold together.

MLflow reads a body whole, whatever its size, before it looks at anything. Here it is read only after the login was
checked (http/logins.py), up to a limit, within a budget that all requests of a worker share, and in a time that fits
its size; then the request gets its turn with a body that is there. Artifacts are the exception: they are streams, and
transfer/streams.py has a budget of its own for them.
"""

import asyncio
import os
import zlib
from collections import Counter, deque

MIB = 1 << 20
# Bodies up to this size are not counted: there are thousands of them, and they are gone in milliseconds.
SMALL = 64 << 10
# A body has this many seconds, and one more for each SLOWEST bytes of it.
PATIENCE = 30.0
SLOWEST = 256 << 10
# For so many seconds a request waits for memory that others have.
WAIT = 60.0
# gzip may be several streams in a row. Nobody sends many, and each costs a copy of what follows it.
STREAMS = 8
# What a compressed body may become, as a multiple of the limit of a body.
EXPANSION = 4
# What says that a request has a body; h11 and httptools go by that, too.
ANNOUNCES = (b"content-length", b"transfer-encoding")
# For how long the rest of a refused request is thrown away, so that its client gets to read the answer.
LINGER = 5.0


def limit():
    """The largest body in bytes, by the unit's environment."""
    return int(os.environ.get("MLFLOW_SERVER_MAX_BODY_MIB") or 32) * MIB


async def answer(send, status, body, headers=()):
    """Send a whole answer, whether or not the request's body was read; `body` is bytes, `headers` are pairs of bytes."""
    named = [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": named})
    await send({"type": "http.response.body", "body": body})


def brings_body(scope):
    """Whether a request says that a body follows."""
    return any(name in ANNOUNCES for name, _ in scope["headers"])


async def _throw_away(receive):
    try:
        async with asyncio.timeout(LINGER):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
    except TimeoutError:
        pass


class Lingering:
    """
    An ASGI application round all others, which may answer a request without having read its body.

    nginx is still sending that body. Who closes on it loses his answer, and nginx makes a 502 of it. So the answer goes out
    whole first, and what comes is thrown away until it ends, or nginx has read the answer and hangs up.
    """

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or not brings_body(scope):
            await self._app(scope, receive, send)
            return
        is_read = False

        async def receiving():
            nonlocal is_read
            message = await receive()
            is_read = is_read or message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def sending(message):
            if message["type"] != "http.response.body" or message.get("more_body", False) or is_read:
                await send(message)
                return
            await send({**message, "more_body": True})
            await _throw_away(receive)
            await send({"type": "http.response.body", "body": b""})

        await self._app(scope, receiving, sending)


def without_body(scope, receive):
    """A request without its body, for which nobody then keeps memory; Lingering throws away what comes of it."""
    scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name not in ANNOUNCES]}
    given = False

    async def nothing():
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": b"", "more_body": False}
        # All that can come now is the end of the connection.
        while (message := await receive())["type"] == "http.request":
            pass
        return message

    return scope, nothing


class Budget:
    """
    Bytes of memory, or whatever else a worker's requests share.

    One owner (a user) has half of it at most, or another share, so that nobody can take it all and sit on it. Who waits is
    served in the order of arrival, but for those whose owner has his share.
    """

    def __init__(self, total, most=None):
        """
        :arg most: What one owner may have; half of it where nothing is said.
        """
        self.total = total
        self.free = total
        self._most = total // 2 if most is None else most
        self._of = Counter()
        self._waiting = deque()

    def _has_his_share(self, size, owner):
        # Whoever has nothing may have one piece, however small the budget is.
        return self._of[owner] > 0 and self._of[owner] + size > self._most

    def _take(self, size, owner):
        self.free -= size
        self._of[owner] += size

    def try_acquire(self, size, owner):
        """Whether `size` bytes were free and are now the owner's; nobody who waits for memory is passed by."""
        size = min(size, self.total)
        if self.free < size or self._has_his_share(size, owner):
            return False
        if not all(self._has_his_share(*other) for *other, _turn in self._waiting):
            return False
        self._take(size, owner)
        return True

    async def acquire(self, size, owner):
        """Wait until `size` bytes are free, or the whole budget where that is smaller."""
        if self.try_acquire(size, owner):
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (min(size, self.total), owner, turn)
        self._waiting.append(entry)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.release(size, owner)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._grant()
            raise

    def release(self, size, owner):
        size = min(size, self.total)
        self.free += size
        self._of[owner] -= size
        if self._of[owner] <= 0:
            del self._of[owner]
        self._grant()

    def _grant(self):
        for entry in list(self._waiting):
            size, owner, turn = entry
            if turn.done():
                self._waiting.remove(entry)
            elif self._has_his_share(size, owner):
                continue
            elif self.free < size:
                break
            else:
                self._waiting.remove(entry)
                self._take(size, owner)
                turn.set_result(None)


def owner_of(scope):
    """Whose budget a request is on: its user's, or where nobody logs in, its address's."""
    return scope.get("mlflow.user") or (scope.get("client") or ("the host",))[0]


class TooLarge(Exception):
    pass


class Bodies:
    """An ASGI application that reads the body of a request before it lets another one have it."""

    def __init__(self, app, is_stream, maximum=None, budget=None):
        """
        :arg is_stream: Tells of a scope whether its body is a stream, which is passed on as it comes.
        :arg maximum: The largest body, in bytes.
        """
        self._app = app
        self._is_stream = is_stream
        self._maximum = maximum or limit()
        self._budget = budget or Budget(4 * self._maximum)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._is_stream(scope) or not brings_body(scope):
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), None)
        chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        try:
            size = int(declared) if declared is not None and not chunked else self._maximum
        except ValueError:
            size = self._maximum + 1
        if size > self._maximum:
            await self._refuse(send)
            return
        counted, owner = size if size > SMALL else 0, owner_of(scope)
        if counted:
            try:
                async with asyncio.timeout(WAIT):
                    await self._budget.acquire(counted, owner)
            except TimeoutError:
                said = b"There is no memory for the body of this request now; try again."
                await answer(send, 503, said, [(b"retry-after", b"5")])
                return
        try:
            await self._pass_on(scope, receive, send, size, chunked)
        finally:
            if counted:
                self._budget.release(counted, owner)

    async def _pass_on(self, scope, receive, send, size, chunked):
        try:
            async with asyncio.timeout(PATIENCE + size / SLOWEST):
                body = await self._read(receive)
        except TimeoutError:
            await answer(send, 408, b"The body of the request did not come in time.")
            return
        except TooLarge:
            await self._refuse(send)
            return
        if body is None:
            return
        if chunked:
            # Flask takes a request without a length for one without a body. HTTP/2 needs none, so honest clients send none.
            named = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"transfer-encoding")]
            scope = {**scope, "headers": [*named, (b"content-length", str(len(body)).encode())]}
        given = False

        async def whole():
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, whole, send)

    async def _read(self, receive):
        """The body, or nothing where the client has gone."""
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._maximum:
                raise TooLarge
            more = message.get("more_body", False)
        return b"".join(parts)

    async def _refuse(self, send):
        said = f"The body of the request is larger than {self._maximum // MIB} MiB (mlflow_server_max_body_mib)."
        await answer(send, 413, said.encode())


def expand(body, encoding, maximum):
    """
    The content of a gzip or deflate body.

    :raises TooLarge: where it is more than `maximum` bytes.
    :raises zlib.error: where it is none.
    """
    for bits in (zlib.MAX_WBITS | 16,) if encoding == "gzip" else (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        try:
            return _expand(body, bits, maximum)
        except zlib.error:
            if bits in (zlib.MAX_WBITS | 16, -zlib.MAX_WBITS):
                raise
    raise AssertionError


def _expand(body, bits, maximum):
    parts, size = [], 0
    for _ in range(STREAMS):
        stream = zlib.decompressobj(bits)
        parts.append(stream.decompress(body, maximum - size + 1))
        size += len(parts[-1])
        if size > maximum:
            raise TooLarge
        if not stream.eof:
            raise zlib.error("the body ends too early")
        body = stream.unused_data
        if not body or bits != zlib.MAX_WBITS | 16:
            return b"".join(parts)
    raise zlib.error("it is too many streams")
