#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mlflow_user_password
short_description: Change the password of an MLflow user, and prove it by a login
version_added: "0.1.0"
description:
  - Changes a user's own password by MLflow's API, and waits until the server takes the new one.
  - A password that the server takes already is left as it is, so the module may be repeated after it was cut off.
  - Passwords travel in the headers and the body of requests only, to the address in O(url).
author:
  - the mlops.mlflow_aws contributors
options:
  url:
    description: Where the server is, without a path.
    type: str
    required: true
  host:
    description: The name that is asked for, where O(url) has an address.
    type: str
  username:
    description: The user.
    type: str
    required: true
  password:
    description: The password that the user is to have.
    type: str
    required: true
  current_password:
    description: The password that the user has now. Without it nothing is changed, and O(password) is only proven.
    type: str
  former_password:
    description: A password that must not be taken any more.
    type: str
  validate_certs:
    description: Whether the server's certificate must be trusted and have the name in O(url).
    type: bool
    default: true
  ca_path:
    description: A file with the certificates to trust, in place of the system's.
    type: path
  timeout:
    description: For how many seconds the server may be waited for.
    type: int
    default: 60
attributes:
  check_mode:
    description: Looks whether the password would be changed and changes nothing.
    support: full
  diff_mode:
    description: There is nothing to show but passwords.
    support: none
"""

EXAMPLES = r"""
- name: Change the administrator's password
  mlops.mlflow_aws.mlflow_user_password:
    url: https://mlflow.example.com
    username: admin
    current_password: "{{ now }}"
    password: "{{ next }}"
  no_log: true
"""

RETURN = r"""
login:
  description: That the password is taken, V(accepted). In check mode V(planned) where it would be changed.
  returned: success
  type: str
  sample: accepted
"""

import json
import time
from urllib.error import HTTPError
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

# Only the database knows the answer, and a user may ask for their own account.
ACCOUNT = "/api/2.0/mlflow/users/get?username="
CHANGE = "/api/2.0/mlflow/users/update-password"
ANSWER_SECONDS = 15


class Refused(Exception):
    """Why it can't be done, in words without a secret."""


class Account:
    """A user of a server, as that user sees it."""

    def __init__(self, url, username, opener=open_url, host=None, **tls):
        self.url = url.rstrip("/")
        self.username = username
        self.opener = opener
        self.headers = {"Host": host.lower()} if host else {}
        self.tls = tls

    def ask(self, path, password, **options):
        """Return the status, or 0 and why there was no answer."""
        headers = {**self.headers, **options.pop("headers", {})}
        login = {"url_username": self.username, "url_password": password, "force_basic_auth": True, "use_proxy": False}
        try:
            answer = self.opener(
                self.url + path, headers=headers, timeout=ANSWER_SECONDS, **login, **options, **self.tls
            )
            answer.read()
            return answer.code, ""
        except HTTPError as error:
            return error.code, f"status {error.code}"
        except Exception as error:
            # What open_url raises depends on what is wrong; its text has no password.
            return 0, str(error)

    def takes(self, password):
        """Whether a password logs in, or nothing where that was not to be learned, and why."""
        status, why = self.ask(ACCOUNT + quote(self.username), password)
        return {200: True, 401: False}.get(status), why

    def change(self, current, password):
        """Whether it was done, or nothing where it may have been done all the same, and why."""
        body = {"username": self.username, "password": password, "current_password": current}
        headers = {"Content-Type": "application/json"}
        status, why = self.ask(CHANGE, current, method="PATCH", data=json.dumps(body), headers=headers)
        return (None if status == 0 or status >= 500 else status == 200), why


def ensure(account, wanted, check_mode=False, clock=time):
    """Return whether it was changed, and whether the password is taken now."""
    deadline = clock.monotonic() + wanted["timeout"]
    new, current, former = wanted["password"], wanted["current_password"], wanted["former_password"]
    # Whether it was changed; where an answer was lost, whether the new password is taken tells.
    changed, why = False, ""
    while True:
        taken, why_not = account.takes(new)
        if taken:
            break
        why = why_not or why
        if taken is False and current and changed is not True:
            if check_mode:
                if account.takes(current)[0]:
                    return True, "planned"
            else:
                done, why_not = account.change(current, new)
                why = why_not or why
                changed = True if done else (None if done is None else changed)
                if changed:
                    continue
        if clock.monotonic() >= deadline:
            raise Refused(_what_is_wrong(account, wanted, taken, why))
        # A server may remember a refusal for a moment.
        clock.sleep(1)
    while former:
        taken, why = account.takes(former)
        if taken is False:
            break
        if clock.monotonic() >= deadline:
            raise Refused(
                f"{account.url} still takes the former password of {account.username}."
                if taken
                else f"{account.url} did not say whether it takes the former password of {account.username}: {why}"
            )
        clock.sleep(1)
    return changed is not False, "accepted"


def _what_is_wrong(account, wanted, taken, why):
    if taken is None:
        return f"no answer from {account.url}: {why}"
    if not wanted["current_password"]:
        return f"{account.url} refuses the new password of {account.username}."
    return (
        f"{account.url} takes neither the current nor the new password of {account.username} ({why}). It was changed by somebody "
        "else. Another administrator of MLflow can set it to one of the two; then run this again."
    )


def main():
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "host": {"type": "str"},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "current_password": {"type": "str", "no_log": True},
            "former_password": {"type": "str", "no_log": True},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    account = Account(
        wanted["url"], wanted["username"], host=wanted["host"], validate_certs=wanted["validate_certs"], ca_path=wanted["ca_path"]
    )
    try:
        changed, login = ensure(account, wanted, module.check_mode)
    except Refused as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, login=login)


if __name__ == "__main__":
    main()
