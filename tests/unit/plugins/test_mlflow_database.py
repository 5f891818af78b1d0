# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The module's decisions, against a server that remembers; molecule runs it against real ones."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from plugin_support import plugin

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import postgres  # noqa: E402

PARAMS = {
    "admin_user": "dba",
    "database": "mlflow",
    "owner": "mlflow_owner",
    "logins": ["mlflow_a", "mlflow_b"],
    "active": "mlflow_a",
    "active_password": "secret one",
    "active_created": 0,
    "lock_idle": True,
}


class Server:
    """As much of PostgreSQL as the module asks for."""

    def __init__(self, version=170000):
        self.version = version
        self.roles = {}
        self.grants = set()
        self.owner_of_database = None
        # What everybody may do with the database.
        self.public = set()
        self.sessions = {}
        self.notes = {}
        self.admin = (False, True, True)
        self.statements = []
        self.without_statistics = []
        self.acts_as = None

    def rows(self, statement, parameters=None):
        if "rolcreaterole" in statement:
            return [self.admin]
        if "FROM pg_roles" in statement:
            return [
                (name, role["login"], role.get("super", False), role["config"])
                for name, role in self.roles.items()
                if name in parameters[0]
            ]
        raise AssertionError(statement)

    def value(self, statement, parameters=None):
        if "pg_has_role(current_user" in statement:
            return ("dba", parameters[0]) in self.grants
        if "pg_has_role(" in statement:
            return parameters in {(member, owner) for member, owner in self.grants}
        if "datdba" in statement:
            return self.owner_of_database
        if "has_database_privilege" in statement:
            return "CONNECT" in self.public
        if "pg_stat_activity" in statement:
            return self.sessions.get(parameters[0], 0)
        raise AssertionError(statement)

    def note_of(self, role):
        return self.notes.get(role, {})

    def write_note(self, role, note):
        self.notes[role] = note

    def verifier(self, role, password):
        return f"SCRAM({password})"

    def do(self, statement, names=(), parameters=None):
        self.statements.append((statement, parameters))
        name = names[0]
        if statement.startswith("CREATE ROLE"):
            self.roles[name] = {"login": "NOLOGIN" not in statement, "config": [], "password": (parameters or [None])[0]}
        elif statement.startswith("GRANT"):
            self.grants.add(("dba" if "CURRENT_USER" in statement else names[1], name))
        elif "SET role" in statement:
            others = [setting for setting in self.roles[name]["config"] if not setting.startswith("role=")]
            self.roles[name]["config"] = [*others, f"role={parameters[0]}"]
        elif statement.startswith("CREATE DATABASE"):
            self.owner_of_database, self.public = names[1], {"CONNECT", "TEMPORARY"}
        elif statement.startswith("REVOKE"):
            self.public -= set(re.match("REVOKE (.*) ON DATABASE {} FROM PUBLIC$", statement)[1].split(", "))
        elif statement.endswith("NOLOGIN PASSWORD NULL"):
            self.roles[name].update(login=False, password=None)
        elif "PASSWORD" in statement:
            self.roles[name]["password"] = parameters[0]
        elif re.search(r"(NO)?LOGIN$", statement):
            self.roles[name]["login"] = "NOLOGIN" not in statement
        else:
            raise AssertionError(statement)

    def login(self, params, user, password, database):
        pg = plugin("module_utils", "_postgresql")
        role = self.roles[user]
        if not role["login"]:
            raise pg.PostgresqlError(f'role "{user}" is not permitted to log in')
        if role["password"] != f"SCRAM({password})":
            raise pg.WrongPassword("password authentication failed")
        return Login(role, self)


class Login:
    """A session of a login, which acts as the role that it was set to."""

    def __init__(self, role, server):
        self.role = role
        self.server = server

    def value(self, statement):
        return self.server.acts_as or self.role["config"][-1].removeprefix("role=")

    def rows(self, statement):
        assert "pg_stat_user_tables" in statement
        return list(self.server.without_statistics)

    def do(self, statement, names=(), parameters=None):
        if statement.startswith("SET statement_timeout"):
            return
        if names[1] == "locked":
            raise plugin("module_utils", "_postgresql").Blocked("canceling statement due to lock timeout")
        self.server.statements.append((statement, parameters))
        self.server.without_statistics.remove(tuple(names))

    def close(self):
        pass


