# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whose fault an error is: the request's, which is answered with 400, or the server's, which stays what it is."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask import Flask, Response, abort, request
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.http import malformed  # noqa: E402
from mlflow_service.http.malformed import answer_in_flask, answer_natively, whose  # noqa: E402

RULE, MPU = "/api/3.0/mlflow/issues", "/api/2.0/mlflow-artifacts/mpu/abort/<path:artifact_path>"
MALFORMED, GONE = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"


class MlflowException(Exception):
    """MLflow's own, as far as it is used."""

    STATUSES = {MALFORMED: 400, GONE: 404, "INTERNAL_ERROR": 500, "INVALID_STATE": 500}

    def __init__(self, message, error_code="INTERNAL_ERROR"):
        super().__init__(message)
        self.error_code = error_code


def catch_mlflow_exception(func):
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        try:
            return func(*args, **kwargs)
        except MlflowException as error:
            return Response(
                json.dumps({"error_code": error.error_code, "message": str(error)}),
                MlflowException.STATUSES[error.error_code],
            )

    return wrapper


def in_module(name, source, **known):
    """The function f of a module of that name."""
    space = {"__name__": name, **known}
    exec(compile(source, f"/somewhere/{name.rpartition('.')[2]}.py", "exec"), space)
    return space["f"]


def raised(call, *args):
    try:
        call(*args)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def wrapped(error):
    """As MLflow's stores do with what they do not expect."""
    try:
        raise MlflowException(str(error)) from error
    except MlflowException as outer:
        return outer


handler = in_module("mlflow.server.handlers", "def f(call, *args): return call(*args)")
store = in_module("mlflow.store.tracking.sqlalchemy_store", "def f(call, *args): return call(*args)")
reads_tokens = in_module("mlflow.utils.search_utils", "def f(text): return text.encode('ascii')")
reads_a_row = in_module("mlflow.store.tracking.dbmodels.models", "def f(text): return int(text)")
ODD = [
    lambda: int("x"), lambda: {}["x"], lambda: None.get("x"), lambda: len(None), lambda: json.loads("x"), lambda: [][0],
    lambda: "ü".encode("ascii"), lambda: int("9" * 9) ** 0.5 / 0,
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_before_the_database_is_asked_only_the_request_is_known(odd):
    error = raised(handler, odd)
    assert whose(error, False, RULE) == MALFORMED and whose(wrapped(error), False, RULE) == MALFORMED
    # Afterwards it may as well be a row, and with artifacts what the store has answered.
    assert whose(error, True, RULE) is None and whose(wrapped(error), True, RULE) is None
    assert whose(error, False, "/get-artifact") is None


def test_what_reads_the_request_is_named():
    """Also of artifacts, of which the store may have answered by then, but never in here."""
    reads = in_module("mlflow.server.handlers", "def _get_request_message(call): return call()\nf = _get_request_message")
    for odd in ODD:
        assert whose(raised(reads, odd), True, MPU.replace("abort", "create")) == MALFORMED
    elsewhere = in_module("mlflow.store.x", "def _get_request_message(call): return call()\nf = _get_request_message")
    assert whose(raised(elsewhere, ODD[0]), True, RULE) is None


def test_an_experiment_that_is_not_named_is_the_requests():
    looks = in_module("mlflow.store.tracking.sqlalchemy_store", "def f(experiment_id): return int(experiment_id)")
    assert whose(raised(looks, None), True, RULE) == MALFORMED
    of_a_trace = in_module("mlflow.store.tracking.sqlalchemy_store", "def f(trace_info): return int(trace_info.experiment_id)")
    assert whose(wrapped(raised(of_a_trace, SimpleNamespace(experiment_id=None))), True, RULE) == MALFORMED
    other = in_module("mlflow.store.tracking.sqlalchemy_store", "def f(row): return int(row)")
    assert whose(raised(other, None), True, RULE) is None


@pytest.mark.parametrize(
    "module, function",
    [
        ("mlflow.store.tracking.sqlalchemy_store", "_get_orderby_clauses"),
        ("mlflow.store.model_registry.sqlalchemy_store", "_parse_search_registered_models_order_by"),
        ("mlflow.store.model_registry.sqlalchemy_store", "_parse_search_model_versions_order_by"),
        ("mlflow.store.model_registry.sqlalchemy_store", "transition_model_version_stage"),
        ("mlflow.utils.search_utils", "is_attribute"),
        ("mlflow.store.artifact.utils.models", "_parse_model_uri"),
    ],
)
def test_what_mlflow_refuses_in_its_own_words_is_the_requests(module, function):
    """As an order that names a field twice: it is answered as a fault of the server's."""
    source = "def {0}(error): raise error\nf = {0}"
    orders = in_module(module, source.format(function))
    other = in_module("mlflow.store.tracking.sqlalchemy_store", source.format("_get_sqlalchemy_clauses"))
    twice = MlflowException("`order_by` contains duplicate fields")
    assert whose(raised(orders, twice), True, RULE) == MALFORMED
    assert malformed._message(twice) == str(twice)
    assert whose(raised(other, MlflowException("x")), True, RULE) is None
    assert whose(raised(orders, MlflowException("x", "INVALID_STATE")), True, RULE) is None


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), OSError("x"), MemoryError(), NotImplementedError(), MlflowException("x")]
)
def test_what_is_no_odd_value_is_the_servers(error):
    assert whose(error, False, RULE) is None


