# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A host that the mlflow_server role can't use is refused before anything on it is changed, in words that name what is wrong."""

from __future__ import annotations

import pytest
from pretended import Pretended

INFO = "mlops.mlflow_aws.host_info"
PLENTY = 1 << 20
HOST = {
    "distribution": {"id": "debian", "version": "13"},
    "python_homes": {},
    "free_mib": {"/var/lib/mlflow/tmp": PLENTY, "/opt/mlflow": PLENTY},
    "links": {},
    "files": {},
    "units": {},
    "differing": {"service": []},
    "newer": {},
    "packages": [],
}
GIVEN = {
    "ansible_become": False,
    "mlflow_server_database_host": "db.example.com",
    "mlflow_server_database_user": "mlflow",
    "mlflow_server_database_password": "x",
    "mlflow_server_artifact_root": "s3://bucket/artifacts",
    "mlflow_server_spool_dir": "/var/lib/mlflow/tmp",
}
CASES = {
    "a distribution": (
        {"distribution": {"id": "fedora", "version": "43"}},
        {},
        "localhost runs fedora 43; this role knows Debian 12 and 13, Ubuntu 24.04 and Amazon Linux 2023.",
    ),
    "a Python in a person's folder": (
        {"python_homes": {"/usr/local/bin/python3.12": "/root/.local/share/uv/python/3.12"}},
        {"mlflow_server_python": "/usr/local/bin/python3.12"},
        "mlflow_server_python is '/usr/local/bin/python3.12', which is of the Python in /root/.local",
    ),
    "a lower version": (
        {"links": {"/opt/mlflow/current": "/opt/mlflow/3.18.0-7773d8d1"}},
        {},
        "mlflow_server_allow_downgrade: true",
    ),
    "a full disk": (
        {"free_mib": {"/var/lib/mlflow/tmp": 10, "/opt/mlflow": PLENTY}},
        {},
        "10 MiB are free where mlflow_server_spool_dir is, /var/lib/mlflow/tmp",
    ),
    "no room for the installation": (
        {"free_mib": {"/var/lib/mlflow/tmp": PLENTY, "/opt/mlflow": 10}},
        {},
        "10 MiB are free where MLflow 3.17.2 would be installed",
    ),
}


def look(tmp_path, found, given):
    host = Pretended(tmp_path, [{"module": INFO, "answers": [{**HOST, **found}]}])
    code = host.run("mlflow_server", {**GIVEN, **given}, tasks_from="host")
    return code, " ".join(host.output.split())


@pytest.mark.parametrize("case", CASES)
def test_a_host_that_can_not_be_used_is_refused(tmp_path, case):
    found, given, words = CASES[case]
    code, said = look(tmp_path, found, given)
    assert code == 2 and words in said, said
    assert "changed=0" in said


def test_another_host_is_not(tmp_path):
    code, said = look(tmp_path, {}, {})
    assert code == 0, said


SECRET = "a-password-that-nobody-sees"
ASKED = {
    **GIVEN,
    "mlflow_server_database_password": SECRET,
    "mlflow_server_admin_password": SECRET,
    "mlflow_server_login_of": "inputs",
    "mlflow_server_user_password": {"title": "change it", "password": SECRET, "current": SECRET},
    "mlflow_server_flask_secret_key": SECRET,
    "mlflow_server_public_name": "mlflow.example.com",
}
ANSWERS = {
    "a login": ("login", "mlflow_login", {"failed": True, "msg": "mlflow_b can't log in."}, "localhost: mlflow_b can't log in."),
    "a service file": (
        "service_file", "mlflow_service_file", {"failed": True, "msg": "No space left."},
        "localhost: No space left. The service file is what it was before.",
    ),
    "a server that does not answer": (
        "ask", "mlflow_ready", {"failed": True, "msg": "It says 503"}, "localhost: It says 503. journalctl -u mlflow tells why.",
    ),
    "a password of MLflow": (
        "user_password", "mlflow_user_password", {"failed": True, "msg": "It takes neither."}, "localhost: It takes neither.",
    ),
    "a key": ("flask_key", "host_files", {"failed": True, "msg": "No space left."}, "localhost: No space left."),
    "a server that is not ready": (
        "verify", "mlflow_ready", {"failed": True, "msg": "database: failed"}, "database: failed. The journals end with:",
    ),
    "an administrator's password": (
        "verify", "mlflow_ready", {"login": "refused"}, "mlflow_server_admin_password",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ANSWERS)
def test_what_does_not_work_is_told_though_its_task_is_silent(tmp_path, what):
    """The task that has a secret says nothing; the next one says why, and nothing of the secret."""
    tasks, module, answer, words = ANSWERS[what]
    host = Pretended(tmp_path, [{"module": f"mlops.mlflow_aws.{module}", "answers": [answer]}, {"module": INFO, "answers": [{}]}])
    code = host.run("mlflow_server", ASKED, "-vvv", "--diff", tasks_from=tasks)
    said = " ".join(host.output.split())
    assert code == 2 and words in said, said[-3000:]
    assert [name.rpartition(".")[2] for name, _ in host.calls] == [module]
    assert SECRET not in said
