# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What the AWS roles stop or remove, in which order, and what is left where that does not go on."""

from __future__ import annotations

import pytest
from pretended import Pretended

INFO, INSTANCE = "amazon.aws.ec2_instance_info", "amazon.aws.ec2_instance"
LOGS = "cloudwatchlogs_log_group"
TYPE_INFO = "mlops.mlflow_aws.ec2_instance_type_info"


def instance(number: int, kind: str = "t3.large", **more) -> dict:
    return {
        "instance_id": f"i-{number}",
        "instance_type": kind,
        "subnet_id": "subnet-1",
        "security_groups": [{"group_id": "sg-1"}],
        "iam_instance_profile": {"arn": "arn:aws:iam::1:instance-profile/x"},
        "metadata_options": {"http_tokens": "required"},
        "tags": {"Name": f"x-server-{number}", "mlflow_aws_name": "x", "mlflow_aws_role": "server", "mlflow_aws_user": "admin"},
        "state": {"name": "running"},
        "private_ip_address": f"127.0.1.{number}",
        **more,
    }


@pytest.fixture
def fleet(tmp_path):
    """Runs the role ec2 on hosts that are all this machine; `serves` is a shell's word on whether they serve."""

    def run(instances, kind="t3.xlarge", serves="true", arguments=(), later=(), count=None, found=None):
        (tmp_path / "key").write_text("")
        rules = [
            {"module": INFO, "answers": [{"instances": found} for found in (instances, *later)]},
            {"module": INSTANCE, "answers": [{"changed": True}]},
            {"module": "amazon.aws.ec2_key", "answers": [{}]},
            {"module": TYPE_INFO, "answers": [found or {"known": False, "architectures": [], "zones": []}]},
        ]
        cloud = Pretended(tmp_path, rules)
        variables = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ec2_name": "x",
            "ec2_count": count or len(instances),
            "ec2_instance_type": kind,
            "ec2_security_group_ids": ["sg-1"],
            "ec2_instance_profile": "x",
            "ec2_ssh_private_key_file": str(tmp_path / "key"),
            "ec2_ready_command": ["sh", "-c", serves],
            "__ec2_ready_seconds": 5,
        }
        return cloud.run("ec2", variables, *arguments), cloud

    return run


def stopped(cloud) -> list[str]:
    return [asked["instance_ids"][0] for module, asked in cloud.calls if module == INSTANCE]


def test_another_type_stops_one_after_the_other(fleet, tmp_path):
    # Each question is noted between the calls that stop.
    code, cloud = fleet([instance(1), instance(2), instance(3)], serves=f"echo '[\"asked\", {{}}]' >> {tmp_path}/calls")
    assert code == 0, cloud.output
    told = (INFO, TYPE_INFO)
    order = [module if module != INSTANCE else asked["instance_ids"][0] for module, asked in cloud.calls if module not in told]
    assert order == ["asked", "asked", "i-1", "asked", "asked", "i-2", "asked", "asked", "i-3"]


@pytest.mark.parametrize("architecture, zone, code", [("x86_64", "a", 0), ("arm64", "a", 2), ("x86_64", "b", 2)])
def test_a_type_that_an_instance_can_not_become_stops_nothing(fleet, architecture, zone, code):
    """AWS says so once it is stopped. The second is the one that can't."""
    others = {"architecture": architecture, "placement": {"availability_zone": zone}}
    instances = [instance(1, architecture="x86_64", placement={"availability_zone": "a"}), instance(2, **others)]
    answered, cloud = fleet(instances, found={"known": True, "architectures": ["x86_64"], "zones": ["a"]})
    assert (answered, stopped(cloud)) == (code, [] if code else ["i-1", "i-2"]), cloud.output
    assert ("x-server-2 (i-2) is t3.large" in cloud.output) == bool(code), cloud.output


def test_an_instance_that_is_not_asked_for_any_more_is_told_and_left_running(fleet):
    code, cloud = fleet([instance(1), instance(2)], kind="t3.large", count=1)
    assert code == 0 and stopped(cloud) == [], cloud.output
    assert "x-server-2 are left running, though mlflow_aws_server_count is 1." in " ".join(cloud.output.split())