def run(server, check_mode=False, **more):
    database = plugin("modules", "mlflow_database").Database({**PARAMS, **more}, server, check_mode, server.login)
    database.ensure()
    return database.actions


@pytest.mark.parametrize("version", [150000, 160000, 170000])
def test_ladder(version):
    server = Server(version)
    planned = run(server, check_mode=True)
    assert planned and server.statements == []

    assert run(server) == planned
    assert {name: role["login"] for name, role in server.roles.items()} == {
        "mlflow_owner": False,
        "mlflow_a": True,
        "mlflow_b": False,
    }
    assert server.owner_of_database == "mlflow_owner" and not server.public
    # The words for it are those of PostgreSQL 16.
    assert any("SET TRUE" in statement for statement, _values in server.statements) == (version >= 160000)

    assert run(server) == [] and run(server, check_mode=True) == []

    assert run(server, check_mode=True, active_password="two") == ["set the password of mlflow_a"]
    assert run(server, active_password="two") == ["set the password of mlflow_a"]
    assert run(server, active_password="two") == []


def test_a_database_that_was_opened_to_everybody_is_closed_again():
    server = Server()
    run(server)
    server.public = {"CONNECT", "TEMPORARY"}
    assert run(server) == ["close database mlflow to other roles"]
    assert not server.public and run(server) == []


def test_an_owner_that_can_log_in_is_locked():
    """Nobody has a password of it, and all that there is belongs to it."""
    server = Server()
    run(server)
    server.roles["mlflow_owner"]["login"] = True
    assert run(server, check_mode=True) == ["lock role mlflow_owner"] and server.roles["mlflow_owner"]["login"]
    assert run(server) == ["lock role mlflow_owner"] and not server.roles["mlflow_owner"]["login"]
    assert run(server) == []


def test_a_login_that_does_not_act_as_the_owner_is_refused():
    """As where an administrator has set another role for it in this one database."""
    server = Server()
    run(server)
    server.acts_as = "mlflow_a"
    with pytest.raises(plugin("module_utils", "_postgresql").PostgresqlError, match="acts as mlflow_a and not as mlflow_owner"):
        run(server)


def test_the_password_never_reaches_the_server():
    server = Server()
    run(server)
    run(server, active_password="two")
    values = [value for _statement, values in server.statements for value in values or ()]
    assert "SCRAM(secret one)" in values and "SCRAM(two)" in values
    assert "secret one" not in values and "two" not in values


def test_an_idle_login_with_a_session_is_left_alone():
    server = Server()
    run(server)
    server.roles["mlflow_b"]["login"] = True
    server.sessions["mlflow_b"] = 1
    assert run(server) == []
    server.sessions["mlflow_b"] = 0
    server.roles["mlflow_b"]["password"] = "SCRAM(of before)"
    assert run(server) == ["lock login mlflow_b and forget its password"]
    # Nothing is left that a login could be had back with.
    assert server.roles["mlflow_b"]["password"] is None and run(server) == []


def test_a_login_that_a_rotation_is_to_make_active_is_left_alone():
    server = Server()
    run(server)
    server.roles["mlflow_b"]["login"] = True
    server.notes["mlflow_b"] = {"version": "v2", "created": 200.0}
    assert run(server) == []
    # Its rotation is the older one: that of a login that was not locked at its end.
    server.notes["mlflow_a"] = {"version": "v3", "created": 300.0}
    assert run(server) == ["lock login mlflow_b and forget its password"]


def test_the_other_login_becomes_active():
    server = Server()
    run(server)
    actions = run(server, active="mlflow_b", active_password="two")
    assert actions == ["unlock login mlflow_b", "set the password of mlflow_b", "lock login mlflow_a and forget its password"]


def test_tables_without_statistics_are_analyzed_once():
    server = Server()
    run(server)
    server.without_statistics = [("public", "metrics"), ("public", "tags")]
    server.statements.clear()
    assert run(server, check_mode=True) == ["analyze public.metrics", "analyze public.tags"] and not server.statements
    assert run(server) == ["analyze public.metrics", "analyze public.tags"]
    assert run(server) == []


