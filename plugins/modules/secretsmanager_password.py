#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
module: secretsmanager_password
version_added: 0.1.0
short_description: Generated passwords in AWS Secrets Manager
description:
  - Makes sure that secrets exist in AWS Secrets Manager, each a JSON object of which some values are generated.
  - What has been generated once is never generated again. Values that are not secret, such as a host name, are
    merged into the object.
  - Answers with the content of the secrets, so the task needs C(no_log=true).
options:
  secrets:
    description: The secrets. Several are handled in one call.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The secret's name.
        type: str
        required: true
      description:
        description: The secret's description in Secrets Manager, set when it is made.
        type: str
        default: ""
      generate:
        description: The keys of the object whose values are generated where they are missing.
        type: list
        elements: str
        default: [password]
      values:
        description: Keys that must have these values. They are not for passwords.
        type: dict
        default: {}
      initial:
        description: Keys that get these values where they are missing. Later changes, by a rotation, are left alone.
        type: dict
        default: {}
  length:
    description: How many characters to generate.
    type: int
    default: 32
  kms_key_id:
    description: The KMS key that encrypts a new secret. Secrets Manager's own where it is left out.
    type: str
  tags:
    description: Tags of the secrets. Tags that are there besides these are left alone.
    type: dict
    default: {}
  state:
    description: Whether the secrets should be there.
    type: str
    choices: [present, absent]
    default: present
  recovery_window_days:
    description:
      - For how many days a deleted secret can be had back, 7 to 30. With 0 it is gone at once.
      - A secret that waits for its deletion is had back, with its old values, by O(state=present).
    type: int
    default: 30
attributes:
  check_mode:
    description: A secret that would be made is answered with a text in the place of each generated value.
    support: full
  diff_mode:
    description: Shows the names of the keys before and after, never a value.
    support: full
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Make sure of the database's master password
  mlops.mlflow_aws.secretsmanager_password:
    secrets:
      - name: mlflow/database/admin
        initial:
          username: mlflow_admin
        values:
          engine: postgres
  register: result
  no_log: true
"""

RETURN = r"""
secrets:
  description: The content of each secret by its name.
  returned: when O(state=present)
  type: dict
  sample: {"mlflow/database/admin": {"username": "mlflow_admin", "password": "...", "engine": "postgres"}}
created:
  description:
    - When the version of each secret that was answered was made, by the clock of AWS, as seconds of the epoch; by the name.
    - In check mode a secret that would be made or changed is not in it.
  returned: when O(state=present)
  type: dict
  sample: {"mlflow/database/admin": 1764100000.0}
under_way:
  description: The names of the secrets that have a version labelled V(AWSPENDING), which is a rotation that is not finished.
  returned: when O(state=present)
  type: list
  elements: str
  version_added: "0.3.0"
changed_secrets:
  description: The names of the secrets that were made, changed or removed.
  returned: always
  type: list
  elements: str
