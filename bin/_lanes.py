# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Run molecule scenarios, two at a time, each lane on a local cloud of its own. Called by bin/test.

    python bin/_lanes.py LOG_DIR [--clouds NAME NAME] [--beside NAME COMMAND] [--last NAME COMMAND]… SCENARIO…

A scenario waits for machines half of its time, so that two take two thirds of the time of one after the other. A command is one
argument, for a shell: that of --beside runs beside both lanes and cares for its own cloud, and those of --last in the lane that
is first through with its scenarios, one after the other on its cloud. Prints how far each is, and of a failed one the end of its
log; the exit code is the number of scenarios that did not pass. What a command ended with is in LOG_DIR/NAME.code.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

# The first is the one that a person's own runs take.
CLOUDS = [os.environ.get("LOCALCLOUD_NAME", "test"), "test2"]
SHOWN_SECONDS = 20
# Ansible's tasks, and pytest's tests.
STEP = re.compile(r"^(?:TASK \[(.*?)\]|tests/\S+::(\S+))", re.MULTILINE)


class Lanes:
    def __init__(self, log_dir, scenarios, clouds=CLOUDS, beside=None, last=()):
        self.log_dir = Path(log_dir)
        self.clouds = clouds
        self.beside = beside
        self.scenarios = len(scenarios)
        #: What a lane takes at a time: (name, command), with no command for a scenario.
        self.waiting = [[(scenario, None)] for scenario in scenarios] + ([last] if last else [])
        self.lock = threading.Lock()
        self.running = {}
        self.children = []
        self.passed = []
        self.stopped = False

    def say(self, text):
        with self.lock:
            print(text, flush=True)

    def call(self, command, log, environ):
        """Its exit code. It has a process group of its own, so that all of it can be stopped."""
        with open(log, "ab") as output:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environ, start_new_session=True
            )
        self.children.append(child)
        try:
            return child.wait()
        finally:
            self.children.remove(child)

    def lane(self, name):
        # In a log, no boxes as wide as a terminal.
        environ = {**os.environ, "LOCALCLOUD_NAME": name, "TERM": "dumb", "NO_COLOR": "1"}
        cloud = [sys.executable, "-m", "localcloud"]
        was_up = subprocess.run([*cloud, "status"], env=environ, capture_output=True).returncode == 0
        cloud_log = self.log_dir / f"localcloud-{name}.log"
        cloud_log.unlink(missing_ok=True)
        try:
            while True:
                with self.lock:
                    if self.stopped or not self.waiting:
                        return
                    taken = self.waiting.pop(0)
                for name, command in taken:
                    if self.stopped:
                        return
                    self.on_cloud(name, command, cloud, cloud_log, environ)
        finally:
            if not was_up:
                self.call([*cloud, "reset"], cloud_log, environ)

    def on_cloud(self, name, command, cloud, cloud_log, environ):
        """A scenario, or a command of that name, on the lane's cloud."""
        log = self.log_dir / (f"{name}.log" if command else f"molecule-{name}.log")
        log.unlink(missing_ok=True)
        with self.watched(name if command else f"molecule {name}", log) as outcome:
            outcome.code = self.call([*cloud, "up"], cloud_log, environ)
            if outcome.code:
                log.write_bytes(cloud_log.read_bytes())
            else:
                outcome.code = self.call(["sh", "-c", command] if command else ["molecule", "test", "-s", name], log, environ)
        if command:
            (self.log_dir / f"{name}.code").write_text(f"{outcome.code}\n")
        elif not outcome.code:
            self.passed.append(name)

    def run_beside(self):
        name, command = self.beside
        log = self.log_dir / f"{name}.log"
        log.unlink(missing_ok=True)
        with self.watched(name, log) as outcome:
            outcome.code = self.call(["sh", "-c", command], log, os.environ)
        (self.log_dir / f"{name}.code").write_text(f"{outcome.code}\n")

    @contextmanager
    def watched(self, title, log):
        """Say that it begins and how it ended; `show` tells how far it is meanwhile."""
        self.say(f"{title} …")
        begin = time.monotonic()
        self.running[title] = (begin, log)
        outcome = SimpleNamespace(code=1)
        yield outcome
        del self.running[title]
        seconds, ended = time.monotonic() - begin, time.time()
        with self.lock, (self.log_dir / "timeline").open("a", encoding="utf-8") as file:
            file.write(f"{ended - seconds:.1f} {ended:.1f} {title}\n")
        if outcome.code:
            end = "\n    ".join(log.read_text(errors="replace").splitlines()[-80:])
            self.say(f"{title}: failed after {seconds:.0f} s (exit code {outcome.code}). The end of {log}:\n    {end}")
        else:
            self.say(f"{title}: done in {seconds:.0f} s")

    def show(self):
        while True:
            time.sleep(SHOWN_SECONDS)
            for title, (begin, log) in list(self.running.items()):
                found = STEP.findall(log.read_text(errors="replace")) if log.exists() else []
                step = "".join(found[-1]) if found else ""
                self.say(f"  {title.removeprefix('molecule ')}: {time.monotonic() - begin:4.0f} s  {step}")

    def stop(self, *_signal):
        self.stopped = True
        for child in list(self.children):
            os.killpg(child.pid, signal.SIGTERM)

    def run(self):
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        threading.Thread(target=self.show, daemon=True).start()
        lanes = [threading.Thread(target=self.lane, args=[cloud]) for cloud in self.clouds[: max(1, len(self.waiting))]]
        if self.beside:
            lanes.append(threading.Thread(target=self.run_beside))
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        return self.scenarios - len(self.passed)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("log_dir")
    parser.add_argument("--clouds", nargs=2, metavar="NAME", default=CLOUDS)
    parser.add_argument("--beside", nargs=2, metavar=("NAME", "COMMAND"))
    parser.add_argument("--last", nargs=2, action="append", default=[], metavar=("NAME", "COMMAND"))
    parser.add_argument("scenarios", nargs="+", metavar="SCENARIO")
    arguments = parser.parse_args()
    return Lanes(arguments.log_dir, arguments.scenarios, arguments.clouds, arguments.beside, arguments.last).run()


if __name__ == "__main__":
    sys.exit(main())
