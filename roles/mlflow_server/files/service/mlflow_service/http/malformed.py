# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A request that can't be read is the client's fault: it is answered with 400, where MLflow answers 500.

MLflow's handlers take much of what a request brings as it is, and fail on it with a ValueError, a KeyError or an
AttributeError. As a 500 that looks like a fault of the server, is tried again by MLflow's own client for minutes, and
leaves a traceback in the journal for everybody who can send a request.

Whose fault an error is, is not told by its kind: a ValueError may come from a row in the database that nobody expected. It is
told by where it was raised:

- Before the handler has asked the database anything, all that it knows is the request. Artifacts are apart: what is known of
  them comes from the artifact store.
- In what does nothing but read a client's words, whenever that is: READERS, READ_BELOW, and where the store takes for a number
  what the request names as its experiment.
- By the driver, which refuses a text that PostgreSQL has none for: one with a NUL, or with half of a character. Nothing that is
  stored is such a text.
- By the artifact store, which refuses an upload that it does not know, and parts that are none.

All others stay what they are. So do those of the system's own (files, environment, imports, the network), whenever they come.
Nothing is hidden by that: the journal has a line for each request, with what was raised and where, and none of what it brought.
"""

import functools
import json
import logging
import os
import re
from types import FunctionType

# What Python and the libraries raise where a value is of another kind than they take.
ODD_VALUES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
# Those that are no subclass of them, by name: their modules are imported only where they are used.
ODD_NAMES = frozenset(["GraphQLError", "GraphQLSyntaxError", "ParseError", "DecodeError", "EncodeError"])
# Modules that do nothing but read what a client has sent.
READERS = (
    "mlflow.utils.search_utils",
    "mlflow.utils.search_logged_model_utils",
    "mlflow.utils.validation",
    "mlflow.utils.proto_json_utils",
)
# All that this function of the handlers does, with what is below it, is to read the request.
READS_THE_REQUEST = ("mlflow.server.handlers", "_get_request_message")
# Functions of the store, and below them what reads the request, although others have it read what is stored.
READ_BELOW = (
    ("register_scorer", "extract_model_from_serialized_scorer"),
    # It has just given the row the status that the request names, and reads that one back.
    ("deprecated_end_trace_v2", "to_mlflow_entity"),
)
# Functions of the store that read a client's words, and refuse them by an exception of MLflow's own that names no kind, which it
# answers with 500.
REFUSE_IN_WORDS = (
    "_get_orderby_clauses",
    "_get_orderby_clauses_for_search_traces",
    "_parse_model_uri",
    "_parse_search_model_versions_order_by",
    "_parse_search_registered_models_order_by",
    "transition_model_version_stage",
)
# Here the world outside answers, and not the request: what is raised below one of these is no client's fault.
OUTSIDE = re.compile(
    r"(os|posixpath|pathlib|shutil|tempfile|socket|ssl|http|urllib\.request|urllib3|requests|boto3|botocore|s3transfer|psycopg2"
    r"|sqlalchemy|importlib|_frozen_importlib|_frozen_importlib_external)(\.|$)"
)
# The driver itself is no Python, so this is where its errors begin; that of many rows at once has a helper that is.
DRIVEN_FROM = ("sqlalchemy.engine.default", "psycopg2.extras", "sqlalchemy.dialects.postgresql.psycopg2")
# The rules whose answers come from the artifact store as well.
ARTIFACTS = re.compile(r"artifact")
# What S3 says of an upload in parts, and what it comes to.
UPLOADS = {
    "NoSuchUpload": "RESOURCE_DOES_NOT_EXIST",
    # By its status, where its answer can't be read.
    "404": "RESOURCE_DOES_NOT_EXIST",
    "InvalidPart": "INVALID_PARAMETER_VALUE",
    "InvalidPartOrder": "INVALID_PARAMETER_VALUE",
    "EntityTooSmall": "INVALID_PARAMETER_VALUE",
    "MalformedXML": "INVALID_PARAMETER_VALUE",
}
UPLOAD_IN_PARTS = re.compile(r"/mlflow-artifacts/mpu/")
LONGEST_MESSAGE = 500
LONGEST_PATH = 200

_logger = logging.getLogger("uvicorn.error")


def _frames(error):
    """(module, file, line, function) of where it was raised, from the outside in."""
    found, traceback = [], error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        module = traceback.tb_frame.f_globals.get("__name__") or ""
        found.append((module, code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return found


def _is_odd_value(error):
    return isinstance(error, ODD_VALUES) or type(error).__name__ in ODD_NAMES


def _names_no_experiment(error):
    """Whether it is the request's experiment_id that is no number or not there, in the very line that failed."""
    traceback = error.__traceback__
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    known = traceback.tb_frame.f_locals
    if "experiment_id" in known:
        named = known["experiment_id"]
    elif hasattr(known.get("trace_info"), "experiment_id"):
        named = known["trace_info"].experiment_id
    else:
        return False
    if isinstance(error, TypeError):
        return named is None and str(error).startswith("int() argument")
    return isinstance(error, ValueError) and isinstance(named, str) and f"int() with base 10: {named!r}" in str(error)


