# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Prepare an installation and its database; run by the mlflow_server role with the venv's Python.

    mlflow_setup.py prepare           write down what this installation expects (once per venv)
    mlflow_setup.py apply [--check]   migrate the database and make the administrator where needed

`apply` reads {"username": ..., "password": ..., "wants_key": ..., "artifacts": {"root": ..., "endpoint": ...}} from its
standard input (only the last without authentication), so that no password is in an argument or in the environment. It
prints one JSON object: changed, actions, max_connections and tls; the key that all hosts share, if it is wanted; and the
file with the administrator's password, if it made one because none was given. When nothing is to be done it does not
import MLflow, which takes seconds.

It also notes in a table of its own which artifact store the database is used with, and since when: mlflow_gc.py removes
only what was made since. In a tag of MLflow's, any user who may edit that experiment could change it.
"""

import argparse
import contextlib
import gc
import gzip
import importlib.util
import json
import multiprocessing
import os
import secrets
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

STORE_URI = "postgresql+psycopg:///?service=mlflow"
EXPECTED = Path(sys.prefix) / "mlflow-server.json"
COMPRESSED = (".css", ".js", ".json", ".svg")
# What MLflow imports late, or what takes longest to compile: half of it. Where a name is none any more it only takes longer.
COMPILED_BESIDE = (
    "pandas",
    "sqlalchemy.orm",
    "sqlalchemy.dialects.postgresql.psycopg",
    "alembic.command",
    "psycopg",
    "aiohttp",
    "fastapi",
    "flask",
)
# Any number, as long as all hosts use the same: one host migrates, the others wait for it.
LOCK = 0x6D6C666C6F77
LOCK_TIMEOUT = "15min"
# What the hosts of a deployment share and nobody gave them. MLflow's own tables have no place for it.
SHARED = "mlflow_server_shared"
ARTIFACT_STORES = "mlflow_aws_artifact_stores"
PASSWORD_FILE = Path(os.environ.get("HOME", "."), "admin-password")
KEY = "flask_secret_key"


def _compress(file):
    """nginx sends this as it is."""
    content = file.read_bytes()
    if len(content) >= 1024:
        # A stronger compression takes twice the time for half a percent.
        with file.with_name(f"{file.name}.gz").open("wb") as packed, gzip.GzipFile("", "wb", 6, packed, mtime=0) as target:
            target.write(content)


def _beside(static):
    """What a second processor can do meanwhile."""
    for name in COMPILED_BESIDE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for file in static.rglob("*"):
        if file.suffix in COMPRESSED:
            _compress(file)


def prepare():
    # What is imported here leaves its bytecode, so that the service, which can't write it, need not compile at each start.
    # All that comes with MLflow is five times as much, and the server uses none of the rest.
    sys.dont_write_bytecode = False
    gc.disable()

    # nginx serves the files of the user interface; their place depends on the Python version.
    link = Path(sys.prefix) / "ui"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(importlib.util.find_spec("mlflow").origin).parent / "server" / "js" / "build")

    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as helper:
        rest = helper.submit(_beside, link / "static")
        import mlflow_service

        mlflow_service.import_everything()
        rest.result()

    import mlflow.server.auth.db.utils as auth_db
    import mlflow.store.db.utils as tracking_db
    from alembic.script import ScriptDirectory
    from mlflow.version import VERSION

    auth_scripts = ScriptDirectory.from_config(auth_db._get_alembic_config(""))
    expected = {
        "version": VERSION,
        "tracking": tracking_db._get_latest_schema_revision(),
        "auth": auth_scripts.get_current_head(),
    }
    EXPECTED.write_text(json.dumps(expected) + "\n", encoding="utf-8")


def _shared_key(connection):
    """The key that signs sessions, or nothing where none was made yet."""
    if connection.execute("SELECT to_regclass(%s)", (SHARED,)).fetchone()[0] is None:
        return ""
    row = connection.execute(f"SELECT value FROM {SHARED} WHERE name = %s", (KEY,)).fetchone()
    return row[0] if row else ""


def _make_shared_key(connection):
    connection.execute(f"CREATE TABLE IF NOT EXISTS {SHARED} (name text PRIMARY KEY, value text NOT NULL)")
    insert = f"INSERT INTO {SHARED} VALUES (%s, %s) ON CONFLICT DO NOTHING"
    connection.execute(insert, (KEY, secrets.token_urlsafe(32)))
    return _shared_key(connection)


def _make_password():
    """A password for the administrator. It is on the disk before there is anything that it opens."""
    password = secrets.token_urlsafe(18)
    with open(os.open(PASSWORD_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(f"{password}\n")
        file.flush()
        os.fsync(file.fileno())
    return password


def _noted(connection):
    """Return the artifact store that was noted last."""
    if connection.execute("SELECT to_regclass(%s)", (ARTIFACT_STORES,)).fetchone()[0] is None:
        return None
    return connection.execute(f"SELECT root, endpoint FROM {ARTIFACT_STORES} ORDER BY since DESC LIMIT 1").fetchone()


def _note(connection, artifacts):
    """Note the artifact store, as the one of always where nothing was made yet."""
    with connection.transaction():
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {ARTIFACT_STORES} "
            "(since timestamptz PRIMARY KEY, root text NOT NULL, endpoint text NOT NULL)"
        )
        connection.execute(
            f"INSERT INTO {ARTIFACT_STORES} SELECT CASE WHEN EXISTS (SELECT 1 FROM runs) "
            "OR EXISTS (SELECT 1 FROM logged_models) OR EXISTS (SELECT 1 FROM trace_info) "
            f"OR EXISTS (SELECT 1 FROM {ARTIFACT_STORES}) THEN clock_timestamp() ELSE to_timestamp(-1) END, %s, %s",
            (artifacts["root"], artifacts["endpoint"]),
        )


def _schema_actions(connection, expected, username):
    """Return what is to be done with MLflow's own tables."""

    def revision(table):
        if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone()[0] is None:
            return None
        row = connection.execute(f"SELECT version_num FROM {table}").fetchone()
        return row and row[0]

    actions = []
    current = revision("alembic_version")
    if current != expected["tracking"]:
        actions.append(f"migrate the tracking schema from {current or 'nothing'} to {expected['tracking']}")
    if username:
        current = revision("alembic_version_auth")
        if current != expected["auth"]:
            actions.append(f"migrate the authentication schema from {current or 'nothing'} to {expected['auth']}")
        has_users = connection.execute("SELECT to_regclass('users')").fetchone()[0] is not None
        if (
            not has_users
            or connection.execute("SELECT 1 FROM users WHERE username = %s", (username,)).fetchone() is None
        ):
            actions.append(f"create the administrator {username}")
    return actions


