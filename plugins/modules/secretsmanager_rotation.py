#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
module: secretsmanager_rotation
version_added: 0.1.0
short_description: The rotation of a password in AWS Secrets Manager, step by step
description:
  - Takes a secret that is a JSON object with C(username) and C(password), or with a key alone, through a rotation by Secrets
    Manager's own staging labels.
  - A rotation is one version of the secret. It has the label C(AWSPENDING) from its beginning to its very end, so that
    whoever finds that label finishes that rotation and begins no other.
  - Each step may be repeated. A step of a rotation that is not the one under way is refused.
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
      logins:
        description:
          - The two roles that take turns. The new version gets the one that the current version does not have.
          - Left out, the role stays and only its password changes.
        type: list
        elements: str
        default: []
      field:
        description: What of the secret is rotated. Another one than C(password) needs no C(username) beside it.
        type: str
        default: password
      version:
        description: The rotation's version, which O(state=promoted) and O(state=finished) need.
        type: str
        default: ""
  state:
    description:
      - With V(read) nothing is changed.
      - With V(pending) a rotation is under way; a new one is begun where there is none. One that was begun before somebody
        changed something else in the secret, as the address of the database, gets that by another version with the same
        login.
      - With V(promoted) its version is C(AWSCURRENT), and the one before is C(AWSPREVIOUS). It is refused where anything but
        the login differs between the two, since what was changed meanwhile would be changed back.
      - With V(finished) the label C(AWSPENDING) is gone.
    type: str
    choices: [read, pending, promoted, finished]
    default: read
  length:
    description: How many characters to generate.
    type: int
    default: 32
attributes:
  check_mode:
    description: A rotation that would be begun is answered with a text in the place of the password.
    support: full
  diff_mode:
    description: Not given; a diff would hold nothing but passwords.
    support: none
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
- name: Begin a rotation, or find the one that is under way
  mlops.mlflow_aws.secretsmanager_rotation:
    secrets:
      - name: mlflow/database/app
        logins: [mlflow_a, mlflow_b]
    state: pending
  register: result
  no_log: true
"""

RETURN = r"""
rotations:
  description: What there is of each secret, by its name.
  returned: always
  type: dict
  contains:
    status:
      description:
        - V(none) where no rotation is under way, V(pending) where its version is not current yet, V(promoted) where it
          is and the label is still there.
      type: str
    version:
      description: The version of the rotation; of the current password where none is under way.
      type: str
    created:
      description: When that version was made, by the clock of AWS, as seconds of the epoch.
      type: float
    current:
      description: The content of the version C(AWSCURRENT).
      type: dict
    new:
      description: The content of the rotation's version; that of the current one where none is under way.
      type: dict
    retiring:
      description: The role that the rotation retires, where O(secrets[].logins) names two. Else empty.
      type: str
