# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Artifacts that pass through the server in parts, as they come, and are never whole on its disk or in its memory.

MLflow by itself writes an artifact to TMPDIR, all of it, before it sends the first byte on. Here some parts are on their way
to or from S3 at once, and a client that is slow is waited for. An upload that breaks off leaves nothing behind; a download
names its length, so that a client notices when it breaks off.

MLflow has the place for the uploads itself: a store with StreamUploadMixin is given the stream. For the downloads a route of
the same path, and so with the same checks of login and permission, is put before MLflow's own.
"""

import asyncio
import base64
import contextlib
import functools
import os
import re
import time
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from mlflow_service.http.bodies import MIB, Budget
from mlflow_service.http.logins import caller
from mlflow_service.transfer import digests

# What a transfer takes of the memory is (AT_ONCE + 1) parts, as far as the budget goes.
PART = 8 * MIB
AT_ONCE = 3
# S3 takes 10,000 parts, and some stores want all but the last of one size. Beyond 40 GiB, of which no upload says beforehand
# that it has them, the parts are larger.
MANY = 5000
LARGE_PART = 64 * MIB
MOST_PARTS = 10_000
# A part has so many seconds to come, however small it is in the end; an upload waits so many for the memory of one.
PART_SECONDS, WAIT = 300.0, 60.0
# Of all transfers of this process; more than S3's client keeps connections would only wait for one another.
THREADS = 10
# All transfers of a worker together hold this share of the host's memory, divided by its workers, and no more and no less than:
SHARE, LEAST, MOST = 1 / 8, 6 * PART, 20 * PART
# Where the budget is used up a download goes on in pieces of this size, and an upload waits after one.
PIECE = 256 << 10
# How often a part is asked for that breaks off on its way from S3.
TRIES = 3
# Of the store, in seconds and times. boto3's own are five minutes for one that does not answer.
CONNECT, READ, ATTEMPTS = 5, 30, 3
STREAMS = re.compile(r"/(ajax-)?api/2\.0/mlflow-artifacts/artifacts/.+")
# What S3 wants to be told again with each request of an upload in parts, and with these; the rest is told where it begins.
OF_EACH_REQUEST = ("Bucket", "Key", "ExpectedBucketOwner", "RequestPayer")
OF_ITS_KEY = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")
OF_A_PART = (*OF_EACH_REQUEST, *OF_ITS_KEY, "ChecksumAlgorithm")
OF_THE_END = (*OF_EACH_REQUEST, *OF_ITS_KEY, "ChecksumType")
# What is of uploads in parts alone.
OF_PARTS = ("ChecksumType", "MpuObjectSize")

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="artifacts")


def is_stream(scope):
    """Whether a request brings or fetches an artifact that passes through."""
    return scope["method"] in ("GET", "PUT") and STREAMS.fullmatch(scope["path"]) is not None


def is_upload(scope):
    """Whether the body of a request is an artifact, which is passed on as it comes."""
    return scope["method"] == "PUT" and is_stream(scope)


def give_up_in_time():
    """Let every client of boto3's in this process, MLflow's too, give up a store that does not answer."""
    import boto3
    import botocore.session
    from botocore.config import Config

    session = botocore.session.get_session()
    retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    session.set_default_client_config(Config(connect_timeout=CONNECT, read_timeout=READ, retries=retries))
    digests.send_with(session)
    boto3.setup_default_session(botocore_session=session)


@functools.cache
def budget():
    """The memory of this worker's transfers."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    workers = int(os.environ.get("MLFLOW_SERVER_WORKERS") or 1)
    return Budget(int(min(max(memory * SHARE / workers, LEAST), MOST)))


def present_owner():
    """On whose account a transfer is; where nobody logs in, each is on its own."""
    user = caller()
    return user.username if user else object()


class Share:
    """What one transfer holds of the budget; given back as a whole at its end, however that comes."""

    def __init__(self, owner, of=None):
        self._owner, self._of, self._held = owner, of or budget(), 0

    def __enter__(self):
        return self

    def __exit__(self, *dummy):
        self.end()

    def end(self):
        self.give_back(self._held)

    def try_take(self, size):
        taken = self._of.try_acquire(size, self._owner)
        if taken:
            self._held += size
        return taken

    async def take(self, size):
        async with asyncio.timeout(WAIT):
            await self._of.acquire(size, self._owner)
        self._held += size

    def give_back(self, size):
        size = min(size, self._held)
        if size:
            self._held -= size
            self._of.release(size, self._owner)


def only(target, names):
    return {name: target[name] for name in names if name in target}


def in_thread(function, /, **arguments):
    return asyncio.get_running_loop().run_in_executor(_threads, functools.partial(function, **arguments))


