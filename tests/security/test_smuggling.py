# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""nginx and the service see the same requests: what is hidden in the body of one is never answered as another one's."""

from __future__ import annotations

import json
import re
import secrets

import pytest
from attacks import Http2, Wire, holds, refused, responses, works
from clients import AJAX3, API

# What is hidden would be answered with a user's name; `{login}` is the attacker's own, so that it would be seen.
HIDDEN = "GET {api}/users/current HTTP/1.1\r\nHost: {host}\r\nAuthorization: {login}\r\nX-Smuggled: yes\r\n\r\n"
BEGIN = "POST {api}/experiments/search HTTP/1.1\r\nHost: {host}\r\nAuthorization: {login}\r\nContent-Type: application/json\r\n"


def chunk(text):
    return f"{len(text):x}\r\n{text}\r\n"


TWO = "Content-Length: 2\r\n"
# Each is headers after BEGIN and a body; nginx may refuse it (400, 411, 413, 501) or read it as one request.
TRICKS = {
    "CL.TE": ("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n{hidden}"),
    "TE.CL": ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "{chunk}0\r\n\r\n"),
    "TE.TE": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n{hidden}"),
    "chunked twice": ("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n{hidden}"),
    "xchunked": ("Transfer-Encoding: xchunked\r\nContent-Length: {length}\r\n", "0\r\n\r\n{hidden}"),
    "chunked with a space before the colon": ("Transfer-Encoding : chunked\r\nContent-Length: {length}\r\n", "0\r\n\r\n{hidden}"),
    "chunked after a tab": ("Transfer-Encoding:\tchunked\r\nContent-Length: {length}\r\n", "0\r\n\r\n{hidden}"),
    "chunked after a vertical tab": ("Transfer-Encoding: \x0bchunked\r\nContent-Length: {length}\r\n", "0\r\n\r\n{hidden}"),
    "chunked with an underscore": ("Transfer_Encoding: chunked\r\nContent-Length: {length}\r\n", "0\r\n\r\n{hidden}"),
    "chunked on a folded line": ("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n", "0\r\n\r\n{hidden}"),
    "a folded value": ("Transfer-Encoding:\r\n chunked\r\nContent-Length: {length}\r\n", "0\r\n\r\n{hidden}"),
    "two lengths": ("Content-Length: 0\r\nContent-Length: {length}\r\n", "0\r\n\r\n{hidden}"),
    "two lengths, the other way": ("Content-Length: {length}\r\nContent-Length: 0\r\n", "0\r\n\r\n{hidden}"),
    "a list of lengths": ("Content-Length: 0, {length}\r\n", "0\r\n\r\n{hidden}"),
    "a signed length": ("Content-Length: +{length}\r\n", "0\r\n\r\n{hidden}"),
    "a negative length": ("Content-Length: -1\r\n", "0\r\n\r\n{hidden}"),
    "a length in hexadecimal": ("Content-Length: 0x{length}\r\n", "0\r\n\r\n{hidden}"),
    "a length with a space": ("Content-Length: {length} 0\r\n", "0\r\n\r\n{hidden}"),
    "chunk extensions": ("Transfer-Encoding: chunked\r\n", "2;a=b\r\n{{}}\r\n0;x=\"\r\n\r\n{hidden}"),
    "a chunk extension with bare LF": ("Transfer-Encoding: chunked\r\n", "2;\n{{}}\r\n0\r\n\r\n{hidden}"),
    "a chunk size that is signed": ("Transfer-Encoding: chunked\r\n", "+2\r\n{{}}\r\n0\r\n\r\n{hidden}"),
    "a chunk size in hexadecimal": ("Transfer-Encoding: chunked\r\n", "0x2\r\n{{}}\r\n0\r\n\r\n{hidden}"),
    "a chunk size that is too large": ("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n{{}}\r\n0\r\n\r\n{hidden}"),
    "chunks with bare LF": ("Transfer-Encoding: chunked\r\n", "2\n{{}}\n0\n\n{hidden}"),
    "trailers": ("Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n", "2\r\n{{}}\r\n0\r\nX: 1\r\n\r\n{hidden}"),
    "headers with bare LF": ("Content-Length: 2\nX: y\r\n", "{{}}{hidden}"),
    "a bare CR in a header": ("X: y\rContent-Length: {length}\r\nContent-Length: 2\r\n", "{{}}{hidden}"),
    "a NUL in a header": ("X: y\0z\r\nContent-Length: 2\r\n", "{{}}{hidden}"),
    "an upgrade to h2c": ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + TWO, "{{}}{hidden}"),
    "an upgrade to WebSocket": ("Connection: Upgrade\r\nUpgrade: websocket\r\n" + TWO, "{{}}{hidden}"),
    "Expect": ("Expect: 100-continue\r\nContent-Length: 2\r\n", "{{}}{hidden}"),
    "a body that Connection hides": ("Connection: Content-Length\r\nContent-Length: 2\r\n", "{{}}{hidden}"),
}  # fmt: skip

