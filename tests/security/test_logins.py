# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whoever has no login or a broken one gets nothing, and no error either."""

from __future__ import annotations

import base64

import pytest
from attacks import refused, works
from clients import AJAX, API, API3, ARTIFACTS, together
from routes import ANYONE, CLOSED, who_may
from things import request


def encoded(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


# What no client sends. Where nginx itself does not let it pass, it answers 400.
ODD = {
    "Bearer": ["Bearer abc"],
    "Bearer alone": ["Bearer"],
    "Digest": ['Digest username="admin", realm="mlflow", nonce="", uri="/", response=""'],
    "Negotiate": ["Negotiate YII="],
    "Basic alone": ["Basic"],
    "Basic and a space": ["Basic "],
    "empty": [""],
    "no colon": ["Basic " + encoded("admin")],
    "no password": ["Basic " + encoded("admin:")],
    "no name": ["Basic " + encoded(":password")],
    "only a colon": ["Basic " + encoded(":")],
    "broken base64": ["Basic YWRtaW46"[:-3] + "!!!"],
    "base64 that ends early": ["Basic YWRtaW4"],
    "not base64": ["Basic admin:password"],
    "not UTF-8": ["Basic " + encoded(b"\xff\xfe:\xff")],
    "NUL inside": ["Basic " + encoded("admin\0:password\0")],
    "NUL outside": ["Basic \0"],
    "not ASCII": ["Basic \xe4\xf6\xfc"],
    "two headers": ["Basic " + encoded("admin:x"), "Bearer abc"],
    "a very long one": ["Basic " + encoded("admin:" + "x" * 5000)],
    "a comma": ["Basic abc, Bearer abc"],
}
PLACES = [
    "/", f"{API}/users/current", f"{API}/experiments/search", f"{AJAX}/runs/search", f"{ARTIFACTS}/1/x", f"{API3}/mcp-servers",
    "/v1/traces", "/graphql", "/get-artifact?path=x&run_uuid=1", "/gateway/mlflow/v1/models", "/nothing",
]  # fmt: skip


def odd_headers(name):
    return [("Authorization", value) for value in ODD[name]]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_login_is_no_login(people, server, odd):
    """No 500 and no traceback, on each kind of route; and where none is needed, it does not matter."""
    with server.no_traceback():
        for place in PLACES:
            for method in ("GET", "POST", "PUT"):
                body = None if method == "GET" else b"{}"
                refused(people.stranger.send(method, place, odd_headers(odd), body), 400, 401, 404)
    # nginx refuses a NUL and a second header whatever is asked for.
    works(people.stranger.send("GET", "/health", odd_headers(odd)), 200, 400)
    works(people.without_rights.get(f"{API}/users/current"))


def test_an_odd_login_is_no_login_on_any_route(people, world, routes, things, server):
    """Every route, each with another of the odd ones."""
    names = list(ODD)

    def ask(number, method, route):
        _, path, parameters, headers = request(method, route, things, people)
        given = [*headers.items(), *odd_headers(names[number % len(names)])]
        answer = people.stranger.send(method, path, given, None if method == "GET" else b"{}")
        who = who_may(method, route)
        allowed = {ANYONE: (200, 400), CLOSED: (400, 401, 404)}.get(who, (400, 401))
        return refused(answer, *allowed)

    with server.no_traceback():
        calls = [lambda route=route, n=n: ask(n, *route) for n, route in enumerate(routes)]
        wrong = [str(found) for found in together(calls, threads=4) if isinstance(found, BaseException)]
    assert wrong == [], "\n".join(wrong)
