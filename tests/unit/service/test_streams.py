# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Artifacts that pass through, against moto's S3 in this process."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from moto import mock_aws

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.http.bodies import Budget  # noqa: E402
from mlflow_service.transfer import streams  # noqa: E402
from mlflow_service.transfer.streams import PART, PIECE, Download, Share  # noqa: E402

TARGET = {"Bucket": "artifacts", "Key": "a/b c/ü.bin"}


@pytest.fixture
def s3(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="artifacts")
        # A bytearray is fine for HTTP, but not for moto where it is called without.
        for name in ("put_object", "upload_part"):
            call = getattr(client, name)
            monkeypatch.setattr(client, name, lambda call=call, **about: call(**{**about, "Body": bytes(about["Body"])}))
        yield client


async def upload(s3, chunks, budget=None, **target):
    with Share("somebody", budget or Budget(20 * PART)) as share:
        await streams.upload(s3, chunks, share, **target)


async def parts_of(s3, budget=None):
    with Share("somebody", budget or Budget(20 * PART)) as share:
        got = await Download.begin(s3, share, **TARGET)
        async for part in got.stream(share):
            yield part


async def stream(data, size=100_000):
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


async def download(s3):
    with Share("somebody", Budget(20 * PART)) as share:
        got = await Download.begin(s3, share, **TARGET)
        return got.length, b"".join([part async for part in got.stream(share)])


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART, 5 * PART + 12345])
def test_what_goes_up_comes_down(s3, size):
    data = os.urandom(size)
    asyncio.run(upload(s3, stream(data), ContentType="text/plain", **TARGET))
    assert s3.get_object(**TARGET)["Body"].read() == data
    assert s3.head_object(**TARGET)["ContentType"] == "text/plain"
    length, back = asyncio.run(download(s3))
    assert length == size and back == data


@pytest.mark.parametrize("size", [3, PART + 1])
def test_s3_can_check_what_comes(s3, size):
    """With boto3's defaults each body has its checksum in a header, and not in the body."""
    seen = []
    s3.meta.events.register("before-send.s3", lambda request, **_: seen.append((request.method, request.headers)))
    asyncio.run(upload(s3, stream(os.urandom(size)), **TARGET))
    bodies = [headers for method, headers in seen if method == "PUT"]
    assert len(bodies) == 1 + (size > PART)
    assert all("x-amz-checksum-crc32" in headers and "x-amz-trailer" not in headers for headers in bodies)


@pytest.mark.parametrize("url, signed", [("https://s3.example.com", False), ("http://s3.example.com", True)])
@mock_aws
def test_a_body_is_signed_where_tls_does_not_guard_it(url, signed):
    """The hash of a body is a tenth of an upload's time; what boto3 does with a checksum of its own is the rule."""
    login = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=url, **login)
    seen = []

    def answer(request, **_):
        seen.append(request.headers["X-Amz-Content-SHA256"])
        return AWSResponse(url, 200, {}, SimpleNamespace(stream=lambda: iter([b""])))

    client.meta.events.register_first("before-send.s3", answer)
    asyncio.run(upload(client, stream(b"body"), **TARGET))
    assert seen == ([hashlib.sha256(b"body").hexdigest().encode()] if signed else [b"UNSIGNED-PAYLOAD"])


def test_an_upload_that_breaks_off_leaves_nothing(s3):
    async def broken():
        yield b"x" * (2 * PART + 1)
        raise ConnectionError("the client is gone")

    with pytest.raises(ConnectionError):
        asyncio.run(upload(s3, broken(), **TARGET))
    assert "Contents" not in s3.list_objects_v2(Bucket="artifacts")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="artifacts")


def test_an_upload_that_is_cancelled_leaves_nothing(s3):
    async def endless():
        yield b"x" * (PART + 1)
        await asyncio.sleep(60)

    async def cancel():
        task = asyncio.create_task(upload(s3, endless(), **TARGET))
        await asyncio.sleep(0.5)
        assert "Uploads" in s3.list_multipart_uploads(Bucket="artifacts")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="artifacts")


def test_what_was_there_stays_where_an_upload_breaks_off(s3):
    s3.put_object(Body=b"before", **TARGET)

    async def broken():
        yield b"x" * (PART + 1)
        raise ConnectionError("the client is gone")

    with pytest.raises(ConnectionError):
        asyncio.run(upload(s3, broken(), **TARGET))
    assert s3.get_object(**TARGET)["Body"].read() == b"before"


