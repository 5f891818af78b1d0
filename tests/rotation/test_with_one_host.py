# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A rotation with one server, while the other is stopped, and what becomes of that one. Last by its name: it reboots one."""

from __future__ import annotations

from deployment import APP


def test_one_host_and_a_stopped_one_that_comes_back(deployment, load):
    before = deployment.content(APP)
    first, second = sorted(deployment.hosts)
    pids = deployment.main_pids()
    with deployment.stopped(second):
        assert list(deployment.hosts) == [first]
        with load(clients=4, pause=0.1) as clients:
            output = deployment.must_rotate()
        assert not clients.failed, clients.failed[:3]
        after = deployment.check_finished()
        assert after["username"] != before["username"]
        assert f"{after['username']} is active on 1 host(s)" in output
        assert deployment.main_pids() == {first: pids[first]}
    # It has the old service file, as docs/rotation.md says.
    assert deployment.service_user(second) == before["username"]
    code, output = deployment.site()
    assert code == 0, output[-4000:]
    assert deployment.check_finished() == after
