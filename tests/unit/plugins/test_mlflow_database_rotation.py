# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The decisions of a rotation's steps, against a database that only pretends."""

from __future__ import annotations

import contextlib
import json
import threading

import psycopg
import pytest
from ansible.module_utils.testing import patch_module_args
from plugin_support import plugin

PARAMS = {
    "host": "db",
    "port": 5432,
    "admin_user": "admin",
    "admin_password": "now",
    "admin_next_password": None,
    "admin_database": "postgres",
    "patience": 5,
    "insist": False,
    "database": "mlflow",
    "owner": "mlflow_owner",
    "logins": ["mlflow_a", "mlflow_b"],
    "state": "read",
    "run": "me",
    "who": "me@here",
    "does": "rotates the password",
    "process": {},
    "make_owner": False,
    "take_from": "",
    "lease_seconds": 60,
    "lease_wait": 0,
    "version": "v2",
    "created": 200.0,
    "active": "mlflow_b",
    "retiring": "mlflow_a",
    "addresses": [],
    "left_out": [],
    "password": "new",
    "recycle": 60,
    "grace": 10,
    "drain_timeout": 30,
    "emergency": False,
}


class Second:
    """A second session: who blocks the first one, and what becomes of them."""

    def __init__(self):
        self.blockers = []
        self.ended = []
        self.on_end = None

    def rows(self, statement, parameters=None):
        if "pg_blocking_pids" in statement:
            return list(self.blockers)
        assert "pg_terminate_backend" in statement
        self.ended.append(parameters[0])
        self.blockers = [row for row in self.blockers if row[0] != parameters[0]]
        if not self.blockers and self.on_end:
            self.on_end()
        return [(True,)]

    def close(self):
        pass


class Database:
    """What a Session of _postgresql offers, over a few dictionaries and a clock that sleeping moves."""

    def __init__(self):
        self.time = 1000.0
        self.notes = {"mlflow_a": {"version": "v1", "created": 100.0}}
        self.login = {"mlflow_owner": False, "mlflow_a": True, "mlflow_b": False}
        self.passwords = {"mlflow_a": "old"}
        self.sessions = []
        self.ended = []
        self.statements = []
        self.second = Second()
        self.lock_is_there = True
        self.blocked = None
        self.collisions = 0
        self.pid = 1

    def note_of(self, role):
        return self.notes.get(role, {})

    def write_note(self, role, note):
        self.notes[role] = note or {}

    @contextlib.contextmanager
    def transaction(self, lock=None):
        assert lock == "mlflow_owner_lock" and self.lock_is_there
        if self.blocked:
            # As the first statement that needs the lock does, which waits until it is free or its time is over.
            self.blocked.wait(5)
            if not self.blocked.is_set():
                raise plugin("module_utils", "_postgresql").Blocked("canceling statement due to lock timeout")
        yield

    def verifier(self, role, password):
        return password

    def value(self, statement, parameters=None):
        if "pg_roles" in statement:
            (role,) = parameters
            return int(self.lock_is_there if role == "mlflow_owner_lock" else role in self.login)
        assert "clock_timestamp" in statement
        return self.time

    def rows(self, statement, parameters=None):
        if "pg_terminate_backend" in statement:
            self.ended.append(parameters[0])
            self.sessions = [row for row in self.sessions if row[0] != parameters[0]]
            return [(True,)]
        if "FROM pg_roles" in statement:
            return [(name, can, len(self.sessions)) for name, can in self.login.items() if name in parameters[0]]
        return [self.aged(row) for row in self.sessions if row[1] == parameters[0]]

    def aged(self, row):
        pid, _role, state, began, changed, *lock = row
        return pid, "10.0.0.1", state, self.time - began, self.time - changed, "mlflow", bool(lock)

    def do(self, statement, names=(), parameters=None):
        self.statements.append(statement)
        if self.collisions and "NOLOGIN PASSWORD NULL" in statement:
            self.collisions -= 1
            raise plugin("module_utils", "_postgresql").Collision("tuple concurrently updated")
        if statement.startswith("CREATE ROLE {} NOLOGIN"):
            (role,) = names
            if role == "mlflow_owner_lock":
                self.lock_is_there = True
            else:
                assert role == "mlflow_owner" and role not in self.login
                self.login[role] = False
        elif statement.startswith("ALTER ROLE {} LOGIN"):
            self.login[names[0]], self.passwords[names[0]] = True, parameters[0]
        elif statement.startswith("ALTER ROLE {} NOLOGIN PASSWORD NULL"):
            self.login[names[0]] = False
            self.passwords.pop(names[0], None)
        else:
            raise AssertionError(statement)

    def sleep(self, seconds):
        self.time += seconds

    def close(self):
        pass