"""

import json
import time
import uuid

try:
    import botocore
except ImportError:
    pass  # AnsibleAWSModule says so

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
from ansible_collections.mlops.mlflow_aws.plugins.module_utils._passwords import generate

CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"
PLACEHOLDER = "not-generated-in-check-mode"


class Refused(Exception):
    """A step that does not fit what is there; in words without a secret."""


def versions_by_label(described):
    """The version that has each label."""
    return {
        label: version for version, labels in described.get("VersionIdsToStages", {}).items() for label in labels
    }


def other_login(name, logins, username):
    """The role whose turn it is."""
    if not logins:
        return username
    if username not in logins:
        raise Refused(
            f"The secret {name} names the role {username!r}, which is none of the two that take turns: {', '.join(logins)}."
        )
    return next(login for login in logins if login != username)


class Rotation:
    """The rotation of one secret."""

    def __init__(self, client, secret, check_mode=False, length=32):
        self.client = client
        self.name = secret["name"]
        self.logins = secret["logins"]
        self.field = secret["field"]
        self.asked = secret["version"]
        self.check_mode = check_mode
        self.length = length
        self.changed = False
        self.look()

    def look(self):
        self.labels = versions_by_label(self.client.describe_secret(SecretId=self.name, aws_retry=True))
        if CURRENT not in self.labels:
            raise Refused(f"The secret {self.name} has no current version; run site.yml first.")
        self.current, self.current_created = self.content(self.labels[CURRENT])
        self.pending = None
        if PENDING in self.labels:
            self.pending, self.pending_created = self.content(self.labels[PENDING])

    def content(self, version):
        answer = self.client.get_secret_value(SecretId=self.name, VersionId=version, aws_retry=True)
        try:
            content = json.loads(answer["SecretString"])
        except (KeyError, ValueError):
            content = None
        wanted = ["username", "password"] if self.field == "password" else [self.field]
        if not isinstance(content, dict) or not all(content.get(name) for name in wanted):
            raise Refused(f"The secret {self.name} is no JSON object with {' and '.join(wanted)}.")
        return content, answer["CreatedDate"].timestamp()

    @property
    def status(self):
        if self.pending is None:
            return "none"
        if self.labels[PENDING] == self.labels[CURRENT] or self.pending[self.field] == self.current[self.field]:
            # A version that has the same password as the current one: site.yml has written a new address since.
            return "promoted"
        if self.logins and self.pending["username"] != other_login(self.name, self.logins, self.current["username"]):
            # Somebody else's: it would change the password that is in use.
            return "none"
        return "pending"

    def answer(self):
        status = self.status
        under_way = status != "none"
        new = self.pending if under_way else self.current
        return {
            "status": status,
            "version": self.labels[PENDING if under_way else CURRENT],
            "created": self.pending_created if under_way else self.current_created,
            "current": self.current,
            "new": new,
            "retiring": other_login(self.name, self.logins, new["username"]) if self.logins else "",
        }

    @property
    def others(self):
        """What of the pending version is not the rotation's, and is not as in the current one."""
        own = {self.field, *(["username"] if self.logins else [])}
        return sorted(
            key
            for key in {*self.current, *self.pending} - own
            if (key in self.current, self.current.get(key)) != (key in self.pending, self.pending.get(key))
        )

    def begin(self):
        if self.status == "promoted" or (self.status == "pending" and not self.others):
            return
        self.changed = True
        content = dict(self.current)
        if self.logins:
            content["username"] = other_login(self.name, self.logins, self.current["username"])
        if self.status == "pending":
            # The database may have its password already.
            content[self.field] = self.pending[self.field]
        else:
            content[self.field] = PLACEHOLDER if self.check_mode else generate(self.length)
        version = str(uuid.uuid4())
        if self.check_mode:
            self.labels[PENDING], self.pending, self.pending_created = version, content, time.time()
            return
        self.client.put_secret_value(
            SecretId=self.name,
            ClientRequestToken=version,
            SecretString=json.dumps(content),
            VersionStages=[PENDING],
            aws_retry=True,
        )
        self.look()

    def promote(self):
        self.must_be_ours()
        if self.status == "promoted":
            return
        if self.pending is not None and self.others:
            raise Refused(
                f"The secret {self.name} was changed since its rotation {self.asked} began ({', '.join(self.others)}), so that "
                "is not made the current one: it would change that back. Nothing was changed. Run this again: it takes that over."
            )
        self.changed = True
        if self.check_mode:
            return
        # AWS refuses this when the label has meanwhile gone elsewhere, and moves AWSPREVIOUS in the same step.
        self.client.update_secret_version_stage(
            SecretId=self.name,
            VersionStage=CURRENT,
            RemoveFromVersionId=self.labels[CURRENT],
            MoveToVersionId=self.asked,
            aws_retry=True,
        )
        self.look()

    def finish(self):
        if self.check_mode:
            self.changed = True
            return
        if PENDING not in self.labels and self.labels[CURRENT] == self.asked:
            return
        self.must_be_ours()
        if self.status != "promoted":
            raise Refused(f"The rotation {self.asked} of {self.name} can't be finished: its password is not current yet.")
        self.changed = True
        self.client.update_secret_version_stage(
            SecretId=self.name, VersionStage=PENDING, RemoveFromVersionId=self.asked, aws_retry=True
        )
        self.look()

    def must_be_ours(self):
        if self.labels.get(PENDING) != self.asked and not (self.check_mode and PENDING not in self.labels):
            raise Refused(
                f"The rotation {self.asked} of {self.name} is not the one under way "
                f"({self.labels.get(PENDING, 'there is none')}): another run has gone on with it. Nothing was changed."
            )


def main():
    module = AnsibleAWSModule(
        argument_spec=dict(
            secrets=dict(
                type="list",
                elements="dict",
                required=True,
                # The names are no secrets; the contents come back in the result, which the task must not log.
                no_log=False,
                options=dict(
                    name=dict(type="str", required=True),
                    logins=dict(type="list", elements="str", default=[]),
                    # The name of the field, not what is in it.
                    field=dict(type="str", default="password", no_log=False),
                    version=dict(type="str", default=""),
                ),
            ),
            state=dict(type="str", choices=["read", "pending", "promoted", "finished"], default="read"),
            length=dict(type="int", default=32),
        ),
        supports_check_mode=True,
    )
    state = module.params["state"]
    if module.params["length"] < 16:
        module.fail_json(msg=f"length is {module.params['length']}: a generated password has 16 characters or more.")
    client = module.client("secretsmanager", retry_decorator=AWSRetry.jittered_backoff())
    rotations = {}
    changed = False
    for secret in module.params["secrets"]:
        name = secret["name"]
        if len(secret["logins"]) not in (0, 2):
            module.fail_json(msg=f"logins of {name} is {secret['logins']}: two roles take turns, or none is given.")
        if state in ("promoted", "finished") and not secret["version"]:
            module.fail_json(msg=f"version of {name} is missing: state {state} needs to know which rotation is meant.")
        try:
            rotation = Rotation(client, secret, module.check_mode, module.params["length"])
            if state == "pending":
                rotation.begin()
            elif state == "promoted":
                rotation.promote()
            elif state == "finished":
                rotation.finish()
            rotations[name] = rotation.answer()
        except Refused as error:
            module.fail_json(msg=str(error))
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            doing = {"read": "read", "pending": "begin the rotation of", "promoted": "promote", "finished": "finish"}[state]
            module.fail_json_aws(error, msg=f"Could not {doing} secret {name}")
        changed = changed or rotation.changed
    module.exit_json(changed=changed, rotations=rotations)


if __name__ == "__main__":
    main()
