# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
The network of a local cloud.

A bridge for each VPC with the VPC's first address on the host, and a network namespace for each machine and database,
joined to its VPC's bridge. A security group's rules are nftables rules inside the namespace, where the part itself
can't change them (machines run without CAP_NET_ADMIN). The host's own table gives machines a way out (NAT), keeps
VPCs apart and lets machines reach nothing of the host but the cloud's API, metadata and names.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
import os
import signal
import threading
import time
from pathlib import Path

from ..config import MAX_SLOT, Config
from ..errors import LocalCloudError
from ..model import Desired, Rule, SecurityGroup, Vpc
from .shell import run, succeeds

LOG = logging.getLogger(__name__)
METADATA_ADDRESS = "169.254.169.254"
# Machines need the host to forward their packets. Each runs a systemd, a dbus and more as root, and all count against
# one allowance of inotify instances, which is 128 by default: enough for about ten machines.
KERNEL_SETTINGS = {"net/ipv4/ip_forward": 1, "fs/inotify/max_user_instances": 4096}
NETNS_DIR = Path("/run/netns")


def _short(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


class Network:
    """All of one cloud's network objects; each method can be called again without harm."""

    def __init__(self, config: Config):
        self.config = config
        self.table = f"localcloud{config.slot}"
        self.prefix = f"lc{config.slot}"
        self._applied: dict[str, str] = {}
        self._lock = threading.Lock()

    # --- the host's side -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The API's address and the host's table."""
        device, address = self.config.api_device, self.config.api_address
        if not self._exists(device):
            self._refuse_taken(ipaddress.ip_network(address), "the address of the local AWS API")
            # A bridge without ports serves as the dummy device that some kernels lack.
            run("ip", "link", "add", device, "type", "bridge")
        run("ip", "addr", "replace", f"{address}/32", "dev", device)
        run("ip", "link", "set", device, "up")
        self._kernel_settings()
        self._host_rules()

    def ensure_vpc(self, vpc: Vpc) -> str:
        """The bridge of a VPC; returns its name."""
        bridge = self.bridge(vpc.vpc_id)
        with self._lock:
            if not self._exists(bridge):
                self._refuse_taken(ipaddress.ip_network(vpc.cidr), f"the range of {vpc.vpc_id}")
                run("ip", "link", "add", bridge, "type", "bridge")
            run("ip", "addr", "replace", f"{self.gateway(vpc.cidr)}/{vpc.cidr.split('/')[1]}", "dev", bridge)
            run("ip", "link", "set", bridge, "up")
            self._host_rules()
        return bridge

    def bridge(self, vpc_id: str) -> str:
        return f"{self.prefix}b-{_short(vpc_id, 8)}"

    @staticmethod
    def gateway(cidr: str) -> str:
        """The VPC's router has the first address, as on AWS."""
        return str(ipaddress.ip_network(cidr)[1])

    def _kernel_settings(self) -> None:
        """Raise what the host's kernel gives too little of; the last cloud to stop puts it back."""
        record = self.config.home / "kernel-settings.json"
        former = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        for name, wanted in KERNEL_SETTINGS.items():
            path = Path("/proc/sys") / name
            value = int(path.read_text(encoding="ascii"))
            if value < wanted:
                former.setdefault(name, value)
                record.write_text(json.dumps(former), encoding="utf-8")
                try:
                    path.write_text(str(wanted), encoding="ascii")
                except OSError as error:
                    LOG.warning("could not set %s to %s: %s", name, wanted, error.strerror)

    def _host_rules(self) -> None:
        api, ours = self.config.api_address, f"{self.prefix}b-*"
        anyones = ", ".join(f'"lc{n}b-*"' for n in range(MAX_SLOT + 1))
        # What stays on one bridge passes here as well where the kernel shows bridged packets to this table.
        bridges = [d for d in self._devices() if d.startswith(f"{self.prefix}b-")]
        same = "\n".join(f'        iifname "{b}" oifname "{b}" accept' for b in sorted(bridges))
        text = f"""
table inet {self.table}
delete table inet {self.table}
table inet {self.table} {{
    chain input {{
        type filter hook input priority filter; policy accept;
        ip daddr {api} iifname != {{ "lo", "{ours}" }} drop
        iifname != "{ours}" return
        ct state established,related accept
        ip daddr {api} tcp dport {{ 53, 80, 443, {self.config.metadata_port} }} accept
        ip daddr {api} udp dport 53 accept
        meta l4proto icmp accept
        drop
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
{same}
        iifname "{ours}" oifname {{ {anyones} }} drop
        iifname {{ {anyones} }} oifname "{ours}" drop
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        iifname "{ours}" oifname != "{ours}" masquerade
    }}
}}
"""
        if self._applied.get("host") != text:
            run("nft", "-f", "-", stdin=text)
            self._applied["host"] = text

    def _refuse_taken(self, wanted: ipaddress.IPv4Network, what: str) -> None:
        for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all")):
            text = route.get("dst", "")
            if text in ("default", "") or route.get("dev", "").startswith(("lc", "lo")):
                continue
            taken = ipaddress.ip_network(text, strict=False)
            if taken.overlaps(wanted) and taken.prefixlen > 7:
                raise LocalCloudError(
                    f"{wanted} is {what}, but this host already has a route to {taken} by {route.get('dev')}. "
                    "Choose another LOCALCLOUD_SLOT (0 to 9), or a VPC with another range."
                )

    @staticmethod
    def _devices() -> list[str]:
        # Asked of the kernel, not of /sys, which in a container may show another namespace's devices.
        return [link["ifname"] for link in json.loads(run("ip", "-json", "link", "show"))]

    def _exists(self, device: str) -> bool:
        return device in self._devices()

    # --- a part's side ---------------------------------------------------------------------------------------------

    def namespace(self, part: str) -> str:
        return f"{self.prefix}-{part}"

    def namespace_path(self, part: str) -> Path:
        return NETNS_DIR / self.namespace(part)

    def ensure_part(self, part: str, vpc: Vpc, address: str, mac: str | None = None) -> None:
        """A namespace with the part's address on its VPC's bridge, closed until rules are applied."""
        bridge = self.ensure_vpc(vpc)
        name = self.namespace(part)
        host_end = f"{self.prefix}v-{_short(part, 8)}"
        if self.namespace_path(part).exists() and self._exists(host_end):
            return
        self.remove_part(part)
        run("ip", "netns", "add", name)
        self._write_rules(part, self._ruleset([], [], {}))
        run("ip", "link", "add", host_end, "type", "veth", "peer", "name", "eth0", "netns", name)
        inside = ("ip", "-n", name)
        if mac:
            run(*inside, "link", "set", "eth0", "address", mac)
        run(*inside, "addr", "add", f"{address}/{vpc.cidr.split('/')[1]}", "dev", "eth0")
        run(*inside, "link", "set", "lo", "up")
        run("ip", "link", "set", host_end, "master", bridge, "up")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", self.gateway(vpc.cidr))

    def remove_part(self, part: str) -> None:
        """End what still runs in the namespace, then remove it."""
        name = self.namespace(part)
        self._applied.pop(part, None)
        if self.namespace_path(part).exists():
            for attempt in range(20):
                pids = run("ip", "netns", "pids", name, check=False).split()
                if not pids:
                    break
                for pid in pids:
                    try:
                        os.kill(int(pid), signal.SIGTERM if attempt < 5 else signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                time.sleep(0.2)
            run("ip", "netns", "del", name)
        host_end = f"{self.prefix}v-{_short(part, 8)}"
        if self._exists(host_end):
            run("ip", "link", "del", host_end, check=False)

    def parts(self) -> set[str]:
        """The parts that have a namespace now."""
        start = f"{self.prefix}-"
        names = os.listdir(NETNS_DIR) if NETNS_DIR.is_dir() else []
        return {n[len(start) :] for n in names if n.startswith(start)}

    # --- security groups -------------------------------------------------------------------------------------------

    def apply_security_groups(self, desired: Desired) -> None:
        """Write the rules of every part that has a namespace; what did not change is not touched."""
        groups = {g.group_id: g for g in desired.security_groups}
        members: dict[str, list[str]] = {}
        parts: list[tuple[str, tuple[str, ...]]] = []
        for instance in desired.instances:
            parts.append((instance.instance_id, instance.security_group_ids))
            for group_id in instance.security_group_ids:
                members.setdefault(group_id, []).append(instance.private_ip)
        for database in desired.databases:
            parts.append((f"db-{database.identifier}", database.security_group_ids))
            for group_id in database.security_group_ids:
                members.setdefault(group_id, []).append(database.private_ip)
        present = self.parts()
        for part, group_ids in parts:
            if part in present:
                mine = [groups[g] for g in group_ids if g in groups]
                self._write_rules(part, self._ruleset(*self._rules(mine), members))

    @staticmethod
    def _rules(groups: list[SecurityGroup]) -> tuple[list[Rule], list[Rule]]:
        return [r for g in groups for r in g.ingress], [r for g in groups for r in g.egress]

    def _ruleset(self, ingress: list[Rule], egress: list[Rule], members: dict[str, list[str]]) -> str:
        api, port = self.config.api_address, self.config.metadata_port
        inward = "\n".join(f"        {line}" for rule in ingress for line in self._lines(rule, "saddr", members))
        outward = "\n".join(f"        {line}" for rule in egress for line in self._lines(rule, "daddr", members))
        # Metadata and the VPC's resolver are outside the reach of security groups on AWS too.
        return f"""
table inet localcloud
delete table inet localcloud
table inet localcloud {{
    chain input {{
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state established,related accept
{inward}
    }}
    chain output {{
        type filter hook output priority filter; policy drop;
        oif lo accept
        ct state established,related accept
        ip daddr {api} tcp dport {{ 53, {port} }} accept
        ip daddr {api} udp dport 53 accept
{outward}
    }}
    chain metadata {{
        type nat hook output priority -100; policy accept;
        ip daddr {METADATA_ADDRESS} tcp dport 80 dnat ip to {api}:{port}
    }}
}}
"""

    @staticmethod
    def _lines(rule: Rule, side: str, members: dict[str, list[str]]) -> list[str]:
        ports = ""
        if rule.protocol in ("tcp", "udp"):
            if rule.from_port is None or (rule.from_port, rule.to_port) == (0, 65535):
                ports = f"meta l4proto {rule.protocol} "
            else:
                ports = f"{rule.protocol} dport {rule.from_port}-{rule.to_port} "
        elif rule.protocol == "icmp":
            ports = "meta l4proto icmp "
        elif rule.protocol != "all":
            raise LocalCloudError(f"security group protocol {rule.protocol!r}: the local cloud knows tcp, udp, icmp and all.")
        v4 = sorted({c for c in rule.cidrs if ":" not in c} | {a for g in rule.group_ids for a in members.get(g, [])})
        v6 = sorted(c for c in rule.cidrs if ":" in c)
        lines = [f"ip {side} {source} {ports}accept" for source in v4]
        return lines + [f"ip6 {side} {source} {ports}accept" for source in v6]

    def _write_rules(self, part: str, text: str) -> None:
        if self._applied.get(part) != text:
            run("ip", "netns", "exec", self.namespace(part), "nft", "-f", "-", stdin=text)
            self._applied[part] = text

    # --- the end ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Remove every network object of this cloud."""
        for part in self.parts():
            self.remove_part(part)
        for device in self._devices():
            if device == self.config.api_device or device.startswith((f"{self.prefix}b-", f"{self.prefix}v-")):
                run("ip", "link", "del", device, check=False)
        if succeeds("nft", "list", "table", "inet", self.table):
            run("nft", "delete", "table", "inet", self.table)
        record = self.config.home / "kernel-settings.json"
        if record.exists() and not any(d.startswith("lcapi") for d in self._devices()):
            for name, value in json.loads(record.read_text(encoding="utf-8")).items():
                (Path("/proc/sys") / name).write_text(str(value), encoding="ascii")
            record.unlink()
