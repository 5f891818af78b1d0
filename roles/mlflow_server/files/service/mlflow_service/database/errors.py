# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a client is told where the database fails."""

import logging

# For how many seconds a statement of a request may take; nginx waits no longer for an answer.
STATEMENT_SECONDS = 300

_logger = logging.getLogger("uvicorn.error")

# What a client is told where the database fails.
AWAY = "The database does not answer."


def answer_what_went_wrong():
    """Answer 503, which clients try again, where the database went away in the middle of a call.

    Flask makes a 500 of it where a check before or after the call fails, and where a transaction can't even be taken
    back on a connection that has ended.
    """
    from flask import Response
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
    from mlflow.server import app
    from sqlalchemy.exc import OperationalError

    def answer(error):
        cause = getattr(error, "original_exception", None)
        if isinstance(cause, OperationalError):
            cause = MlflowException(AWAY, TEMPORARILY_UNAVAILABLE)
        if not isinstance(cause, MlflowException):
            return error
        return Response(cause.serialize_as_json(), cause.get_http_status_code(), mimetype="application/json")

    app.register_error_handler(500, answer)


def say_nothing_of_the_database():
    """Have every failure of the database be told in one sentence: MLflow passes on the driver's words, which name its address,
    a role and the statement. Those are for the journal.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.exc import OperationalError

    class Unavailable(OperationalError):
        def __init__(self, error):
            super().__init__(None, None, error)

        def __str__(self):
            took_long = getattr(self.orig, "pgcode", None) == "57014"
            return f"This takes the database longer than {STATEMENT_SECONDS} s." if took_long else AWAY

    @event.listens_for(Engine, "handle_error")
    def say_less(context):
        # The pool looks at what its own question has met.
        if isinstance(context.sqlalchemy_exception, OperationalError) and not context.is_pre_ping:
            _logger.error("the database: %s", " ".join(str(context.original_exception).split()))
            raise Unavailable(context.original_exception)
