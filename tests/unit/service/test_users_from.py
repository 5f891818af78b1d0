# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A server that is taken over keeps its users, wherever they were: they are missed, and brought. A real PostgreSQL, no MLflow.

How they come to the schema of another MLflow is MLflow's own matter, and that of test_users_brought.py.
"""

from __future__ import annotations

import base64
import sqlite3

import psycopg2
import pytest

# Fixtures, which pytest finds by their names here. That file says where the service is, so it has its modules, too.
from test_prepare import apply, client, connect, prepare, prepared, schema  # noqa: F401
from werkzeug.security import generate_password_hash

# The fixtures of the other file are arguments here.
# ruff: noqa: F811

users = prepare.users

SERIAL = "id serial PRIMARY KEY"
# What MLflow's own migrations make of an empty database, as far as it matters here.
OF_TODAY = f"""
    CREATE TABLE users ({SERIAL}, username text UNIQUE, password_hash text, is_admin boolean);
    CREATE TABLE roles ({SERIAL}, name text, workspace text, UNIQUE (workspace, name));
    CREATE TABLE role_permissions
      ({SERIAL}, role_id int REFERENCES roles, resource_type text, resource_pattern text, permission text);
    CREATE TABLE user_role_assignments ({SERIAL}, user_id int REFERENCES users, role_id int REFERENCES roles);
"""
NOTED = "CREATE TABLE alembic_version_auth (version_num text); INSERT INTO alembic_version_auth VALUES ('{}')"
TABLES = {
    "users": ["id", "username", "password_hash", "is_admin"],
    "roles": ["id", "name", "workspace"],
    "role_permissions": ["id", "role_id", "resource_type", "resource_pattern", "permission"],
    "user_role_assignments": ["id", "user_id", "role_id"],
}
# The database of the users of a server that is taken over.
HASH = "scrypt:hidden-9Xw2"
# Of the password that the role is given.
ADMINS = generate_password_hash("not so secret", method="pbkdf2:sha256:1")
PEOPLE = f"""
    INSERT INTO users VALUES (1, 'admin', '{ADMINS}', true), (7, 'ana', '{HASH}-7', false);
    INSERT INTO roles VALUES (3, '__user_7__', 'default');
    INSERT INTO role_permissions VALUES (5, 3, 'experiment', '12', 'MANAGE'), (6, 3, 'registered_model', 'greet', 'READ');
    INSERT INTO user_role_assignments VALUES (4, 7, 3);
"""
OTHERS = PEOPLE.replace("'admin'", "'root'")


@pytest.fixture
def taken_over(connect, prepared, monkeypatch):
    """The tables of the runs of a server that was used, and nobody's of a user; and an MLflow that makes these."""
    database = connect()
    database.execute("DROP TABLE users, alembic_version_auth; INSERT INTO runs VALUES ('of before')")
    database.execute("UPDATE alembic_version SET version_num = 't3'")
    database.execute("CREATE TABLE registered_model_tags (workspace text, name text, key text, value text)")
    database.execute("INSERT INTO registered_model_tags VALUES ('default', 'greet', 'mlflow.prompt.is_prompt', 'true')")
    made = []

    def migrate(uri, username, password, bring=lambda: None):
        with client.connect() as session:
            if not schema.there(session, "users"):
                session.execute(OF_TODAY + NOTED.format("a2"))
        bring()
        with client.connect() as session:
            found = session.execute("SELECT 1 FROM users WHERE username = %s", (username,)).fetchone()
            if not found:
                session.execute("INSERT INTO users (username, password_hash, is_admin) VALUES (%s, 'new', true)", (username,))
                made.append(password)

    def of_today(revision, rows_of):
        made.append(revision)
        found = {table: rows_of(table, columns) for table, columns in TABLES.items()}
        # SQLite has no other words for true and false.
        found["users"] = [(*row[:3], bool(row[3])) for row in found["users"]]
        return [(table, columns, found[table]) for table, columns in TABLES.items()]

    monkeypatch.setattr(prepare.upgrading, "migrate", migrate)
    monkeypatch.setattr(prepare.upgrading, "users_of_today", of_today)
    monkeypatch.setattr(prepare.upgrading, "first_of_users", lambda: "a1")
    monkeypatch.setattr(prepare.upgrading, "PROMPTS", "a2")
    return made


