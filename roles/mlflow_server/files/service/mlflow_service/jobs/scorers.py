# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Scorers that users have written, as a job sees them: what stands in for the function sends what it is called with to a sandbox.

A job has the database's login and the rights on the bucket, since MLflow's jobs do their work there and not by the server. Code
of a user's in that process could do whatever the server may. So it is executed elsewhere (sandbox.py): behind a socket at
which systemd starts a process for each connection, under a user that exists for nothing else, without a network and without
sight of what the service has.

A connection has the source once, and then one call after the other, each a line of JSON in either direction.
"""

import ast
import inspect
import json
import socket
import threading

SOCKET = "/run/mlflow/scorer.sock"
# How long one call may take; MLflow's own limit for a scorer, if it is shorter, comes before.
SECONDS = 600.0
LONGEST = 64 << 20
# For an argument that is left out where the user's function has something for it.
OMITTED = object()


class ScorerFailed(Exception):
    """What the user's code has raised, or the sandbox instead."""


def parameters(signature):
    """The parameters of a signature as text, of which nothing is evaluated."""
    arguments = ast.parse(f"def scorer{signature}: pass").body[0].args
    kinds = inspect.Parameter
    found = []
    plain = [(argument, kinds.POSITIONAL_ONLY) for argument in arguments.posonlyargs]
    plain += [(argument, kinds.POSITIONAL_OR_KEYWORD) for argument in arguments.args]
    without = len(plain) - len(arguments.defaults)
    for number, (argument, kind) in enumerate(plain):
        found.append(kinds(argument.arg, kind, default=OMITTED if number >= without else kinds.empty))
    if arguments.vararg:
        found.append(kinds(arguments.vararg.arg, kinds.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append(kinds(argument.arg, kinds.KEYWORD_ONLY, default=OMITTED if default else kinds.empty))
    if arguments.kwarg:
        found.append(kinds(arguments.kwarg.arg, kinds.VAR_KEYWORD))
    return inspect.Signature(found)


class Sandbox:
    """One scorer in a process of its own, which ends with the connection."""

    def __init__(self, source, signature, name, address=None, seconds=SECONDS):
        self._about = {"source": source, "signature": signature, "name": name}
        self._address, self._seconds = address or SOCKET, seconds
        self._lock = threading.Lock()
        self._stream = None

    def _open(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._seconds)
        try:
            connection.connect(self._address)
        except OSError as error:
            connection.close()
            raise ScorerFailed(f"There is no sandbox for scorers of users: {error.strerror or error}.") from None
        self._stream = connection.makefile("rwb")
        connection.close()
        self._write(self._about)

    def _write(self, what):
        self._stream.write(json.dumps(what).encode() + b"\n")
        self._stream.flush()

    def call(self, arguments):
        """The answer to one call, by the kind of what it is."""
        with self._lock:
            try:
                if self._stream is None:
                    self._open()
                self._write({"arguments": arguments})
                line = self._stream.readline(LONGEST)
                answer = json.loads(line) if line.endswith(b"\n") else None
            except (OSError, ValueError) as error:
                answer, line = None, str(error).encode()
            if not isinstance(answer, dict):
                # Where it was too large, too slow or ended by the kernel; the next call gets another one.
                self._close()
                raise ScorerFailed("The sandbox has ended the scorer: it was too slow, or took too much memory.")
        if "error" in answer:
            raise ScorerFailed(str(answer["error"])[:4000])
        return answer

    def _close(self):
        if self._stream is not None:
            try:
                self._stream.close()
            except OSError:
                pass
        self._stream = None


def packed(value):
    """What a scorer is called with, as JSON that says what it is."""
    from mlflow.entities import Trace
    from mlflow.entities.session import Session

    if isinstance(value, Trace):
        return {"trace": value.to_json()}
    if isinstance(value, Session) or (isinstance(value, list) and value and all(isinstance(it, Trace) for it in value)):
        return {"session" if isinstance(value, Session) else "traces": [trace.to_json() for trace in value]}
    return {"value": json.loads(json.dumps(value, default=str))}


def unpacked(answer):
    """What a scorer has answered. Nothing in it is more than data."""
    from mlflow.entities import Assessment

    if "feedback" in answer:
        return Assessment.from_dictionary(answer["feedback"])
    if "feedbacks" in answer:
        return [Assessment.from_dictionary(it) for it in answer["feedbacks"]]
    value = answer.get("value")
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ScorerFailed("The scorer has answered something that is no score.")
    return value


def standing_in(source, signature, func_name):
    """What MLflow takes for the user's function."""
    found = parameters(signature)
    sandbox = Sandbox(source, signature, func_name)

    def scorer(*positional, **named):
        given = found.bind(*positional, **named).arguments
        return unpacked(sandbox.call({name: packed(value) for name, value in given.items() if value is not OMITTED}))

    scorer.__name__ = scorer.__qualname__ = func_name
    scorer.__signature__ = found
    return scorer
