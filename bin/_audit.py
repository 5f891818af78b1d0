# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Ask whether the packages of the lock files have known vulnerabilities. Called by bin/test lint.

    python bin/_audit.py LOCK_FILE…

pip-audit asks PyPI, and OSV where PyPI has no such data (a mirror serves packages without it). Nothing is installed and
nothing resolved: the lock files name every package. Where neither answers, the last line says "skipped:", for a check that
could not look must not count as one that found nothing.

What is found and does not concern this collection is noted in .config/accepted-vulnerabilities.yml, for a while: each entry
ends on a day and then fails, so that somebody looks again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import yaml

ACCEPTED = Path(".config/accepted-vulnerabilities.yml")
SERVICES = ("pypi", "osv")
# Of each request. pip-audit makes one for each package; the first package says whether a service answers at all.
TIMEOUT_SECONDS = 8
LONGEST_SECONDS = 120


class Unreachable(Exception):
    """The service gave no answer about every package."""


@dataclass(frozen=True)
class Finding:
    package: str
    version: str
    names: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        where = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no version has a fix"
        return f"{self.package} {self.version}: {' '.join(self.names)}; {where}"


@dataclass(frozen=True)
class Accepted:
    name: str
    reason: str
    until: date


def read_accepted(text: str) -> list[Accepted]:
    """The entries of the file; a mistake in it ends the check."""
    found = []
    for entry in yaml.safe_load(text) or []:
        if not isinstance(entry, dict) or entry.keys() != {"id", "reason", "until"}:
            raise SystemExit(f"{ACCEPTED}: each entry has id, reason and until, and nothing else: {entry}")
        if not str(entry["reason"]).strip() or type(entry["until"]) is not date:
            raise SystemExit(f"{ACCEPTED}: {entry['id']} needs a reason, and a day such as 2026-12-31")
        found.append(Accepted(str(entry["id"]), str(entry["reason"]).strip(), entry["until"]))
    return found


def read_report(text: str) -> list[Finding]:
    """What pip-audit found, if it got an answer about each package."""
    try:
        packages = json.loads(text)["dependencies"]
    except (ValueError, KeyError):
        raise Unreachable("no answer") from None
    if unknown := [package["name"] for package in packages if "skip_reason" in package]:
        raise Unreachable(f"no answer about {len(unknown)} of {len(packages)} packages, such as {unknown[0]}")
    return [
        Finding(package["name"], package["version"], (found["id"], *found["aliases"]), tuple(found["fix_versions"]))
        for package in packages
        for found in package["vulns"]
    ]


def judge(findings: list[Finding] | None, accepted: list[Accepted], today: date) -> tuple[list[str], bool]:
    """Lines to show, and whether all is well; None is that nobody could look."""
    lines, good, used = [], True, set()
    for entry in accepted:
        if entry.until < today:
            lines.append(f"FAILED: {entry.name} was accepted until {entry.until}: look again whether \"{entry.reason}\" holds")
            good = False
    for finding in findings or []:
        entry = next((entry for entry in accepted if entry.name in finding.names), None)
        if entry is None:
            lines.append(f"FAILED: {finding}")
            good = False
        else:
            used.add(entry)
            lines.append(f"accepted until {entry.until}: {finding} ({entry.reason})")
    if findings is not None:
        lines += [f"no longer found, so take it out: {entry.name}" for entry in accepted if entry not in used]
    return lines, good


def audit(file: Path, service: str) -> list[Finding]:
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(file), "--vulnerability-service", service, "--disable-pip",
        "--require-hashes", "--format", "json", "--desc", "off", "--aliases", "on", "--progress-spinner", "off",
        "--timeout", str(TIMEOUT_SECONDS),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unreachable(f"no answer within {LONGEST_SECONDS} s") from None
    return read_report(done.stdout)


def main() -> None:
    accepted = read_accepted(ACCEPTED.read_text(encoding="utf-8"))
    # The shortest file shows soonest that a service does not answer.
    files = sorted(map(Path, sys.argv[1:]), key=lambda file: file.stat().st_size)
    findings, problems = None, []
    for service in SERVICES:
        try:
            findings = [finding for file in files for finding in audit(file, service)]
            print(f"{len(files)} lock files, by the data of {service}: {len(findings)} known vulnerabilities")
            break
        except Unreachable as why:
            problems.append(f"{service}: {why}")
    lines, good = judge(findings, accepted, datetime.now(UTC).date())
    for line in lines:
        print(line)
    if not good:
        sys.exit(1)
    if findings is None:
        print(f"skipped: data on vulnerabilities can't be reached ({'; '.join(problems)}), so the lock files were not looked at")


if __name__ == "__main__":
    main()
