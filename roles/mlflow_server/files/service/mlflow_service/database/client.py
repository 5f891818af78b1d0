# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The service's own connections to its database, by the driver that MLflow is tested with.

They come from the same service file as those of MLflow's pools. Whoever asks a thing or two gets it in one line each.
"""

import contextlib

import psycopg2
import psycopg2.extensions

# What MLflow's stores are opened with. The plugin is engine.Plugin.
STORE_URI = "postgresql+psycopg2:///?service=mlflow&plugin=mlflow_server"

# The service of a read replica, and of the database itself where the replica can't be reached.
REPLICA = "service=mlflow_read"


class Connection(psycopg2.extensions.connection):
    """One that executes by itself. `with` ends its transaction, and closes it."""

    @property
    def connection(self):
        """Itself: what has `execute` is a cursor to psycopg2's own helpers, which ask it for its connection."""
        return self

    def execute(self, statement, given=None):
        """Return the cursor. Without `given`, a % in the statement is one."""
        cursor = self.cursor()
        cursor.execute(statement, given)
        return cursor

    @contextlib.contextmanager
    def transaction(self):
        """A transaction, on a connection that has none by itself (autocommit)."""
        self.execute("BEGIN")
        try:
            yield
        except BaseException:
            # Where it is the connection that has ended, nothing is left to be taken back.
            with contextlib.suppress(psycopg2.Error):
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def __enter__(self):
        return self

    def __exit__(self, kind, *dummy):
        if self.closed:
            return
        try:
            if kind is None:
                self.commit()
            else:
                with contextlib.suppress(psycopg2.Error):
                    self.rollback()
        finally:
            self.close()


def one_line(error):
    """What PostgreSQL has said, of which a log takes a line."""
    return " ".join(str(error).split())


def connect(about="service=mlflow", autocommit=True, **more):
    """
    Open one.

    :arg about: What libpq takes; the service file says the rest.
    :arg autocommit: Whether each statement is a transaction.
    :arg more: Further parameters of libpq, which come before those.
    """
    connection = psycopg2.connect(about, connection_factory=Connection, **more)
    connection.autocommit = autocommit
    return connection
