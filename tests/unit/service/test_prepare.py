# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""How a database is prepared: what is refused, what is waited for, and who is named. A real PostgreSQL, and no MLflow."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

import psycopg2.errors  # noqa: E402
from cryptography.fernet import Fernet  # noqa: E402
from mlflow_service import keys  # noqa: E402
from mlflow_service.database import (
    client,  # noqa: E402
    prepare,  # noqa: E402
    schema,  # noqa: E402
)
from mlflow_service.database import locks as mlflow_locks  # noqa: E402

EXPECTED = {
    "version": "3.17.2",
    "tracking": "t3",
    "auth": "a2",
    "known": {"tracking": ["t1", "t2", "t3"], "auth": ["a1", "a2"]},
}
WANTED = {"username": "admin", "password": "not so secret", "artifacts": {"root": "s3://bucket/x", "endpoint": ""}}
TABLES = """
    CREATE TABLE alembic_version (version_num text);
    CREATE TABLE alembic_version_auth (version_num text);
    CREATE TABLE users (username text);
    CREATE TABLE runs (run_uuid text); CREATE TABLE logged_models (model_id text); CREATE TABLE trace_info (request_id text);
    INSERT INTO alembic_version VALUES ('t1'); INSERT INTO alembic_version_auth VALUES ('a2'); INSERT INTO users VALUES ('admin');
"""


@pytest.fixture
def connect(server, tmp_path, monkeypatch):
    """Connections to a database of this test's own, as whoever reads the service file gets them."""
    address = f"host={server} user=mlflow"
    with client.connect(f"{address} dbname=postgres") as admin:
        admin.execute("DROP DATABASE IF EXISTS mlflow WITH (FORCE)")
        admin.execute("CREATE DATABASE mlflow")
    service = tmp_path / "pg_service.conf"
    service.write_text(f"[mlflow]\nhost={server}\nuser=mlflow\ndbname=mlflow\napplication_name=mlflow\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    monkeypatch.setenv("PGOPTIONS", "")
    opened = []

    def connect(application_name="mlflow", autocommit=True):
        opened.append(client.connect(f"service=mlflow application_name={application_name}", autocommit))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def prepared(connect, tmp_path, monkeypatch):
    """A database that is two revisions behind, and an MLflow whose migration alters a table and nothing else."""
    connect().execute(TABLES)
    file = tmp_path / "mlflow-server.json"
    file.write_text(json.dumps(EXPECTED))
    monkeypatch.setattr(schema, "EXPECTED", file)
    monkeypatch.setattr(prepare, "EVERY", 0.1)
    monkeypatch.setattr(prepare, "LOCK_TIMEOUT", "500ms")
    monkeypatch.setattr(prepare, "PAUSES", (0.1,) * 3)
    monkeypatch.setattr(prepare, "PATIENCE", 0)
    monkeypatch.setattr(mlflow_locks, "LONG", 0.1)
    monkeypatch.setattr(mlflow_locks.Watch, "EVERY", 0.05)
    tries = []

    def migrate(uri, username, password):
        tries.append(time.monotonic())
        # As Alembic does: in a session of its own, all in one transaction.
        with client.connect(f"service=mlflow application_name={prepare.MIGRATES}", autocommit=False) as session:
            session.execute("ALTER TABLE trace_info ADD COLUMN new text")
            session.execute("ALTER TABLE runs ADD COLUMN new text")
            session.execute("UPDATE alembic_version SET version_num = 't3'")

    monkeypatch.setattr(prepare.upgrading, "migrate", migrate)
    return tries


def apply(monkeypatch, check=False, **wanted):
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(WANTED | wanted)))
    return prepare.apply(check)


def in_background(work):
    """Call it in a thread; returns what gives the answer, or raises what was raised."""
    answer = []

    def run():
        try:
            answer.append(work())
        except BaseException as error:
            answer.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result():
        thread.join(20)
        assert answer, "it still waits"
        if isinstance(answer[0], BaseException):
            raise answer[0]
        return answer[0]

    return result


def revision(connect):
    return connect().execute("SELECT version_num FROM alembic_version").fetchone()[0]


