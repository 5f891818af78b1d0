# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The inventory lists the servers of one deployment, and no other instance of the account."""

from __future__ import annotations

import boto3
import pytest
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from plugin_support import REGION, plugin

SERVER = {"mlflow_aws_name": "mlflow", "mlflow_aws_role": "server", "mlflow_aws_user": "ubuntu"}


@pytest.fixture
def make(aws):
    client = boto3.client("ec2", region_name=REGION)
    image = client.describe_images()["Images"][0]["ImageId"]

    def one(state="running", **tags):
        tags = [{"Key": key, "Value": value} for key, value in tags.items()]
        made = client.run_instances(
            ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=[{"ResourceType": "instance", "Tags": tags}]
        )["Instances"][0]["InstanceId"]
        if state == "stopped":
            client.stop_instances(InstanceIds=[made])
        elif state == "terminated":
            client.terminate_instances(InstanceIds=[made])
        return made

    return one


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """The hosts that the plugin lists, with their variables."""

    def read(**variables):
        (tmp_path / "mlflow_servers.yml").write_text("plugin: mlops.mlflow_aws.servers\n")
        (tmp_path / "group_vars").mkdir(exist_ok=True)
        lines = {"deployment": "mlflow", "mlflow_aws_name": "'{{ deployment }}'", "mlflow_aws_region": REGION, **variables}
        (tmp_path / "group_vars" / "all.yml").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
        module = plugin("inventory", "servers")
        warnings = []
        monkeypatch.setattr(module.display, "warning", warnings.append)
        reader, inventory = module.InventoryModule(), InventoryData()
        reader._load_name = reader._original_path = None
        monkeypatch.setattr(reader, "_read_config_data", lambda path: {})
        monkeypatch.setattr(reader, "get_option", lambda name: {"group": "mlflow_server"}[name])
        reader.parse(inventory, DataLoader(), str(tmp_path / "mlflow_servers.yml"))
        assert not warnings
        return {host.name: host.vars for host in inventory.groups["mlflow_server"].get_hosts()}

    return read


def test_only_the_running_servers_of_this_deployment_are_listed(make, listed):
    one = make(Name="mlflow-server-1", **SERVER)
    unnamed = make(**SERVER)
    make(Name="another-deployment", **{**SERVER, "mlflow_aws_name": "mlflow-2"})
    make(Name="another-role", **{**SERVER, "mlflow_aws_role": "bastion"})
    make(Name="no-role", mlflow_aws_name="mlflow")
    make(Name="nobodys")
    make("stopped", Name="stopped", **SERVER)
    make("terminated", Name="gone", **SERVER)
    found = listed()
    assert set(found) == {"mlflow-server-1", unnamed}
    assert found["mlflow-server-1"]["instance_id"] == one
    assert found["mlflow-server-1"]["ansible_user"] == "ubuntu"
    assert "HostKeyAlias=" + one in found["mlflow-server-1"]["ansible_ssh_common_args"]


def test_a_deployment_without_servers_lists_none(aws, listed):
    assert listed() == {}
