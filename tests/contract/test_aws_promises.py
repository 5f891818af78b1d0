# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
What each role promises of what it makes in AWS, and of what it leaves when it removes it.

PROMISES is to be read by a person: for each role what is asked of AWS with no other input than what must be given.
"""

from __future__ import annotations

import pytest
from repository import ROOT
from tasks import OMITTED, module_of, rendered, task, tasks_of

GIVEN = {
    "mlflow_aws_name": "mlflow",
    "mlflow_aws_region": "eu-central-1",
    "mlflow_aws_allowed_cidrs": ["203.0.113.0/24"],
    "ansible_check_mode": False,
}
BUCKET = "mlflow-artifacts-123456789012-eu-central-1"
INSTANCE = {
    "item": "mlflow-server-1",
    "__ec2_ami": {"image_id": "ami-1", "root_device_name": "/dev/sda1", "name": "debian"},
    "ec2_subnet_ids": ["subnet-1"],
    "__ec2_type": {"known": False},
    "ec2_security_group_ids": ["sg-1"],
    "ec2_instance_profile": "mlflow",
}
DATABASE = {
    "__rds_current": {},
    "__rds_upgrade": False,
    "__rds_secret": {"secrets": {"mlflow/database/admin": {"username": "mlflow_admin", "password": "from Secrets Manager"}}},
    "rds_subnet_ids": ["subnet-1", "subnet-2"],
    "rds_security_group_ids": ["sg-database"],
}
IMDSV2 = {"http_endpoint": "enabled", "http_tokens": "required", "http_put_response_hop_limit": 1}
TLS_ONLY = {
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:*",
    "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}

# role, file, task, more variables, what is asked of AWS: a dotted name and its value.
PROMISES = [
    # Artifacts are versioned, encrypted, nobody's but the account's, and travel by TLS.
    (
        "s3",
        "bucket.yml",
        "Make sure of the bucket",
        {"s3_account_id": "123456789012"},
        {
            "name": BUCKET,
            "versioning": True,
            "encryption": "AES256",
            "public_access.block_public_acls": True,
            "public_access.ignore_public_acls": True,
            "public_access.block_public_policy": True,
            "public_access.restrict_public_buckets": True,
            "object_ownership": "BucketOwnerEnforced",
            "policy.Statement.0": {"Sid": "TLSOnly", **TLS_ONLY},
        },
    ),
    (
        "s3",
        "bucket.yml",
        "Make sure of the bucket",
        {"s3_account_id": "123456789012", "s3_kms_key_id": "arn:key"},
        {"encryption": "aws:kms", "encryption_key_id": "arn:key"},
    ),
    # The database is encrypted, private, backed up and hard to delete.
    (
        "rds",
        "instance.yml",
        "Make sure of the database",
        DATABASE,
        {
            "storage_encrypted": True,
            "kms_key_id": OMITTED,
            "publicly_accessible": False,
            "vpc_security_group_ids": ["sg-database"],
            "backup_retention_period": 7,
            "deletion_protection": True,
            "copy_tags_to_snapshot": True,
            "auto_minor_version_upgrade": True,
            "db_parameter_group_name": "mlflow-postgres17",
            "ca_certificate_identifier": "rds-ca-rsa2048-g1",
            "master_user_password": "from Secrets Manager",
        },
    ),
    # One that is there keeps its encryption and its password.
    (
        "rds",
        "instance.yml",
        "Make sure of the database",
        {**DATABASE, "__rds_current": {"engine_version": "17.4", "allocated_storage": 40}, "rds_kms_key_id": "arn:key"},
        {
            "storage_encrypted": OMITTED,
            "kms_key_id": OMITTED,
            "master_user_password": OMITTED,
            "engine_version": "17.4",
            "allocated_storage": 40,
            "publicly_accessible": False,
            "deletion_protection": True,
        },
    ),
    # Who connects without TLS is refused, and the log tells no values.
    (
        "rds",
        "parameter_group.yml",
        "Make sure of the parameter group",
        {"rds_parameters": {"work_mem": "8192"}},
        {"params": {
            "rds.force_ssl": "1",
            "log_min_duration_statement": "1000",
            "log_error_verbosity": "terse",
            "idle_in_transaction_session_timeout": "600000",
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "10",
            "tcp_keepalives_count": "3",
            "work_mem": "8192",
        }},
    ),
    # The instance's credentials are for whoever shows a token, and no further away than the instance itself.
    (
        "ec2",
        "create.yml",
        "Make the instances",
        INSTANCE,
        {
            "metadata_options": IMDSV2,
            "volumes.0.ebs.encrypted": True,
            "volumes.0.ebs.delete_on_termination": True,
            "iam_instance_profile": "mlflow",
            "security_groups": ["sg-1"],
        },
    ),
    # The instance may use its own bucket's objects, and nothing else.
    (
        "iam",
        "role.yml",
        "Make sure of the role",
        {"iam_bucket": BUCKET},
        {
            "managed_policies": [],
            "purge_policies": False,
            "assume_role_policy_document.Statement": [
                {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        },
    ),
    (
        "iam",
        "role.yml",
        "Make sure of the role's policy",
        {"iam_bucket": BUCKET},
        {"policy_json.Statement": [
            {
                "Sid": "ListBucket",
                "Effect": "Allow",
                "Action": ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"],
                "Resource": f"arn:aws:s3:::{BUCKET}",
            },
            {
                "Sid": "UseObjects",
                "Effect": "Allow",
                "Action": [
                    "s3:AbortMultipartUpload",
                    "s3:DeleteObject",
                    "s3:GetObject",
                    "s3:ListMultipartUploadParts",
                    "s3:PutObject",
                ],
                "Resource": f"arn:aws:s3:::{BUCKET}/*",
            },
        ]},
    ),
    # HTTPS from the networks that were named; nothing else, and SSH from nowhere unless it is asked for.
    (
        "network",
        "security_groups.yml",
        "Make sure of the server's group",
        {"network_vpc_id": "vpc-1"},
        {"rules": [
            {"proto": "tcp", "ports": [443], "cidr_ip": ["203.0.113.0/24"], "rule_desc": "HTTPS from the allowed networks"}
        ]},
    ),
    # PostgreSQL from the servers alone, and the database reaches nobody.
    (
        "network",
        "security_groups.yml",
        "Make sure of the database's group",
        {"network_vpc_id": "vpc-1", "__network_server": {"group_id": "sg-server"}},
        {
            "rules": [{
                "proto": "tcp",
                "ports": [5432],
                "group_id": "sg-server",
                "group_name": OMITTED,
                "rule_desc": "PostgreSQL from the server group",
            }],
            "rules_egress": [],
        },
    ),
]


def at(tree, dotted: str):
    if isinstance(tree, dict) and dotted in tree:
        return tree[dotted]
    if not dotted:
        return tree
    first, dummy, rest = dotted.partition(".")
    return at(tree[int(first) if isinstance(tree, list) else first], rest)


def drifting() -> tuple:
    """An instance as it should be, and one of which somebody has allowed requests without a token."""
    correct = task("ec2", "instances.yml", "Correct instances that have drifted")
    right = {
        "state": {"name": "running"},
        "security_groups": [{"group_id": "sg-1"}],
        "iam_instance_profile": {"arn": "arn:aws:iam::1:instance-profile/mlflow"},
        "metadata_options": {"http_tokens": "required"},
        "tags": {"mlflow_aws_name": "mlflow", "mlflow_aws_role": "server"},
    }
    cases = [{**GIVEN, **INSTANCE, "item": item} for item in (right, {**right, "metadata_options": {"http_tokens": "optional"}})]
    return "ec2", cases, [module_of(correct)[1]["metadata_options"], "{{ " + correct["when"] + " }}"]


# What a person may have said of the data, and whether that gives them up.
SAID = [None, "false", "no", "0", False, "true", "yes", True]
GIVEN_UP = [False, False, False, False, False, True, True, True]
WORDS = [{**GIVEN, **({} if said is None else {"mlflow_aws_destroy_data": said})} for said in SAID]


def destroying_a_bucket() -> tuple:
    """The conditions of each task of teardown that removes a bucket or what is in it."""
    conditions = []
    for item in tasks_of(ROOT / "roles" / "s3" / "tasks" / "absent.yml"):
        if module_of(item)[1].get("state") == "absent" or module_of(item)[1].get("force"):
            when = item.get("when", [])
            conditions.append([f"{{{{ ({one}) | bool }}}}" for one in (when if isinstance(when, list) else [when])])
    assert conditions
    return "s3", WORDS, conditions


def removing_a_database() -> tuple:
    found = [
        module_of(item)[1]
        for item in tasks_of(ROOT / "roles" / "rds" / "tasks" / "absent.yml")
        if module_of(item)[0] == "amazon.aws.rds_instance" and module_of(item)[1]["state"] == "absent"
    ]
    assert found
    return "rds", WORDS, found


def removing_secrets() -> tuple:
    files = [ROOT / "roles" / "rds" / "tasks" / "absent.yml", ROOT / "playbooks" / "teardown.yml"]
    found = [
        module_of(item)[1].get("recovery_window_days", 0)
        for file in files
        for item in tasks_of(file)
        if module_of(item)[0].endswith(".secretsmanager_password") and module_of(item)[1].get("state") == "absent"
    ]
    assert len(found) > 1
    return "rds", WORDS, found


# What RDS takes, at its edges.
STORED = [
    ("rds_backup_retention_days", 0, True),
    ("rds_backup_retention_days", 35, True),
    ("rds_backup_retention_days", 36, False),
    ("rds_backup_retention_days", -1, False),
    ("rds_allocated_storage", 20, True),
    ("rds_allocated_storage", 19, False),
    ("rds_max_allocated_storage", 0, True),
    ("rds_max_allocated_storage", 20, False),
    ("rds_max_allocated_storage", 21, False),
    ("rds_max_allocated_storage", 22, True),
]


def storing() -> tuple:
    conditions = task("rds", "preflight.yml", "Check the storage and the backups")["ansible.builtin.assert"]["that"]
    return "rds", [{**GIVEN, name: value} for name, value, dummy in STORED], [[f"{{{{ {one} }}}}" for one in conditions]]


QUESTIONS = [drifting, destroying_a_bucket, removing_a_database, removing_secrets, storing]


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> dict:
    """What each promise's task asks of AWS, by its number, and what each of the questions above finds."""
    questions = {question: question() for question in QUESTIONS}
    for number, (role, file, name, more, _promised) in enumerate(PROMISES):
        questions[number] = (role, [{**GIVEN, **more}], [module_of(task(role, file, name))[1]])
    answers = rendered(tmp_path_factory.mktemp("promises"), list(questions.values()))
    return dict(zip(questions, answers, strict=True))