def test_it_migrates_once_and_notes_the_version(connect, prepared, monkeypatch):
    looked = apply(monkeypatch, check=True)
    assert looked["changed"] and "migrate the tracking schema from t1 to t3" in looked["actions"]
    assert revision(connect) == "t1"
    assert apply(monkeypatch)["actions"] == looked["actions"]
    assert revision(connect) == "t3" and len(prepared) == 1
    assert schema.noted(connect()) == {"version": "3.17.2", "tracking": "t3", "auth": "a2"}
    again = apply(monkeypatch)
    assert not again["changed"] and again["actions"] == [] and len(prepared) == 1


def test_a_lock_that_is_not_to_be_had_is_given_up_and_tried_again(connect, prepared, monkeypatch):
    reader = connect(autocommit=False, application_name="pg_dump")
    reader.execute("SELECT count(*) FROM runs WHERE run_uuid <> 'a value of somebody''s'")
    pid = reader.info.backend_pid
    slowest, over = 0.0, threading.Event()

    def others():
        """Requests that want the table meanwhile stand behind the migration in the queue."""
        nonlocal slowest
        connection = client.connect()
        with connection:
            while not over.is_set():
                begin = time.monotonic()
                connection.execute("INSERT INTO runs (run_uuid) VALUES ('x')")
                slowest = max(slowest, time.monotonic() - begin)

    served, result = in_background(others), in_background(lambda: apply(monkeypatch))
    while len(prepared) < 2:
        time.sleep(0.05)
    reader.rollback()
    answer = result()
    over.set()
    served()
    assert slowest < 2.0
    assert revision(connect) == "t3"
    assert len(prepared) in (2, 3)
    said = next(text for text in answer["waited"] if "Got no lock" in text)
    assert f"pid {pid}, user mlflow (pg_dump), idle in transaction since 20" in said
    assert "somebody" not in " ".join(answer["waited"])


def test_whoever_is_in_the_way_for_ever_is_named_and_nothing_is_changed(connect, prepared, monkeypatch):
    reader = connect(autocommit=False, application_name="psql")
    reader.execute("SELECT count(*) FROM runs WHERE run_uuid <> 'a value'")
    with pytest.raises(SystemExit) as refusal:
        apply(monkeypatch)
    assert len(prepared) == 4
    text = str(refusal.value)
    assert "Could not migrate the tracking schema from t1 to t3" in text and "4 times a lock was not to be had for 500ms" in text
    assert f"In the way: pid {reader.info.backend_pid}, user mlflow (psql), idle in transaction since 20" in text
    assert "a value" not in text
    assert revision(connect) == "t1"
    # All of it was taken back, what was altered before the wait as well.
    columns = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'new'"
    assert connect().execute(columns).fetchone() == (0,)
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    assert connect().execute(locks).fetchone() == (0,)


def test_transactions_that_are_open_for_long_are_waited_for_before_the_first_try(connect, prepared, monkeypatch):
    monkeypatch.setattr(prepare, "PATIENCE", 20)
    reader = connect(autocommit=False)
    reader.execute("SELECT * FROM runs")
    result = in_background(lambda: apply(monkeypatch))
    time.sleep(1)
    assert not prepared
    reader.rollback()
    answer = result()
    assert len(prepared) == 1
    assert any(f"open for long: pid {reader.info.backend_pid}, user mlflow" in text for text in answer["waited"])


def test_short_transactions_are_not_waited_for(connect, prepared):
    busy, over = connect(), threading.Event()

    def work():
        while not over.is_set():
            with busy.transaction():
                busy.execute("INSERT INTO runs (run_uuid) VALUES ('x')")

    done = in_background(work)
    try:
        for _ in range(5):
            assert mlflow_locks.open_for_long(connect()) == []
    finally:
        over.set()
        done()


def test_another_host_is_waited_for_as_long_as_it_lives_and_named(connect, prepared, monkeypatch):
    holder = connect(application_name=prepare.HOLDS)
    holder.execute("SELECT pg_advisory_lock(%s)", (prepare.LOCK,))
    pid = holder.info.backend_pid
    result = in_background(lambda: apply(monkeypatch))
    # Longer than lock_timeout is: it is no limit to this.
    time.sleep(1.5)
    assert not prepared
    # It was the other one that did it.
    holder.execute("ALTER TABLE runs ADD COLUMN new text; UPDATE alembic_version SET version_num = 't3'")
    holder.close()
    answer = result()
    assert not prepared
    said = f"Waits while another host prepares the database: pid {pid}, user mlflow (mlflow-setup)"
    assert answer["waited"][0].startswith(said)


