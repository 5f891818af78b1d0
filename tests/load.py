# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Clients that write and read through nginx and TLS, on connections that stay open, and note every answer.

As a program it runs until a file is there, then looks for every run whose creation was acknowledged, and prints JSON:

    python tests/load.py --stop FILE [--clients N] [--pause S] [--limit S] URL… <LOGIN

LOGIN is {"username": …, "password": …}.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

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


class Clients:
    """Threads that are clients of all servers (addresses or URLs) in turn, for as long as the with-block lasts."""

    #: For how many seconds an answer is waited for.
    timeout = 60

    def __init__(self, addresses, username, password):
        self.addresses = list(addresses)
        self.headers = urllib3.make_headers(basic_auth=f"{username}:{password}")
        self.headers["Content-Type"] = "application/json"
        self.stopped = threading.Event()
        urllib3.disable_warnings()

    def _begin(self, client, count):
        """So many threads of this function, each of which is given its number."""
        threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(count)]
        self.threads = [*getattr(self, "threads", []), *threads]
        for thread in threads:
            thread.start()

    def __exit__(self, *error):
        self.stopped.set()
        for thread in self.threads:
            thread.join(timeout=self.timeout)

    def _pool(self, number):
        address = self.addresses[number % len(self.addresses)]
        url = urlsplit(address if "://" in address else f"https://{address}")
        options = {"maxsize": 1, "timeout": self.timeout, "retries": False}
        if url.scheme == "http":
            return urllib3.HTTPConnectionPool(url.hostname, url.port or 80, **options)
        # The certificate names the first host; what is measured here is not whether it is trusted.
        return urllib3.HTTPSConnectionPool(url.hostname, url.port or 443, cert_reqs="CERT_NONE", **options)


class Load(Clients):
    """So many clients at once, each of which does all that a program that trains does."""

    def __init__(self, addresses, username, password, clients=16, pause=0.0):
        super().__init__(addresses, username, password)
        self.clients = clients
        self.pause = pause
        self.answers: list[Answer] = []
        self.acknowledged: list[str] = []

    def __enter__(self):
        first = self._pool(0)
        name = f"rotation-{time.time_ns()}"
        experiment = self._call(first, "create experiment", "experiments/create", {"name": name})
        assert experiment, self.answers[-1].problem
        self.experiment = experiment["experiment_id"]
        run = self._call(first, "create run", "runs/create", {"experiment_id": self.experiment})
        assert run, self.answers[-1].problem
        self.run_id = run["run"]["info"]["run_id"]
        self.answers.clear()
        self._begin(self._client, self.clients)
        return self

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
                answer = self._call(pool, "create run", "runs/create", {"experiment_id": self.experiment})
                if answer:
                    self.acknowledged.append(answer["run"]["info"]["run_id"])
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

    def lost(self):
        """Those runs whose creation was acknowledged and that are not there."""
        pool, there, page = self._pool(0), set(), None
        while page != "":
            body = {"experiment_ids": [self.experiment], "max_results": 1000, **({"page_token": page} if page else {})}
            answer = self._call(pool, "look for the runs", "runs/search", body)
            there |= {run["info"]["run_id"] for run in answer.get("runs", [])}
            page = answer.get("next_page_token", "")
        return [run_id for run_id in self.acknowledged if run_id not in there]

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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--stop", type=Path, required=True, help="a file; it ends when that is there")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two requests of a client")
    parser.add_argument("--limit", type=int, default=600, help="seconds after which it ends by itself")
    arguments = parser.parse_args()
    login = json.load(sys.stdin)
    begin = time.time()
    with Load(arguments.urls, login["username"], login["password"], arguments.clients, arguments.pause) as load:
        while not arguments.stop.exists() and time.time() - begin < arguments.limit:
            time.sleep(0.2)
    end = time.time()
    found = figures(load.between(begin, end), end - begin)
    found["seconds"] = round(end - begin, 1)
    # From the first request that failed to the answer of the last one.
    found["failed_seconds"] = (
        round(max(a.begin + a.seconds for a in load.failed) - min(a.begin for a in load.failed), 1) if load.failed else 0
    )
    found["statuses"] = sorted({answer.problem.split()[0].split("(")[0] for answer in load.failed})
    found["problems"] = [
        {"second": round(answer.begin - begin, 1), "what": answer.what, "problem": answer.problem} for answer in load.failed[:10]
    ]
    found["acknowledged"] = len(load.acknowledged)
    found["lost"] = len(load.lost())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
