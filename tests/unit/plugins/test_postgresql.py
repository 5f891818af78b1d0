# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""How modules reach PostgreSQL: by TLS with the server's name, unless somebody says otherwise; and what a refusal means."""

from __future__ import annotations

import threading
import time
import types
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from plugin_support import plugin

GIVEN = {"host": "db.example.com", "admin_user": "dba", "admin_password": "secret"}


@pytest.fixture
def pg(monkeypatch):
    """The module with a psycopg2 that notes how it is asked, and refuses in the words that it is given."""
    module = plugin("module_utils", "_postgresql")

    class OperationalError(Exception):
        pass

    asked = {}

    def connect(**options):
        asked.update(options)
        if "sslrootcert" in options:
            asked["ca"] = Path(options["sslrootcert"]).read_text()
        if words:
            raise OperationalError(words[0])
        return types.SimpleNamespace()

    words = []
    fake = types.SimpleNamespace(connect=connect, OperationalError=OperationalError)
    monkeypatch.setattr(module, "psycopg2", fake)
    module_and_more = types.SimpleNamespace(pg=module, asked=asked, refuse=words.append)
    return module_and_more


def params(pg, **more):
    validated = ArgumentSpecValidator(pg.pg.CONNECTION_SPEC).validate({**GIVEN, **more})
    assert not validated.error_messages
    return validated.validated_parameters


def test_who_says_nothing_gets_a_connection_whose_server_is_proved(pg):
    pg.pg.connect(params(pg, ca_certificate="the CA"), "mlflow", "secret", "mlflow")
    assert pg.asked["sslmode"] == "verify-full" and pg.asked["ca"] == "the CA"
    # It was for this connection.
    assert not Path(pg.asked["sslrootcert"]).exists()


def test_no_session_waits_or_keeps_others_waiting_for_ever(pg):
    pg.pg.connect(params(pg), "mlflow", "secret", "mlflow")
    assert pg.asked["connect_timeout"] == 10
    for limit in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
        assert f"-c {limit}=" in pg.asked["options"]


@pytest.mark.parametrize(
    "said, kind",
    [
        ('FATAL:  password authentication failed for user "mlflow"', "WrongPassword"),
        # None of these says that the password is wrong: it must not be set anew, and the server may come back.
        ('FATAL:  no password supplied for user "mlflow"', "ConnectionLost"),
        ("fe_sendauth: no password supplied", "ConnectionLost"),
        ('FATAL:  role "password" is not permitted to log in', "ConnectionLost"),
        ("could not translate host name password.example.com", "ConnectionLost"),
        ("connection refused", "ConnectionLost"),
    ],
)
def test_only_the_servers_refusal_of_the_password_means_that_it_is_wrong(pg, said, kind):
    pg.refuse(f"{said}\nLINE 1: x\n")
    with pytest.raises(pg.pg.PostgresqlError) as error:
        pg.pg.connect(params(pg), "mlflow", "secret", "mlflow")
    assert type(error.value).__name__ == kind


def test_the_server_is_reached_as_it_was_asked(pg, tmp_path):
    (tmp_path / "ca.pem").write_text("a CA of the machine")
    way = {"host": "db.example.com", "port": 5433, "sslmode": "require", "connect_timeout": 3}
    pg.pg.connect(params(pg, ca_path=str(tmp_path / "ca.pem"), **way), "mlflow", "hidden", "tracking")
    assert {name: pg.asked[name] for name in way} == way
    assert (pg.asked["dbname"], pg.asked["user"], pg.asked["password"]) == ("tracking", "mlflow", "hidden")
    # That file is not ours to remove.
    assert pg.asked["ca"] == "a CA of the machine" and (tmp_path / "ca.pem").exists()


@pytest.mark.parametrize("name", GIVEN)
def test_without_a_server_or_an_administrator_nothing_is_tried(pg, name):
    given = {key: value for key, value in GIVEN.items() if key != name}
    (said,) = ArgumentSpecValidator(pg.pg.CONNECTION_SPEC).validate(given).error_messages
    assert said == f"missing required arguments: {name}"


def test_who_names_no_ca_leaves_it_to_the_machine(pg):
    pg.pg.connect(params(pg), "mlflow", "secret", "mlflow")
    assert "sslrootcert" not in pg.asked


def test_the_ca_is_removed_also_where_there_is_no_connection(pg):
    pg.refuse("connection refused")
    with pytest.raises(pg.pg.ConnectionLost):
        pg.pg.connect(params(pg, ca_certificate="the CA"), "mlflow", "secret", "mlflow")
    assert pg.asked["ca"] == "the CA" and not Path(pg.asked["sslrootcert"]).exists()


@pytest.mark.parametrize("name, fine", [("mlflow_a1", True), ("_x", True), ("1a", False), ("Mlflow", False), ("a-b", False),
                                        ("", False), ("a" * 63, True), ("a" * 64, False)])  # fmt: skip
def test_names_that_need_no_quotes(pg, name, fine):
    assert bool(pg.pg.NAME.match(name)) == fine


def test_a_rotation_is_told_in_words(pg):
    assert pg.pg.told({"version": "v2", "created": 200.0}) == "version v2 of 1970-01-01 00:03:20 UTC"
    assert pg.pg.told({"created": 200.0}) == "version unknown of 1970-01-01 00:03:20 UTC"
    assert pg.pg.told({}) == pg.pg.told({"version": "v2"}) == "an unknown one"


