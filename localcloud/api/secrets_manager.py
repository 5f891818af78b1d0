# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Secrets Manager as AWS documents it, where moto differs."""

from __future__ import annotations

import time
from typing import Any

from moto.secretsmanager.models import SecretsManagerBackend

from .wire import AwsError

#: How long the name of a secret that was deleted without a recovery window can't be used.
lingering_seconds = 10.0

_create = SecretsManagerBackend.create_secret
_delete = SecretsManagerBackend.delete_secret
_update_stage = SecretsManagerBackend.update_secret_version_stage


def _update_secret_version_stage(
    self: Any, secret_id: str, version_stage: str, remove_from_version_id: str, move_to_version_id: str
) -> Any:
    """
    UpdateSecretVersionStage: a label sits at one version, and must be named there to be moved away.

    moto moves the label AWSCURRENT, but GetSecretValue without a stage goes on giving the old version.
    """
    secret = self.secrets[secret_id] if secret_id in self.secrets else None
    if secret is not None and move_to_version_id:
        holders = [v for v, value in secret.versions.items() if version_stage in value["version_stages"]]
        if holders == [move_to_version_id] and not remove_from_version_id:
            return secret.arn, secret.name
        if holders and holders[0] != remove_from_version_id:
            raise AwsError(
                "InvalidParameterException",
                f"The parameter RemoveFromVersionId can't be empty. Staging label {version_stage} is currently attached "
                f"to version {holders[0]}, so you must explicitly reference that version in RemoveFromVersionId.",
            )
    result = _update_stage(self, secret_id, version_stage, remove_from_version_id, move_to_version_id)
    secret = self.secrets[secret_id]
    for version, value in secret.versions.items():
        if "AWSCURRENT" in value["version_stages"]:
            secret.set_default_version_id(version)
    return result


def _delete_secret(
    self: Any, secret_id: str, recovery_window_in_days: int | None, force_delete_without_recovery: bool
) -> Any:
    secret = self.secrets[secret_id] if secret_id in self.secrets else None
    result = _delete(self, secret_id, recovery_window_in_days, force_delete_without_recovery)
    if secret is not None and force_delete_without_recovery:
        self.lc_lingering = {**getattr(self, "lc_lingering", {}), secret.name: time.time() + lingering_seconds}
    return result


def _create_secret(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """
    DeleteSecret, ForceDeleteWithoutRecovery: the deletion is a job in the background, and until it is done CreateSecret of that
    name fails; "use appropriate back off and retry logic".
    """
    if getattr(self, "lc_lingering", {}).get(name, 0) > time.time():
        raise AwsError("InvalidRequestException", "You can't create this secret because a secret with this name is already "
                       "scheduled for deletion.")
    return _create(self, name, *args, **kwargs)


def install() -> None:
    """Put the corrections in moto's place."""
    SecretsManagerBackend.delete_secret = _delete_secret  # type: ignore[method-assign]
    SecretsManagerBackend.create_secret = _create_secret  # type: ignore[method-assign]
    SecretsManagerBackend.update_secret_version_stage = _update_secret_version_stage  # type: ignore[method-assign]
