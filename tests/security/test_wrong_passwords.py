# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whoever guesses passwords holds up nobody. The last file: for a while after it, the address has few guesses left."""

from __future__ import annotations

import time

import pytest
from attacks import API, API3, ARTIFACTS, Client, Repeating, holds, refused, works
from load import percentile


@pytest.mark.slow
def test_whoever_guesses_is_slowed_down_and_nobody_else(people, server, new_user):
    """Two hundred wrong passwords a second, on paths of Flask's and of FastAPI's, beside people who are logged in."""
    late, user, known = new_user("late"), people.owner, new_user("known")
    paths = (f"{API}/users/current", f"{ARTIFACTS}/1/x", f"{API3}/mcp-servers", "/get-artifact?path=x&run_uuid=1")
    guessers = [Client(server.address, name, "wrong") for name in (known.username, late.username, "nobody", "nobody-else")]
    turn = iter(range(10**9))

    def guess():
        number = next(turn)
        guesser = guessers[number % len(guessers)].known_as(f"wrong-{number}")
        guesser.mine = guessers[number % len(guessers)].mine
        return guesser.send("GET", paths[number // 4 % len(paths)])

    def work():
        return user.get(f"{API}/users/current")

    for _ in range(4 * len(server.workers())):
        works(work())
    with server.no_traceback():
        with (
            Repeating(work, pause=0.1) as working,
            Repeating(lambda: people.stranger.get("/ready"), pause=0.1) as ready,
            Repeating(guess, threads=8, pause=0.03) as guessing,
        ):
            time.sleep(8)
            # Who comes to work meanwhile, from the same address, whom no process has ever seen.
            newcomer = new_user("newcomer")
            for _ in range(8):
                works(newcomer.get(f"{API}/users/current"))
            time.sleep(4)
    for answer in guessing.answers:
        refused(answer, 401, 429)
    assert len(guessing.answers) > 200
    slowed = [answer for answer in guessing.answers[-100:] if answer.status == 429]
    holds(len(slowed) > 80, f"of the last hundred {len(slowed)} were told to wait")
    holds(all(int(answer.headers["retry-after"]) >= 1 for answer in slowed))
    for others in (working.answers, ready.answers):
        for answer in others:
            works(answer)
        assert len(others) >= 10, "they were hardly answered at all"
        assert percentile([answer.seconds for answer in others], 0.95) < 2.0, sorted(answer.seconds for answer in others)[-5:]
    # The right password counts again when the time that was told has passed.
    deadline = time.monotonic() + 90
    while (answer := late.get(f"{API}/users/current")).status == 429 and time.monotonic() < deadline:
        time.sleep(min(int(answer.headers["retry-after"]), 10))
    works(answer)
