# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""How MLflow's stores ask the database, whichever process opens them: `plugin=mlflow_server` in the address of the store.

SQLAlchemy finds Plugin by an entry point in the venv (database/prepare.py prepare writes it), and all that is done here is what
SQLAlchemy has for it: the option of a dialect, and events of the pool.
"""

import select
import time

from sqlalchemy import event
from sqlalchemy.engine import CreateEnginePlugin
from sqlalchemy.exc import InvalidatePoolError

# A connection that was used so lately is looked at, not asked.
FRESH_SECONDS = 5.0
USED = "mlflow_server_used"


class Plugin(CreateEnginePlugin):
    """
    - Many updates of one kind, such as the last values of a hundred metrics, go to the database together and not each by
      itself.
    - A pool asks the database whether a connection is still there only where that was idle for some seconds. Each session of
      MLflow begins with that question, and a request has up to four. On a connection that was used just now it is enough
      that nothing has come since: a database that ends a session says so.
    """

    def update_url(self, url):
        # SQLAlchemy has taken the plugin's name out by itself.
        return url

    def handle_dialect_kwargs(self, dialect_cls, dialect_args):
        if dialect_cls.driver == "psycopg2":
            dialect_args["executemany_mode"] = "values_plus_batch"

    def handle_pool_kwargs(self, pool_cls, pool_args):
        # MLflow wants it. What takes its place is below.
        pool_args.pop("pre_ping", None)

    def engine_created(self, engine):
        def note(connection, record):
            record.info[USED] = time.monotonic()

        def look(connection, record, proxy):
            # One that was just opened was not used before.
            used = record.info.get(USED)
            if used is None or (time.monotonic() - used < FRESH_SECONDS and is_silent(connection)):
                return
            if not is_there(engine.dialect, connection):
                # The pool opens another one, and takes all that are older for lost, too.
                raise InvalidatePoolError()

        event.listen(engine, "checkin", note)
        event.listen(engine, "checkout", look)


def is_silent(connection):
    """Whether the connection is open and nothing has come on it."""
    if connection.closed:
        return False
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return not waiting.poll(0)


def is_there(dialect, connection):
    """Ask the database."""
    try:
        return dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        if dialect.is_disconnect(error, connection, None):
            return False
        raise