@pytest.fixture
def database():
    return Database()


@pytest.fixture
def steps(database):
    module = plugin("modules", "mlflow_database_rotation")

    def connect(params, user, password, _database):
        if user == params["admin_user"]:
            return database.second
        if database.passwords.get(user) != password:
            raise module.pg.WrongPassword("password authentication failed")
        return database

    def make(check_mode=False, lease=True, **params):
        made = module.Steps(
            {**PARAMS, **params}, database, check_mode, connect=connect, sleep=database.sleep, clock=lambda: database.time
        )
        if lease:
            assert made.take_lease()
        return made

    make.error = module.pg.PostgresqlError
    return make


def test_one_run_at_a_time(steps, database):
    steps(run="other", who="she@there")
    mine = steps(lease=False)
    assert not mine.take_lease()
    assert mine.lease()["who"] == "she@there"
    # It waits, and has it when the other one gives no sign of life.
    waits = steps(lease=False, lease_wait=100)
    assert waits.take_lease() and 1059 < database.time < 1062
    with pytest.raises(steps.error, match="lost its lease.*me@here has gone on"):
        steps(lease=False, run="other").prepare()
    assert database.passwords == {"mlflow_a": "old"}
    waits.drop_lease()
    assert database.notes["mlflow_owner"] == {}
    with pytest.raises(steps.error, match="lost its lease"):
        waits.prepare()


def test_a_lease_that_ran_out_and_that_nobody_has_taken_is_renewed(steps, database):
    mine = steps(lease_seconds=5)
    since = mine.lease()["since"]
    database.time += 100
    mine.step_in_lease()
    assert mine.lease() == {**mine.lease(), "since": since, "until": database.time + 5}


@pytest.mark.parametrize("other", ["a run before", "the run after"])
def test_a_lease_of_another_run_that_ran_out_is_nobodys(steps, database, other):
    theirs = steps(run=other, lease_seconds=5)
    database.time += 4
    assert steps(lease=False).lease()["run"] == other
    database.time += 1
    assert steps(lease=False).lease() == {} and theirs.lease()["run"] == other


def test_a_lease_is_taken_only_from_the_run_that_is_named(steps, database):
    site = steps(run="other", who="she@there", does="runs site.yml", lease_seconds=600)
    assert not steps(lease=False, take_from="a third").take_lease()
    assert steps(lease=False, take_from="other").take_lease()
    with pytest.raises(steps.error, match="lost its lease. me@here, who rotates the password since .* took it over"):
        site.step_in_lease()
    # Also when it was given back since; without that it would go on with what it has read before.
    steps(lease=False).drop_lease()
    assert steps(lease=False).lease() == {}
    with pytest.raises(steps.error, match="lost its lease. me@here, who rotates the password since .* took it over"):
        site.step_in_lease()
    # That is told of the last one only, and keeps nobody out.
    assert steps(lease=False, run="third").take_lease()
    steps(lease=False, run="third").drop_lease()
    assert database.notes["mlflow_owner"] == {}


def test_a_renewal_keeps_from_whom_the_lease_was_taken(steps, database):
    site = steps(run="other", does="runs site.yml", lease_seconds=600)
    mine = steps(take_from="other")
    mine.step_in_lease()
    assert steps(lease=False).take_lease()
    with pytest.raises(steps.error, match="took it over"):
        site.step_in_lease()


def test_a_lease_that_nobody_has_is_not_renewed(steps, database):
    mine = steps()
    mine.drop_lease()
    with pytest.raises(steps.error, match="lost its lease"):
        mine.step_in_lease()
    assert database.notes["mlflow_owner"] == {}


def begun(database, **params):
    module = plugin("modules", "mlflow_database_rotation")
    asked = {**PARAMS, "active": "", "password": None, "state": "begun", **params}
    return module.run(asked, False, connect=lambda *_: database, sleep=database.sleep, clock=lambda: database.time)


