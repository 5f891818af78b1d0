# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Prepare an installation and its database; run by the mlflow_server role with the venv's Python.

    python -m mlflow_service.database.prepare prepare           write down what this installation expects (once per venv)
    python -m mlflow_service.database.prepare apply [--check]   migrate the database and make the administrator where needed
    python -m mlflow_service.database.prepare whole             compare what is installed with what the packages say of it

`apply` reads {"username": ..., "password": ..., "wants_key": ..., "users_from": {"name": ..., "password": ..., "content": ...},
"artifacts": {"root": ..., "endpoint": ...}, "webhooks": {"key": ..., "forget": ...}, "gateway": {"passphrase": ...,
"allow_lost": ...}, "allow_downgrade": ...} from its standard input (the first four only with authentication, webhooks and gateway
where they are on), so that no password is in an argument or in the environment. It prints one JSON object: changed, actions,
max_connections and tls; the keys that all hosts share, if they are wanted; the file with the administrator's password, if it made
one because none was given; and what it waited for. When nothing is to be done it does not import MLflow, which takes seconds,
unless there are keys of the AI gateway to be looked at. A database of a newer MLflow is refused, with --check too; so is one of
the same schema that a newer MLflow has used, but for "allow_downgrade".

A migration wants locks that nobody else may have, and behind it in the queue everybody waits who uses the table. So it waits
for a lock some seconds only, gives its place up and tries again later. It is one transaction: nothing is left of a try that
failed. What it waits for is in the journal at once: journalctl -t mlflow-setup.