@pytest.mark.parametrize("number", range(len(PROMISES)), ids=[f"{line[0]}: {line[2]}" for line in PROMISES])
def test_what_is_asked_of_aws_is_what_is_promised(asked, number):
    promised = PROMISES[number][-1]
    ((arguments,),) = asked[number]
    assert {name: at(arguments, name) for name in promised} == promised


def test_an_instance_that_lets_others_have_its_credentials_is_corrected(asked):
    (dummy, same), (options, drifted) = asked[drifting]
    assert (same, drifted) == (False, True)
    assert options == IMDSV2


# -- what teardown leaves --------------------------------------------------------------------------------------------


def test_the_bucket_goes_only_where_its_data_were_given_up(asked):
    for said, given_up, tasks in zip(SAID, GIVEN_UP, asked[destroying_a_bucket], strict=True):
        assert [all(conditions) for conditions in tasks] == [given_up] * len(tasks), f"mlflow_aws_destroy_data={said!r}"


def test_the_databases_data_live_on_in_a_snapshot_unless_they_were_given_up(asked):
    for said, given_up, removed in zip(SAID, GIVEN_UP, asked[removing_a_database], strict=True):
        for arguments in removed:
            what = f"mlflow_aws_destroy_data={said!r}"
            assert arguments["skip_final_snapshot"] is given_up, what
            name = arguments["final_db_snapshot_identifier"].strip()
            assert name == OMITTED if given_up else name.startswith("mlflow-final-2"), what


def test_the_secrets_can_be_had_back_for_30_days_unless_the_data_were_given_up(asked):
    for said, given_up, days in zip(SAID, GIVEN_UP, asked[removing_secrets], strict=True):
        assert {int(number) for number in days} == {0 if given_up else 30}, f"mlflow_aws_destroy_data={said!r}"


def test_what_rds_refuses_is_refused_before_anything_is_made(asked):
    for (name, value, taken), (conditions,) in zip(STORED, asked[storing], strict=True):
        assert all(conditions) == taken, f"{name}={value}"
