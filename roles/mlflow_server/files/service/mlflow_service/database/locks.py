# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Who is in the way of a migration.

A session is named by what an administrator needs to find it and no more: what it asks may hold values. Whoever is neither
that user nor a member of pg_read_all_stats is not told where another's session comes from and what it does.
"""

import contextlib
import threading
import time

import psycopg2

# A transaction that is the same one after this time is one that is open for long.
LONG = 2.0
# PostgreSQL's codes for a lock that was not had in time, and for one of two that wait for each other.
NO_LOCK = ("55P03", "40P01")

# 64 bits of an advisory lock are two columns of pg_locks.
HOLDER = """
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = (%(lock)s::bigint >> 32)::oid AND objid = (%(lock)s::bigint & 4294967295)::oid
"""
# Transactions with a lock on one of the tables, by PostgreSQL's own name of them. Its own processes have no user, and give
# way to whoever wants a lock.
TRANSACTIONS = """
    SELECT DISTINCT held.pid, held.virtualtransaction
    FROM pg_locks held JOIN pg_class ON pg_class.oid = held.relation JOIN pg_stat_activity USING (pid)
    WHERE held.locktype = 'relation' AND held.granted AND relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND usename IS NOT NULL AND held.pid <> pg_backend_pid()
"""
BLOCKING = """
    SELECT DISTINCT unnest(pg_blocking_pids(pid)) FROM pg_stat_activity
    WHERE application_name = %s AND datname = current_database() AND pid <> pg_backend_pid()
"""
SESSION = """
    SELECT pid, usename, client_addr, application_name, state, date_trunc('second', coalesce(xact_start, state_change))
    FROM pg_stat_activity WHERE pid = ANY(%s) ORDER BY xact_start, pid
"""


def describe(connection, pids):
    """A line for each of these sessions."""
    rows = connection.execute(SESSION, (sorted(pids),)).fetchall()
    # pg_blocking_pids has no other name for it.
    lines = ["a prepared transaction, see pg_prepared_xacts"] if 0 in pids else []
    for pid, user, address, application, state, since in rows:
        line = f"pid {pid}, user {user}"
        line += f" from {address}" if address else ""
        line += f" ({application})" if application else ""
        line += f", {state}" if state else ", the database does not tell us what it does"
        lines.append(line + (f" since {since}" if since else ""))
    return lines


def holder(connection, lock):
    """Who holds an advisory lock; nothing where that was let go meanwhile."""
    pids = [row[0] for row in connection.execute(HOLDER, {"lock": lock}).fetchall()]
    return "; ".join(describe(connection, pids))


def open_for_long(connection):
    """Lines on the transactions that are open for long on tables of this schema."""

    def look():
        return set(connection.execute(TRANSACTIONS).fetchall())

    found = look()
    if found:
        time.sleep(LONG)
        found &= look()
    return describe(connection, {pid for pid, transaction in found})


class Watch:
    """Sees who blocks the sessions of a name while they wait: when they have given up, nobody can tell any more."""

    EVERY = 0.5

    def __init__(self, connect, application):
        self._connect = connect
        self._application = application
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        # The last that was said of each.
        self._seen = {}

    @property
    def seen(self):
        return list(self._seen.values())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *dummy):
        self._over.set()
        self._thread.join()

    def _watch(self):
        # What it can't see is missing in a message.
        with contextlib.suppress(psycopg2.Error), self._connect() as connection:
            while not self._over.wait(self.EVERY):
                for (pid,) in connection.execute(BLOCKING, (self._application,)).fetchall():
                    lines = describe(connection, [pid])
                    if lines:
                        self._seen[pid] = lines[0]
