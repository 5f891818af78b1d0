# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Move what traces consist of from the database to the artifact store, when they are older than the retention.

    python -m mlflow_service.database.archive --older-than 90d     what mlflow-trace-archival.service runs

MLflow does it: what a trace says of itself (time, state, tags, assessments) stays in the database, and its spans become a file,
`traces.pb`, in the experiment's folder at the artifact store, from where MLflow reads them as if nothing had happened. Whoever
deletes the trace deletes the file. MLflow would have a job of the server do that; this needs no jobs.

The rows are emptied after the file is written, in a transaction that looks again whether the trace is what was written. What
is cut off is done again by the next pass. One host works at a time. The exit code is 1 where a trace stays.
"""

import argparse
import logging
import os
import sys

import psycopg2

from mlflow_service.compat import archival
from mlflow_service.compat.ground import known, moved
from mlflow_service.database import client
from mlflow_service.database.gc import TRACE_ID, check_schema, compare_clocks, present_store
from mlflow_service.http.ready import check_artifacts

# Any number but those of database/prepare.py and database/gc.py.
LOCK = 0x6D6C666C6F7761
# MLflow keeps so many ids in memory.
AT_ONCE = 5000
STORE = "mlflow.store.tracking.sqlalchemy_store"


class Warnings(logging.Handler):
    """Notes what MLflow warns of, which is each trace that it could not archive; it says why by itself."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.seen = set()

    def emit(self, record):
        # Its only argument is the trace.
        self.seen.add(str(record.args))


def archive(tracking, location, retention, say=print):
    """Archive all that is old; returns how many traces, and how many stay."""
    warned, stay, archived, found = Warnings(), set(), 0, 0
    archival.leave(tracking, TRACE_ID.fullmatch, stay.add)
    logger = logging.getLogger(STORE)
    logger.addHandler(warned)
    try:
        while True:
            done = tracking.archive_traces(
                resolved_trace_archival_location=location,
                broader_retention=retention,
                # What stays comes first again, so it must not fill what is looked at.
                max_traces_per_pass=AT_ONCE + len(stay) + len(warned.seen),
            )
            archived += done
            # Where all that came were such that stay, there may be others behind them.
            found, stayed = len(stay) + len(warned.seen), found
            if not done and found == stayed:
                break
    finally:
        logger.removeHandler(warned)
    for trace in sorted(stay):
        say(f"trace {trace!r}: its id is no name of a folder")
    return archived, len(warned.seen) + len(stay)


def place(database):
    """Where the store is. What keeps mlflow-gc from its work keeps this from its own."""
    so = "nothing is archived"
    check_schema(database, so)
    location, _since = present_store(database, so)
    compare_clocks(database, so)
    return location


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--older-than", required=True, metavar="DURATION", help="such as 90d")
    arguments = parser.parse_args()
    try:
        database = client.connect("service=mlflow connect_timeout=10")
    except psycopg2.OperationalError as error:
        raise SystemExit(f"The database does not let MLflow in: {str(error).strip()}") from None
    with database:
        location = place(database)
        if why := moved(archival.PATCH, known()):
            raise SystemExit(f"Nothing is archived with this MLflow, which does it in another way than this knows: {why}.")
        # Held until the connection ends.
        if not database.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()[0]:
            print("Another host is at it.")
            return 0
        try:
            check_artifacts()
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise SystemExit(f"The artifact store does not answer, so nothing is archived: {why}") from None

        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        # Of the database itself: what is read from a replica may be behind.
        tracking = SqlAlchemyStore(os.environ["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/")
        archived, stay = archive(tracking, location, arguments.older_than)
    print(f"Archived: {archived}. Stay, see above: {stay}.")
    return 1 if stay else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    try:
        sys.exit(main())
    except psycopg2.Error as broken:
        sys.exit(f"The database broke off, so this is where it ends: {client.one_line(broken)}")