It also notes in a table of its own which artifact store the database is used with, and since when: database/gc.py removes
only what was made since. In a tag of MLflow's, any user who may edit that experiment could change it.
"""

import argparse
import base64
import contextlib
import csv
import gc
import gzip
import hashlib
import importlib.util
import json
import multiprocessing
import os
import secrets
import sys
import sysconfig
import syslog
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psycopg2
import psycopg2.errors

from mlflow_service import keys
from mlflow_service.compat import gateway, upgrading
from mlflow_service.database import client, locks, schema, users
from mlflow_service.database.schema import ARTIFACT_STORES, EXPECTED, SHARED

# The names of the session that holds the lock, and of those that migrate.
HOLDS, MIGRATES = "mlflow-setup", "mlflow-migration"
STORE_URI = f"{client.STORE_URI}&application_name={MIGRATES}"
COMPRESSED = (".css", ".js", ".json", ".svg")
# What MLflow imports late, or what takes longest to compile: half of it. Where a name is none any more it only takes longer.
COMPILED_BESIDE = (
    "pandas",
    "sqlalchemy.orm",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "alembic.command",
    "aiohttp",
    "fastapi",
    "flask",
)
# Any number, as long as all hosts use the same: one host migrates, the others wait for it.
LOCK = 0x6D6C666C6F77
# Seconds between two looks whether the other host is through. As long as it lives it is waited for.
EVERY = 2.0
# How long one statement waits for a lock, in every session of this program. Meanwhile the requests of all hosts wait behind it.
LOCK_TIMEOUT = "5s"
# Seconds between two tries of a migration that got no lock: twelve minutes. RDS ends an idle transaction after ten.
PAUSES = (5, 10, 20, 40, *[60] * 10)
# Seconds that transactions which have been open for long get to end before the first try.
PATIENCE = 60
PASSWORD_FILE = Path(os.environ.get("HOME", "."), "admin-password")
KEY, WEBHOOK_KEY = "flask_secret_key", "webhook_key"
# As which this service is found in its venv.
DISTRIBUTION = "mlops_mlflow_aws_service"


def _compress(file):
    """nginx sends this as it is."""
    content = file.read_bytes()
    if len(content) >= 1024:
        # A stronger compression takes twice the time for half a percent.
        with file.with_name(f"{file.name}.gz").open("wb") as packed, gzip.GzipFile("", "wb", 6, packed, mtime=0) as target:
            target.write(content)


def _beside(static):
    """What a second processor can do meanwhile."""
    for name in COMPILED_BESIDE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for file in static.rglob("*"):
        if file.suffix in COMPRESSED:
            _compress(file)


def prepare():
    # What is imported here leaves its bytecode, so that the service, which can't write it, need not compile at each start.
    # All that comes with MLflow is five times as much, and the server uses none of the rest.
    sys.dont_write_bytecode = False
    gc.disable()

    # nginx serves the files of the user interface; their place depends on the Python version.
    link = Path(sys.prefix) / "ui"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(importlib.util.find_spec("mlflow").origin).parent / "server" / "js" / "build")

    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as helper:
        rest = helper.submit(_beside, link / "static")
        from mlflow_service import application

        application.import_everything()
        rest.result()

    from mlflow.version import VERSION

    scripts = upgrading.scripts()
    expected = {
        "version": VERSION,
        **{kind: found.get_current_head() for kind, found in scripts.items()},
        # What it can migrate from: any other revision is one of a newer MLflow.
        "known": {kind: _revisions(found) for kind, found in scripts.items()},
    }
    EXPECTED.write_text(json.dumps(expected) + "\n", encoding="utf-8")
    _register()


def _register():
    """
    Let SQLAlchemy find database/engine.py in every process of this venv, MLflow's own commands included.

    What is written is the same for each version of the service, since a role that brings another one only replaces its code.
    """
    packages = Path(sysconfig.get_path("purelib"))
    about = f"{DISTRIBUTION}-1.dist-info"
    files = {
        f"{DISTRIBUTION}.pth": f"{Path(__file__).resolve().parents[2]}\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 1\n",
        f"{about}/INSTALLER": "mlflow_server\n",
        f"{about}/entry_points.txt": "[sqlalchemy.plugins]\nmlflow_server = mlflow_service.database.engine:Plugin\n",
    }
    (packages / about).mkdir(exist_ok=True)
    for name, content in files.items():
        (packages / name).write_text(content, encoding="utf-8")
    record = "".join(f"{name},sha256={_digest(content.encode(), 'sha256')},{len(content)}\n" for name, content in files.items())
    (packages / about / "RECORD").write_text(f"{record}{about}/RECORD,,\n", encoding="utf-8")


def _revisions(scripts):
    return sorted(script.revision for script in scripts.walk_revisions())


def damaged():
    """
    Return the first files that are not what their package says, or a line on what is wrong with all of it.

    After a loss of power the mark of a finished venv may be on the disk and what was unpacked before it may not.
    """
    packages = Path(sysconfig.get_path("purelib"))
    records = sorted(packages.glob("*.dist-info/RECORD"))
    if len(records) != len(list(packages.glob("*.dist-info"))) or not records:
        return [f"lists of packages in {packages}"]
    wrong = []
    for record in records:
        with record.open(newline="", encoding="utf-8") as rows:
            listed = [row for row in csv.reader(rows) if len(row) == 3]
        wrong += [str(record)] if not listed else []
        wrong += [str(packages / name) for name, wanted, dummy in listed if wanted and not _is(packages / name, wanted)]
    if not EXPECTED.is_file() or not EXPECTED.stat().st_size:
        wrong.append(str(EXPECTED))
    return wrong[:5]


def _is(file, wanted):
    """Whether this is a file's content, by a RECORD's `sha256=…`."""
    kind, dummy, digest = wanted.partition("=")
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return _digest(content, kind) == digest


def _digest(content, kind):
    """As a RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.new(kind, content).digest()).rstrip(b"=").decode()


def _make_shared_key(connection, name):
    schema.make_shared_table(connection)
    insert = f"INSERT INTO {SHARED} VALUES (%s, %s) ON CONFLICT DO NOTHING"
    connection.execute(insert, (name, secrets.token_urlsafe(32)))
    return schema.shared(connection, name)


