# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""nginx and the service see the same requests: what is hidden in the body of one is never answered as another one's."""

from __future__ import annotations

import re

import pytest
from attacks import AJAX3, API, Wire, holds, responses, works

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
