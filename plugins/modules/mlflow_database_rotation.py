#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mlflow_database_rotation
short_description: The rotation of MLflow's password in PostgreSQL, step by step
version_added: "0.1.0"
description:
  - Two login roles take turns. A rotation gives the idle one a password, and when no session of the other can be used
    again, locks that.
  - One run at a time holds a lease, which is noted as the comment of the owner role, by the database's clock, and renewed by
    every step. A run that lost its lease is refused. C(site.yml) holds the same one while it works on the servers.
  - Which rotation a login role's password belongs to, and since when, is noted as the comment of that role, so that a step
    of an older rotation is refused. Notes and steps are one transaction.
  - Each step may be repeated, and is tried again while the server is away.
  - A role that can log in, has the password of another rotation and has sessions is in use. V(prepared) refuses it and names
    the sessions, before its password is changed. With O(emergency) it does not, since requests may fail then.
  - A session that holds an advisory lock is at something, for which it may have nothing to ask for long. It counts as busy.
  - Steps are taken one after the other. The lock for that is on a role that the module makes, named as O(owner) with C(_lock)
    behind it, which owns nothing and can't log in; only who administers it can lock it.
  - A step that another session blocks for 30 seconds fails and names that session. With O(emergency) sessions of O(logins)
    that block it are ended instead. A role may always change its own password, and holds a lock on itself until that is
    committed.
  - Works with an administrator that is no superuser, as the master user of Amazon RDS.
author:
  - the mlops.mlflow_aws contributors
extends_documentation_fragment:
  - mlops.mlflow_aws.postgresql
options:
  admin_user:
    description: The administrator, who needs C(CREATEROLE), and on RDS is a member of C(rds_superuser).
    type: str
    required: true
  admin_next_password:
    description: Tried where O(admin_password) is refused, since the administrator's own password may be under rotation.
    type: str
  patience:
    description:
      - For how many seconds a step is tried again while the server can't be reached, counted from when it last could.
      - A Multi-AZ failover takes up to two minutes.
    type: int
    default: 180
  insist:
    description: Try again also while the administrator's password is refused, which RDS takes a while to change.
    type: bool
    default: false
  database:
    description: MLflow's database.
    type: str
    required: true
  owner:
    description: The role that owns the database.
    type: str
    required: true
  logins:
    description: The two login roles.
    type: list
    elements: str
    required: true
  state:
    description:
      - With V(read) nothing is changed.
      - With V(begun) this run holds the lease. With O(active) and O(password) it is also tried whether that role logs in.
      - With V(renewed) this run still holds the lease, for O(lease_seconds) from now on. It is refused where somebody else has
        taken it, also if he has given it back since.
      - With V(prepared) the role O(active) can log in with O(password).
      - With V(retired) the role O(retiring) can't log in, has no password and no session.
      - With V(ended) this run holds no lease.
    type: str
    choices: [read, begun, renewed, prepared, retired, ended]
    default: read
  run:
    description: What tells this run from others. Needed for all states but V(read).
    type: str
  who:
    description: Who runs it, for the message that another run gives.
    type: str
    default: ""
  does:
    description: What it does, as the end of a sentence that begins with O(who).
    type: str
    default: rotates the password
  process:
    description: Its process on the controller, noted with the lease. Whether that has ended is not this module's to know.
    type: dict
    default: {}
  make_owner:
    description:
      - O(state=begun) makes O(owner) where there is none, which can't log in, since the lease is noted there. A role can be
        made once, so of two runs that find an empty server one takes the lease and the other one waits.
      - The roles of O(logins) may be missing then.
    type: bool
    default: false
  take_from:
    description:
      - The C(run) of the lease that O(state=begun) takes although it has not run out, since that run has ended or is to make
        way. The lease of any other run is left alone.
    type: str
    default: ""
  lease_seconds:
    description: For how long the lease holds from each step on.
    type: int
    default: 60
  lease_wait:
    description: For how many seconds O(state=begun) waits for the lease of another run. With 0 the answer says who has it.
    type: int
    default: 0
  version:
    description: The rotation. Needed for V(prepared) and V(retired).
    type: str
  created:
    description:
      - When it began, as seconds of the epoch. A later rotation fences off earlier ones.
      - Needed for V(prepared) and V(retired).
    type: float
  active:
    description:
      - The role that the rotation makes active. For V(begun) the one that is active now.
      - Needed for V(prepared) and V(retired).
    type: str
  retiring:
    description: The role that it retires. Needed for V(retired).
    type: str
  addresses:
    description:
      - The addresses of the hosts that have got the new login, as the database sees them.
      - A session of O(retiring) from another one is of a machine that was forgotten, and that would be without a login. It is
        not ended. If it is there for another 90 seconds, V(retired) fails, names it and locks nothing.
      - Where none is given, or with O(emergency), nobody asks where a session is from.
    type: list
    elements: str
    default: []
  left_out:
    description:
      - The addresses of hosts that have not got the new login and are to lose the old one. Their sessions are not waited for and
        are ended when O(retiring) is locked, whatever they do.
    type: list
    elements: str
    default: []
    version_added: "0.3.0"
  password:
    description: The new password, for V(prepared). For V(begun) the one that O(active) should have.
    type: str
  recycle:
    description: The age in seconds at which MLflow's pools replace a connection.
    type: int
    default: 60
  grace:
    description: How long a session must have been idle, besides having that age, before it may be ended.
    type: int
    default: 10
  drain_timeout:
    description: For how many seconds more than O(recycle) sessions that are busy are waited for.
    type: int
    default: 300
  emergency:
    description: Lock the retiring role and end its sessions at once, and end sessions of O(logins) that block a step.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would be done and changes nothing.
    support: full
  diff_mode:
    description: Not given; the list of actions says it all.
    support: none
