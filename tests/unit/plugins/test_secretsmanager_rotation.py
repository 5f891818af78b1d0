# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import json

import boto3
import pytest
from plugin_support import REGION

NAME = "mlflow/database/app"
LOGINS = ["mlflow_a", "mlflow_b"]


@pytest.fixture
def client(aws):
    client = boto3.client("secretsmanager", region_name=REGION)
    client.create_secret(Name=NAME, SecretString=json.dumps({"username": "mlflow_a", "password": "first", "host": "db"}))
    return client


@pytest.fixture
def step(module):
    def step(state, version="", logins=LOGINS, **more):
        secrets = [{"name": NAME, "logins": logins, "version": version}]
        answer = module("secretsmanager_rotation", secrets=secrets, state=state, **more)
        return answer if answer.get("failed") else {**answer["rotations"][NAME], "changed": answer["changed"]}

    return step


def labels(client):
    versions = client.describe_secret(SecretId=NAME)["VersionIdsToStages"]
    return {label: version for version, names in versions.items() for label in names}


def current(client):
    # By its version: moto's answer for the label lags behind, which the local cloud mends.
    return json.loads(client.get_secret_value(SecretId=NAME, VersionId=labels(client)["AWSCURRENT"])["SecretString"])




def test_ladder(step, client):
    seen = step("read")
    assert (seen["status"], seen["changed"], seen["new"]["password"]) == ("none", False, "first")
    first = labels(client)["AWSCURRENT"]

    planned = step("pending", check_mode=True)
    assert planned["changed"] and planned["new"]["username"] == "mlflow_b"
    assert planned["new"]["password"] == "not-generated-in-check-mode"
    assert "AWSPENDING" not in labels(client)

    begun = step("pending")
    assert (begun["status"], begun["changed"], begun["retiring"]) == ("pending", True, "mlflow_a")
    assert begun["new"]["username"] == "mlflow_b" and begun["new"]["host"] == "db" and len(begun["new"]["password"]) == 32
    assert begun["current"]["password"] == "first" and labels(client)["AWSCURRENT"] == first

    again = step("pending")
    assert not again["changed"] and (again["version"], again["new"]) == (begun["version"], begun["new"])

    promoted = step("promoted", begun["version"])
    assert (promoted["status"], promoted["changed"], promoted["retiring"]) == ("promoted", True, "mlflow_a")
    assert labels(client) == {"AWSCURRENT": begun["version"], "AWSPENDING": begun["version"], "AWSPREVIOUS": first}
    assert not step("promoted", begun["version"])["changed"]
    # Whoever comes now goes on with this one.
    found = step("pending")
    assert not found["changed"] and (found["status"], found["version"]) == ("promoted", begun["version"])

    finished = step("finished", begun["version"])
    assert (finished["status"], finished["changed"]) == ("none", True)
    assert "AWSPENDING" not in labels(client)
    assert not step("finished", begun["version"])["changed"]
    assert step("pending")["new"]["username"] == "mlflow_a"


def test_check_mode_goes_through_all_steps(step, client):
    before = labels(client)
    version = step("pending", check_mode=True)["version"]
    assert step("promoted", version, check_mode=True)["changed"]
    assert step("finished", version, check_mode=True)["changed"]
    assert labels(client) == before


def test_one_role_keeps_its_name(step, client):
    begun = step("pending", logins=[])
    assert begun["new"]["username"] == "mlflow_a" and begun["new"]["password"] != "first" and begun["retiring"] == ""


def test_a_step_of_another_rotation_is_refused(step, client):
    begun = step("pending")
    for state in ("promoted", "finished"):
        refused = step(state, "11111111-2222-3333-4444-555555555555")
        assert refused["failed"] and "is not the one under way" in refused["msg"]
    assert labels(client)["AWSPENDING"] == begun["version"]
    early = step("finished", begun["version"])
    assert early["failed"] and "not current yet" in early["msg"]


def test_a_new_address_written_by_site_does_not_hide_a_promoted_rotation(step, client):
    begun = step("pending")
    step("promoted", begun["version"])
    client.put_secret_value(SecretId=NAME, SecretString=json.dumps({**begun["new"], "host": "other"}))
    found = step("pending")
    assert (found["status"], found["version"], found["changed"]) == ("promoted", begun["version"], False)
    step("finished", begun["version"])
    assert "AWSPENDING" not in labels(client) and current(client)["host"] == "other"