def test_a_look_while_another_host_migrates_waits_too(connect, prepared, monkeypatch):
    holder, session = connect(), connect(autocommit=False)
    holder.execute("SELECT pg_advisory_lock(%s)", (prepare.LOCK,))
    session.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    result = in_background(lambda: apply(monkeypatch, check=True))
    time.sleep(1.5)
    session.commit()
    holder.close()
    assert "another host prepares" in result()["waited"][0]
    # Where nobody migrates, somebody else has it.
    session.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(SystemExit, match="does not let us look"):
        apply(monkeypatch, check=True)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("table, found", [("alembic_version", "t4"), ("alembic_version_auth", "a3")])
def test_a_database_of_a_newer_version_is_refused_by_name(connect, prepared, monkeypatch, check, table, found):
    database = connect()
    database.execute(f"UPDATE {table} SET version_num = '{found}'")
    with pytest.raises(SystemExit, match="was migrated by a newer MLflow .*the version that migrated it.*Nothing was changed"):
        apply(monkeypatch, check)
    newer = EXPECTED | {"version": "3.18.0", "tracking": "t4", "auth": "a3"}
    prepare._note_version(database, newer)
    with pytest.raises(SystemExit, match="was migrated by MLflow 3.18.0 .*set mlflow_server_version to 3.18.0 or newer"):
        apply(monkeypatch, check)
    # Without logins nobody uses that schema.
    if found == "a3":
        assert not prepared
        apply(monkeypatch, check, username="")
    assert len(prepared) == (found == "a3" and not check)


def test_a_database_that_breaks_off_is_told_in_one_line(connect, prepared, monkeypatch):
    def end(username, password):
        connect().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", (prepare.HOLDS,)
        )

    monkeypatch.setattr(prepare.upgrading, "migrate", end)
    with pytest.raises(SystemExit, match="^(The database broke off|Could not migrate)"):
        apply(monkeypatch)


@pytest.mark.parametrize(
    "change, says",
    [
        ("SELECT 1", "tracking schema t1.*has t3.*Run the mlflow_server role .site.yml., which migrates it"),
        ("UPDATE alembic_version SET version_num = 't3'", None),
        ("UPDATE alembic_version SET version_num = 't4'", "tracking schema t4.*needs MLflow of the version that migrated"),
        (
            "UPDATE alembic_version SET version_num = 't3'; UPDATE alembic_version_auth SET version_num = 'a3'",
            "auth schema a3.*needs MLflow of the version",
        ),
        ("DROP TABLE alembic_version", "tracking schema of nothing yet.*Run the mlflow_server role"),
    ],
)
def test_a_process_serves_its_own_schema_and_says_what_another_one_needs(connect, prepared, monkeypatch, capsys, change, says):
    monkeypatch.setattr(schema, "PAUSE", 0)
    connect().execute(change)
    if says is None:
        schema.refuse_another(with_auth=True)
        return
    with pytest.raises(SystemExit) as end:
        schema.refuse_another(with_auth=True)
    assert end.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.search(says, lines[0]), lines[0]


def test_a_process_names_the_version_that_it_needs(connect, prepared, monkeypatch, capsys):
    monkeypatch.setattr(schema, "PAUSE", 0)
    database = connect()
    database.execute("UPDATE alembic_version SET version_num = 't4'")
    prepare._note_version(database, EXPECTED | {"version": "3.18.0", "tracking": "t4"})
    with pytest.raises(SystemExit):
        schema.refuse_another(with_auth=False)
    said = capsys.readouterr().err
    assert "tracking schema t4 of MLflow 3.18.0" in said and "needs MLflow 3.18.0 or newer" in said


