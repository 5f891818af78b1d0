#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mlflow_ready
short_description: Prove that an MLflow server can do its work
version_added: "0.1.0"
description:
  - Asks C(/ready), which asks the database and the artifact store, and then sends a request that needs the database, logged
    in where a user is given. MLflow's own C(/health) is a constant and tells nothing.
  - Waits for a server that is not ready yet. Changes nothing.
  - Another host is asked as the environment says, by a proxy where C(https_proxy) names one. This host itself, by a loopback
    address or by O(socket), is never asked by a proxy, which could not reach it and would be shown O(password).
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
    description: Who logs in. Without it nobody does.
    type: str
  password:
    description: That user's password.
    type: str
  validate_certs:
    description: Whether the server's certificate must be trusted and have the name in O(url).
    type: bool
    default: true
  ca_path:
    description: A file with the certificates to trust, in place of the system's.
    type: path
  certificate_name:
    description:
      - The name that the server's certificate must have for those who trust O(ca_path), where O(url) has an address. It is asked
        for in a connection of its own, so that O(validate_certs) may be V(false).
      - As strict as the newest clients are.
    type: str
    version_added: "0.3.0"
  socket:
    description:
      - The server's own socket, past nginx. It tells why the server is not ready, which it does not tell strangers.
    type: path
  artifacts:
    description:
      - Whether a server is ready only where its artifact store answers, too. Runs and metrics need none.
    type: bool
    default: true
    version_added: "0.3.0"
  timeout:
    description: For how many seconds the server may be waited for.
    type: int
    default: 60
attributes:
  check_mode:
    description: Does the same, since nothing is changed.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Wait until the server does its work
  mlops.mlflow_aws.mlflow_ready:
    url: https://mlflow.example.com
    username: admin
    password: "{{ admin_password }}"
"""

RETURN = r"""
checks:
  description: For the database and the artifact store V(ok), or what is wrong.
  returned: when the server was asked
  type: dict
  sample: {database: ok, artifacts: ok}
login:
  description:
    - V(accepted) or V(refused) where a user was given.
    - V(required) where none was given and the server wants one, V(none) where it wants none.
  returned: success
  type: str
  sample: accepted
"""

import ipaddress
import json
import socket as sockets
import ssl
import time
from urllib.error import HTTPError
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

READY = "/ready"
# What only the database knows. The experiment 0 is in every one.
QUESTION = "/api/2.0/mlflow/experiments/get?experiment_id=0"
# A readiness check of the server takes four seconds at most.
ANSWER_SECONDS = 15


class NotReady(Exception):
    """What is wrong, and what the server said of its parts."""

    def __init__(self, why, checks=None):
        super().__init__(why)
        self.checks = checks or {}


def is_this_host(url):
    """Whether a URL leads to the host that asks for it."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Server:
    def __init__(self, url, opener=open_url, host=None, username=None, password=None, socket=None, artifacts=True, **tls):
        self.url = url.rstrip("/")
        self.opener = opener
        # As clients do it, whatever the case in which somebody has written it.
        self.host = host and host.lower()
        self.login = {"url_username": username, "url_password": password, "force_basic_auth": True} if username else {}
        self.socket = socket
        self.ready = f"{READY}?artifacts" if artifacts else READY
        self.certificate_name = tls.pop("certificate_name", None)
        self.tls = tls

    def ask(self, path, url=None, **options):
        """Return the status and the content. Raises NotReady where there is no answer."""
        headers = {**({"Host": self.host} if self.host else {}), **options.pop("headers", {})}
        url = url or self.url
        # Any other host may be one that only a proxy reaches.
        options["use_proxy"] = not is_this_host(url)
        try:
            answer = self.opener(url + path, headers=headers, timeout=ANSWER_SECONDS, **options)
        except HTTPError as error:
            answer = error
        except Exception as error:
            # What open_url raises depends on what is wrong; its text has no password.
            raise NotReady(f"no answer from {url}: {error}") from None
        return answer.code, answer.read()

    def prove_certificate(self):
        """Connect as a client does who trusts nothing but the given certificates. Raises NotReady."""
        url = urlsplit(self.url)
        try:
            context = ssl.create_default_context(cafile=self.tls["ca_path"])
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            with sockets.create_connection((url.hostname, url.port or 443), timeout=ANSWER_SECONDS) as plain:
                context.wrap_socket(plain, server_hostname=self.certificate_name).close()
        except OSError as error:
            raise NotReady(
                f"a client that trusts {self.tls['ca_path']} does not take {self.url} for {self.certificate_name}: {error}"
            ) from None

    def check(self):
        """Return what the server says of its parts, and whether it lets the user in. Raises NotReady."""
        if self.certificate_name:
            self.prove_certificate()
        status, body = self.ask(self.ready, **self.tls)
        if status not in (200, 503):
            raise NotReady(f"{self.url}{READY} answered with status {status}")
        checks = _checks(body)
        if status != 200:
            if self.socket:
                details = {"headers": {"X-Ready-Details": "yes"}, "unix_socket": self.socket}
                checks = _checks(self.ask(self.ready, url="http://localhost", **details)[1]) or checks
            wrong = [f"{name}: {found}" for name, found in sorted(checks.items()) if found != "ok"]
            raise NotReady("; ".join(wrong) or f"{self.url}{READY} answered with status {status}", checks)
        status, dummy = self.ask(QUESTION, **self.login, **self.tls)
        if status == 401:
            return checks, "refused" if self.login else "required"
        if status != 200:
            raise NotReady(f"a request for experiment 0 was answered with status {status}", checks)
        return checks, "accepted" if self.login else "none"

    def wait(self, seconds, clock=time):
        deadline = clock.monotonic() + seconds
        while True:
            try:
                return self.check()
            except NotReady:
                if clock.monotonic() >= deadline:
                    raise
            clock.sleep(1)


def _checks(body):
    try:
        return {str(name): str(found) for name, found in json.loads(body)["checks"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def main():
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "host": {"type": "str"},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "certificate_name": {"type": "str"},
            "socket": {"type": "path"},
            "artifacts": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 60},
        },
        required_together=[("username", "password")],
        required_by={"certificate_name": "ca_path"},
        supports_check_mode=True,
    )
    wanted = dict(module.params)
    timeout = wanted.pop("timeout")
    try:
        checks, login = Server(**wanted).wait(timeout)
    except NotReady as error:
        module.fail_json(msg=f"MLflow is not ready: {error}", checks=error.checks)
    module.exit_json(changed=False, checks=checks, login=login)


if __name__ == "__main__":
    main()
