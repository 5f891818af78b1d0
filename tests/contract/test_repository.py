# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What holds for the repository as a whole: no secrets, no places, the same versions everywhere."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

from repository import ROOT, load_yaml, relative, repository_files, text_of

HEADER = "GNU General Public License v3.0 or later (see LICENSE)"


def found(pattern: str, files=None) -> list[str]:
    """Where the pattern stands, as file:line: text."""
    expression = re.compile(pattern)
    return [
        f"{relative(path)}:{number}: {line.strip()[:100]}"
        for path in files or repository_files()
        if relative(path) not in ("LICENSE", relative(THIS))
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if expression.search(line)
    ]


THIS = ROOT / "tests" / "contract" / "test_repository.py"


def test_no_private_key_and_no_access_key():
    assert not found(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*$")
    # Examples of AWS's own documentation end in EXAMPLE.
    assert not [line for line in found(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b") if "EXAMPLE" not in line]


def test_no_password_is_written_down():
    suffixes = (".yml", ".yaml", ".j2", ".cfg", ".ini", ".conf")
    yaml_files = [path for path in repository_files() if path.suffix in suffixes]
    assigned = r"(?i)\b\w*(password|secret_key|secret_access_key)\s*[:=]\s*[\"']?[A-Za-z0-9+/_~!#%^*=-]{8,}[\"']?\s*$"
    words = r"(?i)[:=]\s*[\"']?(true|false|present|absent|required|string|omit|__\w+|password\w*|scram-\S+)[\"']?\s*$"
    # Tests need logins of machines that they made and throw away; they say so on the line.
    assert not [
        line
        for line in found(assigned, yaml_files)
        if not re.search(words, line) and "# throw-away" not in line and not line.startswith("tests/")
    ]


def test_no_registry_and_no_place_of_a_machine():
    assert not found(r"\b(deb|security|snapshot|ftp)\.debian\.org\b")
    assert not found(r"\bpypi\.org\b|\bpythonhosted\.org\b|registry\.npmjs\.org|galaxy\.ansible\.com/api")
    assert not found(r"(?<![\w.~-])/(work/(main|shared)|root/\.pyenv|home/\w+)/")


def test_python_files_carry_the_licence():
    bare = [
        relative(path)
        for path in repository_files()
        if path.suffix == ".py" and text_of(path).strip() and HEADER not in "\n".join(text_of(path).splitlines()[:6])
    ]
    assert not bare


def test_the_licence_is_the_one_that_is_named():
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("GNU GENERAL PUBLIC LICENSE\n")
    assert load_yaml(ROOT / "galaxy.yml")["license"] == ["GPL-3.0-or-later"]


def test_amazon_aws_has_the_same_bounds_everywhere():
    bounds = load_yaml(ROOT / "galaxy.yml")["dependencies"]["amazon.aws"]
    required = {entry["name"]: entry["version"] for entry in load_yaml(ROOT / "requirements.yml")["collections"]}
    assert required == {"amazon.aws": bounds}
    low, high = re.fullmatch(r">=(\d+)\.0\.0,<(\d+)\.0\.0", bounds).groups()
    supported = f"amazon.aws {low} and {int(high) - 1}"
    assert supported in (ROOT / "README.md").read_text(), f"README.md should say {supported!r}"


def test_ansible_core_has_the_same_bounds_everywhere():
    lines = re.findall(r"^ansible-core>=([\d.]+),<(\d+)\.(\d+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    low = {line[0] for line in lines}
    assert len(low) == 1, lines
    (low,) = low
    last = max(int(line[2]) for line in lines) - 1
    assert load_yaml(ROOT / "meta" / "runtime.yml")["requires_ansible"].startswith(f">={low}.0")
    supported = f"ansible-core {low} to 2.{last}"
    assert supported in (ROOT / "README.md").read_text(), f"README.md should say {supported!r}"
    for file in (ROOT / "roles").glob("*/meta/main.yml"):
        assert load_yaml(file)["galaxy_info"]["min_ansible_version"] == low, relative(file)


def test_mlflow_has_the_same_version_everywhere():
    version = load_yaml(ROOT / "roles" / "mlflow_server" / "defaults" / "main.yml")["mlflow_server_version"]
    assert f"mlflow-skinny=={version}\n" in (ROOT / "examples" / "requirements.txt").read_text()
    assert f"MLflow {version}" in (ROOT / "README.md").read_text()


def test_the_version_has_a_changelog():
    version = load_yaml(ROOT / "galaxy.yml")["version"]
    assert f"\n## v{version}\n" in (ROOT / "CHANGELOG.md").read_text().replace("\\", "")
    assert version in load_yaml(ROOT / "changelogs" / "changelog.yaml")["releases"]


def test_only_known_collections_are_used():
    """A module of a collection that galaxy.yml does not name would be missing at the user's."""
    known = {"ansible.builtin", "mlops.mlflow_aws", *load_yaml(ROOT / "galaxy.yml")["dependencies"]}
    shipped = [
        path
        for path in repository_files()
        if path.suffix == ".yml" and relative(path).split("/")[0] in ("roles", "playbooks", "inventory", "site.yml")
    ]
    used = {
        (relative(path), ".".join(name.split(".")[:2]))
        for path in shipped
        for name in re.findall(r"^\s*(?:- )?([a-z_]+\.[a-z_]+\.[a-z_0-9]+):", text_of(path), re.MULTILINE)
    }
    assert used, "found no module at all"
    assert not {use for use in used if use[1] not in known}


def test_every_relative_link_leads_somewhere():
    broken = []
    for path in repository_files():
        if path.suffix != ".md" or path.name == "CHANGELOG.md":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text_of(path)):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{relative(path)}: {target}")
    assert not broken


def test_tasks_that_handle_passwords_are_silent():
    """A task that names a password, and is neither no_log nor a check of its inputs, may print it."""
    talkative = []
    names = r"password|flask_secret_key|webhook_key|gateway_passphrase|__\w*credentials|mlflow_aws_secrets"
    words = re.compile(rf"\{{\{{[^}}]*({names})\b[^}}]*\}}\}}")
    for path in repository_files():
        if path.suffix != ".yml" or not re.match(r"(roles/\w+/(tasks|handlers)|playbooks)/", relative(path)):
            continue
        for task in tasks_in(load_yaml(path)):
            own = {key: value for key, value in task.items() if key not in ("block", "rescue", "always", "tasks")}
            if "amazon.aws.rds_instance" in own:
                # The module itself hides this option wherever it shows its arguments, and its errors are needed.
                own["amazon.aws.rds_instance"].pop("master_user_password", None)
            silent = own.get("no_log") is True
            if words.search(str(own)) and not silent and not {"include_role", "import_role"} & short(own):
                talkative.append(f"{relative(path)}: {own.get('name')}")
    assert not talkative


def short(task: dict) -> set[str]:
    return {key.split(".")[-1] for key in task}


def tasks_in(tree) -> list[dict]:
    """Every task, those within blocks and plays included."""
    tasks = []
    for item in tree or []:
        if not isinstance(item, dict):
            continue
        for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers"):
            tasks += tasks_in(item.get(key))
        if "hosts" not in item and "import_playbook" not in short(item):
            tasks.append(item)
    return tasks


def test_git_ignores_what_the_commands_make():
    made = [".venv/x", ".quickstart/client.env", ".ansible/x", "bench/results/deploy.json", ".test/log/x"]
    ignored = subprocess.run(
        ["git", "check-ignore", *made],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert ignored == made, f"git would take up what a command leaves behind; it ignores only {ignored}"


SERVICE = ROOT / "roles" / "mlflow_server" / "files" / "service"


def test_every_file_of_the_service_is_written():
    """By the installation and by a later run: a release that changes a file meets hosts that are installed."""
    role = ROOT / "roles" / "mlflow_server"
    listed = set(load_yaml(role / "vars" / "main.yml")["__mlflow_server_code"])
    there = {str(file.relative_to(SERVICE)) for file in SERVICE.rglob("*") if file.suffix in (".py", ".json")}
    assert there == listed
    folders = load_yaml(role / "vars" / "main.yml")["__mlflow_server_code_folders"]
    wanted = {str(Path(name).parent) for name in listed}
    assert {folder["path"].partition("_code_folder }}/")[2] for folder in folders} == {"", *wanted}
    others = text_of(role / "tasks" / "settings.yml")
    assert not [file.name for file in SERVICE.iterdir() if file.is_file() and f"'service/{file.name}'" not in others]


def test_what_the_service_imports_wants_other_processes_when_it_changes():
    reads = text_of(ROOT / "roles" / "mlflow_server" / "vars" / "main.yml")
    (others,) = re.findall(r"reject\('search', '(/\([a-z|]+\)\[\.\]py\$)'\)", reads)
    known, waiting = set(), {"mlflow_service.__main__", "mlflow_service.application"}
    while waiting:
        known |= waiting
        found = set()
        for name in waiting:
            file = SERVICE / f"{name.replace('.', '/')}.py"
            for node in ast.walk(ast.parse(text_of(file))) if file.exists() else ():
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlflow_service"):
                    found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        waiting = found - known
    files = [f"/{name.replace('.', '/')}.py" for name in known if (SERVICE / f"{name.replace('.', '/')}.py").exists()]
    assert len(files) > 20
    assert not [name for name in files if re.search(others, name)]


# --- the only room where what others keep to themselves is touched ---

OTHERS = re.compile(r"(mlflow|uvicorn|sqlalchemy|alembic|starlette|fastapi|flask|botocore|boto3)(\.|$)")


def private_names(text):
    """Each private name of somebody else's that is used here, and each name of theirs that is given another value."""
    tree, theirs, found = ast.parse(text), set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and OTHERS.match(node.module or ""):
            theirs |= {alias.asname or alias.name for alias in node.names}
            found += [f"{node.module}.{alias.name}" for alias in node.names if alias.name.startswith("_")]
        elif isinstance(node, ast.Import):
            theirs |= {alias.asname or alias.name.split(".")[0] for alias in node.names if OTHERS.match(alias.name)}
    # What a class has for itself is its own, whatever it is called on.
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            base = node
            while isinstance(base, ast.Attribute):
                base = base.value
            name = base.id if isinstance(base, ast.Name) else ""
            private = node.attr.startswith("_") and not node.attr.startswith("__")
            if private and (name in theirs or (name not in ("self", "cls") and node.attr not in own)):
                found.append(ast.unparse(node))
            # Flask has `g` for that.
            elif isinstance(node.ctx, ast.Store) and name in theirs - {"g"}:
                found.append(f"{ast.unparse(node)} = …")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"_MLFLOW_\w+", node.value):
            found.append(node.value)
    return found


def test_what_others_keep_to_themselves_is_touched_in_one_room_only():
    outside = [file for file in SERVICE.rglob("*.py") if file.parent.name != "compat"]
    assert len(outside) > 15
    found = {str(file.relative_to(SERVICE)): names for file in outside if (names := private_names(text_of(file)))}
    assert found == {}


def test_private_names_are_found():
    assert private_names("from mlflow.server import handlers\nhandlers._get_tracking_store()") == ["handlers._get_tracking_store"]
    assert private_names("from mlflow.store.db.utils import _x") == ["mlflow.store.db.utils._x"]
    assert private_names("import uvicorn._subprocess\nuvicorn._subprocess.spawn = 1")
    assert private_names("from mlflow.server import auth\nauth.sender_is_admin = None") == ["auth.sender_is_admin = …"]
    assert private_names("def f(store):\n    store._get_run()") == ["store._get_run"]
    assert private_names("x = '_MLFLOW_SERVER_FILE_STORE'") == ["_MLFLOW_SERVER_FILE_STORE"]
    assert private_names("class A:\n    def f(self):\n        self._x = 1\n        return self._x, other._x") == []
