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
import mlflow_service  # noqa: E402
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


# --- an artifact store that does not answer ---

LIST, GET = "/api/2.0/mlflow/artifacts/list", "/get-artifact"


class Hanging:
    """MLflow, whose requests for the store never come back."""

    def __init__(self):
        self.hanging, self.answered, self.sent = 0, [], []

    async def app(self, scope, receive, send):
        if scope["path"] in (LIST, GET, "/graphql"):
            self.hanging += 1
            await asyncio.Event().wait()
        self.answered.append(scope["path"])

    async def ask(self, admission, path, method="GET", user="somebody"):
        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            self.sent.append(message)

        scope = {"type": "http", "path": path, "method": method, "headers": [], "mlflow.user": user}
        await admission(scope, receive, send)


@pytest.mark.parametrize("path", [LIST, GET, "/graphql"])
def test_runs_and_metrics_go_on_where_the_artifact_store_does_not(path):
    mlflow = Hanging()

    async def run():
        admission = Admission(mlflow.app, 15)
        clicks = [asyncio.create_task(mlflow.ask(admission, path, user=str(number))) for number in range(60)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(1):
            await asyncio.gather(*(mlflow.ask(admission, RUN, "POST") for _ in range(50)))
        for click in clicks:
            click.cancel()
        await asyncio.gather(*clicks, return_exceptions=True)
        # Those who have gone have given their turns back.
        assert admission._store.free == admission._store.total

    asyncio.run(run())
    assert mlflow.answered == [RUN] * 50 and 0 < mlflow.hanging <= 8


def test_one_user_has_half_of_the_turns_that_need_the_store():
    mlflow = Hanging()

    async def run():
        admission = Admission(mlflow.app, 15)
        clicks = [asyncio.create_task(mlflow.ask(admission, GET, user="one")) for _ in range(30)]
        await asyncio.sleep(0.05)
        assert mlflow.hanging == 4
        await asyncio.wait_for(mlflow.ask(admission, "/model-versions/get-artifact", user="another"), 1)
        for click in clicks:
            click.cancel()

    asyncio.run(run())
    assert mlflow.answered == ["/model-versions/get-artifact"]


def test_who_waits_for_the_store_is_told_so_in_the_end(monkeypatch):
    monkeypatch.setattr(mlflow_service, "STORE_WAIT", 0.05)
    mlflow = Hanging()

    async def run():
        admission = Admission(mlflow.app, 15)
        clicks = [asyncio.create_task(mlflow.ask(admission, LIST)) for _ in range(4)]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(mlflow.ask(admission, LIST), 1)
        for click in clicks:
            click.cancel()

    asyncio.run(run())
    assert mlflow.sent[0]["status"] == 503 and (b"retry-after", b"10") in mlflow.sent[0]["headers"]


@pytest.mark.parametrize(
    "method, path", [("GET", ARTIFACT), ("PUT", ARTIFACT), ("GET", "/health"), ("GET", "/static-files/x.js")]
)
def test_streams_and_files_wait_for_nobody(method, path):
    mlflow = Hanging()

    async def run():
        admission = Admission(mlflow.app, 2)
        clicks = [asyncio.create_task(mlflow.ask(admission, LIST, user=str(number))) for number in range(20)]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(mlflow.ask(admission, path, method), 1)
        for click in clicks:
            click.cancel()

    asyncio.run(run())
    assert mlflow.answered == [path]
