# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses.instances import InstanceResponse as InstanceTypes


def test_where_a_type_can_be_had_and_for_which_processors(module, aws):
    found = module("ec2_instance_type_info", instance_type="t3.small", region="us-east-1")
    assert (found["changed"], found["known"], found["architectures"]) == (False, True, ["x86_64"])
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html
    assert "us-east-1a" in found["zones"] and "us-east-1e" not in found["zones"]
    assert module("ec2_instance_type_info", instance_type="t4g.small")["architectures"] == ["arm64"]


def test_a_type_that_there_is_not(module, aws):
    found = module("ec2_instance_type_info", instance_type="t3.tiny")
    assert (found["known"], found["architectures"], found["zones"]) == (True, [], [])


def test_a_type_has_to_be_named(module):
    assert "instance_type" in module("ec2_instance_type_info")["msg"]


def test_whoever_may_not_ask_goes_on_as_before(module, aws, monkeypatch):
    def refuse(self):
        raise EC2ClientError("UnauthorizedOperation", "You are not authorized to perform this operation.")

    monkeypatch.setattr(InstanceTypes, "describe_instance_type_offerings", refuse)
    found = module("ec2_instance_type_info", instance_type="t3.small")
    assert (found["failed"], found["known"], found["zones"]) == (False, False, [])
    assert "ec2:DescribeInstanceTypeOfferings" in str(found["warnings"])