"""

EXAMPLES = r"""
- name: Give the idle role the new password
  mlops.mlflow_aws.mlflow_database_rotation:
    host: db.example.com
    ca_path: /etc/ssl/mlflow-database-ca.pem
    admin_user: mlflow_admin
    admin_password: "{{ admin_password }}"
    database: mlflow
    owner: mlflow_owner
    logins: [mlflow_a, mlflow_b]
    state: prepared
    run: "{{ run }}"
    version: "{{ rotation.version }}"
    created: "{{ rotation.created }}"
    active: "{{ rotation.new.username }}"
    password: "{{ rotation.new.password }}"
  no_log: true
"""

RETURN = r"""
missing:
  description: The Python package that the module lacks.
  returned: when it lacks one
  type: str
  sample: psycopg2
actions:
  description: What was done, or in check mode would be done, in order.
  returned: always
  type: list
  elements: str
  sample: ["lock mlflow_a"]
admin_password:
  description: Which of the administrator's passwords was taken, V(current) or V(next).
  returned: when the server was reached
  type: str
login:
  description: Whether O(active) logs in with O(password), V(accepted), V(refused) or V(unknown).
  returned: with V(begun), where both are given
  type: str
held:
  description: Whether this run has the lease that it asked for.
  returned: when the server was reached
  type: bool
lease:
  description: Who holds the lease, as C(run), C(who), C(does), C(process), C(since) and C(until). Empty where nobody does.
  returned: when the server was reached
  type: dict
logins:
  description: Of each login role, whether it can log in, how many sessions it has, and the rotation of its password.
  returned: when the server was reached
  type: dict
"""

import contextlib
import threading
import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.mlflow_aws.plugins.module_utils import _postgresql as pg

# So many looks in a row, a second apart, have to find nobody busy: a login that is open for a moment only, of a job on a
# machine that was forgotten, say, is between two sessions in one of them.
CALM_LOOKS = 3

# For how long a statement may be blocked before somebody looks by whom; in an emergency at once.
PATIENT_SECONDS = 1
LOOK_SECONDS = 0.2
# For how long a machine that nobody knows may keep its sessions; those of one that lost its power are gone after a minute.
STRANGE_SECONDS = 90
# For how long the role that is to be locked may change itself at the same time.
COLLISIONS_SECONDS = 60

SESSIONS = """
SELECT pid, host(client_addr), state,
       extract(epoch FROM clock_timestamp() - backend_start)::float,
       extract(epoch FROM clock_timestamp() - state_change)::float, application_name,
       EXISTS (SELECT 1 FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted)
