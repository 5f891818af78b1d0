# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a role's expressions say, asked of Ansible itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from repository import ROOT

# How the answers are told: as JSON behind an arrow.
CALLBACK = {"ANSIBLE_STDOUT_CALLBACK": "default", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_FORCE_COLOR": "0"}


def evaluated(role: str, tmp_path: Path, cases: list[dict], expressions: list[str]) -> list[list]:
    """For each case, which is variables, what each expression says with the role's defaults and vars below them."""
    (answers,) = evaluated_together(tmp_path, [(role, cases, expressions)])
    return answers


def evaluated_together(tmp_path: Path, questions: list[tuple[str, list[dict], list[str]]]) -> list[list[list]]:
    """The same for several roles in one run of Ansible, whose start is what takes the time."""
    plays = [_play(role, cases, expressions) for role, cases, expressions in questions]
    playbook = tmp_path / "expressions.yml"
    playbook.write_text(yaml.safe_dump(plays))
    top = tmp_path / "collections" / "ansible_collections" / "mlops"
    if not top.exists():
        top.mkdir(parents=True)
        (top / "mlflow_aws").symlink_to(ROOT)
    paths = os.environ.get("ANSIBLE_COLLECTIONS_PATH", "")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", playbook],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": f"{tmp_path / 'collections'}:{paths}", "ANSIBLE_NOCOLOR": "1", **CALLBACK},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.JSONDecoder().raw_decode(text)[0]["msg"] for text in done.stdout.split(" => ")[1:]]
    answers = iter([json.loads(answer) if isinstance(answer, str) else answer for answer in answers])
    return [[next(answers) for _case in cases] for _role, cases, _expressions in questions]


def _play(role: str, cases: list[dict], expressions: list[str]) -> dict:
    folder = ROOT / "roles" / role
    return {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "vars_files": [str(file) for file in (folder / "defaults" / "main.yml", folder / "vars" / "main.yml") if file.is_file()],
        "tasks": [
            {
                "name": f"Case {number}",
                # Without a module: a process for each case would take most of the time.
                "ansible.builtin.debug": {
                    "msg": "{{ [" + ", ".join(f"({expression})" for expression in expressions) + "] | to_json }}",
                },
                # As task variables these win over the role's own.
                "vars": case,
            }
            for number, case in enumerate(cases)
        ],
    }
