# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Two people run playbooks on one deployment at moments that chance chooses, and chance ends half of the runs by SIGKILL. Started by
bench/run, which prepares the environment.

Meanwhile clients write and read. At the end one run of each playbook mends what is left, a second one of site.yml changes
nothing, and all that was acknowledged is there.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from _cloud import ROOT, changes, write

# The clients and the deployment are those of the tests.
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "faults")]

# What is run, and how often of a hundred.
SHARES = {"site": 40, "rotate": 30, "another version": 15, "gc": 15}
CLIENTS = {"writers": 3, "readers": 4, "uploaders": 1}
# Seconds between two runs of a person, and after which one is killed.
PAUSE, LIFE = (0, 15), (2, 90)
# The lines by which Ansible says why a run ended.
FATAL = re.compile(r"^(?:fatal|\[ERROR\]).*$|^ERROR!.*$", re.MULTILINE)
# What two runs may say to each other.
REFUSALS = ("is not done", "lost its lease", "run this again", "Run site.yml again", "is not in order")


@dataclass
class Run:
    controller: int
    what: str
    begin: float
    seconds: float = 0.0
    end: str = ""
    why: str = ""


class Controller(threading.Thread):
    def __init__(self, number, deployment, versions, until, seed, lock):
        super().__init__(daemon=True)
        self.number, self.deployment, self.versions, self.until, self.lock = number, deployment, versions, until, lock
        self.chance = random.Random(f"{seed}-{number}")
        self.runs: list[Run] = []

    def run(self):
        while time.monotonic() < self.until:
            what = self.chance.choices(list(SHARES), SHARES.values())[0]
            run = Run(self.number, what, time.monotonic())
            self.runs.append(run)
            life = self.chance.uniform(*LIFE) if self.chance.random() < 0.5 else None
            if what == "gc":
                self.clean_up(run, life)
            else:
                self.play(run, life)
            run.seconds = time.monotonic() - run.begin
            print(f"  {self.number}: {run.what} {run.end} after {run.seconds:.0f} s {run.why[:200]}", flush=True)
            time.sleep(self.chance.uniform(*PAUSE))

    def play(self, run, life):
        variables = {"mlflow_server_version": self.chance.choice(self.versions)} if run.what == "another version" else {}
        playbook = "rotate-db-password.yml" if run.what == "rotate" else "site.yml"
        with self.lock:
            process = self.deployment.start(playbook, **variables)
        try:
            process.wait(timeout=life)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            run.end = "killed"
            return
        run.end = "done" if process.returncode == 0 else "failed"
        if process.returncode:
            run.why = " ".join(FATAL.findall(process.log.read_text(errors="replace"))[-1:])

    def clean_up(self, run, life):
        host = self.chance.choice(sorted(self.deployment.hosts))
        self.deployment.ssh(host, "systemctl start --no-block mlflow-gc.service", check=False)
        time.sleep(life or 5)
        if life:
            end = "systemctl kill --signal=KILL mlflow-gc.service; systemctl reset-failed mlflow-gc.service"
            self.deployment.ssh(host, end, check=False)
        run.end = "killed" if life else "done"


class Deleter(threading.Thread):
    """Somebody who throws runs away, so that mlflow-gc has something to do."""

    def __init__(self, ledger):
        super().__init__(daemon=True)
        self.ledger = ledger

    def run(self):
        pool = self.ledger._pool(0)

        def call(path, body):
            return self.ledger._call(pool, "waste", path, "POST", path, body)

        made = call("experiments/create", {"name": f"waste-{time.time_ns()}"})
        while made and not self.ledger.stopped.wait(2):
            run = call("runs/create", {"experiment_id": made["experiment_id"]})
            if run:
                call("runs/delete", {"run_id": run["run"]["info"]["run_id"]})


def finish(deployment):
    """One run of each playbook, and what was wrong after it."""
    problems = []
    code, output = deployment.rotate()
    if code:
        problems.append(f"the last rotation failed: {output[-2000:]}")
    code, output = deployment.site()
    if code:
        problems.append(f"the last site.yml failed: {output[-2000:]}")
    mended = changes(output)
    code, output = deployment.site()
    if code or changes(output):
        problems.append(f"site.yml after it changed {changes(output)}: {output[-2000:]}")
    try:
        deployment.check_finished()
    except AssertionError as error:
        problems.append(f"the rotation is not finished: {error}")
    return mended, problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800, help="for how long; deploying comes before")
    parser.add_argument("--controllers", type=int, default=2)
    parser.add_argument("--versions", nargs="+", default=["3.17.2"], help="of MLflow; the first is there at the end")
    parser.add_argument("--seed", default=str(time.time_ns()), help="of chance, to have the same again")
    arguments = parser.parse_args()
    os.environ.setdefault("LOCALCLOUD_NAME", "bench-control")

    from deployment import Deployment
    from ledger import KINDS, Ledger

    with tempfile.TemporaryDirectory() as folder:
        deployment = Deployment(Path(folder), servers=2, recycle=10, grace=2, lease=20)
        deployment.variables |= {"mlflow_server_version": arguments.versions[0], "mlflow_server_gc_retention": "1m"}
        if len(arguments.versions) > 1:
            deployment.variables |= {"mlflow_server_allow_unlocked": True, "mlflow_server_allow_downgrade": True}
        try:
            print(f"local cloud and site.yml, seed {arguments.seed} …", flush=True)
            deployment.up()
            login = deployment.user
            begin, lock = time.monotonic(), threading.Lock()
            # As many clients as leave the playbooks some of these processors.
            with Ledger(deployment.addresses, login["username"], login["password"], **CLIENTS) as ledger:
                Deleter(ledger).start()
                controllers = [
                    Controller(number, deployment, arguments.versions, begin + arguments.seconds, arguments.seed, lock)
                    for number in range(1, arguments.controllers + 1)
                ]
                for controller in controllers:
                    controller.start()
                for controller in controllers:
                    controller.join()
                mended, problems = finish(deployment)
            lost = ledger.lost()
        finally:
            deployment.down()

    runs = [run for controller in controllers for run in controller.runs]
    odd = [run for run in runs if run.end == "failed" and not any(words in run.why for words in REFUSALS)]
    refused = ledger.refused(*KINDS)
    print(f"\n{'':<18}{'done':>8}{'failed':>8}{'killed':>8}")
    ends = ("done", "failed", "killed")
    table = {what: {end: sum((run.what, run.end) == (what, end) for run in runs) for end in ends} for what in SHARES}
    for what, counts in table.items():
        print(f"{what:<18}" + "".join(f"{count:>8}" for count in counts.values()))
    print(
        f"\nacknowledged {ledger.acknowledged()}, lost {len(lost)}, requests {len(ledger.answers)}, refused {len(refused)}, "
        f"longest pause {ledger.pause():.1f} s; the last site.yml changed {mended}, the one after it 0 where nothing is said"
    )
    for line in [*lost[:10], *(f"{a.what}: {a.problem}" for a in refused[:10]), *(f"{r.what}: {r.why}" for r in odd), *problems]:
        print(f"  {line}")
    write("controllers", {
        **vars(arguments), "runs": table, "acknowledged": ledger.acknowledged(), "lost": len(lost), "refused": len(refused),
        "requests": len(ledger.answers), "pause": round(ledger.pause(), 1), "mended": mended, "problems": len(problems),
        "odd": len(odd),
    })  # fmt: skip
    sys.exit(1 if lost or refused or problems or odd else 0)


if __name__ == "__main__":
    main()