FROM pg_stat_activity a WHERE usename = %s AND backend_type = 'client backend' ORDER BY pid
"""

BLOCKERS = """
SELECT pid, usename::text, host(client_addr), datname::text FROM pg_stat_activity
WHERE pid = ANY (pg_blocking_pids(%s)) ORDER BY pid
"""


class Lost(pg.PostgresqlError):
    """This run may not go on."""


def doing(lease):
    """What the one who has a lease does; it may have been noted by a release that knew rotations only."""
    return lease.get("does") or "rotates the password"


class Session:
    """A session of a login role, as PostgreSQL shows it."""

    def __init__(self, pid, address, state, age, quiet, application="", has_lock=False):
        self.pid, self.address, self.state, self.age, self.quiet = pid, address, state, age, quiet
        self.application, self.has_lock = application, has_lock

    def __str__(self):
        lock = ", holding an advisory lock as mlflow-gc does," if self.has_lock else ""
        application = f", {self.application}" if self.application else ""
        return f"{self.state or 'unseen'} for {self.quiet or 0:.0f} s{lock} from {self.address}{application} (pid {self.pid})"

    def is_spent(self, recycle, grace):
        """
        Whether no pool will use it again.

        A pool replaces a connection that has the age when it is taken out. It is taken out for longer only while it is
        busy: idle it is for an instant, between the pool's ping and the first statement.
        """
        return self.state == "idle" and not self.has_lock and self.age > recycle + 1 and self.quiet > grace


class Watcher:
    """
    Sees from a second session who blocks the first one, and ends those sessions that belong to one of these roles.

    The first one can't: it waits. As soon as the one who blocks is gone, it is the first in the queue.
    """

    def __init__(self, pid, connect, ends=()):
        self.pid = pid
        self.connect = connect
        self.ends = ends
        self.blockers = {}
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.done.set()
        self.thread.join()

    def _watch(self):
        if self.done.wait(LOOK_SECONDS if self.ends else PATIENT_SECONDS):
            return
        # What is wrong with this session is no reason to stop the other one, which has its own limits.
        with contextlib.suppress(pg.PostgresqlError):
            session = self.connect()
            try:
                while True:
                    self.look(session)
                    if self.done.wait(LOOK_SECONDS):
                        return
            finally:
                session.close()

    def look(self, session):
        for pid, role, address, database in session.rows(BLOCKERS, (self.pid,)):
            self.blockers[pid] = f"pid {pid} of {role} from {address or 'an unknown address'} in {database}"
            if role in self.ends:
                session.rows("SELECT pg_terminate_backend(%s)", (pid,))

    def __str__(self):
        # A prepared transaction has no session.
        return "; ".join(self.blockers.values()) or "nobody who can be seen (is there something in pg_prepared_xacts?)"


class Steps:
    """The steps on one connection; each looks first, and does what is not done yet."""

    def __init__(self, params, session, check_mode=False, connect=pg.connect, sleep=time.sleep, clock=time.monotonic):
        self.params = params
        self.session = session
        self.check_mode = check_mode
        self.connect = connect
        self.sleep = sleep
        self.clock = clock
        self.actions = []
        # When the server was last seen to do what it was asked.
        self.reached = None
        # The name is cut off by us, since PostgreSQL would cut it off to that of the owner.
        self.lock = f"{params['owner'][:58]}_lock"

    def now(self):
        return float(self.session.value("SELECT extract(epoch FROM clock_timestamp())"))

    def roles(self):
        """The login roles and what is noted of them."""
        rows = self.session.rows(
            "SELECT r.rolname, r.rolcanlogin, (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid) "
            "FROM pg_roles r WHERE r.rolname = ANY (%s)",
            ([self.params["owner"], *self.params["logins"]],),
        )
        found = {name: {"can_login": can, "sessions": int(sessions)} for name, can, sessions in rows}
        missing = [name for name in (self.params["owner"], *self.params["logins"]) if name not in found]
        if missing and not self.params["make_owner"]:
            raise pg.PostgresqlError(f"There is no role {' and no role '.join(missing)} in the database; run site.yml first.")
        there = [name for name in self.params["logins"] if name in found]
        return {name: {**found[name], "rotation": self.session.note_of(name)} for name in there}

    # --- the lease ---

    def make_owner(self):
        """On an empty server there is nothing yet that a lease could be noted on."""
        owner = self.params["owner"]
        if not self.params["make_owner"] or self.check_mode or self._is_there(owner):
            return
        self._make(owner, f"create role {owner}")

    def lease(self):
        """Who holds it now; nobody when it has run out."""
        note = self.session.note_of(self.params["owner"]).get("lease") or {}
        return note if note and (note["until"] > self.now() or note["run"] == self.params["run"]) else {}

    def take_lease(self):
        """Take it, wait for it, or return who has it."""
        deadline = self.clock() + self.params["lease_wait"]
        while True:
            with self.exclusive():
                lease = self.lease()
                if not lease or lease["run"] in (self.params["run"], self.params["take_from"]):
                    mine = lease.get("run") == self.params["run"]
                    if not self.check_mode:
                        taken = lease.get("taken_from", "") if mine else lease.get("run", "")
                        self._write_lease(lease["since"] if mine else self.now(), taken)
                    return True
            if self.clock() >= deadline:
                return False
            self.sleep(1)

    def _write_lease(self, since, taken_from=""):
        now = self.now()
        lease = {
            "run": self.params["run"],
            "who": self.params["who"],
            "does": self.params["does"],
            "process": self.params["process"],
            "since": since,
            "until": now + self.params["lease_seconds"],
        }
        # Who has lost it shall be told to whom, also after it was given back.
        if taken_from:
            lease["taken_from"] = taken_from
        self.session.write_note(self.params["owner"], {"lease": lease})

    def renew_lease(self):
        """One that has run out and that nobody has taken is still this run's."""
        note = self.session.note_of(self.params["owner"])
        lease = note.get("lease") or {}
        if lease.get("run") != self.params["run"]:
            other = lease or note.get("last") or {}
            if other.get("taken_from") == self.params["run"]:
                why = f"{other['who']}, who {doing(other)} since {pg.moment(other['since'])}, took it over."
            else:
                why = "It stood still for longer than that held." + (f" {other['who']} has gone on with it." if other else "")
            raise Lost(f"This run lost its lease. {why} Nothing was changed by this step. Run it again.")
        if not self.check_mode:
            self._write_lease(lease["since"], lease.get("taken_from", ""))

    def drop_lease(self):
        with self.exclusive():
            lease = self.session.note_of(self.params["owner"]).get("lease") or {}
            if lease.get("run") == self.params["run"] and not self.check_mode:
                self.session.write_note(self.params["owner"], {"last": lease} if lease.get("taken_from") else None)

    @contextlib.contextmanager
    def exclusive(self):
        """
        A transaction, while no other run is in one; and nobody else can keep it from being the next.

        The right to connect to the administrator's database is left to PUBLIC: nothing there is worth a lock any more, and
        a monitoring agent or a backup that has nothing but this right would be shut out.
        """
        if not self._is_there(self.lock):
            if self.check_mode:
                # It would be made; without it there is nothing to be seen that another run could not change.
                yield
                return
            self._make(self.lock, f"make {self.lock}, which only the administrator can lock")
        with self._watched(), self.session.transaction(lock=self.lock):
            yield
        self.reached = self.clock()

    @contextlib.contextmanager
    def _watched(self):
        ends = self.params["logins"] if self.params["emergency"] and not self.check_mode else ()
        with Watcher(self.session.pid, lambda: admin_session(self.params, self.connect)[0], ends) as watcher:
            try:
                yield
            except pg.Blocked as error:
                raise pg.Blocked(
                    f"Another session has blocked this step for {pg.LOCK_SECONDS} s: {watcher}. Nothing was changed by it. End "
                    "that session and run this again"
                    + ("." if ends else ", or with -e rotate_emergency=true, which ends it where it is MLflow's login's.")
                ) from error

    def _is_there(self, role):
        return self.session.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", (role,)) == 1

    def _make(self, role, action):
        try:
            self.session.do("CREATE ROLE {} NOLOGIN", [role])
        except pg.PostgresqlError:
            # Another run may have made it in the same moment.
            if not self._is_there(role):
                raise
        else:
            self.actions.append(action)

    # --- the steps ---

    def prepare(self):
        """The idle role logs in with the new password."""
        active = self.params["active"]
        with self.exclusive():
            if not self.check_mode:
                self.renew_lease()
            roles = self.roles()
            self._refuse_older(roles)
            mine = roles[active]["rotation"].get("version") == self.params["version"]
            if mine and roles[active]["can_login"] and self._logs_in():
                return
            if not mine and roles[active]["can_login"] and not self.params["emergency"]:
                self._refuse_in_use(active)
            self.actions.append(f"give {active} a new password and let it log in")
            if self.check_mode:
                return
            verifier = self.session.verifier(active, self.params["password"])
            self.session.do("ALTER ROLE {} LOGIN PASSWORD %s", [active], (verifier,))
            self.session.write_note(
                active, {"version": self.params["version"], "created": self.params["created"], "set": self.now()}
            )

    def _refuse_in_use(self, role):
        """It should be idle. Whoever has it open would be without a login as soon as it has another password."""
        sessions = self.sessions_of(role)
        if sessions:
            raise pg.PostgresqlError(
                f"{role} should be the idle role, and somebody depends on it: {'; '.join(map(str, sessions))}. Its password was "
                "not changed. Run site.yml, which gives every host the current login, and then this again. A session that is "
                "left after that is of a machine that is not in the inventory, or one that its pool has not asked for since: "
                "systemctl start mlflow-handover on its host replaces those."
            )

    def login(self):
        """Whether the active role has the password that it should have; it may have changed that itself."""
        if not self.params["active"] or not self.params["password"]:
            return {}
        try:
            return {"login": "accepted" if self._logs_in() else "refused"}
        except pg.ConnectionLost:
            # The steps themselves tell when the server is away. This is only to be told, so it stops nobody.
            return {"login": "unknown"}

    def _logs_in(self):
        try:
            self.connect(self.params, self.params["active"], self.params["password"], self.params["database"]).close()
        except pg.WrongPassword:
            return False
        return True

    def _refuse_older(self, roles):
        mine = (self.params["created"], self.params["version"])
        for name, role in roles.items():
            note = role["rotation"]
            if note and (note.get("created", 0), note.get("version", "")) > mine:
                raise Lost(
                    f"{name} has the password of a later rotation ({note.get('version')}); this one "
                    f"({self.params['version']}) is over. Nothing was changed by this step. Run it again."
                )

    def retire(self):
        """The old role is locked, when no session of it will be used again, and its sessions are gone."""
        old = self.params["retiring"]
        if self.check_mode:
            self._lock(old)
            return
        begun = self.clock()
        deadline = begun + self.params["recycle"] + self.params["drain_timeout"]
        busy, calm = [], 0
        while not self.params["emergency"]:
            self.step_in_lease()
            sessions = [session for session in self.sessions_of(old) if session.address not in self.params["left_out"]]
            late = [session for session in sessions if session.age < self.clock() - begun - 1]
            if late:
                raise pg.PostgresqlError(
                    f"{old} is not locked: it was logged in again after every host had got its new login, from "
                    f"{', '.join(sorted({str(session.address) for session in late}))}. That machine has the old service "
                    "file; is it in the inventory, and did something else write the file? Run site.yml, then this again."
                )
            strange = [session for session in sessions if self._is_strange(session)]
            if strange and self.clock() > min(begun + STRANGE_SECONDS, deadline):
                raise pg.PostgresqlError(
                    f"{old} is not locked: it has sessions from a machine that is not in the inventory: "
                    f"{'; '.join(map(str, strange))}. With the role it would lose its login. Add it to the inventory, or end "
                    "what logs in there, and run this again; with -e rotate_emergency=true its sessions are ended."
                )
            busy = [
                session
                for session in sessions
                if session in strange or not session.is_spent(self.params["recycle"], self.params["grace"])
            ]
            calm = 0 if busy else calm + 1
            if calm == CALM_LOOKS or self.clock() > deadline:
                break
            self.sleep(1)
        self._lock(old)
        if not busy:
            self._end_sessions(old)
            return
        # The old password is dead from here on; only what was open goes on, and not where the login was to be lost.
        self._end_once(session for session in self.sessions_of(old) if session.address in self.params["left_out"])
        raise pg.PostgresqlError(
            f"{old} is locked, but {len(busy)} of its sessions stayed busy for {deadline - begun:.0f} s and were not ended: "
            f"{'; '.join(map(str, busy))}. Run it again when they are done."
        )

    def step_in_lease(self):
        with self.exclusive():
            self.renew_lease()

    def _is_strange(self, session):
        """One through a socket has no address, and is the database's own host's."""
        return bool(self.params["addresses"] and session.address and session.address not in self.params["addresses"])

    def sessions_of(self, role):
        return [Session(*row) for row in self.session.rows(SESSIONS, (role,))]

    def _lock(self, old):
        deadline = self.clock() + COLLISIONS_SECONDS
        while True:
            if self.params["emergency"] and not self.check_mode:
                # Those that have locked their own role, or change their password again and again.
                self._end_once(self.sessions_of(old))
            try:
                return self._lock_once(old)
            except pg.Collision as error:
                if self.clock() > deadline:
                    raise pg.PostgresqlError(
                        f"{old} is changed by another session again and again, so it could not be locked: {error}"
                    ) from error
                self.sleep(0.1)

    def _lock_once(self, old):
        with self.exclusive():
            if not self.check_mode:
                self.renew_lease()
            roles = self.roles()
            if not self.check_mode:
                self._refuse_older(roles)
                noted = roles[self.params["active"]]["rotation"].get("version")
                if noted != self.params["version"]:
                    raise Lost(
                        f"{self.params['active']} has the password of another rotation ({noted or 'unknown'}) than this one "
                        f"({self.params['version']}), so {old} was not locked. Run it again."
                    )
            if not roles[old]["can_login"]:
                return
            if not self.check_mode:
                self.session.do("ALTER ROLE {} NOLOGIN PASSWORD NULL", [old])
            self.actions.append(f"lock {old} and forget its password")

    def _end_sessions(self, old):
        """Those that are there are spent or, in an emergency, unwanted; the role can't make new ones."""
        deadline = self.clock() + 20
        while True:
            sessions = self.sessions_of(old)
            if not sessions:
                return
            if self.clock() > deadline:
                raise pg.PostgresqlError(f"Sessions of {old} did not end: {'; '.join(map(str, sessions))}. Run it again.")
            action = f"end the sessions of {old}"
            if action not in self.actions:
                self.actions.append(action)
            self._end_once(sessions)
            self.sleep(0.2)

    def _end_once(self, sessions):
        for session in sessions:
            self.session.rows("SELECT pg_terminate_backend(%s)", (session.pid,))


