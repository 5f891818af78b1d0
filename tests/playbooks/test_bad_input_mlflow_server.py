# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Each variable of mlflow_server: a value that can't work is refused by name, with what it is and what it must be."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "mlflow_server"

# The password is looked for in what is said.
SECRET = "hidden-9Xw2"
PASSPHRASE = f"a-passphrase-that-is-long-{SECRET}"
GOOD = {
    "mlflow_server_database_host": "db.example.com",
    "mlflow_server_database_user": "mlflow_a",
    "mlflow_server_database_password": SECRET,
    "mlflow_server_database_ca_url": "https://example.com/ca.pem",
    "mlflow_server_artifact_root": "s3://example-bucket/artifacts",
    "mlflow_server_admin_password": f"admin-{SECRET}",
    "mlflow_server_flask_secret_key": f"flask-key-{SECRET}",
}

# Variable, the values that are set, and what must be said. FILES/ is a folder with certificates.
CASES = [
    ("state", {"state": "started"}, "is 'started'; it must be present or absent"),
    ("version", {"version": "3.17"}, "is '3.17'; it must be a full version such as 3.17.2"),
    ("version", {"version": "latest"}, "is 'latest'; it must be a full version"),
    ("version", {"version": "3.16.0"}, "is '3.16.0'; it must be 3.16.1 or newer"),
    (
        "version",
        {"version": "3.15.0", "allow_unlocked": True, "auth_enabled": False, "allow_anonymous": True},
        "is '3.15.0'; it must be 3.16.1 or newer: older ones have an administrator's password that everybody knows",
    ),
    ("version", {"version": "3.99.0"}, "is '3.99.0', which has no lock file"),
    ("allow_unlocked", {"allow_unlocked": "perhaps"}, "unable to convert to bool"),
    ("allow_downgrade", {"allow_downgrade": "perhaps"}, "unable to convert to bool"),
    ("host_away", {"host_away": "keep"}, "value of mlflow_server_host_away must be one of: stop, go_on"),
    ("memory_max", {"memory_max": "lots"}, "is 'lots'; it must be a size such as 4G"),
    ("max_body_mib", {"max_body_mib": 0}, "is '0'; it must be a whole number of MiB from 1 to 9999"),
    ("transfers_per_address", {"transfers_per_address": 0}, "is '0'; it must be a whole number, 1 or more"),
    ("extra_routes", {"extra_routes": ["/"]}, "each must be the beginning of a path"),
    ("extra_routes", {"extra_routes": ["/ajax-api/3.0/mlflow/assistant"]}, "neither MLflow's assistant"),
    ("extra_routes", {"extra_routes": ["/ajax-api/3.0/mlflow/"]}, "nor the beginning of all routes"),
    ("shortcuts", {"shortcuts": "perhaps"}, "unable to convert to bool"),
    ("shortcuts_left_out", {"shortcuts_left_out": ["login"]}, "one or more of: classic, reads"),
    ("trusted_proxies", {"trusted_proxies": ["0.0.0.0/0"]}, "opens the server to the whole internet"),
    ("trusted_proxies", {"trusted_proxies": ["lb.example.com"]}, "is not a network in CIDR notation"),
    ("public_name", {"public_name": "https://mlflow.example.com"}, "without scheme, port or path"),
    ("public_name", {"public_name": "mlflow.example.com:443"}, "is 'mlflow.example.com:443'; it must be a host name"),
    ("extra_names", {"extra_names": ["lb.example.com/x"]}, "each must be a host name or an IPv4 address alone"),
    ("extra_names", {"extra_names": {"a": "b"}}, "unable to convert to list"),
    ("hosts", {"hosts": 0}, "is '0'; it must be a whole number, 1 or more"),
    ("database_host", {"database_host": None}, "is missing; it must be the name of the PostgreSQL server"),
    ("database_host", {"database_host": "postgresql://db"}, "it must be a host name or an address alone, not a URL"),
    ("database_port", {"database_port": 65536}, "is '65536'; it must be a number from 1 to 65535"),
    ("database_port", {"database_port": "five"}, "unable to convert to int"),
    ("database_name", {"database_name": "a b"}, "is 'a b'; it must be the name of a database"),
    ("database_user", {"database_user": None}, "it must be the name of the role that MLflow logs in with"),
    ("database_password", {"database_password": None}, "is missing; it must be the password of mlflow_server_database_user"),
    ("database_password", {"database_password": f"{SECRET}\nx"}, "holds a line break"),
    ("database_password", {"database_password": f" {SECRET}"}, "begins or ends with a space"),
    ("database_sslmode", {"database_sslmode": "full"}, "is 'full'; it must be one of PostgreSQL's"),
    ("database_ca_file", {"database_ca_file": "/nowhere/ca.pem"}, "is '/nowhere/ca.pem'; it must be a file on the controller"),
    ("database_ca_url", {"database_ca_url": "http://example.com/ca.pem"}, "it must start with https://"),
    ("database_max_connections", {"database_max_connections": -1}, "is '-1'; it must be a whole number"),
    ("database_max_connections", {"database_max_connections": 20, "workers": 8}, "the database takes 20"),
    ("artifact_root", {"artifact_root": None}, "it must be s3://BUCKET or s3://BUCKET/PREFIX"),
    ("artifact_root", {"artifact_root": "/srv/artifacts"}, "is '/srv/artifacts'; it must be s3://BUCKET"),
    ("aws_region", {"aws_region": "Frankfurt"}, "is 'Frankfurt'; it must be a region such as eu-central-1"),
    ("s3_endpoint_url", {"s3_endpoint_url": "minio:9000"}, "must be http:// or https:// and a host"),
    ("s3_endpoint_url", {"s3_endpoint_url": f"https://key:{SECRET}@minio"}, "without a login in it"),
    ("s3_ca_file", {"s3_ca_file": "/nowhere/s3.pem"}, "is '/nowhere/s3.pem'; it must be a file on the controller"),
    ("s3_access_key_id", {"s3_access_key_id": "AKIA"}, "set both, or neither"),
    ("s3_secret_access_key", {"s3_secret_access_key": SECRET}, "set both, or neither"),
    ("workers", {"workers": -2}, "is '-2'; it must be a whole number"),
    ("pool_size", {"pool_size": -1}, "is '-1'; it must be a whole number"),
    ("max_overflow", {"max_overflow": -1, "pool_size": 2}, "is '-1'; it must be a whole number"),
    ("max_overflow", {"max_overflow": 5}, "set both, or neither"),
    ("pool_recycle", {"pool_recycle": 0}, "is '0'; it must be a number of seconds, 1 or more"),
    ("memory_high", {"memory_high": "lots"}, "is 'lots'; it must be a size such as 3G"),
    ("tasks_max", {"tasks_max": 10}, "is '10'; it must be a whole number, 64 or more"),
    ("spool_dir", {"spool_dir": "var/tmp"}, "is 'var/tmp'; it must be the absolute path of a folder"),
    ("spool_min_free_mib", {"spool_min_free_mib": -1}, "is '-1'; it must be a whole number of MiB"),
    ("auth_enabled", {"auth_enabled": "perhaps"}, "unable to convert to bool"),
    ("allow_anonymous", {"auth_enabled": False}, "set mlflow_server_allow_anonymous: true as well"),
    ("artifact_access", {"artifact_access": "s3"}, "is 's3'; it must be proxied or direct"),
    ("admin_username", {"admin_username": "a:b"}, "is 'a:b'; it must be a name without space or colon"),
    ("admin_password", {"admin_password": SECRET[:11]}, "is short; it must have 12 characters or more"),
    ("flask_secret_key", {"flask_secret_key": SECRET}, "it must be a random string of 16 characters or more"),
    ("webhooks", {"webhooks": "perhaps"}, "unable to convert to bool"),
    ("webhook_key", {"webhook_key": SECRET}, "it must be a random string of 16 characters or more"),
    ("webhook_key", {"webhook_key": f"a key with spaces {SECRET}"}, "holds a space or a line break"),
    ("webhook_forget_secrets", {"webhook_forget_secrets": "perhaps"}, "unable to convert to bool"),
    (
        "environment",
        {"environment": {"MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": SECRET}},
        "it must be given as mlflow_server_webhook_key",
    ),
    ("gateway", {"gateway": True}, "is true and mlflow_server_gateway_passphrase is missing"),
    ("gateway", {"gateway": "perhaps"}, "unable to convert to bool"),
    (
        "gateway",
        {"gateway": True, "gateway_passphrase": PASSPHRASE, "auth_enabled": False, "allow_anonymous": True},
        "is true and mlflow_server_auth_enabled is false",
    ),
    (
        "gateway",
        {"gateway": True, "gateway_passphrase": PASSPHRASE, "version": "3.16.1"},
        "is '3.16.1'; it must be 3.17.0 or newer",
    ),
    ("gateway_passphrase", {"gateway_passphrase": SECRET}, "is short; it must be a random string of 20 characters or more"),
    ("gateway_passphrase", {"gateway_passphrase": f"{PASSPHRASE} x"}, "of this deployment's own"),
    (
        "gateway_passphrase",
        {"gateway": True, "gateway_passphrase": "mlflow-default-kek-passphrase-for-development-only"},
        "is the one that MLflow has in its source",
    ),
    ("gateway_allow_lost_keys", {"gateway_allow_lost_keys": "perhaps"}, "unable to convert to bool"),
    ("gateway_providers", {"gateway_providers": ["Open AI"]}, "each must be a provider's name in MLflow, such as openai"),
    ("extra_routes", {"extra_routes": ["/api/3.0/mlflow/gateway/"]}, "must be opened by mlflow_server_gateway"),
    ("environment", {"environment": {"MLFLOW_CRYPTO_KEK_PASSPHRASE": SECRET}}, "as mlflow_server_gateway_passphrase, which is"),
    ("environment", {"environment": {"MLFLOW_ENABLE_AI_GATEWAY": "true"}}, "it must be said as mlflow_server_gateway"),
    ("environment", {"environment": {"MLFLOW_GATEWAY_RESOLVE_API_KEY_FROM_FILE": "true"}}, "it must be left out"),
    ("users_from", {"users_from": "/nowhere/basic_auth.db"}, "is '/nowhere/basic_auth.db'; it must be a file of SQLite on"),
    ("users_from", {"users_from": f"mysql://ana:{SECRET}@db/x"}, "is 'mysql://...@db/x'; it must be a file of SQLite"),
    ("users_from", {"users_from": f"postgresql://ana:{SECRET}@db/x"}, "holds a password; it must be in"),
    ("users_from", {"users_from": f"postgresql://db/x?user=ana&password={SECRET}"}, "holds a password; it must be in"),
    (
        "users_from",
        {"users_from": "postgresql:///mlflow_auth", "auth_enabled": False, "allow_anonymous": True},
        "is set and mlflow_server_auth_enabled is false",
    ),
    (
        "users_from_password",
        {"users_from": "postgresql:///mlflow_auth", "users_from_password": SECRET},
        "is set; it must be the password for an address with a host",
    ),
    ("auth_default_permission", {"auth_default_permission": "WRITE"}, "is 'WRITE'; it must be READ, USE, EDIT, MANAGE"),
    ("auth_cache_ttl", {"auth_cache_ttl": -1}, "is '-1'; it must be a number of seconds"),
    ("tls", {"tls": "yes"}, "it must be self_signed, provided, acme or none"),
    ("tls_certificate_file", {"tls": "provided", "tls_key_file": "FILES/a.key"}, "it must be a file on the controller"),
    ("tls_key_file", {"tls": "provided", "tls_certificate_file": "FILES/a.crt"}, "be a file on the controller"),
    (
        "tls_key_file",
        {"tls": "provided", "tls_certificate_file": "FILES/a.crt", "tls_key_file": "FILES/b.key"},
        "is not the key of the certificate in mlflow_server_tls_certificate_file",
    ),
    (
        "tls_certificate_file",
        {"tls": "provided", "tls_certificate_file": "FILES/chain.crt", "tls_key_file": "FILES/a.key"},
        "must begin with the server's certificate",
    ),
    (
        "tls_certificate_file",
        {"tls": "provided", "tls_certificate_file": "FILES/a.key", "tls_key_file": "FILES/a.key"},
        "holds no certificate in PEM",
    ),
    (
        "tls_key_file",
        {"tls": "provided", "tls_certificate_file": "FILES/a.crt", "tls_key_file": "FILES/a.crt"},
        "holds no private key in PEM",
    ),
    ("acme_directory_url", {"tls": "acme", "acme_directory_url": "http://acme.example.com/dir"}, "https://"),
    ("acme_ca_file", {"tls": "acme", "acme_ca_file": "/nowhere/acme.pem"}, "is '/nowhere/acme.pem'"),
    ("acme_email", {"tls": "acme", "acme_email": "somebody"}, "is 'somebody'"),
    ("https_port", {"https_port": 0}, "both must be numbers from 1 to 65535"),
    ("http_port", {"http_port": 443}, "are both '443'; they must differ"),
    ("hsts_max_age", {"hsts_max_age": -1}, "is '-1'; it must be a number of seconds (0: no HSTS)"),
    ("remove_default_site", {"remove_default_site": "perhaps"}, "unable to convert to bool"),
    ("installer", {"installer": "conda"}, "is 'conda'; it must be uv or pip"),
    ("python", {"python": "python3.12"}, "is 'python3.12'; it must be the absolute path of a Python"),
    ("python", {"python": "/root/.local/bin/python3.12"}, "is '/root/.local/bin/python3.12'; it must be outside of /root, /home"),
    ("spool_dir", {"spool_dir": "/home/spool"}, "is '/home/spool'; it must be outside of /root, /home and /run/user"),
    ("start_timeout", {"start_timeout": 0}, "is '0'; it must be a number of seconds, 1 or more"),
    ("drain_timeout", {"drain_timeout": -1}, "is '-1'; it must be a whole number of seconds"),
    ("gc_retention", {"gc_retention": "30 days"}, "is '30 days'; it must be a duration such as 30d"),
    ("gc_schedule", {"gc_schedule": ""}, "it must be a calendar event of systemd"),
    ("metrics_allowed_cidrs", {"metrics_allowed_cidrs": ["office"]}, "'office' is not a network in CIDR notation"),
    ("metrics_allowed_cidrs", {"metrics_allowed_cidrs": "192.0.2.0/24"}, "mlflow_server_metrics_allowed_cidrs"),
    ("environment", {"environment": {"A-B": "1"}}, "has the names A-B; each must be letters, digits and underscores"),
    ("environment", {"environment": {"A": "1\n2"}}, "has a value with a line break"),
    ("environment", {"environment": {"_MLFLOW_STATIC_PREFIX": "/mlflow"}}, "has _MLFLOW_STATIC_PREFIX, and this server answers"),
    ("environment", {"environment": {"A": "1", "MLFLOW_STATIC_PREFIX": "/mlflow"}}, "has MLFLOW_STATIC_PREFIX, and this server"),
    ("environment", {"environment": ["A=1"]}, "unable to convert to dict"),
]

