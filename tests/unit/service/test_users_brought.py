# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The users of each earlier schema come over with what they may, by MLflow's own migrations: a real MLflow and a real PostgreSQL.

The MLflow is that of the Python which MLFLOW_PYTHON names, such as the one of a venv of the role.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

# A fixture, which pytest finds by its name here.
from test_prepare import connect  # noqa: F401

# The fixtures of the other file are arguments here.
# ruff: noqa: F811

SERVICE = Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"
PYTHON = os.environ.get("MLFLOW_PYTHON", "/opt/mlflow/current/bin/python")
pytestmark = pytest.mark.skipif(not Path(PYTHON).exists(), reason="MLFLOW_PYTHON names no Python with MLflow")

# What a server has left whose users are apart: a schema of that time, somebody with grants and somebody without, and the runs'
# tables of a server that was used. Then what the role does, looked at, done and done again, and what MLflow says of the users.
PROGRAM = """
import base64, io, json, sys
from pathlib import Path
from sqlalchemy import create_engine, text
from sqlalchemy.dialects import plugins
from werkzeug.security import generate_password_hash
plugins.register("mlflow_server", "mlflow_service.database.engine", "Plugin")
from mlflow_service.compat import upgrading
from mlflow_service.database import client, prepare, schema
from mlflow.server.auth.db import utils
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from mlflow.version import VERSION

asked = json.loads(sys.argv[1])
scripts = upgrading.scripts()
known = {kind: prepare._revisions(found) for kind, found in scripts.items()}
expected = {"version": VERSION, **{kind: found.get_current_head() for kind, found in scripts.items()}, "known": known}
schema.EXPECTED = Path(asked["folder"], "expected.json")
schema.EXPECTED.write_text(json.dumps(expected))

def apply(check=False, **more):
    store = {"artifacts": {"root": "s3://bucket/x", "endpoint": ""}}
    sys.stdin = io.StringIO(json.dumps({"username": "admin", "password": "not so secret 12", **store, **more}))
    return prepare.apply(check)

for revision in asked["revisions"]:
    with client.connect() as database:
        database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    folder = Path(asked["folder"], revision)
    folder.mkdir()
    uri, name = asked["uri"] or f"sqlite:///{folder}/basic_auth.db", asked["name"] or f"{folder}/basic_auth.db"
    engine = create_engine(uri)
    utils.migrate(engine, revision)
    with engine.begin() as connection:
        users = "INSERT INTO users VALUES (3, 'ana', :hash, false), (9, 'root', 'x', true)"
        connection.execute(text(users), {"hash": generate_password_hash("the password of ana")})
        for statement in asked["statements"] + (asked["of_today"] if revision == "head" else []):
            connection.execute(text(statement))
    engine.dispose()
    apply(username="")
    with client.connect() as database:
        database.execute("DROP TABLE mlflow_server_shared, mlflow_aws_artifact_stores")
        database.execute("INSERT INTO registered_models (name, creation_time, workspace) VALUES ('greet', 1, 'default')")
        database.execute(
            "INSERT INTO registered_model_tags (name, key, value, workspace) "
            "VALUES ('greet', 'mlflow.prompt.is_prompt', 'true', 'default')"
        )
    about = {"name": name}
    if not asked["uri"]:
        about["content"] = base64.b64encode(Path(name).read_bytes()).decode()
    looked, done, again = (apply(check, users_from=about) for check in (True, False, False))
    store = SqlAlchemyStore()
    store.init_db(prepare.STORE_URI)
    logins = [("ana", "the password of ana"), ("ana", "another password"), ("admin", "not so secret 12")]
    with client.connect() as database:
        grants = database.execute(
            "SELECT username, resource_type, resource_pattern, permission FROM users JOIN user_role_assignments a "
            "ON a.user_id = users.id JOIN role_permissions USING (role_id) ORDER BY resource_type"
        ).fetchall()
    print(json.dumps({
        "looked": looked["actions"], "done": done["changed"], "again": again["changed"], "grants": grants,
        "logins": [store.authenticate_user(*login) for login in logins],
        "admins": sorted(user.username for user in store.list_users() if user.is_admin),
    }))
"""
GRANTS = [
    "INSERT INTO experiment_permissions (id, experiment_id, user_id, permission) VALUES (2, '17', 3, 'MANAGE')",
    "INSERT INTO registered_model_permissions (id, name, user_id, permission) VALUES (4, 'net', 3, 'EDIT')",
    "INSERT INTO registered_model_permissions (id, name, user_id, permission) VALUES (5, 'greet', 3, 'READ')",
]
GRANTS_OF_TODAY = [
    "INSERT INTO roles (id, name, workspace) VALUES (6, '__user_3__', 'default')",
    "INSERT INTO user_role_assignments (id, user_id, role_id) VALUES (1, 3, 6)",
    "INSERT INTO role_permissions (id, role_id, resource_type, resource_pattern, permission) VALUES "
    "(1, 6, 'experiment', '17', 'MANAGE'), (2, 6, 'registered_model', 'net', 'EDIT'), "
    "(3, 6, 'registered_model', 'greet', 'READ')",
]


def brought(folder, revisions, uri=None, name=None):
    """What is said of each of these, one after the other."""
    asked = {"folder": str(folder), "revisions": revisions, "uri": uri, "name": name}
    asked |= {"statements": GRANTS, "of_today": GRANTS_OF_TODAY}
    environment = {**os.environ, "PYTHONPATH": str(SERVICE), "HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [PYTHON, "-c", PROGRAM, json.dumps(asked)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def right(found, name):
    assert any(action.startswith("bring 2 users from ") and action.endswith(name) for action in found["looked"])
    assert found["done"] and not found["again"]
    # What is a prompt and what is a model was not known where they were.
    assert found["grants"] == [
        ["ana", "experiment", "17", "MANAGE"],
        ["ana", "prompt", "greet", "READ"],
        ["ana", "registered_model", "net", "EDIT"],
    ]
    assert found["logins"] == [True, False, True] and found["admins"] == ["admin", "root"]


def test_users_and_grants_of_a_file_are_there_and_log_in(connect, tmp_path):
    """Of the first schema, of the last one before roles, and of the one of today."""
    answers = brought(tmp_path, ["8606fa83a998", "2ed73881770d", "head"])
    assert len(answers) == 3
    for found in answers:
        right(found, "/basic_auth.db")


def test_users_and_grants_of_another_database_are_there_and_log_in(connect, server, tmp_path):
    admin = connect()
    admin.execute("DROP DATABASE IF EXISTS theirs WITH (FORCE)")
    admin.execute("CREATE DATABASE theirs")
    uri, name = f"postgresql+psycopg2://mlflow@/theirs?host={server}", "postgresql:///theirs"
    (found,) = brought(tmp_path, ["8606fa83a998"], uri, name)
    right(found, name)
