# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import os
import shlex


def address(host, which="auto"):
    """The address by which the controller reaches a host: its public one where it has one, unless told otherwise."""
    if which == "private":
        return host.get("private_ip") or ""
    if which == "public":
        return host.get("public_ip") or ""
    return host.get("public_ip") or host.get("private_ip") or ""


def ssh_variables(host, private_key_file, which="auto"):
    """The variables by which Ansible reaches an EC2 host.

    The host's key is remembered under the instance's id, not under its address: an address is given to another
    instance after this one is gone, and its new key is no attack.
    """
    key = os.path.expanduser(private_key_file)
    options = {
        "HostKeyAlias": host["instance_id"],
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": f"{key}.known_hosts",
        "IdentitiesOnly": "yes",
        # A migration or an installation says nothing for long, and a firewall in between forgets a connection that does.
        # It also ends what a host that went away has left: after a minute.
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
    }
    return {
        "ansible_host": address(host, which),
        "ansible_user": host["user"],
        "ansible_ssh_private_key_file": key,
        # Every image has it there, and looking for it costs a connection.
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": " ".join(f"-o {shlex.quote(f'{name}={value}')}" for name, value in options.items()),
    }


def server_hosts(instances, private_key_file, which="auto"):
    """What the role ec2 publishes about its instances, given as amazon.aws.ec2_instance_info answers."""
    hosts = []
    for instance in instances:
        tags = instance.get("tags") or {}
        host = {
            "name": tags.get("Name") or instance["instance_id"],
            "instance_id": instance["instance_id"],
            "private_ip": instance.get("private_ip_address") or "",
            "public_ip": instance.get("public_ip_address") or "",
            "launch_time": instance.get("launch_time") or "",
            "user": tags.get("mlflow_aws_user") or "admin",
        }
        host["address"] = address(host, which)
        host["ssh"] = ssh_variables(host, private_key_file, which)
        hosts.append(host)
    return sorted(hosts, key=lambda host: host["name"])
