# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What this collection's modules share when they talk to PostgreSQL.

Private to the collection. psycopg2 is what every supported distribution packages, and it is only
used here, so that the modules can be read and tested without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time

try:
    import psycopg2
    import psycopg2.extensions
    import psycopg2.sql

    PSYCOPG2_IMPORT_ERROR = None
except ImportError as error:
    psycopg2 = None
    PSYCOPG2_IMPORT_ERROR = error

# What PostgreSQL takes without quotes; nobody has to think about quoting such a name anywhere.
NAME = re.compile(r"^[a-z_][a-z0-9_]{0,62}$")

# How a note of this collection begins, which it keeps as the comment of a role.
NOTE = "mlops.mlflow_aws "

# No session of ours waits for ever, or keeps others waiting: not where somebody holds a lock on purpose, and not after its
# host was switched off in the middle of a transaction. What it does takes milliseconds, but for making a database.
LOCK_SECONDS = 30
LIMITS = {
    "lock_timeout": LOCK_SECONDS,
    "statement_timeout": 120,
    "idle_in_transaction_session_timeout": 60,
}

# What PgBouncer and RDS Proxy say to these: a session of theirs is not one of PostgreSQL.
POOLED = ("unsupported startup parameter", "command-line options")

SSL_MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

CONNECTION_SPEC = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 5432},
    "admin_user": {"type": "str", "required": True},
    "admin_password": {"type": "str", "required": True, "no_log": True},
    "admin_database": {"type": "str", "default": "postgres"},
    "sslmode": {"type": "str", "default": "verify-full", "choices": SSL_MODES},
    "ca_certificate": {"type": "str"},
    "ca_path": {"type": "path"},
    "connect_timeout": {"type": "int", "default": 10},
}


class PostgresqlError(Exception):
    """A refusal of PostgreSQL in one line."""


class WrongPassword(PostgresqlError):
    """The server was reached and did not take the password."""


class ConnectionLost(PostgresqlError):
    """The server could not be reached, or has gone away: it may come back."""


class Blocked(PostgresqlError):
    """Another session held for too long what was to be changed."""


class Collision(PostgresqlError):
    """Another session has changed the same in the same moment: to be tried again."""


def one_line(error):
    """Return what PostgreSQL said, without the lines that only point into the statement."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(("LINE ", "^")))


def note_in(comment):
    """What this collection has noted in the comment of a role; nothing where it is somebody else's."""
    if not comment or not comment.startswith(NOTE):
        return {}
    try:
        return json.loads(comment[len(NOTE) :])
    except ValueError:
        return {}


def moment(epoch):
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch))


def told(note):
    """Which rotation a note names."""
    if not note.get("created"):
        return "an unknown one"
    return f"version {note.get('version') or 'unknown'} of {moment(note['created'])}"


class Session:
    """A connection that commits each statement and gives errors in one line."""

    def __init__(self, connection):
        self._connection = connection
        self._connection.autocommit = True

    @property
    def version(self):
        """The server's version as PostgreSQL counts it: 170004 is 17.4."""
        return self._connection.server_version

    @property
    def pid(self):
        return self._connection.get_backend_pid()

    def rows(self, statement, parameters=None):
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(statement, parameters)
                return cursor.fetchall()
            except psycopg2.Error as error:
                raise self._problem(error) from error

    def value(self, statement, parameters=None):
        rows = self.rows(statement, parameters)
        return rows[0][0] if rows else None

    def do(self, statement, names=(), parameters=None):
        """Run a statement whose `{}` are filled with quoted names."""
        composed = psycopg2.sql.SQL(statement).format(*[psycopg2.sql.Identifier(name) for name in names])
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(composed, parameters)
            except psycopg2.Error as error:
                raise self._problem(error) from error

    def note_of(self, role):
        """What this collection has noted of a role."""
        return note_in(self.value("SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s", (role,)))

    def write_note(self, role, note):
        self.do("COMMENT ON ROLE {} IS %s", [role], (NOTE + json.dumps(note) if note else None,))

    @contextlib.contextmanager
    def transaction(self, lock=None):
        """
        All of it or nothing of it; with a lock, which is a role, while nobody else with the same lock is at it.

        The lock is the one that PostgreSQL takes to comment on a role, which it refuses to all but those who administer that
        role. Without a comment nothing is written. An advisory lock could be held for ever by whoever may connect, and a
        row lock on a role by that role itself, which may always change its own password.
        """
        self.do("BEGIN")
        try:
            if lock is not None:
                self.do("COMMENT ON ROLE {} IS NULL", [lock])
            yield
        except BaseException:
            if not self._connection.closed:
                self.do("ROLLBACK")
            raise
        self.do("COMMIT")

    def _problem(self, error):
        """An error of psycopg2, as one of ours."""
        text = one_line(error)
        if self._connection.closed:
            return ConnectionLost(text)
        if error.pgcode == "55P03":
            return Blocked(text)
        return (Collision if "tuple concurrently updated" in text else PostgresqlError)(text)

    def verifier(self, role, password):
        """Return what the server stores of a password, so that it never sees (or logs) the password."""
        return psycopg2.extensions.encrypt_password(
            password, role, scope=self._connection, algorithm="scram-sha-256"
        )

    def close(self):
        self._connection.close()


@contextlib.contextmanager
def _ca_file(params):
    """Give the CA's certificate as the file that libpq wants; it reads it once, when it connects."""
    if not params["ca_certificate"]:
        yield params["ca_path"]
        return
    descriptor, path = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(params["ca_certificate"])
        yield path
    finally:
        os.unlink(path)


def connect(params, user, password, database):
    """Open a session with the module's way to the server."""
    options = {
        "host": params["host"],
        "port": params["port"],
        "dbname": database,
        "user": user,
        "password": password,
        "sslmode": params["sslmode"],
        "connect_timeout": params["connect_timeout"],
        "application_name": "mlops.mlflow_aws",
        "options": " ".join(f"-c {name}={seconds}s" for name, seconds in LIMITS.items()),
    }
    try:
        with _ca_file(params) as ca_file:
            if ca_file:
                options["sslrootcert"] = ca_file
            return Session(psycopg2.connect(**options))
    except psycopg2.OperationalError as error:
        message = one_line(error)
        # libpq gives no error code for a refused connection, only the server's words.
        if "password authentication failed" in message:
            raise WrongPassword(message) from error
        if any(words in message for words in POOLED):
            pooler = f"{params['host']} is a pooler in front of PostgreSQL, and must be PostgreSQL itself: {message}"
            raise PostgresqlError(pooler) from error
        raise ConnectionLost(message) from error
