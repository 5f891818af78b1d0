# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
EC2 as AWS documents it: where moto differs, and where a call now waits for the real parts.

States follow "Amazon EC2 instance state changes" (EC2 User Guide): an instance is pending, stopping or shutting-down
until the parts report otherwise.
"""

from __future__ import annotations

import base64
import copy
import ipaddress
from collections.abc import Iterator
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.models import (
    ec2_backends,
    elastic_block_store,
    elastic_network_interfaces,
    iam_instance_profile,
    instances,
    security_groups,
    subnets,
    vpcs,
)
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES
from moto.ec2.responses.security_groups import SecurityGroups

from ..model import Instance, Rule, SecurityGroup, Vpc
from . import images
from .identity import ACCOUNT
from .wire import AwsError, Call

_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

#: AWS keeps addresses x.0 to x.3 and the last of each subnet ("Subnet CIDR blocks" in the VPC User Guide).
_RESERVED = 4
#: How long a terminated instance can still be described.
_REMEMBER_SECONDS = 3600


def backends() -> Iterator[tuple[str, Any]]:
    """(region, backend) of every region in use."""
    for _, region, backend in list(ec2_backends.iter_backends()):
        yield region, backend


# -- addresses -------------------------------------------------------------------------------------------------------


def _taken(backend: Any) -> set[str]:
    taken = set()
    for eni in backend.enis.values():
        taken.add(eni.private_ip_address)
        taken.update(a.get("PrivateIpAddress") for a in eni.private_ip_addresses)
    return taken


def _next_ip(self: Any, instance: Any = None) -> str:
    """The next free address after the last one given, so that an address isn't reused at once."""
    taken = _taken(self.ec2_backend) | set(self._subnet_ips)
    network = ipaddress.ip_network(self.cidr_block, strict=False)
    first, last = int(network.network_address) + _RESERVED, int(network.broadcast_address) - 1
    size = last - first + 1
    start = getattr(self, "lc_next", 0)
    for i in range(size):
        offset = (start + i) % size
        ip = str(ipaddress.ip_address(first + offset))
        if ip not in taken:
            self.lc_next = offset + 1
            self._subnet_ips[ip] = instance
            return ip
    raise AwsError(
        "InsufficientFreeAddressesInSubnet",
        f"There are not enough free addresses in subnet '{self.id}' to satisfy the requested number of instances.",
    )


def _request_ip(self: Any, ip: str, instance: Any = None) -> None:
    """CreateNetworkInterface and RunInstances, errors of "Error codes for the Amazon EC2 API"."""
    network = ipaddress.ip_network(self.cidr_block, strict=False)
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        raise AwsError("InvalidParameterValue", f"{ip} is not a valid IP address.") from None
    offset = int(address) - int(network.network_address)
    if address not in network or offset < _RESERVED or address == network.broadcast_address:
        raise AwsError("InvalidParameterValue", f"Address {ip} does not fall within the subnet's address range")
    if ip in self._subnet_ips or ip in _taken(self.ec2_backend):
        raise AwsError("InvalidIPAddress.InUse", f"Address {ip} is in use.")
    self._subnet_ips[ip] = instance


def _del_ip(self: Any, ip: str) -> None:
    self._subnet_ips.pop(ip, None)


def _mac(ip: str) -> str:
    """A locally administered MAC address that follows from the private one, so no two are alike."""
    return "02:1c:" + ":".join(f"{int(b):02x}" for b in ip.split("."))


_eni_init = elastic_network_interfaces.NetworkInterface.__init__


def _new_eni(self: Any, ec2_backend: Any, subnet: Any, private_ip_address: Any, *args: Any, **kwargs: Any) -> None:
    if isinstance(subnet, str):
        subnet = ec2_backend.get_subnet(subnet)
    if isinstance(private_ip_address, list):
        private_ip_address = private_ip_address[0] if private_ip_address else None
    if not private_ip_address and not (args and args[0]) and not kwargs.get("private_ip_addresses"):
        private_ip_address = _next_ip(subnet)
    elif private_ip_address and private_ip_address not in subnet._subnet_ips:
        _request_ip(subnet, private_ip_address)
    _eni_init(self, ec2_backend, subnet, private_ip_address, *args, **kwargs)
    self.mac_address = _mac(self.private_ip_address)
    # DescribeNetworkInterfaces: the private DNS name is the address's name in the region.
    self.private_dns_name = dns_name(self.private_ip_address, ec2_backend.region_name)
    for address in self.private_ip_addresses:
        if address.get("Primary"):
            address["PrivateDnsName"] = self.private_dns_name


