# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Each call that MLflow knows, made on the deployed server and on a plain one of the same version: the answers are the same.

The list of calls is MLflow's own, so that a route which no case covers fails here by name. A difference that is meant has its
reason in meant.py.
"""

from __future__ import annotations

import random
import re

import pytest
from compare import different, tally
from meant import MEANT, reason, used
from routes import CLOSED, who_may
from things import ends, how_late, request
from variants import bodies, parameters

CALLERS = ("stranger", "without_rights", "reader", "user", "editor", "manager", "owner", "admin")


def is_open(method, route):
    return who_may(method, route) != CLOSED


def in_order(routes):
    """Those that end or move a thing come last."""
    return [*(route for route in routes if not ends(*route)), *sorted(filter(lambda it: ends(*it), routes), key=how_late)]


def open_routes(known, api):
    return in_order([(method, route) for method, route in known.routes if is_open(method, route) and api(route)])


def is_ajax(route):
    return "/ajax-api" in route


class Found:
    """The differences that nobody meant."""

    def __init__(self):
        self.lines = []

    def look(self, what, method, route, answers):
        told = different(*answers)
        if told and not reason(method, route, *answers):
            self.lines.append(f"{method} {route}, {what}: {told}")

    def none(self):
        assert self.lines == [], "\n".join([f"{len(self.lines)} differences", *self.lines])


@pytest.mark.everyday
@pytest.mark.parametrize("ajax", [False, True], ids=["api", "ajax-api"])
def test_everybody_is_answered_as_by_mlflow(twins, known, ajax):
    """The right call, by each kind of caller, those who may the least first."""
    found = Found()
    twins.new_things()
    for method, route in open_routes(known, lambda route: is_ajax(route) == ajax):
        tally["routes"] += 1
        for caller in CALLERS:
            answers = twins.ask(lambda side: request(method, route, side.things, side.people), caller)
            found.look(caller, method, route, answers)
            if route.endswith("/users/update-password"):
                twins.plain.learned(twins.plain.known)
    closed = [route for method, route in known.routes if not is_open(method, route) and is_ajax(route) == ajax]
    tally["routes that are closed"] += len(closed)
    found.none()


ODD = {
    "Bearer": "Bearer abc", "Digest": "Digest username=\"admin\"", "Basic alone": "Basic", "no colon": "Basic YWRtaW4=",
    "broken base64": "Basic !!!", "no UTF-8": "Basic //79Og==", "another word": "Negotiate abc", "empty": "", "only a colon": "Basic Og==",
    "nobody": "Basic bm9ib2R5OndyaXR0ZW4gZG93bg==", "lower case": "basic bm9ib2R5OndyaXR0ZW4gZG93bg==", "two spaces": "Basic  Og==",
}  # fmt: skip


@pytest.mark.everyday
def test_odd_logins_are_answered_as_by_mlflow(twins, known):
    found, routes = Found(), open_routes(known, lambda route: not is_ajax(route))
    for number, (method, route) in enumerate(routes):
        # Two of them for each route, so that each of them meets each part of the server.
        for what in [*ODD, *ODD][2 * number % len(ODD) :][:2]:
            def make(side, what=what):
                *rest, headers = request(method, route, side.things, side.people)
                return (*rest, {**headers, "Authorization": ODD[what]})

            found.look(what, method, route, twins.ask(make, "stranger"))
    found.none()


def peek(side, method, route):
    """The right parameters of a call, without the names in them being used up."""
    before = side.words.getstate()
    right = request(method, route, side.things, side.people)[2]
    side.words.setstate(before)
    return right


@pytest.mark.parametrize("share", [pytest.param(8, marks=pytest.mark.everyday, id="an eighth"), pytest.param(1, id="all")])
def test_what_is_wrong_is_answered_as_by_mlflow(twins, known, share):
    """An administrator whose calls lack something, or have something that is none."""
    found, choice = Found(), random.Random(share)
    twins.new_things()
    for method, route in open_routes(known, lambda route: not is_ajax(route)):
        fields = known.fields.get(f"{method} {route}", {})
        right = peek(twins.ours, method, route)
        for number, (what, _parameters) in enumerate(parameters(right, fields)):
            if share > 1 and choice.randrange(share):
                continue

            def make(side, number=number):
                _method, path, right, headers = request(method, route, side.things, side.people)
                return method, path, list(parameters(right, fields))[number][1], headers

            found.look(what, method, route, twins.ask(make, "admin"))
        if method == "GET":
            continue
        for number, (what, _body, _kind) in enumerate(bodies(right)):
            if share > 1 and choice.randrange(share):
                continue

            def make(side, number=number):
                _method, path, right, headers = request(method, route, side.things, side.people)
                _what, body, kind = list(bodies(right))[number]
                return method, path, None, {**headers, **({"Content-Type": kind} if kind else {})}, body

            found.look(what, method, route, twins.ask(make, "admin"))
    found.none()


def test_each_difference_that_is_meant_was_met():
    """A reason that nothing needs any more is removed. Runs last."""
    if not tally["routes"]:
        pytest.skip("the calls were not made in this run")
    assert [one.why for one in MEANT if not used[one.why]] == []