@pytest.fixture
def theirs(connect, server):
    """A database of their own on the same server, where these statements are said."""
    admin = connect()
    admin.execute("DROP DATABASE IF EXISTS mlflow_auth WITH (FORCE)")
    admin.execute("CREATE DATABASE mlflow_auth")

    def say(*statements, version="CREATE TABLE alembic_version_auth (v text)", revision="a2"):
        with client.connect(f"host={server} user=mlflow dbname=mlflow_auth") as database:
            for statement in (OF_TODAY, *statements):
                database.execute(statement)
            if revision:
                database.execute(version.replace("(v ", "(version_num "))
                database.execute(f"INSERT INTO {version.split()[2]} VALUES ('{revision}')")
        return {"name": "postgresql:///mlflow_auth"}

    return say


def people(connect):
    rows = connect().execute("SELECT id, username, password_hash, is_admin FROM users ORDER BY id").fetchall()
    granted = connect().execute(
        "SELECT username, resource_type, resource_pattern, permission FROM users "
        "JOIN user_role_assignments a ON a.user_id = users.id JOIN role_permissions USING (role_id) ORDER BY 3"
    )
    return rows, granted.fetchall()


BROUGHT = [(1, "admin", ADMINS, True), (7, "ana", f"{HASH}-7", False)]
GRANTED = [("ana", "experiment", "12", "MANAGE"), ("ana", "prompt", "greet", "READ")]


@pytest.mark.parametrize("check", [True, False])
def test_users_that_would_be_lost_stop_the_run(connect, taken_over, monkeypatch, check):
    said = "was used by an MLflow, and holds no users.*mlflow_server_users_from where.*set it to none.*Nothing was changed"
    with pytest.raises(SystemExit, match=said):
        apply(monkeypatch, check)
    assert not taken_over and not schema.there(connect(), schema.SHARED) and not schema.there(connect(), "users")
    # Nobody logs in, so nobody is missed.
    assert apply(monkeypatch, check=True, username="")["changed"]


def test_empty_tables_of_users_are_as_good_as_none(connect, taken_over, monkeypatch):
    connect().execute(OF_TODAY)
    with pytest.raises(SystemExit, match="holds no users"):
        apply(monkeypatch)


def test_whoever_says_that_there_are_none_goes_on(connect, taken_over, monkeypatch):
    assert "create the administrator admin" in apply(monkeypatch, users_from={"name": "none"})["actions"]
    # With the word or without it: now it is known.
    for more in ({"users_from": {"name": "none"}}, {}):
        assert not apply(monkeypatch, **more)["changed"]


@pytest.mark.parametrize("before", ["TRUNCATE runs", f"CREATE TABLE {schema.SHARED} (name text PRIMARY KEY, value text)"])
def test_a_new_database_and_one_that_the_role_knows_are_not_asked_about(connect, taken_over, monkeypatch, before):
    """One where nobody had to log in until now, too."""
    connect().execute(before)
    assert "create the administrator admin" in apply(monkeypatch)["actions"]


def test_they_are_brought_once_with_all_that_they_may(connect, taken_over, theirs, monkeypatch):
    about = theirs(PEOPLE)
    looked = apply(monkeypatch, check=True, users_from=about)
    assert "bring 2 users from postgresql:///mlflow_auth" in looked["actions"] and not taken_over
    assert not any(action.startswith("create the administrator") for action in looked["actions"])
    done = apply(monkeypatch, users_from=about, password="")
    # The administrator of before stays, with his password, and no other one is made for him.
    assert taken_over == ["a2"] and "password_file" not in done
    assert people(connect) == (BROUGHT, GRANTED)
    assert HASH not in str(looked) + str(done) and ADMINS not in str(looked) + str(done)
    # Who is made later has a number of his own.
    connect().execute("INSERT INTO users (username) VALUES ('later')")
    assert connect().execute("SELECT id FROM users WHERE username = 'later'").fetchone() == (8,)
    for more in ({"users_from": about}, {}):
        assert not apply(monkeypatch, **more)["changed"]
    connect().execute("DELETE FROM users WHERE username = 'later'")
    assert people(connect) == (BROUGHT, GRANTED)