def dns_name(ip: str, region: str) -> str:
    tail = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
    return f"ip-{ip.replace('.', '-')}.{tail}"


# -- the network -----------------------------------------------------------------------------------------------------


def _default_vpc(cidr: str) -> Any:
    def create_default_vpc(self: Any) -> Any:
        if self.describe_vpcs(filters={"is-default": ["true"]}):
            raise vpcs.DefaultVpcAlreadyExists
        vpc = self.create_vpc(cidr_block=cidr, is_default=True)
        vpc.enable_dns_hostnames = "true"
        # "Default security groups": its members reach one another.
        group = self.get_security_group_from_name("default", vpc.id)
        self.authorize_security_group_ingress(group.id, "-1", None, None, [], [{"GroupId": group.id}])
        for zone in self.describe_availability_zones():
            self.create_default_subnet(zone.name)
        # "Default VPC components" (VPC User Guide): an internet gateway and a main route to it.
        gateway = self.create_internet_gateway()
        self.attach_internet_gateway(gateway.id, vpc.id)
        for table in self.describe_route_tables(filters={"vpc-id": vpc.id}):
            self.create_route(table.id, "0.0.0.0/0", gateway_id=gateway.id)
        return vpc

    return create_default_vpc


_create_subnet = subnets.SubnetBackend.create_subnet


def _new_subnet(self: Any, *args: Any, **kwargs: Any) -> Any:
    subnet = _create_subnet(self, *args, **kwargs)
    # No public addresses here. And a subnet of another VPC is never the default of its zone ("Default subnets").
    subnet.map_public_ip_on_launch = False
    subnet.default_for_az = bool(self.vpcs[subnet.vpc_id].is_default) and subnet.default_for_az
    return subnet


def _group_users(backend: Any, group_id: str) -> list[str]:
    users = [eni.id for eni in backend.enis.values() if any(g.id == group_id for g in eni.group_set)]
    for other in all_groups(backend):
        if other.id != group_id and any(
            r.source_group.get("GroupId") == group_id for r in [*other.ingress_rules, *other.egress_rules]
        ):
            users.append(other.id)
    return users


def all_groups(backend: Any) -> list[Any]:
    return [group for groups in backend.groups.values() for group in groups.values()]


_delete_group = security_groups.SecurityGroupBackend.delete_security_group


def _delete_security_group(self: Any, name: str | None = None, group_id: str | None = None) -> None:
    """DeleteSecurityGroup: one in use is a DependencyViolation, a VPC's default group can't be deleted by the user."""
    group = self.get_security_group_from_id(group_id) if group_id else None
    if group is not None and _group_users(self, group.id):
        raise AwsError("DependencyViolation", f"resource {group.id} has a dependent object")
    _delete_group(self, name=name, group_id=group_id)


# -- instances -------------------------------------------------------------------------------------------------------


def _set_state(instance: Any, name: str) -> None:
    instance._state.name = name
    instance._state.code = _CODES[name]


_instance_init = instances.Instance.__init__


def _new_instance(self: Any, *args: Any, **kwargs: Any) -> None:
    _instance_init(self, *args, **kwargs)
    _set_state(self, "pending")
    self.lc_reboots = 0
    self.lc_ended = None
    for nic in self.nics.values():
        nic.delete_on_termination = True


def _start(self: Any) -> Any:
    previous = copy.copy(self._state)
    if self.state in ("running", "pending"):
        return previous
    if self.state != "stopped":
        raise _wrong_state(self)
    _set_state(self, "pending")
    self._reason, self.state_reason = "", instances.StateReason()
    return previous


def _stop(self: Any) -> Any:
    previous = copy.copy(self._state)
    if self.state in ("stopped", "stopping"):
        return previous
    if self.state not in ("running", "pending"):
        raise _wrong_state(self)
    _set_state(self, "stopping")
    _user_did_it(self)
    return previous


def _user_did_it(instance: Any) -> None:
    instance._reason = f"User initiated ({utcnow().strftime('%Y-%m-%d %H:%M:%S GMT')})"
    instance.state_reason = instances.StateReason(
        "Client.UserInitiatedShutdown: User initiated shutdown", "Client.UserInitiatedShutdown"
    )