def test_mlflows_own_answers_stay():
    """Such as INVALID_STATE, which is mostly bad data in the database, whatever was its cause."""
    cause = raised(handler, ODD[0])
    error = wrapped(cause)
    error.error_code = "INVALID_STATE"
    assert whose(error, False, RULE) is None


@pytest.mark.parametrize(
    "module", ["os", "botocore.client", "sqlalchemy.engine.base", "psycopg2.pool", "importlib", "urllib3.util"]
)
def test_what_the_world_outside_answers_is_the_servers(module):
    error = raised(handler, in_module(module, "def f(): raise ValueError('x')"))
    assert whose(error, False, RULE) is None
    # Names that only begin like one of these are others.
    assert whose(raised(handler, in_module("oscar", "def f(): raise ValueError('x')")), False, RULE) == MALFORMED


@pytest.mark.parametrize("value", ["a\0b", "\ud800"], ids=["NUL", "half a character"])
def test_a_text_that_the_database_has_none_for_is_the_requests(server, value):
    """Whenever it comes: nothing that is stored is such a text."""
    engine = create_engine(f"postgresql+psycopg2://mlflow@/postgres?host={server}")
    with engine.connect() as connection:
        error = raised(store, lambda: connection.execute(text("SELECT :value"), {"value": value}))
        # What it can't do with a value that the server has put together is its own.
        other = raised(store, lambda: connection.execute(text("SELECT :value"), {"value": object()}))
    engine.dispose()
    assert whose(error, True, RULE) == MALFORMED and whose(wrapped(error), True, RULE) == MALFORMED
    assert whose(other, True, RULE) is None


def test_and_so_it_is_where_many_rows_are_changed_at_once(server, plugin_of_stores):
    engine = create_engine(f"postgresql+psycopg2://mlflow@/postgres?host={server}&plugin=mlflow_server")
    with engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE tags (key text, value text)"))
        rows = [{"key": key, "value": "a\0b"} for key in ("a", "b")]
        error = raised(store, lambda: connection.execute(text("UPDATE tags SET value = :value WHERE key = :key"), rows))
    engine.dispose()
    assert whose(wrapped(error), True, RULE) == MALFORMED


def test_a_variable_of_the_environment_that_is_missing_is_the_servers():
    import os

    assert whose(raised(handler, lambda: os.environ["MLFLOW_NOT_THERE"]), False, RULE) is None


def test_what_only_reads_a_clients_words_may_do_so_late():
    assert whose(wrapped(raised(store, reads_tokens, "ü")), True, RULE) == MALFORMED
    assert whose(wrapped(raised(store, reads_a_row, "x")), True, RULE) is None