# The answers that there may be on the connection, in order: who is refused is also cut off.
ORDERS = (
    ["refused"], ["search", "refused"], ["search", "name", "refused"], ["refused", "refused"], ["refused", "name", "version"],
    ["search", "version"], ["search", "name", "version"], ["refused", "version"], ["search"], ["search", "name"],
)  # fmt: skip
# The only length is that of all that was sent.
TAKES_ALL = re.compile(r"^(Transfer_Encoding: chunked\r\n)?Content-Length: \{length\}\r\n$")


@pytest.mark.parametrize("trick", TRICKS)
def test_a_hidden_request_is_not_anothers_answer(people, trick):
    """
    After the trick somebody else asks, on the same connection and on others.

    A second whole request after the end of the first is ordinary; so there may be two answers of the attacker's own, in
    their order. What there may not be is a third one, or his answer in the place of the other's.
    """
    user, victim = people.without_rights, people.reader
    words = {"api": API, "host": user.address, "login": user.login["Authorization"]}
    hidden = HIDDEN.format(**words)
    headers, body = TRICKS[trick]
    sent = body.format(hidden=hidden, chunk=chunk(hidden))
    # A length that takes the hidden request for the body.
    request = BEGIN.format(**words) + headers.format(length=len(sent)) + "\r\n" + sent
    works(user.get(f"{API}/users/current"))
    theirs = f"GET /version HTTP/1.1\r\nHost: {user.address}\r\nAuthorization: {victim.login['Authorization']}\r\n\r\n"
    for _ in range(2):
        with Wire(user.address) as wire:
            wire.send(request.encode("latin-1"))
            wire.send(theirs.encode())
            came = [answer for answer in responses(wire.read(0.5)) if answer.status != 100]
        kinds = ["refused" if answer.status >= 400 else "name" if user.username.encode() in answer.body
                 else "version" if answer.body.startswith(b"3.") else "search" for answer in came]  # fmt: skip
        # Where nginx ends the first request before the hidden one, that is a request after it, and answered at its place.
        # Where it takes it for a body, the service must do so too, and there is no such answer.
        holds(kinds in ORDERS, f"{kinds}: {[str(answer) for answer in came]}")
        holds(not (TAKES_ALL.match(headers) and "name" in kinds), kinds)
    for _ in range(4):
        answer = works(victim.get(f"{API}/users/current"))
        assert victim.username in answer.body.decode() and user.username not in answer.body.decode()


def test_nothing_is_hidden_from_the_doors(people):
    """A body is no way to a route that is closed, and none past the login."""
    user = people.without_rights
    for path in (f"{AJAX3}/assistant/config", f"{API}/users/current"):
        inner = f"GET {path} HTTP/1.1\r\nHost: {user.address}\r\n\r\n"
        for outer in ("GET /health", "POST /health", f"GET {API}/users/current", f"PUT {API}-artifacts/artifacts/1/x"):
            request = f"{outer} HTTP/1.1\r\nHost: {user.address}\r\nContent-Length: {len(inner)}\r\n\r\n{inner}{inner}"
            with Wire(user.address) as wire:
                wire.send(request.encode())
                came = responses(wire.read(0.5))
            holds(1 <= len(came) <= 2, [str(answer) for answer in came])
            holds(all(b"username" not in answer.body and b"providers" not in answer.body for answer in came))
            holds(len(came) == 1 or came[1].status in (401, 404), [str(answer) for answer in came])
    works(user.get(f"{API}/users/current"))


