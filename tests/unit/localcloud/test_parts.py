# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What the parts work out before they touch the host. Their effects are tested in tests/localcloud."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localcloud.cli import take_slot
from localcloud.config import Config, taken_slots
from localcloud.errors import LocalCloudError
from localcloud.model import Database, Desired, Instance, Rule, SecurityGroup, Vpc
from localcloud.parts import images
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


def test_a_database_is_a_member_of_its_groups(config, monkeypatch):
    """Who may reach the group of a database reaches the database, and nobody else by that rule."""
    database = Database(
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
    )
    rule = Rule("tcp", 5432, 5432, group_ids=("sg-db",))
    groups = (SecurityGroup("sg-db", "vpc-1"), SecurityGroup("sg-server", "vpc-1", egress=(rule,)))
    desired = Desired((Vpc("vpc-1", "eu-central-1", "172.31.0.0/16"),), groups, (instance(5, ("sg-server",)),), (database,))
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
