# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""No password is where it does not belong: in output, journals, arguments, environments, files that all may read."""

from __future__ import annotations

import glob
import json
import threading
import time

from deployment import ADMIN, APP, ROOT


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
    leaks = (ROOT / "molecule" / "site" / "leaks.py").read_text()
    for host in deployment.hosts:
        asked = json.dumps(sorted(shapes))
        script = f"cat >/run/leaks.py <<'PROGRAM'\n{leaks}PROGRAM\n"
        script += f"python3 /run/leaks.py <<'WORDS'\n{asked}\nWORDS\nrm /run/leaks.py\n"
        found = deployment.ssh(host, script, check=False)
        assert found == "", found
    folder = deployment.config.cloud_dir / "databases" / "mlflow"
    logs = [path for path in folder.rglob("*") if path.is_file() and ("log" in path.name or path.suffix == ".log")]
    assert logs
    assert not [path for path in logs if any(word.encode() in path.read_bytes() for word in shapes)]
    deployment.check_finished()
