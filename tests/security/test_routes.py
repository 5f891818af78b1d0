# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Every route that the installed MLflow has, asked by everyone: who may is in the table of tests/routes.py, and a route that is
not in it fails.

The routes are MLflow's own list, made on the host, so an upgrade that brings new ones fails here until somebody looked at them.
"""

from __future__ import annotations

import pytest
from attacks import tally
from clients import pairs, together
from routes import ADMIN, ANYONE, CLOSED, EDITOR, LINES, LOGIN, NOBODY, OWNER, RANKS, READER, who_may
from test_who_is_asking import FORGED
from things import Things, ends, how_late, request


def test_each_route_is_in_the_table(routes):
    """A route that nobody has looked at yet is named here."""
    assert len(routes) > 400
    assert [f"{method} {route}" for method, route in routes if who_may(method, route) is None] == []
    unused = [path.pattern for who, methods, path in LINES
              if not any((not methods or method in methods) and path.fullmatch(route) for method, route in routes)]  # fmt: skip
    assert unused == [], "lines of the table without a route"
    tally["routes"] += len(routes)


def _problem(answer, caller, who):
    """What is wrong with an answer to somebody who may not."""
    if caller == "stranger":
        allowed = (401, 404) if who == CLOSED else (401,)
    else:
        allowed = {CLOSED: (404,), NOBODY: (403, 404)}.get(who, (403,))
    return None if answer.status in allowed else f"{caller} got {answer.status} {answer.body[:80]!r}"


@pytest.mark.slow
@pytest.mark.everyday
def test_whoever_may_not_is_refused(routes, things, people):
    """No login, no rights, only to read, rights on another experiment: on every route."""
    callers = {"stranger": ANYONE, "without_rights": LOGIN, "neighbour": LOGIN, "reader": READER}
    # These two say of each route that they are the host itself, each in another way; the next route gets the next ways.
    first, names = {"stranger": 0, "without_rights": len(FORGED) // 2}, list(FORGED)
    forged_routes = set()

    def look(number, method, route):
        who, found = who_may(method, route) or CLOSED, []
        for caller, rank in callers.items():
            if RANKS.index(rank) > RANKS.index(who):
                tally["attacks"] += 1
                method, path, parameters, headers = request(method, route, things, people)
                forged = names[(first[caller] + number) % len(names)] if caller in first else None
                if forged:
                    headers = [*pairs(headers), *FORGED[forged]]
                    forged_routes.add((method, route))
                problem = _problem(getattr(people, caller).call(method, path, parameters, headers), caller, who)
                found += [f"{method} {route} ({who}; {forged}): {problem}"] if problem else []
        return found

    found = together([lambda number=number, route=route: look(number, *route) for number, route in enumerate(routes)], threads=6)
    wrong = [problem for problems in found for problem in (problems if isinstance(problems, list) else [repr(problems)])]
    assert wrong == [], "\n".join([f"{len(wrong)} of {len(routes)} routes", *wrong])
    # What anyone may ask is no attack.
    assert forged_routes == {route for route in routes if who_may(*route) != ANYONE}


@pytest.mark.slow
@pytest.mark.everyday
def test_whoever_may_gets_through(routes, people, grant, things):
    """The least of those who may, with the same parameters; what ends a thing gets a thing of its own."""
    callers = {
        ADMIN: people.admin, OWNER: people.owner, EDITOR: people.editor, READER: people.reader,
        LOGIN: people.without_rights, ANYONE: people.stranger,
    }  # fmt: skip

    def look(method, route, things):
        who = who_may(method, route)
        if who in (CLOSED, NOBODY, None):
            return None
        tally["honest calls"] += 1
        answer = callers[who].call(*request(method, route, things, people))
        # That there is no such thing is said by MLflow itself, in its own words.
        missing = answer.status == 404 and b"error_code" in answer.body and b"ENDPOINT_NOT_FOUND" not in answer.body
        if answer.status in (401, 403, 429) or (answer.status == 404 and not missing):
            return f"{method} {route}: {who} got {answer.status} {answer.body[:120]!r}"
        return None

    found = together([lambda route=route: look(*route, things) for route in routes if not ends(*route)], threads=6)
    for ajax in (False, True):
        mine = Things(people, grant)
        mine.is_ended = True
        last = sorted((route for route in routes if ends(*route) and ("/ajax-api" in route[1]) == ajax), key=how_late)
        found += [look(*route, mine) for route in last]
    wrong = [str(problem) for problem in found if problem]
    assert wrong == [], "\n".join([f"{len(wrong)} of {len(routes)} routes", *wrong])
