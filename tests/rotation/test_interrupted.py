# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The run is killed right after each of its tasks in turn; the next one finishes the rotation."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from deployment import ADMIN, APP, SERVICE_FILE

HERE = Path(__file__).resolve().parent


class Killed:
    """Kills runs, and knows from a whole one which tasks there are."""

    def __init__(self, deployment, folder):
        self.deployment = deployment
        self.note = folder / "tasks"

    def run(self, after, **variables):
        self.note.unlink(missing_ok=True)
        environ = {
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "kill_after",
            "KILL_AFTER": str(after),
            "KILL_NOTE": str(self.note),
        }
        code, output = self.deployment.rotate(environ=environ, **variables)
        return code, output

    def whole(self, **variables):
        """The tasks of a run that nobody kills."""
        code, output = self.run(0, **variables)
        assert code == 0, output[-3000:]
        return self.tasks()

    def tasks(self):
        return [line.split("\t")[1] for line in self.note.read_text().splitlines()]

    def changing(self):
        """The number of each task that said that it had changed something."""
        lines = [line.split("\t") for line in self.note.read_text().splitlines()]
        return {int(number) for number, _name, changed in lines if changed}


@pytest.fixture(scope="module")
def killed(deployment, tmp_path_factory):
    return Killed(deployment, tmp_path_factory.mktemp("kill"))


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["that changes something", "at all"])
def test_every_task(deployment, killed, load, subtests_or_list, every):
    """One test, since the tasks are found while it runs. What only looks leaves behind what the task before it did."""
    with load(clients=2, pause=0.5) as clients:
        whole = killed.whole(rotate_admin=True)
        changing = killed.changing()
        usual = killed.whole()
        # Fewer would mean that the tasks are not found any more.
        assert len(usual) >= 10 and len(changing) >= 7, (usual, changing)
        # The tasks that only the master password needs are met in a run that has them. Names may come twice.
        assert usual == [name for name in whole if name in usual]
        number = 0
        for after, name in enumerate(whole, 1):
            admin = name not in usual
            number += not admin
            if not every and after not in changing:
                continue
            with subtests_or_list(f"{after}: {name}"):
                interrupt(deployment, killed, after if admin else number, name, admin)
                assert not clients.failed, clients.failed[:3]
    assert not clients.failed, clients.failed[:3]


def interrupt(deployment, killed, number, name, admin):
    before = state(deployment)
    code, output = killed.run(number, **({"rotate_admin": True} if admin else {}))
    assert code == -signal.SIGKILL, output[-3000:]
    assert killed.tasks()[-1] == name
    if state(deployment) == before:
        # It had only looked, so there is nothing to finish, and nothing left over.
        deployment.check_finished()
        return
    under_way = deployment.labels(APP).get("AWSPENDING")
    deployment.must_rotate()
    deployment.check_finished()
    if under_way:
        # That one was finished, no other was begun.
        assert deployment.labels(APP)["AWSCURRENT"] == under_way
    assert "AWSPENDING" not in deployment.labels(ADMIN)


def state(deployment):
    """All that a rotation changes, its lease and its notes included."""
    columns = "rolname, rolpassword, rolcanlogin, shobj_description(oid, 'pg_authid')"
    notes = f"SELECT {columns} FROM pg_authid WHERE rolname LIKE 'mlflow%'"
    tags = [deployment.secrets.describe_secret(SecretId=name).get("Tags") for name in (APP, ADMIN)]
    files = {host: deployment.ssh(host, f"sha256sum {SERVICE_FILE}") for host in deployment.hosts}
    return sorted(deployment.sql(notes)), tags, deployment.labels(APP), deployment.labels(ADMIN), files


@pytest.fixture
def subtests_or_list(request):
    """A part of a test that may fail while the others go on."""
    problems = []

    class Part:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            print(f"  killed after {self.name}", flush=True)

        def __exit__(self, kind, error, trace):
            if kind and issubclass(kind, AssertionError):
                problems.append(f"{self.name}: {error}")
                return True
            return False

    yield Part
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("give the idle role the new password", marks=pytest.mark.slow),
        "make the new password the current one",
    ],
    ids=["before the promotion", "after it"],
)
def test_site_between_the_two_runs(deployment, killed, load, words):
    """site.yml meets a rotation that was cut off, and does not undo it."""
    with load(clients=2, pause=0.2) as clients:
        number = next(n for n, task in enumerate(killed.whole(), 1) if words in task)
        code, _output = killed.run(number)
        assert code == -signal.SIGKILL
        under_way = deployment.labels(APP)["AWSPENDING"]
        code, output = deployment.site()
        assert code == 0, output[-3000:]
        assert deployment.labels(APP)["AWSPENDING"] == under_way
        deployment.must_rotate()
        deployment.check_finished()
        assert deployment.labels(APP)["AWSCURRENT"] == under_way
    assert not clients.failed, clients.failed[:3]


def test_two_at_once(deployment, load):
    """The one waits for the other; one password is valid after both."""
    with load(clients=2, pause=0.2) as clients:
        both = [deployment.start("rotate-db-password.yml", mlflow_aws_rotation_lease_seconds=60) for _ in range(2)]
        codes, outputs = zip(*[deployment.end(process, timeout=300) for process in both], strict=True)
    assert codes == (0, 0), outputs[0][-2000:] + outputs[1][-2000:]
    waited = [output for output in outputs if "rotates the password since" in " ".join(output.split())]
    assert len(waited) == 1
    assert not clients.failed, clients.failed[:3]
    deployment.check_finished()