def test_a_table_that_can_not_be_analyzed_stops_nothing():
    server = Server()
    run(server)
    server.without_statistics = [("public", "locked")]
    server.roles["mlflow_b"]["login"] = True
    database = plugin("modules", "mlflow_database").Database(PARAMS, server, False, server.login)
    database.ensure()
    assert database.actions == ["lock login mlflow_b and forget its password"]
    assert "analyze public.locked" in database.not_analyzed[0] and "lock timeout" in database.not_analyzed[0]


# --- the password was read long ago ---


@pytest.fixture
def rotated():
    """A rotation from mlflow_a to mlflow_b has ended."""
    server = Server()
    run(server)
    server.roles["mlflow_a"].update(login=False, password=None)
    server.roles["mlflow_b"].update(login=True, password="SCRAM(secret two)")
    server.notes.update(mlflow_a={"version": "v1", "created": 100.0}, mlflow_b={"version": "v2", "created": 200.0})
    server.statements.clear()
    return server


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("created", [0, 100.0])
def test_a_login_that_a_rotation_has_locked_stays_locked(rotated, created, check_mode):
    words = r"mlflow_a can't log in, and mlflow_b .* version v2 of 1970-01-01 00:03:20.*version v1 .*Run site.yml again"
    with pytest.raises(plugin("module_utils", "_postgresql").PostgresqlError, match=words):
        run(rotated, check_mode, active_created=created)
    assert rotated.statements == [] and not rotated.roles["mlflow_a"]["login"]
    # Where no note is kept of it, the other one's is later.
    del rotated.notes["mlflow_a"]
    with pytest.raises(plugin("module_utils", "_postgresql").PostgresqlError, match="is from an unknown one"):
        run(rotated, check_mode, active_created=created)


def test_that_holds_for_either_login(rotated):
    """The rotation after that one has gone back to mlflow_a."""
    rotated.roles["mlflow_a"].update(login=True, password="SCRAM(secret three)")
    rotated.roles["mlflow_b"].update(login=False, password=None)
    rotated.notes["mlflow_a"] = {"version": "v3", "created": 300.0}
    with pytest.raises(plugin("module_utils", "_postgresql").PostgresqlError, match="mlflow_b can't log in, and mlflow_a has"):
        run(rotated, active="mlflow_b", active_password="secret two", active_created=200.0)
    assert rotated.statements == []


def test_who_has_read_the_secret_after_the_rotation_gets_what_is_in_it(rotated):
    assert run(rotated, active="mlflow_b", active_password="secret two", active_created=200.0) == []
    # A database that was restored to a time before it, or a login that somebody has put into the secret.
    actions = run(rotated, active="mlflow_a", active_created=300.0)
    assert actions == ["unlock login mlflow_a", "set the password of mlflow_a", "lock login mlflow_b and forget its password"]
    assert rotated.notes["mlflow_a"]["created"] == 300.0
    assert run(rotated, active="mlflow_a", active_created=300.0) == []


def test_a_password_of_two_rotations_ago_is_not_set(rotated):
    """The same login is active again, with another password."""
    rotated.roles["mlflow_a"].update(login=True, password="SCRAM(secret three)")
    rotated.roles["mlflow_b"].update(login=False)
    rotated.notes["mlflow_a"] = {"version": "v3", "created": 300.0}
    with pytest.raises(plugin("module_utils", "_postgresql").PostgresqlError, match="mlflow_a refuses .*version v3"):
        run(rotated, active_created=100.0)
    assert rotated.statements == []
    # One that works is not set, and nobody is asked how old it is.
    assert run(rotated, active_password="secret three", active_created=100.0) == []
    # Set in the secret by somebody, later.
    assert run(rotated, active_password="secret four", active_created=400.0) == ["set the password of mlflow_a"]


def test_a_rotation_under_way_does_not_hold_up_the_login_that_is_active(rotated):
    rotated.roles["mlflow_a"].update(login=True, password="SCRAM(secret one)")
    assert run(rotated, active_created=100.0) == [] and run(rotated) == []


