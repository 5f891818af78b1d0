# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
name: servers
version_added: 0.1.0
short_description: The EC2 hosts of an MLflow deployment
description:
  - Lists the EC2 instances that this collection made, by their tags, in the group C(mlflow_server), with all that is
    needed to reach them by SSH.
  - Name, region and the way to the API are the variables C(mlflow_aws_*) in C(group_vars/all.yml) or
    C(group_vars/all/*.yml) beside the inventory file, so they are written once. Extra variables win over them.
  - Where AWS does not answer, because there are no credentials for example, it says so in one line and lists nothing.
  - The plugin C(amazon.aws.aws_ec2) finds the same hosts by the tags C(mlflow_aws_name) and C(mlflow_aws_role).
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [mlops.mlflow_aws.servers]
  group:
    description: The group that the hosts are put in.
    type: str
    default: mlflow_server
author:
  - The mlops.mlflow_aws contributors
"""

EXAMPLES = r"""
# inventory/mlflow_servers.yml
plugin: mlops.mlflow_aws.servers
"""

import os

try:
    import boto3
    import botocore.config
    import botocore.exceptions

    HAS_BOTO3 = True
except ImportError:
    HAS_BOTO3 = False

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.template import Templar
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from ansible_collections.mlops.mlflow_aws.plugins.module_utils._ssh import ssh_variables

display = Display()


class InventoryModule(BaseInventoryPlugin):
    NAME = "mlops.mlflow_aws.servers"

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith(("mlflow_servers.yml", "mlflow_servers.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self.inventory.add_group(self.get_option("group"))
        variables = self._variables(loader, path)
        for name in ("mlflow_aws_name", "mlflow_aws_region"):
            if not variables(name):
                display.warning(f"No servers are listed: {name} is not set in group_vars/all.yml beside {path}.")
                return
        if not HAS_BOTO3:
            display.warning("No servers are listed: the Python package boto3 is missing (pip install -r requirements.txt).")
            return
        try:
            instances = list(self._instances(variables))
        except botocore.exceptions.NoCredentialsError:
            display.warning("No servers are listed: there are no AWS credentials.")
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError, OSError) as e:
            display.warning(f"No servers are listed: AWS did not answer ({e}).")
        else:
            for instance in instances:
                self._add(instance, variables)

    def _variables(self, loader, path):
        """A function that answers with the value of a variable in group_vars/all, templated."""
        directory = os.path.dirname(os.path.abspath(path))
        values = {"inventory_dir": directory, "inventory_file": os.path.abspath(path)}
        for file in _files(os.path.join(directory, "group_vars", "all")):
            content = loader.load_from_file(file, trusted_as_template=True) or {}
            if not isinstance(content, dict):
                raise AnsibleParserError(f"{file} is not a mapping of variables.")
            values.update(content)
        values.update(load_extra_vars(loader))
        templar = Templar(loader=loader, variables=values)

        def value(name, default=None):
            if values.get(name) in (None, ""):
                return default
            try:
                return templar.template(values[name])
            except AnsibleError as e:
                raise AnsibleParserError(f"{name} in {directory}/group_vars/all: {e}") from e

        return value

    def _instances(self, variables):
        session = boto3.session.Session(
            profile_name=variables("mlflow_aws_profile"),
            aws_access_key_id=variables("mlflow_aws_access_key"),
            aws_secret_access_key=variables("mlflow_aws_secret_key"),
            aws_session_token=variables("mlflow_aws_session_token"),
        )
        client = session.client(
            "ec2",
            region_name=variables("mlflow_aws_region"),
            endpoint_url=variables("mlflow_aws_endpoint_url"),
            verify=variables("mlflow_aws_ca_bundle"),
            config=botocore.config.Config(connect_timeout=5, retries={"max_attempts": 2}),
        )
        filters = [
            {"Name": "tag:mlflow_aws_name", "Values": [variables("mlflow_aws_name")]},
            {"Name": "tag:mlflow_aws_role", "Values": ["server"]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
        for page in client.get_paginator("describe_instances").paginate(Filters=filters):
            for reservation in page["Reservations"]:
                yield from reservation["Instances"]

    def _add(self, instance, variables):
        tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
        name = tags.get("Name") or instance["InstanceId"]
        self.inventory.add_host(name, group=self.get_option("group"))
        found = {
            "instance_id": instance["InstanceId"],
            "private_ip": instance.get("PrivateIpAddress", ""),
            "public_ip": instance.get("PublicIpAddress", ""),
            "user": tags.get("mlflow_aws_user", "admin"),
        }
        found.update(
            ssh_variables(
                found,
                variables("ec2_ssh_private_key_file", f"~/.ssh/{variables('mlflow_aws_name')}_ed25519"),
                variables("ec2_address", "auto"),
            )
        )
        found["ec2_user"] = found.pop("user")
        for key, value in found.items():
            self.inventory.set_variable(name, key, value)


def _files(base):
    for ending in ("", ".yml", ".yaml"):
        if os.path.isfile(base + ending):
            yield base + ending
    if os.path.isdir(base):
        for name in sorted(os.listdir(base)):
            if name.endswith((".yml", ".yaml")) and not name.startswith("."):
                yield os.path.join(base, name)
