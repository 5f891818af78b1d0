# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What is behind the server gives whoever has taken it over no more than the server itself needs."""

from __future__ import annotations

import json
import secrets

import boto3
import pytest
from attacks import holds, tally
from deployment import APP, LOGINS, SERVICE_FILE

# Tried with a login that the deployment has; `other` is the second one, `owner` the role without a login.
DENIED = {
    "to be a superuser": "ALTER ROLE {me} SUPERUSER",
    "to make roles": "ALTER ROLE {me} CREATEROLE",
    "to make databases": "CREATE DATABASE stolen",
    "to make a role": "CREATE ROLE stolen LOGIN",
    "the hashes of passwords": "SELECT rolpassword FROM pg_authid",
    "another's password": "ALTER ROLE {other} PASSWORD 'stolen'",
    "another's login": "ALTER ROLE {other} LOGIN",
    "the owner's login": "ALTER ROLE mlflow_owner LOGIN PASSWORD 'stolen'",
    "to be the other one": "SET ROLE {other}",
    "to be the administrator": "SET ROLE mlflow_admin",
    "to be the cluster's administrator": "GRANT pg_read_all_data TO {me}",
    "files of the database's host": "SELECT pg_read_file('/etc/passwd')",
    "to write files there": "COPY (SELECT 1) TO '/tmp/stolen'",
    "programs there": "COPY (SELECT 1) TO PROGRAM 'id'",
    "an untrusted language": "CREATE EXTENSION plpython3u",
    "to end others' sessions": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename NOT IN ('{me}', '{other}')"
                               " AND usename IS NOT NULL AND pid <> pg_backend_pid()",
    "settings of the cluster": "ALTER SYSTEM SET log_statement = 'all'",
    "to read the cluster's files": "SELECT setting FROM pg_file_settings",
}  # fmt: skip
PROGRAM = """
import json, sys
import psycopg2
statements = json.loads({statements!r})
known = dict(line.strip().split("=", 1) for line in open({file!r}) if "=" in line and not line.startswith("#"))
found = {{}}
def connect(**more):
    connection = psycopg2.connect(**{{**known, **more}})
    connection.autocommit = True
    return connection
connection = connect()
for name, statement in statements.items():
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        found[name] = "done: " + str(cursor.fetchall() if cursor.description else "")
    except psycopg2.Error as error:
        found[name] = type(error).__name__ + " " + (error.pgcode or "")
for name, more in {{"without TLS": dict(sslmode="disable"), "with an old password": dict(password={old!r}),
                   "with another's name": dict(user={other!r}), "as the owner": dict(user="mlflow_owner")}}.items():
    try:
        connect(**more).close()
        found[name] = "done"
    except psycopg2.OperationalError as error:
        found[name] = "refused " + str(error)[:200]
cursor = connection.cursor()
cursor.execute("SELECT count(*) FROM experiments")
found["honest"] = cursor.fetchone()[0]
found["tls"] = known["sslmode"] == "verify-full"
print("FOUND " + json.dumps(found))
"""


@pytest.mark.slow
def test_the_databases_login_is_no_more_than_that(deployment, server):
    """From the service's user: what it needs works, and nothing else; a password that was leaked is dead after a rotation."""
    leaked = deployment.content(APP)
    deployment.must_rotate()
    me = deployment.content(APP)["username"]
    other = next(name for name in LOGINS if name != me)
    words = {"me": me, "other": other}
    statements = json.dumps({name: statement.format(**words) for name, statement in DENIED.items()})
    program = PROGRAM.format(statements=statements, file=SERVICE_FILE, old=leaked["password"], other=other)
    if server.run("/opt/mlflow/current/bin/python -c 'import psycopg2' 2>/dev/null || echo no"):
        program = program.replace("psycopg2", "psycopg").replace("pgcode", "sqlstate")
    found = json.loads(server.python(program).rpartition("FOUND ")[2])
    assert found.pop("honest") >= 1 and found.pop("tls") is True
    tally["honest calls"] += 2
    # 42501 is insufficient_privilege; what is not installed, or not a role, is not there to be had.
    for name in DENIED:
        if name == "to end others' sessions":
            holds("done: [(True" not in found[name], f"{name}: {found[name]}")
        else:
            holds(not found[name].startswith("done"), f"{name}: {found[name]}")
    for name in ("without TLS", "with an old password", "with another's name", "as the owner"):
        holds(found[name].startswith("refused"), f"{name}: {found[name]}")
    assert not deployment.can_log_in(server.host, leaked["username"], leaked["password"])
    deployment.check_finished()


METADATA = "http://169.254.169.254/latest"


