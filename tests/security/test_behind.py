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


@pytest.fixture(scope="module")
def passwords(deployment):
    """Of each login all passwords that it has had here, the latest one last."""
    now = deployment.content(APP)
    return {name: [now["password"]] if name == now["username"] else [] for name in LOGINS}


@pytest.mark.slow
@pytest.mark.everyday
@pytest.mark.parametrize("turn", ["one", "the other"])
def test_the_databases_login_is_no_more_than_that(deployment, server, passwords, turn):
    """
    From the service's user, with each of the two roles in its turn: what it needs works, and nothing else.

    The other one is idle then: nobody gets in as it, with its own former passwords, with those of the first, or with none.
    """
    leaked = deployment.content(APP)
    deployment.must_rotate()
    now = deployment.content(APP)
    me = now["username"]
    other = next(name for name in LOGINS if name != me)
    assert leaked["username"] == other
    passwords[me].append(now["password"])
    words = {"me": me, "other": other}
    statements = json.dumps({name: statement.format(**words) for name, statement in DENIED.items()})
    program = PROGRAM.format(statements=statements, file=SERVICE_FILE, old=leaked["password"], other=other)
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
    assert leaked["password"] in passwords[other] and now["password"] not in passwords[other]
    known = [*passwords[other], *passwords[me], "", other, "stolen"]
    for password in known:
        holds(not deployment.can_log_in(server.host, other, password), f"{other} is idle, and somebody gets in")
    for password in [*passwords[other], *passwords[me][:-1], "", me]:
        holds(not deployment.can_log_in(server.host, me, password), f"{me} with another password than its own of now")
    assert deployment.can_log_in(server.host, me, now["password"])
    tally["honest calls"] += 1
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


# Run where the service is: with its view of files and processes, as its user or, for what that user could not do anyway, as root.
INSIDE = r"""
import errno, json, os, sys
found = {}

def attempt(name, call):
    try:
        found[name] = f"done: {call()!r}"[:200]
    except OSError as error:
        found[name] = errno.errorcode[error.errno]

def write(folder):
    path = os.path.join(folder, "tests-inside")
    with open(path, "w") as file:
        file.write("x")
    os.unlink(path)

def append(path):
    with open(path, "a") as file:
        file.write("")

def read(path):
    with open(path, "rb") as file:
        return len(file.read(4096))

about = json.loads(sys.argv[1])
for folder in about["write"]:
    attempt("write " + folder, lambda: write(folder))
for path in about["append"]:
    attempt("append " + path, lambda: append(path))
for path in about["read"]:
    attempt("read " + path, lambda: read(path))
for path in about["list"]:
    attempt("list " + path, lambda: os.listdir(path))
seen = {}
for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
    try:
        seen[pid] = [os.stat("/proc/" + pid).st_uid, open("/proc/" + pid + "/cmdline").read().replace("\0", " ")[:200]]
    except OSError as error:
        seen[pid] = [-1, errno.errorcode[error.errno]]
found["processes"] = seen
found["me"] = os.getuid()
attempt("kill 1", lambda: os.kill(1, 0))
attempt("read 1", lambda: read("/proc/1/environ"))
attempt("list 1", lambda: os.listdir("/proc/1/fd"))
attempt("list proc", lambda: os.listdir("/proc/sys/kernel"))
print("FOUND " + json.dumps(found))
"""
# What is not the service's to write, and of others: root's, nginx's, the system's.
NOT_TO_WRITE = ["/", "/etc", "/etc/mlflow", "/etc/mlflow/tls", "/etc/nginx", "/etc/systemd/system", "/etc/cron.d", "/opt/mlflow",
                "/opt/mlflow/current", "/opt/mlflow/current/service", "/usr", "/usr/bin", "/usr/local/bin", "/boot", "/srv",
                "/root", "/home", "/home/admin", "/var/lib", "/var/lib/nginx", "/var/lib/systemd", "/var/lib/dpkg",
                "/var/log", "/var/log/nginx", "/var/www", "/var/spool", "/run/systemd", "/run/systemd/system", "/run/nginx",
                "/sys/fs/cgroup", "/sys/kernel", "/proc/sys/kernel"]  # fmt: skip
NOT_TO_APPEND = ["/etc/passwd", "/etc/mlflow/mlflow.env", "/etc/mlflow/pg_service.conf", "/etc/systemd/system/mlflow.service",
                 "/opt/mlflow/current/service/mlflow_service/http/logins.py", "/usr/bin/env", "/var/log/nginx/mlflow.access.log",
                 "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"]  # fmt: skip
NOT_TO_READ = ["/etc/shadow", "/etc/gshadow", "/etc/mlflow/tls/server.key", "/etc/ssh/ssh_host_ed25519_key", "/root/.ssh/id_rsa",
               "/var/log/nginx/mlflow.access.log", "/var/log/nginx/mlflow.error.log", "/etc/sudoers", "/dev/mem", "/dev/kmsg",
               "/proc/kcore", "/proc/kmsg"]  # fmt: skip
