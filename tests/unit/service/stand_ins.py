# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What stands in for an artifact store, and for MLflow as far as it is asked."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer


@contextmanager
def store_of(handler, monkeypatch, **about):
    """
    A store on this machine, and the environment of a client of S3 that knows of no other.

    :arg about: What the handler finds at its server.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    vars(server).update(about)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_ENDPOINT_URL", "REQUESTS_CA_BUNDLE", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def mlflow_of(files, folder, monkeypatch):
    """An MLflow of these files by their names; what is imported of it is forgotten when what this gives is called."""
    for name, content in files.items():
        file = folder / "site" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    monkeypatch.syspath_prepend(folder / "site")

    def forget():
        for name in [name for name in sys.modules if name == "mlflow" or name.startswith("mlflow.")]:
            del sys.modules[name]

    forget()
    yield forget
    forget()