@pytest.fixture(scope="module")
def metadata(server):
    """Asked by the service's user on the host: the status and the text of what curl is told."""

    def ask(path, *arguments):
        curl = "runuser -u mlflow -- curl --silent --max-time 10 --write-out '\\n%{http_code}'"
        text, _, status = server.run(f"{curl} {' '.join(arguments)} {METADATA}/{path}", check=False).rpartition("\n")
        return int(status), text

    return ask


def test_metadata_wants_a_token_and_gives_the_roles_credentials_only(metadata):
    for path in ("meta-data/iam/security-credentials/", "meta-data/", "user-data", "dynamic/instance-identity/document"):
        holds(metadata(path)[0] == 401, f"{path}: {metadata(path)}")
        holds(metadata(path, "--header 'X-aws-ec2-metadata-token: made-up'")[0] == 401, path)
    # A proxy that is talked into it adds such a header, and is refused.
    wants = ("--request PUT", "--header 'X-aws-ec2-metadata-token-ttl-seconds: 60'")
    holds(metadata("api/token", *wants, "--header 'X-Forwarded-For: 203.0.113.9'")[0] in (400, 403))
    holds(metadata("api/token", "--request PUT")[0] == 400)
    status, token = metadata("api/token", *wants)
    assert status == 200
    with_token = f"--header 'X-aws-ec2-metadata-token: {token}'"
    status, role = metadata("meta-data/iam/security-credentials/", with_token)
    assert status == 200 and len(role.split()) == 1
    status, text = metadata(f"meta-data/iam/security-credentials/{role.strip()}", with_token)
    assert status == 200 and "AccessKeyId" in json.loads(text)
    tally["honest calls"] += 3
    status, text = metadata("user-data", with_token)
    holds(status in (200, 404) and "password" not in text.lower() and "secret" not in text.lower(), text)


S3 = """
import json, os
import boto3
from urllib.parse import urlsplit
root = urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
s3 = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
iam, sm = (boto3.client(name, endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL")) for name in ("iam", "secretsmanager"))
other, mine, key = {other!r}, root.netloc, root.path.lstrip("/") + "/tests-security"
tries = {{
    "honest: write": lambda: s3.put_object(Bucket=mine, Key=key, Body=b"x"),
    "honest: read": lambda: s3.get_object(Bucket=mine, Key=key),
    "honest: list": lambda: s3.list_objects_v2(Bucket=mine, MaxKeys=1),
    "honest: remove": lambda: s3.delete_object(Bucket=mine, Key=key),
    "another bucket's list": lambda: s3.list_objects_v2(Bucket=other),
    "another bucket's object": lambda: s3.get_object(Bucket=other, Key="x"),
    "to write to another bucket": lambda: s3.put_object(Bucket=other, Key="y", Body=b"y"),
    "to remove from another bucket": lambda: s3.delete_object(Bucket=other, Key="x"),
    "all buckets": lambda: s3.list_buckets(),
    "a bucket of one's own": lambda: s3.create_bucket(Bucket=other + "-new"),
    "the bucket's policy": lambda: s3.put_bucket_policy(Bucket=mine, Policy="{{}}"),
    "the bucket's public access": lambda: s3.delete_public_access_block(Bucket=mine),
    "the bucket's versions": lambda: s3.put_bucket_versioning(Bucket=mine, VersioningConfiguration={{"Status": "Suspended"}}),
    "the bucket itself": lambda: s3.delete_bucket(Bucket=mine),
    "the secrets": lambda: sm.get_secret_value(SecretId={secret!r}),
    "the users": lambda: iam.list_users(),
}}
found = {{}}
for name, call in tries.items():
    try:
        call()
        found[name] = "done"
    except Exception as error:
        found[name] = getattr(error, "response", {{"Error": {{"Code": repr(error)}}}})["Error"]["Code"]
print("FOUND " + json.dumps(found))
"""


def test_the_roles_credentials_open_one_bucket_and_nothing_else(deployment, server):
    other = f"others-{secrets.token_hex(6)}"
    s3 = boto3.client("s3", **deployment.aws)
    s3.create_bucket(Bucket=other, CreateBucketConfiguration={"LocationConstraint": deployment.aws["region_name"]})
    s3.put_object(Bucket=other, Key="x", Body=b"x")
    try:
        found = json.loads(server.python(S3.format(other=other, secret=APP)).rpartition("FOUND ")[2])
    finally:
        s3.delete_object(Bucket=other, Key="x")
        s3.delete_bucket(Bucket=other)
    for name, came in found.items():
        if name.startswith("honest"):
            tally["honest calls"] += 1
            assert came == "done", f"{name}: {came}"
        else:
            holds(came in ("AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation"), f"{name}: {came}")
