# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Who still works while a deployment is removed finds in its final snapshot what was acknowledged. Last by its name."""

from __future__ import annotations

import time

import boto3
import psycopg
from ledger import Ledger

from localcloud.parts.databases import SUPERUSER

RESTORED = "restored"


def in_the_snapshot(deployment):
    """What the final snapshot has of runs, as (run, kind, key, value)."""
    rds, ec2 = boto3.client("rds", **deployment.aws), boto3.client("ec2", **deployment.aws)
    (snapshot,) = rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    (default,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [default["VpcId"]]}])["Subnets"]
    rds.create_db_subnet_group(
        DBSubnetGroupName=RESTORED, DBSubnetGroupDescription="of a test", SubnetIds=[subnet["SubnetId"] for subnet in subnets]
    )
    rds.restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier=RESTORED,
        DBSnapshotIdentifier=snapshot["DBSnapshotIdentifier"],
        DBSubnetGroupName=RESTORED,
    )
    rds.get_waiter("db_instance_available").wait(DBInstanceIdentifier=RESTORED, WaiterConfig={"Delay": 2})
    socket = deployment.config.cloud_dir / "databases" / RESTORED / "socket"
    with psycopg.connect(host=str(socket), user=SUPERUSER, dbname="mlflow") as connection:
        rows = connection.execute(
            "SELECT run_uuid, 'run', '', '' FROM runs UNION ALL SELECT run_uuid, 'param', key, value FROM params "
            "UNION ALL SELECT run_uuid, 'tag', key, value FROM tags "
            "UNION ALL SELECT run_uuid, 'metric', key || ' ' || step, value::text FROM metrics"
        )
        return set(rows.fetchall())


def test_what_was_acknowledged_while_it_was_removed_is_in_the_final_snapshot(deployment):
    login = deployment.user["username"], deployment.user["password"]
    with Ledger(deployment.addresses, *login, readers=2, uploaders=0) as ledger:
        time.sleep(5)
        # Clients go on until nobody answers, whatever the playbook does meanwhile.
        code, output = deployment.play("playbooks/teardown.yml")
    assert code == 0, output[-4000:]
    found = in_the_snapshot(deployment)
    acknowledged = set()
    for run, entry in ledger.entries.items():
        acknowledged |= {(run, "run", "", "")}
        acknowledged |= {(run, "param", key, value) for key, value in entry.params.items()}
        acknowledged |= {(run, "tag", key, value) for key, value in entry.tags.items()}
        acknowledged |= {(run, "metric", f"{key} {step}", f"{value:.0f}") for key, step, value in entry.metrics}
    assert len(acknowledged) > 500
    assert acknowledged - found == set()
    # And they were served until the servers were gone: else this would say nothing.
    assert ledger.refused("write"), "nobody worked while it was removed"
