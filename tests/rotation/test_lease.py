# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""site.yml and a rotation exclude each other: who waits is told for whom, and nobody waits for a run that was killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time

import boto3
import pytest
from deployment import APP, SERVICE_FILE, at
from test_faults import Ssh, words

RENEW = "Renew the lease"

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def held(deployment, folder, **variables):
    """A site.yml that has the lease, and does not go on before it is told to."""
    there, go = folder / "there", folder / "go"
    command = f"touch {there}; while ! [ -e {go} ]; do sleep 0.2; done"
    site = deployment.start("site.yml", environ=at(RENEW, command), **variables)
    try:
        wait_for(there.exists, site)
        yield site, go
    finally:
        if site.poll() is None:
            os.killpg(site.pid, signal.SIGKILL)
            site.wait()


def wait_for(what, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None and time.monotonic() < deadline, process.log.read_text()[-3000:]
        time.sleep(0.2)


def says(process):
    return words(process.log.read_text(errors="replace"))


def note(deployment):
    """What is noted of the lease."""
    ((comment,),) = deployment.sql("SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'mlflow_owner'")
    return json.loads(comment.partition(" ")[2]) if comment else {}


def test_two_at_once(deployment, tmp_path):
    with held(deployment, tmp_path) as (first, go):
        lease = note(deployment)["lease"]
        assert lease["does"] == "runs site.yml" and lease["process"]["pid"] == first.pid
        second = deployment.start("site.yml")
        rotation = deployment.start("rotate-db-password.yml")
        for waits in (second, rotation):
            wait_for(lambda waits=waits: f"{lease['who']} runs site.yml since" in says(waits), waits)
        # A run that only looks waits for nobody.
        code, output = deployment.rotate("--check")
        assert code == 0 and "This run only looks, so it does not wait" in words(output), output[-3000:]
        assert note(deployment)["lease"]["run"] == lease["run"]
        go.touch()
        for process in (first, second, rotation):
            code, output = deployment.end(process)
            assert code == 0, output[-3000:]
            assert "taking over" not in words(output)
    assert note(deployment) == {}
    deployment.check_finished()


def test_who_is_not_done_in_time_is_named_and_no_host_goes_on(deployment, tmp_path):
    with held(deployment, tmp_path) as (first, go):
        files = {host: deployment.ssh(host, f"stat -c %Z {SERVICE_FILE}") for host in deployment.hosts}
        code, output = deployment.site(mlflow_aws_rotation_wait_seconds=1)
        assert code != 0
        assert f"{note(deployment)['lease']['who']} runs site.yml since" in words(output)
        assert "and is not done. Nothing was changed by this run." in words(output)
        assert "Install beside what runs" not in output
        assert files == {host: deployment.ssh(host, f"stat -c %Z {SERVICE_FILE}") for host in deployment.hosts}
        go.touch()
        code, output = deployment.end(first)
        assert code == 0, output[-3000:]


def test_a_run_that_was_killed_is_waited_for_by_nobody(deployment, tmp_path):
    with held(deployment, tmp_path) as (first, _go):
        # Nobody has asked for its end when it is looked for.
        os.killpg(first.pid, signal.SIGKILL)
        left = note(deployment)["lease"]
        code, output = deployment.site()
        assert code == 0, output[-3000:]
        now = deployment.sql("SELECT extract(epoch FROM clock_timestamp())::float")[0][0]
    assert now < left["until"], "it may have waited for the end of the lease"
    assert f"That run has ended without giving its lease back: taking over from {left['who']}." in words(output)


def test_an_emergency_waits_for_no_site(deployment, tmp_path):
    before = deployment.content(APP)
    with held(deployment, tmp_path) as (site, go):
        who = note(deployment)["lease"]["who"]
        output = deployment.must_rotate(rotate_emergency=True)
        assert f"which stops before its next step: taking over from {who}." in words(output)
        now = deployment.check_finished()
        assert now["username"] != before["username"]
        # It has given the lease back, and the other one does not go on with it.
        assert "lease" not in note(deployment)
        go.touch()
        code, output = deployment.end(site)
    assert code != 0
    assert "This run lost its lease." in words(output) and "who rotates the password since" in words(output)
    assert "took it over" in words(output)
    assert "Prepare the database" not in output
    assert deployment.check_finished() == now


def venv(deployment, host):
    return deployment.ssh(host, "readlink /opt/mlflow/current")


def test_an_upgrade_while_a_host_is_away(deployment, tmp_path):
    """Another Python, by its other name, is another venv as another version is."""
    first, second = sorted(deployment.hosts)
    python = deployment.ssh(first, "readlink -f /usr/bin/python3")
    before = {host: venv(deployment, host) for host in deployment.hosts}
    ssh = Ssh(deployment, first)
    subprocess.run(["sh", "-c", ssh.close], check=True)
    try:
        code, output = deployment.site(mlflow_server_python=python)
    finally:
        subprocess.run(["sh", "-c", ssh.open], check=True)
    assert code != 0
    # The other one does what one of them has to do, and says what is wrong.
    assert f"included: mlops.mlflow_aws.mlflow_database for {second}" in output
    assert f"{second} is not upgraded to MLflow" in words(output)
    assert f"since not every host is there: {first} (" in words(output) and "Connection refused" in words(output)
    assert "Migrate the database and make" not in output
    assert {host: venv(deployment, host) for host in deployment.hosts} == before
    assert note(deployment) == {}

    # All are there, and the first one does not get ready: the second one is what it was.
    code, output = deployment.site(mlflow_server_python=python, mlflow_server_environment={"PYTHONHOME": "/nowhere"})
    assert code != 0
    assert f"{first} does not serve with the other version" in words(output)
    assert venv(deployment, second) == before[second]

    code, output = deployment.site(mlflow_server_python=python)
    assert code == 0, output[-3000:]
    assert venv(deployment, first) == venv(deployment, second) != before[first]
    assert "renew the lease before the hand-over of the others" in output
    place = [output.rindex(f"[{host}]", 0, output.index("before the hand-over of the others")) for host in (first, second)]
    assert place[0] > place[1], "the second one was switched before the first one had shown that it serves"
    deployment.check_finished()
    code, output = deployment.site()
    assert code == 0, output[-3000:]
    assert {host: venv(deployment, host) for host in deployment.hosts} == before


def test_two_instances_of_one_name(deployment):
    """As two runs make them that have both found none. Which one serves is not to be guessed."""
    first, second = sorted(deployment.hosts)
    ids = {host: deployment.hosts[host]["instance_id"] for host in deployment.hosts}
    ec2 = boto3.client("ec2", **deployment.aws)
    ec2.create_tags(Resources=[ids[second]], Tags=[{"Key": "Name", "Value": first}])
    try:
        code, output = deployment.site()
    finally:
        ec2.create_tags(Resources=[ids[second]], Tags=[{"Key": "Name", "Value": second}])
    assert code != 0
    assert f"There is more than one instance named {first}: {', '.join(sorted(ids.values()))}." in words(output)
    assert "Install beside what runs" not in output
