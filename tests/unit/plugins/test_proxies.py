# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""With a proxy in the environment: this host itself is asked without it, and no password is shown to it."""

from __future__ import annotations

import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from plugin_support import plugin

READY = b'{"ready": true, "checks": {"database": "ok", "artifacts": "ok"}}'
NOT_READY = b'{"ready": false, "checks": {"database": "ok", "artifacts": "no route"}}'


class Noted(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(READY if self.server.status == 200 else NOT_READY)

    def address_string(self):
        return "client"

    def log_message(self, *args):
        pass


class OnSocket(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def serve():
    servers = []

    def begin(address=("127.0.0.1", 0), kind=ThreadingHTTPServer, status=200):
        server = kind(address, Noted)
        server.asked, server.status = [], status
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def proxy(serve, monkeypatch):
    """In the environment as a play would have it."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    proxy = serve()
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
    return proxy


@pytest.fixture
def ready():
    return plugin("modules", "mlflow_ready")


def test_loopback_is_asked_without_a_proxy(ready, serve, proxy):
    server = serve()
    asked = ready.Server(f"http://127.0.0.1:{server.server_port}", username="admin", password="hidden")
    assert asked.check()[1] == "accepted"
    assert not proxy.asked
    assert [path for path, dummy in server.asked] == ["/ready?artifacts", ready.QUESTION]


def test_the_socket_is_asked_without_a_proxy(ready, serve, proxy, tmp_path):
    server, behind = serve(status=503), serve(str(tmp_path / "socket"), OnSocket, 503)
    with pytest.raises(ready.NotReady, match="artifacts: no route"):
        ready.Server(f"http://127.0.0.1:{server.server_port}", socket=str(tmp_path / "socket")).check()
    assert behind.asked and not proxy.asked


def test_another_host_is_asked_by_the_proxy(ready, proxy):
    """Only the proxy may reach it; its name need not even be known here."""
    assert ready.Server("http://mlflow.example.invalid").check()[1] == "none"
    assert [path for path, dummy in proxy.asked][0] == "http://mlflow.example.invalid/ready?artifacts"


def test_a_password_is_changed_without_a_proxy(serve, proxy):
    server = serve()
    account = plugin("modules", "mlflow_user_password").Account(f"http://127.0.0.1:{server.server_port}", "admin")
    assert account.takes("hidden") == (True, "")
    assert server.asked[0][1].startswith("Basic ") and not proxy.asked


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("https://127.0.0.1:443", True),
        ("http://127.8.8.8", True),
        ("https://[::1]:8443", True),
        ("http://localhost:5000", True),
        ("http://LOCALHOST", True),
        ("https://localhost.example.com", False),
        ("https://127.0.0.1.example.com", False),
        ("https://172.31.0.5", False),
        ("https://mlflow.example.com", False),
    ],
)
def test_which_addresses_are_this_host(ready, url, here):
    assert ready.is_this_host(url) is here