def test_a_note_of_another_schema_names_no_version(connect, prepared):
    """Somebody has migrated by hand since."""
    database = connect()
    database.execute("UPDATE alembic_version SET version_num = 't4'")
    prepare._note_version(database, EXPECTED | {"version": "3.16.0", "tracking": "t2"})
    said = schema.difference(database, EXPECTED, with_auth=False)
    assert "has the tracking schema t4, and this" in said and "3.16.0" not in said
    assert "needs MLflow of the version that migrated the database or newer" in said


def test_a_process_whose_database_is_away_says_so_in_one_line(monkeypatch, tmp_path, capsys):
    service = tmp_path / "pg_service.conf"
    service.write_text(f"[mlflow]\nhost={tmp_path}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    monkeypatch.setattr(schema, "PAUSE", 0)
    with pytest.raises(SystemExit):
        schema.refuse_another(with_auth=True)
    said = capsys.readouterr().err
    assert said.startswith("The database does not let MLflow in: ") and said.count("\n") == 1


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with two files."""
    (tmp_path / "thing-1.dist-info").mkdir()
    rows = []
    for name, content in (("thing.py", b"VALUE = 1\n"), ("data.bin", b"\0" * 1000)):
        (tmp_path / name).write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(content)}")
    rows.append("thing-1.dist-info/RECORD,,")
    (tmp_path / "thing-1.dist-info" / "RECORD").write_text("\n".join(rows) + "\n")
    (tmp_path / "mlflow-server.json").write_text("{}")
    monkeypatch.setattr(prepare.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(prepare, "EXPECTED", tmp_path / "mlflow-server.json")
    return tmp_path


def test_what_is_whole_is_not_damaged(installed):
    assert prepare.damaged() == []


@pytest.mark.parametrize("file", ["thing.py", "data.bin", "thing-1.dist-info/RECORD", "mlflow-server.json"])
def test_a_file_that_a_loss_of_power_has_emptied_is_found(installed, file):
    (installed / file).write_bytes(b"")
    assert prepare.damaged() == [str(installed / file)]


def test_files_that_are_gone_are_found(installed):
    (installed / "thing.py").unlink()
    assert prepare.damaged() == [str(installed / "thing.py")]
    (installed / "thing-1.dist-info" / "RECORD").unlink()
    assert prepare.damaged() == [f"lists of packages in {installed}"]


def test_a_missing_lock_is_known_behind_what_others_made_of_it(connect):
    holds, waits = connect(), connect()
    holds.execute("CREATE TABLE wanted (name text)")
    holds.execute("BEGIN; LOCK TABLE wanted")
    waits.execute("SET lock_timeout = '50ms'")
    with pytest.raises(psycopg2.errors.LockNotAvailable) as missing:
        waits.execute("SELECT * FROM wanted")
    from_sqlalchemy = RuntimeError("(psycopg2.errors.LockNotAvailable) ALTER TABLE …")
    from_sqlalchemy.orig = missing.value
    wrapped = RuntimeError("MLflow's")
    wrapped.__cause__ = from_sqlalchemy
    assert prepare._got_no_lock(missing.value) and prepare._got_no_lock(wrapped)
    with pytest.raises(psycopg2.errors.UndefinedTable) as other:
        waits.execute("SELECT * FROM nowhere")
    assert not prepare._got_no_lock(other.value)


# -- what is made and noted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version, than, newer",
    [
        ("3.10.0", "3.9.9", True),
        ("3.9.9", "3.10.0", False),
        ("4.0.0", "3.17.2", True),
        ("3.17.2", "3.17.2", False),
        ("3.17.2.post1", "3.17.2", False),
        ("3.17.3", "3.17.2rc1", True),
    ],
)
def test_a_version_is_compared_by_its_numbers(version, than, newer):
    assert schema.is_newer(version, than) is newer


def test_sessions_begin_with_a_setting_and_with_those_that_others_wanted(connect, monkeypatch):
    for before in ("", "-c work_mem=5MB"):
        monkeypatch.setenv("PGOPTIONS", before)
        schema.begin_sessions_with("lock_timeout", "7s")
        session = connect()
        assert session.execute("SHOW lock_timeout").fetchone()[0] == "7s"
        assert (session.execute("SHOW work_mem").fetchone()[0] == "5MB") == bool(before)


def test_an_artifact_store_is_noted_once_and_another_one_since_now(connect, prepared, monkeypatch):
    """What a database without runs is used with, it has always been used with."""
    database = connect()
    assert schema.artifact_store(database) is None
    assert "note the artifact store s3://bucket/x" in apply(monkeypatch)["actions"]
    assert schema.artifact_store(database) == ("s3://bucket/x", "")
    assert not apply(monkeypatch)["changed"]
    for another in ({"root": "s3://bucket/y", "endpoint": ""}, {"root": "s3://bucket/y", "endpoint": "https://s3.example.com"}):
        assert apply(monkeypatch, artifacts=another)["actions"] == ["note the artifact store s3://bucket/y"]
        assert schema.artifact_store(database) == (another["root"], another["endpoint"])
    since = database.execute(f"SELECT since < now() - interval '1 year' FROM {schema.ARTIFACT_STORES} ORDER BY since")
    assert [row[0] for row in since.fetchall()] == [True, False, False]
    assert not apply(monkeypatch, artifacts=None)["changed"]


@pytest.mark.parametrize("table", ["runs", "logged_models", "trace_info"])
def test_a_database_that_was_used_has_its_artifact_store_since_now(connect, prepared, monkeypatch, table):
    database = connect()
    database.execute(f"INSERT INTO {table} VALUES ('one')")
    apply(monkeypatch)
    since = database.execute(f"SELECT since > now() - interval '1 hour' FROM {schema.ARTIFACT_STORES}")
    assert since.fetchall() == [(True,)]


def test_the_key_of_all_hosts_is_made_once(connect, prepared, monkeypatch):
    assert "key" not in apply(monkeypatch)
    looked = apply(monkeypatch, check=True, wants_key=True)
    assert looked["actions"] == ["make the key that signs sessions"] and "key" not in looked
    first = apply(monkeypatch, wants_key=True)
    assert first["changed"] and len(first["key"]) > 40
    again = apply(monkeypatch, wants_key=True)
    assert again["key"] == first["key"] and not again["changed"]


# --- the key for webhooks ---


@pytest.fixture
def hooks(connect, prepared, monkeypatch):
    """A database that is migrated, and what puts webhooks into it, each with a key of its own."""
    apply(monkeypatch)
    connect().execute("CREATE TABLE webhooks (webhook_id text, name text, status text, secret text, deleted_timestamp bigint)")

    def put(name, key=None, deleted=None):
        secret = Fernet(keys.of_fernet(key)).encrypt(b"secret").decode() if key else None
        connect().execute("INSERT INTO webhooks VALUES (%s, %s, 'ACTIVE', %s, %s)", (f"id-{name}", name, secret, deleted))

    return put


def test_a_key_for_webhooks_is_made_once_and_shared(hooks, prepared, monkeypatch):
    wanted = {"webhooks": {"key": "", "forget": False}}
    looked = apply(monkeypatch, check=True, **wanted)
    assert looked["actions"] == ["make the key that encrypts the secrets of webhooks"] and "webhook_key" not in looked
    first = apply(monkeypatch, **wanted)
    assert first["changed"] and len(first["webhook_key"]) > 40
    again = apply(monkeypatch, **wanted)
    assert again["webhook_key"] == first["webhook_key"] and not again["changed"]
    # A key that is given is kept elsewhere.
    given = apply(monkeypatch, webhooks={"key": "a key from elsewhere", "forget": False})
    assert not given["changed"] and "webhook_key" not in given and "webhook_key" not in apply(monkeypatch)


def test_webhooks_of_another_key_are_named_before_anything_is_changed(hooks, connect, monkeypatch):
    hooks("mine", "the key of all hosts")
    hooks("no-secret")
    hooks("gone", "the key of a process that has ended", deleted=1)
    wanted = {"webhooks": {"key": "the key of all hosts", "forget": False}}
    assert not apply(monkeypatch, **wanted)["changed"]
    hooks("lost", "the key of a process that has ended")
    before = connect().execute("SELECT * FROM webhooks ORDER BY name").fetchall()
    for check in (True, False):
        with pytest.raises(SystemExit, match="encrypted with another key: lost. .*mlflow_server_webhook_forget_secrets: true"):
            apply(monkeypatch, check, **wanted)
    assert connect().execute("SELECT * FROM webhooks ORDER BY name").fetchall() == before
    # Without webhooks nobody asks for their key.
    assert not apply(monkeypatch)["changed"]


def test_what_is_lost_is_given_up_by_a_second_word(hooks, connect, monkeypatch):
    hooks("mine", "the key of all hosts")
    hooks("lost", "the key of a process that has ended")
    wanted = {"webhooks": {"key": "the key of all hosts", "forget": True}}
    assert apply(monkeypatch, check=True, **wanted)["actions"] == ["forget the secrets of the webhooks lost"]
    assert apply(monkeypatch, **wanted)["changed"] and not apply(monkeypatch, **wanted)["changed"]
    rows = connect().execute("SELECT name, status, secret IS NULL FROM webhooks ORDER BY name").fetchall()
    assert rows == [("lost", "DISABLED", True), ("mine", "ACTIVE", False)]


# --- the passphrase of the gateway ---


def test_a_passphrase_that_does_not_open_all_keys_is_refused_by_their_names(connect, prepared, monkeypatch):
    apply(monkeypatch)
    wanted = {"gateway": {"passphrase": "of this deployment", "allow_lost": False}}
    # Where there is no key, or no table yet, nothing is looked at, and MLflow is not imported.
    monkeypatch.setattr(prepare.gateway, "locked", None)
    assert not apply(monkeypatch, **wanted)["changed"]
    connect().execute("CREATE TABLE secrets (secret_name text, wrapped_dek bytea, kek_version int)")
    assert not apply(monkeypatch, **wanted)["changed"]
    connect().execute("INSERT INTO secrets VALUES ('openai', 'of this deployment', 1), ('lost', 'another', 1)")

    def locked(rows, passphrase):
        return [name for name, wrapped, version in rows if bytes(wrapped) != passphrase.encode() and version == 1]

    monkeypatch.setattr(prepare.gateway, "locked", locked)
    for check in (True, False):
        with pytest.raises(SystemExit, match="does not open these keys of the AI gateway: lost. .*allow_lost_keys: true"):
            apply(monkeypatch, check, **wanted)
    wanted["gateway"]["allow_lost"] = True
    assert not apply(monkeypatch, **wanted)["changed"]
    # Where the gateway is off nobody asks.
    assert not apply(monkeypatch)["changed"]


@pytest.mark.parametrize("given", ["not so secret", ""])
@pytest.mark.parametrize("gone", ["DELETE FROM users", "DROP TABLE users"])
def test_an_administrator_without_a_password_gets_one_that_its_owner_alone_can_read(
    connect, prepared, monkeypatch, tmp_path, given, gone
):
    file, told = tmp_path / "admin-password", []
    monkeypatch.setattr(prepare, "PASSWORD_FILE", file)
    monkeypatch.setattr(prepare.upgrading, "migrate", lambda uri, username, password: told.append((username, password)))
    # Longer than the one that is made.
    file.write_text("of yesterday, " * 9)
    file.chmod(0o600)
    connect().execute(gone)
    answer = apply(monkeypatch, password=given)
    assert "create the administrator admin" in answer["actions"]
    if given:
        assert told == [("admin", given)] and "password_file" not in answer
        return
    made = file.read_text()
    assert told == [("admin", made.removesuffix("\n"))] and len(made) == 25 and made.endswith("\n")
    assert answer["password_file"] == str(file) and file.stat().st_mode & 0o777 == 0o600


def test_a_server_without_logins_has_no_administrator(connect, prepared, monkeypatch):
    connect().execute("DROP TABLE users; DROP TABLE alembic_version_auth")
    actions = apply(monkeypatch, check=True, username="")["actions"]
    assert not any("administrator" in action or "authentication" in action for action in actions)


def test_files_of_the_user_interface_are_compressed_where_that_pays(tmp_path, monkeypatch):
    # A name that MLflow uses no more is nothing to fail for.
    monkeypatch.setattr(prepare, "COMPILED_BESIDE", ("a_package_that_is_gone", "wave"))
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    content = b"let one = 1;\n" * 500
    for name in ("big.js", "big.png"):
        (tmp_path / "js").mkdir(exist_ok=True)
        (tmp_path / "js" / name).write_bytes(content)
    (tmp_path / "small.js").write_bytes(b"let one = 1;\n")
    packed = set()
    for _ in range(2):
        prepare._beside(tmp_path)
        packed.add((tmp_path / "js" / "big.js.gz").read_bytes())
    assert [file.name for file in tmp_path.rglob("*.gz")] == ["big.js.gz"] and len(packed) == 1
    assert gzip.decompress(packed.pop()) == content and "wave" in sys.modules


PREPARES = """
import sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
sys.path.append(sys.argv[2])
from mlflow_service import application
from mlflow_service.compat import upgrading
from mlflow_service.database import prepare
application.import_everything = lambda: __import__("mlflow.server")
prepare.COMPILED_BESIDE = ("mlflow.beside",)
revisions = [SimpleNamespace(revision=name) for name in ("t2", "t1")]
script = SimpleNamespace(get_current_head=lambda: "t2", walk_revisions=lambda: revisions)
upgrading.scripts = lambda: {"tracking": script}
prepare.prepare()
"""


def test_a_venv_is_prepared_and_once_more_without_harm(tmp_path):
    """With an MLflow that is four files and a page, in an interpreter that is told to write no bytecode."""
    venv, cache = tmp_path / "venv", tmp_path / "cache"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    packages = next(venv.glob("lib/python3*/site-packages"))
    page = packages / "mlflow" / "server" / "js" / "build" / "static" / "page.js"
    page.parent.mkdir(parents=True)
    page.write_text("let one = 1;\n" * 500)
    for name, text in {"__init__": "", "beside": "", "server/__init__": "", "version": 'VERSION = "3.99.0"\n'}.items():
        (packages / "mlflow" / f"{name}.py").write_text(text)
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    command = [venv / "bin/python", "-c", PREPARES, Path(prepare.__file__).parents[2], ours]
    for _ in range(2):
        subprocess.run(command, check=True, env={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(cache)})
    assert gzip.decompress((venv / "ui" / "static" / "page.js.gz").read_bytes()) == page.read_bytes()
    compiled = {file.name.split(".")[0] for file in (cache / packages.relative_to("/") / "mlflow").rglob("*.pyc")}
    assert compiled == {"__init__", "beside", "version"} and len(list(cache.rglob("mlflow/server/*.pyc"))) == 1
    written = json.loads((venv / "mlflow-server.json").read_text())
    assert written == {"version": "3.99.0", "tracking": "t2", "known": {"tracking": ["t1", "t2"]}}
    assert (packages / "mlops_mlflow_aws_service.pth").exists()


# -- what the venv is told of the service -----------------------------------------------------------------------------


def test_every_process_of_the_venv_finds_the_plugin_of_the_stores_addresses(tmp_path):
    """By an entry point, in an interpreter that knows nothing of the service but what is in its packages."""
    service = Path(prepare.__file__).parents[2]
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    packages = next(venv.glob("lib/python3*/site-packages"))
    program = (
        "import sysconfig, sys; sys.path.insert(0, sys.argv[1]); sys.path.append(sys.argv[2]);"
        "from mlflow_service.database import prepare; prepare._register(); prepare._register();"
        "prepare.EXPECTED.write_text('{}'); print(prepare.damaged())"
    )
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    done = subprocess.run([venv / "bin/python", "-c", program, service, ours], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n", "what is written is what the list of it says"
    finds = (
        "import sys; sys.path.append(sys.argv[1]);"
        "from sqlalchemy import create_engine; from mlflow_service.database import client;"
        "print(create_engine(client.STORE_URI).dialect.executemany_mode)"
    )
    found = subprocess.run([venv / "bin/python", "-c", finds, ours], check=True, capture_output=True, text=True)
    assert "BATCH" in found.stdout.upper()
    (packages / "mlops_mlflow_aws_service.pth").write_text("/somewhere\n")
    whole = program.replace("prepare._register(); prepare._register();", "")
    done = subprocess.run([venv / "bin/python", "-c", whole, service, ours], check=True, capture_output=True, text=True)
    assert "mlops_mlflow_aws_service.pth" in done.stdout
