# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A deployed host from its inside, for the tests that look at more than its answers."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path


class Server:
    """One host of the deployment, from its inside."""

    def __init__(self, deployment, host):
        self.deployment, self.host = deployment, host
        self.address = deployment.hosts[host]["ansible_host"]

    def run(self, script, check=True):
        return self.deployment.ssh(self.host, script, check=check)

    def python(self, program):
        """With MLflow's own Python and the service's settings, as the service's user."""
        begin = "systemd-run --pipe --wait --quiet --collect --uid=mlflow --property=EnvironmentFile=/etc/mlflow/mlflow.env"
        return self.run(f"{begin} --working-directory=/tmp /opt/mlflow/current/bin/python - <<'PROGRAM'\n{program}\nPROGRAM\n")

    def routes(self):
        """Method and path of each route of the MLflow that is installed."""
        said = self.python((Path(__file__).resolve().parent / "list_routes.py").read_text())
        return [tuple(route) for route in json.loads(said.partition("ROUTES ")[2].splitlines()[0])]

    def workers(self):
        return self.run("pgrep --uid mlflow mlflow-worker").split()

    def memory(self):
        """What the processes of the service hold in memory, what they share counted once, in bytes."""
        script = "for pid in $(pgrep --uid mlflow); do cat /proc/$pid/smaps_rollup; done 2>/dev/null"
        return sum(int(line.split()[1]) for line in self.run(script, check=False).splitlines() if line.startswith("Pss:")) << 10

    def disk(self):
        """What lies in nginx's folders for bodies and answers and in the service's spool, in bytes."""
        folders = "/var/lib/nginx /var/cache/nginx /var/lib/mlflow/tmp"
        return int(self.run(f"du --summarize --bytes --total {folders} 2>/dev/null | tail -n 1", check=False).split()[0])

    @contextlib.contextmanager
    def only(self, worker):
        """All workers but this one stand still, so that whoever asks is answered by it."""
        others = " ".join(pid for pid in self.workers() if pid != worker)
        self.run(f"kill -STOP {others}" if others else "true")
        try:
            yield
        finally:
            self.run(f"kill -CONT {others}" if others else "true")