def _webhooks_of_another_key(connection, key):
    """The webhooks whose secret can't be read with a key, as pairs of id and name. One of them fails the list of all."""
    if not schema.there(connection, "webhooks"):
        return []
    rows = connection.execute(
        "SELECT webhook_id, name, secret FROM webhooks WHERE secret IS NOT NULL AND deleted_timestamp IS NULL ORDER BY name"
    ).fetchall()
    if not rows:
        return []
    from cryptography.fernet import Fernet, InvalidToken

    lost = []
    for webhook, name, secret in rows:
        try:
            Fernet(keys.of_fernet(key)).decrypt(secret.encode())
        except InvalidToken:
            lost.append((webhook, name))
    return lost


def _refuse_another_webhook_key(lost):
    raise SystemExit(
        f"The secrets of these webhooks were encrypted with another key: {', '.join(name for dummy, name in lost)}. With this "
        "one MLflow can neither list webhooks nor deliver to any. Give that key as mlflow_server_webhook_key. Where it is lost, "
        "as that of a process that had none, set mlflow_server_webhook_forget_secrets: true for one run: these webhooks are "
        "disabled and have no secret then, and an administrator gives them a new one. Nothing was changed."
    )


def _forget_secrets(connection, lost):
    """Of webhooks that nobody can read. They are delivered to nobody until an administrator has looked at them."""
    ids = [webhook for webhook, dummy in lost]
    connection.execute("UPDATE webhooks SET secret = NULL, status = 'DISABLED' WHERE webhook_id = ANY(%s)", (ids,))


def _refuse_another_passphrase(connection, passphrase):
    """Keys that nobody can read are noticed by whoever asks a model, and in the journal alone."""
    if not schema.there(connection, "secrets"):
        return
    rows = connection.execute("SELECT secret_name, wrapped_dek, kek_version FROM secrets ORDER BY secret_name").fetchall()
    locked = gateway.locked(rows, passphrase) if rows else []
    if locked:
        raise SystemExit(
            f"mlflow_server_gateway_passphrase does not open these keys of the AI gateway: {', '.join(locked)}. Give the one "
            "that they were encrypted with. Where it is lost so are they: set mlflow_server_gateway_allow_lost_keys: true, and "
            "enter them anew in MLflow, or delete them there. Nothing was changed."
        )


