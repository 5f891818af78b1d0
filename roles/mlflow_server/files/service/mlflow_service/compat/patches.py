# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""All patches."""

from mlflow_service.compat import (
    artifacts,
    auth,
    classic,
    deletion,
    environment,
    gateway,
    processes,
    sources,
    store,
    traces,
    upgrading,
    webhooks,
)

ALL = (
    environment.PATCH,
    store.STORES,
    upgrading.PATCH,
    sources.PATCH,
    traces.PATCH,
    webhooks.PATCH,
    gateway.PATCH,
    artifacts.PARTS,
    auth.PATCH,
    classic.PATCH,
    store.READING,
    store.INPUTS,
    artifacts.ABSENT,
    artifacts.STORING,
    artifacts.DOWNLOADING,
    deletion.PATCH,
    processes.FORKING,
    processes.DRAINING,
)
