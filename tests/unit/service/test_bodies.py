# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a request may bring, and what all of them hold together."""

from __future__ import annotations

import asyncio
import gzip
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.http import bodies as mlflow_bodies  # noqa: E402
from mlflow_service.http.bodies import (  # noqa: E402
    SMALL,
    Bodies,
    Budget,
    Lingering,
    TooLarge,
    answer,
    expand,
    owner_of,
    without_body,
)

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


def test_a_server_need_not_say_that_nothing_more_comes():
    """ASGI lets it leave that out; the body is read then, and its end is not waited for."""
    asked = Asked([], length(1))

    async def receive():
        assert not asked.got, "it has asked for more than there is"
        asked.got.append(b"x")
        return {"type": "http.request", "body": b"x"}

    async def application(scope, receive, send):
        await receive()
        await answer(send, 200, b"yes")

    asyncio.run(Lingering(application)(asked.scope, receive, asked.send))
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


@pytest.mark.parametrize("before", [b"", b"x" * 1000])
def test_of_a_bomb_no_more_is_unpacked_than_may_be(before):
    """A second stream that begins where the first one has used up all is the case in which zlib would know no bound."""
    bomb = gzip.compress(before) + gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            expand(bomb, "gzip", 1000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_deflate_is_one_stream_and_what_follows_it_is_dropped():
    assert expand(zlib.compress(b"one") + b"rest", "deflate", 1000) == b"one"


@pytest.mark.parametrize("told, mib", [(None, 32), ("", 32), ("1", 1), ("100", 100)])
def test_the_largest_body_is_what_the_unit_says(monkeypatch, told, mib):
    monkeypatch.delenv("MLFLOW_SERVER_MAX_BODY_MIB", raising=False)
    if told is not None:
        monkeypatch.setenv("MLFLOW_SERVER_MAX_BODY_MIB", told)
    largest = mib << 20
    assert mlflow_bodies.limit() == largest
    for size, status in ((largest, 200), (largest + 1, 413)):
        asked = Asked([b"x"], length(size))
        assert asyncio.run(asked.run(maximum=None)) == status
    assert f"larger than {mib} MiB" in asked.sent[1]["body"].decode()


def test_an_answer_says_how_long_it_is_and_is_kept_by_nobody():
    asked = Asked([])
    asyncio.run(answer(asked.send, 503, b"later", [(b"retry-after", b"5")]))
    start, body = asked.sent
    assert start["status"] == 503 and body["body"] == b"later"
    assert dict(start["headers"]) == {b"content-length": b"5", b"cache-control": b"no-store", b"retry-after": b"5"}


@pytest.mark.parametrize(
    "scope, owner",
    [
        ({"mlflow.user": "ada", "client": ("192.0.2.1", 1)}, "ada"),
        ({"client": ("192.0.2.1", 1)}, "192.0.2.1"),
        # By a socket there is no address.
        ({"client": None}, "the host"),
        ({}, "the host"),
    ],
)
def test_whose_a_request_is(scope, owner):
    assert owner_of(scope) == owner


def test_users_behind_one_address_have_budgets_of_their_own():
    async def run():
        budget = Budget(4 * LIMIT)
        await budget.acquire(2 * LIMIT, "ada")
        asked = Asked([b"x"], length(LIMIT), client=("192.0.2.1", 1), **{"mlflow.user": "bob"})
        assert await asked.run(budget=budget) == 200
        # And it is given back.
        assert budget.free == 2 * LIMIT

    asyncio.run(run())


def test_only_a_body_that_is_not_small_counts(monkeypatch):
    monkeypatch.setattr(mlflow_bodies, "WAIT", 0.05)

    async def run():
        budget = Budget(10 * LIMIT)
        await budget.acquire(10 * LIMIT, "ada")
        for size, status in ((SMALL, 200), (SMALL + 1, 503)):
            asked = Asked([b"x"], length(size))
            assert await asked.run(budget=budget) == status
        assert dict(asked.sent[0]["headers"])[b"retry-after"] == b"5"
        # Who does not say how much comes is counted with all that may.
        assert await Asked([b"x"], CHUNKED).run(budget=budget) == 503

    asyncio.run(run())


def test_a_worker_holds_four_of_the_largest_bodies_and_one_user_two():
    async def run():
        bodies, inside = [], 0

        async def app(scope, receive, send):
            nonlocal inside
            inside += 1
            await asyncio.Event().wait()

        application = Bodies(app, maximum=LIMIT, is_stream=lambda scope: False)
        for user, now in (("ada", 1), ("ada", 2), ("ada", 2), ("bob", 3), ("eve", 4), ("joe", 4)):
            asked = Asked([b"x"], length(LIMIT), **{"mlflow.user": user})
            bodies.append(asyncio.create_task(application(asked.scope, asked.receive, asked.send)))
            await asyncio.sleep(0.01)
            assert inside == now, user
        for body in bodies:
            body.cancel()
        await asyncio.wait(bodies)

    asyncio.run(run())


def test_a_body_has_more_time_the_larger_it_is(monkeypatch):
    monkeypatch.setattr(mlflow_bodies, "PATIENCE", 0.05)
    monkeypatch.setattr(mlflow_bodies, "SLOWEST", 100_000)

    async def run(size):
        asked = Asked([], length(size))

        async def slow():
            await asyncio.sleep(0.3)
            return {"type": "http.request", "body": b"x"}

        asked.receive = slow
        return await asked.run()

    assert asyncio.run(run(1)) == 408 and asyncio.run(run(LIMIT)) == 200


def test_who_has_his_body_hears_of_the_end_of_the_connection():
    asked, heard = Asked([b"x"], length(1)), []

    async def app(scope, receive, send):
        heard.extend([await receive(), await receive()])

    asyncio.run(Bodies(app, maximum=LIMIT, is_stream=lambda scope: False)(asked.scope, asked.receive, asked.send))
    assert heard == [{"type": "http.request", "body": b"x", "more_body": False}, {"type": "http.disconnect"}]


@pytest.mark.parametrize("wrap", [lambda app: Lingering(app), lambda app: Bodies(app, maximum=1, is_stream=lambda scope: False)])
@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_no_request_goes_on_untouched(wrap, kind):
    """The start and the end of a worker have no headers, even."""
    asked = Asked([])

    async def app(scope, receive, send):
        assert receive == asked.receive and send == asked.send
        await send(scope)

    scope = {"type": kind}
    asyncio.run(wrap(app)(scope, asked.receive, asked.send))
    assert asked.sent == [scope]


def test_a_request_without_a_body_is_read_by_nobody():
    asked = Asked([b"x" * LIMIT, b"x"], [(b"host", b"x")])
    assert asyncio.run(asked.run()) == 200 and asked.got == [b"x" * LIMIT, b"x"]


def test_a_part_without_content_is_an_empty_one():
    asked = Asked([], length(3))
    messages = [{"type": "http.request", "more_body": True}, {"type": "http.request", "body": b"abc"}]

    async def receive():
        return messages.pop(0)

    asked.receive = receive
    assert asyncio.run(asked.run()) == 200 and asked.got == [b"abc"]


def test_after_a_client_has_gone_an_answer_is_not_held_back():
    """What would be waited for is the end of a body that nobody sends."""
    asked = Asked([], CHUNKED)

    async def application(scope, receive, send):
        assert (await receive())["type"] == "http.disconnect"
        await answer(send, 400, b"no")

    asyncio.run(Lingering(application)(asked.scope, asked.receive, asked.send))
    assert [message.get("body") for message in asked.sent[1:]] == [b"no"]


def test_a_request_whose_body_is_not_read_has_an_empty_one_and_an_end():
    """Nor does it say that it has one, for which memory would be kept."""
    asked = Asked([b"one", b"two"], [*length(6), *CHUNKED, (b"accept", b"*/*")])
    scope, receive = without_body(asked.scope, asked.receive)
    assert scope == {**asked.scope, "headers": [(b"accept", b"*/*")]}

    async def run():
        return [await receive(), await receive()]

    assert asyncio.run(run()) == [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    assert asked.parts == []


# --- a budget ---


def test_a_piece_larger_than_the_budget_takes_all_of_it():
    async def run():
        budget = Budget(100)
        await budget.acquire(500, "ada")
        waits = asyncio.create_task(budget.acquire(500, "bob"))
        await asyncio.sleep(0)
        assert budget.free == 0 and not waits.done() and not budget.try_acquire(1, "eve")
        budget.release(500, "ada")
        await asyncio.wait_for(waits, 1)
        assert budget.free == 0
        budget.release(500, "bob")
        assert budget.free == 100 and budget.try_acquire(500, "eve") and budget.free == 0

    asyncio.run(run())


@pytest.mark.parametrize("most, pieces", [(None, 5), (3, 3), (0, 1), (10, 10)])
def test_one_owner_has_his_share_and_one_piece_at_least(most, pieces):
    budget = Budget(10, most)
    assert [budget.try_acquire(1, "ada") for _ in range(11)] == [True] * pieces + [False] * (11 - pieces)
    budget.release(1, "ada")
    assert budget.try_acquire(1, "ada") and not budget.try_acquire(1, "ada")
    assert budget.free == 10 - pieces


def test_nobody_passes_by_who_waits_for_memory_alone():
    async def run():
        budget = Budget(100)
        await budget.acquire(50, "ada")
        own = asyncio.create_task(budget.acquire(10, "ada"))
        await asyncio.sleep(0)
        # Ada has her share, so the rest is for others,
        assert budget.try_acquire(10, "eve")
        others = asyncio.create_task(budget.acquire(45, "bob"))
        await asyncio.sleep(0)
        # until one of them waits as well.
        assert not budget.try_acquire(10, "joe") and budget.free == 40
        budget.release(10, "eve")
        await asyncio.wait_for(others, 1)
        assert budget.free == 5 and not own.done()
        budget.release(50, "ada")
        await asyncio.wait_for(own, 1)
        assert budget.free == 45

    asyncio.run(run())


def test_memory_that_was_given_to_who_has_just_gone_comes_back():
    async def run():
        budget = Budget(100)
        await budget.acquire(100, "ada")
        given, waits = (asyncio.create_task(budget.acquire(60, who)) for who in ("bob", "eve"))
        await asyncio.sleep(0)
        budget.release(100, "ada")
        # Bob has it by now, and has not been told yet.
        given.cancel()
        await asyncio.wait_for(waits, 1)
        assert given.cancelled() and budget.free == 40 and budget.try_acquire(40, "joe")

    asyncio.run(run())


def test_who_gives_up_in_the_very_moment_keeps_nobody_who_comes_after():
    async def run():
        budget = Budget(100)
        await budget.acquire(100, "ada")
        gone, waits = (asyncio.create_task(budget.acquire(60, who)) for who in ("bob", "eve"))
        await asyncio.sleep(0)
        gone.cancel()
        budget.release(100, "ada")
        await asyncio.wait_for(waits, 1)
        await asyncio.wait([gone])
        assert gone.cancelled() and budget.free == 40 and budget.try_acquire(40, "joe")

    asyncio.run(run())


def test_what_becomes_free_goes_to_all_who_fit_into_it():
    async def run():
        budget = Budget(100)
        await budget.acquire(100, "ada")
        waits = [asyncio.create_task(budget.acquire(size, who)) for who, size in (("bob", 60), ("eve", 40), ("joe", 1))]
        await asyncio.sleep(0)
        budget.release(100, "ada")
        done, _ = await asyncio.wait(waits, timeout=0.05)
        assert done == set(waits[:2]) and budget.free == 0
        budget.release(40, "eve")
        await asyncio.wait_for(waits[2], 1)

    asyncio.run(run())


def test_what_is_left_of_a_body_that_was_read_in_part_is_thrown_away():
    asked = Asked([b"x", b"y", b"z"], CHUNKED)

    async def application(scope, receive, send):
        assert (await receive())["body"] == b"x"
        await answer(send, 400, b"no")

    asyncio.run(Lingering(application)(asked.scope, asked.receive, asked.send))
    assert asked.parts == [] and [message["more_body"] for message in asked.sent[1:] if "more_body" in message] == [True]
