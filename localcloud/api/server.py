# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Listeners: an HTTP server in threads, with or without TLS."""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path
from typing import Any

from cheroot import wsgi
from cheroot.server import HTTPConnection
from cheroot.ssl.builtin import BuiltinSSLAdapter

from ..errors import LocalCloudError

log = logging.getLogger("localcloud.api")

_THREADS = 24
#: Seconds without a byte before a connection is given up.
_TIMEOUT = 120
#: Seconds for the handshake of TLS.
_HANDSHAKE = 10


class _Adapter(BuiltinSSLAdapter):
    """Leaves the handshake to the connection's thread: whoever connects and then says nothing would hold up all others."""

    def wrap(self, sock: Any) -> tuple[ssl.SSLSocket, dict[str, str]]:
        wrapped = self.context.wrap_socket(sock, do_handshake_on_connect=False, server_side=True)
        return wrapped, {"wsgi.url_scheme": "https", "HTTPS": "on"}


class _Connection(HTTPConnection):
    greeted = False

    def communicate(self) -> bool:
        """Serve a request; whether the connection stays."""
        if not self.greeted and isinstance(self.socket, ssl.SSLSocket):
            try:
                self.socket.settimeout(_HANDSHAKE)
                self.socket.do_handshake()
                self.socket.settimeout(_TIMEOUT)
            except OSError as error:
                log.debug("no TLS: %s", error)
                return False
        self.greeted = True
        return super().communicate()


class Listener:
    """One address and port that serves one application."""

    def __init__(self, address: str, port: int, app: Any, tls: tuple[Path, Path] | None = None):
        self._server = wsgi.Server(
            (address, port), app, numthreads=_THREADS, server_name="localcloud", timeout=_TIMEOUT, shutdown_timeout=5,
            request_queue_size=128,
        )
        self._server.ConnectionClass = _Connection
        self._server.error_log = _log
        self._server.keep_alive_conn_limit = 200
        if tls is not None:
            self._server.ssl_adapter = _Adapter(str(tls[0]), str(tls[1]))
        self._thread: threading.Thread | None = None
        self._where = f"{address}:{port}"

    def start(self) -> None:
        try:
            self._server.prepare()
        except OSError as e:
            raise LocalCloudError(f"Can't listen on {self._where}: {e}") from e
        self._thread = threading.Thread(target=self._server.serve, name=f"listen-{self._where}", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.bind_addr[1]

    def stop(self) -> None:
        self._server.stop()
        if self._thread is not None:
            self._thread.join(10)


def _log(msg: str = "", level: int = 20, traceback: bool = False) -> None:
    # Clients that go away are no errors of ours.
    log.debug("%s", msg, exc_info=traceback)