def _wrong_state(instance: Any) -> AwsError:
    return AwsError(
        "IncorrectInstanceState",
        f"The instance '{instance.id}' is not in a state from which it can be started, stopped or rebooted: it is "
        f"{instance.state}.",
    )


_moto_terminate = instances.Instance.terminate


def _terminate(self: Any) -> Any:
    """Only marks it; the address and the volumes stay until the parts report that the machine is gone."""
    previous = copy.copy(self._state)
    if self.state not in ("terminated", "shutting-down"):
        _set_state(self, "shutting-down")
        _user_did_it(self)
    return previous


def _reboot(self: Any) -> None:
    if self.state != "running":
        raise _wrong_state(self)
    self.lc_reboots += 1


def _setup_defaults(self: Any) -> None:
    self.add_block_device(images.ROOT_GIB, self.root_device_name, None, False, True, None, "gp3")


_add_block_device = instances.Instance.add_block_device


def _block_device(self: Any, size: Any, device_path: str, snapshot_id: Any, encrypted: Any, delete: Any,
                  kms_key_id: Any, volume_type: Any) -> None:
    """RunInstances: what a mapping of the root device leaves out comes from the image."""
    _add_block_device(self, size or images.ROOT_GIB, device_path, snapshot_id, str(encrypted).lower() == "true",
                      delete, kms_key_id, volume_type or "gp3")


_volume_init = elastic_block_store.Volume.__init__


def _new_volume(self: Any, *args: Any, **kwargs: Any) -> None:
    _volume_init(self, *args, **kwargs)
    if self.volume_type == "gp3":  # "General Purpose SSD volumes": the baseline
        self.iops = self.iops or 3000
        self.throughput = self.throughput or 125
    if self.encrypted and not self.kms_key_id:
        self.kms_key_id = f"arn:aws:kms:{self.ec2_backend.region_name}:{ACCOUNT}:alias/aws/ebs"


_run = instances.InstanceBackend.run_instances

#: What moto puts where a request has no ClientToken.
_NO_TOKEN = "ABCDE"
#: Instances of a RunInstances that was sent a second time.
_repeated: set[str] = set()

_associate = iam_instance_profile.IamInstanceProfileAssociationBackend.associate_iam_instance_profile


def _associate_profile(self: Any, instance_id: str, *args: Any, **kwargs: Any) -> Any:
    if instance_id in _repeated and instance_id in self.iam_instance_profile_associations:
        return self.iam_instance_profile_associations[instance_id]
    return _associate(self, instance_id, *args, **kwargs)


def _returns_true(method: Any) -> Any:
    """UpdateSecurityGroupRuleDescriptionsIngress and …Egress answer Return: true; moto leaves it out."""

    def run(self: Any) -> Any:
        method(self)
        return ActionResult({"Return": True})

    return run


_describe_ingress = SecurityGroups.update_security_group_rule_descriptions_ingress
_describe_egress = SecurityGroups.update_security_group_rule_descriptions_egress


def _run_instances(self: Any, image_id: str, count: int, user_data: Any, security_group_names: list[str],
                   **kwargs: Any) -> Any:
    token = kwargs.get("client_token")
    _repeated.clear()
    for reservation in self.reservations.values():
        # "Ensuring idempotency in Amazon EC2 API requests": the same token gets the same instances.
        if token != _NO_TOKEN and any(i.client_token == token for i in reservation.instances):
            _repeated.update(i.id for i in reservation.instances)
            return reservation
    nics = kwargs.get("nics") or []
    if kwargs.get("subnet_id") is None and not any("SubnetId" in n or "NetworkInterfaceId" in n for n in nics):
        kwargs["subnet_id"] = _choose_subnet(self, kwargs.get("placement")).id
        if nics:
            nics[0]["SubnetId"] = kwargs.pop("subnet_id")
    for nic in nics:
        if str(nic.get("DeviceIndex")) == "0" and nic.get("Groups"):
            kwargs["security_group_ids"] = list(nic.pop("Groups"))
    subnet_id = kwargs.get("subnet_id") or next((n["SubnetId"] for n in nics if "SubnetId" in n), None)
    if subnet_id and not kwargs.get("security_group_ids") and not security_group_names:
        vpc_id = self.get_subnet(subnet_id).vpc_id
        kwargs["security_group_ids"] = [self.get_security_group_from_name("default", vpc_id).id]
    mappings = kwargs.get("block_device_mappings")
    if mappings is not None and not any(m["DeviceName"] == images.ROOT_DEVICE for m in mappings):
        mappings.append({"DeviceName": images.ROOT_DEVICE, "Ebs": {"DeleteOnTermination": True}})
    for mapping in mappings or []:
        mapping.setdefault("Ebs", {}).setdefault("DeleteOnTermination", True)
    return _run(self, image_id, count, user_data, security_group_names, **kwargs)


