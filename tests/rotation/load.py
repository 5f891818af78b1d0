# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Clients that write and read through nginx and TLS, on connections that stay open, and note every answer."""

from __future__ import annotations

import itertools
import json
import statistics
import threading
import time
from dataclasses import dataclass

import urllib3


@dataclass
class Answer:
    begin: float
    seconds: float
    what: str
    problem: str


def percentile(values, share):
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Load:
    """So many clients at once, over all servers, for as long as the with-block lasts."""

    def __init__(self, addresses, username, password, clients=16, pause=0.0):
        self.addresses = list(addresses)
        self.headers = urllib3.make_headers(basic_auth=f"{username}:{password}")
        self.headers["Content-Type"] = "application/json"
        self.clients = clients
        self.pause = pause
        self.answers: list[Answer] = []
        self.stopped = threading.Event()

    def __enter__(self):
        urllib3.disable_warnings()
        first = self._pool(0)
        name = f"rotation-{time.time_ns()}"
        self.experiment = self._call(first, "create experiment", "experiments/create", {"name": name})["experiment_id"]
        run = self._call(first, "create run", "runs/create", {"experiment_id": self.experiment})
        self.run_id = run["run"]["info"]["run_id"]
        self.answers.clear()
        self.threads = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(self.clients)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        for thread in self.threads:
            thread.join(timeout=60)

    def _pool(self, number):
        address = self.addresses[number % len(self.addresses)]
        # The certificate names the first host; what is measured here is not whether it is trusted.
        return urllib3.HTTPSConnectionPool(address, 443, cert_reqs="CERT_NONE", maxsize=1, timeout=60, retries=False)

    def _client(self, number):
        pool = self._pool(number)
        for turn in itertools.count():
            if self.stopped.is_set():
                return
            kind = (turn + number) % 3
            if kind == 0:
                metrics = [{"key": f"m{number}", "value": turn, "timestamp": 1, "step": turn * 10 + i} for i in range(10)]
                self._call(pool, "log-batch", "runs/log-batch", {"run_id": self.run_id, "metrics": metrics})
            elif kind == 1:
                self._call(pool, "create run", "runs/create", {"experiment_id": self.experiment})
            else:
                self._call(pool, "search", "runs/search", {"experiment_ids": [self.experiment], "max_results": 5})
            if self.pause:
                time.sleep(self.pause)

    def _call(self, pool, what, path, body):
        wall, begin = time.time(), time.monotonic()
        problem, answer = "", {}
        try:
            response = pool.request("POST", f"/api/2.0/mlflow/{path}", body=json.dumps(body), headers=self.headers)
            if response.status != 200:
                problem = f"{response.status} {response.data[:200]!r}"
            else:
                answer = json.loads(response.data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            problem = repr(error)
        self.answers.append(Answer(wall, time.monotonic() - begin, what, problem))
        return answer

    @property
    def failed(self):
        return [answer for answer in self.answers if answer.problem]

    def between(self, begin, end):
        return [answer for answer in list(self.answers) if begin <= answer.begin < end]


def figures(answers, seconds):
    """Counts and milliseconds of a stretch of time."""
    times = [answer.seconds * 1000 for answer in answers]
    return {
        "requests": len(times),
        "failed": sum(1 for answer in answers if answer.problem),
        "per_second": round(len(times) / seconds, 1) if seconds else 0,
        "median_ms": round(statistics.median(times), 1) if times else 0,
        "p99_ms": round(percentile(times, 0.99), 1),
        "max_ms": round(max(times), 1) if times else 0,
    }