def test_on_an_empty_server_the_role_is_made_that_the_lease_is_noted_on(steps, database):
    database.login, database.passwords, database.lock_is_there = {}, {}, False
    with pytest.raises(steps.error, match="no role mlflow_owner"):
        begun(database)
    first = begun(database, make_owner=True, does="runs site.yml")
    assert first["held"] and first["actions"][0] == "create role mlflow_owner" and first["logins"] == {}
    # Another first run, which has found no role either.
    seen = database.value
    database.value = lambda statement, parameters=None: (
        0 if parameters == ("mlflow_owner",) and "pg_roles" in statement and not database.statements.count("late")
        else seen(statement, parameters)
    )  # fmt: skip
    do = database.do

    def late(statement, names=(), parameters=None):
        if names == ["mlflow_owner"]:
            database.statements.append("late")
            raise plugin("module_utils", "_postgresql").PostgresqlError("role already exists")
        do(statement, names, parameters)

    database.do = late
    second = begun(database, make_owner=True, run="other", does="runs site.yml")
    assert not second["held"] and second["lease"]["run"] == "me" and second["lease"]["does"] == "runs site.yml"


def test_a_lease_of_an_earlier_release_is_a_rotation(steps, database):
    database.notes["mlflow_owner"] = {"lease": {"run": "old", "who": "she@there", "since": 990.0, "until": 1050.0}}
    answer = begun(database)
    assert not answer["held"] and answer["lease"]["does"] == "rotates the password"


def test_giving_back_a_lease_of_another_run_does_nothing(steps, database):
    steps(run="other", who="she@there")
    steps(lease=False).drop_lease()
    assert steps(lease=False).lease()["who"] == "she@there"


def test_prepare_and_again(steps, database):
    first = steps()
    first.prepare()
    assert first.actions and database.login["mlflow_b"] and database.passwords["mlflow_b"] == "new"
    assert database.notes["mlflow_b"]["version"] == "v2"
    again = steps()
    again.prepare()
    assert not again.actions
    # Locked by somebody meanwhile, or with another password: it is put right.
    database.login["mlflow_b"] = False
    steps().prepare()
    assert database.login["mlflow_b"]
    database.passwords["mlflow_b"] = "strange"
    steps().prepare()
    assert database.passwords["mlflow_b"] == "new"


def test_a_role_that_is_in_use_gets_no_other_password(steps, database):
    """It should be idle. site.yml has unlocked it, say, and every host depends on it."""
    database.login["mlflow_b"], database.passwords["mlflow_b"] = True, "in use"
    database.notes["mlflow_b"] = {"version": "v0", "created": 50.0}
    database.sessions = [(5, "mlflow_b", "idle", 100.0, 900.0)]
    for check_mode in (False, True):
        with pytest.raises(steps.error, match=r"somebody depends on it: idle for 100 s from 10.0.0.1, mlflow \(pid 5\)"):
            steps(check_mode).prepare()
    assert database.statements == [] and database.passwords["mlflow_b"] == "in use"
    # One that can't log in has sessions of before, which go on.
    database.login["mlflow_b"] = False
    steps().prepare()
    assert database.passwords["mlflow_b"] == "new"
    # Its own sessions don't hold up the rotation that it belongs to.
    database.passwords["mlflow_b"] = "strange"
    steps().prepare()
    assert database.passwords["mlflow_b"] == "new"


def test_in_an_emergency_nobody_holds_up_the_new_password(steps, database):
    database.login["mlflow_b"], database.passwords["mlflow_b"] = True, "in use"
    database.sessions = [(5, "mlflow_b", "idle", 100.0, 900.0)]
    steps(emergency=True).prepare()
    assert database.passwords["mlflow_b"] == "new"


def test_a_rotation_that_is_over_is_fenced_off(steps, database):
    database.notes["mlflow_a"] = {"version": "v3", "created": 300.0}
    for step in ("prepare", "retire"):
        with pytest.raises(steps.error, match="later rotation"):
            getattr(steps(), step)()
    assert database.statements == []


def test_retire_wants_the_active_role_to_carry_this_rotation(steps, database):
    database.notes["mlflow_b"] = {"version": "v0", "created": 50.0}
    with pytest.raises(steps.error, match="another rotation .v0."):
        steps().retire()
    assert database.login["mlflow_a"]


