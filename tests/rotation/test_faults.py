# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What goes wrong around a rotation stops it in clear words, both hosts serve on, and the next run finishes it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time

import boto3
import pytest
from deployment import APP, LOGINS, NAME, REGION, SERVICE_FILE, at
from load import Load
from network import inside, store_is_away

SWAP = "Write the database's address and password"
RETIRE = "wait for the old role"


def words(output):
    return " ".join(output.split())


def finishes(deployment, under_way):
    deployment.must_rotate()
    deployment.check_finished()
    assert deployment.labels(APP)["AWSCURRENT"] == under_way


@pytest.fixture
def second(deployment):
    return sorted(deployment.hosts)[1]


class Ssh:
    """Closes a machine's ssh, also for connections that are open, without a trace on the machine."""

    def __init__(self, deployment, host):
        self.inside = f"{inside(deployment, host)} nft"

    @property
    def close(self):
        rules = (
            "add table inet rotation; "
            "add chain inet rotation input { type filter hook input priority -300; }; "
            "add rule inet rotation input tcp dport 22 reject with tcp reset"
        )
        return f"{self.inside} '{rules}'"

    @property
    def hang(self):
        """As of a machine that hangs: what is sent there gets no answer, not even that nobody is there."""
        return self.close.replace("reject with tcp reset", "drop")

    @property
    def open(self):
        return f"{self.inside} delete table inet rotation"


def test_a_host_that_is_not_there_stops_the_run_before_anything(deployment, second):
    before = deployment.labels(APP)
    ssh = Ssh(deployment, second)
    subprocess.run(["sh", "-c", ssh.close], check=True)
    try:
        code, output = deployment.rotate()
    finally:
        subprocess.run(["sh", "-c", ssh.open], check=True)
    assert code != 0
    assert f"{second} is not in order, so nothing was changed" in words(output)
    assert deployment.labels(APP) == before


def test_a_service_that_is_down_stops_the_run_before_anything(deployment, second):
    before = deployment.labels(APP)
    deployment.ssh(second, "systemctl stop mlflow.socket mlflow.service")
    try:
        code, output = deployment.rotate()
    finally:
        deployment.ssh(second, "systemctl start mlflow.service")
    assert code != 0
    assert f"{second} is not in order, so nothing was changed: mlflow.service is inactive" in words(output)
    assert deployment.labels(APP) == before


def test_a_host_that_goes_away_in_the_middle(deployment, second, load):
    before = deployment.content(APP)
    ssh = Ssh(deployment, second)
    with load(clients=4, pause=0.1) as clients:
        try:
            code, output = deployment.rotate(environ=at(SWAP, ssh.close))
            time.sleep(deployment.variables["mlflow_server_pool_recycle"] + 2)
        finally:
            subprocess.run(["sh", "-c", ssh.open], check=True)
        assert code != 0
        assert f"{second}: " in words(output) and "The service file is what it was before." in words(output)
        # The old role was not locked: the host that could not be reached has nothing else.
        assert deployment.roles()[before["username"]][0]
        assert deployment.service_user(second) == before["username"]
        under_way = deployment.labels(APP)["AWSPENDING"]
        finishes(deployment, under_way)
    assert not clients.failed, clients.failed[:3]


def test_a_full_disk(deployment, second, load):
    old = deployment.ssh(second, f"sha256sum {SERVICE_FILE}")
    before = deployment.content(APP)
    try:
        deployment.ssh(
            second,
            "set -e; cp -a /etc/mlflow /root/kept; mount -t tmpfs -o size=8m,mode=0750,gid=$(id -g mlflow) tmpfs /etc/mlflow\n"
            "cp -a /root/kept/. /etc/mlflow/; dd if=/dev/zero of=/etc/mlflow/filler bs=1k count=10000 2>/dev/null || true",
        )
        with load(clients=4, pause=0.1) as clients:
            code, output = deployment.rotate()
            assert code != 0
            assert f"Could not put {SERVICE_FILE} right: No space left on device" in words(output)
            assert deployment.ssh(second, f"sha256sum {SERVICE_FILE}") == old
            assert deployment.roles()[before["username"]][0]
            under_way = deployment.labels(APP)["AWSPENDING"]
            deployment.ssh(second, "rm /etc/mlflow/filler")
            finishes(deployment, under_way)
        assert not clients.failed, clients.failed[:3]
    finally:
        deployment.ssh(
            second,
            f"cp -a {SERVICE_FILE} /root/kept/; umount /etc/mlflow\n"
            f"cp -a /root/kept/pg_service.conf {SERVICE_FILE}; rm -r /root/kept",
        )


