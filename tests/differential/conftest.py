# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "security")]


@pytest.fixture(scope="session")
def deployment(tmp_path_factory):
    """A server that serves."""
    from deployment import deployed

    with deployed(tmp_path_factory.mktemp("differential"), servers=1, tests="differential") as deployment:
        deployment.variables["mlflow_aws_server_count"] = len(deployment.hosts)
        yield deployment


@pytest.fixture(scope="session")
def server(deployment):
    from attacks import Server

    return Server(deployment, next(iter(deployment.hosts)))


@pytest.fixture(scope="session")
def twins(deployment, server):
    """The deployed server and a plain one, on which the same was done: people, and what they have made."""
    from clients import Client
    from compare import Side, Twins
    from plain import Plain

    seed = secrets.token_hex(4)
    print(f"names are made from {seed}")
    with Plain(deployment, server) as plain:
        for database in ("mlflow", "plain"):
            # Numbers that are in no other place, so that they can be told in whatever an answer says.
            with deployment.connect(database, autocommit=True) as connection:
                connection.execute("SELECT setval('experiments_experiment_id_seq', 700000 + nextval('experiments_experiment_id_seq') % 100000)")
        ours = Client(server.address, deployment.user["username"], deployment.user["password"])
        yield Twins(Side("ours", ours, seed), Side("plain", plain.client, seed))


@pytest.fixture(scope="session")
def known(server):
    """What MLflow itself says of its calls: routes, the fields of each, and what GraphQL has."""
    routes = server.python((HERE.parent / "list_routes.py").read_text())
    calls = server.python((HERE / "list_calls.py").read_text())
    found = json.loads(calls.partition("CALLS ")[2].splitlines()[0])
    return SimpleNamespace(
        routes=[tuple(route) for route in json.loads(routes.partition("ROUTES ")[2].splitlines()[0])], **found
    )


def pytest_terminal_summary(terminalreporter):
    compare = sys.modules.get("compare")
    if compare and compare.tally:
        counted = ", ".join(f"{number} {what}" for what, number in sorted(compare.tally.items()))
        terminalreporter.write_line(f"differential: {counted}")
