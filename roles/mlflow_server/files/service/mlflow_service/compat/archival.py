# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""MLflow's own archiving of traces, for database/archive.py."""

from mlflow_service.compat.ground import Patch

STORE = "mlflow.store.tracking.sqlalchemy_store:SqlAlchemyStore"
PATCH = Patch(
    "archival",
    "MLflow is called to archive traces, and may not do so with one whose id is no name of a folder",
    optional=False,
    without="mlflow-trace-archival archives nothing",
    uses=(f"{STORE}.archive_traces",),
    replaces=(f"{STORE}._archive_trace_candidate",),
)


def leave(store, is_name, stays):
    """
    Let MLflow leave out a trace whose id is not a name: it makes an address of the id, which a client has chosen, and would write
    into somebody else's folder.

    :arg is_name: Tells it of an id.
    :arg stays: Called with each id that is left out.
    """
    archives = store._archive_trace_candidate

    def _archive_trace_candidate(*, trace_id, **about):
        if not is_name(trace_id):
            stays(trace_id)
            return False
        return archives(trace_id=trace_id, **about)

    store._archive_trace_candidate = _archive_trace_candidate
