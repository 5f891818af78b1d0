# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which schema the database has, which one this MLflow wants, and what is to be done where they differ.

MLflow's stores migrate a database by themselves when they are opened on one that is behind: each worker of each host, with
nothing that keeps two of them apart. Here only the mlflow_server role migrates (database/prepare.py); a process that finds
another schema ends, and says in one line what the host needs.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

import psycopg2

from mlflow_service.database import client

# What `database/prepare.py prepare` has written down of this installation.
EXPECTED = Path(sys.prefix) / "mlflow-server.json"
TABLES = {"tracking": "alembic_version", "auth": "alembic_version_auth"}
# What the hosts of a deployment share and nobody gave them. MLflow's own tables have no place for it.
SHARED = "mlflow_server_shared"
# The name in that table under which the MLflow is noted that the schema is of.
NOTE = "schema"
# Which artifact store the database is used with, and since when.
ARTIFACT_STORES = "mlflow_aws_artifact_stores"
# What to look for beside each of these tables, so that one of another program's is not taken for MLflow's.
BESIDE = {"tracking": "runs", "auth": "users"}
POOLER = (
    "between this host and PostgreSQL is something that hands out sessions of its own, such as PgBouncer or RDS Proxy. What is "
    "asked of a session (time limits, locks) does not hold there, and a rotation of the password can't see who is at what. "
    "mlflow_server_database_host must be PostgreSQL itself, whose connections the service pools"
)
# What such a one says to a setting that a session shall begin with.
NO_SETTINGS = ("unsupported startup parameter", "command-line options")
# Of one of MLflow's two schemas: the namespace of the table that is found, whether it may be read, who owns it, and the other
# namespaces that have such a table, whether they are in the search_path or not.
PLACES = """
    SELECT seen.namespace, seen.may_read, seen.owner, seen.is_owner, ARRAY(
        SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relname = %(table)s AND relkind IN ('r', 'p') AND pg_class.oid IS DISTINCT FROM to_regclass(%(table)s)
          AND nspname NOT LIKE 'pg\\_%%'
          AND EXISTS (SELECT 1 FROM pg_class beside WHERE beside.relname = %(beside)s AND beside.relnamespace = pg_namespace.oid)
        ORDER BY nspname)
    FROM (SELECT 1) one LEFT JOIN (
        SELECT quote_ident(nspname), has_table_privilege(pg_class.oid, 'SELECT'), quote_ident(pg_get_userbyid(relowner)),
               pg_has_role(relowner, 'USAGE')
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(%(table)s)
    ) seen (namespace, may_read, owner, is_owner) ON true
"""
# uvicorn makes a new worker half a second after one has ended.
PAUSE = 5.0
# How long a read replica is waited for that has not got a migration yet.
REPLICA_SECONDS = 60.0


def expected():
    return json.loads(EXPECTED.read_text(encoding="utf-8"))


def begin_sessions_with(setting, value):
    """Have every session that this process opens, MLflow's own included, begin with a setting of PostgreSQL's."""
    os.environ["PGOPTIONS"] = f"{os.environ.get('PGOPTIONS', '')} -c {setting}={value}".strip()


def there(connection, table):
    return connection.execute("SELECT to_regclass(%s)", (table,)).fetchone()[0] is not None


def revision(connection, kind):
    """The revision of one of MLflow's two schemas; nothing where that was never made."""
    if not there(connection, TABLES[kind]):
        return None
    row = connection.execute(f"SELECT version_num FROM {TABLES[kind]}").fetchone()
    return row and row[0]


def revisions(connection, with_auth):
    return {kind: revision(connection, kind) for kind in TABLES if kind == "tracking" or with_auth}


