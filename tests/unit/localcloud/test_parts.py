# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What the parts work out before they touch the host. Their effects are tested in tests/localcloud."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localcloud.cli import take_slot
from localcloud.config import Config, taken_slots
from localcloud.errors import LocalCloudError
from localcloud.model import Database, Desired, Instance, Rule, SecurityGroup, Snapshot, Vpc
from localcloud.parts import images, shell
from localcloud.parts.names import Names
from localcloud.parts.network import Network
from localcloud.parts.shell import Process


def instance(number: int, groups: tuple[str, ...]) -> Instance:
    return Instance(
        instance_id=f"i-{number}",
        region="eu-central-1",
        state="running",
        image="debian-13",
        private_ip=f"172.31.0.{number}",
        mac="02:00:00:00:00:01",
        vpc_id="vpc-1",
        hostname=f"ip-172-31-0-{number}.eu-central-1.compute.internal",
        name="",
        public_key="",
        user_data=b"",
        security_group_ids=groups,
    )


def a_database(**more):
    return Database(
        identifier="mlflow",
        region="eu-central-1",
        status="available",
        engine_version="17.4",
        endpoint="mlflow.example.com",
        private_ip="172.31.0.9",
        port=5432,
        vpc_id="vpc-1",
        master_username="mladmin",
        security_group_ids=("sg-db",),
        **more,
    )


@pytest.fixture
def config(tmp_path):
    made = Config(home=tmp_path, name="unit", slot=0)
    made.cloud_dir.mkdir(parents=True)
    return made


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        ("LOCALCLOUD_SLOT", "12", "a number from 0 to 9"),
        ("LOCALCLOUD_SLOT", "one", "a number from 0 to 9"),
        ("LOCALCLOUD_NAME", "Über", "a lower-case letter"),
        ("LOCALCLOUD_NAME", "a/b", "a lower-case letter"),
        ("LOCALCLOUD_HOME", "here", "an absolute path"),
    ],
)
def test_bad_environment_names_the_variable_and_what_it_wants(variable, value, wanted):
    with pytest.raises(LocalCloudError) as error:
        Config.from_environment({variable: value})
    assert variable in str(error.value) and value in str(error.value) and wanted in str(error.value)


def test_slots_do_not_share_addresses():
    clouds = [Config.from_environment({"LOCALCLOUD_SLOT": str(n)}) for n in range(10)]
    assert len({c.api_address for c in clouds}) == len({c.default_vpc_cidr for c in clouds}) == 10
    assert clouds[0].default_vpc_cidr == "172.31.0.0/16"


@pytest.fixture
def slots(tmp_path, monkeypatch):
    """A home of clouds on a host of which the network devices are in a folder, which is returned with it."""
    devices = tmp_path / "devices"
    devices.mkdir()
    monkeypatch.setattr("localcloud.config.NETWORK_DEVICES", devices)
    return tmp_path, devices


def test_each_cloud_takes_the_lowest_slot_that_is_free_and_keeps_it(slots):
    home, devices = slots

    def take(name, **more):
        return take_slot(home, {"LOCALCLOUD_HOME": str(home), "LOCALCLOUD_NAME": name, **more}).slot

    # That of a cloud of another home.
    (devices / "lcapi2").mkdir()
    assert [take("one"), take("two"), take("one")] == [1, 3, 1]
    # Whoever says nothing at all has AWS's own default range.
    assert take("default") == 0
    with pytest.raises(LocalCloudError, match="LOCALCLOUD_SLOT is 1, which the local cloud one has; choose another"):
        take("three", LOCALCLOUD_SLOT="1")
    with pytest.raises(LocalCloudError, match="but the local cloud one was made in slot 1"):
        take("one", LOCALCLOUD_SLOT="4")
    for number in range(4, 10):
        assert take(f"more{number}") == number
    with pytest.raises(LocalCloudError, match="no slot is free for the local cloud last: reset one of .*more"):
        take("last")


def test_clouds_that_begin_at_once_do_not_take_the_same_slot(slots):
    home, _devices = slots
    with ThreadPoolExecutor(9) as pool:
        given = [{"LOCALCLOUD_HOME": str(home), "LOCALCLOUD_NAME": f"cloud{n}"} for n in range(9)]
        took = list(pool.map(lambda environ: take_slot(home, environ).slot, given))
    assert sorted(took) == list(range(1, 10))