def test_a_database_of_before_the_rotation_has_its_idle_login_locked():
    """Restored to a time before it: the login that was active then has a password that a rotation has retired since."""
    server = Server()
    run(server)
    server.notes["mlflow_a"] = {"version": "v1", "created": 100.0}
    now = {"active": "mlflow_b", "active_password": "secret two", "active_created": 200.0}
    server.sessions["mlflow_a"] = 1
    assert run(server, **now) == ["unlock login mlflow_b", "set the password of mlflow_b"]
    server.sessions["mlflow_a"] = 0
    # While a rotation is under way it may be that of a machine that is off.
    assert run(server, **now, lock_idle=False) == []
    assert run(server, **now) == ["lock login mlflow_a and forget its password"]
    assert run(server, **now) == []


# --- planner statistics, asked of a real PostgreSQL ---


class Session:
    """The module's session, on the driver that tests have."""

    def __init__(self, connection):
        self.connection = connection

    def rows(self, statement, parameters=None):
        return self.connection.execute(statement, parameters).fetchall()

    def do(self, statement, names=(), parameters=None):
        assert all(pg_name.isidentifier() for pg_name in names)
        self.connection.execute(statement.format(*names))


@pytest.fixture(scope="module")
def real():
    psycopg = pytest.importorskip("psycopg")
    try:
        # Nobody analyzes but the module.
        with (
            postgres.server("autovacuum=off") as socket,
            psycopg.connect(f"host={socket} user=mlflow dbname=postgres", autocommit=True) as it,
        ):
            yield it
    except postgres.Missing as why:
        pytest.skip(str(why))


def analyzed(connection, check_mode=False):
    # What a session has counted is told to others at its end, or when it is asked to.
    connection.execute("SELECT pg_stat_force_next_flush()")
    database = plugin("modules", "mlflow_database").Database(PARAMS, None, check_mode)
    database._analyze(Session(connection))
    connection.execute("SELECT pg_stat_force_next_flush()")
    return database.actions


def test_statistics_that_were_lost_are_made_once(real):
    real.execute("CREATE TABLE metrics AS SELECT number, 'x' AS value FROM generate_series(1, 2000) number")
    real.execute("CREATE TABLE experiments AS SELECT 1 AS number; CREATE TABLE nothing (number int)")
    # Just written: autovacuum would come by itself.
    assert analyzed(real) == []
    # As after pg_upgrade: the rows are there, and nothing is known of them or counted.
    real.execute("SELECT pg_stat_reset()")
    assert analyzed(real, check_mode=True) == ["analyze public.metrics"]
    assert analyzed(real) == ["analyze public.metrics"]
    assert real.execute("SELECT count(*) FROM pg_stats WHERE tablename = 'metrics'").fetchone()[0] == 2
    assert analyzed(real) == []
    # As after a crash, which takes the counters and leaves the statistics.
    real.execute("SELECT pg_stat_reset()")
    assert analyzed(real) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda server: setattr(server, "admin", (False, True, False)), "dba may not do this: .* has CREATEROLE, no CREATEDB"),
        (lambda server: setattr(server, "admin", (False, False, True)), "dba may not do this: .* has no CREATEROLE, CREATEDB"),
        (lambda server: setattr(server, "admin", (False, False, False)), "dba may not do this: .* no CREATEROLE, no CREATEDB"),
        (lambda server: setattr(server, "owner_of_database", "another"), "belongs to another, not to mlflow_owner"),
        (lambda server: setattr(server, "owner_of_database", "someone"), "belongs to someone"),
        (lambda server: server.roles["mlflow_a"].update(super=True), "mlflow_a is a superuser"),
    ],
)
def test_refusals(spoil, words):
    server = Server()
    run(server)
    spoil(server)
    before = len(server.statements)
    with pytest.raises(plugin("module_utils", "_postgresql").PostgresqlError, match=words):
        run(server)
    assert len(server.statements) == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"database": "My-DB"}, "database is 'My-DB'"),
        ({"active": "mlflow_c"}, "active is 'mlflow_c'; it must be one of"),
        ({"owner": "1st"}, "owner is '1st'"),
        ({"logins": ["mlflow_a", "mlflow_owner"]}, "logins holds 'mlflow_owner'; each must be .* another one than owner"),
        ({"logins": ["mlflow_a", "B"]}, "logins holds 'B'"),
        ({"active_password": ""}, "active_password is empty"),
    ],
)
def test_bad_input_is_refused_before_any_connection(more, words, capsys):
    arguments = {**PARAMS, "host": "db.example.com", "admin_password": "x", **more}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        plugin("modules", "mlflow_database").main()
    assert re.search(re.escape(words).replace(r"\.\*", ".*"), json.loads(capsys.readouterr().out)["msg"])


