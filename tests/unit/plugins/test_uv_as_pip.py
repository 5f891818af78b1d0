# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""uv asks where the host's pip would ask, and trusts whom it trusts; a password on the way is shown to nobody else."""

from __future__ import annotations

import base64
import importlib.util
import os
import shutil
import ssl
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "uv_as_pip.py"
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("uv_as_pip", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Index(BaseHTTPRequestHandler):
    """An index without any package; notes who asks for what."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(401 if self.server.locked and not self.headers.get("Authorization") else 404)
        self.send_header("WWW-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def index():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    server.asked, server.locked = [], False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def install(tmp_path):
    """Have uv install something, with a configuration of pip's; returns what it said."""
    if UV is None:
        pytest.skip("uv is not here")

    def run(configuration="", **more):
        file = tmp_path / "pip.conf"
        file.write_text(configuration)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "SSL_", "XDG_"))}
        env = {**clean, "HOME": str(tmp_path), "PIP_CONFIG_FILE": str(file), "UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0", **more}
        env = {name: value for name, value in env.items() if not name.lower().endswith("_proxy")}
        argv = [UV, "pip", "install", "--target", str(tmp_path / "venv"), "--python", sys.executable, "a-package-of-ours"]
        done = subprocess.run([sys.executable, SCRIPT, *argv], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        return done.stdout + done.stderr

    return run


def test_a_mirror_of_pip_s_is_asked(index, install):
    install(f"[global]\nindex-url = http://127.0.0.1:{index.server_port}/mirror/simple\n")
    assert [path for path, dummy in index.asked] == ["/mirror/simple/a-package-of-ours/"]


def test_a_mirror_in_the_environment_comes_first(index, install):
    url = f"http://127.0.0.1:{index.server_port}/other"
    install("[global]\nindex-url = http://127.0.0.1:1/mirror\n", PIP_INDEX_URL=url)
    assert [path for path, dummy in index.asked] == ["/other/a-package-of-ours/"]


def test_what_uv_itself_is_told_comes_before_pip_s(index, install, tmp_path):
    url = f"http://127.0.0.1:{index.server_port}/uv"
    install("[global]\nindex-url = http://127.0.0.1:1/mirror\n", UV_DEFAULT_INDEX=url)
    (tmp_path / ".config" / "uv").mkdir(parents=True)
    (tmp_path / ".config" / "uv" / "uv.toml").write_text(f'[[index]]\nurl = "{url}-file"\ndefault = true\n')
    install("[global]\nindex-url = http://127.0.0.1:1/mirror\n")
    assert [path for path, dummy in index.asked] == ["/uv/a-package-of-ours/", "/uv-file/a-package-of-ours/"]


def test_a_password_gets_there_and_is_said_nowhere(index, install):
    index.locked = True
    said = install(f"[global]\nindex-url = http://robot:hidden-9Xw2@127.0.0.1:{index.server_port}/simple\n")
    wanted = f"Basic {base64.b64encode(b'robot:hidden-9Xw2').decode()}"
    assert ("/simple/a-package-of-ours/", wanted) in index.asked
    assert "hidden-9Xw2" not in said


def test_a_password_is_in_no_argument_and_no_environment(tmp_path):
    """What the kernel shows of the process that is uv."""
    show = tmp_path / "uv"
    shows = 'cat /proc/$$/cmdline /proc/$$/environ | tr "\\0" "\\n"; for file; do :; done; echo =====; cat "$file"'
    show.write_text(f"#!/bin/sh\n{shows}\n")
    show.chmod(0o755)
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://robot:hidden-9Xw2@mirror.example.com/simple\n")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": str(file)}
    done = subprocess.run([sys.executable, SCRIPT, show], env=env, capture_output=True, text=True, check=True)
    shown, dummy, handed = done.stdout.partition("=====")
    assert "hidden-9Xw2" not in shown and "UV_SYSTEM_CERTS=true" in shown and "--config-file" in shown
    assert "hidden-9Xw2" in handed


def test_a_ca_of_pip_s_is_trusted(index, install, tmp_path):
    """And not one that nobody named."""
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2"
    of_it = "-CA ca.crt -CAkey ca.key -addext basicConstraints=CA:FALSE -addext subjectAltName=IP:127.0.0.1"
    for more in ("-subj /CN=ca -keyout ca.key -out ca.crt", f"-subj /CN=mirror -keyout key -out crt {of_it}"):
        subprocess.run([*make.split(), *more.split()], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    index.socket = context.wrap_socket(index.socket, server_side=True)
    mirror = f"[global]\nindex-url = https://127.0.0.1:{index.server_port}/simple\n"
    install(mirror)
    assert not index.asked
    install(f"{mirror}cert = {tmp_path / 'ca.crt'}\n")
    assert [path for path, dummy in index.asked] == ["/simple/a-package-of-ours/"]


def test_every_option_is_uv_s_as_well(script):
    listed = """
global.index-url='https://one.example.com/simple'
global.extra-index-url='https://two.example.com/simple\\nhttps://three.example.com/simple'
install.index-url='https://four.example.com/"simple"'
install.no-index='true'
download.index-url='https://not-for-us.example.com'
:env:.find-links='/opt/wheels https://five.example.com'
global.trusted-host='two.example.com'
global.proxy='http://proxy.example.com:3128'
global.timeout='60'
"""
    found = tomllib.loads(script.settings(script.options(listed)))
    assert found == {
        "find-links": ["/opt/wheels", "https://five.example.com"],
        "allow-insecure-host": ["two.example.com"],
        "no-index": True,
        "http-proxy": "http://proxy.example.com:3128",
        "https-proxy": "http://proxy.example.com:3128",
        "index-strategy": "unsafe-best-match",
        "index": [
            {"url": "https://two.example.com/simple"},
            {"url": "https://three.example.com/simple"},
            {"url": 'https://four.example.com/"simple"', "default": True},
        ],
    }
    assert script.settings({}) == script.settings({"timeout": "60", "no-index": "false"}) == ""


def test_the_host_s_bundle_is_trusted_unless_the_environment_says_otherwise(script, monkeypatch):
    for name in ("UV_SYSTEM_CERTS", "SSL_CERT_FILE", "SSL_CLIENT_CERT"):
        monkeypatch.delenv(name, raising=False)
    found = script.environment({"cert": "/etc/ca.pem", "client-cert": "/etc/client.pem"})
    assert (found["UV_SYSTEM_CERTS"], found["SSL_CERT_FILE"]) == ("true", "/etc/ca.pem")
    assert found["SSL_CLIENT_CERT"] == "/etc/client.pem"
    assert "SSL_CERT_FILE" not in script.environment({})
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/mine.pem")
    assert script.environment({"cert": "/etc/ca.pem"})["SSL_CERT_FILE"] == "/etc/mine.pem"


def test_the_role_starts_uv_so():
    tasks = (SCRIPT.parents[1] / "tasks" / "venv.yml").read_text()
    assert "__mlflow_server_interpreter, __mlflow_server_uv ~ '/uv_as_pip.py'" in tasks