PLAYBOOK = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - block:
        - ansible.builtin.validate_argument_spec:
            argument_spec: "{{ (lookup('ansible.builtin.file', specs) | from_yaml).argument_specs.main.options }}"
            provided_arguments: "{{ given }}"
        - ansible.builtin.include_role: {name: mlops.mlflow_aws.mlflow_server, tasks_from: preflight}
        - ansible.builtin.set_fact: {said: ""}
      rescue:
        - ansible.builtin.set_fact:
            said: "{{ ansible_failed_result.msg }} {{ ansible_failed_result.argument_errors | default([]) | join(' ') }}"
- hosts: localhost
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.copy:
        content: "{{ dict(groups['all'] | zip(groups['all'] | map('extract', hostvars, 'said'))) | to_json }}"
        dest: "{{ answer }}"
        mode: "0600"
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    for name in "ab":
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "30",
             "-subj", f"/CN={name}.example.com", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"],
            check=True, capture_output=True,
        )  # fmt: skip
    (folder / "chain.crt").write_text((folder / "b.crt").read_text() + (folder / "a.crt").read_text())
    return folder


def test_each_variable_has_a_case():
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert {f"mlflow_server_{variable}" for variable, _values, _said in CASES} == set(options)


def test_bad_input(playbook, certificates, tmp_path):
    """All in one run: each case is a host of its own, and so is the good input."""
    hosts = {"good": GOOD}
    for number, (_variable, values, _said) in enumerate(CASES):
        changed = {f"mlflow_server_{name}": value for name, value in values.items()}
        changed = json.loads(json.dumps(changed).replace("FILES", str(certificates)))
        hosts[f"case{number}"] = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    # The variables as they are, and once more by themselves for the argument specification.
    inventory = {"all": {"hosts": {name: {**values, "given": values} for name, values in hosts.items()}}}
    (tmp_path / "inventory.yml").write_text(json.dumps(inventory))
    (tmp_path / "bad.yml").write_text(PLAYBOOK)
    answer = tmp_path / "answer.json"
    code, output = playbook(
        tmp_path / "bad.yml", "-i", str(tmp_path / "inventory.yml"), "--forks", "10",
        variables={"answer": str(answer), "specs": str(ROLE / "meta" / "argument_specs.yml")},
    )  # fmt: skip
    assert code == 0, output[-3000:]
    said = json.loads(answer.read_text())
    assert said["good"] == ""
    problems = []
    for number, (variable, values, expected) in enumerate(CASES):
        text = " ".join(said[f"case{number}"].split())
        if f"mlflow_server_{variable}" not in text or expected not in text or SECRET in text:
            problems.append(f"{values}: {text or 'was not refused'}")
    assert not problems, "\n".join(problems)
