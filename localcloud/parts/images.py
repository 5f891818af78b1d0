# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
The root file systems that machines and databases boot from, built once from the distribution's packages and cached.

Package sources are the host's own: the mirror that its apt names, its pip configuration, its certificates. So a machine
of the local cloud reaches what the host reaches, and nothing here names a server.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import LocalCloudError
from .shell import run

LOG = logging.getLogger(__name__)

# The file in a machine's or database's folder that says which image it began with.
RECORD = "image"
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

# What Debian's own cloud images carry and a playbook may count on. No python3-venv, no nginx: a role installs those.
MACHINE_PACKAGES = (
    "ca-certificates,curl,dbus,iproute2,less,libpam-systemd,openssh-server,procps,python3,sudo,systemd-sysv,unattended-upgrades"
)
DATABASE_PACKAGES = "ca-certificates,postgresql-{major}"


@dataclass(frozen=True)
class Recipe:
    """How an image is built. ``kind`` is machine or database."""

    name: str
    kind: str
    suite: str
    packages: str


RECIPES = {
    r.name: r
    for r in (
        Recipe("debian-13", "machine", "trixie", MACHINE_PACKAGES),
        Recipe("debian-12", "machine", "bookworm", MACHINE_PACKAGES),
        Recipe("postgresql-17", "database", "trixie", DATABASE_PACKAGES.format(major=17)),
        Recipe("postgresql-15", "database", "bookworm", DATABASE_PACKAGES.format(major=15)),
    )
}

# To be raised when what _finish does changes.
_REVISIONS = {"machine": 2, "database": 1}

USER_DATA_UNIT = """[Unit]
Description=User data of the instance, run once at the first boot
ConditionPathExists=/var/lib/localcloud/user-data
ConditionPathExists=!/var/lib/localcloud/user-data.done
After=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/var/lib/localcloud/user-data
ExecStartPost=/usr/bin/touch /var/lib/localcloud/user-data.done
[Install]
WantedBy=multi-user.target
"""


class Images:
    """The cache of images; safe for several processes at a time."""

    def __init__(self, cache_dir: Path):
        self.folder = cache_dir / "images"

    def ensure(self, name: str, progress: Callable[[str], None] = LOG.info) -> Path:
        """The root file system of an image, built if it isn't there. Raises LocalCloudError when it can't be built."""
        recipe = RECIPES.get(name)
        if recipe is None:
            raise LocalCloudError(f"the local cloud has no image {name!r}; it has {', '.join(sorted(RECIPES))}.")
        self.folder.mkdir(parents=True, exist_ok=True)
        # Images hold set-uid programs that must not be run from here.
        self.folder.chmod(0o700)
        target = self.folder / f"{name}-{self._fingerprint(recipe)[:12]}"
        with _locked(self.folder / f"{name}.lock"):
            if not target.exists():
                progress(f"building image {name} (about a minute)")
                building = self.folder / f"{name}.building"
                if building.exists():
                    shutil.rmtree(building)
                self._bootstrap(recipe, building)
                self._finish(recipe, building)
                building.rename(target)
                self._remove_old(name, keep=target)
        return target

    def _remove_old(self, name: str, keep: Path) -> None:
        """Images that a newer one has replaced and that no machine or database of any cloud began with."""
        clouds = self.folder.parent.parent / "clouds"
        needed = {r.read_text(encoding="utf-8") for r in clouds.glob(f"*/*/*/{RECORD}")} | {str(keep)}
        for folder in self.folder.glob(f"{name}-*"):
            if str(folder) not in needed:
                shutil.rmtree(folder)

    def _fingerprint(self, recipe: Recipe) -> str:
        """Changes when the recipe or what is taken from the host changes."""
        certificates = HOST_CERTIFICATES.read_bytes() if HOST_CERTIFICATES.exists() else b""
        text = json.dumps(
            [recipe.__dict__, _REVISIONS[recipe.kind], _apt_sources(recipe.suite), _apt_options(), _pip_config()]
        )
        return hashlib.sha256(text.encode() + certificates).hexdigest()

    def _bootstrap(self, recipe: Recipe, building: Path) -> None:
        if not shutil.which("mmdebstrap"):
            raise LocalCloudError("mmdebstrap is missing: apt-get install mmdebstrap")
        variant = "important" if recipe.kind == "machine" else "minbase"
        argv = ["mmdebstrap", "--mode=root", "--format=directory", f"--variant={variant}", f"--include={recipe.packages}"]
        for option in _apt_options():
            argv.append(f"--aptopt={option}")
        argv += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]
        # The cluster that Debian's postgresql package makes by itself is not the one that RDS asks for.
        argv.append(
            "--essential-hook=mkdir -p $1/etc/postgresql-common && "
            "echo 'create_main_cluster = false' > $1/etc/postgresql-common/createcluster.conf"
        )
        sources = _apt_sources(recipe.suite)
        run(*argv, recipe.suite, building, *([] if sources is None else ["-"]), stdin=sources, timeout=1200)

    def _finish(self, recipe: Recipe, root: Path) -> None:
        if HOST_CERTIFICATES.exists():
            # A host behind a proxy that opens TLS trusts that proxy's certificate; its machines have to as well.
            shutil.copyfile(HOST_CERTIFICATES, root / "etc/ssl/certs/ca-certificates.crt")
        if recipe.kind == "database":
            for mount_point in ("data", "sockets"):
                (root / mount_point).mkdir()
            return
        (root / "etc/apt/apt.conf.d/90localcloud").write_text(
            "".join(f"{o};\n" for o in _apt_options()), encoding="utf-8"
        )
        (root / "etc/pip.conf").write_text(_pip_config(), encoding="utf-8")
        (root / "etc/uv").mkdir(exist_ok=True)
        (root / "etc/uv/uv.toml").write_text("native-tls = true\n", encoding="utf-8")
        run("chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", "admin")
        sudoers = root / "etc/sudoers.d/90-cloud-user"
        sudoers.write_text("admin ALL=(ALL) NOPASSWD:ALL\n", encoding="utf-8")
        sudoers.chmod(0o440)
        (root / "etc/systemd/system/localcloud-user-data.service").write_text(USER_DATA_UNIT, encoding="utf-8")
        run("chroot", root, "systemctl", "enable", "localcloud-user-data.service")
        # The namespace comes configured, and a machine may not change it.
        for unit in (
            "networking.service",
            "systemd-networkd.service",
            "systemd-networkd.socket",
            "nftables.service",
            "systemd-firstboot.service",
            "getty.target",
        ):
            run("chroot", root, "systemctl", "mask", unit)
        for timer in ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer"):
            run("chroot", root, "systemctl", "disable", timer, check=False)
        for key in (root / "etc/ssh").glob("ssh_host_*"):
            key.unlink()
        (root / "etc/machine-id").unlink(missing_ok=True)
        (root / "etc/hostname").unlink(missing_ok=True)
        # The package lists are empty: as old as they can be, so that nobody takes them for fresh.
        for stale in ("var/lib/apt/periodic/update-success-stamp", "var/cache/apt/pkgcache.bin"):
            (root / stale).unlink(missing_ok=True)
        os.utime(root / "var/lib/apt/lists", (0, 0))


