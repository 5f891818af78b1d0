# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Jobs: one host of a deployment runs them, and what users wrote is executed elsewhere."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
import types
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.compat import jobs  # noqa: E402
from mlflow_service.database import client  # noqa: E402
from mlflow_service.http.routes import Routes  # noqa: E402
from mlflow_service.jobs import __main__ as runner  # noqa: E402
from mlflow_service.jobs import job, scorers  # noqa: E402

# --- who runs them ---


@pytest.fixture
def connect(server):
    made = []

    def connect():
        made.append(client.connect(f"host={server} user=mlflow dbname=postgres"))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


def clock():
    now = [0.0]
    return now, lambda: now[0]


def test_one_host_runs_them_and_another_takes_over(connect):
    first, second = runner.Turn(connect, 60), runner.Turn(connect, 60)
    assert first.take() and not second.take()
    first._connection.close()
    deadline = time.monotonic() + 5
    while not second.take():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_session_is_made_anew_and_no_other_host_comes_between(connect):
    """As a rotation of the password wants it."""
    now, ticks = clock()
    here, there = runner.Turn(connect, 60, ticks), runner.Turn(connect, 60, ticks)
    assert here.take()
    stop, got = threading.Event(), []

    def tries():
        while not stop.is_set():
            got.append(there._connection.execute("SELECT pg_try_advisory_lock(%s)", (runner.LOCK,)).fetchone()[0])

    other = threading.Thread(target=tries)
    other.start()
    sessions = set()
    try:
        for _ in range(5):
            sessions.add(here._connection.info.backend_pid)
            now[0] += 61
            here.keep()
    finally:
        stop.set()
        other.join()
    assert len(sessions) == 5 and len(got) > 5 and not any(got)
    # Who waits is made anew as well.
    before = there._connection.info.backend_pid
    assert not there.take() and there._connection.info.backend_pid != before


@pytest.mark.parametrize("late", [0, 61])
def test_whoever_may_have_lost_it_stops_to_run_jobs(connect, capsys, late):
    now, ticks = clock()
    turn = runner.Turn(connect, 60, ticks)
    assert turn.take()
    connect().execute("SELECT pg_terminate_backend(%s)", (turn._connection.info.backend_pid,))
    now[0] += late
    stop = threading.Event()
    assert runner.keep_turn(turn, stop, every=0.01) is False and stop.is_set()
    assert "may not be the one that runs jobs any more" in capsys.readouterr().err


def test_whoever_is_told_to_stop_has_lost_nothing(connect):
    turn, stop = runner.Turn(connect, 60), threading.Event()
    assert turn.take()
    threading.Timer(0.1, stop.set).start()
    assert runner.keep_turn(turn, stop, every=0.01) is True


def test_the_keys_are_what_systemd_has_handed_over(tmp_path):
    assert job.keys(None) == job.keys(tmp_path) == {}
    (tmp_path / "jobs-credentials").write_text('{"OPENAI_API_KEY": "x"}')
    assert job.keys(tmp_path) == {"OPENAI_API_KEY": "x"}


JOBS = [("/ajax-api/3.0/mlflow/scorer/invoke", "POST"), ("/ajax-api/3.0/mlflow/genai/evaluate/invoke", "POST"),
        ("/ajax-api/3.0/mlflow/jobs/<job_id>", "GET"), ("/ajax-api/3.0/mlflow/jobs/cancel/<job_id>", "PATCH")]  # fmt: skip


@pytest.mark.parametrize(("told", "there"), [("jobs", True), ("webhooks jobs", True), ("webhooks", False), (None, False)])
def test_jobs_are_started_only_where_somebody_runs_them(monkeypatch, told, there):
    monkeypatch.delenv("MLFLOW_SERVER_OPENED", raising=False)
    if told:
        monkeypatch.setenv("MLFLOW_SERVER_OPENED", told)
    routes = Routes()
    assert {routes.flask_is_open(rule, rule, method) for rule, method in JOBS} == {there}
    # These look at nothing of what a job is given.
    for rule in ("/ajax-api/3.0/jobs/", "/ajax-api/3.0/mlflow/issues/invoke", "/api/3.0/mlflow/prompt-optimization/jobs"):
        assert not routes.flask_is_open(rule, rule, "POST") and not routes.native_is_open(rule, "POST")


# --- what users wrote ---