NOT_TO_LIST = ["/root", "/home/admin", "/var/lib/private", "/etc/ssl/private"]
NOT = ("EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "ENXIO")
OWN = {"write": ["/var/lib/mlflow", "/var/lib/mlflow/tmp", "/tmp", "/var/tmp"], "append": ["/dev/null"],
       "read": ["/etc/mlflow/pg_service.conf", "/etc/passwd", "/opt/mlflow/current/service/mlflow_service/http/logins.py"],
       "list": ["/var/lib/mlflow", "/proc/self"]}  # fmt: skip


@pytest.fixture(scope="module")
def inside(server):
    """Runs INSIDE in the view of the service's main process, and says what came of each attempt."""

    def ask(user, **about):
        # With the service's users, too, or its own processes would be those of strangers to it.
        view = "--user --preserve-credentials --mount" if user == "mlflow" else "--mount"
        become = "setpriv --reuid mlflow --regid mlflow --keep-groups --no-new-privs" if user == "mlflow" else "env"
        asked = json.dumps({"write": [], "append": [], "read": [], "list": [], **about})
        enter = f"setpriv --clear-groups nsenter --target $pid {view} -- {become}"
        said = server.run("pid=$(systemctl show --property=MainPID --value mlflow.service)\n"
                          f"{enter} /opt/mlflow/current/bin/python - '{asked}' <<'PROGRAM'\n{INSIDE}\nPROGRAM\n")  # fmt: skip
        return json.loads(said.rpartition("FOUND ")[2])

    return ask


@pytest.mark.parametrize("verb, paths", [("write", NOT_TO_WRITE), ("append", NOT_TO_APPEND), ("read", NOT_TO_READ),
                                         ("list", NOT_TO_LIST)], ids=["write", "append", "read", "list"])  # fmt: skip
def test_the_service_is_in_a_place_of_its_own(server, inside, verb, paths):
    """As its user, where its main process is: what is others' is not written, not read, and not there; its own is."""
    # Most are there for whoever may; else there would be nothing to be refused.
    there = server.run(f"for path in {' '.join(paths)}; do if [ -e $path ]; then echo $path; fi; done").split()
    assert len(there) > len(paths) / 2, there
    found = inside("mlflow", **{verb: paths})
    tally["attacks"] += len(paths)
    wrong = [f"{verb} {path}: {found[f'{verb} {path}']}" for path in paths if found[f"{verb} {path}"] not in NOT]
    honest = inside("mlflow", **{verb: OWN[verb]})
    for path in OWN[verb]:
        tally["honest calls"] += 1
        assert honest[f"{verb} {path}"].startswith("done"), honest[f"{verb} {path}"]
    assert wrong == []


def test_the_service_sees_its_own_processes_only(server, inside):
    """As its user, where its main process is; outside of it /proc is full of others."""
    others = server.run("grep --files-with-matches --null-data --extended-regexp 'nginx|systemd' /proc/[0-9]*/cmdline").split()
    assert len(others) >= 2
    found = inside("mlflow")
    for name in ("kill 1", "read 1", "list 1", "list proc"):
        holds(found[name] in (*NOT, "ESRCH"), f"{name}: {found[name]}")
    seen = found["processes"]
    holds(not [about for about in seen.values() if about[0] != found["me"]], seen)
    holds(not [about for about in seen.values() if "nginx" in about[1] or "systemd" in about[1]], seen)
    tally["honest calls"] += 1
    assert sum("mlflow_service" in about[1] for about in seen.values()) >= 1, seen


def test_not_even_root_writes_there(server, inside):
    """The files of the host are read-only in that place, others' homes and devices are not there, whoever asks."""
    folders = ["/", "/etc", "/etc/mlflow", "/etc/nginx", "/etc/systemd/system", "/opt/mlflow/current", "/usr", "/usr/bin",
               "/var/lib", "/var/lib/nginx", "/var/lib/dpkg", "/var/log", "/var/log/nginx", "/proc/sys/kernel"]  # fmt: skip
    files = ["/etc/passwd", "/etc/mlflow/mlflow.env", "/opt/mlflow/current/service/mlflow_service/http/logins.py", "/usr/bin/env",
             "/proc/sys/kernel/core_pattern"]  # fmt: skip
    devices, homes = ["/dev/mem", "/dev/kmsg", "/proc/kcore"], ["/home/admin", "/root/.ssh"]
    found = inside("root", write=folders, append=files, read=devices, list=homes)
    for name in [f"write {path}" for path in folders] + [f"append {path}" for path in files]:
        holds(found[name] in ("EROFS", "ENOENT", "EACCES"), f"{name}: {found[name]}")
    for name in [f"read {path}" for path in devices] + [f"list {path}" for path in homes]:
        holds(found[name] in NOT, f"{name}: {found[name]}")
    # Outside of it root does, and inside the service's folder is his.
    server.run("for folder in /etc /etc/mlflow /opt/mlflow/current /usr/bin /var/lib/nginx; do"
               " touch $folder/tests-outside && rm $folder/tests-outside || exit 1; done")  # fmt: skip
    honest = inside("root", write=["/var/lib/mlflow", "/tmp"])
    for folder in ("/var/lib/mlflow", "/tmp"):
        tally["honest calls"] += 1
        assert honest[f"write {folder}"].startswith("done"), honest
