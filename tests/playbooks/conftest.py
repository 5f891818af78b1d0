# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Playbooks are run as a user runs them, against an endpoint that notes every call and grants none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

ROOT = Path(__file__).resolve().parents[2]

REFUSAL = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>InvalidClientTokenId</Code><Message>The security token included in the request is invalid.</Message></Error>
<RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>"""


class Endpoint:
    """An AWS that refuses everybody and remembers what was asked."""

    def __init__(self):
        self.calls = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
                action = parse_qs(body).get("Action", [self.headers.get("X-Amz-Target") or f"{self.command} {self.path}"])
                endpoint.calls.append(action[0])
                answer = REFUSAL.encode()
                self.send_response(403)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def endpoint():
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture(scope="session")
def collections(tmp_path_factory):
    """This checkout, where Ansible looks for collections."""
    top = tmp_path_factory.mktemp("collections")
    (top / "ansible_collections" / "mlops").mkdir(parents=True)
    (top / "ansible_collections" / "mlops" / "mlflow_aws").symlink_to(ROOT)
    return f"{top}:{ROOT / '.ansible' / 'collections'}:{Path.home() / '.ansible' / 'collections'}"


@pytest.fixture
def playbook(collections, tmp_path):
    """Runs a playbook of the checkout; answers with exit code and output."""

    def run(name, *arguments, variables=None, environment=None):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ANSIBLE_", "MLFLOW_"))}
        env.update(
            PATH=f"{Path(sys.executable).parent}:{env['PATH']}",
            HOME=str(tmp_path),
            ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
            ANSIBLE_COLLECTIONS_PATH=collections,
            ANSIBLE_NOCOLOR="1",
            # Not the metadata of a machine that this test may run on.
            AWS_EC2_METADATA_DISABLED="true",
        )
        env.update(environment or {})
        command = ["ansible-playbook", str(ROOT / name), *arguments]
        if variables is not None:
            file = tmp_path / "variables.json"
            file.write_text(json.dumps(variables))
            command += ["-e", f"@{file}"]
        done = subprocess.run(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
        )
        return done.returncode, done.stdout

    return run
