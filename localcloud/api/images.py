# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The machine images of the local cloud: Debian's own names and owner, and no others."""

from __future__ import annotations

from typing import Any

from moto.core.parse import default_timestamp_parser
from moto.ec2.models import amis

#: Owner of Debian's official images on AWS.
DEBIAN = "136693071363"
ROOT_DEVICE = "/dev/xvda"
ROOT_GIB = 8

#: AMI id -> name of the image that the parts boot.
IMAGES = {
    "ami-0de6131300000001": "debian-13",
    "ami-0de6121200000001": "debian-12",
}

_DEFINITIONS = [
    ("ami-0de6131300000001", "debian-13-amd64-20260901-2225", "Debian 13 (20260901-2225)", "2026-09-01T00:00:00.000Z"),
    ("ami-0de6121200000001", "debian-12-amd64-20260901-2225", "Debian 12 (20260901-2225)", "2026-09-01T00:00:00.000Z"),
]


def _load(self: Any) -> None:
    for ami_id, name, description, created in _DEFINITIONS:
        self.amis[ami_id] = amis.Ami(
            self,
            ami_id,
            name=name,
            description=description,
            owner_id=DEBIAN,
            owner_alias=None,
            public=True,
            virtualization_type="hvm",
            architecture="x86_64",
            creation_date=default_timestamp_parser(created),
            image_location=f"{DEBIAN}/{name}",
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name=ROOT_DEVICE,
            region_name=f"{self.region_name}a",
            boot_mode="uefi-preferred",
        )


def _mappings(self: Any) -> list[dict[str, Any]]:
    return [
        {
            "DeviceName": self.root_device_name,
            "Ebs": {
                "SnapshotId": self.ebs_snapshot.id,
                "VolumeSize": ROOT_GIB,
                "DeleteOnTermination": True,
                "VolumeType": "gp3",
                "Encrypted": False,
            },
        }
    ]


def install() -> None:
    amis.AmiBackend._load_amis = _load  # type: ignore[method-assign]
    amis.Ami.block_device_mappings = property(_mappings)  # type: ignore[assignment,method-assign]
