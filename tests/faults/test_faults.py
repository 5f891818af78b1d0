# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Something breaks under people who work: nothing that was acknowledged is lost, and it ends by itself."""

from __future__ import annotations

import secrets
import ssl
import time
from base64 import b64encode
from http.client import HTTPSConnection
from threading import Thread

import pytest
from faults import FAULTS, first, second
from ledger import ARTIFACTS, KINDS, Ledger

# Before and after a fault, in seconds.
QUIET = 6


def entry(fault):
    return pytest.param(fault, id=fault.name.replace(" ", "-"), marks=[pytest.mark.everyday] if fault.everyday else [])


@pytest.mark.parametrize("fault", [entry(fault) for fault in FAULTS])
def test_fault(deployment, note, fault):
    login = deployment.user["username"], deployment.user["password"]
    with Ledger(deployment.addresses, *login, clickers=fault.clickers) as ledger:
        time.sleep(QUIET)
        assert not ledger.refused(*KINDS), ledger.refused(*KINDS)[:3]
        with fault.happens(deployment):
            time.sleep(fault.seconds)
        mended = time.monotonic()
        time.sleep(2 * QUIET)
    lost = ledger.lost()
    spared = [deployment.hosts[first(deployment)]["ansible_host"]] if fault.then.one_host else None
    pause = ledger.pause(addresses=spared)
    refused = ledger.refused(*KINDS)
    note((fault.name, ledger.acknowledged(), len(lost), len(refused), pause, ledger.slowest(*KINDS)))
    assert lost == []
    others = [answer for answer in refused if answer.kind not in fault.then.may_refuse]
    assert not others, others[:3]
    if spared:
        noticed = ledger.refused(*KINDS, addresses=spared)
        assert not noticed, noticed[:3]
    assert pause <= fault.then.pause
    if fault.then.there:
        there = ledger.pause(addresses=[deployment.hosts[second(deployment)]["ansible_host"]])
        print(f"\nthe longest pause on the second host: {there:.1f} s")
        assert there <= fault.then.there
    assert ledger.slowest("write", "read") <= fault.then.slowest
    # It ends by itself: soon after, everybody is served.
    late = [answer for answer in refused if answer.begin > mended + QUIET]
    assert not late, late[:3]
    assert ledger.acknowledged() > 100


def upload_slowly(address, login, path, chunks, seconds):
    """An upload of so many pieces in so many seconds; the status of the answer."""
    connection = HTTPSConnection(address, context=ssl._create_unverified_context(), timeout=120)
    connection.putrequest("PUT", f"{ARTIFACTS}/{path}")
    connection.putheader("Authorization", "Basic " + b64encode(":".join(login).encode()).decode())
    connection.putheader("Content-Length", str(1000 * chunks))
    connection.endheaders()
    for _ in range(chunks):
        connection.send(secrets.token_bytes(1000))
        time.sleep(seconds / chunks)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_worker_that_hangs_costs_nobody_an_upload(deployment):
    """The first process looks after it for a minute before it hears that the service is to end; uploads go on meanwhile."""
    host, drain = second(deployment), 20
    address = deployment.hosts[host]["ansible_host"]
    login = deployment.user["username"], deployment.user["password"]
    # As with mlflow_server_drain_timeout: 20, so that this takes a minute and not six.
    limit = int(deployment.ssh(host, "sed -n 's/^TimeoutStopSec=//p' /etc/systemd/system/mlflow.service"))
    given = int(deployment.ssh(host, "sed -n 's/^MLFLOW_SERVER_DRAIN_SECONDS=//p' /etc/mlflow/mlflow.env"))
    folder = "/run/systemd/system/mlflow.service.d"
    deployment.ssh(
        host,
        f"set -e; mkdir -p {folder}; echo MLFLOW_SERVER_DRAIN_SECONDS={drain} >/run/drain.env\n"
        f"printf '[Service]\nEnvironmentFile=/run/drain.env\nTimeoutStopSec={limit - given + drain}\n' >{folder}/test.conf\n"
        "systemctl daemon-reload; systemctl restart mlflow.service",
    )
    status = []
    try:
        with Ledger(deployment.addresses, *login, writers=1, readers=0, uploaders=0) as ledger:
            time.sleep(2)
        path = f"{ledger.experiment}/{next(iter(ledger.entries))}/artifacts/slow"
        # It accepts nothing any more, so another one takes the upload.
        deployment.ssh(host, "pkill --newest --signal STOP --uid mlflow mlflow-worker")
        upload = Thread(target=lambda: status.append(upload_slowly(address, login, path, chunks=75, seconds=75)))
        upload.start()
        time.sleep(3)
        assert upload.is_alive()
        deployment.ssh(host, "systemctl restart --no-block mlflow.service")
        upload.join(timeout=150)
    finally:
        deployment.ssh(
            host, f"rm -r {folder} /run/drain.env; systemctl daemon-reload; pkill --signal CONT --uid mlflow mlflow-worker; "
            "systemctl restart mlflow.service"
        )  # fmt: skip
    assert status == [200]