# HTTP/2 says where a message ends by its frames, and nginx writes HTTP/1.1 to the service. {inner} is a whole request of HTTP/1.1
# that leaves a tag behind if anybody carries it out. Each is headers beside the usual ones, and a body; a pseudo-header stands
# in the place of the usual one.
OF_HTTP_2 = {
    "a length that is too small": ([(b"content-length", b"2")], b"{}{inner}"),
    "a length that is too large": ([(b"content-length", b"100000")], b"{}{inner}"),
    "a length of nothing": ([(b"content-length", b"0")], b"{inner}"),
    "two lengths": ([(b"content-length", b"2"), (b"content-length", b"{length}")], b"{}{inner}"),
    "a list of lengths": ([(b"content-length", b"2, {length}")], b"{}{inner}"),
    "a signed length": ([(b"content-length", b"+2")], b"{}{inner}"),
    "a length with CR LF": ([(b"content-length", b"2\r\nx: y")], b"{}{inner}"),
    "a length in capitals": ([(b"Content-Length", b"2")], b"{}{inner}"),
    "chunked": ([(b"transfer-encoding", b"chunked")], b"0\r\n\r\n{inner}"),
    "chunked and a length": ([(b"transfer-encoding", b"chunked"), (b"content-length", b"{length}")], b"0\r\n\r\n{inner}"),
    "chunked in capitals": ([(b"Transfer-Encoding", b"chunked")], b"0\r\n\r\n{inner}"),
    "chunked with a space": ([(b"transfer-encoding ", b"chunked")], b"0\r\n\r\n{inner}"),
    "chunked with an underscore": ([(b"transfer_encoding", b"chunked")], b"0\r\n\r\n{inner}"),
    "chunked, as te": ([(b"te", b"trailers, chunked")], b"0\r\n\r\n{inner}"),
    "connection": ([(b"connection", b"content-length, keep-alive")], b"{}{inner}"),
    "an upgrade": ([(b"connection", b"upgrade"), (b"upgrade", b"h2c")], b"{}{inner}"),
    "CR LF in a value": ([(b"x-y", b"z\r\ntransfer-encoding: chunked")], b"0\r\n\r\n{inner}"),
    "a request in a value": ([(b"x-y", b"z\r\n\r\n{inner}")], b""),
    "LF in a value": ([(b"x-y", b"z\ntransfer-encoding: chunked")], b"0\r\n\r\n{inner}"),
    "CR in a value": ([(b"x-y", b"z\rtransfer-encoding: chunked")], b"0\r\n\r\n{inner}"),
    "NUL in a value": ([(b"x-y", b"z\0z")], b"{}{inner}"),
    "CR LF in a name": ([(b"x-y: z\r\ntransfer-encoding", b"chunked")], b"0\r\n\r\n{inner}"),
    "a request in a name": ([(b"x: y\r\n\r\n{inner}x", b"z")], b""),
    "LF in a name": ([(b"x-y: z\ntransfer-encoding", b"chunked")], b"0\r\n\r\n{inner}"),
    "NUL in a name": ([(b"x\0y", b"z")], b"{}{inner}"),
    "a colon in a name": ([(b"transfer-encoding: chunked, x", b"z")], b"0\r\n\r\n{inner}"),
    "a space in a name": ([(b"x y", b"z")], b"{}{inner}"),
    "an empty name": ([(b"", b"z")], b"{}{inner}"),
    "a method twice": ([(b":method", b"POST"), (b":method", b"GET")], b"{}{inner}"),
    "a path twice": ([(b":path", b"{path}"), (b":path", b"/health")], b"{}{inner}"),
    "a scheme twice": ([(b":scheme", b"https"), (b":scheme", b"http")], b"{}{inner}"),
    "an authority twice": ([(b":authority", b"{host}"), (b":authority", b"attacker.example.net")], b"{}{inner}"),
    "a host beside the authority": ([(b"host", b"attacker.example.net")], b"{}{inner}"),
    "a host with a request": ([(b"host", b"{host}\r\n\r\n{inner}")], b""),
    "a pseudo-header at the end": ([(b"x-y", b"z"), (b":path", b"/health")], b"{}{inner}"),
    "an unknown pseudo-header": ([(b":x", b"z")], b"{}{inner}"),
    "a status": ([(b":status", b"200")], b"{}{inner}"),
    "a protocol": ([(b":protocol", b"websocket")], b"{}{inner}"),
    "no path": ([(b":path", None)], b"{}{inner}"),
    "an empty path": ([(b":path", b"")], b"{}{inner}"),
    "a path with spaces": ([(b":path", b"{path} HTTP/1.1")], b"{}{inner}"),
    "a path with a whole line": ([(b":path", b"{path} HTTP/1.1\r\ntransfer-encoding: chunked\r\nx: y")], b"0\r\n\r\n{inner}"),
    "a path with a request": ([(b":path", b"/health HTTP/1.1\r\nHost: x\r\n\r\n{inner}GET /")], b""),
    "a path with CR LF": ([(b":path", b"{path}\r\nx: y")], b"{}{inner}"),
    "a path with LF": ([(b":path", b"{path}\nx: y")], b"{}{inner}"),
    "a path with a tab": ([(b":path", b"{path}\tHTTP/1.1")], b"{}{inner}"),
    "a path with NUL": ([(b":path", b"{path}\0")], b"{}{inner}"),
    "a path that is none": ([(b":path", b"https://127.0.0.1{path}")], b"{}{inner}"),
    "a method with a request": ([(b":method", b"POST {path} HTTP/1.1\r\nHost: x\r\n\r\n{inner}GET")], b""),
    "a method with a space": ([(b":method", b"GET /health")], b"{}{inner}"),
    "a scheme with a request": ([(b":scheme", b"https://x/ HTTP/1.1\r\n\r\n{inner}")], b""),
    "an authority with CR LF": ([(b":authority", b"{host}\r\ntransfer-encoding: chunked")], b"0\r\n\r\n{inner}"),
    "an authority with a request": ([(b":authority", b"{host}\r\n\r\n{inner}")], b""),
    "no method": ([(b":method", None)], b"{}{inner}"),
    "CONNECT": ([(b":method", b"CONNECT")], b"{}{inner}"),
    "trailers with a length": ([], b"{}{inner}", [(b"content-length", b"2")]),
    "trailers with chunked": ([], b"0\r\n\r\n{inner}", [(b"transfer-encoding", b"chunked")]),
    "trailers with a path": ([], b"{}{inner}", [(b":path", b"/health"), (b"x-y", b"z\r\n\r\n{inner}")]),
    "a cookie in pieces with CR LF": ([(b"cookie", b"a=b"), (b"cookie", b"c\r\n\r\n{inner}")], b""),
}  # fmt: skip
# What nginx passes on as the one request that it is: it leaves such a header away, or the service reads all of it as a body.
ONE_REQUEST = {
    "chunked with an underscore", "chunked, as te", "connection", "an upgrade", "a host beside the authority",
    "trailers with a length", "trailers with chunked", "trailers with a path", "a scheme with a request",
}  # fmt: skip


