# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Every role keeps the same promises: its specification, its defaults and its README say the same."""

from __future__ import annotations

import re

import pytest
import yaml
from repository import ROLES, ROOT, load_yaml, relative

OUR_ROLES = {"network", "s3", "iam", "rds", "ec2", "mlflow_database", "mlflow_server"}
AWS_ROLES = {"network", "s3", "iam", "rds", "ec2"}
TEMPLATED = re.compile(r"\{\{|\{%")

pytestmark = pytest.mark.parametrize("role", ROLES)


def test_every_role_is_known(role):
    assert role in OUR_ROLES, f"roles/{role}: a new role; add it here and to the README's table of roles"


def defaults_of(role: str) -> dict:
    return load_yaml(ROOT / "roles" / role / "defaults" / "main.yml") or {}


def options_of(role: str) -> dict:
    file = ROOT / "roles" / role / "meta" / "argument_specs.yml"
    assert file.is_file(), f"{relative(file)} is missing"
    return load_yaml(file)["argument_specs"]["main"].get("options") or {}


def readme_of(role: str) -> str:
    file = ROOT / "roles" / role / "README.md"
    assert file.is_file(), f"{relative(file)} is missing"
    return file.read_text()


def readme_table(role: str) -> dict[str, str]:
    """Variable and default of each line `| `role_x` | default | … |` of the README's variables table."""
    rows = {}
    for line in readme_of(role).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) >= 3 and re.fullmatch(rf"`{role}_\w+`", cells[0]):
            name = cells[0].strip("`")
            assert name not in rows, f"roles/{role}/README.md has two rows of {name}"
            rows[name] = cells[1]
    return rows


def is_templated(value) -> bool:
    return bool(TEMPLATED.search(str(value)))


def test_defaults_hold_only_the_roles_own_variables(role):
    strangers = [name for name in defaults_of(role) if not name.startswith(f"{role}_")]
    assert not strangers


def test_specification_and_defaults_name_the_same_variables(role):
    options, defaults = options_of(role), defaults_of(role)
    # What must be given has no default; a comment in defaults/main.yml tells that it exists.
    text = (ROOT / "roles" / role / "defaults" / "main.yml").read_text()
    without_default = {name for name in options if name not in defaults}
    untold = {name for name in without_default if not re.search(rf"^#\s*{name}\b", text, re.MULTILINE)}
    assert not set(defaults) - set(options), "in defaults/main.yml, not in meta/argument_specs.yml"
    assert not untold, "in meta/argument_specs.yml, neither a default nor a comment in defaults/main.yml"


def test_specification_has_the_same_default_values(role):
    options, defaults = options_of(role), defaults_of(role)
    wrong = {
        name: (option["default"], defaults.get(name))
        for name, option in options.items()
        if "default" in option and not is_templated(option["default"]) and option["default"] != defaults.get(name)
        # A collection-wide input may stand before the role's own default.
        and not (is_templated(defaults.get(name, "")) and str(option["default"]) in str(defaults[name]))
    }
    assert not wrong, "the specification's default, and that of defaults/main.yml"


def test_a_default_that_is_a_value_is_in_the_specification_too(role):
    """Who reads `ansible-doc -t role` sees nothing else."""
    options = options_of(role)
    left_out = [name for name, value in defaults_of(role).items() if not is_templated(value) and "default" not in options[name]]
    assert not left_out


def test_specification_describes_every_variable(role):
    bare = [name for name, option in options_of(role).items() if not option.get("description") or "type" not in option]
    assert not bare


def test_readme_has_every_variable_with_its_default(role):
    rows, options, defaults = readme_table(role), options_of(role), defaults_of(role)
    assert set(rows) == set(options)
    wrong = {}
    for name, cell in rows.items():
        if name not in defaults:
            continue
        default = defaults[name]
        said = cell.replace("\\|", "|").strip("`")
        if is_templated(default):
            # Word for word, or in words.
            if TEMPLATED.search(said) and said.split() != str(default).split():
                wrong[name] = (cell, default)
            continue
        try:
            value = yaml.safe_load(said)
        except yaml.YAMLError:
            value = said
        if default == "" and re.search(r"required|empty|none|unset", said, re.IGNORECASE):
            continue
        if value != default and said != str(default):
            wrong[name] = (cell, default)
    assert not wrong, "the README's default, and that of defaults/main.yml"


def test_readme_has_the_sections_that_readers_look_for(role):
    headings = re.findall(r"^##+ (.+)$", readme_of(role), re.MULTILINE)
    assert [name for name in headings if "variable" in name.lower()], headings
    assert [name for name in headings if "idempoten" in name.lower()], headings
    assert [name for name in headings if "example" in name.lower()], headings


def test_tasks_begin_with_preflight(role):
    tasks = load_yaml(ROOT / "roles" / role / "tasks" / "main.yml")
    first = next(value for key, value in tasks[0].items() if key.split(".")[-1] in ("import_tasks", "include_tasks"))
    assert (first if isinstance(first, str) else first["file"]) == "preflight.yml"
    assert (ROOT / "roles" / role / "tasks" / "preflight.yml").is_file()


def test_main_is_a_table_of_contents(role):
    allowed = {"import_tasks", "include_tasks", "meta"}
    work = [
        task["name"]
        for task in load_yaml(ROOT / "roles" / role / "tasks" / "main.yml")
        if not allowed & {key.split(".")[-1] for key in task}
    ]
    # One task may publish the role's facts at the end.
    assert len(work) <= 1, work


def test_what_owns_an_aws_thing_can_remove_it(role):
    if role not in AWS_ROLES:
        pytest.skip("owns nothing of AWS")
    assert defaults_of(role)[f"{role}_state"] == "present"
    assert options_of(role)[f"{role}_state"]["choices"] == ["present", "absent"]


def test_variables_are_public_or_marked_internal(role):
    wrong = []
    for file in (ROOT / "roles" / role / "tasks").rglob("*.yml"):
        for name in re.findall(r"^\s+register: (\S+)$", file.read_text(), re.MULTILINE):
            if not name.startswith(f"__{role}_"):
                wrong.append(f"{relative(file)}: register: {name}")
    for file in (ROOT / "roles" / role / "vars").glob("*.yml"):
        wrong += [f"{relative(file)}: {name}" for name in load_yaml(file) or {} if not name.startswith(f"__{role}_")]
    assert not wrong, f"internal variables are called __{role}_…"


def test_collection_wide_inputs_are_read_in_defaults_only(role):
    readers = [
        f"{relative(file)}: {name}"
        for folder in ("tasks", "templates", "handlers", "vars")
        for file in (ROOT / "roles" / role / folder).rglob("*")
        if file.is_file()
        for line in file.read_text().splitlines()
        for name in re.findall(r"\bmlflow_aws_\w+", line)
        # A tag's key is no variable, and messages may name what a person sets.
        if re.search(rf"\{{\{{[^}}]*(?<![\w.'\"]){name}\b(?!['\"])", line)
    ]
    assert not readers


def test_no_role_asks_where_it_runs(role):
    """Only inventory/local knows of the local cloud, by values."""
    mentions = [
        relative(file)
        for file in (ROOT / "roles" / role).rglob("*")
        if file.suffix in (".yml", ".j2", ".py") and re.search(r"(?i)local ?cloud|\bmoto\b", file.read_text())
    ]
    assert not mentions
