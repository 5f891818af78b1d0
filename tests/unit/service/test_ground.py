# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a patch stands on: that it is seen when it has moved, and what becomes of the patch then."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.compat import ground, patches  # noqa: E402
from mlflow_service.compat.ground import GUARD, NEEDED, SHORTCUT, Ground, Moved, Patch, fingerprint, known, moved  # noqa: E402

MODULE = """
import functools

LIMIT = 3

def wraps(function):
    @functools.wraps(function)
    def inner(*given):
        return function(*given)
    return inner

def reads(number):
    return number + 1

@wraps
def wrapped(number):
    return number

class Store:
    def get(self):
        return 1

    @staticmethod
    def options():
        return []
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Makes a module of somebody else's, and makes it anew."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text=MODULE):
        for name in ("theirs",):
            sys.modules.pop(name, None)
        (tmp_path / "theirs.py").write_text(text)
        importlib.invalidate_caches()
        import linecache

        linecache.clearcache()

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    write()
    yield write
    sys.modules.pop("theirs", None)


NAMES = ("theirs:reads", "theirs:wrapped", "theirs:Store.get", "theirs:Store.options")


@pytest.fixture
def knows(write, tmp_path, monkeypatch):
    """What somebody has read is what is there now."""
    file = tmp_path / "known.json"
    file.write_text(json.dumps({name: {fingerprint(name): ["1.0"]} for name in NAMES}))
    monkeypatch.setattr(ground, "KNOWN", file)
    return write


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", ["return", "def "])
def test_another_source_is_another_ground(knows, name, change):
    patch = Patch("x", "something", replaces=(name,))
    assert moved(patch, known()) == ""
    before, after = {
        "return": ("return number + 1|return number\n|return 1|return []", "return None"),
        "def ": ("def reads(|def wrapped(|def get(|def options(", "def renamed_("),
    }[change]
    text = MODULE
    text = text.replace(before.split("|")[NAMES.index(name)], after + ("\n" if after == "return None" else ""))
    knows(text)
    says = "is not there" if change == "def " else "is another than those that are known"
    assert moved(patch, known()) == f"{name.replace(':', '.')} {says}"


def test_what_is_only_used_may_have_another_source_and_has_to_be_there(knows):
    patch = Patch("x", "something", uses=("theirs:Store.get", "theirs:LIMIT"), values={"theirs:LIMIT": 3})
    assert moved(patch, {}) == ""
    knows(MODULE.replace("return 1", "return 2"))
    assert moved(patch, {}) == ""
    for another in (2, 4):
        knows(MODULE.replace("LIMIT = 3", f"LIMIT = {another}"))
        assert moved(patch, {}) == f"theirs.LIMIT is {another} and not 3"
    knows(MODULE.replace("def get", "def got"))
    assert moved(patch, {}) == "theirs.Store.get is not there"
    assert moved(Patch("x", "something", uses=("theirs.more:A",)), {}) == "theirs.more.A is not there"


def test_a_function_that_nobody_has_read_is_not_known(knows):
    assert moved(Patch("x", "something", replaces=("theirs:wraps",)), known()).startswith("theirs.wraps is another")
    assert moved(Patch("x", "something", replaces=("builtins:len",)), known()) == "builtins.len has no source"


def look():
    raise Moved("a layer is there")


PATCHES = (
    Patch("needs it", "the server starts", kind=NEEDED, uses=("theirs:reads",)),
    Patch("guards", "nobody does something", kind=GUARD, uses=("theirs:Store.get",)),
    Patch("fast", "it is faster", replaces=("theirs:wrapped",)),
    Patch("faster", "it is faster yet", uses=("theirs:Store",), needs=("fast",)),
    Patch("with logins", "logins are faster", uses=("theirs:Store",), auth=True),
)

OF = {patch.name: patch for patch in PATCHES}


def states(found):
    return {patch["name"]: (patch["used"], patch["why"]) for patch in found.found}


def test_on_known_ground_all_of_it_is_used(knows):
    found = Ground(PATCHES)
    assert all(patch["used"] and patch["ground"] == "known" for patch in found.found)
    assert found.left_out == [] and found.refused == "" and found.has(OF["faster"])
    assert not Ground(PATCHES, auth=False).has(OF["with logins"])


def test_a_shortcut_without_ground_is_left_out_with_what_builds_on_it(knows):
    knows(MODULE.replace("return number\n", "return -number\n"))
    found = Ground(PATCHES)
    why = "theirs.wrapped is another than those that are known"
    assert found.left_out == [f"fast: {why}", "faster: it builds on fast"]
    assert found.refused == "" and not found.has(OF["fast"]) and found.has(OF["with logins"])
    assert [patch["ground"] for patch in found.found] == ["known", "known", "moved", "known", "known"]


@pytest.mark.parametrize("name, says", [("def reads", "the server starts: theirs.reads is not there"),
                                        ("def get", "nobody does something: theirs.Store.get is not there")])  # fmt: skip
def test_what_has_to_be_is_refused_without_ground(knows, name, says):
    knows(MODULE.replace(name, "def other"))
    assert Ground(PATCHES).refused == says


@pytest.mark.parametrize("asked", [("all",), ("fast",), ("guards", "needs it")])
def test_who_asks_for_it_has_shortcuts_left_out_and_nothing_else(knows, asked):
    found = Ground(PATCHES, asked)
    left = {name for name, (used, _why) in states(found).items() if not used}
    assert left == {("all",): {"fast", "faster", "with logins"}, ("fast",): {"fast", "faster"}}.get(asked, set())
    assert found.refused == ""
    assert asked == ("guards", "needs it") or states(found)["fast"] == (False, "it was asked for")


def test_a_patch_may_look_further(knows):
    assert moved(Patch("x", "something", looks=(look,)), {}) == "a layer is there"


# --- the patches that there are ---


def test_each_function_that_is_replaced_was_read_in_each_version_that_is_tried():
    locked = {"3.16.1", "3.17.0", "3.17.2"}
    fingerprints = known()
    assert {name for patch in (*patches.ALL, *patches.OF_JOBS) for name in patch.replaces} == set(fingerprints)
    for name, versions in fingerprints.items():
        # Jobs are for those that have the runner that is made for them.
        of_jobs = any(name in patch.replaces for patch in patches.OF_JOBS)
        assert set().union(*versions.values()) >= (locked - {"3.16.1"} if of_jobs else locked), name


def test_patches_have_names_of_their_own_and_those_they_build_on_come_before():
    names = [patch.name for patch in patches.ALL]
    assert len(names) == len(set(names))
    for number, patch in enumerate(patches.ALL):
        assert set(patch.needs) <= set(names[:number])
        assert patch.kind in (SHORTCUT, GUARD, NEEDED) and patch.says and " " not in patch.name


def test_what_may_be_left_out_is_what_can_be(monkeypatch):
    import yaml

    role = Path(__file__).resolve().parents[3] / "roles" / "mlflow_server"
    spec = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    shortcuts = [patch.name for patch in patches.ALL if patch.kind == SHORTCUT and patch.optional]
    assert spec["mlflow_server_shortcuts_left_out"]["choices"] == shortcuts
