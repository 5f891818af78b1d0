# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What the service of mlflow_server can't see is refused as a place for what it needs."""

from __future__ import annotations

from expressions import evaluated
from repository import ROOT, load_yaml

ROLE = ROOT / "roles" / "mlflow_server"
REFUSED = "__mlflow_server_problems | selectattr('bad') | map(attribute='say') | select('search', 'outside of /root') | length"
PYTHON = "/usr/local/bin/python3.12"


def test_the_sandbox_is_what_hides_them():
    assert "\nProtectHome=true\n" in (ROLE / "templates" / "sandbox.conf.j2").read_text()


def test_a_path_below_them_is_refused_by_the_variables_alone(tmp_path):
    hidden = ["/root/.local/bin/python3", "/home/python3", "//home/python3", "/run/user/0/python3", "/root"]
    seen = ["", PYTHON, "/opt/home/bin/python3", "/rooted/bin/python3", "/usr/root/bin/python3", "/srv/home"]
    cases = [{"mlflow_server_python": path} for path in hidden + seen]
    cases += [{"mlflow_server_spool_dir": path or "/srv/tmp"} for path in hidden + seen]
    answers = [answer for (answer,) in evaluated("mlflow_server", tmp_path, cases, [REFUSED])]
    assert answers == ([1] * len(hidden) + [0] * len(seen)) * 2


def test_a_link_that_leads_there_is_refused_by_a_look_at_the_host(tmp_path):
    tasks = load_yaml(ROLE / "tasks" / "host.yml")
    refuse = next(task for task in tasks if task["name"] == "Refuse a Python that the service can't see")
    expression = " and ".join(f"({condition})" for condition in refuse["when"])

    def case(home, **more):
        host = {"python_homes": {PYTHON: home} if home else {}}
        return {"__mlflow_server_host": host, "mlflow_server_python": PYTHON, "mlflow_server_state": "present", **more}

    cases = [
        case("/root/.local/share/uv/python/cpython-3.12.11-linux-x86_64-gnu"),
        case("/home/miniconda3"),
        case("/usr/local"),
        # Not there, which the installation says by itself.
        case(None),
        case("/root/x", mlflow_server_python=""),
        case("/root/x", mlflow_server_state="absent"),
    ]
    answers = [answer for (answer,) in evaluated("mlflow_server", tmp_path, cases, [f"({expression}) | bool"])]
    assert answers == [True, True, False, False, False, False]
