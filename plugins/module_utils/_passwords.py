# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""How this collection's modules make passwords. Private to the collection."""

from __future__ import annotations

import secrets
import string

# RDS refuses slash, at sign, double quote and space in a master password.
SYMBOLS = "-_.~!#%^*+="


def generate(length=32):
    """Letters, digits and symbols, at least one of each kind; a letter first, so that no option parser stumbles."""
    alphabet = string.ascii_letters + string.digits + SYMBOLS
    while True:
        text = secrets.choice(string.ascii_letters) + "".join(secrets.choice(alphabet) for _unused in range(length - 1))
        kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits, SYMBOLS)
        if all(any(character in kind for character in text) for kind in kinds):
            return text
