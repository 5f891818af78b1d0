# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A login that is right and of no use to MLflow: it finds no tables, or a pooler answers. Real servers."""

from __future__ import annotations

import os
import pwd
import sys

import pgbouncer
import postgres
import psycopg
import pytest
from plugin_support import plugin

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def admin(server):
    """MLflow's tables are the first login's, in a schema of its own."""
    with psycopg.connect(host=str(server), user="mlflow", dbname="postgres", autocommit=True) as connection:
        connection.execute(
            "CREATE ROLE first LOGIN; CREATE ROLE second LOGIN; CREATE SCHEMA first AUTHORIZATION first; SET ROLE first; "
            "CREATE TABLE first.alembic_version (version_num text); CREATE TABLE first.runs (run_uuid text); RESET ROLE"
        )
        yield connection
        connection.execute("DROP OWNED BY first CASCADE; DROP OWNED BY second; DROP ROLE first; DROP ROLE second")


@pytest.fixture
def write(server, tmp_path):
    """Write the service file with a login, and return what was wrong with it."""

    def write(user, host=server):
        module = plugin("modules", "mlflow_service_file")
        path = tmp_path / "pg_service.conf"
        content = f"[mlflow]\nhost={host}\nuser={user}\ndbname=postgres\n"
        about = {"service": "mlflow", "user": pwd.getpwuid(os.geteuid()).pw_name, "group": "root", "mode": "0640"}
        params = {"path": str(path), "content": content, "expect": user, "acts_as": None, "patience": 0, "python": sys.executable}
        try:
            module.ensure({**params, **about}, check_mode=False)
        except module.Refused as why:
            assert not path.exists() or path.read_text() != content
            return str(why)
        assert path.read_text() == content
        return None

    return write


def test_a_login_that_does_not_find_the_tables_is_not_written(admin, write):
    """The processes that serve would read it with their next connection."""
    assert write("first") is None
    said = write("second")
    assert "MLflow's tables are in schema first of the database, and second does not look there" in said
    assert "rotated" not in said
    admin.execute("ALTER ROLE second SET search_path = first; GRANT USAGE ON SCHEMA first TO second")
    assert "second may not read MLflow's tables in its database, which belong to first" in write("second")
    admin.execute("GRANT first TO second; ALTER ROLE second SET role = first")
    assert write("second") is None


def test_a_table_of_that_name_alone_is_not_mlflows(admin, write):
    admin.execute("DROP TABLE first.runs")
    assert write("second") is None


def ways(host):
    """How the modules reach a server by its socket."""
    return {"host": str(host), "port": 5432, "sslmode": "disable", "ca_certificate": None, "ca_path": None, "connect_timeout": 10}


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_the_address_of_a_pooler_is_not_written(server, write, mode):
    try:
        with pgbouncer.pooler(server, mode) as folder:
            said = write("mlflow", host=folder)
            pg = plugin("module_utils", "_postgresql")
            with pytest.raises(pg.PostgresqlError) as error:
                pg.connect(ways(folder), "mlflow", "", "postgres")
            refused = error.value
    except postgres.Missing as why:
        pytest.skip(str(why))
    # What it says of the administrator is final, and nothing is tried again.
    assert type(refused).__name__ == "PostgresqlError" and f"{folder} is a pooler in front of PostgreSQL" in str(refused)
    assert "hands out sessions of its own, such as PgBouncer" in said and "must be that of PostgreSQL itself" in said
    assert write("mlflow") is None
