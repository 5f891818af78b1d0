# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A login to the database as MLflow on a host does it. Private to the collection."""

from __future__ import annotations

import json
import subprocess
import time

# Runs with MLflow's Python and as its user. What it is asked comes from its standard input, and a content that is not
# in a file yet becomes one in memory, which libpq opens by its descriptor.
PROGRAM = """
import json, os, sys
try:
    import psycopg2 as driver
except ImportError:
    # Of a server that was installed by an earlier role.
    import psycopg as driver
asked = json.load(sys.stdin)
if asked["content"]:
    descriptor = os.memfd_create("pg_service")
    os.write(descriptor, asked["content"].encode())
    os.environ["PGSERVICEFILE"] = f"/proc/self/fd/{descriptor}"
else:
    os.environ["PGSERVICEFILE"] = asked["path"]
try:
    connection = driver.connect(f"service={asked['service']}")
    cursor = connection.cursor()
    cursor.execute(
        "SELECT session_user::text, current_user::text, "
        "coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), host(inet_client_addr())"
    )
    answer = cursor.fetchone()
    cursor.execute(
        "SELECT rolname::text, rolcanlogin, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname::text = ANY (%s)",
        ([answer[0], asked["former"]],),
    )
    roles = cursor.fetchall()
    # MLflow's tables where this login does not look, or may not; and whether libpq was told of another session at the login.
    cursor.execute(
        "SELECT pg_backend_pid(), (SELECT min(nspname)::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "WHERE relname = 'alembic_version' AND relkind IN ('r', 'p') AND to_regclass('alembic_version') IS NULL AND EXISTS "
        "(SELECT 1 FROM pg_class runs WHERE runs.relname = 'runs' AND runs.relnamespace = pg_namespace.oid)), "
        "(SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = to_regclass('alembic_version') "
        "AND NOT has_table_privilege(oid, 'SELECT'))"
    )
    pid, elsewhere, owner = cursor.fetchone()
    seen = {"pooled": pid != connection.info.backend_pid, "tables_elsewhere": elsewhere, "tables_of": owner}
    connection.close()
    found = {name: {"can_login": can_login, "note": note} for name, can_login, note in roles}
    print(json.dumps({**dict(zip(("login", "acts_as", "tls", "address"), answer)), **seen, "roles": found}))
except driver.Error as error:
    print(json.dumps({"error": " ".join(str(error).split())}))
"""

# What trying again does not mend.
FINAL = (
    "password authentication failed",
    "not permitted to log in",
    "certificate",
    "definition of service",
    "does not exist",
    "No such file",
    "No module named",
)


def attempt(params, run=subprocess.run):
    """Log in once; returns the answer, or {"error": ...}."""
    user = params["user"]
    command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "env", "-i", "-C", "/"]
    command += [params["python"], "-I", "-c", PROGRAM]
    asked = json.dumps({name: params.get(name) for name in ("path", "content", "service", "former")})
    try:
        done = run(command, input=asked, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        return {"error": f"no answer for {error.timeout:.0f} s"}
    except OSError as error:
        return {"error": str(error)}
    except ValueError:
        return {"error": f"{params['python']} ended with code {done.returncode}: {done.stderr.strip()[-500:]}"}


def login(params, attempt=attempt, sleep=time.sleep, clock=time.monotonic):
    deadline = clock() + params["patience"]
    while True:
        answer = attempt(params)
        error = answer.get("error")
        if not error or clock() >= deadline or any(words in error for words in FINAL):
            return answer
        sleep(1)


def problem(answer, params):
    """What is wrong with the answer, in words without a secret; or nothing."""
    if answer.get("error"):
        return f"MLflow on this host can't log in to its database as {params['expect']}: {answer['error']}"
    if answer["login"] != params["expect"]:
        return f"MLflow on this host logs in to its database as {answer['login']}, and should as {params['expect']}."
    if params["acts_as"] and answer["acts_as"] != params["acts_as"]:
        return (
            f"{params['expect']} acts as {answer['acts_as']} in the database, and should as {params['acts_as']}: "
            "its tables would be lost to the other login."
        )
    return None


def misfit(answer, params):
    """Why MLflow can't work with a login that is the right one, in words without a secret; or nothing."""
    if answer.get("pooled"):
        return (
            "Between this host and PostgreSQL is something that hands out sessions of its own, such as PgBouncer or RDS Proxy, "
            "in which MLflow's server can't rely on what it asks of a session; the address must be that of PostgreSQL itself."
        )
    if answer.get("tables_elsewhere"):
        return (
            f"MLflow's tables are in schema {answer['tables_elsewhere']} of the database, and {params['expect']} does not look "
            "there: it would find none, and a second set would be made. Set its search_path, or give it the right USAGE."
        )
    if answer.get("tables_of"):
        return (
            f"{params['expect']} may not read MLflow's tables in its database, which belong to {answer['tables_of']}: it must be "
            "a member of that role and act as it (ALTER ROLE ... SET role)."
        )
    return None
