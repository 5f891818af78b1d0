# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Traces by OpenTelemetry's own exporter: of those who may they arrive, MLflow's client finds them, and nobody waits for one."""

from __future__ import annotations

import gzip
import json
import logging

import pytest
from attacks import MIB, Repeating, holds, refused, works
from clients import API, API3, together
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

# The certificate that clients trust.
CERTIFICATE = "$(ls /etc/mlflow/tls/ca.crt /etc/mlflow/tls/server.crt 2>/dev/null | head -n 1)"
LOOK = """
import json, os
os.environ.update(json.loads({settings!r}))
from mlflow import MlflowClient

client = MlflowClient()
trace = client.get_trace({trace!r})
listed = client.search_traces(locations=[{experiment!r}])
print("FOUND", json.dumps({{
    "listed": [it.info.trace_id for it in listed],
    "state": str(trace.info.state),
    "spans": {{it.name: [it.attributes["text"], it.parent_id, [event.name for event in it.events]] for it in trace.data.spans}},
    "ids": {{it.name: it.span_id for it in trace.data.spans}},
}}))
"""


@pytest.fixture(scope="module")
def certificate(server, tmp_path_factory):
    file = tmp_path_factory.mktemp("traces") / "mlflow.pem"
    file.write_text(server.run(f"cat {CERTIFICATE}") + "\n")
    return file


@pytest.fixture
def exporter(server, certificate, monkeypatch):
    """OpenTelemetry's exporter, set up as docs/clients.md says."""
    monkeypatch.setenv("NO_PROXY", server.address)
    # These would be asked before the file that the exporter is given.
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)

    def make(user, experiment, compression=Compression.Gzip):
        return OTLPSpanExporter(
            endpoint=f"https://{server.address}/v1/traces", certificate_file=str(certificate), compression=compression,
            headers={**user.login, "x-mlflow-experiment-id": experiment}, timeout=30,
        )  # fmt: skip

    return make


def do_something(processor, text):
    """Two spans of one trace; MLflow's name of that."""
    provider = TracerProvider(resource=Resource.create({"service.name": "tests"}))
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("tests")
    with tracer.start_as_current_span("answer a question", attributes={"text": "größer als π?"}) as span:
        with tracer.start_as_current_span("look it up", attributes={"text": text}) as inner:
            inner.add_event("found", {"rank": 1})
    provider.shutdown()
    return f"tr-{span.get_span_context().trace_id:032x}"


@pytest.mark.parametrize(
    "compression, size",
    [(Compression.Gzip, 10), (Compression.Gzip, 3 * MIB), (Compression.Deflate, 3 * MIB), (Compression.NoCompression, 10)],
)
def test_traces_arrive(people, world, server, exporter, compression, size):
    text = "x" * size
    trace = do_something(BatchSpanProcessor(exporter(people.editor, world.experiment, compression)), text)
    works(people.reader.get(f"{API3}/traces/{trace}"))
    refused(people.without_rights.get(f"{API3}/traces/{trace}"), 403)
    settings = {
        "MLFLOW_TRACKING_URI": f"https://{server.address}",
        "MLFLOW_TRACKING_USERNAME": people.reader.username,
        "MLFLOW_TRACKING_PASSWORD": people.reader.password,
        "MLFLOW_TRACKING_SERVER_CERT_PATH": server.run(f"echo {CERTIFICATE}"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_PROXY": server.address,
        "GIT_PYTHON_REFRESH": "quiet",
    }
    program = LOOK.format(settings=json.dumps(settings), trace=trace, experiment=world.experiment)
    said = server.run(f"cd /tmp; /opt/mlflow/current/bin/python -P - <<'PROGRAM'\n{program}\nPROGRAM\n")
    found = json.loads(said.rpartition("FOUND ")[2])
    assert trace in found["listed"] and found["state"] == "OK"
    assert found["spans"] == {
        "answer a question": ["größer als π?", None, []],
        "look it up": [text, found["ids"]["answer a question"], ["found"]],
    }


WHO = {"reader": 403, "neighbour": 403, "without_rights": 403, "stranger": 401, "wrong password": 401}


@pytest.mark.parametrize("who", WHO)
def test_traces_of_others_do_not(people, world, exporter, caplog, who):
    user = people.editor.known_as("not the password") if who == "wrong password" else getattr(people, who)
    kept = InMemorySpanExporter()
    trace = do_something(BatchSpanProcessor(kept), "theirs")
    with caplog.at_level(logging.ERROR):
        result = exporter(user, world.experiment).export(kept.get_finished_spans())
    holds(result is SpanExportResult.FAILURE and str(WHO[who]) in caplog.text, caplog.text)
    refused(people.admin.get(f"{API3}/traces/{trace}"), 404)


def field(number, content):
    """A field of protocol buffers that has a length."""
    size, found = len(content), bytes([number << 3 | 2])
    while size > 0x7F:
        found, size = found + bytes([size & 0x7F | 0x80]), size >> 7
    return found + bytes([size]) + content


SPAN = field(1, b"t" * 16) + field(2, b"s" * 8) + field(5, b"step")
BOMBS = {
    "events": field(1, field(2, field(2, SPAN + field(11, b"") * 2_100_000))),
    # Each span is given what is said of its resource.
    "a resource": field(1, field(1, field(1, b"") * 20_000) + field(2, field(2, SPAN) * 20_000)),
    "values": field(1, field(2, field(2, SPAN + field(9, field(1, b"a") + field(2, field(5, field(1, b"") * 2_100_000)))))),
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_trace_that_becomes_too_much_is_refused_and_nobody_waits_for_it(people, world, server, what):
    bomb, user = gzip.compress(BOMBS[what], 6), people.neighbour
    headers = {"Content-Type": "application/x-protobuf", "X-Mlflow-Experiment-Id": world.neighbours, "Content-Encoding": "gzip"}
    memory = server.memory()

    def look():
        return people.owner.get(f"{API}/experiments/get", experiment_id=world.experiment)

    with Repeating(look, threads=2, pause=0.05) as others:
        answers = together([lambda: user.send("POST", "/v1/traces", headers, bomb)] * 4)
    for answer in answers:
        refused(answer, 413)
    grown = server.memory() - memory
    holds(grown < 256 * MIB, f"{grown / MIB:.0f} MiB more")
    for answer in others.answers:
        works(answer)
    slowest = max(answer.seconds for answer in others.answers)
    holds(slowest < 5, f"somebody waited for {slowest:.1f} s")
