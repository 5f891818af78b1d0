# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""All patches."""

from mlflow_service.compat import (
    archival,
    artifacts,
    auth,
    classic,
    deletion,
    environment,
    gateway,
    jobs,
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
    store.SEARCHING,
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
    archival.PATCH,
    processes.FORKING,
    processes.DRAINING,
)

# Looked at by what runs jobs, which the oldest version that is served does not have.
OF_JOBS = (jobs.PATCH,)