def test_a_slot_can_be_read_at_each_moment_of_its_taking(slots):
    """Others look at it without the lock: molecule's clouds begin together."""
    home, _devices = slots
    environ = {"LOCALCLOUD_HOME": str(home), "LOCALCLOUD_NAME": "one"}
    ended = threading.Event()

    def look():
        looked = 0
        while not ended.is_set():
            assert taken_slots(home) in ({}, {"one": 1})
            looked += 1
        return looked

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            for _ in range(500):
                slot_file = take_slot(home, environ).slot_file
            slot_file.unlink()
        finally:
            ended.set()
        assert looking.result() > 0


def test_a_host_full_of_the_clouds_of_another_home_says_so(slots):
    home, devices = slots
    for number in range(1, 10):
        (devices / f"lcapi{number}").mkdir()
    with pytest.raises(LocalCloudError, match="no slot is free for the local cloud one: .*of another LOCALCLOUD_HOME"):
        Config.from_environment({"LOCALCLOUD_HOME": str(home), "LOCALCLOUD_NAME": "one"})


def test_the_files_of_a_cloud_are_its_own_and_the_cache_is_everybodys(tmp_path):
    def files(cloud):
        return [
            cloud.slot_file, cloud.ca_file, cloud.credentials_file, cloud.state_dir, cloud.log_file, cloud.pid_file,
            cloud.ready_file, cloud.status_file,
        ]  # fmt: skip

    one, two = (Config(tmp_path, name, slot) for slot, name in enumerate(("one", "two")))
    assert len({*files(one), *files(two)}) == 16
    for cloud in (one, two):
        assert all(file.is_relative_to(cloud.cloud_dir) for file in files(cloud))
        assert not cloud.cache_dir.is_relative_to(cloud.cloud_dir) and cloud.cloud_dir.is_relative_to(tmp_path)
    assert one.cache_dir == two.cache_dir and one.cache_dir.is_relative_to(tmp_path)
    # Those that docs/local-cloud.md names for others to use.
    assert one.ca_file == tmp_path / "clouds" / "one" / "ca.pem"
    assert one.credentials_file == tmp_path / "clouds" / "one" / "aws" / "credentials"
    assert one.api_url == "https://198.18.0.1" and two.api_url == "https://198.18.1.1"
    # The kernel takes 15 characters.
    assert one.api_device != two.api_device and len(one.api_device) <= 15


def test_a_cloud_is_that_of_the_environment(tmp_path, monkeypatch):
    for name in ("LOCALCLOUD_HOME", "LOCALCLOUD_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOCALCLOUD_SLOT", "3")
    assert Config.from_environment() == Config(Path("/var/lib/mlflow-aws-localcloud"), "default", 3)
    monkeypatch.setenv("LOCALCLOUD_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALCLOUD_NAME", "a-b1")
    assert Config.from_environment() == Config(tmp_path, "a-b1", 3)
    # What is asked for by name is not mixed with the process's own.
    assert Config.from_environment({"LOCALCLOUD_SLOT": "4"}).name == "default"


@pytest.mark.parametrize(
    "thing",
    [instance(4, ()), Rule("tcp", 1, 2), SecurityGroup("sg", "vpc-1"), Vpc("vpc-1", "eu-central-1", "10.0.0.0/16"), a_database(),
     Snapshot("before", "eu-central-1", "available", "mlflow", "17.4"), Desired()],
)  # fmt: skip
def test_what_the_parts_are_told_can_be_compared_and_not_changed(thing):
    """The parts keep what they were told, to see what is new."""
    values = vars(thing)
    assert type(thing)(**values) == thing
    for name in values:
        with pytest.raises(AttributeError):
            setattr(thing, name, None)


def written_rules(config, monkeypatch, desired, part):
    network = Network(config)
    written = {}
    monkeypatch.setattr(network, "parts", lambda: {i.instance_id for i in desired.instances})
    monkeypatch.setattr(network, "_write_rules", lambda name, text: written.update({name: text}))
    network.apply_security_groups(desired)
    return written[part]


