# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A database that a newer MLflow of the same schema has used: nobody goes back by accident, and whoever means it may."""

from __future__ import annotations

import pytest

# Fixtures, which pytest finds by their names here. That file says where the service is, so it has the module, too.
from test_prepare import EXPECTED, apply, connect, prepare, prepared, schema  # noqa: F401

# The fixtures of the other file are arguments here.
# ruff: noqa: F811

NEWER = EXPECTED | {"version": "3.17.10"}


@pytest.fixture
def used(connect, prepared):
    """The database as an MLflow of the same schema and a higher version has left it."""
    database = connect()
    database.execute("UPDATE alembic_version SET version_num = 't3'")
    prepare._note_version(database, NEWER)
    return database


@pytest.mark.parametrize("check", [True, False])
def test_a_lower_version_is_refused_with_the_way_back(used, monkeypatch, check):
    said = "last used with MLflow 3.17.10.*is 3.17.2, which is lower.*mlflow_server_allow_downgrade: true.*Nothing was changed"
    with pytest.raises(SystemExit, match=said):
        apply(monkeypatch, check)
    assert schema.noted(used)["version"] == "3.17.10"


def test_whoever_means_it_says_so_once(used, monkeypatch):
    assert apply(monkeypatch, allow_downgrade=True)["changed"]
    assert schema.noted(used)["version"] == "3.17.2"
    again = apply(monkeypatch)
    assert again["actions"] == [] and not again["changed"]


def test_the_word_is_no_way_back_to_an_older_schema(used, monkeypatch):
    used.execute("UPDATE alembic_version SET version_num = 't4'")
    prepare._note_version(used, NEWER | {"tracking": "t4"})
    with pytest.raises(SystemExit, match="was migrated by MLflow 3.17.10 .*no way back but a backup"):
        apply(monkeypatch, allow_downgrade=True)


def test_a_higher_version_of_the_same_schema_is_noted_once(used, monkeypatch):
    prepare._note_version(used, EXPECTED | {"version": "3.17.0"})
    assert apply(monkeypatch)["actions"][-1] == "note that the schema is of MLflow 3.17.2"
    assert schema.noted(used)["version"] == "3.17.2"
    assert not apply(monkeypatch)["changed"]


def test_a_note_of_another_schema_says_nothing(used, monkeypatch):
    """Somebody has restored a backup from before the upgrade, which has taken the note with it or not."""
    used.execute("UPDATE alembic_version SET version_num = 't1'")
    assert "migrate the tracking schema from t1 to t3" in apply(monkeypatch, check=True)["actions"]
