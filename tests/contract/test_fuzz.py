# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What bench/_fuzz.py works out by itself: how requests are about what is there, and what counts as a fault."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import _fuzz  # noqa: E402

KNOWN = {"run_id": ["a"], "experiment_id": ["1"], "artifact_path": ["x"]}
TEXT = {"type": "string"}


def test_fields_of_a_known_name_get_what_is_there():
    body = {"type": "object", "properties": {"run_uuid": TEXT, "experiment_ids": {"type": "array", "items": TEXT}, "other": TEXT}}
    document = {"paths": {"/{run_id}": {"get": {"parameters": [{"name": "run_id", "in": "path", "schema": TEXT}], "body": body}}}}
    changed = _fuzz.names_known(document, KNOWN)["paths"]["/{run_id}"]["get"]
    assert changed["parameters"][0]["schema"]["enum"] == ["a"]
    fields = changed["body"]["properties"]
    assert fields["run_uuid"]["enum"] == ["a"] and fields["experiment_ids"]["items"]["enum"] == ["1"] and fields["other"] == TEXT
    assert "enum" not in document["paths"]["/{run_id}"]["get"]["parameters"][0]["schema"]


def test_addresses_lead_nowhere():
    properties = {name: TEXT for name in ("url", "source", "artifact_location", "base_url", "artifact_uri")}
    changed = _fuzz.names_known({"properties": properties}, KNOWN)["properties"]
    assert all(schema["enum"] == _fuzz.NOWHERE for schema in changed.values())


def test_a_traceback_counts_by_its_last_line():
    journal = """Traceback (most recent call last):
  File "a.py", line 1, in x
ValueError: 'one thing that is long' is wrong
nothing
Traceback (most recent call last):
  File "a.py", line 1, in x
ValueError: 'another thing of this kind' is wrong
KeyError: not a traceback
"""
    assert _fuzz.last_lines(journal) == {"ValueError: … is wrong": 2}


def test_what_is_no_login_is_one_fault_and_hides_no_other():
    about = {"count": 1, "login": "Bearer x", "request": "GET /", "params": "", "body": "", "answer": "<p>wrong</p>"}
    operations = {name: _fuzz.Counts() for name in ("GET /a", "GET /b")}
    for counts in operations.values():
        counts.faults["500, odd login"] = {**about, "who": "odd login"}
    operations["GET /b"].faults["500"] = {**about, "who": "user", "login": "user"}
    lines = _fuzz.told(operations)
    assert len(lines) == 2 and lines[0].startswith("GET /b: 1 times 500, first for GET / by user")
    assert lines[1] == "Authorization: Bearer x: 500, odd login for 2 operations, first GET /a: wrong"


def test_the_table_adds_up():
    counts = _fuzz.Counts()
    counts.statuses.update({200: 3, 404: 2, 500: 1, 501: 4, "ConnectionError": 1})
    counts.faults = {"500": {"count": 1}, "ConnectionError": {"count": 1}}
    operations = {"GET /api/2.0/mlflow/runs/get": counts, "POST /ajax-api/3.0/mlflow/runs/x": _fuzz.Counts()}
    lines = [line.split() for line in _fuzz.table(operations).splitlines()]
    assert lines[1] == ["mlflow/runs", "2", "11", "3", "0", "2", "6", "2"] and lines[2][1:] == lines[1][1:]
    assert _fuzz.family("GET /") == "/"
