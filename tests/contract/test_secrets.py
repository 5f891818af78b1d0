# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Every task that a secret reaches is silent. Which those are is found by following the secrets: from the options that a role's
specification hides, and from what Secrets Manager answers, through variables, facts, results and templates.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from repository import ROLES, ROOT, load_yaml, relative, text_of
from tasks import FILES, module_of, tasks_of

TASKS = [(path, item) for path in FILES if path.parent.name != "vars" for item in tasks_of(path)]
# Modules that answer with secrets.
TELLING = {"secretsmanager_password", "secretsmanager_rotation"}
# All that one play hands to another. What is read of it counts by its own name, as a fact of another host does.
BAGS = {"mlflow_aws_known"}
# These print nothing of what they are given.
INCLUDES = {"include_role", "import_role", "include_tasks", "import_tasks"}
# What may be told of a secret or of a login: its other fields, whether it is there, and why it could not be had.
FIELDS = r"\.(host|port|username|user|dbname|engine|created|version|msg|changed|paths|failed|rc|retiring|status|certificate)\b"
ASKED = r"\s*(is (not )?(defined|skipped|failed|succeeded|changed|mapping|string)\b|\|\s*(length|dict2items|list)\b|[!=]=\s*'')"
# What these filters make of a key that they are given is for everybody: the one a certificate, the other a sentence without it.
MADE_PUBLIC = r"mlops\.mlflow_aws\.(?:signed_certificate|authority_problems)\((?:[^()]|\([^()]*\))*\)"
# What follows a name in an expression: parts of it, a default, and the brackets that these were in.
PART = r"\.(?!\.)\w+|\[[^\]]*\]|\s*\|\s*default\((?:[^()]|\([^()]*\))*\)|\s*\|\s*string\b|\)"


def words(text) -> set[str]:
    """The variables that a text may read; not what stands in its quotes, which is a key or a sentence."""
    text = re.sub(r"'(?:[^'\\]|\\.)*'", "''", str(text))
    return set(re.findall(r"(?<![\w'\"])[a-z_]\w+", text))


@cache
def templates() -> dict[str, str]:
    return {path.name: text_of(path) for path in (ROOT / "roles").rglob("templates/*")}


def expressions(tree):
    """What Ansible fills in, with the templates that are looked up."""
    if isinstance(tree, dict) and {"bad", "say"} <= set(tree):
        # A check of an input: only what it says is ever seen.
        return expressions(tree["say"])
    if isinstance(tree, dict):
        return " ".join(expressions(value) for value in tree.values())
    if isinstance(tree, list):
        return " ".join(expressions(value) for value in tree)
    text = " ".join(re.findall(r"\{\{.*?\}\}(?!\})|\{%.*?%\}", str(tree), re.DOTALL))
    for name in re.findall(r"[\w.-]+\.j2", str(tree)):
        text += " " + " ".join(re.findall(r"\{\{.*?\}\}|\{%.*?%\}", templates().get(name, ""), re.DOTALL))
    return text


def hidden_options() -> set[str]:
    found = set()
    for role in ROLES:
        specification = load_yaml(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
        for entry in specification.values():
            found |= {name for name, option in (entry.get("options") or {}).items() if option.get("no_log")}
    return found


def variables() -> list[tuple[str, object]]:
    """Each variable that is defined somewhere, and what it is made of."""
    found = []
    files: list[Path] = [*(ROOT / "roles").glob("*/defaults/main.yml"), *(ROOT / "roles").glob("*/vars/*.yml")]
    files += (ROOT / "playbooks" / "vars").glob("*.yml")
    for path in files:
        found += (load_yaml(path) or {}).items()
    for _path, item in TASKS:
        found += (item.get("vars") or {}).items()
        module, arguments = module_of(item)
        if module.endswith("set_fact"):
            found += arguments.items()
    return found


def readers(text: str, secrets: set[str]) -> set[str]:
    """The secrets that a text reads, but for what may be told of them."""
    text = re.sub(MADE_PUBLIC, "", re.sub(r"'(?:[^'\\]|\\.)*'", "''", text))
    return {name for name in words(text) & secrets if not all(_is_told(text[end:]) for end in _ends(name, text))}


def _ends(name: str, text: str) -> list[int]:
    return [match.end() for match in re.finditer(rf"(?<!\w){name}\b", text)]


def _is_told(rest: str) -> bool:
    parts = re.match(rf"(?:{PART})*", rest).group()
    return bool(re.search(FIELDS, parts) or re.match(ASKED, rest[len(parts):]))


@cache
def secrets() -> frozenset[str]:
    known = hidden_options()
    assert {"mlflow_server_database_password", "mlflow_database_active_password"} & known
    known |= {
        item["register"]
        for _path, item in TASKS
        if module_of(item)[0].split(".")[-1] in TELLING and "register" in item and module_of(item)[1].get("state") != "absent"
    }
    before: set[str] = set()
    while known != before:
        before = set(known)
        known |= {name for name, value in variables() if readers(expressions(value), known)} - BAGS
    return frozenset(known)


def test_every_task_that_a_secret_reaches_is_silent():
    loud = []
    for path, item in TASKS:
        module, arguments = module_of(item)
        short = module.split(".")[-1]
        if short in INCLUDES or not module:
            continue
        given = arguments
        if short == "rds_instance":
            # The module itself hides this option wherever it shows its arguments, and its errors are needed.
            given = {key: value for key, value in arguments.items() if key != "master_user_password"}
        reached = readers(expressions(given) + expressions(item.get("loop", "")), secrets())
        if short in TELLING and arguments.get("state") != "absent":
            reached.add("what the module answers")
        if reached and item.get("no_log") is not True:
            loud.append(f"{relative(path)}: {item.get('name')}: {', '.join(sorted(reached))}")
    assert not loud
