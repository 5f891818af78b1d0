# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""MLflow's store of runs with the ways of compat/store.py and without, on the same database: what they answer has to be
the same, and what they ask the database less. Run as the service's user with the venv's Python and the service's settings.
"""

import os
import secrets
import time
from contextlib import contextmanager

from mlflow.entities import Dataset, DatasetInput, ExperimentTag, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow_service.compat.store import ask_for_no_inputs_of_a_new_run, read_without_a_transaction
from sqlalchemy import event

stores = {name: SqlAlchemyStore(os.environ["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/") for name in ("plain", "short")}
read_without_a_transaction(stores["short"])
ask_for_no_inputs_of_a_new_run(stores["short"])
asked = []


def note(connection, _cursor, _statement, *_rest):
    asked.append(connection.connection.dbapi_connection.autocommit)


for engine in {store.engine for store in stores.values()}:
    event.listen(engine, "before_cursor_execute", note)


@contextmanager
def statements(autocommit):
    asked.clear()
    yield
    assert asked and set(asked) == {autocommit}, f"statements without a transaction: {asked}"


def answer(store, call, *arguments):
    try:
        found = getattr(store, call)(*arguments)
    except MlflowException as error:
        return error.error_code
    return found and found.to_proto().SerializeToString(deterministic=True)


def same(call, *arguments):
    """What one of READS answers by both ways."""
    wanted = answer(stores["plain"], call, *arguments)
    plain = len(asked)
    with statements(autocommit=True):
        got = answer(stores["short"], call, *arguments)
    assert got == wanted, f"{call}{arguments}: {got} and not {wanted}"
    assert len(asked) <= plain, f"{call}: {len(asked)} statements, {plain} without the shortcuts"
    asked.clear()


def create_run(store):
    return store.create_run(experiment, "somebody", int(time.time() * 1000), [RunTag("color", "blue")], "run")


again = secrets.token_hex(4)
tags = [ExperimentTag("team", "a"), ExperimentTag("größe", "2")]
experiment = stores["plain"].create_experiment(f"shortcuts-{again}", None, tags)
deleted = stores["plain"].create_experiment(f"shortcuts-{again}-deleted")
stores["plain"].delete_experiment(deleted)

asked.clear()
made = {"plain": create_run(stores["plain"])}
plain = len(asked)
asked.clear()
made["short"] = create_run(stores["short"])
assert len(asked) < plain, f"runs/create: {len(asked)} statements, {plain} without the shortcuts"
for run in made.values():
    assert run.data.tags == {"color": "blue", "mlflow.runName": "run"} and not run.inputs.dataset_inputs, run.to_dictionary()

run_id = made["short"].info.run_id
metrics = [Metric("loss", 0.5, 1, 0), Metric("loss", 0.25, 2, 1)]
stores["short"].log_batch(run_id, metrics, [Param("depth", "3")], [RunTag("a", "b")])
dataset = DatasetInput(Dataset("rows", "abc", "local", "{}"), [InputTag("mlflow.data.context", "training")])
stores["short"].log_inputs(run_id, [dataset])
assert len(stores["short"].get_run(run_id).inputs.dataset_inputs) == 1

asked.clear()
for number in ("0", experiment, deleted, "999999999"):
    same("get_experiment", number)
for name in ("Default", f"shortcuts-{again}", f"shortcuts-{again}-deleted", "nothing"):
    same("get_experiment_by_name", name)
for number in (run_id, made["plain"].info.run_id, "0" * 32):
    same("get_run", number)

# Writes are transactions, as they were.
with statements(autocommit=False):
    stores["short"].set_tag(run_id, RunTag("c", "d"))
stores["plain"].delete_experiment(experiment)