def users_schema(connection, known):
    """
    What is to be done where alembic_version holds a schema of the users' tables; nothing where it does not.

    MLflow up to 3.5 noted that schema there, in a database that had to be another one than that of the runs.

    :arg known: The revisions of both schemas that this MLflow knows, by kind.
    """
    if not known or not there(connection, TABLES["tracking"]):
        return None
    rows = {row[0] for row in connection.execute(f"SELECT version_num FROM {TABLES['tracking']}").fetchall()}
    users = sorted(rows & set(known["auth"]) - set(known["tracking"]))
    if not users:
        return None
    about = f"alembic_version holds {', '.join(users)}, which is the schema of the users of an MLflow up to 3.5"
    if rows - set(users):
        return (
            f"{about}, beside that of the runs. MLflow notes it in {TABLES['auth']} now. Take it out, then the users' tables are "
            f"taken over as they are: DELETE FROM alembic_version WHERE version_num = '{users[0]}'"
        )
    if there(connection, "runs"):
        return (
            f"{about}, and not that of the runs, whose tables are there: it was overwritten. Restore a backup, or write there "
            "which schema of runs the MLflow has that used them last"
        )
    return (
        f"{about}: this is the database of the users, and has no runs. mlflow_server_database_name must be the one with the "
        "runs. Users and permissions are kept in that one, too; mlflow_server_users_from brings them there"
    )


def through_a_pooler(connection):
    """Whether something in between hands out sessions: what libpq was told at the login is another one than what answers."""
    return connection.get_backend_pid() != connection.execute("SELECT pg_backend_pid()").fetchone()[0]


def _places(connection, with_auth):
    """The row of PLACES for each of MLflow's schemas that is used, one after the other."""
    for kind, table in TABLES.items():
        if kind != "auth" or with_auth:
            yield connection.execute(PLACES, {"table": table, "beside": BESIDE[kind]}).fetchone()


def out_of_place(connection, with_auth):
    """
    Why this login does not find the tables of MLflow that the database has; nothing where it does, or has none.

    What is not found is made anew, a second set beside the first one.
    """
    user, path = connection.execute("SELECT quote_ident(session_user), current_setting('search_path')").fetchone()
    for namespace, may_read, owner, _is_owner, others in _places(connection, with_auth):
        if namespace and not may_read:
            return (
                f"{user} may not read MLflow's tables in schema {namespace}, which belong to {owner}. The login must be a member "
                f"of {owner} and act as it: GRANT {owner} TO {user}; ALTER ROLE {user} SET role = {owner}"
            )
        if not namespace and others:
            return (
                f"MLflow's tables are in schema {others[0]} of this database, which {user} does not look into (its search_path "
                f"is {path}), so a second set of them would be made. Have it look there: ALTER ROLE {user} SET search_path = "
                f"{others[0]}, with the right USAGE; or name in mlflow_server_database_user the login that they were made with"
            )
    return None


def can_not_make(connection, with_auth, migrates):
    """
    Why this login can't make what is missing where the tables are; nothing where it can.

    :arg migrates: Whether what is there is changed, which only its owner may do.
    """
    user, path, namespace, may_make = connection.execute(
        "SELECT quote_ident(session_user), current_setting('search_path'), quote_ident(current_schema()), "
        "has_schema_privilege(current_schema(), 'CREATE')"
    ).fetchone()
    if not namespace:
        return (
            f"{user} has no schema to make tables in: its search_path is {path}, and it may use none of these. Let it: "
            f"GRANT USAGE, CREATE ON SCHEMA public TO {user}"
        )
    for found, _may_read, owner, is_owner, _others in _places(connection, with_auth):
        if found and found != namespace:
            return (
                f"MLflow's tables are in schema {found}, and what {user} makes would be in schema {namespace} (its "
                f"search_path is {path}), where another login may not find it. Let it begin there: ALTER ROLE {user} "
                f"SET search_path = {found}"
            )
        if found and migrates and not is_owner:
            return (
                f"the tables in schema {found} are to be migrated, and belong to {owner}, as whom {user} does not act. The login "
                f"must be a member of {owner} and act as it: GRANT {owner} TO {user}; ALTER ROLE {user} SET role = {owner}"
            )
    if not may_make:
        return f"{user} may not make tables in schema {namespace}. Let it: GRANT CREATE ON SCHEMA {namespace} TO {user}"
    return None


