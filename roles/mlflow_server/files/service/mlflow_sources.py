# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which addresses a user may name, where the server then reads or writes them with its own credentials.

Artifacts pass through the server, so all that an honest user names is an address on it: mlflow-artifacts:, runs: or
models:. MLflow takes others, too, and then reads any bucket that the server may read, and within its own bucket what is of
experiments that are closed to the user. Here:

- The source of a model version is one of those three kinds, or what MLflow itself writes for a prompt.
- The artifact location of an experiment that a user makes (not an administrator) is on this server, and is not the place
  that MLflow gives to an experiment by itself. Nobody's is on the host.
- Where the data of a trace is, follows from its experiment and its name, as MLflow makes it; a tag says nothing about it.
- Traces are not archived (that is switched off), so no trace can say that it is in an archive somewhere.

What was there before stays as it is.
"""

import os
import re

import mlflow_logins

SOURCES = r"(mlflow-artifacts|runs|models):/(?!/)"
# MLflow's own places are /1, /2, … and with workspaces /workspaces/NAME/1. A slash may be written in more ways than one.
LOCATION = re.compile(r"mlflow-artifacts:/(?P<first>[^/]+)(/.*)?")
# MLflow takes a path, file: and dbfs: for places on the machine that it runs on.
KINDS = re.compile(r"(mlflow-artifacts:/|(s3|gs|wasbs?|abfss?|r2|b2)://)")
RESERVED = re.compile(r"\d+|workspaces|\.{1,2}")


def location_problem(location):
    """Why a user may not have this as an artifact location, or nothing."""
    found = LOCATION.fullmatch(location)
    if not found:
        return "it must be on this server, as mlflow-artifacts:/NAME"
    if re.search(r"[%\\?#\s]|/\.{1,2}(/|$)|//", location):
        return "it must be a plain path, without %, \\, ?, #, spaces, // or .. in it"
    if RESERVED.fullmatch(found["first"]):
        return f"mlflow-artifacts:/{found['first']} is for places that MLflow gives itself"
    return None


def kind_problem(location):
    """The same for an administrator, and for anybody where nobody logs in: not even he is on the host."""
    if KINDS.match(location):
        return None
    return "it must be on this server (mlflow-artifacts:/NAME) or in an artifact store (such as s3://BUCKET/NAME)"


def keep_to_the_server():
    """
    Put these rules into MLflow. Where clients go to the store themselves (MLFLOW_SERVE_ARTIFACTS is false), the addresses are
    the store's, and only the rules for traces hold.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.prompt.constants import _PROMPT_SOURCE_PLACEHOLDERS
    from mlflow.server import handlers
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.utils.mlflow_tags import MLFLOW_ARTIFACT_LOCATION

    handlers._HANDLER_BLOCKED_TRACE_TAGS |= {MLFLOW_ARTIFACT_LOCATION}
    handlers.get_artifact_uri_for_trace = _place_of
    if not os.environ.get("MLFLOW_TRACE_ARCHIVAL_CONFIG"):
        _allow_no_archive()
    if os.environ["MLFLOW_SERVE_ARTIFACTS"] != "true":
        return
    prompts = "|".join(map(re.escape, sorted(_PROMPT_SOURCE_PLACEHOLDERS)))
    os.environ.setdefault("MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX", rf"^({SOURCES}|({prompts})$)")

    creates = SqlAlchemyStore.create_experiment

    def create_experiment(self, name, artifact_location=None, tags=None):
        user = mlflow_logins.caller()
        problem = location_problem if user is not None and not user.is_admin else kind_problem
        if artifact_location and (why := problem(artifact_location)):
            raise MlflowException.invalid_parameter_value(f"Invalid artifact_location '{artifact_location}': {why}.")
        return creates(self, name, artifact_location, tags)

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


def _allow_no_archive():
    """Refuse the tags that would send the server to an archive, however they come: by REST, or in a span's attributes."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.dbmodels.models import SqlTraceTag
    from mlflow.tracing.constant import SpansLocation, TraceTagKey
    from sqlalchemy import event

    def refuse(mapper, connection, tag):
        if tag.key == TraceTagKey.ARCHIVE_LOCATION or (
            tag.key == TraceTagKey.SPANS_LOCATION and tag.value == SpansLocation.ARCHIVE_REPO.value
        ):
            raise MlflowException.invalid_parameter_value(f"Tag '{tag.key}' can't be set: this server archives no traces.")

    for moment in ("before_insert", "before_update"):
        event.listen(SqlTraceTag, moment, refuse)
