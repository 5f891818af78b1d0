#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_bucket_lifecycle
version_added: 0.1.0
short_description: The life-cycle rules of an S3 bucket
description:
  - Makes sure that a bucket has the life-cycle rules that are given.
  - A rule is written as the S3 API has it, so whatever S3 learns can be said here.
  - amazon.aws 10 has no module for it.
options:
  name:
    description: The bucket's name.
    type: str
    required: true
  rules:
    description:
      - The rules, each as in the C(Rules) of S3's PutBucketLifecycleConfiguration.
      - Every rule needs an C(ID), by which it is found again. C(Status) is C(Enabled) and C(Filter) is the whole
        bucket where they are left out.
      - Required for O(state=present). With O(state=absent), the rules whose IDs are given are removed; without
        rules, all are.
    type: list
    elements: dict
  purge_rules:
    description: Whether to remove rules of the bucket that are not in O(rules).
    type: bool
    default: true
  state:
    description: Whether the rules should be there.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Says what would change, also for a bucket that does not exist yet.
    support: full
  diff_mode:
    description: Shows the rules before and after.
    support: full
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Remove what unfinished uploads left behind
  mlops.mlflow_aws.s3_bucket_lifecycle:
    name: mlflow-artifacts-123456789012-eu-central-1
    rules:
      - ID: unfinished-uploads
        AbortIncompleteMultipartUpload:
          DaysAfterInitiation: 7
"""

RETURN = r"""
rules:
  description: The bucket's rules, as S3 has them.
  returned: always
  type: list
  elements: dict
"""

import copy

try:
    import botocore
except ImportError:
    pass  # AnsibleAWSModule says so

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry


def normalise(rule):
    """A rule in the one spelling that two equal rules share."""
    rule = copy.deepcopy(rule)
    rule.setdefault("Status", "Enabled")
    # A rule for the whole bucket comes back with an empty Filter, an empty Prefix in it, or the old top-level Prefix.
    if "Prefix" in rule:
        rule["Filter"] = {"Prefix": rule.pop("Prefix")}
    if not rule.get("Filter"):
        rule["Filter"] = {"Prefix": ""}
    return rule


def by_id(rules):
    return {rule["ID"]: normalise(rule) for rule in rules}


def wanted_rules(current, rules, state, purge):
    """The rules that the bucket should have: both arguments and the answer are mappings by ID."""
    if state == "absent":
        return {key: rule for key, rule in current.items() if rules and key not in rules}
    return dict(rules) if purge else {**current, **rules}


def read_rules(client, module, name):
    try:
        answer = client.get_bucket_lifecycle_configuration(Bucket=name, aws_retry=True)
    except is_boto3_error_code("NoSuchLifecycleConfiguration"):
        return []
    except is_boto3_error_code("NoSuchBucket") as e:
        if module.check_mode or module.params["state"] == "absent":
            return []
        module.fail_json_aws(e, msg=f"There is no bucket {name}")
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as e:
        module.fail_json_aws(e, msg=f"Could not read the life-cycle rules of bucket {name}")
    return answer.get("Rules", [])


def write_rules(client, module, name, rules):
    try:
        if rules:
            client.put_bucket_lifecycle_configuration(
                Bucket=name, LifecycleConfiguration={"Rules": list(rules.values())}, aws_retry=True
            )
        else:
            client.delete_bucket_lifecycle(Bucket=name, aws_retry=True)
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as e:
        module.fail_json_aws(e, msg=f"Could not set the life-cycle rules of bucket {name}")


def main():
    module = AnsibleAWSModule(
        argument_spec=dict(
            name=dict(type="str", required=True),
            rules=dict(type="list", elements="dict"),
            purge_rules=dict(type="bool", default=True),
            state=dict(type="str", choices=["present", "absent"], default="present"),
        ),
        required_if=[["state", "present", ["rules"]]],
        supports_check_mode=True,
    )
    name = module.params["name"]
    given = module.params["rules"] or []
    for rule in given:
        if not rule.get("ID"):
            module.fail_json(msg="Every rule needs an ID, by which it is found again at the next run.")

    client = module.client("s3", retry_decorator=AWSRetry.jittered_backoff(catch_extra_error_codes=["OperationAborted"]))
    current = by_id(read_rules(client, module, name))
    wanted = wanted_rules(current, by_id(given), module.params["state"], module.params["purge_rules"])

    changed = wanted != current
    if changed and not module.check_mode:
        write_rules(client, module, name, wanted)

    result = dict(changed=changed, rules=list(wanted.values()))
    if module._diff:
        result["diff"] = dict(before={"rules": current}, after={"rules": wanted})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
