# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The passphrase that encrypts the keys of the AI gateway.

MLflow reads it from its environment for each key that it writes or reads. Where there is none it takes one that stands in its
source, so that whoever has a copy of the database has the keys.
"""

import os
import sys

from mlflow_service import keys
from mlflow_service.compat.ground import GUARD, Patch

CRYPTO = "mlflow.utils.crypto"
PASSPHRASE = "MLFLOW_CRYPTO_KEK_PASSPHRASE"
PATCH = Patch(
    "gateway",
    "keys of the AI gateway are encrypted with a passphrase of this deployment's own",
    kind=GUARD,
    uses=tuple(f"{CRYPTO}:{name}" for name in ("KEKManager._derive_kek", "DEFAULT_KEK_PASSPHRASE", "unwrap_dek")),
    values={f"{CRYPTO}:CRYPTO_KEK_PASSPHRASE_ENV_VAR": PASSPHRASE},
)


def take_passphrase(is_open):
    """
    Give MLflow the passphrase, in the environment of this process, of which the kernel shows only what it was started with.

    :arg is_open: Whether the gateway is.
    """
    if is_open:
        given = keys.given(keys.GATEWAY)
        if not given:
            sys.exit("The AI gateway is switched on, and there is no passphrase for its keys.")
        os.environ[PASSPHRASE] = given
    refuse_what_everybody_knows()


def refuse_what_everybody_knows():
    """Whoever gets past the routes that are closed must not write a key that everybody can read."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils import crypto

    derives = crypto.KEKManager._derive_kek

    def _derive_kek(manager, passphrase, kek_version):
        if passphrase == crypto.DEFAULT_KEK_PASSPHRASE:
            raise MlflowException("The AI gateway has no passphrase on this server, so no key is written or read.")
        return derives(manager, passphrase, kek_version)

    crypto.KEKManager._derive_kek = _derive_kek


def locked(rows, passphrase):
    """
    The names of those keys that a passphrase does not open.

    :arg rows: Name, wrapped key and version of the passphrase of each.
    """
    from mlflow.utils import crypto

    found, managers = [], {}
    for name, wrapped, version in rows:
        if version not in managers:
            # It takes a third of a second on purpose.
            managers[version] = crypto.KEKManager(passphrase, version).get_kek()
        try:
            crypto.unwrap_dek(bytes(wrapped), managers[version])
        except Exception:
            # Whatever it is wrapped in.
            found.append(name)
    return found