# --- a session, on a real PostgreSQL ---


@pytest.fixture
def session(server):
    """session(): the module's own way to a real server."""
    pytest.importorskip("psycopg2")
    module = plugin("module_utils", "_postgresql")
    given = ArgumentSpecValidator(module.CONNECTION_SPEC).validate({**GIVEN, "host": str(server)}).validated_parameters
    made = []

    def make():
        made.append(module.connect(given, "mlflow", "", "postgres"))
        return made[-1]

    make.pg = module
    yield make
    for one in made:
        one.close()


@pytest.fixture
def role(session):
    """A role whose name has to be quoted."""
    name = 'a "role" of; ours'
    one = session()
    one.do("CREATE ROLE {} NOLOGIN", [name])
    yield name
    one.do("DROP ROLE {}", [name])


def may_log_in(session, role):
    return session.value("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (role,))


def test_questions_and_statements(session, role):
    one = session()
    assert one.version // 10000 >= 13 and one.pid == one.value("SELECT pg_backend_pid()")
    assert one.rows("SELECT n, %s FROM generate_series(1, 2) n", ("x",)) == [(1, "x"), (2, "x")]
    assert one.value("SELECT 1 WHERE false") is None
    one.do("ALTER ROLE {} LOGIN", [role])
    # Without a transaction it is there for others at once.
    assert may_log_in(session(), role) is True


def test_the_limits_of_a_session_hold_on_the_server(session):
    one = session()
    limits = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    assert [one.value(f"SHOW {limit}") for limit in limits] == ["30s", "2min", "1min"]
    assert one.value("SHOW application_name") == "mlops.mlflow_aws"


def test_a_refusal_is_one_line_of_what_the_server_said(session):
    one = session()
    for ask in (one.rows, one.value, one.do):
        with pytest.raises(session.pg.PostgresqlError) as error:
            ask("SELECT nothing_of_this_name")
        assert type(error.value) is session.pg.PostgresqlError
        assert str(error.value) == 'column "nothing_of_this_name" does not exist'
    # And the session is none the worse for it.
    assert one.value("SELECT 1") == 1


def test_what_is_noted_of_a_role(session, role):
    one = session()
    assert one.note_of(role) == {} and one.note_of("no-such-role") == {}
    one.write_note(role, {"version": "v1", "created": 1.5})
    assert session().note_of(role) == {"version": "v1", "created": 1.5}
    one.write_note(role, None)
    assert one.value("SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s", (role,)) is None
    for of_others in ('{"version": "v1"}', session.pg.NOTE + "no JSON"):
        one.do("COMMENT ON ROLE {} IS %s", [role], (of_others,))
        assert one.note_of(role) == {}


def test_a_transaction_is_all_or_nothing(session, role):
    one = session()
    with one.transaction():
        one.do("ALTER ROLE {} LOGIN", [role])
        assert may_log_in(session(), role) is False
    assert may_log_in(session(), role) is True

    class Cut(BaseException):
        pass

    with pytest.raises(Cut), one.transaction(lock=role):
        one.do("ALTER ROLE {} NOLOGIN", [role])
        raise Cut
    assert may_log_in(one, role) is True


def test_who_has_the_lock_is_alone_at_it(session, role):
    one, two = session(), session()
    two.do("SET lock_timeout = '50ms'")
    with one.transaction(lock=role):
        with pytest.raises(session.pg.Blocked), two.transaction(lock=role):
            pytest.fail("both have it")
        # Who does not ask for it is not held up.
        with two.transaction():
            pass
    with two.transaction(lock=role):
        pass


def test_two_who_change_a_role_in_the_same_moment(session, role):
    one, two, seen = session(), session(), []

    def change():
        try:
            two.do("ALTER ROLE {} LOGIN", [role])
        except session.pg.PostgresqlError as error:
            seen.append(type(error))

    with one.transaction():
        one.do("ALTER ROLE {} LOGIN", [role])
        late = threading.Thread(target=change)
        late.start()
        deadline = time.monotonic() + 10
        while not one.value("SELECT cardinality(pg_blocking_pids(%s))", (two.pid,)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    late.join()
    assert seen == [session.pg.Collision]


def test_a_session_that_the_server_has_ended_is_lost(session, role):
    for use in (
        lambda one: one.rows("SELECT 1"),
        lambda one: one.do("ALTER ROLE {} LOGIN", [role]),
    ):
        one = session()
        with pytest.raises(session.pg.ConnectionLost), one.transaction():
            session().rows("SELECT pg_terminate_backend(%s, 5000)", (one.pid,))
            use(one)


def test_the_server_gets_a_password_that_was_hashed_already(session, role):
    one = session()
    verifier = one.verifier(role, "secret of the role")
    one.do("ALTER ROLE {} PASSWORD %s", [role], (verifier,))
    stored = one.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (role,))
    assert stored == verifier and stored.startswith("SCRAM-SHA-256$") and "secret" not in stored


def test_a_session_that_was_closed_is_gone_from_the_server(session):
    one, two = session(), session()
    pid = one.pid
    one.close()
    deadline = time.monotonic() + 10
    while two.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", (pid,)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