def test_retire_wants_this_rotation_and_no_higher_version_of_before(steps, database):
    database.notes["mlflow_b"] = {"version": "v9", "created": 50.0}
    with pytest.raises(steps.error, match="another rotation .v9. than this one .v2., so mlflow_a was not locked"):
        steps().retire()
    database.notes["mlflow_b"] = {}
    with pytest.raises(steps.error, match="another rotation .unknown."):
        steps().retire()
    assert database.login["mlflow_a"] and database.statements == []


@pytest.mark.parametrize(
    "state, age, quiet, has_lock, spent",
    [
        ("idle", 62.0, 11.0, False, True),
        ("idle", 61.0, 11.0, False, False),
        # Just as long as a pool may have it in its hands.
        ("idle", 62.0, 10.0, False, False),
        ("idle", 62.0, 11.0, True, False),
        ("active", 62.0, 11.0, False, False),
        ("idle in transaction", 62.0, 11.0, False, False),
    ],
)
def test_which_session_no_pool_uses_again(state, age, quiet, has_lock, spent):
    session = plugin("modules", "mlflow_database_rotation").Session(1, "10.0.0.1", state, age, quiet, "", has_lock)
    assert session.is_spent(60, 10) == spent


def test_a_session_is_told_in_words():
    session = plugin("modules", "mlflow_database_rotation").Session
    assert str(session(7, "10.0.0.1", "idle", 9, 3.4, "mlflow-gc", True)) == (
        "idle for 3 s, holding an advisory lock as mlflow-gc does, from 10.0.0.1, mlflow-gc (pid 7)"
    )
    assert str(session(7, None, None, None, None)) == "unseen for 0 s from None (pid 7)"


def retiring(steps, database, **params):
    made = steps(**params)
    made.prepare()
    made.actions.clear()
    return made


def test_retire_waits_until_no_pool_uses_a_session_again(steps, database):
    made = retiring(steps, database)
    # Idle for long, but young: a pool may take it out again until it has the age.
    database.sessions = [(1, "mlflow_a", "idle", 990.0, 990.0)]
    made.retire()
    assert database.ended == [1] and database.time > 990 + 61
    assert not database.login["mlflow_a"] and "mlflow_a" not in database.passwords
    assert made.actions == ["lock mlflow_a and forget its password", "end the sessions of mlflow_a"]
    again = steps()
    again.retire()
    assert not again.actions


def test_an_old_and_idle_session_is_ended_after_a_few_looks(steps, database):
    made = retiring(steps, database)
    database.sessions = [(1, "mlflow_a", "idle", 100.0, 900.0)]
    made.retire()
    assert database.ended == [1] and database.time < 1004


def test_logins_that_come_and_go_are_seen_although_the_first_look_finds_none(steps, database):
    made = retiring(steps, database)
    sleep = database.sleep
    looks = []

    def come_and_go(seconds):
        sleep(seconds)
        looks.append(database.time)
        # Every second look falls between two of them.
        began = database.time - 0.3
        database.sessions = [(len(looks), "mlflow_a", "idle", began, began)] if len(looks) % 2 == 0 else []

    made.sleep = come_and_go
    with pytest.raises(steps.error, match="is not locked: it was logged in again.*10.0.0.1"):
        made.retire()
    assert database.login["mlflow_a"] and database.ended == []


def test_busy_sessions_are_waited_for_and_never_ended(steps, database):
    made = retiring(steps, database)
    database.sessions = [(7, "mlflow_a", "idle in transaction", 100.0, 900.0), (8, "mlflow_a", "idle", 100.0, 900.0)]
    with pytest.raises(steps.error, match="locked, but 1 of its sessions stayed busy for 90 s.*pid 7"):
        made.retire()
    assert database.ended == [] and not database.login["mlflow_a"]


def test_a_session_with_an_advisory_lock_is_busy(steps, database):
    """That of mlflow-gc has nothing to ask while objects are deleted."""
    made = retiring(steps, database)
    database.sessions = [(7, "mlflow_a", "idle", 100.0, 900.0, "lock")]
    with pytest.raises(steps.error, match="1 of its sessions stayed busy .*idle for .*advisory lock.*mlflow .pid 7"):
        made.retire()
    assert database.ended == []


