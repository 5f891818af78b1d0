# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""MLflow up to 3.5 noted the schema of its users in alembic_version: that is no newer MLflow, and is told apart."""

from __future__ import annotations

import pytest

# Fixtures, which pytest finds by their names here.
from test_prepare import apply, connect, prepared, schema  # noqa: F401

# The fixtures of the other file are arguments here.
# ruff: noqa: F811

ONLY_USERS = """
    UPDATE alembic_version SET version_num = 'a1'; DROP TABLE alembic_version_auth; DROP TABLE runs; DROP TABLE logged_models;
    DROP TABLE trace_info;
"""
CASES = {
    "the database of the users": (ONLY_USERS, "holds a1, .*up to 3.5.*mlflow_server_database_name must be the one"),
    "both in one": (
        "INSERT INTO alembic_version VALUES ('a1'); DROP TABLE alembic_version_auth",
        "holds a1, .*beside that of the runs.*DELETE FROM alembic_version WHERE version_num = 'a1'",
    ),
    "both, the other way round": (
        "UPDATE alembic_version SET version_num = 'a1'; INSERT INTO alembic_version VALUES ('t3')",
        "beside that of the runs.*DELETE FROM",
    ),
    "overwritten": ("UPDATE alembic_version SET version_num = 'a1'", "tables are there: it was overwritten. Restore a backup"),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_it_is_said_what_it_is_and_what_to_do(connect, prepared, monkeypatch, case, check):
    change, said = CASES[case]
    connect().execute(change)
    with pytest.raises(SystemExit, match=f"{said}.*Nothing was changed") as refused:
        apply(monkeypatch, check)
    assert "newer" not in str(refused.value) and not prepared
    # Without logins as well: it is the table of the runs.
    with pytest.raises(SystemExit, match=said):
        apply(monkeypatch, check, username="")


def test_what_is_advised_helps(connect, prepared, monkeypatch):
    database = connect()
    database.execute(CASES["both in one"][0])
    database.execute("DELETE FROM alembic_version WHERE version_num = 'a1'")
    actions = apply(monkeypatch, check=True)["actions"]
    assert "migrate the tracking schema from t1 to t3" in actions
    assert "migrate the authentication schema from nothing to a2" in actions


def test_a_process_says_so_too(connect, prepared, monkeypatch, capsys):
    monkeypatch.setattr(schema, "PAUSE", 0)
    connect().execute(ONLY_USERS)
    with pytest.raises(SystemExit):
        schema.refuse_another(with_auth=True)
    assert "this is the database of the users" in capsys.readouterr().err


def test_a_database_that_is_newer_is_told_as_that(connect, prepared, monkeypatch):
    connect().execute("UPDATE alembic_version SET version_num = 't4'")
    with pytest.raises(SystemExit, match="was migrated by a newer MLflow"):
        apply(monkeypatch)
