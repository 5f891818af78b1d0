# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The keys that systemd hands to this service, and the form in which MLflow wants them."""

import base64
import binascii
import hashlib
import os
from pathlib import Path

# By the names of the credentials.
SESSIONS, WEBHOOKS, GATEWAY = "flask-secret-key", "webhook-key", "gateway-passphrase"


def handed(name):
    """A key without which nothing goes."""
    return Path(os.environ["CREDENTIALS_DIRECTORY"], name).read_text(encoding="utf-8").strip()


def given(name):
    """A key; nothing where none was handed over, as where what it is for is switched off."""
    if not os.environ.get("CREDENTIALS_DIRECTORY"):
        return ""
    try:
        return handed(name)
    except FileNotFoundError:
        return ""


def of_fernet(text):
    """A key of Fernet's is taken as it is, so that one that is in use goes on; of any other text one is made, always the same."""
    try:
        if len(base64.urlsafe_b64decode(text)) == 32 and len(text) == 44:
            return text
    except (ValueError, binascii.Error):
        pass
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
