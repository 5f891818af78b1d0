# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Be uvicorn, whose workers are forks of this process."""

import gc
import sys

from mlflow_service import application
from mlflow_service.compat import environment, processes
from mlflow_service.http import metrics


def main():
    import uvicorn

    gc.disable()
    environment.set_internal_variables()
    if application.is_measured():
        metrics.prepare()
    application.import_everything()
    ground = application.ground()
    if ground.refused:
        sys.exit(f"This MLflow can't be served: {ground.refused}.")
    for line in ground.left_out:
        print(f"Left out, MLflow's own way is taken: {line}.", file=sys.stderr, flush=True)
    # What is there now stays, so the collector need neither look at it nor write to it, which would copy it.
    gc.freeze()
    gc.enable()
    if ground.has(processes.FORKING):
        processes.fork_workers()
    sys.exit(uvicorn.main())


if __name__ == "__main__":
    main()
