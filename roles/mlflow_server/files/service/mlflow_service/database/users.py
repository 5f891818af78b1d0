# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The users of a server that is taken over, who are in a database of their own: found to be missing, and brought.

MLflow keeps users and permissions in a database that its auth.ini names, by default the file basic_auth.db; here they are in
that of the runs. So a server that is taken over would have lost all of them without a word. They are read where they are, which
changes nothing there, brought to the schema of this MLflow by its own migrations in a file of this process's own, and written
here in one transaction together with a note, which is why they are brought once.
"""

import base64
import json
import os
import sqlite3
from pathlib import Path

import psycopg2
import psycopg2.extensions
from psycopg2.extras import execute_values

from mlflow_service.compat import upgrading
from mlflow_service.database import client, locks, schema

# The name in the table of what is shared under which it is noted whose users were brought.
NOTE = "users_from"
# Where MLflow notes the schema of the users, and where it did so up to 3.5.
NOTED_IN = ("alembic_version_auth", "alembic_version")
# What shows that somebody has used the tables of the runs. MLflow makes the experiment 0 by itself.
USED = {
    "experiments": "SELECT 1 FROM experiments WHERE experiment_id <> 0 LIMIT 1",
    "runs": "SELECT 1 FROM runs LIMIT 1",
    "registered_models": "SELECT 1 FROM registered_models LIMIT 1",
    "trace_info": "SELECT 1 FROM trace_info LIMIT 1",
}
# All tables with rows that refer to a user.
OF_USERS = """
    SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND confrelid = to_regclass('users') ORDER BY 1
"""


class Unreadable(Exception):
    """Why the users can't be read where they are; without a secret."""


class Postgresql:
    """A database of PostgreSQL, as the service's own login where the address names no host."""

    def __init__(self, address, password):
        try:
            scheme, _, rest = address.partition("://")
            parts = psycopg2.extensions.parse_dsn(f"postgresql://{rest}")
        except psycopg2.ProgrammingError as error:
            raise Unreadable(f"it is no address: {client.one_line(error)}") from None
        if not {"host", "hostaddr"} & set(parts):
            parts = {"service": "mlflow", **parts}
        else:
            ca = Path(os.environ["PGSERVICEFILE"]).with_name("database-ca.pem")
            parts = {"sslmode": "verify-full", **({"sslrootcert": str(ca)} if ca.exists() else {}), **parts}
        parts |= {"password": password} if password else {}
        # What this program asks of its own sessions is not asked there.
        parts = {"options": "", "connect_timeout": "10", "application_name": "mlflow-setup", **parts}
        try:
            self._connection = client.connect("", autocommit=False, **parts)
            self._connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        except psycopg2.Error as error:
            raise Unreadable(client.one_line(error)) from None

    def has(self, table):
        return self._asked("SELECT to_regclass(%s) IS NOT NULL", (table,))[0][0]

    def rows(self, table, columns):
        names = ", ".join(f'"{column}"' for column in columns)
        return self._asked(f'SELECT {names} FROM "{table}"')

    def _asked(self, statement, given=None):
        try:
            return self._connection.execute(statement, given).fetchall()
        except psycopg2.Error as error:
            raise Unreadable(client.one_line(error)) from None

    def close(self):
        self._connection.close()


