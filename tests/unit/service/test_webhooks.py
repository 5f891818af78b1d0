# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The key for the secrets of webhooks: what another process reads, what the kernel shows, and what is refused without it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from stand_ins import mlflow_of

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service import keys  # noqa: E402
from mlflow_service.compat import ground, webhooks  # noqa: E402
from mlflow_service.http.routes import WEBHOOKS, Routes  # noqa: E402

# As MLflow does it: the key is read once, when the tables are defined.
MODELS = """
import os
from types import SimpleNamespace
from cryptography.fernet import Fernet

class EncryptedString:
    def __init__(self):
        self.cipher = Fernet(os.environ.get("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY") or Fernet.generate_key())

    def process_bind_param(self, value, dialect):
        return self.cipher.encrypt(value.encode()).decode()

class SqlWebhook:
    __table__ = SimpleNamespace(c=SimpleNamespace(secret=SimpleNamespace(type=EncryptedString())))
"""
DELIVERY = """
told = []

def _deliver_webhook_impl(*, event, payload, store):
    told.append(event)

def deliver_webhook(*, event, payload, store):
    _deliver_webhook_impl(event=event, payload=payload, store=store)
"""
FILES = {
    "mlflow/__init__.py": "", "mlflow/store/__init__.py": "", "mlflow/store/model_registry/__init__.py": "",
    "mlflow/store/model_registry/dbmodels/__init__.py": "", "mlflow/store/model_registry/dbmodels/models.py": MODELS,
    "mlflow/webhooks/__init__.py": "", "mlflow/webhooks/delivery.py": DELIVERY,
    "mlflow/environment_variables.py": "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY = None\n",
}  # fmt: skip
TABLES = "mlflow.store.model_registry.dbmodels.models"


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """MLflow as far as it is asked; what is imported of it is forgotten when this is called, as in another process."""
    monkeypatch.delenv(webhooks.KEY, raising=False)
    with mlflow_of(FILES, tmp_path, monkeypatch) as forget:
        yield forget


@pytest.fixture
def credential(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    def give(text):
        (tmp_path / "webhook-key").write_text(f"{text}\n")

    return give


def tables():
    with webhooks.key_in_the_environment():
        return importlib.import_module(TABLES).SqlWebhook.__table__.c.secret.type


def test_another_process_reads_what_one_has_encrypted(mlflow, credential):
    credential("a key that all hosts have")
    written = tables().process_bind_param("secret", None)
    assert webhooks.KEY not in os.environ
    mlflow()
    assert tables().cipher.decrypt(written.encode()) == b"secret"


def test_a_key_of_fernets_is_taken_as_it_is(mlflow, credential):
    """Whoever comes from another MLflow brings its key, and the secrets go on."""
    key = Fernet.generate_key().decode()
    credential(key)
    assert Fernet(key).decrypt(tables().process_bind_param("secret", None).encode()) == b"secret"


@pytest.mark.parametrize("text", ["x" * 44, "not base64 at all", "Zm9v", "p%~^#=!" * 8])
def test_any_other_text_makes_a_key_and_always_the_same(text):
    made = keys.of_fernet(text)
    assert made == keys.of_fernet(text) != keys.of_fernet(text + "x")
    assert Fernet(made).decrypt(Fernet(made).encrypt(b"x")) == b"x"


def test_tables_that_were_defined_before_the_key_was_there_are_refused(mlflow, credential):
    importlib.import_module(TABLES)
    credential("a key that all hosts have")
    found = ground.Ground([webhooks.PATCH])
    assert "encrypts the secrets of webhooks with another key" in found.refused
    mlflow()
    tables()
    assert ground.Ground([webhooks.PATCH]).refused == ""


def test_without_webhooks_there_is_no_key_and_nothing_is_refused(mlflow, monkeypatch, tmp_path):
    for folder in (None, str(tmp_path)):
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", folder) if folder else monkeypatch.delenv("CREDENTIALS_DIRECTORY", False)
        mlflow()
        assert tables() and keys.given(keys.WEBHOOKS) == "" and ground.Ground([webhooks.PATCH]).refused == ""


def test_the_kernel_shows_no_key_of_a_process_that_has_put_one_into_its_environment(credential):
    """Neither of it nor of its forks."""
    credential("a key that all hosts have")
    program = """
import os
from mlflow_service.compat import webhooks
with webhooks.key_in_the_environment():
    assert os.environ[webhooks.KEY]
    shown = open("/proc/self/environ", "rb").read()
    if not os.fork():
        shown = open("/proc/self/environ", "rb").read()
        os._exit(webhooks.KEY.encode() in shown or b"PATH=" not in shown)
    assert os.wait()[1] == 0 and webhooks.KEY.encode() not in shown and b"PATH=" in shown
"""
    service = Path(__file__).resolve().parents[3] / "roles/mlflow_server/files/service"
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(service)}, check=True)


def test_where_webhooks_are_switched_off_nobody_is_told(mlflow):
    delivery = importlib.import_module("mlflow.webhooks.delivery")
    delivery.deliver_webhook(event="created", payload={}, store=None)
    assert delivery.told == ["created"]
    webhooks.deliver_none()
    delivery.deliver_webhook(event="deleted", payload={}, store=None)
    assert delivery.told == ["created"]


@pytest.mark.parametrize("rule, method", [("", "GET"), ("", "POST"), ("/<webhook_id>", "PATCH"), ("/<webhook_id>/test", "POST")])
@pytest.mark.parametrize("api", ["api", "ajax-api"])
def test_their_routes_are_open_where_they_are_switched_on(monkeypatch, api, rule, method):
    rule = f"/{api}/2.0/mlflow/webhooks{rule}"
    monkeypatch.setenv("MLFLOW_SERVER_OPENED", "webhooks")
    assert Routes([]).flask_is_open(rule, rule, method)
    assert not Routes([]).flask_is_open(rule, rule, "PUT")
    monkeypatch.delenv("MLFLOW_SERVER_OPENED")
    assert not Routes([]).flask_is_open(rule, rule, method)
    assert Routes([], also=[WEBHOOKS]).flask_is_open(rule, rule, method)