def _migrate(username, password):
    import mlflow.db

    mlflow.db.upgrade.callback(STORE_URI)
    if username:
        from mlflow.server import auth

        auth.store.init_db(STORE_URI)
        auth.create_admin_user(username, password)


class Work:
    """What is to be done in the database, by what it holds now."""

    def __init__(self, connection, expected, wanted):
        self._connection = connection
        self._wanted = wanted
        self._artifacts = wanted.get("artifacts")
        self.schema = _schema_actions(connection, expected, wanted.get("username"))
        self.key = _shared_key(connection) if wanted.get("wants_key") else None
        self.notes = bool(
            self._artifacts and _noted(connection) != (self._artifacts["root"], self._artifacts["endpoint"])
        )

    @property
    def actions(self):
        return [
            *self.schema,
            *(["make the key that signs sessions"] if self.key == "" else []),
            *([f"note the artifact store {self._artifacts['root']}"] if self.notes else []),
        ]

    def do(self):
        """Return the file with the administrator's password, if one was made."""
        made = {}
        if self.schema:
            password = self._wanted.get("password")
            if not password and any(action.startswith("create the administrator") for action in self.schema):
                password = _make_password()
                made["password_file"] = str(PASSWORD_FILE)
            _migrate(self._wanted.get("username"), password)
        if self.key == "":
            self.key = _make_shared_key(self._connection)
        if self.notes:
            _note(self._connection, self._artifacts)
        return made


def apply(check):
    import psycopg

    wanted = json.load(sys.stdin)
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))

    try:
        connection = psycopg.connect("service=mlflow connect_timeout=10", autocommit=True)
    except psycopg.OperationalError as error:
        raise SystemExit(f"The database does not let MLflow in: {str(error).strip()}") from None
    made = {}
    with connection:
        maximum = int(connection.execute("SHOW max_connections").fetchone()[0])
        tls = connection.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl").fetchone()
        work = Work(connection, expected, wanted)
        actions = work.actions
        if actions and not check:
            connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
            # Another host may have done it while this one waited.
            work = Work(connection, expected, wanted)
            actions = work.actions
            try:
                made = work.do()
            except Exception as error:
                if "Can't locate revision" in str(error):
                    raise SystemExit(
                        "The database was migrated by a newer MLflow than this "
                        f"{expected['version']}, and there is no way back but a backup: "
                        "install the newer version, or restore the database."
                    ) from None
                raise SystemExit(f"Could not {' and '.join(actions)}: {error}") from None
    if work.key:
        made["key"] = work.key
    return {"changed": bool(actions), "actions": actions, "max_connections": maximum, "tls": tls and tls[0], **made}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["prepare", "apply"])
    parser.add_argument("--check", action="store_true", help="say what would be done, change nothing")
    arguments = parser.parse_args()
    os.umask(0o022)
    if arguments.command == "prepare":
        prepare()
    else:
        print(json.dumps(apply(arguments.check)))


if __name__ == "__main__":
    main()