def _choose_subnet(backend: Any, zone: str | None) -> Any:
    defaults = backend.get_default_subnets()
    if not defaults:
        raise AwsError("MissingInput", "No subnets found for the default VPC. Please specify a subnet.")
    return defaults.get(zone) or defaults[sorted(defaults)[0]]


def _modify_groups(self: Any, instance_id: str, new_group_id_list: list[str]) -> Any:
    instance = self.get_instance(instance_id)
    groups = []
    for group_id in new_group_id_list:
        group = self.get_security_group_from_id(group_id)
        if group is None:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        groups.append(group)
    instance.security_groups = groups
    instance.nics[0]._group_set = list(groups)
    return instance


# -- checks before moto ----------------------------------------------------------------------------------------------


def _true(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


def _check_architecture(kind: str, architecture: str) -> None:
    """ "Compatibility for changing the instance type", and RunInstances: the processors are those of the image. """
    if kind not in INSTANCE_TYPES:
        raise AwsError("InvalidParameterValue", f"Invalid value '{kind}' for InstanceType.")
    takes = INSTANCE_TYPES[kind]["ProcessorInfo"]["SupportedArchitectures"]
    if architecture not in takes:
        raise AwsError("InvalidParameterValue", f"The architecture '{','.join(takes)}' of the specified instance type does not "
                       f"match the architecture '{architecture}' of the specified AMI.")


def _check_zone(kind: str, region: str, zone: str) -> None:
    offers = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, [])
    zones = sorted(offer["Location"] for offer in offers if offer["InstanceType"] == kind)
    if zone not in zones:
        raise AwsError("Unsupported", f"Your requested instance type ({kind}) is not supported in your requested Availability "
                       f"Zone ({zone}). Please retry your request by choosing {', '.join(zones)}.")


def check_run_instances(call: Call) -> None:
    """RunInstances: what AWS validates and moto doesn't, and what the local cloud hasn't got."""
    params = call.params
    backend = ec2_backends[ACCOUNT][call.region]
    if params.get("LaunchTemplate"):
        raise AwsError("UnsupportedOperation", "The local cloud has no launch templates.")
    image_id = params.get("ImageId", "")
    if image_id not in images.IMAGES:
        raise AwsError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    kind = params.get("InstanceType") or "m1.small"
    _check_architecture(kind, backend.amis[image_id].architecture)
    key = params.get("KeyName")
    if key and key not in backend.key_pairs:
        raise AwsError("InvalidKeyPair.NotFound", f"The key pair '{key}' does not exist")
    for nic in params.get("NetworkInterfaces", []):
        if _true(nic.get("AssociatePublicIpAddress")):
            raise AwsError(
                "UnsupportedOperation",
                "AssociatePublicIpAddress is true, and the local cloud has no public addresses: its host reaches "
                "machines at their private ones. Set it to false.",
            )
    for mapping in params.get("BlockDeviceMappings", []):
        if mapping.get("DeviceName") != images.ROOT_DEVICE:
            raise AwsError(
                "UnsupportedOperation",
                f"The local cloud's machines have one volume, {images.ROOT_DEVICE}; "
                f"{mapping.get('DeviceName')} can't be had.",
            )
    if not params.get("DryRun"):
        subnet_id = params.get("SubnetId") or next(
            (n["SubnetId"] for n in params.get("NetworkInterfaces", []) if n.get("SubnetId")), None)
        vpc_id = backend.get_subnet(subnet_id).vpc_id if subnet_id else backend.default_vpc.id
        if subnet_id:
            _check_zone(kind, call.region, backend.get_subnet(subnet_id).availability_zone)
        refuse_overlap(call.region, vpc_id)


def vpcs_in_use() -> set[tuple[str, str]]:
    """(region, VPC) of everything that has a part now."""
    used = set()
    for region, backend in backends():
        for instance in backend.all_instances():
            if instance.state != "terminated":
                used.add((region, instance.vpc_id))
        for eni in backend.enis.values():
            if eni.description == "RDSNetworkInterface":
                used.add((region, eni.vpc_id))
    return used


