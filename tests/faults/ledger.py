# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Clients that write and read while something is broken, and a ledger of what the server has acknowledged.

Afterwards the ledger is compared with the server by content: each run with its parameters, tags and every value of its metrics,
and each artifact byte by byte.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import time
from dataclasses import dataclass, field

import urllib3
from load import Clients

# All kinds of requests that these clients make.
KINDS = ("write", "read", "artifact")
API = "/api/2.0/mlflow"
# How often what was acknowledged is looked for, each time five seconds later, where the server can't say whether it is there.
LOOKS = 12
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
PAUSE = 0.2
# Between two clicks of one person, in seconds.
CLICK = 6


@dataclass
class Answer:
    kind: str
    what: str
    begin: float
    seconds: float
    problem: str
    address: str


@dataclass
class Entry:
    """A run that was acknowledged, and what of it."""

    experiment: str
    metrics: set = field(default_factory=set)
    params: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    artifacts: dict = field(default_factory=dict)


class Large(Clients):
    """Clients whose requests are as large as the server takes them. What becomes of them does not matter."""

    timeout = 20

    def __enter__(self):
        self._begin(self._send, 2)
        return self

    def _send(self, number):
        pool = self._pool(number)
        body = json.dumps({"run_id": "no", "params": [{"key": f"k{number}", "value": "x" * (20 << 20)}]}).encode()
        while not self.stopped.is_set():
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                pool.request("POST", f"{API}/runs/log-batch", body=body, headers=self.headers)
            time.sleep(PAUSE)


