# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).resolve().parent
# Tables whose rows have numbers, the column, and after which number theirs begin.
NUMBERED = (
    ("experiments", "experiment_id", 700000), ("roles", "id", 900000), ("role_permissions", "id", 910000),
    ("user_role_assignments", "id", 920000),
)  # fmt: skip
sys.path[:0] = [str(HERE), str(HERE.parent)]


@pytest.fixture(scope="session")
def deployment(tmp_path_factory):
    """A server that serves."""
    from deployment import deployed

    # Of an older version, a deployment of its own.
    version = os.environ.get("DIFFERENTIAL_VERSION")
    more = {"mlflow_server_version": version} if version else {}
    with deployed(tmp_path_factory.mktemp("differential"), servers=1, tests="differential", more=more) as deployment:
        deployment.variables["mlflow_aws_server_count"] = len(deployment.hosts)
        yield deployment


@pytest.fixture(scope="session")
def server(deployment):
    from server import Server

    return Server(deployment, next(iter(deployment.hosts)))


def empty(deployment, server):
    """Remove all that other tests have left on the deployed server, but its administrator and the experiment that always is."""
    import boto3

    kept = {"users": f"username = '{deployment.user['username']}'", "experiments": "experiment_id = 0"}
    with deployment.connect("mlflow") as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        # The role's own tables stay.
        others = ("alembic_version", "mlflow_server_", "mlflow_aws_", "workspaces")
        tables = ", ".join(name for (name,) in rows if not name.startswith(others))
        for table, condition in kept.items():
            connection.execute(f"CREATE TEMPORARY TABLE kept_{table} AS SELECT * FROM {table} WHERE {condition}")
        connection.execute(f"TRUNCATE {tables}")
        for table in kept:
            connection.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
    bucket, _, prefix = root_of(server).partition("/")
    boto3.resource("s3", **deployment.aws).Bucket(bucket).objects.filter(Prefix=f"{prefix}/").delete()


def root_of(server):
    """Bucket and prefix of the artifacts."""
    return server.run("sed -n 's|^MLFLOW_ARTIFACTS_DESTINATION=s3://||p' /etc/mlflow/mlflow.env").strip("/")


@pytest.fixture(scope="session")
def twins(deployment, server):
    """The deployed server and a plain one, on which the same was done: people, and what they have made."""
    from clients import Client
    from compare import Side, Twins
    from plain import Plain

    seed = secrets.token_hex(4)
    print(f"names are made from {seed}")
    with Plain(deployment, server) as plain:
        empty(deployment, server)
        for database in ("mlflow", "plain"):
            # Numbers that are in no other place, so that they can be told in whatever an answer says.
            with deployment.connect(database, autocommit=True) as connection:
                # And none that a wrong word names by chance, as "true" does the first.
                for table, column, first in NUMBERED:
                    connection.execute(f"SELECT setval('{table}_{column}_seq', {first})")
        ours = Client(server.address, deployment.user["username"], deployment.user["password"])
        yield Twins(
            Side("ours", ours, root_of(server), seed), Side("plain", plain.client, plain.root, seed, plain.look_up_quickly)
        )


@pytest.fixture(scope="session")
def known(server):
    """What MLflow itself says of its calls: routes, the fields of each, and what GraphQL has."""
    from routes import who_may

    calls = server.python((HERE / "list_calls.py").read_text())
    found = json.loads(calls.partition("CALLS ")[2].splitlines()[0])
    listed = server.routes()
    assert [route for route in listed if who_may(*route) is None] == [], "no case covers these: tests/routes.py, tests/things.py"
    return SimpleNamespace(routes=listed, **found)


def pytest_terminal_summary(terminalreporter):
    compare = sys.modules.get("compare")
    if compare and compare.tally:
        counted = ", ".join(f"{number} {what}" for what, number in sorted(compare.tally.items()))
        terminalreporter.write_line(f"differential: {counted}")