def _make_password():
    """A password for the administrator. It is on the disk before there is anything that it opens."""
    password = secrets.token_urlsafe(18)
    with open(os.open(PASSWORD_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(f"{password}\n")
        file.flush()
        os.fsync(file.fileno())
    return password


def _note(connection, artifacts):
    """Note the artifact store, as the one of always where nothing was made yet."""
    with connection.transaction():
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {ARTIFACT_STORES} "
            "(since timestamptz PRIMARY KEY, root text NOT NULL, endpoint text NOT NULL)"
        )
        connection.execute(
            f"INSERT INTO {ARTIFACT_STORES} SELECT CASE WHEN EXISTS (SELECT 1 FROM runs) "
            "OR EXISTS (SELECT 1 FROM logged_models) OR EXISTS (SELECT 1 FROM trace_info) "
            f"OR EXISTS (SELECT 1 FROM {ARTIFACT_STORES}) THEN clock_timestamp() ELSE to_timestamp(-1) END, %s, %s",
            (artifacts["root"], artifacts["endpoint"]),
        )


def _note_version(connection, expected):
    """Note which MLflow uses this schema, for whoever finds one that is too new for it, or comes with a lower version."""
    schema.make_shared_table(connection)
    connection.execute(
        f"INSERT INTO {SHARED} VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (schema.NOTE, json.dumps({name: expected[name] for name in ("version", "tracking", "auth")})),
    )


def _known(expected):
    """The revisions that this MLflow can migrate from. Installed by an earlier role it has no list of them."""
    if "known" not in expected:
        expected["known"] = {kind: _revisions(found) for kind, found in upgrading.scripts().items()}
    return expected["known"]


def _refuse(expected, why):
    raise SystemExit(f"The database can't be prepared for MLflow {expected['version']}: {why}. Nothing was changed.")


def _refuse_pooler(connection, expected):
    if schema.through_a_pooler(connection):
        _refuse(expected, schema.POOLER)


def _refuse_place(connection, expected, with_auth):
    """A second login, or one with another search_path, must find the tables that are there."""
    place = schema.out_of_place(connection, with_auth)
    if place:
        _refuse(expected, place)


def _refuse_rights(connection, expected, with_auth, migrates):
    """Whoever can't make what is missing is told so before a part of it is there."""
    why = schema.can_not_make(connection, with_auth, migrates)
    if why:
        _refuse(expected, why)


def _users_to_bring(connection, expected, wanted):
    """Those of a server that is taken over; refused where nobody has said whether there are any."""
    about = wanted.get("users_from")
    if not wanted.get("username"):
        return None
    if not about:
        why = users.missing(connection)
        if why:
            _refuse(expected, why)
    if not about or about["name"] == "none":
        return None
    try:
        return users.to_bring(connection, about, wanted["username"], wanted.get("password"), _known(expected)["auth"])
    except users.Unreadable as why:
        _refuse(expected, _not_brought(about, why))


def _not_brought(about, why):
    return f"the users that mlflow_server_users_from names ({about['name']}) can't be brought: {why}"


def _refuse_users(connection, expected):
    of_users = schema.users_schema(connection, _known(expected))
    if of_users:
        _refuse(expected, of_users)


def _refuse_newer(connection, expected, with_auth):
    """There is no way back to an older schema: say so before anything is changed."""
    for kind, found in schema.revisions(connection, with_auth).items():
        if found in (None, expected[kind]) or found in _known(expected)[kind]:
            continue
        version = schema.made_by(connection, kind, found)
        who, needs = "a newer MLflow", "the version that migrated it"
        if version:
            who, needs = f"MLflow {version}", f"{version} or newer"
        raise SystemExit(
            f"The database was migrated by {who} ({kind} schema {found}), and mlflow_server_version is {expected['version']}, "
            "which does not know that schema. There is no way back but a backup: set mlflow_server_version to "
            f"{needs}, or restore the database. Nothing was changed."
        )


def _refuse_lower(connection, expected):
    """Within one schema there is a way back, but hardly anybody means it."""
    found = schema.revision(connection, "tracking")
    version = schema.made_by(connection, "tracking", found)
    if found == expected["tracking"] and version and schema.is_newer(version, expected["version"]):
        raise SystemExit(
            f"The database was last used with MLflow {version}, and mlflow_server_version is {expected['version']}, which is "
            f"lower. Set mlflow_server_version to {version}; to go back all the same, which this schema allows, set "
            "mlflow_server_allow_downgrade: true. Nothing was changed."
        )


def _schema_actions(connection, expected, username, brought):
    """
    Return what is to be done with MLflow's own tables.

    :arg brought: The users that are to be brought, or nothing.
    """
    names = {"tracking": "tracking", "auth": "authentication"}
    actions = [
        f"migrate the {names[kind]} schema from {current or 'nothing'} to {expected[kind]}"
        for kind, current in schema.revisions(connection, username).items()
        if current != expected[kind]
    ]
    if brought:
        actions.append(f"bring {len(brought.names)} users from {brought.name}")
    if username and username not in (brought.names if brought else ()) and (
        not schema.there(connection, "users")
        or connection.execute("SELECT 1 FROM users WHERE username = %s", (username,)).fetchone() is None
    ):
        actions.append(f"create the administrator {username}")
    return actions


class Work:
    """What is to be done in the database, by what it holds now."""

    def __init__(self, connection, expected, wanted):
        self._connection = connection
        self._expected = expected
        self._wanted = wanted
        self._artifacts = wanted.get("artifacts")
        with_auth = bool(wanted.get("username"))
        # Where users are brought, those in another schema are not the ones that are missed.
        _refuse_place(connection, expected, with_auth and not wanted.get("users_from"))
        _refuse_users(connection, expected)
        _refuse_newer(connection, expected, with_auth)
        if not wanted.get("allow_downgrade"):
            _refuse_lower(connection, expected)
        self.users = _users_to_bring(connection, expected, wanted)
        self.schema = _schema_actions(connection, expected, wanted.get("username"), self.users)
        self.key = schema.shared(connection, KEY) if wanted.get("wants_key") else None
        self._look_at_webhooks(wanted.get("webhooks"))
        about = wanted.get("gateway")
        if about and not about.get("allow_lost"):
            _refuse_another_passphrase(connection, about["passphrase"])
        self.notes = bool(
            self._artifacts and schema.artifact_store(connection) != (self._artifacts["root"], self._artifacts["endpoint"])
        )
        note = schema.noted(connection)
        self.notes_version = any(note.get(name) != expected[name] for name in ("version", *schema.TABLES))
        if self.actions:
            _refuse_rights(connection, expected, with_auth, self.migrates)

    def _look_at_webhooks(self, webhooks):
        """The key that hosts share is told where none is given."""
        self.webhook_key, self._lost = None, []
        if webhooks is None:
            return
        if not webhooks.get("key"):
            self.webhook_key = schema.shared(self._connection, WEBHOOK_KEY)
        self._lost = _webhooks_of_another_key(self._connection, webhooks.get("key") or self.webhook_key)
        if self._lost and not webhooks.get("forget"):
            _refuse_another_webhook_key(self._lost)

    @property
    def migrates(self):
        return any(action.startswith("migrate ") for action in self.schema)

    @property
    def actions(self):
        return [
            *self.schema,
            *(["make the key that signs sessions"] if self.key == "" else []),
            *(["make the key that encrypts the secrets of webhooks"] if self.webhook_key == "" else []),
            *(["forget the secrets of the webhooks " + ", ".join(name for dummy, name in self._lost)] if self._lost else []),
            *([f"note the artifact store {self._artifacts['root']}"] if self.notes else []),
            *([f"note that the schema is of MLflow {self._expected['version']}"] if self.notes_version else []),
        ]

    def do(self, made):
        """Do it, and put into `made` the file with the administrator's password, if one was made."""
        if self.schema:
            password = self._wanted.get("password")
            if not password and any(action.startswith("create the administrator") for action in self.schema):
                password = _make_password()
                made["password_file"] = str(PASSWORD_FILE)
            bring = {"bring": self._bring} if self.users else {}
            upgrading.migrate(STORE_URI, self._wanted.get("username"), password, **bring)
        if self.key == "":
            self.key = _make_shared_key(self._connection, KEY)
        if self.webhook_key == "":
            self.webhook_key = _make_shared_key(self._connection, WEBHOOK_KEY)
        if self._lost:
            _forget_secrets(self._connection, self._lost)
        if self.notes:
            _note(self._connection, self._artifacts)
        if self.notes_version:
            _note_version(self._connection, self._expected)

    def _bring(self):
        try:
            self.users.bring(self._connection, self._wanted["username"])
        except users.Unreadable as why:
            raise SystemExit(f"{_not_brought(self._wanted['users_from'], why)}. None of them were.") from None


def _connect(application=HOLDS):
    return client.connect(f"service=mlflow connect_timeout=10 application_name={application}")


def _got_no_lock(error):
    """Whether a lock was missing, whoever has wrapped what PostgreSQL said."""
    while error is not None:
        if any(getattr(it, "pgcode", None) in locks.NO_LOCK for it in (error, getattr(error, "orig", None))):
            return True
        error = error.__cause__ or error.__context__
    return False


class Turn:
    """One host is at it, whoever else comes waits; and what is in the way of a migration is waited for."""

    def __init__(self, connection):
        self._connection = connection
        self.waited = []

    def _say(self, text):
        """In the journal now, and in the answer at the end."""
        if text not in self.waited:
            self.waited.append(text)
            syslog.openlog(HOLDS)
            syslog.syslog(syslog.LOG_NOTICE, text)

    def look(self, work):
        """Look what is to be done. Where another host migrates its locks are in the way of that, too."""
        while True:
            try:
                return work()
            except psycopg2.errors.LockNotAvailable:
                holder = locks.holder(self._connection, LOCK)
                if not holder:
                    raise
                self._say(f"Waits while another host prepares the database: {holder}")
                time.sleep(EVERY)

    def take(self):
        """Wait until no other host is at it. Who holds the lock may take hours, and a host that died lets it go."""
        while not self._connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()[0]:
            holder = locks.holder(self._connection, LOCK)
            if holder:
                self._say(f"Waits while another host prepares the database: {holder}")
            time.sleep(EVERY)

    def let_go(self):
        self._connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))

    def look_ahead(self):
        """Give transactions that have been open for long some time to end: each try would make the requests wait."""
        deadline = time.monotonic() + PATIENCE
        while (found := locks.open_for_long(self._connection)) and time.monotonic() < deadline:
            self._say(f"Waits for transactions that have been open for long: {'; '.join(found)}")
            time.sleep(min(EVERY, PATIENCE))

    def do(self, work, look, made):
        """Do the work, looked at again before each further try, until it is done or the patience is at its end."""
        if work.migrates:
            self.look_ahead()
        for pause in (*PAUSES, None):
            with locks.Watch(_connect, MIGRATES) as watch:
                try:
                    work.do(made)
                    return work
                except Exception as error:
                    # Nothing is left of a try that failed, or of its last transaction: look again what is to be done.
                    actions = " and ".join(work.actions)
                    if not _got_no_lock(error):
                        raise SystemExit(f"Could not {actions}: {error}") from None
            in_the_way = "; ".join(watch.seen) or "nobody who was there for long"
            if pause is None:
                raise SystemExit(
                    f"Could not {actions}: {len(PAUSES) + 1} times a lock was not to be had for {LOCK_TIMEOUT}. "
                    f"Longer than that the requests should not wait behind it. In the way: {in_the_way}. Have that end "
                    "(SELECT pg_terminate_backend(PID)), then run this again. What failed has changed nothing."
                )
            self._say(f"Got no lock for {LOCK_TIMEOUT} and tries again in {pause} s. In the way: {in_the_way}")
            time.sleep(pause)
            work = look()


