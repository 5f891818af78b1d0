# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The AI gateway: a passphrase of one's own or none, a login that goes no further, turns of its own."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from pathlib import Path

import pytest
from stand_ins import mlflow_of

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.compat import gateway, ground  # noqa: E402
from mlflow_service.http.admission import GATEWAY_TURNS, Admission  # noqa: E402
from mlflow_service.http.logins import Logins, shown  # noqa: E402
from mlflow_service.http.routes import GATEWAY, Routes  # noqa: E402

OWN = "a passphrase that nobody else has"
# As MLflow has it: the passphrase of the environment, or the one that everybody knows.
CRYPTO = """
import os

CRYPTO_KEK_PASSPHRASE_ENV_VAR = "MLFLOW_CRYPTO_KEK_PASSPHRASE"
DEFAULT_KEK_PASSPHRASE = "known to everybody"

class KEKManager:
    def __init__(self, passphrase=None, kek_version=None):
        passphrase = passphrase or os.environ.get(CRYPTO_KEK_PASSPHRASE_ENV_VAR) or DEFAULT_KEK_PASSPHRASE
        self._kek = self._derive_kek(passphrase, kek_version or 1)

    def _derive_kek(self, passphrase, kek_version):
        return f"{passphrase} {kek_version}".encode()

    def get_kek(self):
        return self._kek

def unwrap_dek(wrapped, kek):
    if wrapped != b"wrapped by " + kek:
        raise ValueError("InvalidTag")
    return b"key"
"""
FILES = {
    "mlflow/__init__.py": "", "mlflow/utils/__init__.py": "", "mlflow/utils/crypto.py": CRYPTO,
    "mlflow/exceptions.py": "class MlflowException(Exception):\n    pass\n",
}  # fmt: skip


@pytest.fixture
def crypto(tmp_path, monkeypatch):
    """MLflow's module, as far as it is asked."""
    # What the service sets is taken back.
    monkeypatch.setenv(gateway.PASSPHRASE, "")
    monkeypatch.delenv(gateway.PASSPHRASE)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with mlflow_of(FILES, tmp_path, monkeypatch):
        yield importlib.import_module("mlflow.utils.crypto")


def test_what_it_stands_on_is_looked_at(crypto, monkeypatch):
    assert ground.Ground([gateway.PATCH]).refused == ""
    monkeypatch.setattr(crypto, "CRYPTO_KEK_PASSPHRASE_ENV_VAR", "MLFLOW_OTHER")
    assert "MLFLOW_OTHER" in ground.Ground([gateway.PATCH]).refused


def test_with_the_gateway_keys_are_encrypted_with_the_passphrase_that_was_given(crypto, tmp_path):
    (tmp_path / "gateway-passphrase").write_text(f"{OWN}\n")
    gateway.take_passphrase(is_open=True)
    assert crypto.KEKManager().get_kek() == f"{OWN} 1".encode()


@pytest.mark.parametrize("given", [None, "", "\n"])
def test_without_a_passphrase_the_gateway_is_not_served(crypto, tmp_path, given):
    if given is not None:
        (tmp_path / "gateway-passphrase").write_text(given)
    with pytest.raises(SystemExit, match="no passphrase"):
        gateway.take_passphrase(is_open=True)


@pytest.mark.parametrize("given", [None, "known to everybody"])
def test_nothing_is_encrypted_with_what_everybody_knows(crypto, tmp_path, given):
    if given:
        (tmp_path / "gateway-passphrase").write_text(given)
    gateway.take_passphrase(is_open=bool(given))
    with pytest.raises(sys.modules["mlflow.exceptions"].MlflowException, match="no passphrase on this server"):
        crypto.KEKManager()
    assert os.environ.get(gateway.PASSPHRASE) == given


def test_keys_that_a_passphrase_does_not_open_are_named(crypto):
    rows = [(name, f"wrapped by {passphrase} {version}".encode(), version)
            for name, passphrase, version in (("own", OWN, 1), ("newer", OWN, 2), ("lost", "another", 1))]  # fmt: skip
    assert gateway.locked([(name, memoryview(wrapped), version) for name, wrapped, version in rows], OWN) == ["lost"]


# --- a login goes no further ---

LOGIN = b"Basic dXNlcjpwYXNzd29yZA=="


def passed_on(path, *headers):
    """The status of a refusal, or the headers with which the request goes on."""
    sent, found = [], []

    async def app(scope, receive, send):
        found.append((scope["headers"], shown()))

    class Checks:
        async def user(self, name, password, address):
            return {"name": name} if (name, password) == ("user", "password") else None

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers), "client": ("192.0.2.1", 1)}
    asyncio.run(Logins(app, Checks(), lambda path: False)(scope, receive, send))
    if not found:
        return sent[0]["status"]
    assert found[0][1] == ("user", "password")
    return sorted(found[0][0])


