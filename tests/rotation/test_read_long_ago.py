# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whole rotations end between somebody's reading of a password and his writing it: nothing is undone, and no client notices."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import time

import pytest
from deployment import APP, LOGINS, SERVICE_FILE, at
from test_faults import SWAP
from test_faults import words as joined

ROLES = "Make the roles and the database"


def a_rotation(deployment, log):
    """The command for it, which does not meet the fault again that it is itself."""
    variables = shlex.quote(json.dumps(deployment.variables))
    return (
        "env -u ANSIBLE_CALLBACKS_ENABLED -u ANSIBLE_CALLBACK_PLUGINS -u AT_TASK -u AT_COMMAND "
        "ansible-playbook rotate-db-password.yml -i inventory/local "
        f"-e {variables} >{shlex.quote(str(log))} 2>&1"
    )


def words(output):
    """What a play says, without the way in which YAML writes an apostrophe."""
    return joined(output).replace("''", "'")


def wait_for_pools(deployment):
    """Until each connection that a pool has is one that it has made since."""
    time.sleep(deployment.variables["mlflow_server_pool_recycle"] + 2)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (SWAP, "can't log in to its database as {username}: .* run this again. The service file is what it was before."),
        pytest.param(
            ROLES,
            "{username} can't log in, and .* has the password of a later rotation: version {version} .* Run site.yml again",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["before the service file", "before the roles"],
)
def test_a_rotation_inside_site(deployment, load, tmp_path, task, says):
    old = deployment.content(APP)
    log = tmp_path / "rotation.log"
    with load(clients=4, pause=0.2) as clients:
        # It takes longer for that than its lease lasts, as a run does that sleeps.
        environ = at(task, a_rotation(deployment, log))
        code, output = deployment.site(environ=environ, mlflow_aws_site_lease_seconds=1)
        new = deployment.check_finished()
        assert new["username"] != old["username"], log.read_text()[-3000:]
        assert code != 0
        said = says.format(username=old["username"], version=deployment.labels(APP)["AWSCURRENT"])
        assert contains(words(output), said), output[-3000:]
        wait_for_pools(deployment)
        if task == ROLES:
            # It gives the role that site.yml has left alone another password, and nobody depends on it.
            deployment.must_rotate()
            assert deployment.check_finished()["username"] == old["username"]
    assert not clients.failed, clients.failed[:3]
    assert not deployment.can_log_in(next(iter(deployment.hosts)), old["username"], old["password"])


def contains(text, parts):
    """Whether these parts, with anything in the place of each .*, follow each other in the text."""
    place = 0
    for part in parts.split(".*"):
        place = text.find(part.strip(), place)
        if place < 0:
            return False
        place += len(part.strip())
    return True


@pytest.mark.slow
def test_a_run_that_slept_before_the_swap(deployment, load, tmp_path):
    """Its rotation is finished by another run, and followed by one of the next day."""
    note = tmp_path / "asleep"
    with load(clients=4, pause=0.2) as clients:
        # All of the run is stopped; what it has begun on the hosts is not.
        slept = deployment.start("rotate-db-password.yml", environ=at(SWAP, f"touch {note}; kill -STOP 0"))
        try:
            deadline = time.monotonic() + 120
            while not note.exists():
                assert slept.poll() is None and time.monotonic() < deadline, slept.log.read_text()[-3000:]
                time.sleep(0.2)
            its = deployment.content(APP)
            for _run in range(2):
                deployment.must_rotate()
            now = deployment.check_finished()
            assert now["username"] != its["username"]
        except BaseException:
            os.killpg(slept.pid, signal.SIGKILL)
            raise
        os.killpg(slept.pid, signal.SIGCONT)
        code, output = deployment.end(slept, timeout=120)
        assert code != 0
        for host in deployment.hosts:
            assert f"{host}: MLflow on this host can't log in to its database as {its['username']}" in words(output)
        assert "run this again. The service file is what it was before." in words(output)
        assert deployment.check_finished() == now
        wait_for_pools(deployment)
    assert not clients.failed, clients.failed[:3]


@contextlib.contextmanager
def a_session(deployment, host, login, statement):
    """An idle session of this login, after a statement."""
    program = (
        "import json, time\nfrom mlflow_service.database import client\n"
        f"text = open({SERVICE_FILE!r}).read()\n"
        "known = dict(line.split('=', 1) for line in text.splitlines() if '=' in line and not line.startswith('#'))\n"
        f"known.update(json.loads({json.dumps(login)!r}), application_name='left-open')\n"
        "connection = client.connect('', **known)\n"
        f"connection.execute({statement!r})\n"
        "open('/run/left-open', 'w').close()\n"
        "time.sleep(600)\n"
    )
    deployment.ssh(
        host,
        f"rm -f /run/left-open; cat >/root/left-open.py <<'PROGRAM'\n{program}PROGRAM\n"
        "systemd-run --quiet --unit=left-open /opt/mlflow/current/bin/python /root/left-open.py\n"
        "for _ in $(seq 100); do [ -e /run/left-open ] && exit 0; sleep 0.2; done; exit 1",
    )
    try:
        yield
    finally:
        stop = "systemctl stop left-open.service; systemctl reset-failed left-open.service; rm -f /root/left-open.py"
        deployment.ssh(host, stop, check=False)


@pytest.mark.slow
def test_a_session_with_an_advisory_lock_is_not_ended(deployment):
    """As that of mlflow-gc, which has nothing to ask while objects are deleted."""
    old = deployment.content(APP)
    host = sorted(deployment.hosts)[1]
    login = {"user": old["username"], "password": old["password"]}
    with a_session(deployment, host, login, "SELECT pg_advisory_lock(4711)"):
        code, output = deployment.rotate(mlflow_aws_rotation_drain_seconds=5)
        assert code != 0
        assert f"{old['username']} is locked, but 1 of its sessions stayed busy" in words(output)
        assert "advisory lock" in words(output) and f"{deployment.hosts[host]['ansible_host']}, left-open" in words(output)
        assert deployment.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'left-open'") == [(1,)]
    deployment.must_rotate()
    deployment.check_finished()


@pytest.mark.slow
def test_a_role_that_is_in_use_gets_no_other_password(deployment):
    active = deployment.content(APP)["username"]
    idle = next(name for name in LOGINS if name != active)
    host = sorted(deployment.hosts)[1]
    deployment.sql(f"ALTER ROLE {idle} LOGIN PASSWORD 'of-somebody-else'")
    try:
        with a_session(deployment, host, {"user": idle, "password": "of-somebody-else"}, "SELECT 1"):
            code, output = deployment.rotate()
            assert code != 0
            assert f"{idle} should be the idle role, and somebody depends on it: idle for" in words(output)
            assert f"from {deployment.hosts[host]['ansible_host']}, left-open" in words(output)
            assert deployment.can_log_in(host, idle, "of-somebody-else")
    finally:
        deployment.sql(f"ALTER ROLE {idle} NOLOGIN PASSWORD NULL")
    deployment.must_rotate()
    assert deployment.check_finished()["username"] == idle
