# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a rotation refuses in words where nothing real can be brought to say no."""

from __future__ import annotations

import pytest
from pretended import Pretended
from repository import ROOT

TASKS = ROOT / "playbooks" / "tasks"
RDS = "amazon.aws.rds_instance"


@pytest.mark.parametrize("recycle, serves, emergency, refused", [
    (-1, True, False, True),
    (0, True, False, True),
    (60, True, False, False),
    # One that is down has no pools, and in an emergency their sessions are ended.
    (-1, False, False, False),
    (-1, True, True, False),
])  # fmt: skip
def test_pools_that_keep_their_connections_for_ever(tmp_path, recycle, serves, emergency, refused):
    variables = {
        "mlflow_aws_servers": ["localhost"],
        "mlflow_server_running_serves": serves,
        "mlflow_server_running_pool_recycle": recycle,
        "rotate_emergency": emergency,
    }
    cloud = Pretended(tmp_path, [])
    # Whoever is not refused goes on, and stops at what there is not here.
    assert cloud.run_tasks(TASKS / "rotation_begin.yml", variables) != 0
    said = "The service on localhost replaces no connection by itself" in " ".join(cloud.output.split())
    assert said == refused, cloud.output
    assert ("Take the lease" in cloud.output) != refused, cloud.output


@pytest.mark.parametrize("answer, refused", [
    ({"failed": True, "msg": "AccessDenied: not allowed."}, True),
    ({}, True),
    ({"changed": True, "db_instance_identifier": "x"}, False),
])  # fmt: skip
def test_a_master_password_that_rds_does_not_take(tmp_path, answer, refused):
    password = "the-new-master-password"
    variables = {
        "mlflow_aws_name": "x",
        "mlflow_aws_admin_secret": "x/database/admin",
        "mlflow_aws_admin_rotation": {"status": "pending", "version": "v2", "new": {"password": password}},
        "mlflow_database_rotation_found": {"admin_password": "current"},
    }
    cloud = Pretended(tmp_path, [{"module": RDS, "answers": [answer]}])
    assert cloud.run_tasks(TASKS / "rotation_admin.yml", variables, "-vvv", "--diff") != 0
    ((module, asked),) = cloud.calls
    assert module == RDS and asked["master_user_password"] == password and asked["apply_immediately"] is True
    assert asked["wait"] is False
    said = "RDS did not take the new master password" in " ".join(cloud.output.split())
    assert said == refused, cloud.output
    assert ("Prove the new master password" in cloud.output) != refused
    assert password not in cloud.output
