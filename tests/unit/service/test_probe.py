# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What is said of the MLflow that is installed, before anything is switched to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service import application, probe  # noqa: E402
from mlflow_service.compat import patches  # noqa: E402
from mlflow_service.compat.ground import NEEDED, Patch  # noqa: E402

FAST, SLOW = Patch("fast", "it is faster"), Patch("slow", "it is slower", uses=("nowhere:x",))
NEEDS = Patch("needs", "the server starts", kind=NEEDED, uses=("nowhere:y",))


@pytest.fixture
def installed(monkeypatch):
    def installed(version, *of, fails=None):
        def import_everything():
            if fails:
                raise fails

        for name in ("mlflow", "mlflow.server"):
            monkeypatch.setitem(sys.modules, name, SimpleNamespace())
        monkeypatch.setitem(sys.modules, "mlflow.version", SimpleNamespace(VERSION=version) if version else None)
        monkeypatch.setitem(sys.modules, "mlflow.server.auth", SimpleNamespace())
        monkeypatch.setattr(application, "import_everything", import_everything)
        monkeypatch.setattr(patches, "ALL", of)

    return installed


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["probe", *arguments])
    code = probe.main()
    return code, capsys.readouterr().out


def test_what_is_left_out_is_no_failure(installed, monkeypatch, capsys):
    installed("3.99.0", FAST, SLOW)
    code, said = run(monkeypatch, capsys, "--json")
    found = json.loads(said)
    assert code == 0 and found["version"] == "3.99.0" and found["refused"] == ""
    assert found["left_out"] == ["slow: nowhere.x is not there"]
    assert [(patch["name"], patch["used"], patch["ground"]) for patch in found["patches"]] == [
        ("fast", True, "known"), ("slow", False, "moved"),
    ]  # fmt: skip
    code, said = run(monkeypatch, capsys)
    assert code == 0 and said.endswith("MLflow 3.99.0 can be served.\n") and "left out: nowhere.x is not there" in said


def test_who_asks_for_it_is_told_what_would_be_left_out(installed, monkeypatch, capsys):
    installed("3.17.2", FAST)
    assert json.loads(run(monkeypatch, capsys, "--json", "--left-out", "fast,other")[1])["left_out"] == ["fast: it was asked for"]


@pytest.mark.parametrize(
    "version, patch, fails, says",
    [
        ("3.16.0", FAST, None, "MLflow 3.16.0 is older than 3.16.1, the oldest that this service is for"),
        ("2.22.5", FAST, None, "MLflow 2.22.5 is older than 3.16.1, the oldest that this service is for"),
        ("3.99.0", NEEDS, None, "MLflow 3.99.0 can't be served: the server starts: nowhere.y is not there"),
        ("3.99.0", FAST, ImportError("a part\n of it"), "MLflow does not import here: ImportError: a part of it"),
        ("3.99.0", FAST, RuntimeError(""), "MLflow does not import here: RuntimeError: "),
        (None, FAST, None, "MLflow does not import here: ModuleNotFoundError: "),
    ],
)
def test_what_can_not_be_served_is_refused_in_a_sentence(installed, monkeypatch, capsys, version, patch, fails, says):
    installed(version, patch, fails=fails)
    code, said = run(monkeypatch, capsys, "--json")
    refused = json.loads(said)["refused"]
    assert code == 1 and refused.startswith(says) and "\n" not in refused
    code, said = run(monkeypatch, capsys)
    assert code == 1 and said.splitlines()[-1] == refused


@pytest.mark.parametrize("version", ["3.16.1", "3.17.0", "3.100.0", "4.0.0"])
def test_the_oldest_is_not_older_than_itself(installed, monkeypatch, capsys, version):
    installed(version, FAST)
    assert run(monkeypatch, capsys)[0] == 0


def test_what_modules_say_while_they_are_imported_is_not_in_the_answer(installed, monkeypatch, capsys):
    installed("3.17.2", FAST)
    monkeypatch.setattr(application, "import_everything", lambda: print("Welcome!"))
    assert json.loads(run(monkeypatch, capsys, "--json")[1])["version"] == "3.17.2"


def test_fingerprints_are_those_of_what_patches_replace(installed, monkeypatch, capsys):
    name = "mlflow_service.probe:look"
    installed("3.17.2", Patch("x", "something", replaces=(name, "nowhere:z")))
    (found,) = json.loads(run(monkeypatch, capsys, "--fingerprints")[1]).items()
    assert found[0] == name and len(found[1]) == 16
