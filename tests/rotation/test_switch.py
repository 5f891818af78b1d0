# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
A switch to other packages that is cut off, or to packages that are broken: whatever starts meanwhile serves.

Another Python, by its other name, is another venv as another version is.
"""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from deployment import at
from network import rules
from test_faults import words
from test_lease import note, venv

pytestmark = pytest.mark.slow

# Right after "Write the settings", with which a start of the service reads what is new.
AFTER_THE_SETTINGS = "Say where the administrator's password is that was found"


@pytest.fixture
def python(deployment):
    """Another one, for the first host's and the second one's next venv; at the end all is as before."""
    host = sorted(deployment.hosts)[0]
    before = {name: venv(deployment, name) for name in deployment.hosts}
    yield deployment.ssh(host, "readlink -f /usr/bin/python3")
    code, output = deployment.site()
    assert code == 0, output[-3000:]
    assert {name: venv(deployment, name) for name in deployment.hosts} == before


def boot(deployment, host):
    before = deployment.booted(host)
    deployment.ssh(host, "nohup sh -c 'sleep 1; systemctl reboot' >/dev/null 2>&1 &", check=False)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            if deployment.booted(host) != before:
                return
        time.sleep(2)
    raise AssertionError(f"{host} has not booted")


def test_a_run_that_is_killed_after_the_settings_and_a_host_that_boots(deployment, load, python):
    first, second = sorted(deployment.hosts)
    before = {host: venv(deployment, host) for host in deployment.hosts}
    with load(clients=4, pause=0.2) as clients:
        code, output = deployment.site(environ=at(AFTER_THE_SETTINGS, "kill -9 $PPID"), mlflow_server_python=python)
        assert code == -9, output[-3000:]
        # Nothing has been handed over yet, so no client has noticed.
        assert not clients.failed, clients.failed[:3]
    assert venv(deployment, first) != before[first] and venv(deployment, second) == before[second]
    boot(deployment, first)
    assert deployment.serves(first), deployment.ssh(first, "journalctl -u mlflow -n 40 --no-pager", check=False)
    running = "tr '\\0' '\\n' </proc/$(systemctl show --property=MainPID --value mlflow.service)/cmdline | head -n 1"
    assert deployment.ssh(first, running).startswith(venv(deployment, first))
    code, output = deployment.site(mlflow_server_python=python)
    assert code == 0, output[-3000:]
    assert venv(deployment, second) == venv(deployment, first) != before[first]
    assert "lease" not in note(deployment)
    deployment.check_finished()


def test_packages_that_a_loss_of_power_has_emptied(deployment, load, python):
    """They are marked as whole: what runs goes on, and the run after the one that fails installs them anew."""
    first, second = sorted(deployment.hosts)
    before = {host: venv(deployment, host) for host in deployment.hosts}
    with load(clients=4, pause=0.2) as clients:
        code, output = deployment.site(environ=at("Look at the database", "kill -9 $PPID"), mlflow_server_python=python)
        assert code == -9, output[-3000:]
        new = deployment.ssh(first, "ls -td /opt/mlflow/[0-9]* | head -n 1")
        assert new != before[first] and deployment.ssh(first, f"ls {new}/.complete")
        deployment.ssh(first, f"truncate --size=0 {new}/lib/python3*/site-packages/mlflow/server/fastapi_app.py")
        code, output = deployment.site(mlflow_server_python=python)
        assert code != 0
        assert "fastapi_app.py" in output and f"{second} goes on with what it has" in words(output), output[-3000:]
        assert {host: venv(deployment, host) for host in deployment.hosts} == before
        assert deployment.ssh(first, f"ls {new}/.complete", check=False) == ""
        code, output = deployment.site(mlflow_server_python=python)
        assert code == 0, output[-3000:]
        assert venv(deployment, first) == venv(deployment, second) == new
    assert not clients.failed, clients.failed[:3]


def test_what_serves_is_emptied_and_starts_again(deployment):
    """The run that fails removes the mark, and the next one installs in the same place: nobody has to find the folder."""
    first, second = sorted(deployment.hosts)
    here = venv(deployment, first)
    deployment.ssh(first, f"truncate --size=0 {here}/lib/python3*/site-packages/mlflow/server/fastapi_app.py")
    deployment.ssh(first, "systemctl stop mlflow.socket mlflow.service; systemctl start mlflow.socket", check=False)
    code, output = deployment.site()
    assert code != 0 and "fastapi_app.py" in output, output[-3000:]
    code, output = deployment.site()
    assert code == 0, output[-3000:]
    assert venv(deployment, first) == here and deployment.serves(first, 1) and deployment.serves(second, 1)
    deployment.site_changes_nothing()


def test_a_python_that_a_release_upgrade_has_replaced(deployment):
    """What Debian 12 leaves to Debian 13: packages of a Python that is gone, marked as whole. Nothing of it starts."""
    first, second = sorted(deployment.hosts)
    here = venv(deployment, first)
    version = deployment.ssh(first, "python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'")
    deployment.ssh(
        first,
        # The mark is a hash of the packages, the interpreter and its version: that of another version is another one.
        f"set -e; echo packages of 3.2 | sha256sum | cut -d ' ' -f 1 >{here}/.complete\n"
        f"mv {here}/lib/python{version} {here}/lib/python3.2; systemctl stop mlflow.socket mlflow.service",
    )
    deployment.ssh(first, "systemctl start mlflow.service", check=False)
    assert not deployment.serves(first, 5)
    code, output = deployment.site()
    assert code == 0, output[-3000:]
    assert deployment.serves(first, 1) and deployment.serves(second, 1)
    deployment.site_changes_nothing()


def units(deployment, host):
    names = "mlflow.service mlflow-next.service mlflow-handover.service"
    return deployment.ssh(host, f"systemctl is-active {names}", check=False).split()


def until(deployment, host, wanted, seconds=120):
    """Until the service, the stand-in and the hand-over are so; None is any."""
    deadline = time.monotonic() + seconds
    while True:
        found = units(deployment, host)
        if all(now in (want or (now,)) for now, want in zip(found, wanted, strict=True)):
            return
        assert time.monotonic() < deadline, f"{host}: {found}"
        time.sleep(0.1)


def test_a_database_that_goes_away_between_the_steps_of_a_hand_over(deployment, load):
    """The stand-in stays while it is the only one that could serve, and goes when the service has come back by itself."""
    first = sorted(deployment.hosts)[0]
    # So that the database is away by the time it is asked, however fast this host is.
    slow = "/run/systemd/system/mlflow.service.d"
    drop_in = "[Service]\\nExecStartPre=/usr/bin/sleep 10\\n"
    deployment.ssh(first, f"mkdir -p {slow}; printf '{drop_in}' >{slow}/slow.conf; systemctl daemon-reload")
    try:
        deployment.ssh(first, "systemctl start --no-block mlflow-handover.service")
        until(deployment, first, (None, ["active"], None))
        with rules(deployment, lambda host: "add rule inet faults out tcp dport 5432 reject with tcp reset"):
            until(deployment, first, (["activating", "failed"], ["active"], None))
            time.sleep(25)
            service, stand_in, _hand_over = units(deployment, first)
            assert service != "active" and stand_in == "active"
    finally:
        deployment.ssh(first, f"rm -r {slow}; systemctl daemon-reload")
    until(deployment, first, (["active"], ["inactive"], ["inactive", "failed"]))
    for host in deployment.hosts:
        assert deployment.serves(host, 30)
    with load(clients=4, pause=0.1) as clients:
        time.sleep(5)
    assert not clients.failed, clients.failed[:3]


# As the service's user with its login, as the role's own commands have it.
AS_THE_SERVICE = (
    "setpriv --reuid=mlflow --regid=mlflow --init-groups env -C /var/lib/mlflow HOME=/var/lib/mlflow "
    "PGSERVICEFILE=/etc/mlflow/pg_service.conf MLFLOW_DISABLE_TELEMETRY=true /opt/mlflow/current/bin/python -"
)
# The one before experiment_tags was altered, of which each run that is made reads.
EARLIER = "1971f2d9a75b"
BACK = f"""
from alembic import command
from mlflow.store.db.utils import _get_alembic_config
from mlflow_service.database import prepare
command.downgrade(_get_alembic_config(prepare.STORE_URI), "{EARLIER}")
"""


def test_a_migration_behind_a_long_transaction_keeps_nobody_waiting(deployment, load):
    """Somebody's dump has read a table that the migration alters, and goes on: who asks meanwhile waits for seconds at most."""
    first = sorted(deployment.hosts)[0]
    revision = "SELECT version_num FROM alembic_version"

    def found():
        with deployment.connect("mlflow") as connection:
            return connection.execute(revision).fetchone()[0]

    now = found()
    try:
        deployment.ssh(first, f"{AS_THE_SERVICE} <<'PROGRAM'\n{BACK}PROGRAM\n")
        assert found() == EARLIER
        with deployment.connect("mlflow") as dump:
            dump.execute("SELECT 1 FROM experiment_tags LIMIT 1")
            with load(clients=8, pause=0.1) as clients:
                site = deployment.start("site.yml")
                try:
                    # It was waited for, then it was tried, twice, by whichever host was there first.
                    since = f"--since=@{int(time.time())}"
                    tried = f"journalctl --no-pager -t mlflow-setup {since} | grep -c 'tries again in 10 s' || true"
                    deadline = time.monotonic() + 400
                    while {deployment.ssh(host, tried) for host in deployment.hosts} == {"0"}:
                        assert site.poll() is None and time.monotonic() < deadline, site.log.read_text()[-3000:]
                        time.sleep(2)
                    assert found() == EARLIER
                finally:
                    dump.rollback()
                    code, output = deployment.end(site)
                assert code == 0, output[-3000:]
            assert "Waits for transactions that have been open for long" in words(output)
    finally:
        if found() != now:
            deployment.site()
    assert found() == now
    assert not clients.failed, clients.failed[:3]
    slowest = max(answer.seconds for answer in clients.answers)
    print(f"{len(clients.answers)} requests beside a migration that waits, the slowest {slowest:.1f} s")
    assert slowest < 10
    assert [host for host in deployment.hosts if not deployment.serves(host, 1)] == []


