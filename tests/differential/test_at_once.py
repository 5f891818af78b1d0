# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Eight clients who do the same on both servers, all at once: what is there afterwards is the same."""

from __future__ import annotations

import random
import time

import pytest
from clients import API, together
from compare import different, tally

CLIENTS = 8


class Worker:
    """A client who goes on until it is told how far it got; what it does is decided by its number and its step alone."""

    def __init__(self, side, number):
        self.side, self.number, self.steps, self.problems = side, number, 0, []
        self.who = side.people.owner
        self.run = self.must("runs/create", experiment_id=side.things.experiment, run_name=f"worker {number}",
                             start_time=1)["run"]["info"]["run_id"]  # fmt: skip

    def must(self, what, **fields):
        answer = self.who.post(f"{API}/{what}", **fields)
        if answer.status != 200:
            self.problems.append(str(answer))
            return {}
        return answer.json

    def step(self):
        choice, number, things = random.Random(f"{self.number} {self.steps}"), self.steps, self.side.things
        kind = choice.choice(["metric", "batch", "tag", "params", "same tag", "experiment tag", "model", "input"])
        if kind == "metric":
            at = {"timestamp": number, "step": number}
            self.must("runs/log-metric", run_id=self.run, key=f"m{number % 7}", value=choice.random(), **at)
        elif kind == "batch":
            metrics = [{"key": f"b{one}", "value": choice.random(), "timestamp": number, "step": number} for one in range(20)]
            metrics += metrics[:5]
            self.must("runs/log-batch", run_id=self.run, metrics=metrics, tags=[{"key": f"t{number}", "value": str(number)}])
        elif kind == "tag":
            self.must("runs/set-tag", run_id=self.run, key=f"größe {number % 5}", value=f"{number}")
        elif kind == "params":
            self.must("runs/log-batch", run_id=self.run, params=[{"key": f"p{number}", "value": "x" * choice.randrange(100)}])
        elif kind == "same tag":
            # All of them write this one, each the same. It is there before: MLflow answers 400 where two make it at one moment.
            self.must("experiments/set-experiment-tag", experiment_id=things.experiment, key="all", value="the same")
        elif kind == "experiment tag":
            tag = {"key": f"of {self.number}", "value": f"{number}"}
            self.must("experiments/set-experiment-tag", experiment_id=things.experiment, **tag)
        elif kind == "model":
            self.must("registered-models/set-tag", name=things.model, key=f"of {self.number}", value=f"{number}")
        elif kind == "input":
            # Its own: MLflow answers 400 where two log a data set of one name that is new at the same moment.
            dataset = {"name": f"rows {self.number}", "digest": f"d{number % 3}", "source_type": "local", "source": "{}"}
            self.must("runs/log-inputs", run_id=self.run, datasets=[{"dataset": dataset}])
        self.steps += 1


@pytest.mark.parametrize("seconds", [pytest.param(15, marks=pytest.mark.everyday), 60])
def test_what_is_there_afterwards_is_the_same(twins, seconds):
    twins.new_things()
    ours, plain = twins.both(lambda side: [Worker(side, number) for number in range(CLIENTS)])
    for worker in (ours[0], plain[0]):
        worker.must("experiments/set-experiment-tag", experiment_id=worker.side.things.experiment, key="all", value="the same")
    deadline = time.monotonic() + seconds / 2

    def for_a_while(worker):
        while time.monotonic() < deadline:
            worker.step()

    def as_far_as(worker, other):
        while worker.steps < other.steps:
            worker.step()

    # The deployed one first, for a time; the plain one then as far, however long it takes.
    raised = together([lambda worker=worker: for_a_while(worker) for worker in ours], threads=CLIENTS)
    raised += together([lambda pair=pair: as_far_as(*pair) for pair in zip(plain, ours, strict=True)], threads=CLIENTS)
    assert [repr(error) for error in raised if error] == []
    assert [worker.problems[:3] for worker in [*ours, *plain] if worker.problems] == []
    assert [worker.steps for worker in ours] == [worker.steps for worker in plain]
    tally["calls at once"] += 2 * sum(worker.steps for worker in ours)
    # Each of them got somewhere.
    assert min(worker.steps for worker in ours) >= 5

    def state(number):
        def of(side):
            run = (ours if side is twins.ours else plain)[number].run
            return "GET", f"{API}/runs/get", {"run_id": run}, {}

        return twins.ask(of, "owner")

    for number in range(CLIENTS):
        answers = state(number)
        for answer in answers:
            data = answer.body["run"]["data"]
            for kind in data.values():
                kind.sort(key=lambda one: one["key"])
            answer.body["run"].get("inputs", {}).get("dataset_inputs", []).sort(key=str)
        assert different(*answers) is None
    things = [
        lambda side: ("GET", f"{API}/experiments/get", {"experiment_id": side.things.experiment}, {}),
        lambda side: ("GET", f"{API}/registered-models/get", {"name": side.things.model}, {}),
        *(lambda side, key=key: ("GET", f"{API}/metrics/get-history", {
            "run_id": (ours if side is twins.ours else plain)[0].run, "metric_key": key}, {}) for key in ("m1", "b3")),
    ]  # fmt: skip
    for make in things:
        answers = twins.ask(make, "owner")
        for answer in answers:
            for of in answer.body.values():
                (of if isinstance(of, list) else of.get("tags", [])).sort(key=str)
        assert different(*answers) is None