@pytest.mark.parametrize(
    ("statement", "locked"),
    [("SELECT 1", False), ("SELECT pg_advisory_lock(4711)", True), ("SELECT pg_try_advisory_lock(1, 2)", True),
     # Everybody holds one of those in a transaction; it is nothing that somebody is at.
     ("CREATE TABLE of_somebody (x int)", False)],
)  # fmt: skip
def test_postgresql_tells_which_session_holds_an_advisory_lock(server, statement, locked):
    module = plugin("modules", "mlflow_database_rotation")
    with psycopg.connect(host=str(server), user="mlflow", dbname="postgres") as other:
        other.execute(statement)
        if "advisory" in statement:
            other.commit()
        with psycopg.connect(host=str(server), user="mlflow", dbname="postgres") as look:
            rows = look.execute(module.SESSIONS, ("mlflow",)).fetchall()
        found = {row[0]: module.Session(*row) for row in rows}
        session = found[other.info.backend_pid]
        assert session.has_lock == locked
        assert session.state == ("idle" if locked else "idle in transaction")


def test_a_session_from_a_machine_that_nobody_knows_is_named_and_not_ended(steps, database):
    """It is idle, and so old that no pool of ours would use it: it looks like one that is spent."""
    made = retiring(steps, database, addresses=["10.0.0.2", "10.0.0.3"])
    database.sessions = [(7, "mlflow_a", "idle", 100.0, 900.0)]
    with pytest.raises(steps.error, match="is not locked: .* not in the inventory: idle for .*10.0.0.1, mlflow .pid 7"):
        made.retire()
    assert database.ended == [] and database.login["mlflow_a"]


@pytest.mark.parametrize(
    "given", [{"addresses": ["10.0.0.1"]}, {"addresses": []}, {"addresses": ["10.0.0.2"], "emergency": True}]
)
def test_where_nobody_is_strange_or_nobody_asks_the_role_is_locked(steps, database, given):
    made = retiring(steps, database, **given)
    database.sessions = [(7, "mlflow_a", "idle", 100.0, 900.0)]
    made.retire()
    assert database.ended == [7] and not database.login["mlflow_a"]


@pytest.mark.parametrize("state, age, idle", [("idle", 0.5, 0.5), ("active", 100.0, 900.0), ("idle", 100.0, 900.0)])
def test_a_host_that_is_to_lose_its_login_is_not_waited_for(steps, database, state, age, idle):
    """It serves on where only the controller does not reach it, and its pools log in again and again."""
    made = retiring(steps, database, addresses=["10.0.0.2"], left_out=["10.0.0.1"])
    begin = database.time
    database.sessions = [(7, "mlflow_a", state, age, idle)]
    made.retire()
    assert database.ended == [7] and not database.login["mlflow_a"]
    assert database.time < begin + 10


def test_a_stranger_is_named_though_another_one_is_to_lose_his_login(steps, database):
    made = retiring(steps, database, addresses=["10.0.0.2"], left_out=["10.0.0.3"])
    database.sessions = [(7, "mlflow_a", "idle", 100.0, 900.0)]
    with pytest.raises(steps.error, match="not in the inventory: .*10.0.0.1"):
        made.retire()
    assert database.ended == [] and database.login["mlflow_a"]


def test_sessions_of_a_machine_that_lost_its_power_are_waited_for(steps, database):
    made = retiring(steps, database, addresses=["10.0.0.2"], drain_timeout=300)
    begin, sleep = database.time, database.sleep
    database.sessions = [(7, "mlflow_a", "idle", 100.0, 900.0)]

    def later(seconds):
        sleep(seconds)
        if database.time > begin + 60:
            database.sessions = []

    made.sleep = later
    made.retire()
    assert database.ended == [] and not database.login["mlflow_a"] and database.time > begin + 60


def test_a_session_that_the_administrator_may_not_see_counts_as_busy(steps):
    session = plugin("modules", "mlflow_database_rotation").Session(1, None, None, None, None)
    assert not session.is_spent(60, 10)


def test_a_login_after_the_swap_stops_the_run(steps, database):
    made = retiring(steps, database)
    begin = database.time
    database.sessions = [(1, "mlflow_a", "active", 100.0, 900.0)]
    sleep = database.sleep

    def later(seconds):
        sleep(seconds)
        if database.time > begin + 5:
            database.sessions.append((2, "mlflow_a", "idle", database.time - 0.5, database.time - 0.5))

    made.sleep = later
    with pytest.raises(steps.error, match="is not locked: it was logged in again.*10.0.0.1"):
        made.retire()
    assert database.login["mlflow_a"]


def test_emergency_ends_everything_at_once(steps, database):
    made = retiring(steps, database, emergency=True)
    database.sessions = [(1, "mlflow_a", "active", 999.0, 999.0)]
    begin = database.time
    made.retire()
    assert database.ended == [1] and database.time < begin + 2 and not database.login["mlflow_a"]


