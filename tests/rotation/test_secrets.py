# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""No password is where it does not belong: in output, journals, arguments, environments, files that all may read."""

from __future__ import annotations

import contextlib
import glob
import json
import secrets
import subprocess
import sys
import threading
import time

import psycopg
from deployment import ADMIN, APP, ROOT

LEAKS = ROOT / "molecule" / "shared" / "leaks.py"


class Watcher:
    """Keeps every argument list and every environment of this machine, and so of the local cloud's machines, too."""

    def __init__(self):
        self.seen = {}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self.thread.join()

    def _watch(self):
        while not self.stopped.is_set():
            for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
                try:
                    with open(path, "rb") as file:
                        content = file.read()
                except OSError:
                    continue
                self.seen.setdefault(content, path)
            time.sleep(0.1)

    def places(self, passwords):
        return [path for content, path in self.seen.items() if any(word.encode() in content for word in passwords)]


def search_host(deployment, host, words):
    """Fails where one of these secrets is where it does not belong, and where the search does not see everything."""
    program = LEAKS.read_text()
    asked = json.dumps({"words": words, "host": True})
    script = f"cat >/run/leaks.py <<'PROGRAM'\n{program}PROGRAM\npython3 /run/leaks.py <<'WORDS' 2>&1\n{asked}\nWORDS\n"
    said = deployment.ssh(host, script + "echo \"ended with $?\"; rm /run/leaks.py")
    assert said.endswith("ended with 0"), f"{host}: {said}"


def search_files(deployment, words, outputs):
    """The same in what runs have said, and in the logs of the local cloud and of its databases, with a word in the latter."""
    planted = f"planted-{secrets.token_hex(12)}"
    with contextlib.suppress(psycopg.Error):
        deployment.sql(f"SELECT '{planted}'::int")
    cloud = deployment.config.cloud_dir
    logs = [*cloud.glob("*.log"), *(cloud / "databases").rglob("*.log")]
    for name, output in outputs.items():
        logs.append(deployment.folder / f"searched-{name}")
        logs[-1].write_text(output)
    asked = json.dumps({"words": {**words, "the planted one": planted}, "files": list(map(str, logs))})
    done = subprocess.run([sys.executable, str(LEAKS)], input=asked, capture_output=True, text=True)
    # That one is found, and nothing else is.
    found = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    assert done.returncode == 1 and found, done.stdout + done.stderr
    assert all(line.startswith("found the planted one as it is in ") for line in found), done.stdout


def test_no_password_shows(deployment):
    passwords = {deployment.content(name)["password"] for name in (APP, ADMIN)}
    with Watcher() as watcher:
        output = deployment.must_rotate("-vvv", "--diff", rotate_admin=True)
    passwords |= {deployment.content(name)["password"] for name in (APP, ADMIN)}
    assert len(passwords) == 4
    # As they are, and as JSON and a shell would write them.
    shapes = passwords | {json.dumps(word)[1:-1] for word in passwords}
    assert not [word for word in shapes if word in output], "in the output"
    assert not watcher.places(shapes)
    words = {f"password {number}": word for number, word in enumerate(sorted(passwords))}
    for host in deployment.hosts:
        search_host(deployment, host, words)
    search_files(deployment, words, {"output": output})
    deployment.check_finished()
