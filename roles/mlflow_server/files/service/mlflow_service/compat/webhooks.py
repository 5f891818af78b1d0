# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The key that encrypts the secrets of webhooks, and that none is delivered where they are switched off.

MLflow takes the key from its environment in the moment in which it defines its tables, and where there is none it makes one
that nobody else knows: what one process has written no other host and no later process can read.
"""

import contextlib
import os

from mlflow_service import keys
from mlflow_service.compat.ground import NEEDED, Moved, Patch

KEY = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"


def _has_the_key():
    """Whether MLflow has taken the key; whoever imports its tables before it is there would write what is lost."""
    text = keys.given(keys.WEBHOOKS)
    if not text:
        return
    from cryptography.fernet import Fernet, InvalidToken
    from mlflow.store.model_registry.dbmodels.models import SqlWebhook

    written = SqlWebhook.__table__.c.secret.type.process_bind_param("secret", None)
    try:
        Fernet(keys.of_fernet(text)).decrypt(written.encode())
    except InvalidToken:
        raise Moved("MLflow encrypts the secrets of webhooks with another key than the one that was given") from None


PATCH = Patch(
    "webhooks",
    "the secrets of webhooks are encrypted with the key of all hosts",
    kind=NEEDED,
    uses=(
        "mlflow.environment_variables:MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
        "mlflow.store.model_registry.dbmodels.models:EncryptedString",
        "mlflow.webhooks.delivery:_deliver_webhook_impl",
    ),
    looks=(_has_the_key,),
)


@contextlib.contextmanager
def key_in_the_environment():
    """While MLflow defines its tables: of this process, and never in what the kernel shows of it (/proc/PID/environ)."""
    text = keys.given(keys.WEBHOOKS)
    if not text:
        yield
        return
    os.environ[KEY] = keys.of_fernet(text)
    try:
        yield
    finally:
        del os.environ[KEY]


def deliver_none():
    """Have what happens be told to nobody."""
    from mlflow.webhooks import delivery

    def nobody(**_what):
        pass

    delivery._deliver_webhook_impl = nobody
