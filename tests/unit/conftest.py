# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import postgres  # noqa: E402


@pytest.fixture(scope="module")
def server():
    """The folder with the socket of a PostgreSQL of its own."""
    try:
        with postgres.server() as socket:
            yield socket
    except postgres.Missing as why:
        pytest.skip(str(why))


@pytest.fixture
def plugin_of_stores():
    """SQLAlchemy finds the service's plugin, as by the entry point of its venv."""
    from sqlalchemy.dialects import plugins

    plugins.register("mlflow_server", "mlflow_service.database.engine", "Plugin")


@pytest.fixture
def listeners(monkeypatch):
    """What comes to listen to SQLAlchemy's events, as (target, name, function): removed again at the end."""
    from sqlalchemy import event

    found, listens = [], event.listens_for

    def noting(target, name):
        def decorate(function):
            found.append((target, name, function))
            return listens(target, name)(function)

        return decorate

    monkeypatch.setattr(event, "listens_for", noting)
    yield found
    for listener in found:
        event.remove(*listener)
