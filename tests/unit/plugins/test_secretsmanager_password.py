# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import json
import re

import boto3
import pytest
from plugin_support import REGION, plugin

NAME = "mlflow/database/app"


@pytest.fixture
def client(aws):
    return boto3.client("secretsmanager", region_name=REGION)


def content(client, name=NAME):
    return json.loads(client.get_secret_value(SecretId=name)["SecretString"])


def wanted(**more):
    return [{"name": NAME, "initial": {"username": "mlflow_a"}, "values": {"engine": "postgres"}, **more}]


def test_ladder(module, client):
    missing = module("secretsmanager_password")
    assert missing["failed"] and "secrets" in missing["msg"]

    planned = module("secretsmanager_password", secrets=wanted(), check_mode=True)
    assert planned["changed"]
    assert planned["secrets"][NAME]["password"] == "not-generated-in-check-mode"
    assert client.list_secrets()["SecretList"] == [] and planned["created"] == {}

    made = module("secretsmanager_password", secrets=wanted(), tags={"mlflow_aws_name": "mlflow"})
    assert made["changed"] and made["changed_secrets"] == [NAME]
    assert made["secrets"][NAME] == content(client)
    assert content(client)["username"] == "mlflow_a" and len(content(client)["password"]) == 32

    again = module("secretsmanager_password", secrets=wanted(), tags={"mlflow_aws_name": "mlflow"})
    assert not again["changed"]
    assert again["secrets"] == made["secrets"]
    created = client.get_secret_value(SecretId=NAME)["CreatedDate"].timestamp()
    assert made["created"] == again["created"] == {NAME: created}

    assert again["under_way"] == []
    version = client.put_secret_value(SecretId=NAME, SecretString="{}", VersionStages=["AWSPENDING"])["VersionId"]
    assert module("secretsmanager_password", secrets=wanted())["under_way"] == [NAME]
    client.update_secret_version_stage(SecretId=NAME, VersionStage="AWSPENDING", RemoveFromVersionId=version)
    assert module("secretsmanager_password", secrets=wanted())["under_way"] == []

    password = content(client)["password"]
    changed = module("secretsmanager_password", secrets=wanted(values={"engine": "postgres", "host": "db", "port": 5432}))
    assert changed["changed"]
    assert changed["created"] == {NAME: client.get_secret_value(SecretId=NAME)["CreatedDate"].timestamp()}
    assert content(client) == {"username": "mlflow_a", "engine": "postgres", "password": password, "host": "db", "port": 5432}

    gone = module("secretsmanager_password", secrets=wanted(), state="absent", recovery_window_days=0)
    assert gone["changed"]
    assert not module("secretsmanager_password", secrets=wanted(), state="absent")["changed"]


def test_what_rotation_changed_stays(module, client):
    module("secretsmanager_password", secrets=wanted())
    rotated = {**content(client), "username": "mlflow_b", "password": "another-password-of-a-rotation"}
    client.put_secret_value(SecretId=NAME, SecretString=json.dumps(rotated))
    answer = module("secretsmanager_password", secrets=wanted())
    assert not answer["changed"]
    assert answer["secrets"][NAME] == rotated


def test_a_secret_that_waits_for_its_deletion_comes_back(module, client):
    made = module("secretsmanager_password", secrets=wanted())
    module("secretsmanager_password", secrets=wanted(), state="absent", recovery_window_days=7)
    assert module("secretsmanager_password", secrets=wanted(), check_mode=True)["changed"]
    back = module("secretsmanager_password", secrets=wanted())
    assert back["changed"]
    assert back["secrets"] == made["secrets"]


def test_several_in_one_call(module, client):
    answer = module(
        "secretsmanager_password", secrets=[*wanted(), {"name": "mlflow/mlflow/flask-secret-key", "generate": ["key"]}]
    )
    assert answer["changed_secrets"] == [NAME, "mlflow/mlflow/flask-secret-key"]
    assert list(content(client, "mlflow/mlflow/flask-secret-key")) == ["key"]


def test_nothing_is_generated_where_it_was_not_asked_for(module, client):
    module("secretsmanager_password", secrets=wanted(generate=[]))
    assert "password" not in content(client)