class Connections:
    """The most connections that MLflow's roles have had at once, while the block lasts."""

    def __init__(self, deployment):
        self.deployment, self.most, self.stopped = deployment, 0, threading.Event()

    def __enter__(self):
        self.most = 0
        self.stopped.clear()
        self.thread = threading.Thread(target=self._count, daemon=True)
        self.thread.start()
        return self

    def _count(self):
        while not self.stopped.wait(0.1):
            ((count,),) = self.deployment.sql("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'mlflow__'")
            self.most = max(self.most, count)

    def __exit__(self, *error):
        self.stopped.set()
        self.thread.join()


def test_a_hand_over_needs_no_more_connections_than_one_host_has(deployment, load):
    """On a database that takes sixty, with forty clients."""
    small = {"mlflow_server_workers": 2, "mlflow_server_pool_size": 2, "mlflow_server_max_overflow": 3}
    code, output = deployment.site(**small)
    assert code == 0, output[-3000:]
    # What sixty leave beside the superuser's own.
    deployment.sql("ALTER DATABASE mlflow CONNECTION LIMIT 57")
    try:
        with load(clients=40, pause=0.1) as clients:
            with Connections(deployment) as usual:
                time.sleep(15)
            with Connections(deployment) as meanwhile:
                code, output = deployment.site(**small, mlflow_server_environment={"NOTHING": "of interest"})
            assert code == 0, output[-3000:]
        print(f"{usual.most} connections, {meanwhile.most} during the hand-over of two hosts")
        assert not clients.failed, (len(clients.failed), clients.failed[:3])
        # One host's again, and what looks at the database for a moment.
        assert meanwhile.most <= 1.5 * usual.most + 4
    finally:
        deployment.sql("ALTER DATABASE mlflow CONNECTION LIMIT -1")
        code, output = deployment.site()
        assert code == 0, output[-3000:]
