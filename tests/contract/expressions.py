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


def evaluated(role: str, tmp_path: Path, cases: list[dict], expressions: list[str]) -> list[list]:
    """For each case, which is variables, what each expression says with the role's defaults and vars below them."""
    folder = ROOT / "roles" / role
    answers = tmp_path / "answers.json"
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "vars_files": [str(file) for file in (folder / "defaults" / "main.yml", folder / "vars" / "main.yml") if file.is_file()],
        "tasks": [
            {
                "name": f"Case {number}",
                "ansible.builtin.copy": {
                    "content": "{{ [" + ", ".join(f"({expression})" for expression in expressions) + "] | to_json }}",
                    "dest": f"{answers}.{number}",
                    "mode": "0600",
                },
                # As task variables these win over the role's own.
                "vars": case,
            }
            for number, case in enumerate(cases)
        ],
    }
    playbook = tmp_path / "expressions.yml"
    playbook.write_text(yaml.safe_dump([play]))
    top = tmp_path / "collections" / "ansible_collections" / "mlops"
    if not top.exists():
        top.mkdir(parents=True)
        (top / "mlflow_aws").symlink_to(ROOT)
    paths = os.environ.get("ANSIBLE_COLLECTIONS_PATH", "")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", playbook],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": f"{tmp_path / 'collections'}:{paths}", "ANSIBLE_NOCOLOR": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(Path(f"{answers}.{number}").read_text()) for number in range(len(cases))]
