# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The inventory lists the servers of one deployment, and no other instance of the account."""

from __future__ import annotations

import types

import boto3
import botocore.exceptions
import pytest
from ansible.errors import AnsibleParserError
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
def asked(tmp_path, monkeypatch):
    """asked(): the hosts that the plugin lists, with their variables, and what it warns of."""

    def ask(files=None, **more):
        (tmp_path / "mlflow_servers.yml").write_text("plugin: mlops.mlflow_aws.servers\n")
        variables = {"deployment": "mlflow", "mlflow_aws_name": "'{{ deployment }}'", "mlflow_aws_region": REGION, **more}
        lines = "".join(f"{key}: {value}\n" for key, value in variables.items())
        for name, text in (files or {"all.yml": lines}).items():
            path = tmp_path / "group_vars" / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
        module = plugin("inventory", "servers")
        warnings = []
        monkeypatch.setattr(module.display, "warning", warnings.append)
        reader, inventory = module.InventoryModule(), InventoryData()
        reader._load_name = reader._original_path = None
        monkeypatch.setattr(reader, "_read_config_data", lambda path: {})
        monkeypatch.setattr(reader, "get_option", lambda name: {"group": "mlflow_server"}[name])
        reader.parse(inventory, DataLoader(), str(tmp_path / "mlflow_servers.yml"))
        return {host.name: host.vars for host in inventory.groups["mlflow_server"].get_hosts()}, warnings

    return ask


@pytest.fixture
def listed(asked):
    def read(**variables):
        hosts, warnings = asked(**variables)
        assert not warnings
        return hosts

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


def test_only_a_file_of_this_name_is_read(tmp_path):
    plugin_of_ours = plugin("inventory", "servers").InventoryModule()
    for name, ours in (("mlflow_servers.yml", True), ("mlflow_servers.yaml", True), ("servers.yml", False), ("hosts", False)):
        assert not plugin_of_ours.verify_file(str(tmp_path / name))
        (tmp_path / name).write_text("plugin: mlops.mlflow_aws.servers\n")
        assert plugin_of_ours.verify_file(str(tmp_path / name)) == ours


@pytest.fixture
def api(monkeypatch):
    """An API that answers with these pages of instances; how it was asked is kept."""
    about = types.SimpleNamespace(pages=[], asked={})

    def client(session, service, **options):
        own = session.get_credentials()
        about.asked.update(options, service=service, key=own and own.access_key, secret=own and own.secret_key)
        pages = [{"Reservations": [{"Instances": instances}]} for instances in about.pages]
        return types.SimpleNamespace(get_paginator=lambda _name: types.SimpleNamespace(paginate=lambda **_filters: pages))

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setattr(boto3.session.Session, "client", client)
    return about


def instance(**tags):
    tags = [{"Key": key, "Value": value} for key, value in {**SERVER, **tags}.items() if value]
    return {"InstanceId": "i-1", "PrivateIpAddress": "172.31.0.4", "PublicIpAddress": "198.51.100.7", "Tags": tags}


def test_a_host_is_reached_as_its_variables_say(api, listed, monkeypatch):
    monkeypatch.setenv("HOME", "/srv/me")
    api.pages = [[instance(Name="one", mlflow_aws_user="ec2-user")], [instance(Name="two", mlflow_aws_user=None)]]
    hosts = listed()
    assert set(hosts) == {"one", "two"} and hosts["two"]["ansible_user"] == "admin"
    assert hosts["one"]["ansible_host"] == hosts["one"]["public_ip"] == "198.51.100.7"
    assert hosts["one"]["ansible_ssh_private_key_file"] == "/srv/me/.ssh/mlflow_ed25519"
    assert hosts["one"]["ec2_user"] == hosts["one"]["ansible_user"] == "ec2-user" and "user" not in hosts["one"]
    host = listed(ec2_ssh_private_key_file="/keys/one", ec2_address="private")["one"]
    assert host["ansible_host"] == host["private_ip"] == "172.31.0.4"
    assert host["ansible_ssh_private_key_file"] == "/keys/one"


