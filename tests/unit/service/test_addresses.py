# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whoever guesses passwords by IPv6 is one address, however many his network gives him."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.http import logins  # noqa: E402


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("the host", "the host"),
        ("", ""),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_whose_an_address_is(address, whose):
    assert logins.whose(address) == whose


def test_limits_are_asked_so(monkeypatch):
    """By the whole way of a request: what is counted is the network."""
    import asyncio
    import base64

    asked = []

    class Checks:
        async def user(self, name, password, address):
            asked.append(address)

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        pass

    async def app(scope, receive, send):
        pass

    headers = [(b"authorization", b"Basic " + base64.b64encode(b"admin:x"))]
    scope = {"type": "http", "method": "GET", "path": "/api", "headers": headers, "client": ("2001:db8::9", 1)}
    asyncio.run(logins.Logins(app, Checks(), lambda path: False)(scope, receive, send))
    assert asked == ["2001:db8::/64"]
