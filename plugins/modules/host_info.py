#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_info
short_description: What stands on a host, in one look
version_added: "0.1.0"
description:
  - Tells what a role has to know of a host before it decides what is to be done there, with one start of Python where
    gathering facts, looking for packages, reading files and asking systemd would take several seconds.
  - Changes nothing, and reads no content but that of the files it is asked for, of which it returns a checksum only.
author:
  - the mlops.mlflow_aws contributors
options:
  packages:
    description:
      - Packages of the distribution that are looked for.
      - The keys are RV(distribution.id), with or without a hyphen and RV(distribution.version); the one with the version
        wins.
    type: dict
    default: {}
  files:
    description: Files of which the checksum and the rights are returned.
    type: list
    elements: path
    default: []
  links:
    description: Symbolic links of which the target is returned.
    type: list
    elements: path
    default: []
    version_added: "0.3.0"
  certificate:
    description: A file with an X.509 certificate in PEM, of which the names and the end are returned.
    type: path
  certificates:
    description: More of them. Of a file that holds several the first one counts.
    type: list
    elements: path
    default: []
    version_added: "0.3.0"
  disks:
    description: Folders of which the free space is returned, in MiB.
    type: list
    elements: path
    default: []
  pythons:
    description: Interpreters of which the version is returned.
    type: list
    elements: path
    default: []
  units:
    description: Units of systemd, with their suffix.
    type: list
    elements: str
    default: []
  newer:
    description: Files to compare by the time of their last change.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The key of the answer.
        type: str
        required: true
      than:
        description: The file that the others are compared with.
        type: path
        required: true
      paths:
        description: The others. A folder stands for all that is in it.
        type: list
        elements: path
        required: true
  checksums:
    description: Files to compare with the checksums that were noted of them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The key of the answer.
        type: str
        required: true
      noted:
        description: The file with the checksums, as sha256sum writes it.
        type: path
        required: true
      paths:
        description: The files, each by the path by which it was noted.
        type: list
        elements: path
        required: true
attributes:
  check_mode:
    description: Looks in check mode as well, since it changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Look at the host
  mlops.mlflow_aws.host_info:
    packages:
      debian: [nginx-light, openssl]
      debian-12: [nginx-light, openssl, python3-venv]
    files: [/etc/nginx/conf.d/mlflow.conf]
    units: [nginx.service]
    newer:
      - name: nginx
        than: /run/nginx.pid
        paths: [/etc/nginx/conf.d]
    checksums:
      - name: service
        noted: /run/service/read
        paths: [/etc/service.conf]
  become: true
  register: host
"""

RETURN = r"""
distribution:
  description: C(id) and C(version) as /etc/os-release has them, and C(family), which is V(debian), V(redhat) or the id.
  returned: always
  type: dict
  sample: {id: debian, version: "13", family: debian}
addresses:
  description: The host's IPv4 addresses without those of the loopback interface, sorted.
  returned: always
  type: list
  elements: str
  sample: [172.31.0.5]
default_address:
  description: The address with which it reaches its default gateway. Empty where it has none.
  returned: always
  type: str
  sample: 172.31.0.5
ipv6:
  description: Whether a program may listen on IPv6 there, whatever addresses the host has.
  returned: always
  type: bool
missing_packages:
  description: Those of O(packages) for this distribution that are not installed.
  returned: always
  type: list
  elements: str
files:
  description: For each of O(files) that is there its C(sha256), C(owner), C(group) and C(mode).
  returned: always
  type: dict
  sample: {/etc/hostname: {sha256: 9f86d08…, owner: root, group: root, mode: "0644"}}
links:
  description: For each of O(links) that is one its target, as it is written there.
  returned: always
  type: dict
  sample: {/opt/mlflow/current: /opt/mlflow/3.17.2-7773d8d1}
certificate:
  description:
    - C(names) as openssl writes them, the C(days) that are left, and C(lifetime_days) from the certificate's beginning to its
      end; C(key) and C(authority), the identifiers of its own key and of that which has signed it, and the certificate itself as
      C(pem). Empty where there is no readable certificate.
  returned: always
  type: dict
  sample:
    names: ["DNS:mlflow.example.com", "IP Address:172.31.0.5"]
    days: 824
    lifetime_days: 825
    key: "0A:1B:2C"
    authority: "3D:4E:5F"
    pem: "-----BEGIN CERTIFICATE-----…"
certificates:
  description: The same for each of O(certificates) that is there, by its path.
  returned: always
  type: dict
  version_added: "0.3.0"
processors:
  description: Processors that a process of this host may use.
  returned: always
  type: int
memory_mib:
  description: The host's memory.
  returned: always
  type: int
