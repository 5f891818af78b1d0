# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Where MLflow's tables are and what a login may there: said before anything is made, and never a second set of them."""

from __future__ import annotations

import pgbouncer
import postgres
import pytest

# Fixtures, which pytest finds by their names here.
from test_prepare import TABLES, apply, client, connect, prepared, schema  # noqa: F401

# The fixtures of the other file are arguments here.
# ruff: noqa: F811

LOGINS = ("first", "second", "owner")
# Two logins, of which the first has made MLflow's tables in a schema of its own; and as a role acts that owns them.
FIRST_MADE = """
    CREATE SCHEMA first AUTHORIZATION first; SET ROLE first; SET search_path = first;
    {tables} RESET ROLE; RESET search_path; DROP TABLE {names};
"""
NAMES = "alembic_version, alembic_version_auth, users, runs, logged_models, trace_info"
EVERYTHING = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text NOT LIKE 'pg\\_%'"


@pytest.fixture
def log_in(connect, server, tmp_path, monkeypatch):
    """Have this be the login of the service file from here on, and let a statement of the administrator's be said before."""
    admin = connect()
    for name in LOGINS:
        admin.execute(f"CREATE ROLE {name} LOGIN")

    def log_in(name, *before):
        for statement in before:
            admin.execute(statement)
        content = f"[mlflow]\nhost={server}\nuser={name}\ndbname=mlflow\n"
        (tmp_path / "login.conf").write_text(content)
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "login.conf"))
        return content

    yield log_in
    admin.execute("RESET ROLE; ALTER DATABASE mlflow OWNER TO mlflow")
    for name in LOGINS:
        admin.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


@pytest.fixture
def first_made(prepared, log_in):
    log_in("first", FIRST_MADE.format(tables=TABLES, names=NAMES))
    return "GRANT CREATE ON SCHEMA public TO second"


def refused(connect, monkeypatch, said, **wanted):
    """Nothing was made, whether one looks or does it, and a process that finds it does not serve."""
    database = connect()
    before = database.execute(EVERYTHING).fetchone()
    for check in (True, False):
        with pytest.raises(SystemExit, match=f"can't be prepared for MLflow 3.17.2: {said}.*Nothing was changed"):
            apply(monkeypatch, check, **wanted)
    assert database.execute(EVERYTHING).fetchone() == before


def test_a_second_login_that_does_not_look_where_the_tables_are_makes_no_second_set(
    connect, prepared, first_made, log_in, monkeypatch, capsys
):
    assert apply(monkeypatch, check=True)["changed"]
    log_in("second", first_made)
    said = "MLflow's tables are in schema first of this database, which second does not look into"
    refused(connect, monkeypatch, f"{said}.*ALTER ROLE second SET search_path = first")
    assert not prepared
    monkeypatch.setattr(schema, "PAUSE", 0)
    with pytest.raises(SystemExit):
        schema.refuse_another(with_auth=True)
    assert said in capsys.readouterr().err


def test_what_is_advised_to_the_second_login_helps(connect, prepared, first_made, log_in, monkeypatch):
    log_in("second", first_made, "ALTER ROLE second SET search_path = first", "GRANT USAGE ON SCHEMA first TO second")
    said = "second may not read MLflow's tables in schema first, which belong to first.*GRANT first TO second"
    refused(connect, monkeypatch, f"{said}; ALTER ROLE second SET role = first")
    log_in("second", "GRANT first TO second", "ALTER ROLE second SET role = first")
    assert "migrate the tracking schema from t1 to t3" in apply(monkeypatch, check=True)["actions"]


def test_tables_of_the_users_in_another_schema_are_not_made_again(connect, prepared, log_in, monkeypatch):
    moved = "CREATE SCHEMA logins; ALTER TABLE alembic_version_auth SET SCHEMA logins; ALTER TABLE users SET SCHEMA logins"
    connect().execute(moved)
    refused(connect, monkeypatch, "MLflow's tables are in schema logins")
    # Nobody logs in, so nobody's tables are missing.
    assert apply(monkeypatch, check=True, username="")["changed"]


