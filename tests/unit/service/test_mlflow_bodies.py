# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a request may bring, and what all of them hold together."""

from __future__ import annotations

import asyncio
import gzip
import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

import mlflow_bodies  # noqa: E402
from mlflow_bodies import Bodies, Budget, Lingering, TooLarge, answer, expand  # noqa: E402

LIMIT = 100_000


class Asked:
    """One request, and what came of it."""

    def __init__(self, parts, headers=(), path="/api", endless=False, **scope):
        self.parts, self.endless = list(parts), endless
        self.scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers), **scope}
        self.sent, self.got = [], []

    async def receive(self):
        if self.parts:
            return {"type": "http.request", "body": self.parts.pop(0), "more_body": bool(self.parts) or self.endless}
        if self.endless:
            await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    async def app(self, scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            self.got.append(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run(self, **options):
        options = {"maximum": LIMIT, "is_stream": lambda scope: scope["path"] == "/stream", **options}
        await Bodies(self.app, **options)(self.scope, self.receive, self.send)
        return self.sent[0]["status"] if self.sent else None


def length(size):
    return [(b"content-length", str(size).encode())]


CHUNKED = [(b"transfer-encoding", b"chunked")]


def test_a_body_arrives_whole():
    asked = Asked([b"one ", b"two"], length(7))
    assert asyncio.run(asked.run()) == 200 and asked.got == [b"one two"]


@pytest.mark.parametrize("headers", [length(LIMIT + 1), CHUNKED, length("1e9"), length(-1)])
def test_one_that_is_too_large_is_refused(headers):
    asked = Asked([b"x" * LIMIT, b"x"], headers)
    assert asyncio.run(asked.run()) == 413 and asked.got == []
    assert b"mlflow_server_max_body_mib" in asked.sent[1]["body"]


@pytest.mark.parametrize("headers", [CHUNKED, [*CHUNKED, (b"content-length", b"3")]])
def test_one_without_a_length_gets_that_of_what_came(headers):
    """Else Flask would take it for none."""
    asked, seen = Asked([b"abc", b"de"], [(b"x-other", b"y"), *headers]), []

    async def app(scope, receive, send):
        seen.extend(scope["headers"])
        await asked.app(scope, receive, send)

    asyncio.run(Bodies(app, maximum=LIMIT, is_stream=lambda scope: False)(asked.scope, asked.receive, asked.send))
    assert asked.got == [b"abcde"] and seen == [(b"x-other", b"y"), (b"content-length", b"5")]


def test_one_as_large_as_may_be_is_taken():
    asked = Asked([b"x" * LIMIT], CHUNKED)
    assert asyncio.run(asked.run()) == 200 and len(asked.got[0]) == LIMIT


def test_a_stream_passes_on_as_it_comes():
    asked = Asked([b"x" * LIMIT, b"y" * LIMIT], CHUNKED, path="/stream")
    assert asyncio.run(asked.run()) == 200 and [len(part) for part in asked.got] == [LIMIT, LIMIT]


REFUSED = {
    "by a route that takes none": lambda send: answer(send, 405, b"no"),
    "in several pieces": lambda send: answers_in_pieces(send),
}


async def answers_in_pieces(send):
    await send({"type": "http.response.start", "status": 405, "headers": []})
    await send({"type": "http.response.body", "body": b"n", "more_body": True})
    await send({"type": "http.response.body", "body": b"o"})


@pytest.mark.parametrize("how", REFUSED)
@pytest.mark.parametrize("headers", [CHUNKED, length(3)], ids=["chunked", "declared"])
def test_who_answers_without_reading_a_body_does_not_close_before_it_has_come(how, headers):
    asked = Asked([b"x", b"y", b"z"], headers)

    async def application(scope, receive, send):
        await REFUSED[how](send)
        # All of the answer is out, nothing is closed, and it was not waited for a byte of the body before.
        assert b"".join(it.get("body", b"") for it in asked.sent) == b"no"

    asyncio.run(Lingering(application)(asked.scope, asked.receive, asked.send))
    assert asked.sent[0]["status"] == 405 and asked.parts == []
    assert [it.get("more_body", False) for it in asked.sent[1:]] == [True] * (len(asked.sent) - 2) + [False]
    assert asked.sent[-1]["body"] == b""


def test_a_body_that_does_not_come_to_its_end_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(mlflow_bodies, "LINGER", 0.1)
    asked = Asked([b"x"], CHUNKED, endless=True)
    asyncio.run(Lingering(lambda scope, receive, send: answer(send, 401, b"no"))(asked.scope, asked.receive, asked.send))
    assert [it.get("more_body", False) for it in asked.sent[1:]] == [True, False]


@pytest.mark.parametrize("headers, reads", [([], False), (length(1), True), (CHUNKED, True)])
def test_an_answer_is_one_piece_where_nothing_can_follow(headers, reads):
    asked = Asked([b"x"], headers)

    async def application(scope, receive, send):
        while reads and (await receive())["more_body"]:
            pass
        await answer(send, 200, b"yes")

    asyncio.run(Lingering(application)(asked.scope, asked.receive, asked.send))
    assert [it.get("body") for it in asked.sent[1:]] == [b"yes"] and "more_body" not in asked.sent[1]


def test_one_that_trickles_is_ended(monkeypatch):
    monkeypatch.setattr(mlflow_bodies, "PATIENCE", 0.1)
    monkeypatch.setattr(mlflow_bodies, "LINGER", 0.1)
    asked = Asked([b"x"], length(2), endless=True)
    assert asyncio.run(asked.run()) == 408 and asked.got == []


def test_a_client_that_goes_away_is_no_request():
    asked = Asked([], length(5))
    assert asyncio.run(asked.run()) is None and asked.got == []


def test_one_that_waits_too_long_for_memory_is_told_to_try_again(monkeypatch):
    monkeypatch.setattr(mlflow_bodies, "WAIT", 0.05)

    async def run():
        budget = Budget(LIMIT)
        await budget.acquire(LIMIT, "ada")
        asked = Asked([b"x" * (LIMIT - 1)], length(LIMIT - 1))
        assert await asked.run(budget=budget) == 503 and asked.got == []
        budget.release(LIMIT, "ada")
        assert budget.free == LIMIT and not budget._waiting

    asyncio.run(run())


def test_who_gives_up_at_the_head_of_the_queue_lets_the_next_one_have_it():
    async def run():
        budget = Budget(100)
        await budget.acquire(90, "ada")
        large = asyncio.create_task(budget.acquire(80, "bob"))
        await asyncio.sleep(0)
        small = asyncio.create_task(budget.acquire(5, "eve"))
        await asyncio.sleep(0)
        large.cancel()
        await asyncio.wait_for(small, 1)

    asyncio.run(run())


def test_bodies_wait_for_the_budget():
    async def run():
        # Room for one of them, and no owner has more than half of it while he has anything.
        budget, size = Budget(LIMIT), LIMIT - 1
        first = Asked([b"x"], length(size), endless=True, client=("192.0.2.1", 1))
        second = Asked([b"x" * size], length(size), client=("192.0.2.2", 1))
        slow = asyncio.create_task(first.run(budget=budget))
        await asyncio.sleep(0.01)
        waits = asyncio.create_task(second.run(budget=budget))
        await asyncio.sleep(0.05)
        assert not waits.done() and second.got == []
        slow.cancel()
        await asyncio.wait([slow])
        assert await waits == 200 and len(second.got[0]) == size and budget.free == LIMIT

    asyncio.run(run())


def test_a_small_body_waits_for_nobody():
    async def run():
        budget = Budget(LIMIT)
        await budget.acquire(LIMIT, "ada")
        assert await Asked([b"x"], length(1)).run(budget=budget) == 200

    asyncio.run(run())


def test_nobody_has_more_than_half_of_the_budget_while_he_has_anything():
    async def run():
        budget = Budget(100)
        assert budget.try_acquire(30, "ada") and budget.try_acquire(20, "ada") and not budget.try_acquire(1, "ada")
        assert budget.try_acquire(50, "bob") and budget.free == 0
        budget.release(50, "bob")
        # Ada waits for herself and keeps nobody.
        waits = asyncio.create_task(budget.acquire(10, "ada"))
        await asyncio.sleep(0)
        assert budget.try_acquire(40, "eve") and not waits.done()
        budget.release(30, "ada")
        await waits

    asyncio.run(run())


def test_who_waits_for_memory_is_served_in_order():
    async def run():
        budget = Budget(100)
        await budget.acquire(90, "ada")
        order = []

        async def take(size, who):
            await budget.acquire(size, who)
            order.append(who)

        tasks = [asyncio.create_task(take(80, "large"))]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(take(5, "small")))
        await asyncio.sleep(0)
        assert order == [], "the small one has passed the large one by"
        budget.release(90, "ada")
        await asyncio.gather(*tasks)
        assert order == ["large", "small"] and budget.free == 15

    asyncio.run(run())


def test_who_gives_up_waiting_takes_nothing():
    async def run():
        budget = Budget(100)
        await budget.acquire(100, "ada")
        waits = asyncio.create_task(budget.acquire(60, "bob"))
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.wait([waits])
        budget.release(100, "ada")
        assert budget.free == 100 and not budget._of

    asyncio.run(run())


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate"])
def test_a_compressed_body_is_unpacked_as_far_as_may_be(encoding):
    data = b"x" * 1000

    def pack(data):
        if encoding == "gzip":
            return gzip.compress(data[:500]) + gzip.compress(data[500:])
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS if encoding == "deflate" else -zlib.MAX_WBITS)
        return packer.compress(data) + packer.flush()

    name = encoding.split()[-1]
    assert expand(pack(data), name, 1000) == data
    with pytest.raises(TooLarge):
        expand(pack(data), name, 999)
    with pytest.raises(zlib.error):
        expand(pack(data)[:-9], name, 1000)
    with pytest.raises(zlib.error):
        expand(b"no archive", name, 1000)


def test_an_archive_of_very_many_streams_is_none():
    with pytest.raises(zlib.error, match="too many"):
        expand(gzip.compress(b"") * 9, "gzip", 1000)
