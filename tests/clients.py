# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Clients of a server, who send what they are given."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlencode

API, AJAX = "/api/2.0/mlflow", "/ajax-api/2.0/mlflow"
API3, AJAX3 = "/api/3.0/mlflow", "/ajax-api/3.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


@dataclass
class Answer:
    status: int
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    what: str = ""

    @property
    def json(self):
        return json.loads(self.body)

    def __str__(self):
        return f"{self.what} answered {self.status} {self.body[:200]!r}"


def basic(username, password):
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def pairs(headers):
    """Headers that are given as a dict, or as pairs where there are several of a name."""
    return list(headers.items()) if isinstance(headers, dict) else list(headers or [])


def insecure():
    """Whether the certificate is trusted is another folder's question."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Client:
    """Somebody at an address: `get(path, **parameters)`, `post(path, **body)` and so on, with this login or with none.

    A path is sent as it is given. Each thread has a connection of its own, which is kept.
    """

    def __init__(self, address, username="", password=""):
        self.address, self.username, self.password = address, username, password
        self.mine = threading.local()

    @property
    def login(self):
        return {"Authorization": basic(self.username, self.password)} if self.username else {}

    def at(self, address):
        """The same person at another host."""
        return Client(address, self.username, self.password)

    def known_as(self, password):
        """The same person with another password."""
        return Client(self.address, self.username, password)

    def send(self, method, path, headers=None, body=None, timeout=60):
        given = pairs(headers)
        names = {name.lower() for name, _ in given}
        given += [(name, value) for name, value in self.login.items() if name.lower() not in names]
        begin = time.monotonic()
        kept = getattr(self.mine, "connection", None)
        try:
            try:
                found = self._ask(kept or self._connect(timeout), method, path, given, body)
            except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError):
                # One that was kept may have ended meanwhile.
                if not kept:
                    raise
                found = self._ask(self._connect(timeout), method, path, given, body)
        except BaseException:
            # Nothing can be asked on one that broke off half way.
            self.mine.connection = None
            raise
        found.seconds = time.monotonic() - begin
        found.what = f"{method} {path} as {self.username or 'nobody'}"
        return found

    def _connect(self, timeout):
        self.mine.connection = http.client.HTTPSConnection(self.address, 443, context=insecure(), timeout=timeout)
        return self.mine.connection

    def _ask(self, connection, method, path, headers, body):
        names = {name.lower() for name, _ in headers}
        connection.putrequest(method, path, skip_host="host" in names, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None and "content-length" not in names:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        data = answer.read()
        if answer.will_close:
            connection.close()
            self.mine.connection = None
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, data)

    def call(self, method, path, parameters=None, headers=None, **options):
        """Parameters as MLflow's own client gives them: in the address of a GET, else as JSON; bytes are sent as they are."""
        if method in ("GET", "HEAD"):
            fields = {name: value for name, value in (parameters or {}).items() if not isinstance(value, dict)}
            query = "?" + urlencode(fields, doseq=True, errors="surrogatepass") if fields else ""
            return self.send(method, path + query, headers, **options)
        given = pairs(headers)
        if "content-type" not in {name.lower() for name, _ in given}:
            given.insert(0, ("Content-Type", "application/json"))
        body = parameters if isinstance(parameters, bytes) else json.dumps(parameters or {}).encode()
        return self.send(method, path, given, body, **options)

    def get(self, path, /, **parameters):
        return self.call("GET", path, parameters)

    def post(self, path, /, **parameters):
        return self.call("POST", path, parameters)

    def patch(self, path, /, **parameters):
        return self.call("PATCH", path, parameters)

    def delete(self, path, /, **parameters):
        return self.call("DELETE", path, parameters)

    def put(self, path, body):
        return self.send("PUT", path, body=body)

    def must(self, method, path, /, **parameters):
        """What a test needs to be there before it begins."""
        answer = self.call(method, path, parameters)
        assert answer.status == 200, str(answer)
        return answer.json if answer.body else {}

    def new_user(self, username, password):
        """Somebody whom this administrator has made, at the same server."""
        self.must("POST", f"{API}/users/create", username=username, password=password)
        return type(self)(self.address, username, password)

    def grant(self, user, permission, resource_type, resource_id):
        """Give a user a permission on a thing, or take it: DENY is less than what everyone has by default."""
        self.must("POST", f"{API3}/users/permissions/grant", username=user.username, resource_type=resource_type,
                  resource_id=resource_id, permission=permission)  # fmt: skip


def together(calls, threads=8):
    """The answers to these calls, so many at a time; what one raises is its answer."""
    def ask(call):
        try:
            return call()
        except Exception as error:  # a refusal may also be a closed connection
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, calls))