def apply(check):
    wanted = json.load(sys.stdin)
    expected = schema.expected()
    # For the sessions that MLflow opens as well, of which each migrates in another one.
    schema.begin_sessions_with("lock_timeout", LOCK_TIMEOUT)
    try:
        connection = _connect()
    except psycopg2.OperationalError as error:
        if any(words in str(error) for words in schema.NO_SETTINGS):
            _refuse(expected, schema.POOLER)
        raise SystemExit(f"The database does not let MLflow in: {str(error).strip()}") from None
    made = {}
    try:
        with connection:
            _refuse_pooler(connection, expected)
            maximum = int(connection.execute("SHOW max_connections").fetchone()[0])
            tls = connection.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl").fetchone()
            turn = Turn(connection)

            def work_now():
                return Work(connection, expected, wanted)

            work = turn.look(work_now)
            actions = work.actions
            if actions and not check:
                turn.take()
                # Another host may have done it while this one waited.
                work = work_now()
                actions = work.actions
                work = turn.do(work, work_now, made)
                turn.let_go()
            made["waited"] = turn.waited
    except psycopg2.OperationalError as error:
        what = "does not let us look, run this again when it does" if _got_no_lock(error) else "broke off, run this again"
        raise SystemExit(f"The database {what}: {client.one_line(error)}") from None
    if work.key:
        made["key"] = work.key
    if work.webhook_key:
        made["webhook_key"] = work.webhook_key
    return {"changed": bool(actions), "actions": actions, "max_connections": maximum, "tls": tls and tls[0], **made}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["prepare", "apply", "whole"])
    parser.add_argument("--check", action="store_true", help="say what would be done, change nothing")
    arguments = parser.parse_args()
    os.umask(0o022)
    if arguments.command == "prepare":
        prepare()
    elif arguments.command == "whole":
        wrong = damaged()
        if wrong:
            raise SystemExit(f"Not as it was installed: {', '.join(wrong)}")
    else:
        print(json.dumps(apply(arguments.check)))


if __name__ == "__main__":
    main()
