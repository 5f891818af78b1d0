# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Execute one scorer that a user has written: python -m mlflow_service.jobs.sandbox, which is mlflow-scorer@.service.

It has nothing but its standard input and output, which are the connection of a job (scorers.py). What the code prints goes to
the journal.
"""

import json
import os
import sys


def unpacked(about):
    from mlflow.entities import Trace
    from mlflow.entities.session import Session

    if "trace" in about:
        return Trace.from_json(about["trace"])
    if "session" in about:
        return Session([Trace.from_json(it) for it in about["session"]])
    if "traces" in about:
        return [Trace.from_json(it) for it in about["traces"]]
    return about["value"]


def packed(value):
    from mlflow.entities import Assessment

    if isinstance(value, Assessment):
        return {"feedback": value.to_dictionary()}
    if isinstance(value, list) and all(isinstance(it, Assessment) for it in value):
        return {"feedbacks": [it.to_dictionary() for it in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"a scorer must return int, float, bool, str, Feedback or a list of Feedback, not {type(value).__name__}")


def answer(function, arguments):
    try:
        return packed(function(**{name: unpacked(value) for name, value in arguments.items()}))
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    from mlflow.genai.scorers.scorer_utils import recreate_function

    # The code's own prints must not be taken for answers.
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    about = json.loads(calls.readline())
    function = broken = None
    try:
        function = recreate_function(about["source"], about["signature"], about["name"])
    except BaseException as error:
        broken = {"error": f"{type(error).__name__}: {error}"}
    for line in calls:
        answers.write(json.dumps(broken or answer(function, json.loads(line)["arguments"])).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    sys.exit(main())