def test_what_reads_for_others_too_is_known_by_who_calls_it():
    source = "def {0}(call): return call()\nf = {0}"
    register = in_module("mlflow.store.tracking.sqlalchemy_store", source.format("register_scorer"))
    lists = in_module("mlflow.store.tracking.sqlalchemy_store", source.format("list_scorers"))
    reads = in_module("mlflow.genai.scorers.scorer_utils", "def extract_model_from_serialized_scorer(): return (4).get\n"
                      "f = extract_model_from_serialized_scorer")  # fmt: skip
    assert whose(wrapped(raised(register, reads)), True, RULE) == MALFORMED
    assert whose(wrapped(raised(lists, reads)), True, RULE) is None


def test_an_experiment_that_is_no_number_is_the_requests():
    store = in_module(
        "mlflow.store.tracking.sqlalchemy_store", "def f(experiment_id, row): return int(experiment_id), int(row)"
    )
    assert whose(wrapped(raised(store, "", "1")), True, RULE) == MALFORMED
    assert whose(wrapped(raised(store, "1", "x")), True, RULE) is None


class Refused(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


@pytest.mark.parametrize(
    "code, answer",
    # A store that answers nothing but its status, or what can't be read, is named by that.
    [("NoSuchUpload", GONE), ("404", GONE), ("InvalidPart", MALFORMED), ("InvalidPartOrder", MALFORMED), ("AccessDenied", None),
     ("NoSuchBucket", None), ("SlowDown", None)],
)  # fmt: skip
def test_what_s3_says_of_an_upload_in_parts(code, answer):
    assert whose(Refused(code), True, MPU) == answer
    assert whose(Refused(code), True, "/get-artifact") is None


# --- in Flask --------------------------------------------------------------------------------------------------------


class Asked:
    """Whether the database was asked, by hand."""

    def __init__(self):
        self.asked = False

    def forget(self):
        self.asked = False


@pytest.fixture
def database():
    return Asked()


@pytest.fixture
def client(database):
    app = Flask("mlflow")

    def ask():
        database.asked = True

    @app.before_request
    @catch_mlflow_exception
    def check():
        ask()
        if request.args.get("check") == "late":
            reads_tokens("ü")
        if request.args.get("check") == "odd":
            raise ValueError("a row")

    @app.route("/early", methods=["GET", "POST"])
    @catch_mlflow_exception
    def early():
        return handler(lambda: request.get_json(force=True, silent=True).get("query"))

    @app.route("/late")
    @catch_mlflow_exception
    def late():
        ask()
        raise wrapped(raised(reads_a_row, "secret"))

    @app.route("/token")
    @catch_mlflow_exception
    def token():
        ask()
        raise wrapped(raised(reads_tokens, "ü"))

    @catch_mlflow_exception
    def token_handler():
        ask()
        raise wrapped(raised(reads_tokens, "ü"))

    app.add_url_rule("/thin", "thin", in_module("mlflow.server", "def f(): return handler()", handler=token_handler))

    @app.route("/bare/<name>")
    def bare(name):
        return handler(int, name)

    @app.route("/refused")
    @catch_mlflow_exception
    def refused():
        raise MlflowException("not there", GONE)

    @app.route("/stopped")
    def stopped():
        abort(413)

    @app.route("/key")
    def key():
        return request.args["x"]

    answer_in_flask(app, catch_mlflow_exception, MlflowException, (database.forget, lambda: database.asked))
    return app.test_client()


def test_a_view_that_only_calls_a_handler_answers_400_too(client):
    assert client.get("/thin").status_code == 400


def test_a_view_that_can_not_read_the_request_answers_400_and_leaves_a_line(client, caplog):
    with caplog.at_level(logging.WARNING):
        answer = client.post("/early", data="secret", content_type="application/json")
    assert answer.status_code == 400 and answer.get_json(force=True)["error_code"] == MALFORMED
    assert [record.getMessage().split(" at ")[0] for record in caplog.records] == [
        "POST /early was malformed: AttributeError"
    ]
    assert "secret" not in caplog.text and "Traceback" not in caplog.text


def test_a_good_request_is_carried_out(client):
    assert client.post("/early", json={"query": "x"}).data == b"x"


def test_a_fault_of_the_server_stays_one_and_keeps_its_traceback(client, caplog):
    assert client.get("/late").status_code == 500
    assert client.get("/early?check=odd", json={"query": "x"}).status_code == 500
    assert "ValueError: a row" in caplog.text


def test_what_the_store_wrapped_is_looked_at_before_mlflow_makes_an_answer_of_it(client):
    assert client.get("/token").status_code == 400


def test_a_view_without_mlflows_decorator_is_looked_at_too(client):
    assert client.get("/bare/x").status_code == 400 and client.get("/bare/x").get_json(force=True)["message"].endswith(
        "'x'"
    )


def test_the_checks_before_a_view_have_asked_already(client):
    assert client.get("/early?check=late").status_code == 400


def test_other_answers_stay(client):
    assert (
        client.get("/refused").status_code == 404
        and client.get("/refused").get_json(force=True)["message"] == "not there"
    )
    assert (
        client.get("/stopped").status_code == 413
        and client.get("/key").status_code == 400
        and client.get("/x").status_code == 404
    )


# --- in FastAPI ------------------------------------------------------------------------------------------------------


def test_natively_only_the_readers_are_looked_at(monkeypatch):
    class Answer:
        def __init__(self, content, status_code, media_type):
            self.status_code, self.content = status_code, json.loads(content)

    monkeypatch.setitem(sys.modules, "starlette", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "starlette.responses", SimpleNamespace(Response=Answer))
    handlers = {}
    answer_natively(SimpleNamespace(add_exception_handler=handlers.__setitem__))
    asked = SimpleNamespace(method="GET", url=SimpleNamespace(path="/api/3.0/mlflow/mcp-servers"))
    answer = handlers[ValueError](asked, raised(reads_tokens, "ü"))
    answer = asyncio.run(answer) if asyncio.iscoroutine(answer) else answer
    assert answer.status_code == 400 and answer.content["error_code"] == MALFORMED
    fault = raised(handler, ODD[0])
    with pytest.raises(ValueError) as again:
        handlers[ValueError](asked, fault)
    assert again.value is fault


def test_the_modules_that_read_are_named_whole():
    assert all(name.startswith("mlflow.utils.") for name in malformed.READERS)


def test_a_place_is_the_innermost_line_of_mlflows():
    raises = in_module("json.decoder", "def f(): raise ValueError('x')")
    middle = in_module("mlflow.store.tracking.sqlalchemy_store", "def f(call, *args):\n\n  return call(*args)")
    assert malformed._place(raised(handler, middle, raises)) == "sqlalchemy_store.py:3 in f"
    # Where nothing of it is MLflow's, it is where it was raised, and where it was not raised at all, nobody knows.
    assert malformed._place(raised(raises)) == "decoder.py:1 in f"
    assert malformed._place(ValueError("x")) == "?:0 in ?"


def test_what_mlflow_refuses_is_known_by_where_it_was_raised_and_not_by_who_called():
    source = "def {0}(call, *args): return call(*args)\nf = {0}"
    orders = in_module("mlflow.store.tracking.sqlalchemy_store", source.format("_get_orderby_clauses"))

    def fails():
        raise MlflowException("the server's")

    assert whose(raised(handler, orders, store, fails), True, RULE) is None
    refuses = in_module("mlflow.store.tracking.sqlalchemy_store", "def _parse_model_uri(e): raise e\nf = _parse_model_uri")
    assert whose(raised(handler, store, refuses, MlflowException("x")), True, RULE) == MALFORMED


def test_in_a_request_it_is_known_whether_the_database_was_asked_by_then(listeners):
    forget, asked = malformed._database_is_asked()
    with create_engine("sqlite://").connect() as connection:
        # Outside of a request nobody asks.
        connection.execute(text("SELECT 1"))
        with Flask("mlflow").app_context():
            forget()
            assert asked() is False
            connection.execute(text("SELECT 1"))
            assert asked() is True
            forget()
            assert asked() is False
    assert [listener[0] for listener in listeners] == [Engine]