def refuse_overlap(region: str, vpc_id: str) -> None:
    """Parts share one host, so two VPCs in use can't have the same addresses."""
    mine = ipaddress.ip_network(ec2_backends[ACCOUNT][region].get_vpc(vpc_id).cidr_block)
    for other_region, other_id in vpcs_in_use():
        if (other_region, other_id) == (region, vpc_id):
            continue
        cidr = ec2_backends[ACCOUNT][other_region].get_vpc(other_id).cidr_block
        if mine.overlaps(ipaddress.ip_network(cidr)):
            raise AwsError(
                "UnsupportedOperation",
                f"{vpc_id} ({mine}, {region}) overlaps {other_id} ({cidr}, {other_region}), which has machines or "
                "databases in this local cloud. Use one region, or a VPC with another range.",
            )


def check_modify_subnet(call: Call) -> None:
    wanted = call.params.get("MapPublicIpOnLaunch")
    if _true(wanted.get("Value") if isinstance(wanted, dict) else wanted):
        raise AwsError("UnsupportedOperation", "The local cloud has no public addresses.")


def check_modify_instance(call: Call) -> None:
    """ModifyInstanceAttribute: the type can only be changed while stopped; other attributes need a machine of AWS."""
    if call.params.get("InstanceType") or call.params.get("UserData"):
        instance = ec2_backends[ACCOUNT][call.region].get_instance(call.params["InstanceId"])
        if instance.state != "stopped":
            raise AwsError("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state.")
        kind = call.params.get("InstanceType")
        if kind:
            _check_architecture(kind["Value"] if isinstance(kind, dict) else kind, instance.architecture)


CHECKS = {
    "RunInstances": check_run_instances,
    "ModifySubnetAttribute": check_modify_subnet,
    "ModifyInstanceAttribute": check_modify_instance,
}


# -- reports of the parts --------------------------------------------------------------------------------------------


def find_instance(instance_id: str) -> Any:
    for _, backend in backends():
        instance = backend.get_instance_by_id(instance_id)
        if instance is not None:
            return instance
    return None


#: Which reports count in which state. The user's wish may have changed while a report was under way.
_TRANSITIONS = {
    ("pending", "running"), ("stopping", "stopped"), ("shutting-down", "terminated"), ("pending", "terminated"),
    ("running", "terminated"), ("running", "stopped"), ("stopping", "terminated"), ("stopped", "terminated"),
    ("pending", "stopped"),
}


def report(instance_id: str, state: str, reason: str) -> bool:
    """A part's report; whether it changed anything."""
    instance = find_instance(instance_id)
    if instance is None or (instance.state, state) not in _TRANSITIONS:
        return False
    asked = instance.state == "shutting-down"
    if state == "terminated":
        instance.disable_api_termination = False
        _moto_terminate(instance)
        instance.lc_ended = utcnow()
        if reason or not asked:
            instance._reason = f"Server.InternalError ({reason})" if reason else "Server.InternalError"
            instance.state_reason = instances.StateReason(
                f"Server.InternalError: {reason}" if reason else "Server.InternalError: Internal error on launch",
                "Server.InternalError",
            )
    else:
        _set_state(instance, state)
        if state == "stopped" and reason:
            instance.state_reason = instances.StateReason(reason, "Server.InternalError")
    return True


def forget_terminated() -> None:
    """Terminated instances can be described for about an hour ("Terminate Amazon EC2 instances")."""
    now = utcnow()
    for _, backend in backends():
        for key, reservation in list(backend.reservations.items()):
            ended = [getattr(i, "lc_ended", None) for i in reservation.instances]
            if ended and all(e is not None and (now - e).total_seconds() > _REMEMBER_SECONDS for e in ended):
                for instance in reservation.instances:
                    backend.tags.pop(instance.id, None)
                del backend.reservations[key]


# -- what should be there --------------------------------------------------------------------------------------------


def _rules(rules: Any) -> tuple[Rule, ...]:
    out = []
    for rule in rules:
        protocol = {"-1": "all", "tcp": "tcp", "udp": "udp", "icmp": "icmp"}.get(rule.ip_protocol)
        cidrs = (rule.cidr_ipv4,) if rule.cidr_ipv4 else ()
        groups = (rule.source_group["GroupId"],) if rule.source_group.get("GroupId") else ()
        if protocol and (cidrs or groups):
            out.append(Rule(protocol, rule.from_port, rule.to_port, cidrs, groups))
    return tuple(out)


