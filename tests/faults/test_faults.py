# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Something breaks under people who work: nothing that was acknowledged is lost, and it ends by itself."""

from __future__ import annotations

import time

import pytest
from faults import FAULTS, first
from ledger import KINDS, Ledger

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
    assert ledger.slowest("write", "read") <= fault.then.slowest
    # It ends by itself: soon after, everybody is served.
    late = [answer for answer in refused if answer.begin > mended + QUIET]
    assert not late, late[:3]
    assert ledger.acknowledged() > 100
