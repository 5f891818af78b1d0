# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""One host can't be reached: what becomes of the others is the deployment's rule, and the one catches up by the next run."""

from __future__ import annotations

import contextlib
import subprocess

import pytest
from deployment import APP
from load import Load
from test_faults import Ssh, words
from test_lease import venv


@contextlib.contextmanager
def away(deployment, host):
    """As for the controller; those who use the server reach it."""
    ssh = Ssh(deployment, host)
    subprocess.run(["sh", "-c", ssh.close], check=True)
    try:
        yield
    finally:
        subprocess.run(["sh", "-c", ssh.open], check=True)
        deployment.wait_for_connection(host)


def load_on(address, login):
    return Load([address], login["username"], login["password"], clients=4, pause=0.1)


@pytest.fixture
def hosts(deployment):
    """The first one is away: another one has to do what one of them does."""
    return sorted(deployment.hosts)


@pytest.mark.slow
def test_its_login_is_kept_until_it_has_the_new_one(deployment, hosts):
    """As of a machine that is off: it has no session either."""
    gone, there = hosts
    before = deployment.content(APP)
    deployment.ssh(gone, "systemctl stop mlflow.socket mlflow.service")
    with load_on(deployment.hosts[there]["ansible_host"], deployment.user) as clients:
        with away(deployment, gone):
            output = deployment.must_rotate(mlflow_aws_host_away="keep_login")
            assert f"{before['username']} stays valid, since {gone} can't be reached" in words(output)
            now = deployment.content(APP)
            assert deployment.service_user(there) == now["username"] != before["username"]
            # Both log in.
            assert deployment.roles()[before["username"]][0] and deployment.roles()[now["username"]][0]
            assert deployment.labels(APP)["AWSPENDING"] == deployment.labels(APP)["AWSCURRENT"]
            # No other run locks it meanwhile, though nobody has a session of it: those that the other pool has kept are ended.
            deployment.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (before["username"],))
            code, output = deployment.site(mlflow_aws_host_away="keep_login")
            assert code != 0 and f"{gone} is not there" in words(output)
            assert deployment.roles()[before["username"]][0]
        # What it had is valid, so it serves as soon as it is back.
        deployment.ssh(gone, "systemctl start mlflow.service && mlflow-ready")
        assert deployment.service_user(gone) == before["username"]
        deployment.must_rotate(mlflow_aws_host_away="keep_login")
        assert deployment.check_finished() == now
        assert deployment.roles()[before["username"]] == (False, False, 0)
    assert not clients.failed, clients.failed[:3]


@pytest.mark.slow
def test_while_its_login_is_kept_no_other_password_is_made_but_in_an_emergency(deployment, hosts):
    """The one that was in use already may have leaked."""
    with away(deployment, hosts[0]):
        deployment.must_rotate(mlflow_aws_host_away="keep_login")
        leaked = deployment.content(APP)
        deployment.must_rotate(mlflow_aws_host_away="keep_login")
        assert deployment.content(APP) == leaked
        # Who has to be shut out is not let in for the sake of a host.
        code, output = deployment.rotate(mlflow_aws_host_away="keep_login", rotate_emergency=True)
        assert code != 0 and f"{hosts[0]} is not in order, so nothing was changed" in words(output)
        assert deployment.content(APP) == leaked
    output = deployment.must_rotate(mlflow_aws_host_away="keep_login", rotate_emergency=True)
    assert "Finishes a rotation that was not finished" in words(output)
    assert deployment.check_finished()["password"] != leaked["password"]
    assert deployment.roles()[leaked["username"]] == (False, False, 0)


@pytest.mark.slow
def test_a_stopped_instance_is_away_as_well(deployment, hosts):
    stopped, there = hosts
    before = deployment.content(APP)
    with deployment.stopped(stopped):
        output = deployment.must_rotate(mlflow_aws_host_away="keep_login")
        assert f"{before['username']} stays valid, since {stopped} can't be reached, or does not run" in words(output)
        assert deployment.service_user(there) == deployment.content(APP)["username"] != before["username"]
    assert deployment.serves(stopped) and deployment.service_user(stopped) == before["username"]
    deployment.must_rotate(mlflow_aws_host_away="keep_login")
    deployment.check_finished()


@pytest.mark.slow
def test_its_login_is_locked_and_the_next_rotation_brings_it_one(deployment, hosts):
    gone, there = hosts
    before = deployment.content(APP)
    with away(deployment, gone):
        login, address = deployment.user, {host: deployment.hosts[host]["ansible_host"] for host in hosts}
        # Only the controller does not reach it: its clients do, and so its pools log in again and again.
        with load_on(address[gone], login), load_on(address[there], login) as clients:
            output = deployment.must_rotate(mlflow_aws_host_away="lock_login")
        assert not clients.failed, clients.failed[:3]
        assert f"{gone}: left behind with the old login, which is dead" in words(output)
        assert deployment.roles()[before["username"]] == (False, False, 0)
    # As after a boot: it has nothing to log in with.
    deployment.ssh(gone, "systemctl restart --no-block mlflow.service")
    assert deployment.service_user(gone) == before["username"]
    deployment.must_rotate(mlflow_aws_host_away="lock_login")
    deployment.check_finished()


@pytest.mark.slow
def test_nobody_is_there(deployment, hosts):
    labels = deployment.labels(APP)
    with away(deployment, hosts[0]), away(deployment, hosts[1]):
        code, output = deployment.rotate(mlflow_aws_host_away="lock_login")
    assert code != 0 and "None of the hosts that are to get the new password can be reached" in words(output)
    assert deployment.labels(APP) == labels


@pytest.mark.slow
def test_the_others_are_upgraded_and_site_brings_it_the_version(deployment, hosts):
    """Another Python, by its other name, is another venv as another version is."""
    gone, there = hosts
    python = deployment.ssh(gone, "readlink -f /usr/bin/python3")
    before = {host: venv(deployment, host) for host in hosts}
    variables = {"mlflow_server_python": python, "mlflow_aws_host_away": "lock_login"}
    with away(deployment, gone):
        code, output = deployment.site(**variables)
        # Not all is as it should be, and the run says so.
        assert code != 0 and f"{gone} is not there" in words(output)
        assert f"{there} is upgraded to MLflow" in words(output) and "without the hosts that are away" in words(output)
        assert venv(deployment, there) != before[there]
        assert deployment.serves(there)
        deployment.must_rotate(mlflow_aws_host_away="lock_login")
    assert venv(deployment, gone) == before[gone]
    deployment.ssh(gone, "systemctl restart --no-block mlflow.service")
    code, output = deployment.site(**variables)
    assert code == 0, output[-3000:]
    assert venv(deployment, gone) == venv(deployment, there) != before[gone]
    deployment.check_finished()
    code, output = deployment.site()
    assert code == 0, output[-3000:]
    assert {host: venv(deployment, host) for host in hosts} == before