def test_an_address_that_has_changed_is_not_changed_back(step, client):
    """A rotation is cut off, the database restored under another name, and its address written by site.yml."""
    begun = step("pending")
    moved = {"username": "mlflow_a", "password": "first", "host": "restored", "port": 5433}
    client.put_secret_value(SecretId=NAME, SecretString=json.dumps(moved))
    before = labels(client)
    for check_mode in (False, True):
        refused = step("promoted", begun["version"], check_mode=check_mode)
        assert refused["failed"] and "was changed since" in refused["msg"] and "(host, port)" in refused["msg"]
        assert "restored" not in refused["msg"]
    assert labels(client) == before and current(client) == moved

    planned = step("pending", check_mode=True)
    assert planned["changed"] and planned["new"]["host"] == "restored" and labels(client) == before

    mended = step("pending")
    assert mended["changed"] and mended["status"] == "pending" and mended["version"] != begun["version"]
    # The database may have that password already.
    assert mended["new"] == {**moved, "username": "mlflow_b", "password": begun["new"]["password"]}
    assert mended["created"] >= begun["created"] and not step("pending")["changed"]
    step("promoted", mended["version"])
    assert current(client) == mended["new"] and step("finished", mended["version"])["status"] == "none"


def test_what_is_no_login_is_not_changed_back_either(client, module):
    name = "mlflow/database/admin"
    client.create_secret(Name=name, SecretString=json.dumps({"username": "admin", "password": "first", "host": "db"}))

    def step(state, version=""):
        answer = module("secretsmanager_rotation", secrets=[{"name": name, "version": version}], state=state)
        return answer if answer.get("failed") else answer["rotations"][name]

    begun = step("pending")
    changed = {"username": "admin", "password": "first", "engine": "postgres"}
    client.put_secret_value(SecretId=name, SecretString=json.dumps(changed))
    refused = step("promoted", begun["version"])
    assert refused["failed"] and "(engine, host)" in refused["msg"]
    mended = step("pending")
    assert mended["new"] == {"username": "admin", "password": begun["new"]["password"], "engine": "postgres"}
    assert step("promoted", mended["version"])["status"] == "promoted"


def test_a_pending_version_of_somebody_else_is_replaced(step, client):
    """One for the role that is in use would change the password under MLflow."""
    foreign = client.put_secret_value(
        SecretId=NAME, SecretString=json.dumps({"username": "mlflow_a", "password": "x"}), VersionStages=["AWSPENDING"]
    )
    begun = step("pending")
    assert begun["version"] != foreign["VersionId"] and begun["new"]["username"] == "mlflow_b"


def test_bad_secrets_are_told_without_their_content(step, module, client):
    client.put_secret_value(SecretId=NAME, SecretString=json.dumps({"username": "postgres", "password": "hidden"}))
    refused = step("pending")
    assert refused["failed"] and "'postgres', which is none of the two" in refused["msg"]
    client.put_secret_value(SecretId=NAME, SecretString="hidden")
    refused = step("pending")
    assert refused["failed"] and "no JSON object" in refused["msg"] and "hidden" not in refused["msg"]
    missing = module("secretsmanager_rotation", secrets=[{"name": "mlflow/nothing"}])
    assert missing["failed"] and "mlflow/nothing" in missing["msg"]
    assert module("secretsmanager_rotation", secrets=[{"name": NAME}], state="promoted")["failed"]
    assert module("secretsmanager_rotation", secrets=[{"name": NAME, "logins": ["one"]}])["failed"]


def test_a_password_has_sixteen_characters_at_least(step, client):
    refused = step("pending", length=15)
    assert refused["failed"] and "length is 15" in refused["msg"] and "AWSPENDING" not in labels(client)
    assert len(step("pending", length=16)["new"]["password"]) == 16


def test_a_key_without_a_user(client, module):
    name = "mlflow/mlflow/flask-secret-key"
    client.create_secret(Name=name, SecretString=json.dumps({"key": "first"}))

    def step(state, version="", **more):
        secrets = [{"name": name, "field": "key", "version": version}]
        answer = module("secretsmanager_rotation", secrets=secrets, state=state, **more)
        return {**answer["rotations"][name], "changed": answer["changed"]}

    assert step("read")["new"] == {"key": "first"}
    planned = step("pending", check_mode=True)
    assert planned["changed"] and planned["new"] == {"key": "not-generated-in-check-mode"}
    begun = step("pending")
    assert begun["changed"] and list(begun["new"]) == ["key"] and len(begun["new"]["key"]) == 32
    assert begun["current"] == {"key": "first"} and begun["retiring"] == ""
    assert not step("pending")["changed"]
    assert step("promoted", begun["version"])["status"] == "promoted"
    assert step("finished", begun["version"])["status"] == "none"
    assert step("read")["new"] == begun["new"]
    # Without that word it is a login's secret, and this is none.
    refused = module("secretsmanager_rotation", secrets=[{"name": name}])
    assert refused["failed"] and "username and password" in refused["msg"]