class Counted:
    """S3 that counts how many calls are under way at once."""

    def __init__(self, s3):
        self._s3 = s3
        self.meta = s3.meta
        self._lock = threading.Lock()
        self._now = self.most = 0

    def __getattr__(self, name):
        call = getattr(self._s3, name)

        def counted(**arguments):
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
            try:
                return call(**arguments)
            finally:
                with self._lock:
                    self._now -= 1

        return counted


def test_a_fast_client_waits_for_a_slow_store(s3):
    """No more than a few parts are in memory, however fast the client is."""
    taken = []

    async def eager():
        for number in range(40):
            taken.append(number)
            yield b"x" * (PART // 2)

    release = threading.Event()

    class Slow(Counted):
        def upload_part(self, **arguments):
            release.wait(30)
            return self._s3.upload_part(**arguments)

    async def begin():
        task = asyncio.create_task(upload(Slow(s3), eager(), **TARGET))
        await asyncio.sleep(0.5)
        waiting = len(taken)
        release.set()
        await task
        return waiting

    assert asyncio.run(begin()) <= 2 * (streams.AT_ONCE + 1)
    assert len(taken) == 40
    assert s3.head_object(**TARGET)["ContentLength"] == 20 * PART


def test_parts_go_up_side_by_side(s3):
    together = threading.Barrier(streams.AT_ONCE)

    class Waits(Counted):
        def upload_part(self, **arguments):
            together.wait(20)
            return self._s3.upload_part(**arguments)

    asyncio.run(upload(Waits(s3), stream(b"x" * (streams.AT_ONCE * PART), size=PART), **TARGET))
    assert s3.head_object(**TARGET)["ContentLength"] == streams.AT_ONCE * PART


def test_a_part_goes_as_soon_as_it_is_whole(s3):
    """And does not wait, in the memory, for a byte of the next one."""
    came = threading.Event()

    class Tells(Counted):
        def upload_part(self, **arguments):
            came.set()
            return self._s3.upload_part(**arguments)

    async def stalls():
        yield b"x" * PART
        assert await asyncio.to_thread(came.wait, 20)
        yield b"y"

    asyncio.run(upload(Tells(s3), stalls(), **TARGET))
    assert s3.head_object(**TARGET)["ContentLength"] == PART + 1


def test_parts_come_down_ahead_and_in_order(s3):
    data = os.urandom(6 * PART)
    s3.put_object(Body=data, **TARGET)
    counted = Counted(s3)

    async def slow_reader():
        parts = []
        async for part in parts_of(counted):
            parts.append(part)
            await asyncio.sleep(0.05)
        return b"".join(parts)

    assert asyncio.run(slow_reader()) == data
    assert counted.most <= streams.AT_ONCE


def test_an_object_that_is_replaced_meanwhile_is_not_mixed(s3):
    s3.put_object(Body=b"a" * (5 * PART), **TARGET)

    async def read():
        parts = parts_of(s3)
        await anext(parts)
        s3.put_object(Body=b"b" * (5 * PART), **TARGET)
        with pytest.raises(ClientError):
            async for part in parts:
                assert b"b" not in part

    asyncio.run(read())


def test_what_is_not_there_is_said(s3):
    with pytest.raises(ClientError, match="NoSuchKey"):
        asyncio.run(download(s3))


def test_beyond_many_parts_they_are_larger(monkeypatch):
    monkeypatch.setattr(streams, "PART", 10)
    monkeypatch.setattr(streams, "LARGE_PART", 25)
    monkeypatch.setattr(streams, "MANY", 3)

    async def sizes():
        with Share("somebody", Budget(1000)) as share:
            return [len(part) async for part, _held in streams._parts(stream(b"x" * 92, 7), share)]

    assert asyncio.run(sizes()) == [10, 10, 10, 25, 25, 12]


# --- the memory that transfers share ---


@pytest.mark.parametrize("workers", [None, 1, 4])
def test_the_workers_of_a_host_share_an_eighth_of_its_memory(monkeypatch, workers):
    def budget():
        # It is reckoned once and kept.
        return streams.budget.__wrapped__().total

    monkeypatch.delenv("MLFLOW_SERVER_WORKERS", raising=False)
    if workers:
        monkeypatch.setenv("MLFLOW_SERVER_WORKERS", str(workers))
    assert streams.LEAST <= budget() <= streams.MOST
    monkeypatch.setattr(streams, "LEAST", 0)
    monkeypatch.setattr(streams, "MOST", 1 << 60)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert budget() == memory // 8 // (workers or 1)


def test_slow_downloads_hold_no_more_than_the_budget(s3):
    """Each would hold three parts; once the budget is used up, the others have a piece at a time."""
    data = os.urandom(4 * PART)
    s3.put_object(Body=data, **TARGET)
    budget = Budget(4 * PART)

    async def read(number):
        with Share(number, budget) as share:
            got = await Download.begin(s3, share, **TARGET)
            parts, sizes = got.stream(share), []
            async for part in parts:
                sizes.append(len(part))
                assert 0 <= budget.free <= budget.total
                await reached.wait()
            return b"".join([]) if sum(sizes) == len(data) else sizes

    async def run():
        nonlocal reached
        reached = asyncio.Event()
        tasks = [asyncio.create_task(read(number)) for number in range(8)]
        await asyncio.sleep(1)
        held = budget.total - budget.free
        reached.set()
        found = await asyncio.gather(*tasks)
        return held, found

    reached = None
    held, found = asyncio.run(run())
    assert 0 < held <= budget.total and found == [b""] * 8 and budget.free == budget.total


def test_a_part_holds_its_memory_until_the_one_after_it_was_taken(s3):
    """The server takes a part, and keeps it for a client who is slow, until it is given the next one and waits with that."""
    s3.put_object(Body=os.urandom(3 * PART), **TARGET)
    budget, held = Budget(20 * PART), []

    async def read():
        parts = parts_of(s3, budget)
        async for _part in parts:
            held.append((budget.total - budget.free) // PART)

    asyncio.run(read())
    # In the end the last but one is in the server's hands, and the last one goes there.
    assert held[-1] == 2 and held[0] == 1 and budget.free == budget.total


def test_what_comes_down_in_pieces_is_the_same(s3):
    data = os.urandom(2 * PART + 3 * PIECE + 5)
    s3.put_object(Body=data, **TARGET)
    full = Budget(PART)

    async def read():
        assert full.try_acquire(PART, "another")
        parts = [part async for part in parts_of(s3, full)]
        assert max(map(len, parts)) <= PIECE
        return b"".join(parts)

    assert asyncio.run(read()) == data


def test_s3_is_asked_for_no_more_than_there_is_memory_for(s3):
    """An answer that is left half read for a slow client would keep one of S3's connections from everybody else."""
    s3.put_object(Body=os.urandom(2 * PART), **TARGET)
    asked = []

    class Asked:
        meta = s3.meta

        def get_object(self, **about):
            begin, end = map(int, about["Range"].removeprefix("bytes=").split("-"))
            asked.append(end + 1 - begin)
            return s3.get_object(**about)

    async def read(budget):
        return [len(part) async for part in parts_of(Asked(), budget)]

    full = Budget(PART)
    assert full.try_acquire(PART, "another")
    assert asyncio.run(read(full)) == asked == [PIECE] * (2 * PART // PIECE)
    asked.clear()
    assert asyncio.run(read(Budget(20 * PART))) == asked == [PART] * 2


def test_a_store_that_knows_no_ranges_gives_all_at_once(s3):
    data = os.urandom(2 * PART + 5)
    s3.put_object(Body=data, **TARGET)
    asked = []

    class Whole:
        meta = s3.meta

        def get_object(self, Range, **about):
            asked.append(Range)
            return s3.get_object(**about)

    assert asyncio.run(download(Whole())) == (len(data), data) and len(asked) == 1


def test_a_download_goes_on_where_an_answer_of_s3_breaks_off(s3):
    data = os.urandom(4 * PART)
    s3.put_object(Body=data, **TARGET)
    broken = []

    class Broken:
        """A body that ends too early, the first time it is asked for."""

        def __init__(self, body):
            self._body = body

        def read(self, amt=None):
            if len(broken) < 3:
                broken.append(amt)
                self._body.read()
                raise ConnectionResetError
            return self._body.read(amt)

    class Unreliable:
        meta = s3.meta

        def get_object(self, **about):
            answer = s3.get_object(**about)
            return {**answer, "Body": Broken(answer["Body"])}

    _length, back = asyncio.run(download(Unreliable()))
    assert back == data and len(broken) == 3


@pytest.mark.parametrize("times", [1, 100])
def test_an_answer_that_is_too_short_is_never_passed_on(s3, times):
    """It ends as if all had come, so that only its length tells."""
    data = os.urandom(2 * PART)
    s3.put_object(Body=data, **TARGET)
    short = []

    class Short:
        meta = s3.meta

        def get_object(self, **about):
            answer = s3.get_object(**about)
            whole = answer["Body"]

            def read(amt=None):
                came = whole.read(amt)
                if len(short) < times:
                    short.append(len(came))
                    return came[:-1]
                return came

            return {**answer, "Body": SimpleNamespace(read=read)}

    if times == 1:
        assert asyncio.run(download(Short()))[1] == data and short
    else:
        with pytest.raises(OSError, match=r"\d+ bytes came of \d+"):
            asyncio.run(download(Short()))


def test_a_download_that_breaks_off_again_and_again_ends(s3):
    s3.put_object(Body=b"x" * PART, **TARGET)

    class Gone:
        meta = s3.meta

        def get_object(self, **about):
            def read(amt=None):
                raise ConnectionResetError

            return {**s3.get_object(**about), "Body": SimpleNamespace(read=read)}

    with pytest.raises(ConnectionResetError):
        asyncio.run(download(Gone()))


def test_an_upload_that_trickles_holds_nothing_and_one_that_waits_gets_its_turn(s3):
    budget = Budget(2 * PART)

    async def trickle(parts):
        for part in parts:
            yield part
            await asyncio.sleep(0.01)

    async def endless():
        yield b"x"
        await asyncio.sleep(3600)

    async def run():
        idle = [asyncio.create_task(upload(s3, endless(), budget, **{**TARGET, "Key": str(n)})) for n in range(50)]
        await asyncio.sleep(0.1)
        assert budget.free == budget.total, "an upload that has sent a byte holds a part"
        data = [os.urandom(PART) for _ in range(3)]
        await asyncio.gather(*(
            mlflow_artifacts_upload(number, trickle(data)) for number in range(4)
        ))
        for task in idle:
            task.cancel()
        await asyncio.wait(idle)
        assert budget.free == budget.total
        return b"".join(data)

    async def mlflow_artifacts_upload(number, chunks):
        with Share(number, budget) as share:
            await streams.upload(s3, chunks, share, **{**TARGET, "Key": f"large {number}"})

    data = asyncio.run(run())
    for number in range(4):
        assert s3.get_object(Bucket="artifacts", Key=f"large {number}")["Body"].read() == data
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="artifacts")


@pytest.mark.parametrize(
    "method, path, is_stream",
    [
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/x", True),
        ("PUT", "/ajax-api/2.0/mlflow-artifacts/artifacts/1/x", True),
        ("POST", "/api/2.0/mlflow-artifacts/artifacts/1/x", False),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts", False),
        ("PUT", "/api/2.0/mlflow-artifacts/presigned/1/x", False),
        ("POST", "/api/2.0/mlflow-artifacts/mpu/create/1/x", False),
    ],
)
def test_what_is_passed_on_as_it_comes(method, path, is_stream):
    assert streams.is_upload({"method": method, "path": path}) is is_stream


@pytest.mark.parametrize("pause", [0.05, 60])
@pytest.mark.parametrize("size", [1, PIECE // 2, PART])
def test_an_upload_that_trickles_is_ended_however_little_has_come(s3, monkeypatch, size, pause):
    monkeypatch.setattr(streams, "PART_SECONDS", 0.2)

    async def endless():
        yield b"x" * size
        while True:
            await asyncio.sleep(pause)
            yield b"x"

    async def run():
        async with asyncio.timeout(5):
            await upload(s3, endless(), **TARGET)

    with pytest.raises(TimeoutError, match="comes too slowly"):
        asyncio.run(run())
    assert "Contents" not in s3.list_objects_v2(Bucket="artifacts")


@pytest.mark.parametrize("size", [PIECE + 1, PART, PART + PIECE + 1])
def test_what_an_upload_has_in_memory_is_of_the_budget(s3, size):
    """From a piece on, before more is read: a part that is coming, and one that S3 has not taken yet."""
    budget, release, stalled = Budget(20 * PART), threading.Event(), asyncio.Event()

    class Slow(Counted):
        def upload_part(self, **arguments):
            release.wait(30)
            return self._s3.upload_part(**arguments)

    async def stalls():
        for begin in range(0, size, PIECE):
            yield b"x" * min(PIECE, size - begin)
        await stalled.wait()

    async def run():
        task = asyncio.create_task(upload(Slow(s3), stalls(), budget, **TARGET))
        await asyncio.sleep(0.3)
        held = budget.total - budget.free
        release.set()
        stalled.set()
        await task
        return held

    assert asyncio.run(run()) == -(-size // PART) * PART
    assert budget.free == budget.total


def test_a_part_that_comes_at_once_is_of_the_budget_too(s3):
    budget = Budget(20 * PART)
    held = []

    class Watched(Counted):
        def upload_part(self, **arguments):
            held.append(budget.total - budget.free)
            return self._s3.upload_part(**arguments)

    asyncio.run(upload(Watched(s3), stream(b"x" * (3 * PART), size=PART), budget, **TARGET))
    assert len(held) == 3 and all(PART <= each <= 3 * PART for each in held), held