class Ledger(Clients):
    """People of each kind, and what was acknowledged to them."""

    timeout = 90

    def __init__(self, addresses, username, password, writers=8, readers=20, uploaders=2, clickers=0):
        super().__init__(addresses, username, password)
        self.writers, self.readers, self.uploaders, self.clickers = writers, readers, uploaders, clickers
        self.entries: dict[str, Entry] = {}
        self.answers: list[Answer] = []

    def __enter__(self):
        pool = self._pool(0)
        made = self._call(pool, "write", "create experiment", "POST", "experiments/create", {"name": f"faults-{time.time_ns()}"})
        self.experiment = made["experiment_id"]
        self.begun = time.monotonic()
        for client, count in (
            (self._write, self.writers), (self._upload, self.uploaders), (self._read, self.readers), (self._click, self.clickers)
        ):  # fmt: skip
            self._begin(client, count)
        return self

    def __exit__(self, *error):
        super().__exit__(*error)
        self.ended = time.monotonic()

    def _send(self, pool, kind, what, method, path, body, content_type):
        begin, problem, content = time.monotonic(), "", None
        try:
            answer = pool.request(method, path, body=body, headers={**self.headers, "Content-Type": content_type})
            problem, content = "" if answer.status == 200 else f"{answer.status} {answer.data[:160]!r}", answer.data
        except urllib3.exceptions.HTTPError as error:
            problem = type(error).__name__
        self.answers.append(Answer(kind, what, begin, time.monotonic() - begin, problem, pool.host))
        return None if problem else content

    def _look(self, pool, path):
        """What is there when all is over. Who is told that it can't be looked at now asks again: that is no loss."""
        for _attempt in range(LOOKS):
            content = self._send(pool, "look", "look", "GET", path, None, "application/json")
            if content is not None or self.answers[-1].problem.startswith("4"):
                break
            time.sleep(5)
        return content

    def _call(self, pool, kind, what, method, path, body):
        content = self._send(pool, kind, what, method, f"{API}/{path}", json.dumps(body).encode(), "application/json")
        return None if content is None else json.loads(content)

    def _write(self, number):
        pool = self._pool(number)
        while not self.stopped.is_set():
            made = self._call(pool, "write", "create run", "POST", "runs/create", {"experiment_id": self.experiment})
            if made:
                self._fill(pool, made["run"]["info"]["run_id"])
            time.sleep(PAUSE)

    def _fill(self, pool, run_id):
        entry = self.entries[run_id] = Entry(self.experiment)
        for step in range(5):
            if self.stopped.is_set():
                return
            metrics = {(f"m{key}", step, step * 10.0 + key) for key in range(3)}
            params, tags = {f"p{step}": secrets.token_hex(4)}, {f"t{step}": secrets.token_hex(4)}
            body = {
                "run_id": run_id,
                "metrics": [{"key": key, "step": at, "value": value, "timestamp": 1} for key, at, value in metrics],
                "params": [{"key": key, "value": value} for key, value in params.items()],
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            }
            if self._call(pool, "write", "log batch", "POST", "runs/log-batch", body) is not None:
                entry.metrics |= metrics
                entry.params.update(params)
                entry.tags.update(tags)
            time.sleep(PAUSE)

    def _upload(self, number):
        """Apart from those who write, who would wait for a store that is ill instead of writing."""
        pool = self._pool(number)
        for turn in itertools.count():
            if self.stopped.is_set():
                return
            time.sleep(PAUSE)
            known = list(self.entries)
            if not known:
                continue
            run_id, content = known[turn % len(known)], secrets.token_bytes(20_000)
            path = f"{self.experiment}/{run_id}/artifacts/data-{number}-{turn}"
            answer = self._send(pool, "artifact", "upload", "PUT", f"{ARTIFACTS}/{path}", content, "application/octet-stream")
            if answer is not None:
                self.entries[run_id].artifacts[path] = content

    def _read(self, number):
        pool = self._pool(number)
        for turn in itertools.count():
            if self.stopped.is_set():
                return
            known = list(self.entries)
            if not known or turn % 3 == 0:
                self._call(
                    pool, "read", "search", "POST", "runs/search", {"experiment_ids": [self.experiment], "max_results": 10}
                )
            elif number % 2:
                self._call(pool, "artifact", "list", "GET", f"artifacts/list?run_id={known[turn % len(known)]}", {})
            else:
                self._call(pool, "read", "get run", "GET", f"runs/get?run_id={known[turn % len(known)]}", {})
            time.sleep(PAUSE)

    def _click(self, number):
        """Somebody at the web page, who looks at a run's artifacts now and then."""
        pool = self._pool(number)
        while not self.stopped.wait(CLICK):
            if known := list(self.entries):
                self._call(pool, "artifact", "list", "GET", f"artifacts/list?run_id={known[number % len(known)]}", {})

    # --- afterwards ---

    def lost(self):
        """What was acknowledged and is not there, in words."""
        pool, lost = self._pool(0), []
        for run_id, entry in self.entries.items():
            found = self._look(pool, f"{API}/runs/get?run_id={run_id}")
            if not found:
                lost.append(f"run {run_id}")
                continue
            data = json.loads(found)["run"]["data"]
            for kind, wanted in (("params", entry.params), ("tags", entry.tags)):
                there = {item["key"]: item["value"] for item in data.get(kind, [])}
                lost += [f"{kind} {key} of run {run_id}" for key, value in wanted.items() if there.get(key) != value]
            for key in {key for key, *_ in entry.metrics}:
                path = f"{API}/metrics/get-history?run_id={run_id}&metric_key={key}"
                history = json.loads(self._look(pool, path) or "{}").get("metrics", [])
                there = {(item["key"], int(item.get("step", 0)), float(item["value"])) for item in history}
                lost += [f"{item} of run {run_id}" for item in entry.metrics if item[0] == key and item not in there]
            for path, content in entry.artifacts.items():
                if self._look(pool, f"{ARTIFACTS}/{path}") != content:
                    lost.append(f"artifact {path}")
        return lost

    def acknowledged(self):
        return sum(1 + len(e.metrics) + len(e.params) + len(e.tags) + len(e.artifacts) for e in self.entries.values())

    def refused(self, *kinds, addresses=None):
        return [
            answer for answer in self.answers
            if answer.problem and answer.kind in kinds and (addresses is None or answer.address in addresses)
        ]  # fmt: skip

    def slowest(self, *kinds):
        """The longest that somebody waited for an answer, in seconds."""
        return max((answer.seconds for answer in self.answers if answer.kind in kinds), default=0.0)

    def pause(self, kind="write", addresses=None):
        """The longest time in which no such request was answered well, in seconds."""
        ends = sorted(
            answer.begin + answer.seconds for answer in self.answers
            if answer.kind == kind and not answer.problem and (addresses is None or answer.address in addresses)
        )  # fmt: skip
        moments = [self.begun, *ends, self.ended]
        return max(after - before for before, after in itertools.pairwise(moments))
