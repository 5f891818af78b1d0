# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Leave out one word of the tasks or one directive of the templates at a time, and see whether the contract tests notice.

    python bin/_mutants_yaml.py LOG_DIR [--each N] [--seed WORD] [--lanes N] [FILE…]

Called by bin/test mutants. Of each kind a sample is tried, chosen by the seed, in copies of this checkout. Prints a table by kind
and each survivor, and writes them to LOG_DIR/mutants-yaml.json. What only a machine can notice, or nobody has to, stands in
tests/mutants.md with a reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import yaml
from _mutants import LEAST, ROOT, in_lanes, parse, read_accepted, tell

TASKS = ("roles/*/tasks/*.yml", "playbooks/*.yml", "playbooks/tasks/*.yml")
TEMPLATES = ("roles/*/templates/*.j2",)
ENDINGS = "yml|j2"
# Words of a task without which it does something else, or shows what it should not.
WORDS = {"when", "no_log", "mode", "owner", "group", "become", "changed_when", "failed_when", "until", "run_once", "check_mode",
         "rescue", "always", "any_errors_fatal", "throttle", "order", "serial"}  # fmt: skip
# What looks at all files, the quick ones first: the first that fails ends it. Then what plays tasks, which takes longer and is
# of use only where those are broken that it plays.
TESTS = (
    "task_words", "directives", "roles", "reach", "secrets", "host_promises", "listens", "tasks_run", "aws_promises",
)  # fmt: skip
PLAYED = {
    "roles/mlflow_server/": ("proxy", "umask", "names", "switch", "old_versions", "hidden_folders"),
    "roles/ec2/": ("outages",),
    "roles/rds/": ("outages",),
    "roles/s3/": ("outages",),
    "playbooks/": ("names", "switch", "rotation_refusals"),
}


def tests_of(file: str) -> list[str]:
    names = [*TESTS, *(name for folder, names in PLAYED.items() if file.startswith(folder) for name in names)]
    return [f"tests/contract/test_{name}.py" for name in names]


@dataclass(frozen=True)
class Mutant:
    file: str
    #: The lines that are left out, counted from 1.
    first: int
    last: int
    kind: str

    def text(self, lines: list[str]) -> str:
        """What is left out, in one line."""
        return " ".join(" ".join(lines[self.first - 1 : self.last]).split())

    def without(self, lines: list[str]) -> str:
        return "".join(lines[: self.first - 1] + lines[self.last :])


def words_of(file: str, text: str) -> list[Mutant]:
    """Each word of WORDS that a mapping has, with all of its lines."""
    found, lines = [], text.splitlines()

    def last_line(mark):
        """The last line that is further in than the word that begins here, counted from 1."""
        last = mark.line
        for number in range(mark.line + 1, len(lines)):
            line = lines[number]
            if line.strip() and len(line) - len(line.lstrip()) <= mark.column:
                break
            last = number if line.strip() else last
        return last + 1

    def visit(node):
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                # One beside others on a line, as in {path: …, mode: …}, is left to what looks at files.
                if key.value in WORDS and not node.flow_style:
                    found.append(Mutant(file, key.start_mark.line + 1, last_line(key.start_mark), str(key.value)))
                visit(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                visit(item)

    visit(yaml.compose(text))
    return found


def directives_of(file: str, text: str) -> list[Mutant]:
    """Each line of a template that says something by itself."""
    kind = re.sub(r"^.*?\.?([a-z_]+)\.j2$", r"\1", Path(file).name)
    return [
        Mutant(file, number, number, kind)
        for number, line in enumerate(text.splitlines(), 1)
        if re.match(r"\s*[A-Za-z_][A-Za-z_-]*\s*(=|\s\S.*;\s*$)", line)
    ]


def all_mutants(files: list[str] | None = None) -> list[Mutant]:
    found = []
    for patterns, of in ((TASKS, words_of), (TEMPLATES, directives_of)):
        for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
            name = str(path.relative_to(ROOT))
            if not files or name in files:
                found += of(name, path.read_text(encoding="utf-8"))
    return found


def chosen(mutants: list[Mutant], each: int, seed: str) -> list[Mutant]:
    kinds = defaultdict(list)
    for mutant in mutants:
        kinds[mutant.kind].append(mutant)
    return [
        mutant
        for kind, of_kind in sorted(kinds.items())
        for mutant in random.Random(f"{seed} {kind}").sample(of_kind, min(each, len(of_kind)))
    ]


def notices(folder: Path, timeout: float, tests: list[str]) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environ = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(folder / ".ansible" / "collections")}
    child = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return child.wait(timeout) != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        # With the playbooks that it may have left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def main() -> None:
    arguments, found = parse(__doc__, 4, "kind"), []
    waiting = chosen(all_mutants(arguments.files), arguments.each, arguments.seed)
    every = sorted({test for mutant in waiting for test in tests_of(mutant.file)})
    fails = [] if waiting else [f"There is nothing to leave out in {' '.join(arguments.files)}."]

    def work(mutant: Mutant, folder: Path) -> None:
        path = folder / mutant.file
        before = path.read_text(encoding="utf-8")
        lines = before.splitlines(keepends=True)
        path.write_text(mutant.without(lines), encoding="utf-8")
        killed = notices(folder, 600, tests_of(mutant.file))
        path.write_text(before, encoding="utf-8")
        found.append({"file": mutant.file, "line": mutant.first, "kind": mutant.kind, "text": mutant.text(lines),
                      "killed": killed})  # fmt: skip
        print(f"  {'killed' if killed else 'SURVIVED'}: {mutant.file}:{mutant.first}: {mutant.kind}", flush=True)

    fails += in_lanes(arguments.lanes, waiting, work, whole=lambda folder: not notices(folder, 600, every))
    accepted = read_accepted(ENDINGS)
    left = [one for one in found if not one["killed"] and (one["file"], one["text"]) not in accepted]
    share = tell(found, left, lambda one: one["kind"])
    for one in sorted(left, key=lambda one: (one["file"], one["line"])):
        print(f"survived: {one['file']}:{one['line']}: {one['text']}")
    for line in fails:
        print(f"FAILED: {line}")
    (arguments.log_dir / "mutants-yaml.json").write_text(json.dumps(found, indent=1))
    sys.exit(1 if fails or share < LEAST else 0)


if __name__ == "__main__":
    main()
