# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Clients of a deployed server, honest ones and others, and what has to become of their calls.

`refused` is said of an attack and `works` of the honest call beside it; both count, so that a run can say how many there were.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import subprocess
import threading
import time
from collections import Counter

from clients import Answer, insecure
from server import Server

# What a route says that is closed, to who is logged in and to who is not.
CLOSED = (404,)
MIB = 1 << 20

tally = Counter()


def refused(answer, *statuses):
    """An attack, and how it is answered."""
    tally["attacks"] += 1
    assert answer.status in statuses, f"{answer} and not one of {statuses}"
    return answer


def works(answer, *statuses):
    """An honest call, which has to go on working."""
    tally["honest calls"] += 1
    assert answer.status in (statuses or (200,)), f"{answer} and not one of {statuses or (200,)}"
    return answer


def holds(condition, message=""):
    """An attack that is seen by what it left behind and not by its answer."""
    tally["attacks"] += 1
    assert condition, message


class Wire:
    """A TLS connection on which exactly these bytes are sent, whatever HTTP says about them."""

    def __init__(self, address, timeout=15):
        self.socket = insecure().wrap_socket(socket.create_connection((address, 443), timeout=timeout))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(OSError):
            self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def answer(self):
        """The next answer."""
        found = http.client.HTTPResponse(self.socket)
        found.begin()
        return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read(), what="an answer")

    def read(self, seconds=3.0):
        """All that comes until the other side closes or is silent for so long."""
        found = b""
        self.socket.settimeout(seconds)
        with contextlib.suppress(OSError):
            while data := self.socket.recv(65536):
                found += data
        return found

    def is_closed(self, seconds):
        """Whether the other side closes within so many seconds, whatever it still says."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                if not self.socket.recv(65536):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False


class Http2:
    """An HTTP/2 connection on which headers are sent as they are given, whatever HTTP says about them."""

    def __init__(self, address, timeout=15):
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        context = insecure()
        context.set_alpn_protocols(["h2"])
        self.socket = context.wrap_socket(socket.create_connection((address, 443), timeout=timeout), server_hostname=None)
        assert self.socket.selected_alpn_protocol() == "h2"
        self.connection = H2Connection(H2Configuration(
            header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False,
            validate_inbound_headers=False, normalize_inbound_headers=False,
        ))  # fmt: skip
        self.connection.initiate_connection()
        self.found, self.ended, self.closed = {}, set(), False
        self._flush()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(OSError):
            self.socket.close()

    def _flush(self):
        with contextlib.suppress(OSError):
            self.socket.sendall(self.connection.data_to_send())

    def send(self, headers, body=b"", trailers=()):
        """A request; its stream."""
        stream = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream, headers, end_stream=not body and not trailers)
        if body:
            self.connection.send_data(stream, body, end_stream=not trailers)
        if trailers:
            self.connection.send_headers(stream, trailers, end_stream=True)
        self._flush()
        return stream

    def answer(self, stream, seconds=10.0):
        """What comes on a stream until it ends; status 0 where there is none: it was reset, or the connection is closed."""
        from h2 import events
        from h2.exceptions import ProtocolError

        deadline = time.monotonic() + seconds
        while stream not in self.ended and not self.closed and (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
                happened = self.connection.receive_data(data) if data else []
            except TimeoutError:
                break
            except (OSError, ProtocolError):
                data, happened = b"", []
            self.closed = self.closed or not data
            for event in happened:
                of = getattr(event, "stream_id", None)
                if isinstance(event, events.ResponseReceived):
                    headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                    self.found[of] = Answer(int(headers[":status"]), headers)
                elif isinstance(event, events.DataReceived):
                    self.found[of].body += event.data
                    self.connection.acknowledge_received_data(event.flow_controlled_length, of)
                elif isinstance(event, events.StreamEnded | events.StreamReset):
                    self.ended.add(of)
                elif isinstance(event, events.ConnectionTerminated):
                    self.closed = True
            self._flush()
        found = self.found.get(stream) or Answer(0)
        found.what = f"stream {stream}" + ("" if stream in self.ended else ", which has not ended")
        return found


def responses(data):
    """Each answer in what came on one connection, by its lengths, so that two that run into one another are seen."""
    found = []
    while data:
        head, mark, rest = data.partition(b"\r\n\r\n")
        line = re.match(rb"HTTP/1\.[01] (\d{3})", head)
        assert mark and line, f"no answer begins with {data[:120]!r}"
        headers = dict(re.findall(rb"(?im)^([a-z-]+):[ \t]*(.*?)\r?$", head))
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in headers.items()}
        if line[1].startswith(b"1"):
            body = b""
        elif "chunked" in headers.get("transfer-encoding", ""):
            body = b""
            while True:
                size, _, rest = rest.partition(b"\r\n")
                length = int(size, 16)
                body, rest = body + rest[:length], rest[length + 2 :]
                if not length:
                    break
        else:
            length = int(headers.get("content-length", len(rest)))
            body, rest = rest[:length], rest[length:]
        found.append(Answer(int(line[1]), headers, body, what="an answer"))
        data = rest
    return found


def curl(address, path, *arguments, login=None, timeout=30):
    """The status that curl is given, for what only curl speaks; the login is not on its command line."""
    command = ["curl", "--silent", "--insecure", "--path-as-is", "--output", "/dev/null", "--write-out", "%{http_code}"]
    command += ["--max-time", str(timeout), "--config", "-", *arguments, f"https://{address}{path}"]
    known = f'user = "{login.username}:{login.password}"\n' if login else ""
    done = subprocess.run(command, input=known, capture_output=True, text=True, timeout=timeout + 10)
    return Answer(int(done.stdout[-3:] or 0), what=f"curl {' '.join(arguments)} {path}")


class Repeating:
    """A call that is made over and over in threads for as long as the block lasts."""

    def __init__(self, call, threads=1, pause=0.0):
        self.call, self.pause = call, pause
        self.answers, self.stopped = [], threading.Event()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        for thread in self.threads:
            thread.join(timeout=70)

    def _run(self):
        while not self.stopped.is_set():
            try:
                self.answers.append(self.call())
            except (http.client.HTTPException, OSError) as error:
                self.answers.append(Answer(0, body=repr(error).encode(), what="a call"))
            if self.pause:
                self.stopped.wait(self.pause)


class Attacked(Server):
    """One host of the deployment, and what no attack may make it say."""

    @contextlib.contextmanager
    def no_traceback(self):
        """Nothing in the block makes the service write a traceback or an internal error, and no worker is lost."""
        before = self.workers()
        cursor = re.search(r"^-- cursor: (.*)$", self.run("journalctl --no-pager --lines=0 --show-cursor"), re.MULTILINE)[1]
        yield
        said = self.run(f"journalctl --sync; journalctl --no-pager --output=cat --unit=mlflow.service --after-cursor='{cursor}'")
        tally["attacks"] += 1
        found = re.search(r"Traceback \(most recent call last\)|Exception in ASGI application|Internal Server Error", said)
        assert not found, said[max(0, found.start() - 200) : found.start() + 2500]
        assert self.workers() == before, "a worker was lost"
