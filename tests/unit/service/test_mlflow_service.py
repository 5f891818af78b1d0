# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whose turn it is, and that a request whose user lost a right while it waited is not carried out."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

import mlflow_logins  # noqa: E402
from mlflow_service import Admission  # noqa: E402

RUN, ARTIFACT = "/api/2.0/mlflow/runs/create", "/api/2.0/mlflow-artifacts/artifacts/1/x"


class Asked:
    def __init__(self, path, age, refusal):
        self.carried_out, self.looked, self.sent, self.refusal = 0, 0, [], refusal
        self.scope = {"type": "http", "path": path, "method": "POST", "headers": [], "mlflow.login": self.again}
        self.scope["mlflow.checked"] = time.monotonic() - age

    async def again(self):
        self.looked += 1
        return self.refusal

    async def app(self, scope, receive, send):
        self.carried_out += 1
        await asyncio.sleep(0.05)

    async def receive(self):
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)


async def ask(asked, admission=None):
    await (admission or Admission(asked.app, 5))(asked.scope, asked.receive, asked.send)


@pytest.mark.parametrize("path", [RUN, ARTIFACT])
@pytest.mark.parametrize("age, looked", [(0.0, 0), (60.0, 1)])
def test_a_login_that_is_old_by_now_is_looked_at_again(path, age, looked):
    asked = Asked(path, age, None)
    asyncio.run(ask(asked))
    assert (asked.looked, asked.carried_out) == (looked, 1)
    gone = Asked(path, age, mlflow_logins.NOBODY)
    asyncio.run(ask(gone))
    assert gone.carried_out == (0 if looked else 1)
    if looked:
        assert gone.sent[0]["status"] == 401


def test_waiting_for_a_turn_makes_a_login_old(monkeypatch):
    monkeypatch.setattr(mlflow_logins, "OLD", 0.01)

    async def run():
        first, second = Asked(RUN, 0.0, None), Asked(RUN, 0.0, mlflow_logins.NOBODY)
        admission = Admission(first.app, 2)
        await asyncio.gather(ask(first, admission), ask(second, admission))
        return first, second

    first, second = asyncio.run(run())
    assert first.carried_out == 1 and second.looked == 1 and second.sent[0]["status"] == 401
