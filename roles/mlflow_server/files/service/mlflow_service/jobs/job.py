# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
One job, in a process of its own, which MLflow's runner starts: python -m mlflow_service.jobs.job.

It has the keys of model providers in its memory, and not in the environment that the kernel shows of it; and no code of users.
"""

import json
import os
from pathlib import Path

from mlflow_service.compat import jobs
from mlflow_service.jobs.scorers import standing_in


def keys(folder):
    """What systemd has handed to the unit, as variables by their names."""
    file = Path(folder, "jobs-credentials") if folder else None
    return json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {}


if __name__ == "__main__":
    os.environ.update(keys(os.environ.get("CREDENTIALS_DIRECTORY")))
    jobs.keep_code_out(standing_in)
    jobs.main()