def _store(call, body, checked, **arguments):
    """Send a body; with its checksum, where boto3 would add one. It would do so in the body, in small pieces of Python."""
    if checked:
        arguments["ChecksumCRC32"] = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    return call(Body=body, **arguments)


def _leave_bodies_unsigned(s3):
    """boto3 does so itself where TLS and a checksum of its own guard a body, but not where it was given the checksum."""
    config = s3.meta.config
    if s3.meta.endpoint_url.startswith("https:"):
        config.s3 = {"payload_signing_enabled": False, **(config.s3 or {})}


async def _next(coming, seconds):
    """The next chunk, or nothing at the end of the stream."""
    try:
        async with asyncio.timeout(seconds):
            return await anext(coming, None)
    except TimeoutError:
        raise TimeoutError("the artifact comes too slowly") from None


async def _parts(chunks, share):
    """
    The stream in parts of the sizes that S3 wants, each held of the budget; the last one is smaller, and may be empty.

    The memory for a part is taken when more than a piece of it has come, so that whoever only trickles holds next to nothing.
    """
    number, size, filled, parts = 0, PART, 0, []
    begun = time.monotonic()
    coming = aiter(chunks)
    while (chunk := await _next(coming, begun + PART_SECONDS - time.monotonic())) is not None:
        rest = memoryview(chunk)
        while len(rest) >= (room := size - filled):
            if filled <= PIECE:
                await share.take(size)
            parts.append(rest[:room])
            yield b"".join(parts), size
            number += 1
            rest, parts, filled, size = rest[room:], [], 0, PART if number < MANY else LARGE_PART
            begun = time.monotonic()
        if not rest:
            continue
        if filled <= PIECE < filled + len(rest):
            await share.take(size)
        parts.append(rest)
        filled += len(rest)
    yield b"".join(parts), size if filled > PIECE else 0


async def upload(s3, chunks, share, **target):
    """
    Make an object of a stream.

    :arg s3: boto3's client.
    :arg chunks: What to store, as an asynchronous iterable of bytes.
    :arg share: A Share, which whoever calls gives back at the end.
    :arg target: Bucket, Key, and what else S3 is to know of the object.
    :raises botocore.exceptions.ClientError: where S3 refuses. What raises the stream is raised again. There is no object then.
    """
    parts = _parts(chunks, share)
    data, held = await anext(parts)
    # Another one that somebody has asked for is boto3's to make.
    by_default = s3.meta.config.request_checksum_calculation == "when_supported"
    checked = target.get("ChecksumAlgorithm", "CRC32" if by_default else None) == "CRC32"
    if checked:
        _leave_bodies_unsigned(s3)
    if len(data) < PART:
        about = {name: value for name, value in target.items() if name not in OF_PARTS}
        await in_thread(_store, call=s3.put_object, body=data, checked=checked, **about)
        return
    about = {name: value for name, value in target.items() if name != "MpuObjectSize"}
    started = await in_thread(s3.create_multipart_upload, **({"ChecksumAlgorithm": "CRC32"} if checked else {}) | about)
    this = {"UploadId": started["UploadId"]}
    of_a_part = only(target, OF_A_PART) | this
    pending: deque = deque()
    done = []

    async def finish_one():
        # Shielded and left in its place until it has come, so that it is waited for where this is cancelled.
        number, sent = pending[0]
        answer = await asyncio.shield(sent)
        pending.popleft()
        done.append({"PartNumber": number, "ETag": answer["ETag"], **_checksums(answer)})

    def send(number, data, held):
        sent = in_thread(_store, call=s3.upload_part, body=data, checked=checked, PartNumber=number, **of_a_part)
        # As soon as S3 has it, and not when it is looked at: the next part may be waiting for just this memory.
        sent.add_done_callback(lambda _: share.give_back(held))
        pending.append((number, sent))

    try:
        number = 1
        send(number, data, held)
        async for data, held in parts:
            # The last one may be empty.
            if data:
                number += 1
                send(number, data, held)
            if len(pending) == AT_ONCE:
                await finish_one()
        while pending:
            await finish_one()
        await in_thread(s3.complete_multipart_upload, MultipartUpload={"Parts": done}, **only(target, OF_THE_END), **this)
    except BaseException:
        # A part that arrives after the end would stay, so they are waited for. The client may be gone and this be cancelled.
        await asyncio.shield(_abort(s3, [answer for _number, answer in pending], only(target, OF_EACH_REQUEST) | this))
        raise


def _checksums(answer):
    """Those of a part, by which S3 makes that of the whole."""
    return {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}