def _is_no_text(error, frames):
    """Whether the driver could not write a value down, which it says by a ValueError where SQLAlchemy hands it a statement."""
    return isinstance(error, ValueError) and bool(frames) and frames[-1][0] in DRIVEN_FROM


def reason(error):
    """What was raised at first: MLflow's stores wrap what they do not expect in one of their own."""
    wrapped = getattr(error, "error_code", None) == "INTERNAL_ERROR" and error.__cause__ is not None
    return error.__cause__ if wrapped else error


def whose(error, asked, rule):
    """The error code for a request that is to blame for an error, or None where it is not.

    :arg asked: Whether the handler had asked the database anything by then.
    :arg rule: The rule of the route, which says what the operation is about.
    """
    first = reason(error)
    if UPLOAD_IN_PARTS.search(rule):
        if type(first).__name__ == "ParamValidationError":
            return "INVALID_PARAMETER_VALUE"
        response = getattr(first, "response", None)
        if isinstance(response, dict):
            return UPLOADS.get(response.get("Error", {}).get("Code"))
    frames = _frames(first)
    if getattr(first, "error_code", None) == "INTERNAL_ERROR" and frames:
        module, *_, function = frames[-1]
        if function in REFUSE_IN_WORDS or module.startswith(READERS):
            return "INVALID_PARAMETER_VALUE"
    if not _is_odd_value(first):
        return None
    if _is_no_text(first, frames):
        return "INVALID_PARAMETER_VALUE"
    modules = [module for module, *_ in frames]
    if any(OUTSIDE.match(module) for module in modules):
        return None
    functions = [function for *_, function in frames]
    is_read = (
        any(module.startswith(READERS) for module in modules)
        or any((module, function) == READS_THE_REQUEST for module, *_, function in frames)
        or any(above in functions and below in functions for above, below in READ_BELOW)
        or _names_no_experiment(first)
    )
    return "INVALID_PARAMETER_VALUE" if is_read or not (asked or ARTIFACTS.search(rule)) else None


def _place(error):
    """Where it was raised: the innermost line of MLflow's."""
    frames = _frames(error)
    own = [frame for frame in frames if frame[0].startswith("mlflow.")] or frames
    _, file, line, function = own[-1] if own else ("", "?", 0, "?")
    return f"{os.path.basename(file)}:{line} in {function}"


def _message(error):
    first = reason(error)
    if isinstance(first, (TypeError, AttributeError, LookupError, RecursionError)):
        # Python's own words are about MLflow's code, which is not what a client looks at.
        return "The request is malformed: a value is missing, or of another kind than this operation takes."
    if getattr(first, "error_code", None):
        # MLflow's own words, for its clients.
        return str(first)[:LONGEST_MESSAGE]
    if not _is_odd_value(first):
        return f"The artifact store refuses it: {first}"[:LONGEST_MESSAGE]
    return f"The request is malformed: {first}"[:LONGEST_MESSAGE]