def _apt_sources(suite: str) -> str | None:
    """sources.list lines for a suite by the host's own mirror; None leaves it to mmdebstrap."""
    mirror, security = None, None
    for uri, suites, components in _host_sources():
        if "main" not in components:
            continue
        if any(s.endswith("-security") for s in suites):
            security = security or uri
        elif any(re.fullmatch(r"[a-z]+", s) and (s in ("bookworm", "trixie", "stable")) for s in suites):
            mirror = mirror or uri
    if mirror is None:
        return None
    keyring = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    lines = [f"deb {keyring}{mirror} {name} main" for name in (suite, f"{suite}-updates")]
    if security:
        lines.append(f"deb {keyring}{security} {suite}-security main")
    return "\n".join(lines) + "\n"


def _host_sources() -> list[tuple[str, list[str], list[str]]]:
    """(URI, suites, components) of each apt source of the host."""
    found = []
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for path in (f for f in files if f.is_file()):
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".sources":
            for stanza in re.split(r"\n\s*\n", text):
                fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
                if fields.get("Enabled", "yes").lower() != "no" and "deb" in fields.get("Types", "").split():
                    for uri in fields.get("URIs", "").split():
                        found.append((uri, fields.get("Suites", "").split(), fields.get("Components", "").split()))
        else:
            for line in text.splitlines():
                match = re.match(r"^\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$", line)
                if match:
                    found.append((match[1], [match[2]], match[3].split()))
    return found


def _apt_options() -> list[str]:
    """The host's proxy settings for apt, as options."""
    if not shutil.which("apt-config"):
        return []
    lines = run("apt-config", "dump", check=False).splitlines()
    return [m[1] for m in (re.match(r'^(Acquire::https?::Proxy(?:::\S+)? ".*");$', line) for line in lines) if m]


def _pip_config() -> str:
    """A pip.conf for machines with the host's index, and its certificates where it has some."""
    keep = {}
    for path in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
        if path.is_file():
            settings = re.findall(
                r"^\s*(index-url|trusted-host|proxy)\s*=\s*(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE
            )
            keep.update(settings)
    for variable, name in (("PIP_INDEX_URL", "index-url"), ("PIP_TRUSTED_HOST", "trusted-host"), ("PIP_PROXY", "proxy")):
        if os.environ.get(variable):
            keep[name] = os.environ[variable]
    keep["cert"] = str(HOST_CERTIFICATES)
    keep["disable-pip-version-check"] = "true"
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(keep.items()))


@contextmanager
def _locked(path: Path):
    with path.open("w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
