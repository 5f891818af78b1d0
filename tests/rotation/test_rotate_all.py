# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""All that a server could read is new after one command, and no client notices."""

from __future__ import annotations

import json
import secrets
import signal
import time
from pathlib import Path

import pytest
import urllib3
from deployment import ADMIN, APP, NAME, USER
from load import Load
from test_secrets import Watcher, search_files, search_host

KEY = f"{NAME}/mlflow/flask-secret-key"
PLAYBOOK = "playbooks/rotate_all.yml"


def ask(address, method, path, login, body=None):
    """A request to MLflow's API; the status and what it answered."""
    headers = urllib3.make_headers(basic_auth=":".join(login))
    headers["Content-Type"] = "application/json"
    with urllib3.HTTPSConnectionPool(address, 443, cert_reqs="CERT_NONE", timeout=60, retries=False) as pool:
        answer = pool.request(method, f"/api/2.0/mlflow/{path}", body=json.dumps(body or {}), headers=headers)
    return answer.status, answer.data


def logs_in(address, username, password):
    status, _data = ask(address, "GET", f"users/get?username={username}", (username, password))
    assert status in (200, 401), status
    return status == 200


@pytest.fixture
def administrator(deployment):
    """Another administrator than the one whose password is rotated."""
    urllib3.disable_warnings()
    login = f"load-{secrets.token_hex(4)}", secrets.token_urlsafe(18)
    first = deployment.content(USER)
    admin = first["username"], first["password"]
    status, data = ask(deployment.addresses[0], "POST", "users/create", admin, {"username": login[0], "password": login[1]})
    assert status == 200, data
    status, data = ask(deployment.addresses[0], "PATCH", "users/update-admin", admin, {"username": login[0], "is_admin": True})
    assert status == 200, data
    yield login
    now = deployment.content(USER)
    ask(deployment.addresses[0], "DELETE", "users/delete", (now["username"], now["password"]), {"username": login[0]})


def secret_words(deployment):
    return {
        APP: deployment.content(APP)["password"],
        ADMIN: deployment.content(ADMIN)["password"],
        USER: deployment.content(USER)["password"],
        KEY: deployment.content(KEY)["key"],
    }


def shapes(words):
    """As they are, and as JSON would write them."""
    return sorted({*words, *(json.dumps(word)[1:-1] for word in words)})


def must_find_nothing(deployment, program, words):
    """Runs a program on each host that is given the words, ends with 0 where it finds none and with 1 where it finds one."""
    for host in deployment.hosts:
        script = f"cat >/run/look.py <<'PROGRAM'\n{program}\nPROGRAM\n"
        script += f"python3 /run/look.py <<'WORDS'\n{json.dumps(words)}\nWORDS\nrc=$?; rm /run/look.py; exit $rc\n"
        deployment.ssh(host, script)


# Wherever the service or a run of Ansible has or had a secret, whoever may read it there.
ANYWHERE = """
import json, os, sys
words = [word.encode() for word in json.load(sys.stdin)]
found = []
for top in ("/etc", "/home", "/opt/mlflow", "/root", "/run", "/tmp", "/var/lib/mlflow", "/var/log", "/var/tmp"):
    for folder, folders, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    content = file.read()
                found += [path for word in words if word in content]
print(*found, sep="\\n")
sys.exit(1 if found else 0)
"""


def check_everything_is_new(deployment, old):
    new = secret_words(deployment)
    assert not [name for name in old if new[name] == old[name]]
    for name in (APP, ADMIN, USER, KEY):
        assert "AWSPENDING" not in deployment.labels(name), name
    deployment.check_finished()
    username = deployment.content(USER)["username"]
    for address in deployment.addresses:
        assert logs_in(address, username, new[USER])
        assert not logs_in(address, username, old[USER])
    for host in deployment.hosts:
        assert deployment.ssh(host, "cat /etc/mlflow/flask-secret-key") == new[KEY]
        # And the processes have it: they are newer than the file.
        deployment.ssh(host, "test /run/mlflow/started -nt /etc/mlflow/flask-secret-key")
        for login in ("mlflow_a", "mlflow_b"):
            assert not deployment.can_log_in(host, login, old[APP])
    must_find_nothing(deployment, ANYWHERE, shapes(old.values()))
    return new


def test_everything_is_new_and_no_request_fails(deployment, administrator):
    old = secret_words(deployment)
    pids = deployment.main_pids()
    begin = time.monotonic()
    with Load(deployment.addresses, *administrator, clients=16, pause=0.4) as clients, Watcher() as watcher:
        code, output = deployment.play(PLAYBOOK, "-vvv", "--diff")
    print(f"\neverything rotated in {time.monotonic() - begin:.0f} s beside {len(clients.answers)} requests")
    assert code == 0, output[-6000:]
    assert not clients.failed, clients.failed[:5]
    assert len(clients.answers) > 300
    new = check_everything_is_new(deployment, old)
    after = deployment.main_pids()
    assert not [host for host in pids if pids[host] == after[host]], "the processes of before have the former key"
    # What the test itself has to know is no password of the deployment.
    words = shapes([*old.values(), *new.values()])
    assert len(words) >= 8
    assert "the key for sessions" in " ".join(output.split())
    assert not [word for word in words if word in output], "in the output"
    assert not watcher.places(words)
    assert [content for content in watcher.seen if b"ansible" in content], "the watcher has seen nothing"
    known = {f"{name}, {age}": word for age, words in (("former", old), ("new", new)) for name, word in words.items()}
    for host in deployment.hosts:
        search_host(deployment, host, known)
    search_files(deployment, known, {"output": output})


@pytest.mark.slow
def test_a_run_that_is_killed_before_the_promotion_is_finished_by_the_next(deployment):
    old = secret_words(deployment)
    username = deployment.content(USER)["username"]
    code, output = deployment.play(
        PLAYBOOK,
        environ={
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callback_plugins")),
            "ANSIBLE_CALLBACKS_ENABLED": "at_task",
            "AT_TASK": "make the administrator's new password and the new key the current ones",
            # The run and all that it has started here.
            "AT_COMMAND": "exec python3 -c 'import os; os.killpg(os.getpgid(os.getppid()), 9)'",
        },
    )
    assert code == -signal.SIGKILL, output[-3000:]
    under_way = {name: deployment.labels(name)["AWSPENDING"] for name in (USER, KEY)}
    assert deployment.content(USER)["password"] == old[USER]
    pending = deployment.content(USER, "AWSPENDING")["password"]
    for address in deployment.addresses:
        assert logs_in(address, username, pending) and not logs_in(address, username, old[USER])
    code, output = deployment.play(PLAYBOOK)
    assert code == 0, output[-6000:]
    assert "Finishes a rotation that was cut off" in " ".join(output.split())
    # That one was finished, no other was begun.
    for name, version in under_way.items():
        assert deployment.labels(name)["AWSCURRENT"] == version
    new = check_everything_is_new(deployment, old)
    assert new[USER] == pending


def test_limit_is_refused_and_the_state_is_only_told(deployment):
    before = [deployment.labels(name) for name in (APP, ADMIN, USER, KEY)]
    code, output = deployment.play(PLAYBOOK, "--limit", next(iter(deployment.hosts)))
    assert code != 0 and "--limit is refused" in output
    code, output = deployment.play(PLAYBOOK, rotate_show=True)
    assert code == 0 and "No rotation is under way" in output, output[-3000:]
    assert [deployment.labels(name) for name in (APP, ADMIN, USER, KEY)] == before