@pytest.mark.parametrize("hashed", [generate_password_hash("x", method="pbkdf2:sha256:1"), "of no kind$1$x", ""],
                         ids=["another one", "of no kind", "none"])  # fmt: skip
def test_an_administrator_with_another_password_is_told_of_in_time(connect, taken_over, theirs, monkeypatch, hashed):
    """At the end of the run it would be too late to take another name."""
    about = theirs(PEOPLE.replace(ADMINS, hashed))
    with pytest.raises(SystemExit, match="admin has another password there than .*_admin_password.*Nothing was changed"):
        apply(monkeypatch, users_from=about)
    assert not schema.there(connect(), "users")
    apply(monkeypatch, users_from=about, username="second")
    assert [row[1] for row in people(connect)[0]] == ["admin", "ana", "second"]


def test_of_a_file_they_are_brought_too(connect, taken_over, monkeypatch, tmp_path):
    about = sqlite(tmp_path)
    assert "bring 2 users from /old/basic_auth.db" in apply(monkeypatch, users_from=about)["actions"]
    assert people(connect) == (BROUGHT, GRANTED)
    assert not apply(monkeypatch, users_from=about)["changed"]


def sqlite(folder, *more, revision="a2"):
    file = folder / "basic_auth.db"
    with sqlite3.connect(file) as database:
        database.executescript(OF_TODAY.replace("serial", "integer").replace("true", "1"))
        database.executescript(PEOPLE)
        database.executescript(NOTED.format(revision))
        for statement in more:
            database.executescript(statement)
    database.close()
    return {"name": "/old/basic_auth.db", "content": base64.b64encode(file.read_bytes()).decode()}


@pytest.mark.parametrize("state", ["nobody", "the administrator alone"])
def test_an_administrator_who_was_made_before_they_were_missed_stays(connect, taken_over, theirs, monkeypatch, state):
    about = theirs(OTHERS)
    if state != "nobody":
        apply(monkeypatch, users_from={"name": "none"})
    apply(monkeypatch, users_from=about)
    rows, granted = people(connect)
    assert [row for row in rows if row[1] != "admin"] == [(1, "root", ADMINS, True), BROUGHT[1]] and granted == GRANTED
    assert [row[2:] for row in rows if row[1] == "admin"] == [("new", True)]


def test_what_was_cut_off_in_the_middle_is_done_again(connect, taken_over, theirs, monkeypatch):
    about = theirs(PEOPLE)
    with monkeypatch.context() as broken:
        broken.setattr(users.Users, "_note", lambda self, connection: connection.execute("SELECT 1 / 0"))
        with pytest.raises(SystemExit, match="can't be brought: division by zero. None of them were"):
            apply(monkeypatch, users_from=about)
    assert people(connect) == ([], [])
    # Nor is it forgotten that they are missing.
    with pytest.raises(SystemExit, match="holds no users"):
        apply(monkeypatch)
    apply(monkeypatch, users_from=about)
    assert people(connect) == (BROUGHT, GRANTED)


@pytest.mark.parametrize("found", ["a user", "a role"])
def test_two_sets_are_not_mixed(connect, taken_over, theirs, monkeypatch, found):
    about = theirs(PEOPLE)
    apply(monkeypatch, users_from={"name": "none"})
    if found == "a user":
        connect().execute("INSERT INTO users (username) VALUES ('bea')")
    else:
        connect().execute("INSERT INTO roles (name) VALUES ('r')")
        connect().execute("INSERT INTO user_role_assignments (user_id, role_id) VALUES (1, 1)")
    before = people(connect)
    with pytest.raises(SystemExit, match="has users or permissions already .*two sets are not mixed.*Nothing was changed"):
        apply(monkeypatch, users_from=about)
    assert people(connect) == before


