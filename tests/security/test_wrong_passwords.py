# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whoever guesses passwords holds up nobody. The last file: for a while after it, the address has few guesses left."""

from __future__ import annotations

import contextlib
import secrets
import time

import pytest
from attacks import Http2, Repeating, holds, refused, tally, works
from clients import API, API3, ARTIFACTS, Answer, Client, together
from load import percentile
from test_smuggling import usual

# So many wrong passwords are sent a second, for so many seconds; where two processors are the server, the database and the
# attacker all at once, at least LEAST of them get there.
RATE, LEAST, SECONDS = 220, 150, 12
# The requests that nginx takes at once on a connection of HTTP/2, but a few.
LOT = 100
PATHS = (f"{API}/users/current", f"{ARTIFACTS}/1/x", f"{API3}/mcp-servers", "/get-artifact?path=x&run_uuid=1")


def gets_in(client, seconds=90):
    """The right password counts again when the time that was told has passed, and those before it were looked at."""
    deadline = time.monotonic() + seconds
    while (answer := client.send("GET", PATHS[0], timeout=300)).status == 429 and time.monotonic() < deadline:
        time.sleep(min(int(answer.headers["retry-after"]), 10))
    return works(answer)


@contextlib.contextmanager
def people_who_work(people):
    """Somebody who is logged in, and a load balancer, are answered in time for as long as the block lasts."""
    user, stranger = people.owner, people.stranger
    with (
        Repeating(lambda: user.get(f"{API}/users/current"), pause=0.1) as working,
        Repeating(lambda: stranger.get("/ready"), pause=0.1) as ready,
    ):
        yield
    for others in (working.answers, ready.answers):
        for answer in others:
            works(answer)
        assert len(others) >= 10, "they were hardly answered at all"
        assert percentile([answer.seconds for answer in others], 0.95) < 2.0, sorted(answer.seconds for answer in others)[-5:]


@pytest.mark.slow
@pytest.mark.everyday
def test_whoever_guesses_is_slowed_down_and_nobody_else(people, server, new_user):
    """Two hundred wrong passwords a second, on paths of Flask's and of FastAPI's, beside people who are logged in."""
    late, known = new_user("late"), new_user("known")
    guessers = [Client(server.address, name, "wrong") for name in (known.username, late.username, "nobody", "nobody-else")]
    turn, begun = iter(range(10**9)), []

    def guess():
        number = next(turn)
        # Each at its moment, so that it is a number of guesses a second and not as many as there may be.
        time.sleep(max(begun[0] + number / RATE - time.monotonic(), 0))
        guesser = guessers[number % len(guessers)].known_as(f"wrong-{number}")
        guesser.mine = guessers[number % len(guessers)].mine
        return guesser.send("GET", PATHS[number // 4 % len(PATHS)])

    for _ in range(4 * len(server.workers())):
        works(people.owner.get(f"{API}/users/current"))
    with server.no_traceback(), people_who_work(people):
        # The first ones are looked at, one after another. From here on nearly all are told to wait.
        begun.append(0.0)
        for _ in range(200):
            if all(answer.status == 429 for answer in together([guess] * 24, threads=24)):
                break
        begun[0] = time.monotonic() - next(turn) / RATE
        start = time.monotonic()
        with Repeating(guess, threads=24) as guessing:
            time.sleep(SECONDS * 2 / 3)
            # Who comes to work meanwhile, from the same address, whom no process has ever seen.
            newcomer = new_user("newcomer")
            for _ in range(8):
                works(newcomer.get(f"{API}/users/current"))
            time.sleep(max(start + SECONDS - time.monotonic(), 0))
            answered, seconds = len(guessing.answers), time.monotonic() - start
    for answer in guessing.answers:
        refused(answer, 401, 429)
    print(f"{answered / seconds:.0f} wrong passwords a second for {seconds:.0f} s")
    holds(answered / seconds >= LEAST, f"only {answered / seconds:.0f} wrong passwords a second")
    slowed = [answer for answer in guessing.answers[-100:] if answer.status == 429]
    holds(len(slowed) > 80, f"of the last hundred {len(slowed)} were told to wait")
    holds(all(int(answer.headers["retry-after"]) >= 1 for answer in slowed))
    gets_in(late)


@pytest.mark.slow
def test_whoever_guesses_at_many_names_uses_up_his_address_and_no_other(people, server, new_user):
    """A name for each password: the limit of the name is never reached, that of the address is."""
    newcomer, elsewhere = new_user("newcomer"), new_user("elsewhere")
    for _ in range(4 * len(server.workers())):
        works(people.owner.get(f"{API}/users/current"))
    sent, slowed = 0, []
    with contextlib.ExitStack() as stack, server.no_traceback(), people_who_work(people):

        begun, wires, told = time.monotonic(), [], []
        while sent < 1200 and len(slowed) < 20:
            # By HTTP/2, so that they are there at once and cost the attacker next to nothing.
            for _ in range(3):
                wires.append(wire := stack.enter_context(Http2(server.address)))
                for number in range(LOT):
                    guesser = Client(server.address, f"nobody-{secrets.token_hex(6)}", "wrong")
                    wire.send(usual("GET", PATHS[number % len(PATHS)], guesser))
                sent += LOT
            # Who is told to wait is told so soon; the others wait for their turn to be wrong.
            for wire in wires:
                wire.answer(stream=0, seconds=2)
            told = [wire.found[stream] for wire in wires for stream in wire.ended & set(wire.found)]
            # Not that many others are being looked at, which is said, too.
            slowed = [answer for answer in told if b"Too many wrong passwords" in answer.body]
        looked_at = sent - sum(answer.status == 429 for answer in told)
        for answer in told:
            refused(answer, 401, 429)
        tally["attacks"] += sent - len(told)
        # By each worker two hundred and then two a second.
        most = len(server.workers()) * (200 + 2 * (time.monotonic() - begun))
        said = f"of {sent} names in {time.monotonic() - begun:.0f} s {looked_at} were looked at, {len(slowed)} told to wait"
        print(said)
        holds(len(slowed) >= 20 and looked_at <= most, said)
        holds(all(int(answer.headers["retry-after"]) >= 1 for answer in slowed))
        # At another address somebody comes whom no process has ever seen: a password of this address is hashed, then his.
        login = f"user = {elsewhere.username}:{elsewhere.password}"
        curl = "curl --silent --insecure --max-time 30 --config - --output /dev/null --write-out '%{http_code} %{time_total}'"
        for _ in range(4):
            status, took = server.run(f"{curl} https://127.0.0.1{API}/users/current <<'LOGIN'\n{login}\nLOGIN\n").split()
            works(Answer(int(status), seconds=float(took), what="a newcomer at another address"))
            assert float(took) < 5, f"a newcomer at another address waited {took} s"
    gets_in(newcomer)