@pytest.mark.parametrize(
    ("signature", "given", "arguments"),
    [
        ("(inputs, outputs)", {"inputs": 1, "outputs": 2}, {"inputs": 1, "outputs": 2}),
        ("(*, outputs=open('/etc/passwd').read(), trace=None)", {"trace": 3}, {"trace": 3}),
        ("(outputs: os.system('x'), /, **more) -> os.system('y')", {}, None),
        ("(outputs, expectations=None)", {"outputs": 1}, {"outputs": 1}),
    ],
)
def test_of_a_signature_nothing_is_evaluated(signature, given, arguments):
    found = scorers.parameters(signature)
    if arguments is not None:
        assert found.bind(**given).arguments == arguments
    assert list(found.parameters)[0] in ("inputs", "outputs")


@pytest.fixture
def sandbox(tmp_path):
    """Answers each line of a connection by a function, as long as that gives an answer."""
    address, seen = str(tmp_path / "socket"), []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    answers = []

    def serve(connection):
        with connection, connection.makefile("rwb") as stream:
            about = json.loads(stream.readline())
            seen.append(about)
            for line in stream:
                said = answers[0](json.loads(line)["arguments"])
                if said is None:
                    return
                stream.write(said)
                stream.flush()

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()

    def make(answer, seconds=5.0):
        answers[:] = [answer]
        return scorers.Sandbox("return 1", "(a)", "mine", address, seconds)

    make.seen = seen
    yield make
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def line(**said):
    return json.dumps(said).encode() + b"\n"


def test_a_scorer_has_one_sandbox_for_all_of_its_calls(sandbox):
    made = sandbox(lambda arguments: line(value=arguments["a"] + 1))
    assert [made.call({"a": number})["value"] for number in range(3)] == [1, 2, 3]
    assert sandbox.seen == [{"source": "return 1", "signature": "(a)", "name": "mine"}]


@pytest.mark.parametrize("said", [None, b"no json\n", b"[1]\n", b'{"value": 1}'])
def test_a_sandbox_that_ends_or_says_something_odd_ends_one_call_and_not_the_job(sandbox, said):
    left = [said]
    made = sandbox(lambda arguments: left.pop() if left else line(value=2))
    if said == b'{"value": 1}':
        # It hangs in the middle of its answer.
        made._seconds = 0.3
    with pytest.raises(scorers.ScorerFailed, match="The sandbox has ended the scorer"):
        made.call({"a": 1})
    assert made.call({"a": 1}) == {"value": 2} and len(sandbox.seen) == 2


def test_what_the_code_raises_is_told_and_no_longer_than_somebody_reads(sandbox):
    made = sandbox(lambda arguments: line(error="ValueError: " + "x" * 10_000))
    with pytest.raises(scorers.ScorerFailed, match="^ValueError: x{100}") as raised:
        made.call({"a": 1})
    assert len(str(raised.value)) == 4000


def test_without_a_sandbox_nothing_is_executed(tmp_path):
    with pytest.raises(scorers.ScorerFailed, match="There is no sandbox for scorers of users: No such file"):
        scorers.Sandbox("raise SystemExit", "()", "mine", str(tmp_path / "nowhere")).call({})


@pytest.mark.parametrize("answer", [{"value": [1]}, {"value": {"a": 1}}])
def test_an_answer_that_is_no_score_is_none(monkeypatch, answer):
    for name in ("mlflow", "mlflow.entities"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["mlflow.entities"].Assessment = object
    with pytest.raises(scorers.ScorerFailed, match="no score"):
        scorers.unpacked(answer)
    assert [scorers.unpacked({"value": it}) for it in (True, 1, 0.5, "a", None)] == [True, 1, 0.5, "a", None]


def test_where_code_is_kept_out_mlflow_makes_no_function_of_it(monkeypatch):
    made = types.SimpleNamespace(recreate_function=exec)
    for name in ("mlflow", "mlflow.genai"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "mlflow.genai.scorers", types.SimpleNamespace(scorer_utils=made))
    jobs.keep_code_out(jobs.refused)
    with pytest.raises(RuntimeError, match="executed for jobs alone"):
        made.recreate_function("raise SystemExit", "()", "mine")
    # What a job has in its place is called as the function would be, and executes nothing here.
    jobs.keep_code_out(scorers.standing_in)
    stands = made.recreate_function("raise SystemExit", "(outputs, trace=None)", "mine")
    assert stands.__name__ == "mine" and list(stands.__signature__.parameters) == ["outputs", "trace"]


def test_the_lock_is_of_the_database_and_not_of_another_program():
    from mlflow_service.database import archive, gc, prepare

    assert len({runner.LOCK, archive.LOCK, gc.LOCK, prepare.LOCK}) == 4