class Sqlite:
    """The content of a file of SQLite, which is never a file on this host."""

    def __init__(self, content):
        content = base64.b64decode(content)
        if not content.startswith(b"SQLite format 3\0"):
            raise Unreadable("it is no file of SQLite")
        # Bytes 18 and 19 are 2 where a part of what was written may be in a file beside it.
        if content[18:20] == b"\2\2":
            raise Unreadable("a part of it may be in a file beside it: sqlite3 FILE 'PRAGMA journal_mode = DELETE'")
        self._connection = sqlite3.connect(":memory:")
        self._connection.deserialize(content)

    def has(self, table):
        return bool(self._asked("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)))

    def rows(self, table, columns):
        names = ", ".join(f'"{column}"' for column in columns)
        return self._asked(f'SELECT {names} FROM "{table}"')

    def _asked(self, statement, given=()):
        try:
            return self._connection.execute(statement, given).fetchall()
        except sqlite3.Error as error:
            raise Unreadable(client.one_line(error)) from None

    def close(self):
        self._connection.close()


def _open(about):
    return Sqlite(about["content"]) if about.get("content") else Postgresql(about["name"], about.get("password"))


def _revision(source, known):
    """The revision of the users' schema over there."""
    if not source.has("users"):
        raise Unreadable("it holds no users of an MLflow, whose table is called users")
    for table in NOTED_IN:
        found = {row[0] for row in source.rows(table, ["version_num"])} if source.has(table) else set()
        if found & set(known):
            return (found & set(known)).pop()
        if found and table == NOTED_IN[0]:
            raise Unreadable(
                f"its schema {', '.join(sorted(found))} is of another MLflow than this one knows: set mlflow_server_version to "
                "the one that its users had, or a newer one"
            )
    # Before MLflow 3.6 nothing had to be noted.
    return upgrading.first_of_users()


class Users:
    """Those that are to be brought."""

    def __init__(self, about, known):
        self.name = about["name"]
        self._about, self._known = about, known
        source = _open(about)
        try:
            self._revision = _revision(source, known)
            self._hashes = dict(source.rows("users", ["username", "password_hash"]))
        finally:
            source.close()
        self.names = list(self._hashes)
        if not self.names:
            raise Unreadable("nobody is in it; mlflow_server_users_from: none says that there are none to bring")

    def is_password_of(self, name, password):
        """Whether somebody has this password there, as far as it can be told."""
        from werkzeug.security import check_password_hash

        try:
            return check_password_hash(self._hashes[name] or "", password)
        except ValueError:
            return False

    def bring(self, connection, administrator):
        """
        Write them, and that they were brought.

        :arg administrator: Who may be there already, and stays unless somebody of that name is brought.
        """
        source = _open(self._about)
        try:
            tables = upgrading.users_of_today(self._revision, source.rows)
        finally:
            source.close()
        try:
            with connection.transaction():
                connection.execute("LOCK TABLE users IN EXCLUSIVE MODE")
                self._make_room(connection, administrator, tables)
                for table, columns, rows in tables:
                    _write(connection, table, columns, rows)
                upgrading.tell_prompts_apart(connection, self._known)
                self._note(connection)
        except psycopg2.Error as error:
            # What it says beside that may be a line of what was written.
            if error.pgcode in locks.NO_LOCK:
                raise
            raise Unreadable(error.diag.message_primary or type(error).__name__) from None

    def _make_room(self, connection, administrator, tables):
        """Look again, with the users held; and give the administrator who is there a number that nobody brings."""
        others = [table for table, dummy, dummy in tables if table != "users"]
        there = _somebody_else(connection, administrator) or [table for table in others if _has_rows(connection, f'"{table}"')]
        if there:
            raise Unreadable(f"there are users or permissions in this database by now ({', '.join(there)})")
        if administrator in self.names:
            connection.execute("DELETE FROM users WHERE username = %s", (administrator,))
            return
        numbers = [row[columns.index("id")] for table, columns, rows in tables if table == "users" for row in rows]
        connection.execute("UPDATE users SET id = %s WHERE username = %s", (max(numbers) + 1, administrator))

    def _note(self, connection):
        note = json.dumps({"from": self.name, "users": len(self.names)})
        schema.make_shared_table(connection)
        connection.execute(f"INSERT INTO {schema.SHARED} VALUES (%s, %s)", (NOTE, note))


def _write(connection, table, columns, rows):
    """Rows as they are, with their numbers; who is made later gets the next one."""
    names = ", ".join(f'"{column}"' for column in columns)
    if rows:
        execute_values(connection.cursor(), f'INSERT INTO "{table}" ({names}) VALUES %s', rows)
    if "id" in columns:
        last = f'SELECT setval(pg_get_serial_sequence(%s, \'id\'), (SELECT max(id) FROM "{table}"))'
        connection.execute(last, (f'"{table}"',))


def _has_rows(connection, table):
    return connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None


def _noted(connection):
    """Whose users were brought; nothing where none were."""
    note = schema.shared(connection, NOTE)
    return json.loads(note)["from"] if note else None


def _somebody_else(connection, administrator):
    """Users beside the administrator, or tables with somebody's permissions."""
    if not schema.there(connection, "users"):
        return []
    others = "SELECT username FROM users WHERE username IS DISTINCT FROM %s LIMIT 3"
    found = connection.execute(others, (administrator,)).fetchall()
    tables = [row[0] for row in connection.execute(OF_USERS).fetchall()]
    return [row[0] for row in found] or [table for table in tables if _has_rows(connection, table)]


def _is_first(connection):
    """Whether this role was never at this database, and an MLflow was."""
    if schema.there(connection, schema.SHARED) or schema.there(connection, schema.ARTIFACT_STORES):
        return False
    return any(schema.there(connection, table) and connection.execute(used).fetchone() for table, used in USED.items())


def missing(connection):
    """What is to be said where the users of a server that is taken over are somewhere else; nothing where they are not."""
    if not _is_first(connection):
        return None
    if schema.there(connection, "users") and _has_rows(connection, "users"):
        return None
    return (
        "it was used by an MLflow, and holds no users. Where people logged in to that, its users and permissions are in a "
        "database of their own, which database_uri in its auth.ini names (by default the file basic_auth.db): say in "
        "mlflow_server_users_from where, and they are brought; or set it to none, where there are none to bring"
    )


def to_bring(connection, about, administrator, password, known):
    """
    The users that are to be brought; nothing where they were.

    :arg password: The administrator's, who may be among them; nothing where any is right.
    :raises Unreadable: where they can't be.
    """
    noted = _noted(connection)
    if noted == about["name"]:
        return None
    if noted:
        raise Unreadable(f"users were brought from {noted} already, and are brought once")
    there = _somebody_else(connection, administrator)
    if there:
        raise Unreadable(f"this database has users or permissions already ({', '.join(there)}), and two sets are not mixed")
    found = Users(about, known)
    if password and administrator in found.names and not found.is_password_of(administrator, password):
        raise Unreadable(
            f"{administrator} has another password there than mlflow_server_admin_password: give that one, or another name in "
            "mlflow_server_admin_username, by which an administrator is made"
        )
    return found