def test_users_of_another_place_are_not_brought_as_well(connect, taken_over, theirs, monkeypatch, tmp_path):
    apply(monkeypatch, users_from=theirs(PEOPLE))
    with pytest.raises(SystemExit, match="brought from postgresql:///mlflow_auth already"):
        apply(monkeypatch, users_from=sqlite(tmp_path))
    assert people(connect) == (BROUGHT, GRANTED)


@pytest.mark.parametrize(
    ("version", "revision", "read_as"),
    [
        ("CREATE TABLE alembic_version_auth (v text)", "a1", "a1"),
        # MLflow up to 3.5 noted it here, and before that nowhere.
        ("CREATE TABLE alembic_version (v text)", "a2", "a2"),
        ("CREATE TABLE alembic_version (v text)", "t1", "a1"),
        ("", "", "a1"),
    ],
)
def test_which_schema_they_have_is_found(connect, taken_over, theirs, monkeypatch, version, revision, read_as):
    apply(monkeypatch, users_from=theirs(PEOPLE, version=version, revision=revision))
    assert taken_over == [read_as] and people(connect)[0] == BROUGHT


@pytest.mark.parametrize(
    ("statements", "revision", "said"),
    [
        ((PEOPLE,), "a9", "its schema a9 is of another MLflow than this one knows: set mlflow_server_version"),
        ((), "a2", "nobody is in it; mlflow_server_users_from: none says"),
        (("DROP TABLE user_role_assignments, users",), "a2", "it holds no users of an MLflow"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_what_can_not_be_read_is_refused_before_anything_is_made(
    connect, taken_over, theirs, monkeypatch, statements, revision, said, check
):
    with pytest.raises(SystemExit, match=f"names .postgresql:///mlflow_auth. can't be brought: {said}.*Nothing was changed"):
        apply(monkeypatch, check, users_from=theirs(*statements, revision=revision))
    assert not taken_over and not schema.there(connect(), "users") and not schema.there(connect(), schema.SHARED)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"hello", "it is no file of SQLite"), (b"SQLite format 3\0\0\0\2\2", "PRAGMA journal_mode = DELETE"),
     (b"SQLite format 3\0" + 600 * b"x", "")],
)  # fmt: skip
def test_a_file_that_is_none_is_refused(connect, taken_over, monkeypatch, content, said):
    about = {"name": "/old/file", "content": base64.b64encode(content).decode()}
    with pytest.raises(SystemExit, match=f"/old/file. can't be brought: .*{said}.*Nothing was changed"):
        apply(monkeypatch, users_from=about)
    assert not schema.there(connect(), "users")


def test_a_password_is_shown_to_nobody(connect, server, taken_over, theirs, monkeypatch):
    """Nor is the one of the service's own login shown to another server."""
    theirs(PEOPLE)
    seen = []
    opened = client.connect

    def note(about="service=mlflow", autocommit=True, **more):
        seen.append((about, more))
        return opened(about, autocommit, **more)

    monkeypatch.setattr(users.client, "connect", note)
    address = "postgresql+psycopg2://mlflow@nowhere.invalid:5432/mlflow_auth"
    with pytest.raises(SystemExit) as refused:
        apply(monkeypatch, users_from={"name": address, "password": "hidden-4711"})
    assert "nowhere.invalid" in str(refused.value) and "hidden" not in str(refused.value)
    given = next(more for about, more in seen if more.get("host"))
    assert given["password"] == "hidden-4711" and given["sslmode"] == "verify-full" and "service" not in given
    by_socket = f"postgresql://mlflow@/mlflow_auth?host={server}&sslmode=disable"
    assert "bring 2 users" in str(apply(monkeypatch, users_from={"name": by_socket})["actions"])


def test_the_place_where_they_were_is_left_as_it_is(connect, server, taken_over, theirs, monkeypatch):
    about = theirs(PEOPLE)
    apply(monkeypatch, users_from=about)
    with client.connect(f"host={server} user=mlflow dbname=mlflow_auth") as before:
        assert before.execute("SELECT count(*) FROM users").fetchone() == (2,)
        assert before.execute("SELECT version_num FROM alembic_version_auth").fetchone() == ("a2",)
    source = users.Postgresql(about["name"], None)
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        source._connection.execute("DELETE FROM users")
    source.close()