def admin_session(params, connect=pg.connect):
    """A session of the administrator, and which of its passwords that took."""
    try:
        return connect(params, params["admin_user"], params["admin_password"], params["admin_database"]), "current"
    except pg.WrongPassword:
        if not params["admin_next_password"]:
            raise
    return connect(params, params["admin_user"], params["admin_next_password"], params["admin_database"]), "next"


def run(params, check_mode, steps=Steps, connect=pg.connect, sleep=time.sleep, clock=time.monotonic):
    """Do the asked step; again and again while the server is away."""
    seen = clock()
    actions = []
    while True:
        taken = None
        try:
            session, password = admin_session(params, connect)
            try:
                taken = steps(params, session, check_mode, connect, sleep, clock)
                return _run_once(taken, password, actions)
            finally:
                session.close()
        except (pg.ConnectionLost, pg.WrongPassword) as error:
            # A step may have waited for sessions for longer than anybody is patient before the server went away.
            seen = max(seen, (taken and taken.reached) or seen)
            if clock() > seen + params["patience"] or (isinstance(error, pg.WrongPassword) and not params["insist"]):
                raise
            sleep(1)


def _run_once(steps, password, actions):
    steps.actions = actions
    state = steps.params["state"]
    held, login = True, {}
    if state == "begun":
        steps.make_owner()
        steps.roles()
        held = steps.take_lease()
        login = steps.login()
    elif state == "renewed":
        steps.step_in_lease()
    elif state == "prepared":
        steps.prepare()
    elif state == "retired":
        steps.retire()
    elif state == "ended":
        steps.drop_lease()
    lease = steps.lease()
    lease = lease and {**lease, "does": doing(lease), "since": pg.moment(lease["since"]), "until": pg.moment(lease["until"])}
    return {
        "actions": actions,
        "admin_password": password,
        "held": held,
        "lease": lease,
        "logins": steps.roles(),
        **login,
    }