def usual(method, path, client, *more):
    """The headers of a request of HTTP/2, those of the same pseudo-name replaced."""
    pseudo = {b":method": method, b":scheme": "https", b":authority": client.address, b":path": path}
    given = {name for name, _ in more}
    found = [(name, value.encode()) for name, value in pseudo.items() if name not in given]
    first = 0
    while first < len(more) and more[first][0].startswith(b":"):
        first += 1
    found += [(name, value) for name, value in more[:first] if value is not None]
    login = [(name.lower().encode(), value.encode()) for name, value in client.login.items()]
    return [*found, *login, (b"content-type", b"application/json"), *more[first:]]


def leaves_a_tag(user, experiment, key):
    """A whole request of HTTP/1.1."""
    tag = json.dumps({"experiment_id": experiment, "key": key, "value": "yes"})
    return (
        f"POST {API}/experiments/set-experiment-tag HTTP/1.1\r\nHost: {user.address}\r\nContent-Type: application/json\r\n"
        f"Authorization: {user.login['Authorization']}\r\nContent-Length: {len(tag)}\r\n\r\n{tag}"
    ).encode()


def tags_of(user, experiment):
    found = works(user.get(f"{API}/experiments/get", experiment_id=experiment)).json["experiment"].get("tags", [])
    return [tag["key"] for tag in found]


