# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Rotations under load, and what they leave behind."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from deployment import APP, LOGINS
from load import figures

# Seconds of load before the first rotation and after the last.
MARGIN = 30


def measure(deployment, load, rotations):
    """The p99 in milliseconds that clients notice before the rotations, in the first of them, and in all of them."""
    # Clients, both servers, PostgreSQL and the AWS API share this machine's two cores. The load leaves about half of them
    # idle, so that what is measured is the servers' answers and not a queue. Ansible and the API get what is left.
    with deployment.elsewhere(), load(clients=16, pause=0.4) as clients:
        # The first requests make the pools' connections.
        time.sleep(2)
        start = time.time()
        time.sleep(MARGIN)
        marks = [time.time()]
        for _number in range(rotations):
            deployment.must_rotate()
            marks.append(time.time())
        time.sleep(MARGIN)
    begin, end = marks[0], marks[-1]
    quiet = figures(clients.between(start, begin), begin - start)
    first = figures(clients.between(begin, marks[1]), marks[1] - begin)
    during = figures(clients.between(begin, end), end - begin)
    took = [round(after - before) for before, after in itertools.pairwise(marks)]
    print(f"\nbefore: {quiet}\nfirst: {first}\nall: {during}, seconds: {took}")
    assert not clients.failed, clients.failed[:5]
    assert quiet["requests"] > 500 and first["requests"] > 300 and during["requests"] > 300 * rotations
    return quiet["p99_ms"], first["p99_ms"], during["p99_ms"]


@pytest.mark.quiet
@pytest.mark.parametrize("rotations", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_no_request_fails_while_passwords_are_rotated(deployment, load, rotations):
    before = deployment.content(APP)
    pids = deployment.main_pids()
    # No request may fail in any of them. A neighbour of this machine that wants its processor in the one stretch and not in
    # the other is no fault of a rotation, so the ratio is measured again.
    done = 0
    for _measurement in range(3):
        quiet, *during = measure(deployment, load, rotations)
        done += rotations
        if max(during) <= 2 * quiet:
            break
    assert max(during) <= 2 * quiet
    assert deployment.main_pids() == pids, "the service was restarted"
    after = deployment.check_finished()
    assert (after["username"] == before["username"]) == (done % 2 == 0) and after["password"] != before["password"]


def test_the_old_password_is_dead(deployment):
    old = deployment.content(APP)
    output = deployment.must_rotate()
    new = deployment.check_finished()
    assert {old["username"], new["username"]} == set(LOGINS)
    assert f"{new['username']} is active on 2 host(s)" in output
    for host in deployment.hosts:
        assert not deployment.can_log_in(host, old["username"], old["password"])
        assert not deployment.can_log_in(host, new["username"], old["password"])
        assert deployment.can_log_in(host, new["username"], new["password"])
    assert deployment.labels(APP)["AWSPREVIOUS"] != deployment.labels(APP)["AWSCURRENT"]


def test_check_mode_and_the_command_that_tells_the_state_change_nothing(deployment):
    before = deployment.content(APP), deployment.labels(APP), deployment.roles()
    code, output = deployment.rotate("--check", "--diff")
    assert code == 0, output[-4000:]
    active, idle = before[0]["username"], next(name for name in LOGINS if name != before[0]["username"])
    assert re.search(rf"Rotates\s+{active} to {idle}", output)
    shown = deployment.must_rotate(rotate_show=True)
    assert f"{active} is active since" in shown and "No rotation is under way" in shown
    after = deployment.content(APP), deployment.labels(APP), deployment.roles()
    assert after[:2] == before[:2]
    assert after[2][idle] == before[2][idle]


def test_site_leaves_a_rotation_alone(deployment):
    before = deployment.content(APP)
    deployment.site_changes_nothing()
    assert deployment.check_finished() == before


def test_limit_is_refused(deployment):
    before = deployment.labels(APP)
    for limit in (next(iter(deployment.hosts)), "localhost", "mlflow_server"):
        code, output = deployment.rotate("--limit", limit)
        assert code != 0
        assert "--limit is refused" in output
    assert deployment.labels(APP) == before


def test_emergency_and_the_master_password(deployment):
    """Both words together: the old role dies at once, and RDS's own password is another one."""
    from deployment import ADMIN

    old, admin = deployment.content(APP), deployment.content(ADMIN)
    deployment.must_rotate(rotate_emergency=True, rotate_admin=True)
    new = deployment.check_finished()
    assert new["username"] != old["username"]
    assert deployment.content(ADMIN)["password"] != admin["password"]
    host = next(iter(deployment.hosts))
    for content, works in ((admin, False), (deployment.content(ADMIN), True)):
        asked = {**content, "dbname": "postgres"}
        program = (
            "import psycopg2\n"
            f"try:\n    psycopg2.connect(host={asked['host']!r}, user={asked['username']!r}, password={asked['password']!r}, "
            "dbname='postgres', sslmode='verify-full', sslrootcert='/etc/mlflow/database-ca.pem').close()\n"
            "except psycopg2.OperationalError:\n    print('no')\nelse:\n    print('yes')\n"
        )
        answer = deployment.ssh(host, f"/opt/mlflow/current/bin/python - <<'PROGRAM'\n{program}PROGRAM\n")
        assert answer == ("yes" if works else "no")