def refused(deployment, action):
    """Keys that may do all but one thing."""
    iam = boto3.client("iam", **deployment.aws)
    name = f"without-{action}".lower()
    policy = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": f"secretsmanager:{action}", "Resource": "*"},
    ]
    iam.create_user(UserName=name)
    iam.put_user_policy(
        UserName=name, PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": policy})
    )
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"mlflow_aws_access_key": key["AccessKeyId"], "mlflow_aws_secret_key": key["SecretAccessKey"]}


@pytest.mark.parametrize("action", ["PutSecretValue", "UpdateSecretVersionStage"])
def test_secrets_manager_refuses(deployment, load, action):
    before = deployment.content(APP)
    with load(clients=2, pause=0.2) as clients:
        code, output = deployment.rotate(**refused(deployment, action))
        assert code != 0
        assert "AccessDenied" in output and APP in output
        # Nothing is lost: what was current is current, and works.
        assert deployment.content(APP) == before
        under_way = deployment.labels(APP).get("AWSPENDING")
        assert (under_way is None) == (action == "PutSecretValue")
        deployment.must_rotate()
        deployment.check_finished()
        assert under_way in (None, deployment.labels(APP)["AWSCURRENT"])
    assert not clients.failed, clients.failed[:3]


@pytest.mark.parametrize("task", ["give the idle role the new password", RETIRE])
def test_postgresql_is_restarted(deployment, task):
    program = (
        f"import boto3; boto3.client('rds', region_name={REGION!r}, endpoint_url={deployment.aws['endpoint_url']!r}, "
        f"verify={deployment.aws['verify']!r}).reboot_db_instance(DBInstanceIdentifier={NAME!r})"
    )
    keys = f"AWS_SHARED_CREDENTIALS_FILE={deployment.config.credentials_file} AWS_PROFILE=localcloud"
    code, output = deployment.rotate(environ=at(task, f'{keys} {sys.executable} -c "{program}"'))
    if code != 0:
        # It may stop, with the reason; the next run goes on from there.
        assert "could not be reached" in words(output) or "can't log in" in words(output), output[-3000:]
        deployment.must_rotate()
    deployment.check_finished()


def test_a_login_with_the_old_password_after_the_swap_is_noticed(deployment, second):
    """As of a host that is not in the inventory: the old role is not locked."""
    old = deployment.content(APP)
    content = json.dumps({"user": old["username"], "password": old["password"]})
    program = (
        "import json, psycopg2, time\n"
        f"text = open({SERVICE_FILE!r}).read()\n"
        "known = dict(line.split('=', 1) for line in text.splitlines() if '=' in line)\n"
        f"known.update(json.loads({content!r}))\n"
        "for _ in range(120):\n"
        "    try:\n        psycopg2.connect(**known).close()\n    except psycopg2.OperationalError:\n        break\n"
        "    connection = psycopg2.connect(**known); time.sleep(0.5); connection.close()\n"
    )
    deployment.ssh(
        second,
        f"cat >/root/left-behind.py <<'PROGRAM'\n{program}PROGRAM\n"
        "systemd-run --quiet --unit=left-behind /opt/mlflow/current/bin/python /root/left-behind.py",
    )
    try:
        code, output = deployment.rotate(mlflow_aws_rotation_grace_seconds=5)
        assert code != 0
        assert f"{old['username']} is not locked: it was logged in again" in words(output)
        assert deployment.hosts[second]["ansible_host"] in words(output)
        assert deployment.roles()[old["username"]][0]
    finally:
        deployment.ssh(second, "systemctl stop left-behind.service; rm /root/left-behind.py", check=False)
    deployment.must_rotate()
    assert deployment.check_finished()["username"] in LOGINS


HOLDER = f"""
import json, psycopg2, sys, threading, time
from mlflow_service.database import client
text = open({SERVICE_FILE!r}).read()
known = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
asked = json.loads(sys.argv[1])
known.update(user=asked["user"], password=asked["password"])

def hold(database, statements):
    while True:
        try:
            with client.connect("", autocommit=False, **{{**known, "dbname": database}}) as connection:
                for statement in statements:
                    connection.execute(statement)
                print("holds", statements[-1].split()[0], flush=True)
                while True:
                    connection.execute("SELECT pg_sleep(1)")
        except psycopg2.Error as error:
            if "permitted" in str(error) or "authentication failed" in str(error):
                return
            time.sleep(0.05)

threads = [threading.Thread(target=hold, args=item) for item in asked["holds"]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@contextlib.contextmanager
def somebody_with_the_password(deployment, host, login, holds):
    """Has the password of MLflow's login, keeps locks with it, and comes back as long as it may log in."""
    asked = json.dumps({"user": login["username"], "password": login["password"], "holds": holds})
    deployment.ssh(
        host,
        f"cat >/root/holder.py <<'PROGRAM'\n{HOLDER}PROGRAM\ncat >/root/holder.json <<'ASKED'\n{asked}\nASKED\n"
        "systemd-run --quiet --unit=holder sh -c "
        "'exec /opt/mlflow/current/bin/python /root/holder.py \"$(cat /root/holder.json)\" >/root/holder.log'\n"
        f"for _ in $(seq 100); do [ \"$(sort -u /root/holder.log | wc -l)\" -ge {len({h[1][-1].split()[0] for h in holds})} ]"
        " && exit 0; sleep 0.2; done; exit 1",
    )
    try:
        yield
    finally:
        stop = "systemctl stop holder.service; systemctl reset-failed holder.service; rm -f /root/holder.*"
        deployment.ssh(host, stop, check=False)