@pytest.mark.parametrize(
    "headers, expected",
    [
        ([(b"authorization", LOGIN), (b"user-agent", b"codex")], [(b"user-agent", b"codex"), (b"x-mlflow-authorization", LOGIN)]),
        # The usual header is the client's own key for the provider.
        (
            [(b"authorization", b"Bearer own"), (b"x-mlflow-authorization", LOGIN)],
            [(b"authorization", b"Bearer own"), (b"x-mlflow-authorization", LOGIN)],
        ),
        ([(b"authorization", LOGIN), (b"x-mlflow-authorization", b"")], [(b"x-mlflow-authorization", LOGIN)]),
        ([(b"authorization", LOGIN), (b"x-mlflow-authorization", b"Basic eDp5")], 401),
        ([(b"x-mlflow-authorization", LOGIN), (b"x-mlflow-authorization", b"Basic eDp5")], 401),
        ([(b"authorization", b"Bearer own")], 401),
    ],
)
def test_on_its_routes_the_password_is_in_the_header_that_mlflow_keeps(headers, expected):
    assert passed_on("/gateway/openai/v1/responses", *headers) == expected


def test_elsewhere_there_is_one_header_for_a_login():
    other = (b"x-mlflow-authorization", LOGIN)
    for path in ("/api/2.0/mlflow/runs/get", "/x/gateway/", "/gateway"):
        assert passed_on(path, other) == 401
        assert passed_on(path, (b"authorization", LOGIN), other) == [(b"authorization", LOGIN), other]


# --- turns ---


def test_models_that_take_their_time_hold_up_nobody_else():
    """All turns of the gateway are taken, and a run is logged; one user has half of them."""
    asked, go_on = [], None

    async def app(scope, receive, send):
        asked.append(scope["path"])
        if scope["path"].startswith("/gateway/"):
            await go_on.wait()

    async def main():
        nonlocal go_on
        go_on = asyncio.Event()
        admission = Admission(app, 3)

        def ask(path, user):
            scope = {"type": "http", "method": "POST", "path": path, "mlflow.user": user}
            return asyncio.create_task(admission(scope, None, None))

        calls = [ask("/gateway/x/mlflow/invocations", user) for user in "ab" for _ in range(GATEWAY_TURNS)]
        await asyncio.sleep(0.05)
        assert len(asked) == GATEWAY_TURNS
        await asyncio.wait_for(ask("/api/2.0/mlflow/runs/log-metric", "a"), 5)
        go_on.set()
        await asyncio.wait_for(asyncio.gather(*calls), 5)
        assert len(asked) == 2 * GATEWAY_TURNS + 1

    asyncio.run(main())


# --- routes ---

INVOKES = [("/gateway/one/mlflow/invocations", "POST"), ("/gateway/mlflow/v1/models", "GET"),
           ("/gateway/gemini/v1beta/models/one:generateContent", "POST")]  # fmt: skip
NEVER_OPEN = [("/gateway/proxy/one/v1/files", "POST"), ("/gateway/openai/v1/responses/compact", "POST"),
              ("/gateway/one/mlflow/invocations", "GET"), ("/gateway/a/b/mlflow/invocations", "POST")]  # fmt: skip


@pytest.mark.parametrize("path, method", INVOKES + NEVER_OPEN)
def test_models_are_asked_where_the_gateway_is_open(path, method):
    assert Routes([], [GATEWAY]).native_is_open(path, method) is ((path, method) in INVOKES)
    assert not Routes([], []).native_is_open(path, method)


@pytest.mark.parametrize("rule, method, is_open", [
    ("secrets/create", "POST", True), ("endpoints/models/attach", "POST", True), ("budgets/list", "GET", True),
    ("budgets/create", "POST", False), ("guardrails/create", "POST", False), ("guardrails/add-to-endpoint", "POST", False),
])  # fmt: skip
def test_its_things_are_made_where_it_is_open(rule, method, is_open):
    rule = f"/api/3.0/mlflow/gateway/{rule}"
    assert Routes([], [GATEWAY]).flask_is_open(rule, rule, method) is is_open
    assert not Routes([], []).flask_is_open(rule, rule, method)


def test_extra_routes_open_no_gateway_that_has_no_passphrase():
    extra = ["/gateway/proxy/", "/api/3.0/mlflow/gate"]
    for path in ("/gateway/proxy/one/x", "/api/3.0/mlflow/gateway/secrets/create"):
        assert not Routes(extra, []).is_extra(path)
        assert Routes(extra, [GATEWAY]).is_extra(path)
