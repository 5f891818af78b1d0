# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""MLflow's own deletion of rows, for database/gc.py."""

from contextlib import contextmanager

from mlflow_service.compat.ground import Patch

STORE = "mlflow.store.tracking.sqlalchemy_store:SqlAlchemyStore"
PATCH = Patch(
    "gc",
    "mlflow-gc has MLflow delete rows in transactions of its own",
    optional=False,
    without="mlflow-gc removes nothing",
    replaces=tuple(f"{STORE}.{name}" for name in ("_hard_delete_run", "_hard_delete_logged_model", "_hard_delete_experiment")),
)


@contextmanager
def in_session(tracking, session):
    """Have a store work in this session; another one would commit by itself."""

    @contextmanager
    def maker(**dummy):
        yield session
        session.flush()

    theirs, tracking.ManagedSessionMaker = tracking.ManagedSessionMaker, maker
    try:
        yield
    finally:
        tracking.ManagedSessionMaker = theirs


def delete_run(tracking, run_id):
    tracking._hard_delete_run(run_id)


def delete_model(tracking, model_id):
    tracking._hard_delete_logged_model(model_id)


def delete_experiment(tracking, experiment_id):
    tracking._hard_delete_experiment(experiment_id)
