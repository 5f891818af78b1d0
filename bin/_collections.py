# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Put the collections that requirements.yml names into a folder, without Ansible Galaxy.

They are taken out of the ``ansible`` package, which carries the collections of one
Ansible release and comes from the same index as all other Python packages: a checkout
needs one source, and CI needs no account anywhere. Users of the collection install from
Galaxy (see README.md); the versions are within the same bounds.

    python bin/_collections.py requirements.yml .ansible/collections
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

# The newest release for each ansible-core that requirements.txt picks.
BUNDLE = "ansible==12.3.0" if sys.version_info < (3, 12) else "ansible==14.5.0"


def installed_version(folder: Path) -> str | None:
    """Version of the collection in this folder; None where there is none."""
    try:
        manifest = json.loads((folder / "MANIFEST.json").read_text())
    except FileNotFoundError:
        return None
    return manifest["collection_info"]["version"]


def wanted_collections(requirements: Path) -> dict[str, SpecifierSet]:
    entries = yaml.safe_load(requirements.read_text())["collections"]
    return {entry["name"]: SpecifierSet(entry.get("version", "")) for entry in entries}


def fits(version: str | None, bounds: SpecifierSet) -> bool:
    return version is not None and Version(version) in bounds


def main() -> int:
    requirements, target = Path(sys.argv[1]), Path(sys.argv[2]) / "ansible_collections"
    wanted = wanted_collections(requirements)
    missing = {
        name: bounds
        for name, bounds in wanted.items()
        if not fits(installed_version(target / name.replace(".", "/")), bounds)
    }
    if not missing:
        return 0
    # Beside the target, so that moving a collection in place is a rename.
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=target.parent) as scratch:
        uv = Path(sys.executable).with_name("uv")
        subprocess.run(
            [uv, "pip", "install", "--python", sys.executable, "--no-deps", "--target", scratch, BUNDLE], check=True
        )
        for name, bounds in missing.items():
            source = Path(scratch, "ansible_collections", *name.split("."))
            version = installed_version(source)
            if not fits(version, bounds):
                print(f"{BUNDLE} has {name} {version}; {requirements} wants {bounds}.", file=sys.stderr)
                return 1
            folder = target / name.replace(".", "/")
            folder.parent.mkdir(exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(source, folder)
            print(f"{name} {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
