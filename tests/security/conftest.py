# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


@pytest.fixture(scope="session")
def deployment(tmp_path_factory):
    """A server that serves."""
    from deployment import deployed

    with deployed(tmp_path_factory.mktemp("security"), servers=1, tests="security") as deployment:
        # That of tests/rotation has two hosts, and what runs site.yml again leaves both.
        deployment.variables["mlflow_aws_server_count"] = len(deployment.hosts)
        yield deployment


@pytest.fixture(scope="session")
def servers(deployment):
    from attacks import Attacked

    return [Attacked(deployment, host) for host in deployment.hosts]


@pytest.fixture(scope="session")
def server(servers):
    return servers[0]


@pytest.fixture(scope="session")
def admin(deployment, server):
    from clients import Client

    return Client(server.address, deployment.user["username"], deployment.user["password"])


@pytest.fixture(scope="session")
def stranger(server):
    """Whoever reaches the server's port."""
    from clients import Client

    return Client(server.address)


@pytest.fixture(scope="session")
def new_user(admin):
    """Makes users, each with a name that nobody had before."""

    def make(name):
        return admin.new_user(f"{name}-{secrets.token_hex(4)}", f"password-{secrets.token_hex(8)}")

    return make


@pytest.fixture(scope="session")
def grant(admin):
    """Gives a user a permission on a thing, or takes it: DENY is less than what everyone has by default."""
    return admin.grant


@pytest.fixture(scope="session")
def people(stranger, new_user, admin):
    """One of each kind; what they may is said of the world's things, below."""
    names = ("without_rights", "reader", "neighbour", "editor", "owner")
    return SimpleNamespace(stranger=stranger, admin=admin, **{name: new_user(name) for name in names})


@pytest.fixture(scope="session")
def world(people, grant):
    """An experiment of the owner's with one thing of each kind in it, and one of the neighbour's, who has no right on it."""
    from clients import API, API3, ARTIFACTS

    owner, again = people.owner, secrets.token_hex(4)
    found = SimpleNamespace(again=again, experiment_name=f"security-{again}", model=f"model-{again}")
    found.experiment = owner.must("POST", f"{API}/experiments/create", name=found.experiment_name)["experiment_id"]
    found.neighbours = people.neighbour.must("POST", f"{API}/experiments/create", name=f"neighbour-{again}")["experiment_id"]
    owner.must("POST", f"{API}/registered-models/create", name=found.model)
    for user, permission in (
        (people.without_rights, "DENY"), (people.neighbour, "DENY"), (people.reader, "READ"), (people.editor, "EDIT")
    ):  # fmt: skip
        grant(user, permission, "experiment", found.experiment)
        grant(user, permission, "registered_model", found.model)
    run = owner.must("POST", f"{API}/runs/create", experiment_id=found.experiment)["run"]["info"]
    found.run, found.artifact_uri = run["run_id"], run["artifact_uri"]
    found.folder = f"{ARTIFACTS}/{found.experiment}/{found.run}/artifacts"
    found.secret = f"only the owner's {secrets.token_hex(8)}".encode()
    answer = owner.put(f"{found.folder}/notes.txt", found.secret)
    assert answer.status == 200, str(answer)
    owner.must("POST", f"{API}/runs/log-metric", run_id=found.run, key="loss", value=1, timestamp=1)
    owner.must("POST", f"{API}/model-versions/create", name=found.model, source=found.artifact_uri, run_id=found.run)
    trace = {
        "trace_id": f"tr-{secrets.token_hex(16)}",
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": found.experiment}},
        "request_time": "2026-01-01T00:00:00Z",
        "state": "OK",
    }
    found.trace = owner.must("POST", f"{API3}/traces", trace={"trace_info": trace})["trace"]["trace_info"]["trace_id"]
    return found


@pytest.fixture(scope="module")
def outside(server):
    """Servers of others, for as long as somebody asks them."""
    from outside import Outside

    found = Outside(server)
    try:
        found.begin()
        yield found
    finally:
        found.end()


@pytest.fixture(scope="session")
def routes(server):
    return server.routes()


@pytest.fixture(scope="session")
def things(people, grant):
    """What the routes are asked about."""
    from things import Things

    return Things(people, grant)


def pytest_terminal_summary(terminalreporter):
    attacks = sys.modules.get("attacks")
    if attacks and attacks.tally:
        counted = ", ".join(f"{number} {what}" for what, number in sorted(attacks.tally.items()))
        terminalreporter.write_line(f"security: {counted}")