def test_a_rule_that_names_a_group_admits_its_members_alone(config, monkeypatch):
    rule = Rule("tcp", 5432, 5432, group_ids=("sg-server",))
    groups = (SecurityGroup("sg-db", "vpc-1", ingress=(rule,)), SecurityGroup("sg-server", "vpc-1"))
    members = (instance(4, ("sg-db",)), instance(5, ("sg-server",)), instance(6, ()))
    desired = Desired((Vpc("vpc-1", "eu-central-1", "172.31.0.0/16"),), groups, members)
    rules = written_rules(config, monkeypatch, desired, "i-4")
    assert "ip saddr 172.31.0.5 tcp dport 5432-5432 accept" in rules
    assert "172.31.0.6" not in rules


def test_no_rule_means_closed_both_ways(config, monkeypatch):
    desired = Desired((), (SecurityGroup("sg", "vpc-1"),), (instance(4, ("sg",)),))
    rules = written_rules(config, monkeypatch, desired, "i-4")
    assert rules.count("policy drop") == 2
    assert "0.0.0.0/0" not in rules


def test_unknown_protocol_is_refused_not_ignored(config, monkeypatch):
    rule = Rule("esp", None, None, cidrs=("0.0.0.0/0",))
    desired = Desired((), (SecurityGroup("sg", "vpc-1", ingress=(rule,)),), (instance(4, ("sg",)),))
    with pytest.raises(LocalCloudError, match="esp"):
        written_rules(config, monkeypatch, desired, "i-4")