def test_check_mode_changes_nothing(steps, database):
    made = steps(check_mode=True)
    made.prepare()
    made.retire()
    made.drop_lease()
    assert made.actions == ["give mlflow_b a new password and let it log in", "lock mlflow_a and forget its password"]
    assert database.statements == [] and "mlflow_owner" not in database.notes


def test_missing_roles_are_told(steps, database):
    del database.login["mlflow_b"]
    with pytest.raises(steps.error, match="no role mlflow_b in the database; run site.yml first"):
        steps().prepare()


def test_the_step_is_tried_again_while_the_server_is_away(database):
    module = plugin("modules", "mlflow_database_rotation")
    problems = [module.pg.ConnectionLost("restarting"), module.pg.ConnectionLost("starting")]

    def connect(*_arguments):
        if problems:
            raise problems.pop()
        return database

    answer = module.run(PARAMS, False, connect=connect, sleep=database.sleep, clock=lambda: database.time)
    assert answer["admin_password"] == "current" and answer["logins"]["mlflow_a"]["rotation"]["version"] == "v1"

    def away(*_arguments):
        raise module.pg.ConnectionLost("gone")

    with pytest.raises(module.pg.ConnectionLost):
        module.run(PARAMS, False, connect=away, sleep=database.sleep, clock=lambda: database.time)


def test_patience_begins_when_the_server_was_last_seen(steps, database):
    """A server that goes away at the end of a long step is waited for as at its beginning."""
    module = plugin("modules", "mlflow_database_rotation")
    retiring(steps, database)
    database.sessions = [(7, "mlflow_a", "active", 100.0, 900.0)]
    begin, away, back = database.time, database.time + 60, database.time + 64

    def gone(*_arguments):
        if away <= database.time < back:
            raise module.pg.ConnectionLost("failing over")
        return database

    rows = database.rows

    def asked(statement, parameters=None):
        if database.time >= back:
            database.sessions = []
        gone()
        return rows(statement, parameters)

    database.rows = asked

    def run(**params):
        database.time = begin
        asked = {**PARAMS, "state": "retired", "patience": 5, **params}
        return module.run(asked, False, connect=gone, sleep=database.sleep, clock=lambda: database.time)

    assert run()["actions"] == ["lock mlflow_a and forget its password"]
    database.login["mlflow_a"] = True
    database.sessions = [(7, "mlflow_a", "active", 100.0, 900.0)]
    with pytest.raises(module.pg.ConnectionLost):
        run(patience=2)


def test_the_administrators_password_may_be_the_next_one(database):
    module = plugin("modules", "mlflow_database_rotation")

    def connect(_params, _user, password, _database):
        if password != "next":
            raise module.pg.WrongPassword("password authentication failed")
        return database

    def run(**params):
        return module.run({**PARAMS, **params}, False, connect=connect, sleep=database.sleep, clock=lambda: database.time)

    assert run(admin_next_password="next")["admin_password"] == "next"
    begin = database.time
    with pytest.raises(module.pg.WrongPassword):
        run()
    assert database.time == begin
    with pytest.raises(module.pg.WrongPassword):
        run(insist=True)
    assert database.time > begin + 5


# --- who is to be shut out does not stop it ---

THEIRS = (7, "mlflow_a", "10.0.0.9", "postgres")
OTHERS = (8, "monitor", None, "postgres")


def test_the_lock_is_a_role_that_only_the_administrator_can_lock(steps, database):
    database.lock_is_there = False
    looks = steps(check_mode=True)
    assert not looks.actions and database.statements == []
    first = steps()
    assert first.actions == ["make mlflow_owner_lock, which only the administrator can lock"]
    assert not steps().actions


def test_the_name_of_the_lock_is_never_that_of_the_owner(steps):
    longest = "o" * 63
    made = steps(lease=False, owner=longest)
    assert made.lock != longest and len(made.lock) <= 63


def test_two_runs_make_the_lock_in_the_same_moment(steps, database):
    database.lock_is_there = False
    do = database.do

    def collide(statement, names=(), parameters=None):
        do(statement, names, parameters)
        if statement.startswith("CREATE ROLE"):
            raise steps.error("duplicate key value violates unique constraint")

    database.do = collide
    assert not steps().actions