"""

import json
import time

try:
    import botocore
except ImportError:
    pass  # AnsibleAWSModule says so

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
)
from ansible_collections.mlops.mlflow_aws.plugins.module_utils._passwords import generate

PLACEHOLDER = "not-generated-in-check-mode"

# A secret that was deleted without a recovery window is removed some time later, and until then its name can't be used.
PATIENCE_SECONDS = 120
PAUSE_SECONDS = 5


def merge(current, wanted, make):
    """The content that a secret should have, from what it has and an item of the option secrets."""
    content = dict(current)
    for key, value in wanted["initial"].items():
        content.setdefault(key, value)
    content.update(wanted["values"])
    for key in wanted["generate"]:
        if not content.get(key):
            content[key] = make()
    return content


class Secrets:
    def __init__(self, module):
        self.module = module
        self.client = module.client("secretsmanager", retry_decorator=AWSRetry.jittered_backoff())
        self.created = {}
        self.under_way = []

    def call(self, what, method, patience_seconds=0, **arguments):
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                return getattr(self.client, method)(aws_retry=True, **arguments)
            except is_boto3_error_code("ResourceNotFoundException"):
                return None
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as e:
                code = getattr(e, "response", {}).get("Error", {}).get("Code")
                if code != "InvalidRequestException" or time.monotonic() >= deadline:
                    self.module.fail_json_aws(e, msg=f"Could not {what}")
            time.sleep(PAUSE_SECONDS)

    def read(self, name):
        """The secret's content."""
        answer = self.call(f"read secret {name}", "get_secret_value", SecretId=name)
        if answer is None:
            return {}
        try:
            content = json.loads(answer["SecretString"])
        except (KeyError, ValueError):
            content = None
        if not isinstance(content, dict):
            self.module.fail_json(msg=f"Secret {name} exists, but is not a JSON object: it was not made by this module.")
        self.created[name] = answer["CreatedDate"].timestamp()
        return content

    def ensure(self, wanted):
        """Returns whether something changes, the content before and the content after."""
        name = wanted["name"]
        check_mode = self.module.check_mode
        tags = self.module.params["tags"]
        described = self.call(f"describe secret {name}", "describe_secret", SecretId=name)
        changed = described is None
        if any("AWSPENDING" in labels for labels in (described or {}).get("VersionIdsToStages", {}).values()):
            self.under_way.append(name)

        if described and described.get("DeletedDate"):
            changed = True
            if check_mode:
                # Its value can't be read until it is had back.
                return True, {}, merge({}, wanted, lambda: PLACEHOLDER)
            if self.call(f"have secret {name} back", "restore_secret", PATIENCE_SECONDS, SecretId=name) is None:
                described = None

        current = self.read(name) if described else {}
        content = merge(current, wanted, (lambda: PLACEHOLDER) if check_mode else self.generate)
        missing_tags = {
            key: value
            for key, value in tags.items()
            if boto3_tag_list_to_ansible_dict((described or {}).get("Tags", [])).get(key) != value
        }
        changed = changed or content != current or bool(missing_tags)
        if check_mode:
            if content != current:
                self.created.pop(name, None)
            return changed, current, content

        if described is None:
            arguments = dict(Name=name, SecretString=json.dumps(content), Tags=ansible_dict_to_boto3_tag_list(tags))
            if wanted["description"]:
                arguments["Description"] = wanted["description"]
            if self.module.params["kms_key_id"]:
                arguments["KmsKeyId"] = self.module.params["kms_key_id"]
            self.call(f"make secret {name}", "create_secret", PATIENCE_SECONDS, **arguments)
            self.note_new_version(name, content)
            return True, current, content
        if content != current:
            self.call(f"change secret {name}", "put_secret_value", SecretId=name, SecretString=json.dumps(content))
            self.note_new_version(name, content)
        if missing_tags:
            self.call(
                f"tag secret {name}", "tag_resource", SecretId=name, Tags=ansible_dict_to_boto3_tag_list(missing_tags)
            )
        return changed, current, content

    def note_new_version(self, name, content):
        """Secrets Manager may answer with the version of before for a moment; its time is then not that of this content."""
        self.created.pop(name, None)
        if self.read(name) != content:
            self.created.pop(name, None)

    def remove(self, wanted):
        name = wanted["name"]
        window = self.module.params["recovery_window_days"]
        described = self.call(f"describe secret {name}", "describe_secret", SecretId=name)
        if described is None or (described.get("DeletedDate") and window):
            return False
        if not self.module.check_mode:
            arguments = dict(RecoveryWindowInDays=window) if window else dict(ForceDeleteWithoutRecovery=True)
            self.call(f"delete secret {name}", "delete_secret", SecretId=name, **arguments)
        return True

    def generate(self):
        return generate(self.module.params["length"])


def main():
    module = AnsibleAWSModule(
        argument_spec=dict(
            secrets=dict(
                type="list",
                elements="dict",
                required=True,
                # The names are no secrets; the values come back in the result, which the task must not log.
                no_log=False,
                options=dict(
                    name=dict(type="str", required=True),
                    description=dict(type="str", default=""),
                    generate=dict(type="list", elements="str", default=["password"], no_log=False),
                    values=dict(type="dict", default={}),
                    initial=dict(type="dict", default={}),
                ),
            ),
            length=dict(type="int", default=32),
            kms_key_id=dict(type="str"),
            tags=dict(type="dict", default={}),
            state=dict(type="str", choices=["present", "absent"], default="present"),
            recovery_window_days=dict(type="int", default=30),
        ),
        supports_check_mode=True,
    )
    if module.params["length"] < 16:
        module.fail_json(msg=f"length is {module.params['length']}: a generated password has 16 characters or more.")
    window = module.params["recovery_window_days"]
    if window != 0 and not 7 <= window <= 30:
        module.fail_json(msg=f"recovery_window_days is {window}: AWS takes 7 to 30, or 0 for at once.")

    secrets = Secrets(module)
    result = dict(changed_secrets=[])
    before, after = {}, {}
    if module.params["state"] == "present":
        result["secrets"] = {}
    for wanted in module.params["secrets"]:
        name = wanted["name"]
        if module.params["state"] == "absent":
            changed = secrets.remove(wanted)
            if changed:
                before[name] = "present"
        else:
            changed, current, content = secrets.ensure(wanted)
            result["secrets"][name] = content
            before[name], after[name] = sorted(current), sorted(content)
        if changed:
            result["changed_secrets"].append(name)
    if module.params["state"] == "present":
        result |= {"created": secrets.created, "under_way": secrets.under_way}
    if module._diff:
        result["diff"] = dict(before={"keys": before}, after={"keys": after})
    module.exit_json(changed=bool(result["changed_secrets"]), **result)


if __name__ == "__main__":
    main()
