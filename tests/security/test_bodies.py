# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a request may bring: nothing before its login was looked at, and then no more than fits; only artifacts may be large."""

from __future__ import annotations

import contextlib
import gzip
import re
import threading
import time

import pytest
from attacks import MIB, Wire, holds, refused, works
from clients import AJAX, API, ARTIFACTS, Answer, together

LARGEST = 32 * MIB
CREATE = f"{API}/runs/create"


def head(client, method, path, *headers):
    login = [f"{name}: {value}" for name, value in client.login.items()]
    lines = [f"{method} {path} HTTP/1.1", f"Host: {client.address}", "Content-Type: application/json", *login, *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def pour(client, method, path, most, declared=None):
    """Sends a body until somebody says no or closes: the answer, and how many bytes were taken before it came."""
    length = f"Content-Length: {declared}" if declared else "Transfer-Encoding: chunked"
    block = b"0" * MIB
    chunk = block if declared else b"%x\r\n%s\r\n" % (len(block), block)
    sent, answered = 0, threading.Event()
    with Wire(client.address, timeout=30) as wire:
        wire.send(head(client, method, path, length))
        found = Answer(0, what=f"{method} {path} as {client.username or 'nobody'}")

        def listen():
            try:
                found.status = wire.answer().status
            except Exception as error:
                found.what += f", after {sent} bytes: {error!r}"
            answered.set()

        threading.Thread(target=listen, daemon=True).start()
        with contextlib.suppress(OSError):
            while sent < most and not answered.is_set():
                wire.send(chunk)
                sent += MIB
        answered.wait(10)
    return found, sent


class Trickle:
    """A body that comes so slowly that it never ends, in a thread of its own."""

    def __init__(self, client, path):
        self.client, self.path, self.ended = client, path, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        begin = time.monotonic()
        with Wire(self.client.address) as wire:
            wire.send(head(self.client, "POST", self.path, "Content-Length: 100000"))
            while time.monotonic() - begin < 110:
                try:
                    wire.send(b" ")
                except OSError:
                    break
                if wire.is_closed(2):
                    break
            else:
                return
        self.ended = time.monotonic() - begin


@pytest.fixture(scope="module")
def trickles(people):
    """Begun before the other tests and looked at after them, since they take a minute."""
    works(people.owner.get(f"{API}/users/current"))
    return {"a stranger's": Trickle(people.stranger, CREATE), "a user's": Trickle(people.owner, CREATE),
            "a user's, of FastAPI": Trickle(people.owner, "/v1/traces")}  # fmt: skip


UPLOAD = f"{AJAX}/upload-artifact?path=x&run_uuid=1"


@pytest.mark.parametrize("path", [CREATE, UPLOAD, "/v1/traces", f"{ARTIFACTS}/1/x"])
@pytest.mark.parametrize("declared", [50 << 30, 20 * MIB, None], ids=["50 GiB", "20 MiB", "chunked"])
def test_a_strangers_body_is_not_taken(people, server, trickles, path, declared):
    """It is refused at once, and neither the disk nor the memory has it meanwhile."""
    memory, disk = server.memory(), server.disk()
    most = {"space": 0}
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            most["space"] = max(most["space"], server.disk() - disk)
            stop.wait(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    method = "PUT" if path.startswith(ARTIFACTS) else "POST"
    answer, sent = pour(people.stranger, method, path, 96 * MIB, declared)
    grown = server.memory() - memory
    stop.set()
    watcher.join()
    refused(answer, 400, 401, 403, 405, 413)
    if declared != 20 * MIB:
        holds(sent < 64 * MIB, f"{sent / MIB:.0f} MiB were taken")
    holds(most["space"] < 8 * MIB, f"{most['space'] / MIB:.0f} MiB are on the disk")
    holds(grown < 64 * MIB, f"the service has grown by {grown / MIB:.0f} MiB")
    works(people.owner.post(CREATE, experiment_id="nothing"), 400, 403, 404)


@pytest.mark.parametrize("path", [f"{API}/runs/log-batch", UPLOAD, "/v1/traces"])
@pytest.mark.parametrize("declared", [LARGEST + MIB, None], ids=["declared", "chunked"])
def test_a_users_body_has_a_limit(people, world, path, declared):
    answer, sent = pour(people.owner, "POST", path, LARGEST + MIB, declared)
    refused(answer, 413)
    tags = [{"key": f"k{number}", "value": "v" * 4000} for number in range(100)]
    works(people.owner.post(f"{API}/runs/log-batch", run_id=world.run, tags=tags))


def test_an_artifact_may_be_larger(people, world, server):
    data = bytes(range(256)) * (40 * MIB // 256)
    for prefix in ("/api", "/ajax-api"):
        path = f"{prefix}/2.0/mlflow-artifacts/artifacts/{world.experiment}/{world.run}/artifacts/large"
        works(people.editor.put(path, data))
        answer = works(people.reader.get(path))
        assert answer.body == data
        refused(people.reader.put(path, b"less"), 403)
        refused(people.stranger.put(path, b"less"), 401)
    assert people.reader.get(path).body == data
    assert server.disk() < 64 * MIB


def test_a_body_that_grows_when_it_is_unpacked_is_refused(people, world, server):
    """Half a megabyte of gzip is half a gigabyte of nothing."""
    headers = {"Content-Type": "application/x-protobuf", "X-Mlflow-Experiment-Id": world.experiment, "Content-Encoding": "gzip"}
    memory = server.memory()
    bomb = gzip.compress(b"\0" * (512 * MIB), 6)
    refused(people.editor.send("POST", "/v1/traces", headers, bomb), 400, 413)
    holds(server.memory() - memory < 256 * MIB, f"{(server.memory() - memory) / MIB:.0f} MiB more")
    # An empty message is told that it has no spans; it was unpacked.
    works(people.editor.send("POST", "/v1/traces", headers, gzip.compress(b"")), 200, 400)
    works(people.editor.call("POST", f"{API}/runs/set-tag", {"run_id": world.run, "key": "a", "value": "b"}))


# Whether the body is there before or after the answer is a matter of milliseconds, so it is tried with several.
PAUSES = (0, 0.0005, 0.001, 0.002, 0.004, 0.008)


@pytest.mark.parametrize("path", ["/health", "/ready", f"/static-files/static/..%2f..%2f{CREATE[1:]}", CREATE])
def test_a_body_that_nobody_reads_costs_nobody_his_answer(stranger, path):
    """The server answers before the body has come, and does not close on it."""

    def ask(number):
        with Wire(stranger.address) as wire:
            size = (100, 3000, 100_000)[number % 3]
            wire.send(head(stranger, "POST", path, f"Content-Length: {size}"))
            time.sleep(PAUSES[number // 3 % len(PAUSES)])
            with contextlib.suppress(OSError):
                wire.send(b"x" * size)
            return wire.answer()

    answers = together([lambda number=number: ask(number) for number in range(4 * 3 * len(PAUSES))])
    lost = [str(it) for it in answers if not isinstance(it, Answer) or it.status not in (200, 401, 405)]
    holds(not lost, f"{len(lost)} of {len(answers)}: {lost[:3]}")


@pytest.mark.slow
@pytest.mark.everyday
def test_a_body_that_trickles_is_ended(people, trickles):
    for whose, trickle in trickles.items():
        trickle.thread.join(timeout=120)
        holds(trickle.ended is not None, f"{whose} still goes on after 110 s")
    holds(trickles["a stranger's"].ended < 30, "a stranger is heard for longer than it takes to say no")
    works(people.owner.post(f"{API}/experiments/search", max_results=1))


# The seconds in which a part of an artifact has to come, and for this test.
CONSTANT, SECONDS = re.compile(r"^PART_SECONDS\b[^=]*= (\d+)", re.MULTILINE), 12
CODE = "/opt/mlflow/current/service/mlflow_service/transfer/streams.py"


@pytest.fixture(scope="module")
def short_parts(server):
    """The service with less patience for a part of an artifact: only the last tests here, which would take ten minutes."""
    code = server.run(f"cat {CODE}")
    seconds = CONSTANT.search(code)
    assert seconds and int(seconds[1]) <= 600, "how long a part may take is not said where this test looks for it"
    short = f"s/^(PART_SECONDS\\b[^=]*= ){seconds[1]}/\\1{SECONDS}/"
    server.run(f"cp --preserve=all {CODE} /root/kept.py; sed --regexp-extended --in-place '{short}' {CODE}\n"
               f"grep --quiet '^PART_SECONDS.* = {SECONDS}' {CODE} && systemctl start mlflow-handover")  # fmt: skip
    yield SECONDS
    server.run(f"cp --preserve=all /root/kept.py {CODE}; rm /root/kept.py; systemctl start mlflow-handover")


@pytest.mark.slow
@pytest.mark.parametrize("pause", [1.0, SECONDS - 2, SECONDS * 4], ids=["often", "seldom", "once"])
@pytest.mark.parametrize("declared", [200 << 10, None], ids=["declared", "chunked"])
def test_an_artifact_that_trickles_is_ended(people, world, short_parts, pause, declared):
    """One byte at a time, below the size from which an artifact is counted: it is over when a part's time is, and not kept."""
    user, path = people.editor, f"{world.folder}/trickle-{pause}-{declared}"
    length = f"Content-Length: {declared}" if declared else "Transfer-Encoding: chunked"
    most, begin, ended = 2 * short_parts + 8, time.monotonic(), None
    with Wire(user.address) as wire:
        wire.send(head(user, "PUT", path, length))
        while (now := time.monotonic() - begin) < most:
            with contextlib.suppress(OSError):
                wire.send(b"x" if declared else b"1\r\nx\r\n")
            if wire.is_closed(min(pause, most - now)):
                ended = time.monotonic() - begin
                break
    print(f"ended after {ended and round(ended)} s")
    holds(ended is not None, f"a byte each {pause} s still goes on after {most} s, where a part has {short_parts} s")
    refused(people.reader.get(path), 404)
    # Whoever is slow and not too slow is waited for.
    slow, data = f"{world.folder}/slow-{pause}-{declared}", b"x" * 6
    with Wire(user.address) as wire:
        wire.send(head(user, "PUT", slow, f"Content-Length: {len(data)}"))
        for number in range(len(data)):
            wire.send(data[number : number + 1])
            time.sleep(short_parts / 2 / len(data))
        works(wire.answer())
    assert works(people.reader.get(slow)).body == data
