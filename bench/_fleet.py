# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
How the role mlflow_server takes to more hosts: 1, 2, 4 and 8 fresh machines that somebody has, each number in a run of its
own with an empty PostgreSQL, the play of the scenarios, and the same play again with nothing to change.

The machines share the processors of one computer, where those of a fleet have their own. So what processor time the hosts
and Ansible take is measured as well, and what it takes at least on so few processors is printed beside the target. With
--processors each machine has so much of a processor, never more, whether others want it or not: as machines of a fleet, small
ones.
Started by bench/run, which prepares the environment.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import time
from pathlib import Path

from _cloud import RESULTS, Cloud, write

PLAY = "molecule/shared/converge.yml"
# This many hosts take at most so many times as long as one.
TARGET = (8, 3.0)
BASE = "fleet-db"


class Fleet(Cloud):
    def __init__(self, folder: Path, size: int):
        super().__init__("fleet", folder, [f"fleet-{number}" for number in range(1, size + 1)], BASE)
        self.size = size
        self.limits: list[Path] = []

    def find(self) -> None:
        super().find()
        machines = self.aws("ec2").describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])
        ids = {
            instance["PrivateIpAddress"]: instance["InstanceId"]
            for reservation in machines["Reservations"]
            for instance in reservation["Instances"]
        }
        self.ids = {name: ids[address] for name, address in self.addresses.items()}

    def group(self, name: str) -> Path:
        """The control group of a machine."""
        from localcloud.parts.shell import cgroup_mounts

        for mount in cgroup_mounts():
            # On a host with systemd the group is a scope of its.
            for folder in (mount / self.group_name(name), mount / "system.slice" / f"{self.group_name(name)}.scope"):
                if (folder / "cpu.stat").exists():
                    return folder
        raise SystemExit(f"the control group of {name} is not found")

    def group_name(self, name: str) -> str:
        return f"localcloud{self.config.slot}-{self.ids[name]}"

    def processor(self, name: str) -> float:
        """Seconds of processor time that a machine has taken, all its processes together."""
        lines = (self.group(name) / "cpu.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6

    def limit(self, name: str, processors: float) -> None:
        """Give a machine so much of a processor, and no more."""
        group, period = self.group(name), 100_000
        quota = int(processors * period)
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{quota} {period}")
            return
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        found = [Path(path) for _device, path, kind, options, *_ in mounts if kind == "cgroup" and "cpu" in options.split(",")]
        if not found:
            raise SystemExit("--processors: this computer has no control groups for processors")
        own = found[0] / self.group_name(name)
        own.mkdir(exist_ok=True)
        self.limits.append(own)
        (own / "cpu.cfs_period_us").write_text(str(period))
        (own / "cpu.cfs_quota_us").write_text(str(quota))
        # What a process starts after it was moved is where it is; what it started meanwhile is found by the next look.
        while moved := self._processes(group) - set((own / "cgroup.procs").read_text().split()):
            for pid in moved:
                with contextlib.suppress(ProcessLookupError):
                    (own / "cgroup.procs").write_text(pid)

    @staticmethod
    def _processes(group: Path) -> set[str]:
        return {pid for file in group.rglob("cgroup.procs") for pid in file.read_text().split()}

    def forget_limits(self) -> None:
        """Remove what `limit` made, once the machines are gone."""
        while self.limits:
            self.limits.pop().rmdir()

    def converge(self, kind: str) -> dict:
        """The play; its seconds, and the processor seconds of the hosts, of Ansible and of all that ran meanwhile."""
        before = {name: self.processor(name) for name in [*self.servers, BASE]}
        ansible, busy = _children(), _busy()
        played = self.play(
            PLAY, *self.inventory, variables={"mlflow_server_hosts": self.size}, log=f"{self.size}-{kind}"
        )
        ansible, busy = _children() - ansible, _busy() - busy
        used = {name: self.processor(name) - since for name, since in before.items()}
        return {
            "seconds": round(played.seconds, 1),
            "changed": played.changed,
            "processor_host": round(sum(used[name] for name in self.servers) / self.size, 1),
            "processor_database": round(used[BASE], 1),
            "processor_ansible": round(ansible, 1),
            "processor_all": round(busy, 1),
            "tasks": {name: round(seconds, 1) for name, seconds in played.tasks.items() if seconds >= 0.5},
        }


def _children() -> float:
    """Processor seconds of the processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _busy() -> float:
    """Processor seconds of everything on this computer."""
    user, nice, system, _idle, _wait, irq, softirq = map(int, Path("/proc/stat").read_text().split(None, 8)[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def measure(fleet: Fleet, folder: Path, size: int, processors: float) -> dict:
    """Fresh machines, and the play on all of them twice."""
    fleet.localcloud("reset")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    print(f"{size} host{'s' * (size > 1)}: local cloud and machines …", flush=True)
    begin = time.monotonic()
    fleet.localcloud("up")
    # Eight hosts want more connections than a PostgreSQL has by itself.
    fleet.up(database_max_connections=400)
    if processors:
        for name in fleet.servers:
            fleet.limit(name, processors)
    row = {"hosts": size, "machines_seconds": round(time.monotonic() - begin, 1), "load": os.getloadavg()[0]}
    for kind in ("first", "again"):
        row[kind] = about = fleet.converge(kind)
        print(f"  {kind}: {about['seconds']} s, {about['changed']} changes; processor s: {about['processor_host']} a host, "
              f"{about['processor_ansible']} Ansible, {about['processor_all']} all", flush=True)  # fmt: skip
    if not row["first"]["changed"]:
        raise SystemExit("the first run reports no change: these were no fresh machines")
    if row["again"]["changed"]:
        raise SystemExit(f"the second run reports {row['again']['changed']} changes where there was nothing to change; "
                         f"its output is in bench/results/log/fleet-{size}-again.log")  # fmt: skip
    return row


def table(rows: list[dict]) -> str:
    one = next((row for row in rows if row["hosts"] == 1), None)
    lines = [f"{'':>5}{'first':>10}{'':>7}{'nothing':>10}{'':>7}{'processor s, first run':>30}{'':>13}",
             f"{'hosts':>5}{'run':>10}{'ratio':>7}{'to change':>10}{'ratio':>7}{'a host':>12}{'Ansible':>9}{'all':>9}"
             f"{'processors busy':>17}"]  # fmt: skip
    for row in rows:
        first, again = row["first"], row["again"]
        ratios = [f"{about['seconds'] / one[kind]['seconds']:.2f}" if one else ""
                  for kind, about in (("first", first), ("again", again))]  # fmt: skip
        share = first["processor_all"] / first["seconds"] / os.cpu_count()
        lines.append(
            f"{row['hosts']:>5}{first['seconds']:>8.1f} s{ratios[0]:>7}{again['seconds']:>8.1f} s{ratios[1]:>7}"
            f"{first['processor_host']:>12.1f}{first['processor_ansible']:>9.1f}{first['processor_all']:>9.1f}{share:>16.0%} "
            .rstrip()
        )
    return "\n".join(lines)


def where(rows: list[dict]) -> str:
    """The tasks that take longest at the largest number of hosts, at each number."""
    names = sorted(rows[-1]["first"]["tasks"], key=rows[-1]["first"]["tasks"].get, reverse=True)[:12]
    lines = [f"{'seconds of the first run in':<62}" + "".join(f"{row['hosts']:>7}" for row in rows)]
    for name in names:
        lines.append(f"  {name:<60.60}" + "".join(f"{row['first']['tasks'].get(name, 0):>7.1f}" for row in rows))
    return "\n".join(lines)


def verdict(rows: list[dict], processors: float) -> tuple[str, dict | None]:
    """Whether the target is met, and what the processors allow."""
    by_size = {row["hosts"]: row for row in rows}
    size, bound = TARGET
    if not {1, size} <= set(by_size):
        return "", None
    one, many = by_size[1]["first"], by_size[size]["first"]
    ratio = many["seconds"] / one["seconds"]
    least = many["processor_all"] / os.cpu_count() / one["seconds"]
    met = ratio <= bound
    text = f"{size} hosts take {ratio:.2f} times as long as one, target at most {bound:.2f}: {'met' if met else 'MISSED'}"
    about = {"hosts": size, "ratio": round(ratio, 2), "bound": bound, "met": met, "processors": processors}
    if processors:
        return f"{text}\nEach of them had {processors:g} of a processor to itself.", about
    text += (
        f"\nShared here: {os.cpu_count()} processors, disk and network, by {size} hosts, PostgreSQL, the store and Ansible. "
        f"The {many['processor_all']:.0f} s of\nprocessor time of the run on {size} hosts take {os.cpu_count()} processors "
        f"{many['processor_all'] / os.cpu_count():.0f} s at least: {least:.2f} times the run on one host, whatever\nAnsible "
        f"does. In a fleet each host has processors of its own, and shares Ansible's, which took "
        f"{many['processor_ansible']:.0f} s."
    )  # fmt: skip
    return text, {**about, "ratio_by_processors": round(least, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/run fleet", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="numbers of hosts")
    parser.add_argument("--processors", type=float, default=0, metavar="N",
                        help="how much of a processor each machine has; by default all share all")  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="leave the machines of the last number up")
    arguments = parser.parse_args()
    if min(arguments.sizes) < 1:
        parser.error("a fleet has one host or more")
    if arguments.processors < 0 or arguments.processors * max(arguments.sizes) >= os.cpu_count():
        parser.error(f"--processors {arguments.processors:g} for {max(arguments.sizes)} machines: wanted is a number that leaves "
                     f"something of this computer's {os.cpu_count()} processors to Ansible and the database")  # fmt: skip
    os.environ["LOCALCLOUD_NAME"] = os.environ.get("LOCALCLOUD_NAME") or "bench-fleet"

    folder = RESULTS / "fleet"
    rows, fleets = [], []
    try:
        for size in sorted(set(arguments.sizes)):
            fleet = Fleet(folder, size)
            fleets.append(fleet)
            rows.append(measure(fleet, folder, size, arguments.processors))
    finally:
        if not arguments.keep:
            Fleet(folder, 0).localcloud("reset", check=False)
            shutil.rmtree(folder, ignore_errors=True)
            for fleet in fleets:
                fleet.forget_limits()
    text, target = verdict(rows, arguments.processors)
    print(f"\n{table(rows)}\n\n{where(rows)}")
    if text:
        print(f"\n{text}")
    write("fleet", {"play": PLAY, "target": target, "rows": rows})


if __name__ == "__main__":
    main()
