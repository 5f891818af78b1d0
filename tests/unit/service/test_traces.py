# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a trace may be that OpenTelemetry's exporters send, and what MLflow's route is then given."""

from __future__ import annotations

import asyncio
import contextvars
import gzip
import json
import sys
import threading
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.compat import traces  # noqa: E402
from mlflow_service.compat.traces import FEW, SMALL, Traces  # noqa: E402
from mlflow_service.http import spans  # noqa: E402
from mlflow_service.http.spans import SPAN, TooMany, things  # noqa: E402

MIB = 1 << 20


def number(value):
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def field(which, content):
    return number(which << 3 | 2) + number(len(content)) + content


def flag(which, value=1):
    return number(which << 3) + number(value)


def said(key, value=b""):
    """An attribute."""
    return field(1, key) + field(2, value)


def span(*more):
    return field(1, b"t" * 16) + field(2, b"s" * 8) + field(5, b"step") + b"\x39" + bytes(8) + flag(6) + b"".join(more)


def request(spans, resource=b""):
    return field(1, field(1, resource) + field(2, b"".join(field(2, it) for it in spans)))


# A request of one empty span has three messages round it, and its resource.
ROUND, BARE = 3, SPAN + 1


COUNTED = {
    "nothing": (b"", 0),
    "an empty span": (request([b""]), ROUND + BARE),
    # Three of its fields have a length.
    "spans": (request([span()] * 3), ROUND + 3 * (BARE + 3)),
    "events": (request([span(*[field(11, b"")] * 50)]), ROUND + BARE + 3 + 50),
    "links": (request([span(*[field(13, b"")] * 50)]), ROUND + BARE + 3 + 50),
    # An attribute, its key and its value; and what is in that, at whatever depth.
    "an attribute": (request([span(field(9, said(b"k")))]), ROUND + BARE + 3 + 3),
    "a list": (request([span(field(9, said(b"k", field(5, field(1, b"") * 9))))]), ROUND + BARE + 3 + 3 + 1 + 9),
    "a map": (request([span(field(9, said(b"k", field(6, field(1, said(b"x"))))))]), ROUND + BARE + 3 + 3 + 1 + 3),
    # It is one thing, however long, and whatever it looks like.
    "a text": (request([span(field(9, said(b"k", field(1, field(11, b"") * 5000))))]), ROUND + BARE + 3 + 3 + 1),
    # Three things each for two attributes, which each span is given.
    "a resource": (request([b""] * 7, field(1, said(b"a")) + field(1, said(b"b"))), ROUND + 6 + 7 * BARE + 7 * 6),
    # What ends too early, and what is nothing of the kind, is the parser's matter.
    "too short": (request([span()])[:-9], ROUND + BARE + 3),
    "noise": (b"\xff" * 40, 0),
    "an unknown kind": (b"\x0f" * 40, 0),
}


@pytest.mark.parametrize("body, count", COUNTED.values(), ids=COUNTED)
def test_things_are_counted_as_the_parser_would_make_them(body, count):
    assert things(body, is_json=False) == count


def in_json(spans, resource=None):
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).encode()


def test_in_json_brackets_and_commas_are_counted_and_texts_are_not():
    one = things(in_json([{"name": "step"}]), is_json=True)
    assert things(in_json([{"name": '[{,"' * 5000}]), is_json=True) == one
    assert things(in_json([{"name": "step", "events": [{}] * 100}]), is_json=True) == one + 1 + 1 + 100 + 99
    # Each span is given what is said of its resource.
    about = {"attributes": [{"key": "a", "value": {}}] * 10}
    few, many = (things(in_json([{}] * count, about), is_json=True) for count in (1, 101))
    assert many - few >= 100 * (SPAN + 30)


ODD = [
    b"", b"{", b"[]", b'{"resourceSpans": 7}', b'{"resourceSpans": [7, {"scopeSpans": [{"spans": 1}]}]}', b"[" * 100_000,
    b'"' * 99_999, b"\xff",
]  # fmt: skip


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
def test_what_is_no_trace_in_json_is_mlflows_matter(body):
    assert things(body, is_json=True) <= len(body)


@pytest.mark.parametrize(
    "is_json, body",
    [
        pytest.param(False, request([span(field(11, b"") * 2001)]), id="events"),
        pytest.param(False, request([b""] * 200), id="spans"),
        pytest.param(False, request([b""] * 20, field(1, said(b"")) * 30), id="a resource that each span is given"),
        pytest.param(False, flag(9) * 8001, id="numbers"),
        pytest.param(True, b"[" + b"{}," * 1000, id="brackets"),
        pytest.param(True, in_json([{}] * 20, [{}] * 60), id="a resource in JSON"),
    ],
)
def test_more_than_a_request_may_have_is_refused(monkeypatch, is_json, body):
    assert things(body, is_json) <= spans.MOST_THINGS
    monkeypatch.setattr(spans, "MOST_THINGS", 2000)
    monkeypatch.setattr(spans, "MOST_STEPS", 8000)
    with pytest.raises(TooMany):
        things(body, is_json)


class Route:
    """MLflow's route: says what it was given, and in which thread."""

    def __init__(self, waits=None):
        self.given, self.threads, self.waits = [], [], waits

    async def __call__(self, scope, receive, send):
        message = await receive()
        assert message["type"] == "http.request" and not message["more_body"]
        headers = dict(scope["headers"])
        self.given.append((message["body"], headers.get(b"content-encoding"), headers.get(b"content-length")))
        self.threads.append(threading.current_thread() is threading.main_thread())
        if self.waits:
            self.waits()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"taken"})


