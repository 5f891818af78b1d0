# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""All that is put in moto's place, in one call."""

from __future__ import annotations

from ..config import Config
from . import ec2, s3, secrets_manager, state


def install(config: Config) -> None:
    """Correct moto for this cloud. rds.install follows once the state is read, for it needs the cloud's id."""
    state.install()
    s3.install()
    secrets_manager.install()
    ec2.install(config.default_vpc_cidr)
