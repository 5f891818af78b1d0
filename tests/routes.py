# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Who may what, of all routes that MLflow has."""

from __future__ import annotations

import re

# Who may, of the things of one experiment and one registered model; whoever stands further down may less.
# closed is not there at all; nobody has no use of what MLflow itself answers with 404, but for others it may also be 403.
CLOSED, NOBODY, ADMIN, OWNER, EDITOR, READER, LOGIN, ANYONE = RANKS = (
    "closed", "nobody", "admin", "owner", "editor", "reader", "login", "anyone"
)  # fmt: skip

# The first line that fits a route says who may. `*` is any part of a path, {api} is api and ajax-api. By MLflow's rules,
# roles are shown to whoever has a grant of any kind, and a scorer is a thing of its own, which all may read by default.
TABLE = """
    anyone    GET                /health
    anyone    GET                /static-files/*
    anyone    GET                /{api}/3.0/mlflow/server-info
    login     GET                /
    login     GET                /version
    login     GET,POST           /graphql
    login     GET,POST           /ajax-api/3.0/mlflow/ui-telemetry
    login     GET,POST           /ajax-api/2.0/mlflow/gateway-proxy

    login     GET                /ajax-api/3.0/mlflow/assistant/config
    login     GET                /ajax-api/3.0/mlflow/assistant/providers
    closed    *                  /ajax-api/3.0/mlflow/assistant*
    closed    *                  /gateway/*
    closed    *                  /{api}/*/mlflow/gateway*
    closed    *                  /ajax-api/3.0/jobs*
    closed    *                  /{api}/3.0/mlflow/jobs/*
    closed    *                  /{api}/3.0/mlflow/*/invoke
    closed    *                  /ajax-api/3.0/mlflow/demo/*
    closed    POST               /{api}/3.0/mlflow/prompt-optimization/jobs
    closed    POST               /{api}/3.0/mlflow/prompt-optimization/jobs/*/cancel
    closed    DELETE             /{api}/3.0/mlflow/prompt-optimization/jobs/*
    reader    GET,POST           /{api}/3.0/mlflow/prompt-optimization/jobs/search

    admin     GET                /{api}/3.0/mlflow/prompt-optimization/jobs/*
    admin     *                  /{api}/3.0/mlflow/workspaces/*
    admin     POST               /{api}/3.0/mlflow/workspaces
    login     GET                /{api}/3.0/mlflow/workspaces
    nobody    *                  /{api}/2.0/mlflow/get-online-trace-details
    nobody    *                  /{api}/2.0/mlflow/unified-traces
    nobody    *                  /{api}/2.0mlflow/*
    nobody    *                  /build/*
    admin     *                  /{api}/2.0/mlflow/webhooks*
    admin     GET                /signup
    admin     *                  /{api}/2.0/mlflow/users/create*
    admin     *                  /{api}/2.0/mlflow/users/delete
    admin     *                  /{api}/2.0/mlflow/users/update-admin
    login     GET                /{api}/2.0/mlflow/users/current
    login     GET                /{api}/2.0/mlflow/users/list
    login     GET                /{api}/3.0/mlflow/users/current/permissions
    owner     GET,PATCH          /{api}/2.0/mlflow/users/*
    owner     POST               /{api}/3.0/mlflow/users/permissions/*
    owner     GET                /{api}/3.0/mlflow/users/*
    admin     GET                /{api}/3.0/mlflow/roles/users/list
    login     GET                /{api}/3.0/mlflow/roles/*
    admin     *                  /{api}/3.0/mlflow/roles/*

    login     POST               /{api}/2.0/mlflow/experiments/create
    login     GET,POST           /{api}/2.0/mlflow/experiments/search
    reader    GET,POST           /{api}/2.0/mlflow/experiments/get*
    reader    POST               /ajax-api/2.0/mlflow/experiments/search-datasets
    editor    POST               /{api}/2.0/mlflow/experiments/delete-experiment-tag
    owner     POST               /{api}/2.0/mlflow/experiments/delete
    owner     POST               /{api}/2.0/mlflow/experiments/restore
    editor    POST               /{api}/2.0/mlflow/experiments/*

    login     POST               /{api}/2.0/mlflow/runs/search
    reader    GET                /{api}/2.0/mlflow/runs/get
    owner     POST               /{api}/2.0/mlflow/runs/delete
    owner     POST               /{api}/2.0/mlflow/runs/restore
    editor    POST               /{api}/2.0/mlflow/runs/*
    reader    GET                /{api}/2.0/mlflow/metrics/*
    editor    POST               /{api}/2.0/mlflow/artifacts/presigned-upload-url
    reader    GET,POST           /{api}/2.0/mlflow/artifacts/*
    editor    POST               /ajax-api/2.0/mlflow/upload-artifact

    login     GET                /{api}/2.0/mlflow-artifacts/artifacts
    reader    GET                /{api}/2.0/mlflow-artifacts/*
    editor    PUT,POST           /{api}/2.0/mlflow-artifacts/*
    owner     DELETE             /{api}/2.0/mlflow-artifacts/*
    reader    GET                /get-artifact
    reader    GET                /model-versions/get-artifact
    reader    GET                /ajax-api/*/mlflow/get-trace-artifact

    login     POST               /{api}/2.0/mlflow/logged-models/search
    reader    GET                /{api}/2.0/mlflow/logged-models*
    owner     DELETE             /{api}/2.0/mlflow/logged-models*
    editor    POST,PATCH         /{api}/2.0/mlflow/logged-models*

    login     POST               /{api}/2.0/mlflow/registered-models/create
    login     GET                /{api}/2.0/mlflow/registered-models/search
    login     GET                /{api}/2.0/mlflow/model-versions/search
    reader    GET,POST           /{api}/2.0/mlflow/registered-models/get*
    reader    GET                /{api}/2.0/mlflow/registered-models/alias
    owner     DELETE             /{api}/2.0/mlflow/registered-models/delete
    owner     DELETE             /{api}/2.0/mlflow/registered-models/alias
    editor    *                  /{api}/2.0/mlflow/registered-models/*
    reader    GET                /{api}/2.0/mlflow/model-versions/*
    owner     DELETE             /{api}/2.0/mlflow/model-versions/*
    editor    *                  /{api}/2.0/mlflow/model-versions/*

    reader    GET                /{api}/2.0/mlflow/traces*
    owner     POST               /{api}/*/mlflow/traces/delete-traces
    editor    *                  /{api}/2.0/mlflow/traces*
    reader    GET                /{api}/3.0/mlflow/traces*
    reader    POST               /{api}/3.0/mlflow/traces/batchGetInfos
    reader    POST               /{api}/3.0/mlflow/traces/calculate-filter-correlation
    reader    POST               /{api}/3.0/mlflow/traces/metrics
    reader    POST               /{api}/3.0/mlflow/traces/search
    editor    *                  /{api}/3.0/mlflow/traces*
    editor    POST               /v1/traces

    reader    GET,POST           /{api}/3.0/mlflow/datasets/search
    reader    GET                /{api}/3.0/mlflow/datasets/*
    owner     DELETE             /{api}/3.0/mlflow/datasets/<dataset_id>
    editor    *                  /{api}/3.0/mlflow/datasets/*
    reader    POST               /{api}/3.0/mlflow/issues/search
    reader    GET                /{api}/3.0/mlflow/issues/*
    editor    *                  /{api}/3.0/mlflow/issues*
    reader    GET                /{api}/3.0/mlflow/label-schemas/*
    owner     *                  /{api}/3.0/mlflow/label-schemas/*
    reader    GET                /{api}/3.0/mlflow/scorers/list
    login     GET                /{api}/3.0/mlflow/scorers/*
    owner     DELETE             /{api}/3.0/mlflow/scorers/*
    editor    *                  /{api}/3.0/mlflow/scorers/*
    reader    GET                /{api}/3.0/mlflow/review-queues/list
    owner     GET                /{api}/3.0/mlflow/review-queues/*
    admin     POST               /{api}/3.0/mlflow/review-queues/items/set-status
    owner     POST               /{api}/3.0/mlflow/review-queues/items/remove
    owner     POST               /{api}/3.0/mlflow/review-queues/update
    owner     POST               /{api}/3.0/mlflow/review-queues/delete
    editor    POST               /{api}/3.0/mlflow/review-queues/*

    login     GET,POST           /{api}/3.0/mlflow/mcp-servers
    login     GET                /{api}/3.0/mlflow/mcp-servers/endpoints
    reader    GET                /{api}/3.0/mlflow/mcp-servers/*
    owner     DELETE             /{api}/3.0/mlflow/mcp-servers/*
    editor    *                  /{api}/3.0/mlflow/mcp-servers/*
"""


def _lines():
    for line in TABLE.splitlines():
        if line.strip():
            who, methods, path = line.split()
            pattern = re.escape(path).replace(r"\*", ".*").replace(r"\{api\}", "(ajax-)?api")
            yield who, None if methods == "*" else methods.split(","), re.compile(pattern)


LINES = list(_lines())


def who_may(method, route):
    """By the table; nothing where no line fits."""
    return next((who for who, methods, path in LINES if (not methods or method in methods) and path.fullmatch(route)), None)
