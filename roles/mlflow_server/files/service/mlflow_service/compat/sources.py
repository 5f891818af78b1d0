# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The rules of http/sources.py, put into MLflow."""

import os
import re

from mlflow_service.compat.ground import GUARD, Patch, with_logins
from mlflow_service.http.logins import caller
from mlflow_service.http.sources import SOURCES, kind_problem, location_problem

# What MLflow writes as the source of a prompt, and other versions perhaps beside these.
PROMPTS = ("dummy-source", "prompt-template")
PATCH = Patch(
    "sources",
    "users name no addresses but those that they may",
    kind=GUARD,
    uses=(
        "mlflow.server.handlers:_HANDLER_BLOCKED_TRACE_TAGS",
        "mlflow.server.handlers:get_artifact_uri_for_trace",
        "mlflow.server.handlers:_get_tracking_store",
        "mlflow.store.tracking.sqlalchemy_store:SqlAlchemyStore.create_experiment",
        "mlflow.store.tracking.dbmodels.models:SqlTraceTag",
        "mlflow.tracing.constant:TraceTagKey.ARCHIVE_LOCATION",
        "mlflow.tracing.constant:SpansLocation.ARCHIVE_REPO",
    ),
)


def keep_to_the_server():
    """
    Put these rules into MLflow. Where clients go to the store themselves (MLFLOW_SERVE_ARTIFACTS is false), the addresses are
    the store's, and only the rules for traces hold.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.prompt import constants
    from mlflow.server import handlers
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.utils.mlflow_tags import MLFLOW_ARTIFACT_LOCATION

    handlers._HANDLER_BLOCKED_TRACE_TAGS |= {MLFLOW_ARTIFACT_LOCATION}
    handlers.get_artifact_uri_for_trace = _place_of
    _refuse_archives()
    if os.environ["MLFLOW_SERVE_ARTIFACTS"] != "true":
        return
    placeholders = {*PROMPTS, *getattr(constants, "_PROMPT_SOURCE_PLACEHOLDERS", ())}
    prompts = "|".join(map(re.escape, sorted(placeholders)))
    os.environ.setdefault("MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX", rf"^({SOURCES}|({prompts})$)")

    creates = SqlAlchemyStore.create_experiment

    def create_experiment(self, name, artifact_location=None, *more, **named):
        user = caller()
        # Where users log in and this one is not known here, he may no more than any.
        trusted = user.is_admin if user is not None else not with_logins()
        problem = kind_problem if trusted else location_problem
        if artifact_location and (why := problem(artifact_location)):
            raise MlflowException.invalid_parameter_value(f"Invalid artifact_location '{artifact_location}': {why}.")
        return creates(self, name, artifact_location, *more, **named)

    SqlAlchemyStore.create_experiment = create_experiment


def _place_of(trace_info):
    """Where MLflow puts the data of a trace."""
    from mlflow.exceptions import MlflowException
    from mlflow.server.handlers import _get_tracking_store
    from mlflow.utils.uri import append_to_uri_path

    if "/" in trace_info.trace_id:
        raise MlflowException.invalid_parameter_value("The id of this trace is no name of a folder.")
    experiment = _get_tracking_store().get_experiment(trace_info.experiment_id)
    return append_to_uri_path(experiment.artifact_location, "traces", trace_info.trace_id, "artifacts")


def _refuse_archives():
    """
    Refuse the tags that would send the server to an archive, however they come: by REST, or in a span's attributes. Those of
    traces that were archived another process has written (database/archive.py).
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.dbmodels.models import SqlTraceTag
    from mlflow.tracing.constant import SpansLocation, TraceTagKey
    from sqlalchemy import event

    def refuse(mapper, connection, tag):
        if tag.key == TraceTagKey.ARCHIVE_LOCATION or (
            tag.key == TraceTagKey.SPANS_LOCATION and tag.value == SpansLocation.ARCHIVE_REPO.value
        ):
            why = "only what archives a trace says where it is"
            raise MlflowException.invalid_parameter_value(f"Tag '{tag.key}' can't be set: {why}.")

    for moment in ("before_insert", "before_update"):
        event.listen(SqlTraceTag, moment, refuse)