def main():
    module = AnsibleModule(
        argument_spec={
            **pg.CONNECTION_SPEC,
            "admin_next_password": {"type": "str", "no_log": True},
            "patience": {"type": "int", "default": 180},
            "insist": {"type": "bool", "default": False},
            "database": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "logins": {"type": "list", "elements": "str", "required": True},
            "state": {
                "type": "str",
                "default": "read",
                "choices": ["read", "begun", "renewed", "prepared", "retired", "ended"],
            },
            "run": {"type": "str"},
            "who": {"type": "str", "default": ""},
            "does": {"type": "str", "default": "rotates the password"},
            "process": {"type": "dict", "default": {}},
            "make_owner": {"type": "bool", "default": False},
            "take_from": {"type": "str", "default": ""},
            "lease_seconds": {"type": "int", "default": 60},
            "lease_wait": {"type": "int", "default": 0},
            "version": {"type": "str"},
            "created": {"type": "float"},
            "active": {"type": "str"},
            "retiring": {"type": "str"},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "left_out": {"type": "list", "elements": "str", "default": []},
            "password": {"type": "str", "no_log": True},
            "recycle": {"type": "int", "default": 60},
            "grace": {"type": "int", "default": 10},
            "drain_timeout": {"type": "int", "default": 300},
            "emergency": {"type": "bool", "default": False},
        },
        required_if=[
            ("state", "begun", ["run"]),
            ("state", "renewed", ["run"]),
            ("state", "prepared", ["run", "version", "created", "active", "password"]),
            ("state", "retired", ["run", "version", "created", "active", "retiring"]),
            ("state", "ended", ["run"]),
        ],
        supports_check_mode=True,
    )
    params = module.params
    for option, names in (("active", [params["active"]]), ("retiring", [params["retiring"]])):
        if names[0] and names[0] not in params["logins"]:
            module.fail_json(msg=f"{option} is '{names[0]}'; it must be one of {params['logins']}.")
    if params["active"] and params["active"] == params["retiring"]:
        module.fail_json(msg=f"active and retiring are both '{params['active']}'; they must differ.")
    if pg.psycopg2 is None:
        module.fail_json(
            msg=missing_required_lib("psycopg2"), exception=str(pg.PSYCOPG2_IMPORT_ERROR), missing="psycopg2"
        )
    try:
        result = run(params, module.check_mode)
    except pg.WrongPassword as error:
        module.fail_json(msg=f"{params['admin_user']} can't log in to {params['host']}:{params['port']}: {error}")
    except pg.ConnectionLost as error:
        module.fail_json(msg=f"The database {params['host']}:{params['port']} could not be reached: {error}")
    except pg.PostgresqlError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(result["actions"]), **result)


if __name__ == "__main__":
    main()