def test_a_superuser_needs_no_other_right():
    server = Server()
    server.admin = (True, False, False)
    assert run(server) and run(server) == []


@pytest.mark.parametrize(
    "version, lacks",
    [(150000, "MEMBER"), (150000, "USAGE"), (160000, "SET"), (160000, "USAGE"), (170000, "SET"), (170000, "USAGE")],
)
def test_who_lacks_a_right_of_the_owner_is_given_that(version, lacks):
    """To make a database for a role one must be able to become it, which has another name before PostgreSQL 16."""
    server = Server(version)
    run(server)
    value = server.value
    server.value = lambda statement, parameters=None: (
        parameters[1] != lacks if "pg_has_role(current_user" in statement else value(statement, parameters)
    )
    assert run(server) == ["let dba act as mlflow_owner"]


def test_what_was_taken_from_a_login_is_given_back():
    server = Server()
    run(server)
    server.grants.discard(("mlflow_b", "mlflow_owner"))
    server.roles["mlflow_a"]["config"] = ["search_path=public", "role=another"]
    planned = run(server, check_mode=True)
    assert planned == ["let mlflow_a act as mlflow_owner", "make mlflow_b a member of mlflow_owner"]
    assert run(server) == planned and ("mlflow_b", "mlflow_owner") in server.grants


def test_a_step_that_the_server_refuses_is_named():
    server, pg = Server(), plugin("module_utils", "_postgresql")

    def refuse(*_arguments):
        raise pg.PostgresqlError("permission denied to create role")

    server.do = refuse
    with pytest.raises(pg.PostgresqlError, match="^Could not create role mlflow_owner: permission denied to create role$"):
        run(server)


def test_a_login_that_is_refused_for_another_reason_gets_no_password():
    server, pg = Server(), plugin("module_utils", "_postgresql")
    run(server)
    server.statements.clear()

    def refuse(*_arguments):
        raise pg.ConnectionLost("too many connections")

    server.login = refuse
    with pytest.raises(pg.ConnectionLost, match="too many connections"):
        run(server, active_password="two")
    assert server.statements == []
    # One that was just made is proved as well.
    with pytest.raises(pg.PostgresqlError, match="mlflow_a can't log in to mlflow: too many connections"):
        fresh = Server()
        fresh.login = refuse
        run(fresh)


def test_a_password_that_was_set_is_noted_with_the_time_of_its_secret():
    server = Server()
    run(server, active_created=100.0)
    # It was made with this password, which no rotation has set.
    assert server.notes == {}
    run(server, check_mode=True, active_password="two", active_created=200.0)
    assert server.notes == {}
    run(server, active_password="two", active_created=200.0)
    assert server.notes == {"mlflow_a": {"version": "", "created": 200.0}}
    # Nothing is known of the time of the next one, so what is noted stays.
    run(server, active_password="three")
    assert server.notes == {"mlflow_a": {"version": "", "created": 200.0}}
    # A login that worked already needs no note.
    server.notes = {}
    run(server, active_password="three", active_created=300.0)
    assert server.notes == {}


def test_of_two_passwords_of_one_moment_the_higher_version_is_the_later_one():
    server = Server()
    run(server)
    server.roles["mlflow_b"]["login"] = True
    server.notes = {"mlflow_a": {"version": "v1", "created": 100.0}, "mlflow_b": {"version": "v2", "created": 100.0}}
    assert run(server) == []
    server.notes["mlflow_a"]["version"] = "v2"
    assert run(server) == ["lock login mlflow_b and forget its password"]


