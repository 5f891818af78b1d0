# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What each module's documentation says of its options is what the module does, and no secret option is printed."""

from __future__ import annotations

import importlib
import re
import sys

import pytest
import yaml
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder
from repository import ROOT

MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if not path.stem.startswith("_"))
COMPARED = {"type": "str", "elements": None, "default": None, "required": False, "choices": None}
# A name that tells of a secret; what is none, with the reason.
SECRET = re.compile(r"pass(word|phrase)|secret|token|content|credential|private|stdin")
NO_SECRET = {
    ("host_files", "content"): "settings too, whose differences a person wants to see: a task that writes a secret is no_log",
    ("secretsmanager_password", "secrets"): "descriptions of secrets; what they hold is made by the module, or is `values`",
    ("secretsmanager_rotation", "secret"): "its name",
    ("mlflow_service_file", "password_file"): "its path",
}


class Asked(Exception):
    """The module has said what it takes."""


@pytest.fixture(scope="module", autouse=True)
def collections(tmp_path_factory):
    top = tmp_path_factory.mktemp("collections")
    (top / "ansible_collections" / "mlops").mkdir(parents=True)
    (top / "ansible_collections" / "mlops" / "mlflow_aws").symlink_to(ROOT)
    if not any(type(item).__name__ == "_AnsibleCollectionFinder" for item in sys.meta_path):
        _AnsibleCollectionFinder(paths=[str(top), str(ROOT / ".ansible" / "collections")])._install()


def load(kind: str, name: str):
    return importlib.import_module(f"ansible_collections.mlops.mlflow_aws.plugins.{kind}.{name}")


def specification(name: str, monkeypatch) -> dict:
    """The module's own argument_spec, as it gives it to Ansible."""
    module = load("modules", name)

    class Taken:
        def __init__(self, argument_spec, **_more):
            raise Asked(argument_spec)

    for called in ("AnsibleModule", "AnsibleAWSModule"):
        if hasattr(module, called):
            monkeypatch.setattr(module, called, Taken)
    with pytest.raises(Asked) as asked:
        module.main()
    return asked.value.args[0]


def documentation(name: str) -> dict:
    documented = yaml.safe_load(load("modules", name).DOCUMENTATION)
    options = dict(documented.get("options") or {})
    for fragment in documented.get("extends_documentation_fragment") or []:
        if fragment.startswith("mlops.mlflow_aws."):
            told = yaml.safe_load(load("doc_fragments", fragment.split(".")[-1]).ModuleDocFragment.DOCUMENTATION)
            options = {**told["options"], **options}
    return options


def differences(documented: dict, own: dict, path="") -> list[str]:
    found = [f"{path}{name}: only in one of them" for name in documented.keys() ^ own.keys()]
    for name in documented.keys() & own.keys():
        says, does = documented[name], own[name]
        for key, missing in COMPARED.items():
            if says.get(key, missing) != does.get(key, missing):
                found.append(f"{path}{name}: {key} is {says.get(key)!r} in words and {does.get(key)!r} in fact")
        found += differences(says.get("suboptions") or {}, does.get("options") or {}, f"{path}{name}.")
    return found


@pytest.mark.parametrize("name", MODULES)
def test_the_documentation_says_what_the_module_does(name, monkeypatch):
    assert not differences(documentation(name), specification(name, monkeypatch))


def talkative(own: dict, silent=False, path=()) -> list[tuple]:
    found = []
    for name, option in own.items():
        hidden = silent or option.get("no_log") is True
        if SECRET.search(name) and not hidden and option.get("type", "str") in ("str", "raw", "dict", "list"):
            if not option.get("options"):
                found.append((*path, name))
        found += talkative(option.get("options") or {}, hidden, (*path, name))
    return found


@pytest.mark.parametrize("name", MODULES)
def test_an_option_that_holds_a_secret_is_hidden_wherever_ansible_shows_it(name, monkeypatch):
    """Also where a user's own task forgets no_log."""
    loud = [option for option in talkative(specification(name, monkeypatch)) if (name, option[-1]) not in NO_SECRET]
    assert not loud


