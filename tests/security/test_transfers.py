# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whoever reads or writes an artifact as slowly as he can holds no more of the memory than a bounded part of it."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest
from attacks import MIB, Repeating, Wire, holds, works
from clients import API, insecure
from load import percentile

# As many as there are to be; they come in steps, so that a server that does not bear it is left alone at the first sign.
DOWNLOADS, UPLOADS, STEP = 500, 100, 50
# What all of them together may hold.
BOUND = 768 * MIB


class Slow(Wire):
    """A connection with next to no room for what comes."""

    def __init__(self, address):
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(30)
        plain.connect((address, 443))
        self.socket = insecure().wrap_socket(plain)


def ask(client, method, path, length=None):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {client.address}", f"Authorization: {client.login['Authorization']}"]
    return "\r\n".join([*lines, *([f"Content-Length: {length}"] if length else [])]).encode() + b"\r\n\r\n"


@pytest.fixture(scope="module")
def large(people, world):
    path = f"{world.folder}/large-and-slow"
    works(people.owner.put(path, bytes(64 * MIB)))
    return path


def from_the_host(server, client, path):
    """Another address than that of all the slow ones."""
    login = f"user = {client.username}:{client.password}"
    curl = "curl --silent --insecure --max-time 60 --config - --output /dev/null --write-out '%{http_code} %{size_download}'"
    return server.run(f"{curl} https://127.0.0.1{path} <<'LOGIN'\n{login}\nLOGIN\n").split()


@pytest.mark.slow
@pytest.mark.everyday
@pytest.mark.parametrize("kind", ["downloads", "uploads"])
def test_slow_transfers_take_a_bounded_part_of_the_memory(people, server, world, large, kind):
    user, most = people.editor, {"downloads": DOWNLOADS, "uploads": UPLOADS}[kind]
    for _ in range(8):
        works(user.get(f"{API}/users/current"))
    before = server.memory()
    with contextlib.ExitStack() as stack, server.no_traceback():
        working = stack.enter_context(Repeating(lambda: people.owner.get(f"{API}/users/current"), pause=0.2))
        ready = stack.enter_context(Repeating(lambda: people.stranger.get("/ready"), pause=0.2))
        begun = 0
        while begun < most:
            for _ in range(STEP):
                wire = stack.enter_context(Slow(user.address))
                if kind == "downloads":
                    wire.send(ask(user, "GET", large))
                else:
                    wire.send(ask(user, "PUT", f"{world.folder}/slow-{begun}", 64 * MIB))
                    wire.socket.settimeout(0.2)
                    with contextlib.suppress(OSError):
                        # Less than a part, so that it has to be kept; then nothing more comes.
                        for _ in range(7):
                            wire.send(bytes(MIB))
                begun += 1
            time.sleep(1)
            grown = server.memory() - before
            print(f"{begun} slow {kind}: {grown / MIB:.0f} MiB more than {before / MIB:.0f}")
            holds(grown < BOUND, f"{begun} slow {kind}: {grown / MIB:.0f} MiB")
        # Somebody else gets the whole of it meanwhile.
        status, size = from_the_host(server, people.owner, large)
        assert (status, size) == ("200", str(64 * MIB))
    for answer in working.answers:
        works(answer)
    for answer in ready.answers:
        # The local cloud's S3 is one process on this machine. That it is slow by now is told by 503, and told at once.
        works(answer, 200, 503)
    for answers in (working.answers, ready.answers):
        assert len(answers) > 10
        assert percentile([answer.seconds for answer in answers], 0.95) < 5.0, sorted(answer.seconds for answer in answers)[-5:]