# --- what it answers to Ansible ---


@pytest.fixture
def main(monkeypatch, capsys):
    """main(): the module's answer, where the administrator's connection is this server."""
    pg = plugin("module_utils", "_postgresql")
    module = plugin("modules", "mlflow_database")

    def main(server, check_mode=False, without=(), **more):
        def connect(params, user, password, database):
            assert (user, password, database) == ("dba", "of the administrator", "postgres")
            if isinstance(server, Exception):
                raise server
            return server

        monkeypatch.setattr(pg, "connect", connect)
        monkeypatch.setattr(module.Database.__init__, "__defaults__", (False, getattr(server, "login", None)))
        given = {**PARAMS, "host": "db.example.com", "admin_password": "of the administrator", **more}
        given = {name: value for name, value in given.items() if name not in without}
        with patch_module_args({**given, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            module.main()
        output = capsys.readouterr().out
        assert "of the administrator" not in output and "secret one" not in output
        return json.loads(output)

    monkeypatch.setattr(pg, "psycopg2", object())
    main.pg, main.patch = pg, monkeypatch
    return main


@pytest.fixture
def answering():
    """A server that is told to be closed, and says how many connections it takes."""
    server = Server()
    value = server.value
    server.value = lambda statement, parameters=None: "112" if "max_connections" in statement else value(statement, parameters)
    server.closed = 0

    def close():
        server.closed += 1

    server.close = close
    return server


def test_a_task_says_what_it_did_and_what_it_would(main, answering):
    planned = main(answering, check_mode=True)
    assert planned["changed"] and answering.statements == []
    made = main(answering)
    assert made["changed"] and made["actions"] == planned["actions"] and "create database mlflow" in made["actions"]
    assert (made["server_version"], made["max_connections"]) == (170000, 112)
    again = main(answering)
    assert not again["changed"] and again["actions"] == []
    assert answering.closed == 3


def test_what_is_left_as_it_is_is_told(main, answering):
    main(answering)
    answering.roles["mlflow_b"]["login"] = True
    answering.sessions["mlflow_b"] = 1
    answering.without_statistics = [("public", "locked")]
    warnings = []
    # In a process that has the controller's part of Ansible as well they would be shown there and not be in the answer.
    main.patch.setattr(plugin("modules", "mlflow_database").AnsibleModule, "warn", lambda _module, text: warnings.append(text))
    told = main(answering)
    first, second = warnings
    assert not told["changed"] and "mlflow_b is not the active login, but has sessions open" in first
    assert "analyze public.locked" in second and "Searches may be slow" in second
    # Idle ones are locked unless somebody says otherwise.
    answering.sessions, answering.without_statistics = {}, []
    assert main(answering, without=["lock_idle"])["actions"] == ["lock login mlflow_b and forget its password"]


def test_a_task_that_fails_says_what_it_had_done(main, answering):
    do = answering.do

    def refuse(statement, *more):
        if statement.startswith("CREATE DATABASE"):
            raise main.pg.PostgresqlError("no space left")
        do(statement, *more)

    answering.do = refuse
    failed = main(answering)
    assert failed["failed"] and failed["msg"] == "Could not create database mlflow: no space left"
    assert failed["actions"][0] == "create role mlflow_owner" and answering.closed == 1
    failed = main(main.pg.WrongPassword("password authentication failed"))
    assert failed["failed"] and failed["msg"] == "dba can't log in to db.example.com:5432: password authentication failed"


def test_without_the_driver_a_run_says_what_is_missing(main, answering):
    main.patch.setattr(main.pg, "psycopg2", None)
    planned = main(answering, check_mode=True)
    assert planned["changed"] and planned["missing"] == "psycopg2" and not planned.get("failed")
    failed = main(answering)
    assert failed["failed"] and failed["missing"] == "psycopg2" and answering.statements == []


@pytest.mark.parametrize("name", ["database", "owner", "logins", "active", "active_password"])
def test_without_what_is_to_be_made_nothing_is_tried(main, answering, name):
    failed = main(answering, without=[name])
    assert failed["failed"] and failed["msg"] == f"missing required arguments: {name}" and answering.statements == []