async def _abort(s3, pending, about):
    await asyncio.gather(*pending, return_exceptions=True)
    # Where even that is refused, the bucket's rule for uploads that were begun and never ended removes it.
    with contextlib.suppress(Exception):
        await in_thread(s3.abort_multipart_upload, **about)


@functools.cache
def _broken():
    """The errors that mean that an answer of S3 has broken off on its way."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError
    from urllib3.exceptions import HTTPError

    return (HTTPClientError, IncompleteReadError, HTTPError, OSError)


class Download:
    """An object of S3: `length`, and its content by `stream()`."""

    def __init__(self, s3, source, first, held):
        self._s3 = s3
        self._source = source
        self._body, self._held = first["Body"], held
        # bytes 0-8388607/1073741824, but not where the store gave all at once.
        part, _, whole = first.get("ContentRange", "").partition("/")
        self.length = int(whole) if whole else first["ContentLength"]
        self._come = int(part.rpartition("-")[2]) + 1 if whole else self.length
        self._etag = {"IfMatch": first["ETag"]} if first.get("ETag") else {}
        self._broken = _broken()

    @classmethod
    async def begin(cls, s3, share, **source):
        """
        Ask for the first part, so that it is known what there is; for no more than there is memory for, since an answer that
        waits for a slow client would hold a connection of S3's.

        :arg share: A Share, which whoever calls gives back at the end.
        :arg source: Bucket, Key, and what else S3 is to know of the request.
        :raises botocore.exceptions.ClientError: where S3 refuses.
        """
        from botocore.exceptions import ClientError

        held = PART if share.try_take(PART) else 0
        try:
            first = await in_thread(s3.get_object, Range=f"bytes=0-{(held or PIECE) - 1}", **source)
        except ClientError as error:
            # There is no first byte of an empty object.
            if error.response["Error"]["Code"] not in ("InvalidRange", "416"):
                raise
            first = await in_thread(s3.get_object, **source)
        return cls(s3, source, first, held)

    def _read(self, begin, end):
        """Those bytes. botocore tries again until an answer begins, so here it is done where one breaks off."""
        for left in reversed(range(TRIES)):
            # Another object that has taken its place meanwhile is not mixed with this one: S3 refuses.
            about = {"Range": f"bytes={begin}-{end - 1}", **self._etag, **self._source}
            try:
                got = self._s3.get_object(**about)["Body"].read()
                if len(got) == end - begin:
                    return got
                problem = OSError(f"{len(got)} bytes came of {end - begin}")
            except self._broken as error:
                problem = error
            if not left:
                raise problem

    async def _first(self, share):
        """What came with the first answer: in one read, but where a store knows no ranges and sent all of the object."""
        at, held = 0, self._held
        while at < self._come:
            end = min(at + (held or PIECE), self._come)
            try:
                data = await in_thread(self._body.read, amt=end - at)
                if len(data) < end - at:
                    data += await in_thread(self._read, begin=at + len(data), end=end)
            except self._broken:
                data = await in_thread(self._read, begin=at, end=end)
            at = end
            yield data, held
            held = 0

    async def stream(self, share):
        """
        The content, in parts.

        :arg share: The Share of `begin`. Parts are fetched ahead of the client, who may be slow, only as far as it goes.
        """
        before = 0
        async with contextlib.aclosing(self._ahead(share)) as parts:
            async for data, held in parts:
                yield data
                # uvicorn takes a part at once, and waits for the client when it is given the next one: only now the one before
                # this has left the memory.
                share.give_back(before)
                before = held

    async def _ahead(self, share):
        """The parts, each with what it holds of the share."""
        async with contextlib.aclosing(self._first(share)) as first:
            async for part in first:
                yield part
        pending: deque = deque()
        asked = self._come

        def ask(size, held):
            nonlocal asked
            end = min(asked + size, self.length)
            pending.append((in_thread(self._read, begin=asked, end=end), held))
            asked = end

        def ask_ahead():
            while asked < self.length and len(pending) < AT_ONCE - 1 and share.try_take(PART):
                ask(PART, PART)

        try:
            while asked < self.length or pending:
                ask_ahead()
                if not pending:
                    ask(PIECE, 0)
                answer, held = pending.popleft()
                data = await answer
                ask_ahead()
                yield data, held
        finally:
            for answer, _held in pending:
                answer.cancel()


MISSING = ("NoSuchKey", "404", "NotFound")


def problem(error):
    """What MLflow answers where S3 refused or was not there."""
    from botocore.exceptions import ClientError
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE

    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    if code in MISSING:
        return MlflowException("There is no such artifact.", RESOURCE_DOES_NOT_EXIST)
    return MlflowException(f"The artifact store does not take part: {code}.", TEMPORARILY_UNAVAILABLE)
