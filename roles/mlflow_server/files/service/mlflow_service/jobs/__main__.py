# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Run MLflow's jobs: python -m mlflow_service.jobs, which is mlflow-jobs.service.

A job is a row in the database, which the server writes when somebody asks for it. Whoever runs them takes them from there, so
that nothing has to be reached but the database. Of all hosts of a deployment one runs them: MLflow's runner is made for one.
Whoever has a lock of the database does, and the others wait for it, with next to no memory. The session that has it is made
anew as often as those of the pools are, so that a rotation of the password can end the former one.
"""

import os
import signal
import sys
import threading
import time

import psycopg2

from mlflow_service.compat import environment, jobs
from mlflow_service.compat.ground import known, moved
from mlflow_service.database import client, schema
from mlflow_service.states import tell_systemd

# Any number but those of database/.
LOCK = 0x6D6C666C6F776A
EVERY = 5.0
ONLINE_EVERY = 60.0
# How long one session may wait for the lock of the one before it.
HANDED_SECONDS = 10.0


def connect():
    return client.connect("service=mlflow connect_timeout=10 application_name=mlflow-jobs")


class Turn:
    """That this host is the one. Several sessions have it one after the other, and no other host in between."""

    def __init__(self, connect, recycle, clock=time.monotonic):
        self._connect, self._recycle, self._clock = connect, recycle, clock
        self._connection, self._made = connect(), clock()

    def take(self):
        """Whether it could be had."""
        if self._clock() - self._made >= self._recycle:
            self._connection.close()
            self._connection, self._made = self._connect(), self._clock()
        return self._connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()[0]

    def keep(self):
        """
        Make sure that it is still had.

        :raises psycopg2.Error: where it is not, or nobody knows.
        """
        if self._clock() - self._made < self._recycle:
            self._connection.execute("SELECT 1")
            return
        # It queues behind this one's, and whoever only tries does not come before it.
        after = self._connect()
        after.execute(f"SET lock_timeout = '{HANDED_SECONDS:.0f}s'")
        pid = after.info.backend_pid
        wait = threading.Thread(target=self._queue, args=(after,), daemon=True)
        wait.start()
        for _ in range(int(HANDED_SECONDS * 10)):
            if self._connection.execute(
                "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = %s AND NOT granted", (pid,)
            ).fetchone():
                break
            time.sleep(0.1)
        self._connection.close()
        wait.join(HANDED_SECONDS + 5)
        if not after.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted"
        ).fetchone()[0]:
            raise psycopg2.OperationalError("the lock of the jobs was not handed on")
        self._connection, self._made = after, self._clock()

    def _queue(self, after):
        try:
            after.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        except psycopg2.Error as error:
            print(f"The lock of the jobs: {client.one_line(error)}", file=sys.stderr, flush=True)


def keep_turn(turn, stop, every=EVERY):
    """Until `stop` is set; sets it where the turn is lost, and says so."""
    while not stop.wait(every):
        try:
            turn.keep()
        except psycopg2.Error as error:
            print(f"This host may not be the one that runs jobs any more: {client.one_line(error)}", file=sys.stderr)
            stop.set()
            return False
    return True


def main():
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    schema.refuse_another(with_auth=False)
    turn = Turn(connect, float(os.environ["MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE"]))
    tell_systemd("READY=1\nSTATUS=Waits; another host runs the jobs")
    while not turn.take():
        if stop.wait(EVERY):
            return 0
    environment.set_internal_variables()
    # Each process of a job has few connections, of the database itself.
    os.environ.pop(environment.REPLICA, None)
    os.environ.pop("MLFLOW_READ_REPLICA_BACKEND_STORE_URI", None)
    os.environ.update(MLFLOW_SQLALCHEMYSTORE_POOL_SIZE="2", MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW="2")
    # Not a client's process, in which the code of users would be executed.
    os.environ.setdefault(jobs.BOOT, "mlflow-jobs")
    if why := moved(jobs.PATCH, known()):
        print(f"No job is run with this MLflow, which runs them in another way than this knows: {why}.", file=sys.stderr)
        return 1
    from mlflow_service.jobs.scorers import standing_in

    jobs.keep_code_out(standing_in)
    jobs.bound(int(os.environ.get("MLFLOW_SERVER_JOBS_AT_ONCE", "2")), "mlflow_service.jobs.job")
    kept = []
    watch = threading.Thread(target=lambda: kept.append(keep_turn(turn, stop)), daemon=True)
    watch.start()
    tell_systemd("STATUS=Runs the jobs")
    jobs.run(stop, ONLINE_EVERY)
    watch.join(EVERY + 1)
    return 0 if kept == [True] else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except psycopg2.Error as broken:
        sys.exit(f"The database broke off: {client.one_line(broken)}")