def test_in_an_emergency_a_host_that_hangs_is_left_behind_if_it_is_named(deployment, second):
    old = deployment.content(APP)
    labels = deployment.labels(APP)
    first = next(host for host in sorted(deployment.hosts) if host != second)
    ssh = Ssh(deployment, second)
    subprocess.run(["sh", "-c", ssh.hang], check=True)
    try:
        # Nobody is left behind without being named, nor in a rotation that has time, nor one that there is not.
        code, output = deployment.rotate(rotate_emergency=True)
        assert code != 0
        assert f"{second} is not in order, so nothing was changed" in words(output)
        assert f"rotate_leave_behind={second}" in words(output)
        for given, said in (
            ({"rotate_leave_behind": second}, "in an emergency only"),
            ({"rotate_leave_behind": "elsewhere", "rotate_emergency": True}, f"({first}, {second})"),
            ({"rotate_leave_behind": f"{first}, {second}", "rotate_emergency": True}, "but not all of them"),
        ):
            code, output = deployment.rotate(**given)
            assert code != 0 and said in words(output) and "Nothing was changed" in words(output), output[-2000:]
        assert deployment.labels(APP) == labels
        begin = time.monotonic()
        code, output = deployment.rotate(rotate_emergency=True, rotate_leave_behind=second)
        took = time.monotonic() - begin
        assert code == 0, output[-4000:]
        assert f"{second}: left behind with the old login, which is dead" in words(output)
        assert deployment.roles()[old["username"]] == (False, False, 0)
    finally:
        subprocess.run(["sh", "-c", ssh.open], check=True)
        deployment.wait_for_connection(second)
    print(f"\nan emergency without a host that hangs: {took:.0f} s")
    assert took < 90
    new = deployment.content(APP)
    assert new["username"] != old["username"]
    assert (deployment.service_user(first), deployment.service_user(second)) == (new["username"], old["username"])
    # The next rotation gives it the login, as site.yml would.
    deployment.must_rotate()
    assert deployment.check_finished()["username"] == old["username"]


def test_in_an_emergency_a_host_whose_service_is_down_gets_the_new_login(deployment, second):
    """The run says at its end that nobody is served there, when the leaked password is dead."""
    old = deployment.content(APP)
    deployment.ssh(second, "systemctl stop mlflow.socket mlflow.service")
    try:
        code, output = deployment.rotate(rotate_emergency=True)
        assert code != 0 and f"{second}: " in words(output) and "journalctl -u mlflow tells why" in words(output), output[-3000:]
        assert deployment.roles()[old["username"]] == (False, False, 0)
        assert deployment.service_user(second) == deployment.content(APP)["username"] != old["username"]
        assert "AWSPENDING" not in deployment.labels(APP)
    finally:
        deployment.ssh(second, "systemctl start mlflow.service")
    deployment.check_finished()


@pytest.mark.slow
def test_in_an_emergency_nobody_waits_for_the_artifact_store(deployment):
    """A store that does not answer the hosts has nothing to do with a password of the database."""
    old = deployment.content(APP)
    with store_is_away(deployment):
        assert "artifacts" in deployment.ssh(sorted(deployment.hosts)[0], "mlflow-ready 2>&1", check=False)
        begin = time.monotonic()
        deployment.must_rotate(rotate_emergency=True)
        took = time.monotonic() - begin
        assert deployment.roles()[old["username"]] == (False, False, 0)
    print(f"\nan emergency without the artifact store: {took:.0f} s")
    assert took < 120
    deployment.check_finished()


def test_a_machine_that_is_not_in_the_inventory_keeps_its_login_and_is_named(deployment, second):
    """Its sessions are idle and old, since nobody asks it anything just then: they look like those that no pool will use."""
    old = deployment.content(APP)
    address, instance = deployment.hosts[second]["ansible_host"], deployment.hosts[second]["instance_id"]
    ec2 = boto3.client("ec2", **deployment.aws)
    found = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [instance]}])["Tags"]
    tags = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in found]
    ask = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{old['username']}' AND host(client_addr) = '{address}'"
    ec2.delete_tags(Resources=[instance], Tags=tags)
    try:
        with Load([address], deployment.user["username"], deployment.user["password"], clients=2):
            time.sleep(2)
        assert deployment.sql(ask)[0][0] > 0
        code, output = deployment.rotate(mlflow_aws_rotation_drain_seconds=5)
        assert code != 0
        assert f"{old['username']} is not locked: it has sessions from a machine that is not in the inventory" in words(output)
        assert f"from {address}" in words(output)
        assert deployment.roles()[old["username"]][0] and deployment.sql(ask)[0][0] > 0
        under_way = deployment.labels(APP)["AWSPENDING"]
        # It serves on, with what it has.
        with Load([address], deployment.user["username"], deployment.user["password"], clients=2) as clients:
            time.sleep(2)
        assert clients.answers and not clients.failed
    finally:
        ec2.create_tags(Resources=[instance], Tags=tags)
    finishes(deployment, under_way)