def desired_groups() -> tuple[SecurityGroup, ...]:
    used = vpcs_in_use()
    return tuple(
        SecurityGroup(g.id, g.vpc_id, _rules(g.ingress_rules), _rules(g.egress_rules))
        for region, backend in backends()
        for g in all_groups(backend)
        if (region, g.vpc_id) in used
    )


def desired_vpcs() -> tuple[Vpc, ...]:
    return tuple(
        Vpc(vpc_id, region, ec2_backends[ACCOUNT][region].get_vpc(vpc_id).cidr_block)
        for region, vpc_id in sorted(vpcs_in_use())
    )


def user_data(instance: Any) -> bytes:
    raw = instance.user_data
    if not raw:
        return b""
    raw = str(raw).encode()  # moto's Base64EncodedString
    try:
        return base64.b64decode(raw, validate=True)
    except ValueError:
        return raw


def tags_of(instance: Any) -> dict[str, str]:
    return {t["key"]: t["value"] for t in instance.get_tags()}


def desired_instances() -> tuple[Instance, ...]:
    out = []
    for region, backend in backends():
        for i in backend.all_instances():
            if i.state == "terminated":
                continue
            key = backend.key_pairs.get(i.key_name)
            public_key = key.public_key.strip() if key else getattr(i, "lc_public_key", "")
            if key:
                i.lc_public_key = public_key
            nic = i.nics[0]
            out.append(
                Instance(
                    instance_id=i.id,
                    region=region,
                    state=i.state,
                    image=images.IMAGES[i.image_id],
                    private_ip=nic.private_ip_address,
                    mac=nic.mac_address,
                    vpc_id=i.vpc_id,
                    hostname=i.private_dns_name,
                    name=tags_of(i).get("Name", ""),
                    public_key=public_key,
                    user_data=user_data(i),
                    security_group_ids=tuple(sorted(g.id for g in i.security_groups)),
                    reboots=i.lc_reboots,
                )
            )
    return tuple(out)


def install(default_vpc_cidr: str) -> None:
    """Put the corrections in moto's place."""
    images.install()
    subnets.Subnet.get_available_subnet_ip = _next_ip  # type: ignore[method-assign]
    subnets.Subnet.request_ip = _request_ip  # type: ignore[method-assign]
    subnets.Subnet.del_subnet_ip = _del_ip  # type: ignore[method-assign]
    subnets.SubnetBackend.create_subnet = _new_subnet  # type: ignore[method-assign]
    elastic_network_interfaces.NetworkInterface.__init__ = _new_eni  # type: ignore[method-assign]
    vpcs.VPCBackend.create_default_vpc = _default_vpc(default_vpc_cidr)  # type: ignore[method-assign]
    security_groups.SecurityGroupBackend.delete_security_group = _delete_security_group  # type: ignore[method-assign]
    instances.Instance.__init__ = _new_instance  # type: ignore[method-assign]
    instances.Instance.start = _start  # type: ignore[method-assign]
    instances.Instance.stop = _stop  # type: ignore[method-assign]
    instances.Instance.terminate = _terminate  # type: ignore[method-assign]
    instances.Instance.reboot = _reboot  # type: ignore[method-assign]
    instances.Instance.setup_defaults = _setup_defaults  # type: ignore[method-assign]
    instances.Instance.add_block_device = _block_device  # type: ignore[method-assign]
    if hasattr(instances.Instance, "__del__"):
        del instances.Instance.__del__
    elastic_block_store.Volume.__init__ = _new_volume  # type: ignore[method-assign]
    instances.InstanceBackend.run_instances = _run_instances  # type: ignore[method-assign]
    profiles = iam_instance_profile.IamInstanceProfileAssociationBackend
    profiles.associate_iam_instance_profile = _associate_profile  # type: ignore[method-assign]
    SecurityGroups.update_security_group_rule_descriptions_ingress = _returns_true(_describe_ingress)
    SecurityGroups.update_security_group_rule_descriptions_egress = _returns_true(_describe_egress)
    instances.InstanceBackend.modify_instance_security_groups = _modify_groups  # type: ignore[method-assign]
