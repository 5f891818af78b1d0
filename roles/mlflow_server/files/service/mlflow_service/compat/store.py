# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""MLflow's stores: how they are got, and how the store of runs is asked less."""

import copy

from mlflow_service.compat.environment import REPLICA, has_replica
from mlflow_service.compat.ground import NEEDED, Moved, Patch, find
from mlflow_service.http.searches import is_search

STORE = "mlflow.store.tracking.sqlalchemy_store:SqlAlchemyStore"
STORES = Patch(
    "stores",
    "the stores that MLflow has opened",
    kind=NEEDED,
    uses=("mlflow.server.handlers:_get_tracking_store", "mlflow.server.handlers:_get_model_registry_store"),
)
READING = Patch(
    "reads",
    "experiments and runs are read without a transaction, and the tags of an experiment by its id",
    uses=("mlflow.store.tracking.dbmodels.models:SqlExperiment.tags",),
    replaces=(
        "mlflow.store.db.utils:_get_managed_session_maker",
        *(f"{STORE}.{name}" for name in ("get_experiment", "get_experiment_by_name", "get_run", "_get_experiment", "_get_run")),
        f"{STORE}._get_eager_experiment_query_options",
        f"{STORE}._get_eager_run_query_options",
    ),
)
INPUTS = Patch(
    "inputs",
    "whether a run that is just being made has inputs is not asked",
    replaces=(f"{STORE}.create_run", f"{STORE}._get_run_inputs"),
)


def _takes_a_replica():
    """Looked at where there is one."""
    if not has_replica():
        return
    constant = "mlflow.server.constants:READ_REPLICA_BACKEND_STORE_URI_ENV_VAR"
    if find(constant) != REPLICA:
        raise Moved(f"{constant.replace(':', '.')} is another")
    for name in ("_get_managed_session_maker", "_get_routing_session_maker"):
        find(f"mlflow.store.db.utils:{name}")


SEARCHING = Patch("replica", "searches alone are read from a replica", kind=NEEDED, looks=(_takes_a_replica,))


def open_stores(with_logins):
    """The stores of MLflow, opened, by their names."""
    from mlflow.server.handlers import _get_model_registry_store, _get_tracking_store

    stores = {"tracking": _get_tracking_store(), "registry": _get_model_registry_store()}
    if with_logins:
        from mlflow.server import auth

        stores["authentication"] = auth.store
    return stores


def search_in_the_replica(store):
    """
    Let only searches read from the replica. MLflow sends it whatever reads, what looks at a run before something is written to
    it included: a client would be told that the run it has just made is not there.
    """
    from mlflow.store.db.utils import _get_managed_session_maker
    from sqlalchemy.orm import sessionmaker

    routed = store.ManagedSessionMaker
    here = _get_managed_session_maker(sessionmaker(bind=store.engine), store.db_type)

    def make(read_only=True):
        return (routed if read_only and is_search() else here)(read_only=read_only)

    store.ManagedSessionMaker = make


# What reads one thing by two statements, of which each is right for itself.
READS = ("get_experiment", "get_experiment_by_name", "get_run")


def read_without_a_transaction(store):
    """
    Let READS do without a transaction, whose begin and end are two of the four trips to the database that they take, and have
    the tags of an experiment be asked for by its id, as MLflow asks for a run's: not by the whole query once more, which
    SQLAlchemy can't keep and puts together each time.
    """
    from mlflow.store.db.utils import _get_managed_session_maker
    from mlflow.store.tracking.dbmodels.models import SqlExperiment
    from sqlalchemy.orm import selectinload, sessionmaker

    # Whatever calls the store's own get_experiment, as create_run does, takes this way, too.
    reader = copy.copy(store)
    maker = sessionmaker(bind=store.engine.execution_options(isolation_level="AUTOCOMMIT"))
    reader.ManagedSessionMaker = _get_managed_session_maker(maker, store.db_type)
    reader._get_eager_experiment_query_options = lambda: [selectinload(SqlExperiment.tags)]
    for name in READS:
        setattr(store, name, getattr(reader, name))


def ask_for_no_inputs_of_a_new_run(store):
    """Whether a run that is just being made has inputs is not asked."""
    from mlflow.store.tracking.dbmodels.models import SqlRun

    asks = store._get_run_inputs

    def _get_run_inputs(session, run_uuids):
        made = {item.run_uuid for item in session.new if isinstance(item, SqlRun)}
        return [[] for _ in run_uuids] if made.issuperset(run_uuids) else asks(session, run_uuids)

    store._get_run_inputs = _get_run_inputs