def test_who_blocks_a_step_is_named(steps, database, monkeypatch):
    made = steps()
    database.blocked = threading.Event()
    database.second.blockers = [THEIRS, OTHERS]
    monkeypatch.setattr(database.blocked, "wait", lambda seconds: threading.Event().wait(2))
    with pytest.raises(steps.error, match="pid 7 of mlflow_a from 10.0.0.9 in postgres; pid 8 of monitor from an unknown"):
        made.prepare()
    assert database.second.ended == []


def test_in_an_emergency_who_blocks_a_step_is_ended(steps, database):
    made = steps(emergency=True)
    database.blocked = threading.Event()
    database.second.blockers = [THEIRS]
    database.second.on_end = database.blocked.set
    made.prepare()
    assert database.second.ended == [7] and database.login["mlflow_b"]


def test_in_an_emergency_sessions_of_others_are_not_ended(steps, database, monkeypatch):
    made = steps(emergency=True)
    database.blocked = threading.Event()
    database.second.blockers = [OTHERS]
    monkeypatch.setattr(database.blocked, "wait", lambda seconds: threading.Event().wait(1))
    with pytest.raises(steps.error, match="pid 8 of monitor"):
        made.prepare()
    assert database.second.ended == []


def test_a_role_that_changes_itself_meanwhile_is_locked_all_the_same(steps, database):
    made = retiring(steps, database, emergency=True)
    database.collisions = 5
    made.retire()
    assert not database.login["mlflow_a"]
    assert made.actions == ["lock mlflow_a and forget its password"]

    again = retiring(steps, database, emergency=True, version="v3", created=300.0, active="mlflow_a", retiring="mlflow_b")
    database.collisions = 10**6
    with pytest.raises(steps.error, match="changed by another session again and again"):
        again.retire()


def test_in_an_emergency_its_sessions_are_ended_before_the_lock(steps, database):
    """They may hold a lock on their own role."""
    made = retiring(steps, database, emergency=True)
    database.sessions = [(1, "mlflow_a", "idle in transaction", 999.0, 999.0)]
    do = database.do

    def checked(statement, names=(), parameters=None):
        assert database.ended == [1]
        do(statement, names, parameters)

    database.do = checked
    made.retire()
    assert not database.login["mlflow_a"]


def test_a_password_that_the_role_has_changed_itself_is_told(database):
    module = plugin("modules", "mlflow_database_rotation")

    def connect(params, user, password, _database):
        if user == params["admin_user"]:
            return database
        if database.passwords.get(user) != password:
            raise module.pg.WrongPassword("password authentication failed")
        if database.passwords[user] == "away":
            raise module.pg.ConnectionLost("too many connections for database")
        return database

    def begun(password):
        params = {**PARAMS, "state": "begun", "active": "mlflow_a", "password": password}
        answer = module.run(params, False, connect=connect, sleep=database.sleep, clock=lambda: database.time)
        assert answer["held"]
        return answer["login"]

    assert begun("old") == "accepted"
    database.passwords["mlflow_a"] = "their own"
    assert begun("old") == "refused"
    database.passwords["mlflow_a"] = "away"
    assert begun("away") == "unknown"


def test_an_emergency_whose_lease_was_taken_over_locks_nothing(steps, database):
    """It asks for its lease right before it locks: an emergency has no other moment in which it would notice."""
    made = retiring(steps, database, emergency=True)
    end_once = made._end_once

    def taken_meanwhile(sessions):
        end_once(sessions)
        note = database.notes["mlflow_owner"]
        note["lease"] = {**note["lease"], "run": "another", "who": "she@there"}

    made._end_once = taken_meanwhile
    with pytest.raises(steps.error, match="lost its lease.*she@there has gone on"):
        made.retire()
    assert database.login["mlflow_a"]


ASKED = {
    "host": "db.example.com",
    "admin_user": "dba",
    "admin_password": "secret of the administrator",
    "database": "mlflow",
    "owner": "mlflow_owner",
    "logins": ["mlflow_a", "mlflow_b"],
}
PREPARED = {"state": "prepared", "run": "r", "version": "v2", "created": 200.0, "active": "mlflow_b", "password": "new secret"}