@pytest.mark.parametrize("there, keys, refused", [
    ([instance(1)], [], "The instances x-server-1 are there, but the private key"),
    ([], [{"tags": {"mlflow_aws_name": "y"}}], "The account has a key pair x that this deployment did not make"),
    ([], [{"tags": {}}], "The account has a key pair x that this deployment did not make"),
    ([], [{"tags": {"mlflow_aws_name": "x"}}], ""),
    ([], [], ""),
])  # fmt: skip
def test_a_controller_without_the_key_makes_no_second_one(tmp_path, there, keys, refused):
    """Otherwise the new host takes another key than those that are there, and the account's key pair is another."""
    cloud = Pretended(tmp_path, [
        {"module": INFO, "answers": [{"instances": there}]},
        {"module": "amazon.aws.ec2_key_info", "answers": [{"keypairs": keys}]},
    ])  # fmt: skip
    given = {"ec2_name": "x", "ec2_count": 2, "ec2_ssh_private_key_file": str(tmp_path / "key")}
    code = cloud.run("ec2", given, tasks_from="prepare")
    assert (code != 0) == bool(refused), cloud.output
    assert refused in " ".join(cloud.output.split())
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize("said, asked, code", [
    (["Verify that you have permission to create service linked role. Otherwise wait and try again later"], 2, 0),
    (["The DB instance already exists"], 1, 2),
])  # fmt: skip
def test_the_first_database_of_an_account_is_asked_for_again(tmp_path, said, asked, code):
    refused = [{"failed": True, "msg": f"Unable to create DB instance: {one}"} for one in said]
    made = {"changed": True, "db_instance_identifier": "x", "endpoint": {"address": "x.example", "port": 5432}}
    cloud = Pretended(tmp_path, [
        {"module": "amazon.aws.rds_instance", "answers": [*refused, made]},
        {"module": "amazon.aws.rds_instance_info", "answers": [{}]},
        {"module": "amazon.aws.rds_subnet_group", "answers": [{}]},
        {"module": "mlops.mlflow_aws.secretsmanager_password", "answers": [{}]},
    ])  # fmt: skip
    login = {"username": "a", "password": "b"}
    given = {
        "rds_name": "x",
        "rds_subnet_ids": ["subnet-1", "subnet-2"],
        "rds_security_group_ids": ["sg-1"],
        "__rds_current": {},
        "__rds_secret": {"secrets": {"x/database/admin": login}},
    }
    answered = cloud.run("rds", given, tasks_from="finish")
    calls = [1 for module, _asked in cloud.calls if module == "amazon.aws.rds_instance"]
    assert (answered, len(calls)) == (code, asked), cloud.output


BUCKET, BUCKET_INFO = "amazon.aws.s3_bucket", "amazon.aws.s3_bucket_info"


@pytest.mark.parametrize("destroy, check, asked, said", [
    (False, False, [], "The bucket x and its artifacts stay."),
    (False, True, [], "The bucket x and its artifacts stay."),
    (True, True, [BUCKET_INFO], "Would destroy the bucket x with every version of every object."),
    (True, False, [BUCKET], ""),
])  # fmt: skip
def test_a_bucket_goes_only_where_its_data_were_given_up_and_a_look_at_it_removes_nothing(tmp_path, destroy, check, asked, said):
    cloud = Pretended(tmp_path, [
        {"module": BUCKET_INFO, "answers": [{"buckets": [{"name": "x"}]}]},
        {"module": BUCKET, "answers": [{"changed": True}]},
    ])  # fmt: skip
    given = {"s3_bucket": "x", "s3_destroy_data": destroy}
    code = cloud.run("s3", given, *(["--check"] if check else []), tasks_from="absent")
    assert code == 0, cloud.output
    assert [module for module, _ in cloud.calls] == asked
    assert said in " ".join(cloud.output.split())
    assert all(given["state"] == "absent" and given["name"] == "x" for module, given in cloud.calls if module == BUCKET)


def test_nothing_is_stopped_while_another_host_does_not_serve(fleet):
    code, cloud = fleet([instance(1), instance(2)], serves="echo database: failed; exit 1")
    assert code != 0 and stopped(cloud) == []
    said = " ".join(cloud.output.split())
    assert "x-server-1 is t3.large and was not made t3.xlarge" in said
    assert "x-server-2 at 127.0.1.2 does not serve: database: failed" in said


def test_the_next_is_not_stopped_where_the_one_before_does_not_come_back(fleet, tmp_path):
    # Serves once: before the first is stopped.
    code, cloud = fleet([instance(1), instance(2)], serves=f"mkdir {tmp_path}/once")
    assert code != 0 and stopped(cloud) == ["i-1"]


def test_one_alone_asks_nobody(fleet):
    code, cloud = fleet([instance(1)], serves="false")
    assert code == 0 and stopped(cloud) == ["i-1"], cloud.output


def test_nobody_is_asked_where_nothing_is_stopped(fleet):
    code, cloud = fleet([instance(1, "t3.xlarge"), instance(2, "t3.xlarge")], serves="false")
    assert code == 0 and stopped(cloud) == [], cloud.output


def test_one_that_is_stopped_already_gets_its_type_with_its_start(fleet):
    first, off = instance(1, "t3.xlarge"), instance(2, state={"name": "stopped"})
    code, cloud = fleet([first, off], later=[[first, instance(2, "t3.xlarge")]], serves="false")
    assert code == 0 and stopped(cloud) == ["i-2"], cloud.output
    assert next(asked for module, asked in cloud.calls if module == INSTANCE)["instance_type"] == "t3.xlarge"


def test_other_drift_stops_nothing(fleet):
    drifted = instance(1, security_groups=[{"group_id": "sg-2"}])
    code, cloud = fleet([drifted, instance(2)], serves="false")
    assert code != 0
    asked = [asked for module, asked in cloud.calls if module == INSTANCE]
    assert [item["instance_type"] for item in asked] == ["t3.large"]


