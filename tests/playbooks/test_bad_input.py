# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Bad input is told in words that help, before anything is changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

GOOD = {
    "mlflow_aws_name": "mlflow",
    "mlflow_aws_region": "eu-central-1",
    "mlflow_aws_allowed_cidrs": ["203.0.113.0/24"],
    "mlflow_aws_access_key": "AKIAIOSFODNN7EXAMPLE",
    "mlflow_aws_secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}

# What is put in the place of a good value (None leaves it out), and what must be said.
CASES = {
    "no name": ({"mlflow_aws_name": None}, "mlflow_aws_name (network_name) is ''"),
    "a bad name": ({"mlflow_aws_name": "ML_Flow"}, "mlflow_aws_name (network_name) is 'ML_Flow'"),
    "no region": ({"mlflow_aws_region": None}, "mlflow_aws_region (s3_region) is ''"),
    "no allowed networks": ({"mlflow_aws_allowed_cidrs": None}, "mlflow_aws_allowed_cidrs (network_allowed_cidrs) is not set"),
    "an empty list of networks": ({"mlflow_aws_allowed_cidrs": []}, "is not set: list the networks whose people use"),
    "a network that isn't one": (
        {"mlflow_aws_allowed_cidrs": ["office"]},
        "mlflow_aws_allowed_cidrs: 'office' is not a network in CIDR notation",
    ),
    "a network with host bits": (
        {"mlflow_aws_allowed_cidrs": ["203.0.113.7/24"]},
        "write 203.0.113.0/24 for the network, or 203.0.113.7/32 for the one address",
    ),
    "an address without a prefix": (
        {"mlflow_aws_ssh_cidrs": ["203.0.113.7"]},
        "mlflow_aws_ssh_cidrs: '203.0.113.7' has no prefix length: for this one address write 203.0.113.7/32",
    ),
    "a name for a network": (
        {"mlflow_aws_http_cidrs": ["anywhere"]},
        "mlflow_aws_http_cidrs: 'anywhere' is not a network",
    ),
    "a port that is none": (
        {"mlflow_aws_egress_ports": ["https"]},
        "mlflow_aws_egress_ports (network_egress_ports) is ['https']: list TCP ports",
    ),
    "more networks than a group has rules": (
        {"mlflow_aws_allowed_cidrs": [f"203.0.{n}.0/24" for n in range(40)],
         "mlflow_aws_ssh_cidrs": [f"203.0.{n}.0/24" for n in range(21)]},
        "are 61 rules for IPv4 and 0 for IPv6 in one security group, and AWS takes 60 (network_max_rules)",
    ),
    "the whole internet": (
        {"mlflow_aws_allowed_cidrs": ["0.0.0.0/0"]},
        "0.0.0.0/0 opens the server to the whole internet",
    ),
    "the whole internet by IPv6": ({"mlflow_aws_allowed_cidrs": ["::/0"]}, "::/0 opens the server to the whole internet"),
    "the whole internet in halves": (
        {"mlflow_aws_allowed_cidrs": ["0.0.0.0/1", "128.0.0.0/1"]},
        "mlflow_aws_allow_public: true",
    ),
    "a bucket name with capitals": ({"mlflow_aws_bucket": "MyBucket"}, "makes the bucket's name 'MyBucket'"),
    "a bucket name that S3 keeps": ({"mlflow_aws_bucket": "xn--artifacts"}, "S3 keeps for itself"),
    "a bucket name too long": (
        {"mlflow_aws_name": "a" * 32, "mlflow_aws_region": "ap-southeast-2"},
        "shorten that or set mlflow_aws_bucket",
    ),
    "an unknown image": (
        {"mlflow_aws_image": "debian-11"},
        "mlflow_aws_image (ec2_image) is 'debian-11', which is not known here: choose one of debian-13, debian-12,",
    ),
    "an unknown database class": ({"mlflow_aws_database_class": "db.z9.tiny"}, "rds_max_connections"),
    "a PostgreSQL that is too old": ({"mlflow_aws_database_version": "11"}, "give a major version of PostgreSQL from 14"),
    "storage that grows by less than a tenth": ({"rds_max_allocated_storage": 21}, "is 21 (22 or more, or"),
    "IOPS of a small storage": ({"rds_iops": 13000}, "rds_iops is 13000 and rds_storage_throughput is 0"),
    "MLflow before 3.16.1": (
        {"mlflow_server_version": "3.16.0", "mlflow_server_allow_unlocked": True},
        "is '3.16.0'; it must be 3.16.1 or newer",
    ),
    "more connections than the database has": (
        {"mlflow_server_workers": 64, "mlflow_aws_database_class": "db.t4g.micro"},
        "and the database takes 78",
    ),
    "a retention that is no duration": (
        {"mlflow_server_gc_retention": "30 days"},
        "mlflow_server_gc_retention is '30 days'; it must be a duration such as 30d",
    ),
    "metrics for a network that isn't one": (
        {"mlflow_server_metrics_allowed_cidrs": ["monitoring"]},
        "mlflow_server_metrics_allowed_cidrs: 'monitoring' is not a network in CIDR notation",
    ),
    "metrics for one text": (
        {"mlflow_server_metrics_allowed_cidrs": "192.0.2.0/24"},
        "mlflow_server_metrics_allowed_cidrs is '192.0.2.0/24'; it must be a list of networks",
    ),
    "ACME for an address": (
        {"mlflow_server_tls": "acme", "mlflow_aws_public_name": "192.0.2.7"},
        "mlflow_server_tls is 'acme' and mlflow_server_public_name is '192.0.2.7'; it must be the name",
    ),
    "an ACME directory without TLS": (
        {"mlflow_server_acme_directory_url": "http://ca.example.com/dir"},
        "mlflow_server_acme_directory_url is 'http://ca.example.com/dir'; it must be the address",
    ),
    "a rule that there is not": (
        {"mlflow_aws_host_away": "keep"},
        "mlflow_aws_host_away is 'keep'; it must be stop (nothing is rotated or upgraded while a host can't be reached)",
    ),
    "a large pool": ({"mlflow_server_pool_size": 100}, "mlflow_server_pool_size 100"),
}


def one_line(text):
    """The output in one line: Ansible wraps messages."""
    return " ".join(text.split())


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_before_any_call(case, playbook, endpoint):
    change, message = CASES[case]
    variables = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    variables["mlflow_aws_endpoint_url"] = endpoint.url
    code, output = playbook("site.yml", variables=variables)
    assert code == 2, output
    assert message in one_line(output), output
    assert "Traceback" not in output
    assert endpoint.calls == []


def test_the_second_word_opens_to_the_internet(playbook, endpoint):
    variables = {**GOOD, "mlflow_aws_allowed_cidrs": ["0.0.0.0/0", "::/0"], "mlflow_aws_allow_public": True}
    code, output = playbook("site.yml", variables={**variables, "mlflow_aws_endpoint_url": endpoint.url})
    assert code == 2
    # All inputs were found good: the credentials are the next thing that is looked at.
    assert "AWS refused the credentials" in one_line(output), output


def test_refused_credentials(playbook, endpoint):
    code, output = playbook("site.yml", variables={**GOOD, "mlflow_aws_endpoint_url": endpoint.url})
    assert code == 2
    assert "AWS refused the credentials or could not be reached" in one_line(output), output
    assert "The security token included in the request is invalid" in one_line(output)
    assert "look whether eu-central-1 (mlflow_aws_region) is" in one_line(output)
    assert "Traceback" not in output
    assert set(endpoint.calls) <= {"GetCallerIdentity", "ListAccountAliases"}


def test_an_endpoint_that_does_not_answer(playbook, endpoint):
    endpoint.close()
    code, output = playbook("site.yml", variables={**GOOD, "mlflow_aws_endpoint_url": endpoint.url})
    assert code == 2
    assert "could not be reached: " in one_line(output), output
    assert "Traceback" not in output


@pytest.fixture
def inventory(tmp_path):
    """examples/inventory-aws, copied and filled in as its comments say."""
    copy = tmp_path / "inventory"
    shutil.copytree(ROOT / "examples" / "inventory-aws", copy)
    file = copy / "group_vars" / "all.yml"
    text = file.read_text()
    text = text.replace('mlflow_aws_name: ""', "mlflow_aws_name: mlflow")
    text = text.replace('mlflow_aws_region: ""', "mlflow_aws_region: eu-central-1")
    text = text.replace("mlflow_aws_allowed_cidrs: []", "mlflow_aws_allowed_cidrs: [203.0.113.0/24]")
    file.write_text(text)
    return copy


def test_no_credentials_is_one_line_that_says_what_to_do(playbook, inventory):
    code, output = playbook("site.yml", "-i", str(inventory))
    assert code == 2
    said = [line for line in output.splitlines() if "There are no AWS credentials" in line and "aws configure" in line]
    assert len(said) >= 1, output
    assert "Failed to parse" not in output
    assert "Traceback" not in output
    warnings = [line for line in output.splitlines() if line.startswith("[WARNING]")]
    assert warnings == ["[WARNING]: No servers are listed: there are no AWS credentials."], output


def test_an_inventory_that_is_not_filled_in(playbook):
    code, output = playbook("site.yml", "-i", str(ROOT / "examples" / "inventory-aws"))
    assert code == 2
    assert "mlflow_aws_name (network_name) is ''" in one_line(output), output
    assert "Traceback" not in output


@pytest.mark.parametrize("inventory_name", ["inventory/aws", "inventory/local", "examples/inventory-aws"])
def test_every_inventory_has_the_same_groups(inventory_name):
    files = sorted(path.name for path in (ROOT / inventory_name).iterdir())
    assert files == ["group_vars", "hosts.yml", "mlflow_servers.yml"]
