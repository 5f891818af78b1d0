# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What bin/_audit.py makes of pip-audit's answers and of the accepted vulnerabilities."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bin"))

import _audit  # noqa: E402

TODAY = date(2026, 11, 25)
FINDING = _audit.Finding("flask", "1.0", ("PYSEC-2099-1", "CVE-2099-1"), ("1.1",))


def report(*packages):
    return json.dumps({"dependencies": list(packages), "fixes": []})


def accepted(until, name="CVE-2099-1"):
    return _audit.Accepted(name, "not called here", until)


def test_a_finding_is_read_with_its_aliases():
    vulnerability = {"id": "PYSEC-2099-1", "fix_versions": ["1.1"], "aliases": ["CVE-2099-1"]}
    clean = {"name": "uv", "version": "1", "vulns": []}
    found = _audit.read_report(report(clean, {"name": "flask", "version": "1.0", "vulns": [vulnerability]}))
    assert found == [FINDING] and str(FINDING) == "flask 1.0: PYSEC-2099-1 CVE-2099-1; fixed in 1.1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Traceback (most recent call last):",
        "{}",
        # pip-audit ends with 0 where the index knows nothing of a package.
        report({"name": "uv", "version": "1", "vulns": []}, {"name": "flask", "skip_reason": "Dependency not found on PyPI"}),
    ],
)
def test_no_answer_is_not_an_answer_that_all_is_well(text):
    with pytest.raises(_audit.Unreachable, match="no answer"):
        _audit.read_report(text)


def test_a_finding_fails_and_one_that_is_accepted_is_named():
    assert _audit.judge([FINDING], [], TODAY) == ([f"FAILED: {FINDING}"], False)
    for name in FINDING.names:
        lines, good = _audit.judge([FINDING], [accepted(TODAY, name)], TODAY)
        assert good and lines == [f"accepted until 2026-11-25: {FINDING} (not called here)"]
    assert not _audit.judge([FINDING], [accepted(TODAY, "CVE-2099-2")], TODAY)[1]


@pytest.mark.parametrize("findings", [[FINDING], [], None])
def test_an_entry_fails_after_its_day_even_where_nobody_could_look(findings):
    lines, good = _audit.judge(findings, [accepted(date(2026, 11, 24))], TODAY)
    assert not good and lines[0].startswith("FAILED: CVE-2099-1 was accepted until 2026-11-24")


def test_an_entry_of_no_use_is_named_where_somebody_looked():
    assert _audit.judge([], [accepted(TODAY)], TODAY) == (["no longer found, so take it out: CVE-2099-1"], True)
    assert _audit.judge(None, [accepted(TODAY)], TODAY) == ([], True)


@pytest.mark.parametrize(
    "text",
    [
        "- {id: CVE-2099-1, reason: none}",
        "- {id: CVE-2099-1, reason: ' ', until: 2026-12-31}",
        "- {id: CVE-2099-1, reason: none, until: some day}",
        "- CVE-2099-1",
    ],
)
def test_an_entry_without_a_reason_or_a_day_is_refused(text):
    with pytest.raises(SystemExit, match="accepted-vulnerabilities"):
        _audit.read_accepted(text)


def test_the_file_that_is_there_can_be_read():
    text = (ROOT / _audit.ACCEPTED).read_text(encoding="utf-8")
    assert isinstance(_audit.read_accepted(text), list)
    example = "- id: CVE-2026-00000\n  reason: why\n  until: 2027-01-31"
    assert _audit.read_accepted(example) == [_audit.Accepted("CVE-2026-00000", "why", date(2027, 1, 31))]


@pytest.mark.parametrize(
    ("answers", "said", "code"),
    [
        ({}, "skipped: data on vulnerabilities can't be reached (pypi: no answer; osv: no answer)", 0),
        ({"pypi": []}, "by the data of pypi: 0 known vulnerabilities", 0),
        ({"osv": []}, "by the data of osv: 0 known vulnerabilities", 0),
        ({"osv": [FINDING]}, f"FAILED: {FINDING}", 1),
    ],
)
def test_the_services_are_asked_in_turn(answers, said, code, tmp_path, monkeypatch, capsys):
    def audit(file, service):
        if service not in answers:
            raise _audit.Unreachable("no answer")
        return answers[service]

    lock = tmp_path / "lock.txt"
    lock.write_text("")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(_audit, "audit", audit)
    monkeypatch.setattr(sys, "argv", ["_audit.py", str(lock)])
    try:
        _audit.main()
        ended = 0
    except SystemExit as end:
        ended = end.code
    shown = capsys.readouterr().out
    assert said in shown and ended == code and ("skipped:" in shown) == (not answers)