def test_a_missing_tag_is_added(module, client):
    module("secretsmanager_password", secrets=wanted())
    assert module("secretsmanager_password", secrets=wanted(), tags={"team": "a"})["changed"]
    assert client.describe_secret(SecretId=NAME)["Tags"] == [{"Key": "team", "Value": "a"}]
    assert not module("secretsmanager_password", secrets=wanted(), tags={"team": "a"})["changed"]


def test_somebody_elses_secret_is_left_alone(module, client):
    client.create_secret(Name=NAME, SecretString="not JSON")
    answer = module("secretsmanager_password", secrets=wanted())
    assert answer["failed"] and "not a JSON object" in answer["msg"]
    assert client.get_secret_value(SecretId=NAME)["SecretString"] == "not JSON"


def test_the_diff_holds_no_secret(module, client):
    made = module("secretsmanager_password", secrets=wanted())
    assert made["secrets"][NAME]["password"] not in json.dumps(made["diff"])
    assert made["diff"]["after"]["keys"][NAME] == ["engine", "password", "username"]


@pytest.mark.parametrize(
    "options, said",
    [({"length": 8}, "length is 8"), *(({"recovery_window_days": days}, f"{days}: AWS takes 7 to 30") for days in (-1, 3, 31))],
)
def test_bad_options(module, aws, options, said):
    answer = module("secretsmanager_password", secrets=wanted(), **options)
    assert answer["failed"] and said in answer["msg"]


def test_generated_passwords_suit_rds():
    generate = plugin("modules", "secretsmanager_password").generate
    passwords = {generate(32) for _unused in range(200)}
    assert len(passwords) == 200
    for password in passwords:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9\-_.~!#%^*+=]{31}", password)
        assert re.search("[a-z]", password) and re.search("[A-Z]", password) and re.search("[0-9]", password)


def test_a_secret_is_encrypted_with_the_key_that_was_named(module, client):
    key = boto3.client("kms", region_name=REGION).create_key()["KeyMetadata"]["Arn"]
    answer = module("secretsmanager_password", secrets=wanted(generate=["password"]), kms_key_id=key)
    assert not answer["failed"], answer
    assert client.describe_secret(SecretId=NAME)["KmsKeyId"] == key


@pytest.fixture
def deleted_for_good(monkeypatch):
    """Secrets Manager refuses the name of a secret so often after it was deleted, and the module does not wait in between."""
    from moto.secretsmanager.exceptions import InvalidRequestException
    from moto.secretsmanager.models import SecretsManagerBackend

    left, make = [0], SecretsManagerBackend.create_secret

    def create_secret(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise InvalidRequestException("a secret with this name is already scheduled for deletion.")
        return make(*args, **kwargs)

    monkeypatch.setattr(SecretsManagerBackend, "create_secret", create_secret)
    monkeypatch.setattr(plugin("modules", "secretsmanager_password"), "PAUSE_SECONDS", 0)
    return left


def test_a_secret_that_was_just_deleted_for_good_is_made_anew(module, client, deleted_for_good):
    deleted_for_good[0] = 2
    made = module("secretsmanager_password", secrets=wanted())
    assert made["changed"] and made["secrets"][NAME] == content(client)


def test_a_name_that_stays_refused_ends_in_words(module, client, deleted_for_good, monkeypatch):
    deleted_for_good[0] = 10**6
    monkeypatch.setattr(plugin("modules", "secretsmanager_password"), "PATIENCE_SECONDS", 0.1)
    answer = module("secretsmanager_password", secrets=wanted())
    assert answer["failed"] and "scheduled for deletion" in answer["msg"]


def test_a_secret_that_is_gone_before_it_is_had_back_is_made_anew(module, client, monkeypatch):
    from moto.secretsmanager.models import SecretsManagerBackend

    before = module("secretsmanager_password", secrets=wanted())
    client.delete_secret(SecretId=NAME, RecoveryWindowInDays=7)
    restore = SecretsManagerBackend.restore_secret

    def gone(self, secret_id):
        self.secrets.pop(secret_id)
        return restore(self, secret_id)

    monkeypatch.setattr(SecretsManagerBackend, "restore_secret", gone)
    made = module("secretsmanager_password", secrets=wanted())
    assert made["changed"] and made["secrets"][NAME] == content(client) != before["secrets"][NAME]
