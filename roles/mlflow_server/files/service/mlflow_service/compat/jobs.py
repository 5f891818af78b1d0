# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""MLflow's runner of jobs, its jobs and its scorers, for jobs/."""

from mlflow_service.compat.ground import Patch

RUNNER = "mlflow.server.jobs._executor_runner"
UTILS = "mlflow.server.jobs.utils"
SCORERS = "mlflow.genai.scorers.scorer_utils"
PATCH = Patch(
    "jobs",
    "the runner of jobs is one of the deployment's, has a bound for all of them, and runs no code of users",
    optional=False,
    without="no job is run",
    uses=(
        f"{RUNNER}:_select_executor",
        "mlflow.genai.scorers.job:run_online_scoring_scheduler",
        "mlflow.genai.scorers.scorer_utils:_extract_params_from_signature",
        "mlflow.server.constants:MLFLOW_SERVER_UP_TIME",
        f"{UTILS}:_JOB_ENTRY_MODULE",
    ),
    replaces=(
        f"{RUNNER}:run_executor_loop",
        f"{RUNNER}:_JobScheduler._slot_for",
        f"{UTILS}:_prepare_job_subprocess",
        "mlflow.server.jobs._job_subproc_entry:_main",
        f"{SCORERS}:recreate_function",
        "mlflow.genai.scorers.base:Scorer._reconstruct_decorator_scorer",
    ),
)
# Whose recreate_function executes what a user wrote. By it MLflow knows that it is not a client.
BOOT = "_MLFLOW_SERVER_BOOT_ID"


def bound(at_once, entry):
    """Let the runner start no more than so many jobs at once, of all kinds together, and each by a module of ours."""
    import threading

    from mlflow.server.jobs import _executor_runner, utils

    slots = threading.Semaphore(at_once)
    _executor_runner._JobScheduler._slot_for = lambda scheduler, name: slots
    utils._JOB_ENTRY_MODULE = entry


def run(stop, online_every):
    """
    Run jobs until `stop` is set.

    :arg online_every: Seconds between two looks which traces are to be scored by themselves.
    """
    import os
    import threading
    import time

    from mlflow.genai.scorers.job import run_online_scoring_scheduler
    from mlflow.server.constants import MLFLOW_SERVER_UP_TIME
    from mlflow.server.jobs import _executor_runner

    # What is unfinished and older was left by whoever ran jobs before.
    os.environ[MLFLOW_SERVER_UP_TIME] = str(int(time.time() * 1000))
    executor = _executor_runner._select_executor()
    executor.start_executor()

    def score():
        while not stop.wait(online_every):
            try:
                run_online_scoring_scheduler()
            except Exception:
                _executor_runner._logger.exception("The traces to score by themselves could not be looked for; continuing.")

    threading.Thread(target=score, name="online-scoring", daemon=True).start()
    try:
        _executor_runner.run_executor_loop(executor, stop)
    finally:
        executor.stop_executor()


def keep_code_out(make):
    """
    Have MLflow make no function of what a user wrote, in this process.

    :arg make: Makes what stands in for it, of the source, the signature and the name.
    """
    from mlflow.genai.scorers import scorer_utils

    scorer_utils.recreate_function = make


def refused(source, signature, func_name):
    """Of the server itself nobody wants it; MLflow makes none there either, as long as it knows that it is one."""
    raise RuntimeError("The code of a scorer is executed for jobs alone.")


def main():
    from mlflow.server.jobs import _job_subproc_entry

    _job_subproc_entry._main()
