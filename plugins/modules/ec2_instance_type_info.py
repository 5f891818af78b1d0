#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
module: ec2_instance_type_info
version_added: 0.3.0
short_description: For which processors an EC2 instance type is, and in which zones it can be had
description:
  - Asks EC2 what it needs before an instance is made or stopped. A zone may lack a type that its region has, and an instance
    can't become one of a type for other processors than those of its image.
  - amazon.aws 10 and 11 have no module for it.
options:
  instance_type:
    description: The type.
    type: str
    required: true
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Look where the type can be had
  mlops.mlflow_aws.ec2_instance_type_info:
    instance_type: t3.large
"""

RETURN = r"""
architectures:
  description: The architectures of its processors. Empty where there is no such type in the region.
  returned: always
  type: list
  elements: str
  sample: [x86_64]
zones:
  description: The availability zones that have it, in the order of their names.
  returned: always
  type: list
  elements: str
  sample: [eu-central-1a, eu-central-1b]
known:
  description: Whether EC2 has told. It is V(false), with a warning and empty lists, where the caller may not ask.
  returned: always
  type: bool
"""

try:
    import botocore
except ImportError:
    pass  # AnsibleAWSModule says so

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry


def main():
    module = AnsibleAWSModule(argument_spec=dict(instance_type=dict(type="str", required=True)), supports_check_mode=True)
    name = module.params["instance_type"]
    client = module.client("ec2", retry_decorator=AWSRetry.jittered_backoff())
    by_type = [{"Name": "instance-type", "Values": [name]}]
    try:
        offers = client.describe_instance_type_offerings(
            LocationType="availability-zone", Filters=by_type, aws_retry=True
        )["InstanceTypeOfferings"]
        kinds = client.describe_instance_types(Filters=by_type, aws_retry=True)["InstanceTypes"]
    except is_boto3_error_code("UnauthorizedOperation"):
        module.warn(
            f"Whether {name} can be had is not known: this caller lacks ec2:DescribeInstanceTypes or"
            " ec2:DescribeInstanceTypeOfferings."
        )
        module.exit_json(changed=False, known=False, architectures=[], zones=[])
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as e:
        module.fail_json_aws(e, msg=f"Could not look the instance type {name} up")
    module.exit_json(
        changed=False,
        known=True,
        architectures=sorted({one for kind in kinds for one in kind["ProcessorInfo"]["SupportedArchitectures"]}),
        zones=sorted(offer["Location"] for offer in offers),
    )


if __name__ == "__main__":
    main()