def test_a_host_that_has_no_address_yet_is_listed(api, listed):
    api.pages = [[{"InstanceId": "i-2"}]]
    host = listed()["i-2"]
    assert (host["private_ip"], host["public_ip"], host["ansible_host"], host["ec2_user"]) == ("", "", "", "admin")


@pytest.mark.parametrize("name", ["mlflow_aws_name", "mlflow_aws_region"])
@pytest.mark.parametrize("nothing", ["", "''"])
def test_without_a_name_or_a_region_no_server_is_listed(api, asked, tmp_path, name, nothing):
    api.pages = [[instance()]]
    hosts, warnings = asked(**{name: nothing})
    assert hosts == {} and warnings == [
        f"No servers are listed: {name} is not set in group_vars/all.yml beside {tmp_path}/mlflow_servers.yml."
    ]


@pytest.mark.parametrize(
    "error, said",
    [
        (botocore.exceptions.NoCredentialsError(), "there are no AWS credentials."),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="https://ec2"), "AWS did not answer (Could not connect to"),
        (
            botocore.exceptions.ClientError({"Error": {"Code": "AuthFailure", "Message": "not you"}}, "DescribeInstances"),
            "AWS did not answer (An error occurred (AuthFailure)",
        ),
        (OSError("no such CA bundle"), "AWS did not answer (no such CA bundle)."),
    ],
)
def test_where_aws_does_not_answer_that_is_told_and_nothing_is_listed(asked, monkeypatch, error, said):
    def refuse(*_arguments, **_options):
        raise error

    monkeypatch.setattr(boto3.session.Session, "client", refuse)
    hosts, (warning,) = asked()
    assert hosts == {} and warning.startswith(f"No servers are listed: {said}")


def test_without_boto3_that_is_told(asked, monkeypatch):
    monkeypatch.setattr(plugin("inventory", "servers"), "HAS_BOTO3", False)
    hosts, (warning,) = asked()
    assert hosts == {} and "the Python package boto3 is missing" in warning


def test_the_api_is_asked_as_the_variables_say(api, listed):
    assert listed() == {}
    assert (api.asked["service"], api.asked["region_name"], api.asked["key"]) == ("ec2", REGION, "of-the-environment")
    assert api.asked["endpoint_url"] is None and api.asked["verify"] is None
    own = {"mlflow_aws_access_key": "mine", "mlflow_aws_secret_key": "mine-too", "mlflow_aws_endpoint_url": "https://10.0.0.1:8443"}
    assert listed(**own, mlflow_aws_ca_bundle="/etc/ca.pem") == {}
    assert (api.asked["key"], api.asked["secret"]) == ("mine", "mine-too")
    assert (api.asked["endpoint_url"], api.asked["verify"]) == ("https://10.0.0.1:8443", "/etc/ca.pem")


def test_variables_may_be_in_several_files(api, asked):
    """The last one of a folder wins, as for Ansible; what an editor has left there is none of them."""
    api.pages = [[instance(Name="one")]]
    files = {
        "all/a.yml": f"mlflow_aws_name: another\nmlflow_aws_region: {REGION}\n",
        "all/b.yaml": "mlflow_aws_name: mlflow\n",
        "all/c.yml": "",
        "all/.d.yml": "mlflow_aws_name: of-before\n",
        "all/e.yml~": "mlflow_aws_name: of-before\n",
    }
    hosts, warnings = asked(files)
    assert not warnings and hosts["one"]["ansible_ssh_private_key_file"].endswith("/.ssh/mlflow_ed25519")


@pytest.mark.parametrize("name", ["all", "all.yml", "all.yaml"])
def test_variables_may_be_in_one_file(api, asked, name):
    api.pages = [[instance(Name="one")]]
    hosts, _warnings = asked({name: f"mlflow_aws_name: mlflow\nmlflow_aws_region: {REGION}\n"})
    assert set(hosts) == {"one"}


def test_variables_that_can_not_be_read_are_named(api, asked, tmp_path):
    with pytest.raises(AnsibleParserError, match="all.yml is not a mapping of variables"):
        asked({"all.yml": "- mlflow\n"})
    with pytest.raises(AnsibleParserError, match=f"mlflow_aws_name in {tmp_path}/group_vars/all: .*no_such"):
        asked(mlflow_aws_name="'{{ no_such }}'")
