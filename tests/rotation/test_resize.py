# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Another instance type for hosts that serve: AWS stops each for it, and a load balancer always has another."""

from __future__ import annotations

import itertools

import boto3
import pytest

pytestmark = pytest.mark.slow


def types(deployment):
    ec2 = boto3.client("ec2", **deployment.aws)
    ids = [host["instance_id"] for host in deployment.hosts.values()]
    found = ec2.describe_instances(InstanceIds=ids)["Reservations"]
    return {instance["InstanceType"] for reservation in found for instance in reservation["Instances"]}


def test_another_type_stops_one_host_after_the_other(deployment, load):
    before, booted = types(deployment), {host: deployment.booted(host) for host in deployment.hosts}
    assert before != {"t3.xlarge"}
    try:
        with load(clients=8, pause=0.1) as clients:
            code, output = deployment.site(mlflow_aws_instance_type="t3.xlarge")
        assert code == 0, output[-3000:]
        assert types(deployment) == {"t3.xlarge"}
        assert not [host for host in deployment.hosts if deployment.booted(host) == booted[host]], "a host was not stopped"
        # Its clients see that a host is away; a load balancer sends them to the other, which has to be there.
        answered = sorted(answer.begin + answer.seconds for answer in clients.answers if not answer.problem)
        longest = max(after - earlier for earlier, after in itertools.pairwise(answered))
        print(f"{len(answered)} requests answered, none for {longest:.1f} s at most")
        assert longest < 5
        assert clients.lost() == []
    finally:
        code, output = deployment.site()
        assert code == 0, output[-3000:]
    assert types(deployment) == before
    deployment.check_finished()