def _tell(method, rule, error):
    # Never what it brought, which may be a password or as long as the journal.
    first = reason(error)
    _logger.warning("%s %s was malformed: %s at %s", method, rule, type(first).__name__, _place(first))


def answer_in_flask(flask_app, catch, exception, has_asked):
    """Let each of Flask's views, and each check before one, raise MLflow's own exception where the request is to blame.

    :arg catch: MLflow's decorator, which turns an exception of its own into an answer. It is on most views, and would make a
        500 of what is decided here.
    :arg exception: Makes one of MLflow's exceptions of a message and an error code.
    :arg has_asked: Two functions: one forgets that the database was asked in this request, one tells whether it was.
    """
    from flask import request
    from werkzeug.exceptions import HTTPException

    caught = catch(lambda: None).__code__
    forget, asked = has_asked

    def uncover(view):
        # Some views are only a call of a handler, which has the decorator in their place.
        code = getattr(view, "__code__", None)
        for name in code.co_names if code else ():
            handler = view.__globals__.get(name)
            # Not of others: Flask's request would be looked for.
            if type(handler) is FunctionType and handler.__code__ is caught:
                view.__globals__[name] = handler.__wrapped__

    def decided(call, begin, is_late):
        # Below MLflow's decorator, where the exception is still what it was.
        inner = call.__wrapped__ if getattr(call, "__code__", None) is caught else call

        @functools.wraps(inner)
        def look(*args, **kwargs):
            begin()
            try:
                return inner(*args, **kwargs)
            except HTTPException:
                raise
            except Exception as error:
                rule = request.url_rule.rule if request.url_rule else ""
                code = whose(error, is_late(), rule)
                if code is None:
                    raise
                _tell(request.method, rule, error)
                raise exception(_message(error), code) from error

        return catch(look)

    for endpoint, view in list(flask_app.view_functions.items()):
        uncover(view)
        flask_app.view_functions[endpoint] = decided(view, forget, asked)
    # The checks ask who it is and what he may, so of them only the readers are looked at.
    for checks in flask_app.before_request_funcs.values():
        checks[:] = [decided(check, lambda: None, lambda: True) for check in checks]


def answer_natively(fastapi_app):
    """The same for FastAPI's routes, of which only the readers are looked at: their checks ask the database before them."""
    from starlette.responses import Response

    def answer(request, error):
        # A route knows its own part of the path only. Line breaks and the like do not get here (http/routes.py).
        rule = request.url.path[:LONGEST_PATH]
        code = whose(error, True, rule)
        if code is None:
            raise error
        _tell(request.method, rule, error)
        return Response(
            json.dumps({"error_code": code, "message": _message(error)}), 400, media_type="application/json"
        )

    for kind in (ValueError, TypeError, LookupError, AttributeError):
        fastapi_app.add_exception_handler(kind, answer)


def _database_is_asked():
    """A pair of functions: one forgets that the database was asked in this request, one tells whether it was."""
    from flask import g, has_app_context
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "before_cursor_execute")
    def note(*_):
        if has_app_context():
            g.mlflow_asked = True

    def begin():
        g.mlflow_asked = False

    return begin, lambda: g.mlflow_asked


def answer_malformed_requests(flask_app, fastapi_app):
    """Answer what a client is to blame for with 400, and leave a line in the journal in place of a traceback."""
    from mlflow import exceptions
    from mlflow.protos.databricks_pb2 import ErrorCode
    from mlflow.server.handlers import catch_mlflow_exception

    def exception(message, code):
        return exceptions.MlflowException(message, ErrorCode.Value(code))

    answer_in_flask(flask_app, catch_mlflow_exception, exception, _database_is_asked())
    answer_natively(fastapi_app)
    # What was asked for is switched off: MLflow files that under what a client got wrong, and has no status for it.
    exceptions.ERROR_CODE_TO_HTTP_STATUS.setdefault("FEATURE_DISABLED", 400)