free_mib:
  description: For each of O(disks) what is free there for everyone. The nearest folder above stands for a missing one.
  returned: always
  type: dict
  sample: {/var/lib/mlflow/tmp: 71234}
pythons:
  description: For each of O(pythons) that is there its version, of which the packages of a venv are.
  returned: always
  type: dict
  sample: {/usr/bin/python3: "3.13"}
python_homes:
  description: For each of O(pythons) that is there the folder of its installation, also where it is a link or of a venv.
  returned: always
  type: dict
  sample: {/usr/bin/python3: /usr}
units:
  description:
    - For each of O(units) whether it is C(active), whether it is C(enabled), and whether it is C(outdated), which is that systemd
      has not read its file since that has changed.
  returned: always
  type: dict
  sample: {nginx.service: {active: true, enabled: true, outdated: false}}
newer:
  description: For each of O(newer) the files that are newer; the file they are compared with where that is missing.
  returned: always
  type: dict
  sample: {nginx: [/etc/nginx/conf.d/mlflow.conf]}
differing:
  description:
    - For each of O(checksums) the files whose content is another one than was noted, or of which nothing was noted. The file with
      the checksums where that is missing.
  returned: always
  type: dict
  sample: {service: [/etc/service.conf]}
"""

import grp
import hashlib
import json
import os
import pwd
import socket
import ssl
import stat
import time

from ansible.module_utils.basic import AnsibleModule


class Host:
    """Looks at the host; run(argv) returns (rc, stdout, stderr) and rc 127 for a program that is not there."""

    def __init__(self, run, os_release="/etc/os-release"):
        self.run = run
        self.os_release = os_release

    def distribution(self):
        values = {}
        with open(self.os_release, encoding="utf-8") as lines:
            for line in lines:
                name, equals, value = line.strip().partition("=")
                if equals:
                    values[name] = value.strip("\"'")
        family = values.get("ID", "")
        for known, names in (("debian", {"debian", "ubuntu"}), ("redhat", {"rhel", "fedora", "centos"})):
            if names & {values.get("ID"), *values.get("ID_LIKE", "").split()}:
                family = known
        return {"id": values.get("ID", ""), "version": values.get("VERSION_ID", ""), "family": family}

    def addresses(self):
        """Return all addresses, and the one of the default route."""
        code, out, dummy = self.run(["ip", "-json", "-4", "address", "show"])
        links = {} if code else {
            link["ifname"]: [item["local"] for item in link.get("addr_info", []) if item.get("local")]
            for link in json.loads(out or "[]")
            if "LOOPBACK" not in link.get("flags", [])
        }
        code, out, dummy = self.run(["ip", "-json", "-4", "route", "show", "default"])
        routes = [] if code else json.loads(out or "[]")
        default = ""
        if routes:
            route = min(routes, key=lambda item: item.get("metric", 0))
            default = route.get("prefsrc") or next(iter(links.get(route.get("dev"), [])), "")
        return sorted(address for items in links.values() for address in items), default

    @staticmethod
    def ipv6():
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as listener:
                listener.bind(("::", 0))
        except OSError:
            return False
        return True

    def missing_packages(self, distribution, packages):
        names = packages.get(f"{distribution['id']}-{distribution['version']}") or packages.get(distribution["id"]) or []
        if not names:
            return []
        if distribution["family"] == "redhat":
            return [name for name in names if self.run(["rpm", "--query", "--whatprovides", name])[0]]
        dummy, out, dummy = self.run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names])
        installed = {line.split()[0] for line in out.splitlines() if line.endswith(" installed")}
        return [name for name in names if name not in installed]

    def file(self, path):
        try:
            with open(path, "rb") as stream:
                state = os.fstat(stream.fileno())
                checksum = hashlib.sha256(stream.read()).hexdigest()
        except OSError:
            return None
        return {
            "sha256": checksum,
            "owner": _name(pwd.getpwuid, state.st_uid),
            "group": _name(grp.getgrgid, state.st_gid),
            "mode": f"{stat.S_IMODE(state.st_mode):04o}",
        }

    @staticmethod
    def link(path):
        try:
            return os.readlink(path)
        except OSError:
            return None

    def certificate(self, path):
        if not path:
            return {}
        wanted = "subjectAltName,subjectKeyIdentifier,authorityKeyIdentifier"
        code, out, dummy = self.run(["openssl", "x509", "-in", path, "-dates", "-ext", wanted])
        if code:
            return {}
        said, begins, encoded = out.partition("-----BEGIN")
        lines = [line.strip() for line in said.splitlines()]
        begin, end = (
            ssl.cert_time_to_seconds(next(line.partition("=")[2] for line in lines if line.startswith(key)))
            for key in ("notBefore=", "notAfter=")
        )
        names = next((line for line in lines if line.startswith(("DNS:", "IP Address:"))), "")
        keys = {line: lines[number].replace("keyid:", "") for number, line in enumerate(lines[:-1], 1)}
        return {
            "names": names.split(", ") if names else [],
            "days": int((end - time.time()) // 86400),
            # Some CAs count the last second in.
            "lifetime_days": round((end - begin) / 86400),
            "key": keys.get("X509v3 Subject Key Identifier:", ""),
            "authority": keys.get("X509v3 Authority Key Identifier:", ""),
            "pem": begins + encoded,
        }

    def python(self, path):
        code, out, dummy = self.run([path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        return None if code else out.strip()

    def python_home(self, path):
        code, out, dummy = self.run([path, "-c", "import os, sys; print(os.path.realpath(sys.base_prefix))"])
        return None if code else out.strip()

    def unit(self, name):
        dummy, out, dummy = self.run(["systemctl", "show", "--property=ActiveState,UnitFileState,NeedDaemonReload", name])
        values = dict(line.partition("=")[::2] for line in out.splitlines())
        return {
            "active": values.get("ActiveState") == "active",
            "enabled": values.get("UnitFileState") == "enabled",
            "outdated": values.get("NeedDaemonReload") == "yes",
        }

    @staticmethod
    def memory_mib():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20

    @staticmethod
    def free_mib(path):
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        about = os.statvfs(path)
        return about.f_bavail * about.f_frsize // 2**20

    @staticmethod
    def newer(than, paths):
        try:
            moment = os.stat(than).st_mtime_ns
        except OSError:
            return [than]
        found = []
        for path in paths:
            below = [os.path.join(folder, name) for folder, dummy, names in os.walk(path) for name in names]
            found += [item for item in [path, *below] if os.path.exists(item) and os.stat(item).st_mtime_ns > moment]
        return found

    def differing(self, noted, paths):
        try:
            with open(noted, encoding="utf-8") as lines:
                known = {path: checksum for checksum, dummy, path in (line.rstrip("\n").partition("  ") for line in lines)}
        except OSError:
            return [noted]
        return [path for path in paths if known.get(path) != (self.file(path) or {}).get("sha256")]


def _name(look_up, number):
    try:
        return look_up(number)[0]
    except KeyError:
        return str(number)


def main():
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "dict", "default": {}},
            "files": {"type": "list", "elements": "path", "default": []},
            "links": {"type": "list", "elements": "path", "default": []},
            "certificate": {"type": "path"},
            "certificates": {"type": "list", "elements": "path", "default": []},
            "disks": {"type": "list", "elements": "path", "default": []},
            "pythons": {"type": "list", "elements": "path", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "newer": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "than": {"type": "path", "required": True},
                    "paths": {"type": "list", "elements": "path", "required": True},
                },
            },
            "checksums": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "noted": {"type": "path", "required": True},
                    "paths": {"type": "list", "elements": "path", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )

    def run(argv):
        if not module.get_bin_path(argv[0]):
            return 127, "", ""
        return module.run_command(argv, environ_update={"LC_ALL": "C"})

    wanted = module.params
    host = Host(run)
    distribution = host.distribution()
    addresses, default_address = host.addresses()
    module.exit_json(
        changed=False,
        distribution=distribution,
        addresses=addresses,
        default_address=default_address,
        ipv6=host.ipv6(),
        missing_packages=host.missing_packages(distribution, wanted["packages"]),
        files={path: found for path, found in ((path, host.file(path)) for path in wanted["files"]) if found},
        links={path: found for path, found in ((path, host.link(path)) for path in wanted["links"]) if found},
        certificate=host.certificate(wanted["certificate"]),
        certificates={
            path: found for path, found in ((path, host.certificate(path)) for path in wanted["certificates"]) if found
        },
        processors=len(os.sched_getaffinity(0)),
        memory_mib=host.memory_mib(),
        free_mib={path: host.free_mib(path) for path in wanted["disks"]},
        pythons={path: found for path, found in ((path, host.python(path)) for path in wanted["pythons"]) if found},
        python_homes={
            path: found for path, found in ((path, host.python_home(path)) for path in wanted["pythons"]) if found
        },
        units={name: host.unit(name) for name in wanted["units"]},
        newer={item["name"]: host.newer(item["than"], item["paths"]) for item in wanted["newer"]},
        differing={item["name"]: host.differing(item["noted"], item["paths"]) for item in wanted["checksums"]},
    )


if __name__ == "__main__":
    main()