async def ask(app, body, encoding=None, kind="application/x-protobuf", user="ada"):
    parts = [{"type": "http.request", "body": body[:10], "more_body": True}, {"type": "http.request", "body": body[10:]}]
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    if encoding is not None:
        headers.append((b"content-encoding", encoding.encode()))
    messages = []

    async def receive():
        return parts.pop(0)

    async def send(message):
        messages.append(message)

    await app({"type": "http", "headers": headers, "mlflow.user": user}, receive, send)
    return messages[0]["status"], b"".join(message.get("body", b"") for message in messages)


def one(body, encoding=None, maximum=4 * MIB, **about):
    route = Route()
    answer = asyncio.run(ask(Traces(route, maximum), body, encoding, **about))
    return answer, route


PACKED = [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress), (None, bytes), ("", bytes)]


@pytest.mark.parametrize("encoding, pack", PACKED)
@pytest.mark.parametrize("size", [10, 3 * MIB], ids=["small", "large"])
def test_mlflow_is_given_what_it_would_have_unpacked(encoding, pack, size):
    body = request([span(field(9, said(b"k", field(1, b"x" * size))))])
    answer, route = one(pack(body), encoding)
    assert answer == (200, b"taken")
    assert route.given == [(body, None, str(len(body)).encode())]


def test_mlflow_finds_what_it_keeps_in_the_context_of_a_request():
    place, found = contextvars.ContextVar("place"), []
    place.set("team")
    for body in (request([span()]), bytes(SMALL + 1)):
        assert asyncio.run(ask(Traces(Route(lambda: found.append(place.get("none"))), MIB), body)) == (200, b"taken")
    assert found == ["team", "team"]


def test_what_is_small_is_taken_at_once_and_the_rest_beside_the_loop():
    assert one(request([span()]))[1].threads == [True]
    assert one(gzip.compress(request([span()])), "gzip")[1].threads == [True]
    assert one(bytes(SMALL + 1))[1].threads == [False]
    assert one(gzip.compress(bytes(SMALL + 1)), "gzip")[1].threads == [False]
    assert one(request([span(field(11, b"") * (FEW + 1))]))[1].threads == [False]


@pytest.mark.parametrize("encoding, pack", PACKED[:3])
def test_a_trace_is_unpacked_up_to_a_size(encoding, pack):
    data = request([span(field(9, said(b"k", field(1, b"x" * (4 * MIB)))))])
    assert one(pack(data), encoding, maximum=len(data))[0] == (200, b"taken")
    (status, said_so), route = one(pack(data), encoding, maximum=len(data) - 1)
    assert status == 413 and "more than 4 MiB when it is unpacked" in json.loads(said_so)["detail"]
    assert route.given == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("body", [b"", b"no archive", gzip.compress(bytes(MIB))[:-9], bytes(SMALL + 1)])
def test_what_is_no_archive_is_told_in_mlflows_words(encoding, body):
    (status, told), route = one(body, encoding)
    assert (status, json.loads(told)) == (400, {"detail": f"Failed to decompress {encoding} payload"})
    assert route.given == []


@pytest.mark.parametrize(
    "encoding, kind",
    [("identity", "application/x-protobuf"), ("br", "application/json"), ("gzip", "text/plain"), ("gzip", ""), (None, "a/b")],
)
def test_what_mlflow_does_not_take_it_refuses_itself_and_need_not_see(encoding, kind):
    _answer, route = one(gzip.compress(b"some bytes"), encoding, kind=kind)
    assert route.given == [(b"", encoding.encode() if encoding else None, b"0")]


@pytest.mark.parametrize(
    "kind, body",
    [
        ("application/x-protobuf", request([span(field(11, b"") * 500)])),
        ("application/json", in_json([{"events": [{}] * 500}])),
        ("application/json; charset=utf-8", in_json([{"events": [{}] * 500}])),
    ],
)
def test_a_trace_of_too_many_things_is_refused(monkeypatch, kind, body):
    assert one(gzip.compress(body), "gzip", kind=kind)[0] == (200, b"taken")
    monkeypatch.setattr(spans, "MOST_THINGS", 400)
    (status, told), route = one(gzip.compress(body), "gzip", kind=kind)
    assert status == 413 and "send fewer at a time" in json.loads(told)["detail"]
    assert route.given == []


def test_a_client_that_has_gone_is_asked_nothing_more():
    route = Route()

    async def gone():
        return {"type": "http.disconnect"}

    asyncio.run(Traces(route, MIB)({"type": "http", "headers": []}, gone, None))
    assert route.given == []


def test_others_are_answered_meanwhile_and_all_together_take_no_more_memory_than_there_is(monkeypatch):
    """Two of one user's do not fit at once; another user's does, and neither keeps a small one waiting."""
    monkeypatch.setattr(traces, "MEMORY", 4)
    monkeypatch.setattr(traces, "WAIT", 0.3)
    go, here = threading.Event(), threading.Semaphore(0)

    def stay():
        here.release()
        assert go.wait(10)

    large = bytes(MIB)

    async def run():
        slow = Route(lambda: None if threading.current_thread() is threading.main_thread() else stay())
        app = Traces(slow, 4 * MIB)
        # A MiB takes four, and so does the budget: it is all one's, whoever has nothing yet.
        first = asyncio.create_task(ask(app, large))
        await asyncio.to_thread(here.acquire, timeout=5)
        assert await ask(app, request([span()])) == (200, b"taken")
        status, told = await ask(app, large)
        assert status == 503 and "no memory" in json.loads(told)["detail"]
        go.set()
        assert await first == (200, b"taken")
        assert await ask(app, large) == (200, b"taken")
        assert app._budget.free == app._budget.total

    asyncio.run(run())