@pytest.mark.parametrize(
    "given, said",
    [
        ({**PREPARED, "password": None}, "state is prepared but all of the following are missing: password"),
        ({**PREPARED, "run": None}, "state is prepared but all of the following are missing: run"),
        ({**PREPARED, "created": None}, "state is prepared but all of the following are missing: created"),
        ({**PREPARED, "state": "retired"}, "state is retired but all of the following are missing: retiring"),
        ({**PREPARED, "active": "mlflow_c"}, "must be one of"),
        ({**PREPARED, "retiring": "mlflow_b"}, "they must differ"),
    ],
)
def test_what_a_step_can_not_do_without_is_refused_before_any_connection(monkeypatch, capsys, given, said):
    module = plugin("modules", "mlflow_database_rotation")
    monkeypatch.setattr(module, "run", lambda *a, **k: pytest.fail("the database was asked"))
    monkeypatch.setattr(module.pg, "psycopg2", object())
    given = {name: value for name, value in given.items() if value is not None}
    with patch_module_args({**ASKED, **given}), pytest.raises(SystemExit):
        module.main()
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] and said in told["msg"]
    assert "secret of the administrator" not in str(told) and "new secret" not in str(told)


@pytest.fixture
def main(monkeypatch, capsys):
    """main(): what the module tells Ansible where its work ends like this."""
    module = plugin("modules", "mlflow_database_rotation")

    def main(end, check_mode=False, **given):
        def run(params, checks):
            main.asked = params, checks
            if isinstance(end, Exception):
                raise end
            return end

        monkeypatch.setattr(module, "run", run)
        given = {**ASKED, **given, "_ansible_check_mode": check_mode}
        with patch_module_args({name: value for name, value in given.items() if value is not None}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    monkeypatch.setattr(module.pg, "psycopg2", object())
    main.pg, main.patch = module.pg, monkeypatch
    return main


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_task_has_changed_what_it_did_something_about(main, check_mode):
    told = main({"actions": ["lock mlflow_a"], "held": True}, check_mode, **{**PREPARED, "retiring": "mlflow_a"})
    assert told["changed"] and told["actions"] == ["lock mlflow_a"] and told["held"] is True and not told.get("skipped")
    params, checked = main.asked
    assert checked == check_mode and not params["emergency"] and not params["insist"] and not params["make_owner"]
    assert main({"actions": []})["changed"] is False


def test_a_task_that_fails_says_how_the_database_took_it(main):
    for error, said in (
        (main.pg.WrongPassword("no"), "dba can't log in to db.example.com:5432: no"),
        (main.pg.ConnectionLost("gone"), "The database db.example.com:5432 could not be reached: gone"),
        (main.pg.PostgresqlError("refused"), "refused"),
    ):
        told = main(error)
        assert told["failed"] and told["msg"] == said
    main.patch.setattr(main.pg, "psycopg2", None)
    told = main({"actions": []})
    assert told["failed"] and told["missing"] == "psycopg2"


@pytest.mark.parametrize("name", ["database", "owner", "logins"])
def test_without_the_names_of_the_roles_nothing_is_asked(main, name):
    assert main({"actions": []}, **{name: None})["msg"] == f"missing required arguments: {name}"


@pytest.mark.parametrize("state", ["begun", "renewed", "ended"])
def test_a_lease_is_somebodys(main, state):
    assert main({"actions": []}, state=state)["msg"] == f"state is {state} but all of the following are missing: run"
    assert main({"actions": []}, state=state, run="r")["changed"] is False


def test_the_states_of_a_lease_one_after_the_other(database):
    module = plugin("modules", "mlflow_database_rotation")

    def ask(state, check_mode=False, **more):
        given = {**PARAMS, "state": state, "active": "mlflow_a", "password": "old", **more}
        return module.run(given, check_mode, connect=lambda *_: database, sleep=database.sleep, clock=lambda: database.time)

    assert ask("read")["lease"] == {} and "login" not in ask("read")
    assert ask("begun", check_mode=True)["held"] and database.notes.get("mlflow_owner", {}) == {}
    begun = ask("begun")
    assert begun["held"] and begun["login"] == "accepted"
    assert (begun["lease"]["since"], begun["lease"]["until"]) == ("1970-01-01 00:16:40 UTC", "1970-01-01 00:17:40 UTC")
    database.time += 10
    assert ask("renewed")["lease"]["until"] == "1970-01-01 00:17:50 UTC"
    assert not ask("begun", run="other")["held"]
    ask("ended", check_mode=True)
    assert ask("read")["lease"]["run"] == "me"
    assert ask("ended")["lease"] == {}