def shared(connection, name):
    """What the hosts share under a name; an empty text where nothing was written there yet."""
    if not there(connection, SHARED):
        return ""
    row = connection.execute(f"SELECT value FROM {SHARED} WHERE name = %s", (name,)).fetchone()
    return row[0] if row else ""


def make_shared_table(connection):
    connection.execute(f"CREATE TABLE IF NOT EXISTS {SHARED} (name text PRIMARY KEY, value text NOT NULL)")


def noted(connection):
    """What was noted of the schema when it was migrated, or nothing."""
    return json.loads(shared(connection, NOTE) or "{}")


def artifact_store(connection):
    """Root and endpoint of the artifact store that was noted last; nothing where none was."""
    if not there(connection, ARTIFACT_STORES):
        return None
    return connection.execute(f"SELECT root, endpoint FROM {ARTIFACT_STORES} ORDER BY since DESC LIMIT 1").fetchone()


def made_by(connection, kind, found):
    """The version of MLflow that has made this revision. Who migrates by hand notes none."""
    note = noted(connection)
    return note.get("version") if found and note.get(kind) == found else None


def is_newer(version, than):
    return [int(part) for part in re.findall(r"\d+", version)[:3]] > [int(part) for part in re.findall(r"\d+", than)[:3]]


def difference(connection, wanted, with_auth):
    """One line on a schema that is not the one that this MLflow wants; nothing where both are."""
    if through_a_pooler(connection):
        return f"This MLflow {wanted['version']} does not serve: {POOLER}."
    place = out_of_place(connection, with_auth)
    if place:
        return f"This MLflow {wanted['version']} does not serve: {place}."
    users = users_schema(connection, wanted.get("known"))
    if users:
        return f"This MLflow {wanted['version']} does not serve: {users}."
    for kind, found in revisions(connection, with_auth).items():
        if found == wanted[kind]:
            continue
        version = made_by(connection, kind, found)
        known = wanted.get("known", {}).get(kind)
        if (version and is_newer(version, wanted["version"])) or (found and known and found not in known):
            needs = (
                f"This host needs MLflow {version or 'of the version that migrated the database'} or newer: run the "
                "mlflow_server role (site.yml) with that mlflow_server_version."
            )
        else:
            needs = "Run the mlflow_server role (site.yml), which migrates it; `mlflow db upgrade` by hand is not needed."
        origin = f" of MLflow {version}" if version else ""
        return (
            f"The database has the {kind} schema {found or 'of nothing yet'}{origin}, and this MLflow {wanted['version']} "
            f"has {wanted[kind]}: it does not serve, and does not migrate. {needs}"
        )
    return None


def _look(service, with_auth, what="The database"):
    try:
        with client.connect(f"{service} connect_timeout=10") as connection:
            return difference(connection, expected(), with_auth)
    except psycopg2.OperationalError as error:
        return f"{what} does not let MLflow in: {client.one_line(error)}"


def refuse_another(with_auth, replica=False, sleep=time.sleep, clock=time.monotonic):
    """
    End this process where the database's schema is not this MLflow's. Before a store is opened, which would migrate.

    :arg replica: Whether there is a read replica. What was migrated, and a password that was changed, it has a little later.
    """
    problem = _look("service=mlflow", with_auth)
    deadline = clock() + REPLICA_SECONDS
    while replica and not problem and (behind := _look(client.REPLICA, False, "The read replica")):
        if clock() >= deadline:
            problem = f"The read replica (mlflow_server_database_read_host) is behind for {REPLICA_SECONDS:.0f} s. {behind}"
        sleep(1)
    if problem:
        # Said once, and not by each of the workers that would be made meanwhile.
        print(problem, file=sys.stderr, flush=True)
        time.sleep(PAUSE)
        raise SystemExit(1)