def test_a_plan_asks_nobody(fleet):
    code, cloud = fleet([instance(1), instance(2)], serves="false", arguments=["--check"])
    assert code == 0 and "unreachable=0" in cloud.output, cloud.output


DATABASE, DATABASES = "amazon.aws.rds_instance", "amazon.aws.rds_instance_info"
SECRET = "mlops.mlflow_aws.secretsmanager_password"
THERE = {
    "db_instance_identifier": "x1",
    "db_instance_status": "available",
    "deletion_protection": True,
    "endpoint": {"address": "x.rds"},
}
REFUSED = {"failed": True, "msg": "An error occurred (SnapshotQuotaExceeded)"}


@pytest.fixture
def teardown(tmp_path):
    """Runs the role rds with rds_state absent."""

    def run(removed, left=THERE, before=THERE, protected=None):
        rules = [
            {"module": DATABASES, "answers": [{"instances": [before]}, {"instances": [left] if left else []}]},
            {"module": DATABASE, "asked": {"state": "absent"}, "answers": [removed]},
            {"module": DATABASE, "asked": {"deletion_protection": True}, "answers": [protected or {"changed": True}]},
            {"module": DATABASE, "answers": [{"changed": True}]},
            {"module": SECRET, "answers": [{"changed": True}]},
            *(
                {"module": f"amazon.aws.{name}", "answers": [{}]}
                for name in ("rds_instance_param_group", "rds_instance_param_group_info", "rds_subnet_group", LOGS)
            ),
        ]
        cloud = Pretended(tmp_path, rules)
        code = cloud.run("rds", {"rds_name": "x1", "rds_state": "absent"})
        changes = []
        for module, asked in cloud.calls:
            if module == DATABASE:
                changes.append("removed" if asked["state"] == "absent" else f"protected {asked['deletion_protection']}")
            elif module == SECRET and "values" in asked["secrets"][0]:
                changes.append(f"address {asked['secrets'][0]['values']['host']}")
        return code, changes, " ".join(cloud.output.split())

    return run


def test_the_protection_is_lifted_right_before_the_removal(teardown):
    code, changes, said = teardown({"changed": True}, left=None)
    assert code == 0, said
    assert changes == ["address ", "protected False", "removed"]


def test_what_is_not_removed_is_protected_again(teardown):
    code, changes, said = teardown(REFUSED)
    assert code != 0
    assert changes[-3:] == ["removed", "protected True", "address x.rds"]
    assert "Remove the database: An error occurred (SnapshotQuotaExceeded) x1 is still there, and protected" in said


def test_what_was_not_protected_is_not_protected_then(teardown):
    code, changes, said = teardown(REFUSED, before={**THERE, "deletion_protection": False})
    assert code != 0 and not [change for change in changes if change.startswith("protected")]
    assert "was not protected from deletion before" in said


def test_what_goes_already_is_left_to_go(teardown):
    code, changes, said = teardown({"failed": True, "msg": "Timed out"}, left={**THERE, "db_instance_status": "deleting"})
    assert code != 0 and changes[-1] == "removed"
    assert "RDS is removing x1" in said


def test_a_protection_that_can_not_be_set_again_is_said(teardown):
    code, changes, said = teardown(REFUSED, protected={"failed": True, "msg": "ExpiredToken"})
    assert code != 0
    assert "may be WITHOUT its protection from deletion" in said and "The reason: ExpiredToken" in said


# -- what is not made in another one's place ---------------------------------------------------------------------------


def test_two_instances_of_one_name_are_refused_by_their_ids(fleet):
    """Two runs that found one missing at the same time have made it twice; which of them serves is not to be guessed."""
    twins = [instance(1), {**instance(2), "tags": instance(1)["tags"]}]
    rc, cloud = fleet(twins)
    assert rc != 0 and "more than one instance named x-server-1: i-1, i-2" in " ".join(cloud.output.split())
    assert stopped(cloud) == []


SECRET_MODULE = "mlops.mlflow_aws.secretsmanager_password"


@pytest.mark.parametrize("host, empty, refused", [("db.old", False, True), ("db.old", True, False), ("", False, False),
                                                  ("not-made-yet", False, False)])  # fmt: skip
def test_an_empty_database_in_place_of_one_that_is_gone_needs_a_second_word(tmp_path, host, empty, refused):
    secret = {"name": {"username": "a", "password": "b", "host": host}}
    rules = [{"module": SECRET_MODULE, "answers": [{"secrets": secret}]}]
    role = Pretended(tmp_path, rules)
    variables = {"rds_name": "x", "rds_identifier": "x-db", "rds_admin_secret": "name", "__rds_current": {}}
    variables["rds_make_empty"] = empty
    rc = role.run("rds", variables, tasks_from="secret")
    said = " ".join(role.output.split())
    assert (rc != 0) == refused, said
    assert ("RDS has no instance of that name any more" in said) == refused