def own_password(login):
    """A role may always change its own password, and has a lock on itself until that is committed."""
    return ["SET ROLE NONE", f"ALTER ROLE {login['username']} PASSWORD '{login['password']}'"]


def test_who_has_the_password_does_not_hold_up_an_emergency(deployment, second):
    old = deployment.content(APP)
    holds = [
        # The number that runs once locked, which anybody who could connect could lock, too.
        ("postgres", ["SELECT pg_advisory_lock(469970874228)"]),
        ("postgres", own_password(old)),
        ("mlflow", own_password(old)),
        # What a request needs, so that no host would seem to serve.
        ("mlflow", ["LOCK TABLE experiments IN ACCESS EXCLUSIVE MODE"]),
    ]
    with somebody_with_the_password(deployment, second, old, holds):
        begin = time.monotonic()
        process = deployment.start("rotate-db-password.yml", rotate_emergency=True)
        code, output = deployment.end(process, timeout=180)
        took = time.monotonic() - begin
        assert code == 0, output[-4000:]
        assert deployment.roles()[old["username"]] == (False, False, 0)
    print(f"\nan emergency that somebody holds up: {took:.0f} s")
    assert took < 120
    assert deployment.check_finished()["username"] != old["username"]


def test_who_holds_up_a_rotation_is_named(deployment, second):
    old = deployment.content(APP)
    with somebody_with_the_password(deployment, second, old, [("postgres", own_password(old))]):
        code, output = deployment.rotate(mlflow_aws_rotation_drain_seconds=1)
        assert code != 0
        assert "Another session has blocked this step for 30 s" in words(output)
        assert f"of {old['username']} from {deployment.hosts[second]['ansible_host']}" in words(output)
        assert deployment.roles()[old["username"]][0]
        under_way = deployment.labels(APP)["AWSPENDING"]
    finishes(deployment, under_way)


def test_a_login_can_not_lock_what_runs_lock(deployment, second):
    """Neither for long nor for a moment that it could prolong."""
    login = deployment.content(APP)
    deployment.must_rotate()
    login = deployment.content(APP)
    program = (
        "import psycopg2.errors\nfrom mlflow_service.database import client\n"
        f"text = open({SERVICE_FILE!r}).read()\n"
        "known = dict(line.split('=', 1) for line in text.splitlines() if '=' in line)\n"
        f"known.update(user={login['username']!r}, password={login['password']!r}, dbname='postgres')\n"
        "for role in ('SELECT 1', 'SET ROLE NONE'):\n"
        "    with client.connect('', autocommit=False, **known) as connection:\n"
        "        connection.execute(role)\n"
        "        try:\n            connection.execute('COMMENT ON ROLE mlflow_owner_lock IS NULL')\n"
        "        except psycopg2.errors.InsufficientPrivilege:\n            print('refused')\n"
        "        connection.rollback()\n"
    )
    assert deployment.ssh(second, f"/opt/mlflow/current/bin/python - <<'PROGRAM'\n{program}PROGRAM\n").split() == ["refused"] * 2


def test_a_password_that_the_login_has_changed_itself(deployment, second):
    """The emergency says so and makes it useless."""
    old = deployment.content(APP)
    program = (
        "import psycopg2.errors\nfrom mlflow_service.database import client\n"
        f"text = open({SERVICE_FILE!r}).read()\n"
        "known = dict(line.split('=', 1) for line in text.splitlines() if '=' in line)\n"
        "with client.connect('', autocommit=False, **known) as connection:\n"
        "    connection.execute('SET ROLE NONE')\n"
        f"    connection.execute(\"ALTER ROLE {old['username']} PASSWORD 'of-somebody-else'\")\n"
    )
    deployment.ssh(second, f"/opt/mlflow/current/bin/python - <<'PROGRAM'\n{program}PROGRAM\n")
    assert deployment.can_log_in(second, old["username"], "of-somebody-else")
    output = deployment.must_rotate(rotate_emergency=True)
    assert "somebody has changed it there" in words(output)
    deployment.check_finished()
    assert not deployment.can_log_in(second, old["username"], "of-somebody-else")