def test_a_table_of_that_name_that_is_another_programs_is_in_nobodys_way(connect, prepared, log_in, monkeypatch):
    connect().execute(f"DROP TABLE {NAMES}; CREATE SCHEMA other; CREATE TABLE other.alembic_version (version_num text)")
    assert "migrate the tracking schema from nothing to t3" in apply(monkeypatch, check=True)["actions"]


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("REVOKE CREATE ON SCHEMA public FROM PUBLIC", "second may not make tables in schema public.*GRANT CREATE ON"),
        ("REVOKE ALL ON SCHEMA public FROM PUBLIC", "second has no schema to make tables in.*GRANT USAGE, CREATE"),
        ("ALTER ROLE second SET search_path = nowhere", "second has no schema to make tables in: its search_path is nowhere"),
    ],
)
def test_whoever_may_make_no_tables_is_told_so(connect, prepared, log_in, monkeypatch, before, said):
    log_in("second", f"DROP TABLE {NAMES}", before)
    refused(connect, monkeypatch, said)
    assert not prepared


def test_what_is_made_is_made_where_the_tables_are(connect, prepared, log_in, monkeypatch):
    """A schema with the login's own name comes first in PostgreSQL's own search_path, and the other login does not look there."""
    log_in("owner", *(f"ALTER TABLE {name} OWNER TO owner" for name in NAMES.split(", ")), "GRANT ALL ON SCHEMA public TO owner")
    assert apply(monkeypatch, check=True)["changed"]
    log_in("owner", "CREATE SCHEMA owner AUTHORIZATION owner")
    refused(connect, monkeypatch, "MLflow.s tables are in schema public, and what owner makes would be in schema owner")
    log_in("owner", "ALTER ROLE owner SET search_path = public")
    assert apply(monkeypatch)["changed"] and not apply(monkeypatch)["changed"]


def test_two_logins_of_one_owner_find_the_same_tables(connect, prepared, log_in, monkeypatch):
    """As the role mlflow_database makes them."""
    log_in("first", f"DROP TABLE {NAMES}", "ALTER DATABASE mlflow OWNER TO owner", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    for name in ("first", "second"):
        log_in(name, f"GRANT owner TO {name}", f"ALTER ROLE {name} SET role = owner")
        assert "migrate the tracking schema from nothing to t3" in apply(monkeypatch, check=True)["actions"]
    log_in("first")
    with client.connect() as database:
        database.execute(TABLES)
    for name in ("first", "second"):
        log_in(name)
        assert apply(monkeypatch)["changed"] is (name == "first")


def test_only_the_owner_migrates(connect, prepared, log_in, monkeypatch):
    log_in("second", "GRANT ALL ON ALL TABLES IN SCHEMA public TO second", "GRANT CREATE ON SCHEMA public TO second")
    refused(connect, monkeypatch, "the tables in schema public are to be migrated, and belong to mlflow, as whom second does not")
    assert not prepared


def test_where_nothing_is_to_be_made_nobody_has_to_have_the_right(connect, prepared, log_in, monkeypatch):
    apply(monkeypatch)
    log_in("second", "GRANT ALL ON ALL TABLES IN SCHEMA public TO second", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    assert not apply(monkeypatch)["changed"]


@pytest.fixture(params=["transaction", "session", "transaction, and says nothing of what it leaves out"])
def pooled(request, server, connect, prepared, tmp_path, monkeypatch):
    """The service file has the address of a PgBouncer."""
    mode, dummy, quietly = request.param.partition(",")
    try:
        with pgbouncer.pooler(server, mode, "options" if quietly else "") as folder:
            (tmp_path / "pooled.conf").write_text(f"[mlflow]\nhost={folder}\nuser=mlflow\ndbname=mlflow\n")
            monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "pooled.conf"))
            yield
    except postgres.Missing as why:
        pytest.skip(str(why))


def test_behind_a_pooler_nothing_is_prepared(pooled, prepared, monkeypatch):
    said = "between this host and PostgreSQL is something that hands out sessions of its own, such as PgBouncer"
    for check in (True, False):
        with pytest.raises(SystemExit, match=f"{said}.*database_host must be PostgreSQL itself.*Nothing was changed"):
            apply(monkeypatch, check)
    assert not prepared