def test_host_names_are_kept_when_ours_come_and_go(config, monkeypatch, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n10.0.0.1 mine\n", encoding="utf-8")
    monkeypatch.setattr("localcloud.parts.names.HOSTS", hosts)
    names = Names(config)
    names._write_block("172.31.0.4 db.example.com\n")
    assert "172.31.0.4 db.example.com\n" in hosts.read_text(encoding="utf-8")
    names._write_block("172.31.0.5 db.example.com\n")
    assert "172.31.0.4" not in hosts.read_text(encoding="utf-8")
    names._write_block("")
    assert hosts.read_text(encoding="utf-8") == "127.0.0.1 localhost\n10.0.0.1 mine\n"


def test_image_sources_come_from_the_host(monkeypatch):
    sources = [
        ("http://mirror.example/debian", ["bookworm", "bookworm-updates"], ["main"]),
        ("http://mirror.example/security", ["bookworm-security"], ["main"]),
        ("http://other.example/apt", ["nodistro"], ["main"]),
    ]
    monkeypatch.setattr(images, "_host_sources", lambda: sources)
    lines = images._apt_sources("trixie").splitlines()
    assert [line.split("] ")[1] for line in lines] == [
        "http://mirror.example/debian trixie main",
        "http://mirror.example/debian trixie-updates main",
        "http://mirror.example/security trixie-security main",
    ]


def test_image_that_does_not_exist_is_refused_by_name(tmp_path):
    with pytest.raises(LocalCloudError, match="no image 'fedora-40'; it has debian-12, debian-13"):
        images.Images(tmp_path).ensure("fedora-40")


def test_a_reused_pid_is_not_taken_for_the_process(tmp_path):
    process = Process(tmp_path / "process.json")
    child = subprocess.Popen(["sleep", "30"])
    process.remember(child.pid)
    assert process.pid == child.pid
    record = tmp_path / "process.json"
    record.write_text(record.read_text(encoding="utf-8").replace('"start": "', '"start": "9'), encoding="utf-8")
    assert process.pid is None
    child.kill()
    child.wait()


def test_a_process_that_ends_is_seen_to_have_ended(tmp_path):
    process = Process(tmp_path / "process.json")
    process.start(["sleep", "30"], tmp_path / "log")
    assert process.pid is not None
    process.stop()
    assert process.pid is None and not Path(tmp_path / "process.json").exists()
    assert os.path.exists(tmp_path / "log")


def test_a_log_that_shows_a_database_does_not_show_its_password():
    shown = repr(a_database(master_password="correct-horse-42"))
    assert "mlflow.example.com" in shown and "correct-horse-42" not in shown


def test_a_database_is_a_member_of_its_groups(config, monkeypatch):
    """Who may reach the group of a database reaches the database, and nobody else by that rule."""
    rule = Rule("tcp", 5432, 5432, group_ids=("sg-db",))
    groups = (SecurityGroup("sg-db", "vpc-1"), SecurityGroup("sg-server", "vpc-1", egress=(rule,)))
    desired = Desired((Vpc("vpc-1", "eu-central-1", "172.31.0.0/16"),), groups, (instance(5, ("sg-server",)),), (a_database(),))
    rules = written_rules(config, monkeypatch, desired, "i-5")
    assert "ip daddr 172.31.0.9 tcp dport 5432-5432 accept" in rules


@pytest.mark.parametrize("others", [(), ("203.0.113.0/24",)])
def test_networks_of_ipv6_are_let_in_with_and_without_others(config, monkeypatch, others):
    rule = Rule("tcp", 443, 443, cidrs=("2001:db8::/32", *others))
    desired = Desired((), (SecurityGroup("sg", "vpc-1", ingress=(rule,)),), (instance(4, ("sg",)),))
    rules = written_rules(config, monkeypatch, desired, "i-4")
    assert "ip6 saddr 2001:db8::/32 tcp dport 443-443 accept" in rules
    assert ("ip saddr 203.0.113.0/24 tcp dport 443-443 accept" in rules) == bool(others)


def test_new_connections_come_in_only_where_a_rule_says_so(config, monkeypatch):
    """Whatever is accepted is named by a rule, an answer to one's own connection, or no new connection at all."""
    desired = Desired((), (SecurityGroup("sg", "vpc-1"),), (instance(4, ("sg",)),))
    rules = written_rules(config, monkeypatch, desired, "i-4")
    chain = re.search(r"chain input \{(.*?)\}", rules, re.DOTALL).group(1)
    let_in = [line.strip() for line in chain.splitlines() if "accept" in line]
    assert let_in == ["iif lo accept", "ct state established,related accept"]


@pytest.mark.parametrize(
    "rule, line",
    [
        (Rule("tcp", None, None, ("10.0.0.0/8",)), "ip saddr 10.0.0.0/8 meta l4proto tcp accept"),
        (Rule("udp", 0, 65535, ("10.0.0.0/8",)), "ip saddr 10.0.0.0/8 meta l4proto udp accept"),
        (Rule("udp", 53, 54, ("10.0.0.0/8",)), "ip saddr 10.0.0.0/8 udp dport 53-54 accept"),
        (Rule("icmp", -1, -1, ("10.0.0.0/8",)), "ip saddr 10.0.0.0/8 meta l4proto icmp accept"),
        (Rule("all", None, None, ("10.0.0.0/8",)), "ip saddr 10.0.0.0/8 accept"),
        (Rule("all", None, None, ("::/0",)), "ip6 saddr ::/0 accept"),
        (Rule("tcp", 22, 22, group_ids=("sg-of-nobody",)), None),
    ],
)
def test_a_rule_opens_what_it_says_and_no_more(config, monkeypatch, rule, line):
    desired = Desired((), (SecurityGroup("sg", "vpc-1", ingress=(rule,)),), (instance(4, ("sg", "sg-that-is-gone")),))
    rules = written_rules(config, monkeypatch, desired, "i-4")
    chain = re.search(r"chain input \{(.*?)\}", rules, re.DOTALL).group(1)
    let_in = [text.strip() for text in chain.splitlines() if "accept" in text]
    assert let_in[2:] == ([line] if line else [])


# -- what the host is told -------------------------------------------------------------------------------------------


class Host:
    """A host that notes what it is told, has the devices and the namespaces that were made, and no network."""

    def __init__(self, namespaces):
        self.devices, self.told, self.rules, self.tables = {"lo", "eth0"}, [], [], set()
        self.routes = [{"dst": "default", "dev": "eth0"}, {"dst": "10.1.0.0/16", "dev": "eth0"}]
        self.namespaces, self.pids = namespaces, list

    def run(self, *argv, stdin=None, timeout=600, check=True):
        command = " ".join(argv)
        if "-json" in argv:
            return json.dumps(self.routes if "route" in argv else [{"ifname": name} for name in sorted(self.devices)])
        if command.startswith("ip netns pids"):
            return "\n".join(map(str, self.pids()))
        self.told.append(command)
        if stdin is not None:
            self.rules.append((command, stdin))
        if command.startswith("ip link add"):
            self.devices.add(argv[3])
        elif command.startswith("ip link del"):
            self.devices.remove(argv[3])
        elif command.startswith("ip netns add"):
            (self.namespaces / argv[3]).touch()
        elif command.startswith("ip netns del"):
            (self.namespaces / argv[3]).unlink()
        elif command.startswith("nft delete table"):
            self.tables.remove(argv[-1])
        return ""

    def succeeds(self, *argv):
        return argv[-1] in self.tables


@pytest.fixture
def host(tmp_path, monkeypatch):
    namespaces = tmp_path / "netns"
    namespaces.mkdir()
    made = Host(namespaces)
    (tmp_path / "forward").write_text("0", encoding="ascii")
    (tmp_path / "instances").write_text("9999", encoding="ascii")
    settings = {str(tmp_path / "forward"): 1, str(tmp_path / "instances"): 4096}
    monkeypatch.setattr("localcloud.parts.network.NETNS_DIR", namespaces)
    monkeypatch.setattr("localcloud.parts.network.KERNEL_SETTINGS", settings)
    monkeypatch.setattr("localcloud.parts.network.run", made.run)
    monkeypatch.setattr("localcloud.parts.network.succeeds", made.succeeds)
    return made


VPC = Vpc("vpc-1", "eu-central-1", "172.31.0.0/16")


@pytest.mark.parametrize(
    "route, fine",
    [
        ({"dst": "172.31.5.0/24", "dev": "eth1"}, False),
        ({"dst": "172.31.5.6", "dev": "eth1"}, False),
        ({"dst": "172.0.0.0/8", "dev": "tun0"}, False),
        # Those of a VPN for everything, of the host's own devices and of other clouds are in nobody's way.
        ({"dst": "128.0.0.0/1", "dev": "tun0"}, True),
        ({"dst": "172.0.0.0/7", "dev": "tun0"}, True),
        ({"dst": "172.30.0.0/16", "dev": "eth1"}, True),
        ({"dst": "172.31.0.0/16", "dev": "lc0b-12345678"}, True),
        ({"dev": "eth1"}, True),
    ],
)
def test_a_range_that_the_host_uses_is_refused_before_anything_is_made(config, host, route, fine):
    host.routes.append(route)
    if fine:
        assert Network(config).ensure_vpc(VPC) in host.devices
        return
    with pytest.raises(LocalCloudError) as error:
        Network(config).ensure_vpc(VPC)
    assert all(word in str(error.value) for word in ("172.31.0.0/16", "vpc-1", route["dst"], route["dev"], "LOCALCLOUD_SLOT"))
    assert host.told == []


def test_a_network_starts_once_and_again_without_harm(config, host):
    network = Network(config)
    for _ in range(2):
        network.start()
    assert host.told.count("ip link add lcapi0 type bridge") == 1 and host.told.count("ip link set lcapi0 up") == 2
    assert "ip addr replace 198.18.0.1/32 dev lcapi0" in host.told
    # The kernel's table is written anew only where it has changed.
    assert len(host.rules) == 1
    bridge = network.ensure_vpc(VPC)
    assert network.ensure_vpc(VPC) == bridge
    assert len(host.rules) == 2 and f'iifname "{bridge}" oifname "{bridge}" accept' in host.rules[-1][1]
    assert host.told.count(f"ip link add {bridge} type bridge") == 1
    assert f"ip addr replace 172.31.0.1/16 dev {bridge}" in host.told
    # By name each cloud's table and bridges are its own.
    other = Network(Config(config.home, "other", 1))
    assert other.table != network.table and other.bridge("vpc-1") != bridge != network.bridge("vpc-2")


def test_the_address_of_the_api_is_refused_where_the_host_has_it(config, host):
    host.routes.append({"dst": "198.18.0.0/15", "dev": "eth1"})
    wanted = "the address of the local AWS API, but this host already has a route to 198.18.0.0/15"
    with pytest.raises(LocalCloudError, match=wanted):
        Network(config).start()


def test_machines_reach_nothing_of_the_host_but_the_api(config, host):
    network = Network(config)
    network.start()
    text = host.rules[0][1]
    chain = re.search(r"chain input \{\n(.*?)\n    \}", text, re.DOTALL).group(1)
    lines = [line.strip() for line in chain.splitlines()]
    assert lines[-1] == "drop" and lines[1] == 'ip daddr 198.18.0.1 iifname != { "lo", "lc0b-*" } drop'
    assert [re.search(r"\{ (.*) \}", line)[1] for line in lines if "tcp dport" in line] == ["53, 80, 443, 8169"]
    # The clouds are apart: no bridge of any slot leads to one of this.
    forward = re.search(r"chain forward \{\n(.*?)\n    \}", text, re.DOTALL).group(1)
    assert all(f'"lc{number}b-*"' in line for line in forward.splitlines() if "drop" in line for number in range(10))


@pytest.mark.parametrize("mac", [None, "02:00:00:00:00:09"])
def test_a_part_is_closed_before_it_has_a_network(config, host, mac):
    network = Network(config)
    network.ensure_part("i-1", VPC, "172.31.0.9", mac)
    bridge, name = network.bridge("vpc-1"), network.namespace("i-1")
    assert network.namespace_path("i-1").exists() and network.parts() == {"i-1"}
    closed = next(n for n, text in enumerate(host.told) if text.startswith(f"ip netns exec {name} nft"))
    joined = next(n for n, text in enumerate(host.told) if text.endswith(f"master {bridge} up"))
    assert host.told.index(f"ip netns add {name}") < closed < joined
    assert f"ip -n {name} addr add 172.31.0.9/16 dev eth0" in host.told
    assert f"ip -n {name} route add default via 172.31.0.1" in host.told
    assert [text.split()[-1] for text in host.told if "eth0 address" in text] == ([mac] if mac else [])
    # One that is whole stays as it is, one that lost its device is made anew.
    told = len(host.told)
    network.ensure_part("i-1", VPC, "172.31.0.9", mac)
    assert not any("netns" in text for text in host.told[told:])
    host.devices -= {device for device in host.devices if device.startswith("lc0v-")}
    network.ensure_part("i-1", VPC, "172.31.0.9", mac)
    assert any(text.startswith(f"ip netns exec {name} nft") for text in host.told[told:])
    network.remove_part("i-1")
    assert network.parts() == set() and not any(device.startswith("lc0v-") for device in host.devices)
    # Without harm once more.
    network.remove_part("i-1")


def test_rules_are_written_for_parts_that_are_there_and_where_they_changed(config, host):
    network = Network(config)
    network.ensure_part("i-4", VPC, "172.31.0.4")
    rule = Rule("tcp", 22, 22, ("10.0.0.0/8",))
    desired = Desired((VPC,), (SecurityGroup("sg", "vpc-1", (rule,)),), (instance(4, ("sg",)), instance(5, ("sg",))))
    written = len(host.rules)
    network.apply_security_groups(desired)
    network.apply_security_groups(desired)
    assert [command for command, _text in host.rules[written:]] == [f"ip netns exec {network.namespace('i-4')} nft -f -"]


@pytest.mark.parametrize("obeys", [True, False])
def test_what_runs_in_a_part_is_ended_with_it(config, host, monkeypatch, obeys):
    network = Network(config)
    network.ensure_part("i-1", VPC, "172.31.0.9")
    # It says when it is ready to be told.
    child = subprocess.Popen(["sh", "-c", ("" if obeys else "trap '' TERM; ") + "echo; exec sleep 30"], stdout=subprocess.PIPE)
    child.stdout.readline()
    host.pids = lambda: [child.pid] if child.poll() is None else []
    monkeypatch.setattr("localcloud.parts.network.time.sleep", lambda _seconds, sleep=time.sleep: sleep(0.02))
    network.remove_part("i-1")
    assert child.wait(5) == -(signal.SIGTERM if obeys else signal.SIGKILL)
    child.stdout.close()
    assert network.parts() == set()


def test_the_last_cloud_puts_back_what_the_kernel_had(config, host, tmp_path):
    forward, instances = tmp_path / "forward", tmp_path / "instances"
    network, other = Network(config), Network(Config(tmp_path, "other", 1))
    for each in (network, other, network):
        each.start()
        each.ensure_part("i-1", Vpc(f"vpc-{each.prefix}", "eu-central-1", "172.31.0.0/16"), "172.31.0.9")
    host.tables = {network.table, other.table}
    # What has enough is left alone.
    assert forward.read_text(encoding="ascii") == "1" and instances.read_text(encoding="ascii") == "9999"
    network.stop()
    assert forward.read_text(encoding="ascii") == "1" and host.tables == {other.table}
    assert not any(device.startswith("lc0") or device == "lcapi0" for device in host.devices)
    assert network.parts() == set() and other.parts() == {"i-1"}
    other.stop()
    assert forward.read_text(encoding="ascii") == "0" and instances.read_text(encoding="ascii") == "9999"
    assert host.devices == {"lo", "eth0"} and host.tables == set()
    other.stop()


def test_a_setting_that_the_kernel_does_not_take_is_told_and_no_more(config, host, monkeypatch, caplog):
    # Nobody may write this one, as nothing under /proc/sys in many a container.
    monkeypatch.setattr("localcloud.parts.network.KERNEL_SETTINGS", {"kernel/random/entropy_avail": 10**9})
    Network(config).start()
    assert "could not set kernel/random/entropy_avail" in caplog.text and "lcapi0" in host.devices


# -- commands and processes ------------------------------------------------------------------------------------------


def test_a_command_that_fails_says_so_in_its_own_words():
    assert shell.run("cat", stdin="in") == "in"
    with pytest.raises(LocalCloudError, match=r"^sh -c .* failed with exit code 3: why$"):
        shell.run("sh", "-c", "echo out; echo why >&2; exit 3")
    with pytest.raises(LocalCloudError, match="exit code 4: out$"):
        shell.run("sh", "-c", "echo out; exit 4")
    assert shell.run("sh", "-c", "echo out; exit 4", check=False) == "out\n"
    # Neither the whole of a long log nor all of a long command line; what it said last is there.
    with pytest.raises(LocalCloudError) as error:
        shell.run("sh", "-c", "yes | head -n 9000 >&2; echo last >&2; exit 1", *["word"] * 5000)
    assert len(str(error.value)) < 2200 and str(error.value).endswith("last")


def test_whether_a_command_succeeds():
    assert shell.succeeds("true") is True
    assert shell.succeeds("sh", "-c", "exit 2") is False
    # It asks nobody, and is given up where it takes too long.
    assert shell.succeeds("sh", "-c", "! read line", timeout=5)
    assert shell.succeeds("sleep", "9", timeout=0.1) is False


def test_the_end_of_a_log(tmp_path):
    log = tmp_path / "log"
    assert shell.last_lines(log) == ""
    log.write_bytes(b"one\ntwo\nthr\xff\n")
    assert shell.last_lines(log, 2) == "two\nthr\N{REPLACEMENT CHARACTER}"
    assert shell.last_lines(log).splitlines()[0] == "one"


def test_a_process_that_has_ended_has_no_start_time():
    child = subprocess.Popen(["sh", "-c", "read line"], stdin=subprocess.PIPE)
    began = shell.start_time(child.pid)
    assert began.isdigit() and began != shell.start_time(1)
    child.stdin.close()
    # Not waited for, it is a zombie.
    deadline = time.monotonic() + 5
    while shell.start_time(child.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Path(f"/proc/{child.pid}/stat").exists() and shell.start_time(child.pid) is None
    child.wait()
    assert shell.start_time(child.pid) is None


def test_a_file_that_is_written_whole_leaves_nothing_else(tmp_path):
    for text in ("one", "two"):
        shell.write_whole(tmp_path / "status.json", text)
        assert (tmp_path / "status.json").read_text(encoding="utf-8") == text
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]


def test_a_process_outlives_the_daemon_and_writes_on_in_its_log(tmp_path):
    log = tmp_path / "logs" / "log"
    process = Process(tmp_path / "process.json")
    for number, word in enumerate(("one", "two"), 1):
        script = 'echo $WORD "$(cat)"; echo $PATH >&2; exec sleep 30'
        process.start(["sh", "-c", script], log, env={"WORD": word})
        # In the session of the daemon it would end with that.
        assert os.getsid(process.pid) == process.pid
        deadline = time.monotonic() + 5
        while log.read_text(encoding="utf-8").count("\n") < 2 * number and time.monotonic() < deadline:
            time.sleep(0.01)
        # A later daemon finds it by its record.
        assert Process(process.record).pid == process.pid
        assert process.wait(0) is False
        process.stop()
    path = os.environ["PATH"]
    assert [line.strip() for line in log.read_text(encoding="utf-8").splitlines()] == ["one", path, "two", path]


def test_a_process_that_does_not_obey_is_killed(tmp_path):
    process = Process(tmp_path / "process.json")
    process.start(["sh", "-c", "trap '' TERM; echo; exec sleep 30"], tmp_path / "log")
    while not (tmp_path / "log").read_bytes():
        time.sleep(0.01)
    pid = process.pid
    began = time.monotonic()
    process.stop(patience=0.2)
    assert time.monotonic() - began < 5 and shell.start_time(pid) is None and process.pid is None
    # There is nothing left to be told.
    process.stop()


@pytest.mark.parametrize("text", [None, "", '{"pid": 1'])
def test_a_record_that_is_not_whole_is_of_no_process(tmp_path, text):
    process = Process(tmp_path / "process.json")
    if text is not None:
        process.record.write_text(text, encoding="utf-8")
    assert process.pid is None and process.wait(0) is True


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """A host without systemd whose trees of control groups are the folders that are returned."""
    ours, mounts = [tmp_path / "unified", tmp_path / "systemd"], tmp_path / "mounts"
    lines = [
        f"cgroup2 {ours[0]} cgroup2 rw,nosuid 0 0",
        f"cgroup {ours[1]} cgroup rw,xattr,name=systemd 0 0",
        f"cgroup {tmp_path / 'memory'} cgroup rw,memory 0 0",
        f"proc {tmp_path / 'proc'} proc rw,name=systemd 0 0",
    ]
    mounts.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for folder in (*ours, tmp_path / "memory", tmp_path / "proc"):
        folder.mkdir()
    monkeypatch.setattr(shell, "MOUNTS", mounts)
    monkeypatch.setattr(shell, "host_has_systemd", lambda: False)
    return ours


def test_a_machine_has_a_control_group_of_its_own(cgroups, tmp_path):
    command = shell.enter_cgroup("lc0-i-1", ["sh", "-c", 'echo $$ "$1"', "sh", "a b"])
    pid, words = shell.run(*command).strip().split(" ", 1)
    assert words == "a b"
    for mount in cgroups:
        assert (mount / "lc0-i-1" / "cgroup.procs").read_text(encoding="ascii").strip() == pid
    assert [list((tmp_path / name).iterdir()) for name in ("memory", "proc")] == [[], []]


def test_a_control_group_goes_with_those_below_it(cgroups):
    for mount in cgroups:
        (mount / "lc0-i-1" / "system.slice" / "ssh.service").mkdir(parents=True)
        (mount / "lc0-i-2").mkdir()
    # One that somebody is in stays, and the others go all the same.
    busy = cgroups[0] / "lc0-i-1" / "busy"
    busy.mkdir()
    (busy / "cgroup.procs").touch()
    shell.remove_cgroup("lc0-i-1")
    assert [sorted(path.name for path in mount.rglob("*")) for mount in cgroups] == [
        ["busy", "cgroup.procs", "lc0-i-1", "lc0-i-2"], ["lc0-i-2"],
    ]  # fmt: skip


def test_a_host_with_systemd_hands_the_control_group_out(cgroups, monkeypatch):
    monkeypatch.setattr(shell, "host_has_systemd", lambda: True)
    command = shell.enter_cgroup("lc0-i-1", ["sleep", "1"])
    assert command[0] == "systemd-run" and "--unit=lc0-i-1" in command and command[-3:] == ["--", "sleep", "1"]
    (cgroups[0] / "lc0-i-1").mkdir()
    shell.remove_cgroup("lc0-i-1")
    assert (cgroups[0] / "lc0-i-1").is_dir()
