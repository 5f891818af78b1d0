# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Where the users of a server that is taken over are comes to the program that brings them whole, and is seen by nobody."""

from __future__ import annotations

import base64
import json

import pytest
from pretended import Pretended
from test_host_refusals import GIVEN, HOST

SECRET = "hidden-9Xw2"
# All bytes that a file may have, so none is taken for a letter.
CONTENT = bytes(range(256)) * 4
# In place of that program: notes what it is told, and finds nothing to do.
PROGRAM = 'cat >>"$0.asked"; echo >>"$0.asked"; echo \'{"changed": false, "actions": [], "max_connections": 1000}\''


@pytest.fixture
def told(tmp_path):
    """What the program was told by a run of the role's part for the database."""

    def told(**given):
        program = tmp_path / "program"
        program.write_text(f"{PROGRAM}\n")
        host = Pretended(tmp_path, [{"module": "mlops.mlflow_aws.host_files", "answers": [{"changed": False, "paths": []}]}])
        variables = {
            **GIVEN,
            **{f"mlflow_server_{name}": value for name, value in given.items()},
            "mlflow_server_flask_secret_key": "a random string of some length",
            "__mlflow_server_host": {**HOST, "processors": 1, "memory_mib": 2048},
            "__mlflow_server_plan_only": False,
            "__mlflow_server_upgrades": False,
            "__mlflow_server_apply": ["sh", str(program)],
        }
        code = host.run("mlflow_server", variables, "-vvv", tasks_from="database")
        assert code == 0, host.output
        assert SECRET not in host.output and base64.b64encode(CONTENT).decode() not in host.output
        return json.loads((tmp_path / "program.asked").read_text())

    return told


def test_a_file_on_the_controller_comes_whole(told, tmp_path):
    (tmp_path / "basic_auth.db").write_bytes(CONTENT)
    about = told(users_from="basic_auth.db")["users_from"]
    assert about["name"] == "basic_auth.db" and base64.b64decode(about["content"]) == CONTENT


def test_an_address_comes_with_its_password(told):
    address = "postgresql://mlflow@db.example.com/mlflow_auth"
    about = told(users_from=address, users_from_password=SECRET)["users_from"]
    assert about == {"name": address, "password": SECRET, "content": ""}


@pytest.mark.parametrize(("given", "name"), [({"users_from": "none"}, "none"), ({}, None)])
def test_a_word_is_no_file(told, given, name):
    assert told(**given).get("users_from", {}).get("name") == name


def test_without_logins_nobody_is_asked_for(told):
    assert "users_from" not in told(auth_enabled=False, allow_anonymous=True)