def own_name(client):
    return usual("GET", f"{API}/users/current", client)


@pytest.mark.parametrize("trick", OF_HTTP_2)
def test_what_http_2_lets_one_say_is_no_second_request(people, world, server, trick):
    """The hidden request is not carried out, and whoever asks after it, here or elsewhere, gets an answer of his own."""
    user, victim = people.owner, people.reader
    key = f"smuggled-{secrets.token_hex(4)}"
    inner = leaves_a_tag(user, world.experiment, key)
    headers, body, *trailers = OF_HTTP_2[trick]
    path = f"{API}/experiments/search"

    def fill(text, length=0):
        words = {b"inner": inner, b"path": path.encode(), b"host": user.address.encode(), b"length": b"%d" % length}
        for name, value in words.items():
            text = text.replace(b"{%s}" % name, value)
        return text

    body = fill(body)

    def filled(given):
        return [(fill(name), None if value is None else fill(value, len(body))) for name, value in given]

    kinds = []
    with server.no_traceback():
        for _ in range(2):
            with Http2(user.address) as wire:
                # A connection on which somebody else asks, too, as behind a proxy.
                works(wire.answer(wire.send(own_name(victim))))
                tricky = wire.send(usual("POST", path, user, *filled(headers)), body, *[filled(given) for given in trailers])
                answer = wire.answer(tricky, 5)
                theirs = None if wire.closed else wire.answer(wire.send(own_name(victim)))
            kinds.append(answer.status)
            # Said no by nginx or by the service, or the stream is gone.
            refused(answer, 0, 400, 403, 404, 405, 413, 421, 431, 501, *((200,) if trick in ONE_REQUEST else ()))
            assert "which has not ended" not in answer.what or wire.closed, answer
            assert not theirs or theirs.status in (0, 200), str(theirs)
            if theirs and theirs.status:
                works(theirs)
                holds(victim.username.encode() in theirs.body and user.username.encode() not in theirs.body, str(theirs))
        for _ in range(4):
            answer = works(victim.get(f"{API}/users/current"))
            holds(victim.username.encode() in answer.body and user.username.encode() not in answer.body, str(answer))
    holds(key not in tags_of(user, world.experiment), f"the hidden request was carried out; the answers were {kinds}")


def test_the_hidden_request_would_be_seen(people, world):
    """Sent openly, what is hidden above leaves its tag behind; and what is ordinary in HTTP/2 works."""
    user, keys = people.owner, [f"open-{secrets.token_hex(4)}" for _ in range(3)]
    with Wire(user.address) as wire:
        wire.send(leaves_a_tag(user, world.experiment, keys[0]))
        works(wire.answer())
    with Http2(user.address) as wire:
        # HTTP/2 wants no length of a body.
        for key, is_said in zip(keys[1:], (True, False), strict=True):
            tag = json.dumps({"experiment_id": world.experiment, "key": key, "value": "yes"}).encode()
            length = [(b"content-length", b"%d" % len(tag))] if is_said else []
            works(wire.answer(wire.send(usual("POST", f"{API}/experiments/set-experiment-tag", user, *length), tag)))
    assert set(keys) <= set(tags_of(user, world.experiment))
