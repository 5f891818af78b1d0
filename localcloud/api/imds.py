# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Instance metadata at 169.254.169.254, answered by the caller's private address.

Reference: "Use the Instance Metadata Service to access instance metadata" and "Instance metadata categories" (EC2
User Guide).
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from moto.iam.models import iam_backends

from . import ec2
from .identity import ACCOUNT, PARTITION, Identities

_MAX_TTL = 21600
_TEXT = "text/plain"


class Metadata:
    """The WSGI application of the metadata service."""

    def __init__(self, lock: Any, identities: Identities, commit: Callable[[], None]):
        self._lock = lock
        self._identities = identities
        self._commit = commit
        self._tokens: dict[str, tuple[str, float]] = {}  # token -> (instance, end); they don't outlive this process
        self._tokens_lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with self._lock:
            status, kind, body, headers, changed = self._answer(environ)
        if changed:
            self._commit()
        start_response(
            status,
            [("Content-Type", kind), ("Content-Length", str(len(body))), ("Server", "EC2ws"), *headers],
        )
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[str, str, bytes, list[tuple[str, str]], bool]:
        def say(status: str, text: str = "", kind: str = _TEXT, headers: Any = (), changed: bool = False) -> Any:
            return status, kind, text.encode(), list(headers), changed

        found = self._caller(environ.get("REMOTE_ADDR", ""))
        if found is None:
            return say("404 Not Found")
        region, backend, instance = found
        if instance.metadata_options.http_endpoint == "disabled":
            return say("403 Forbidden")
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/latest/api/token":
            return self._new_token(environ, instance, say)
        if method not in ("GET", "HEAD"):
            return say("405 Method Not Allowed")
        token = environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN")
        if token is not None:
            owner, end = self._tokens.get(token, ("", 0.0))
            if owner != instance.id or end < time.monotonic():
                return say("401 Unauthorized")
        elif instance.metadata_options.http_tokens == "required":
            return say("401 Unauthorized")
        parts = [p for p in path.split("/") if p]
        if not parts or parts[0] not in ("latest", "2021-07-15", "2016-09-02", "2009-04-04", "1.0"):
            return say("200 OK", "latest") if not parts else say("404 Not Found")
        changed = [False]
        tree = self._tree(region, backend, instance, changed)
        node: Any = tree
        for part in parts[1:]:
            node = node.get(part) if isinstance(node, dict) else None
        if callable(node):
            node = node()
        if node is None:
            return say("404 Not Found")
        if isinstance(node, bytes):
            return "200 OK", "application/octet-stream", node, [], changed[0]
        if isinstance(node, dict):
            if parts[1:] == ["meta-data", "public-keys"]:
                return say("200 OK", f"0={instance.key_name}")
            lines = [k + "/" if isinstance(v, dict) else k for k, v in sorted(node.items()) if v is not None]
            return say("200 OK", "\n".join(lines))
        return say("200 OK", node, changed=changed[0])

    def _caller(self, address: str) -> Any:
        for region, backend in ec2.backends():
            for instance in backend.all_instances():
                if instance.state != "terminated" and instance.nics[0].private_ip_address == address:
                    return region, backend, instance
        return None

    def _new_token(self, environ: dict[str, Any], instance: Any, say: Any) -> Any:
        if environ["REQUEST_METHOD"] != "PUT":
            return say("405 Method Not Allowed", headers=[("Allow", "OPTIONS, PUT")])
        if environ.get("HTTP_X_FORWARDED_FOR"):
            return say("403 Forbidden")
        try:
            ttl = int(environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN_TTL_SECONDS", ""))
        except ValueError:
            return say("400 Bad Request")
        if not 1 <= ttl <= _MAX_TTL:
            return say("400 Bad Request")
        token = secrets.token_urlsafe(40) + "=="
        now = time.monotonic()
        with self._tokens_lock:
            for old in [t for t, (_, end) in self._tokens.items() if end < now]:
                del self._tokens[old]
            self._tokens[token] = (instance.id, now + ttl)
        return say("200 OK", token, headers=[("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", str(ttl))])

    def _tree(self, region: str, backend: Any, instance: Any, changed: list[bool]) -> dict[str, Any]:
        nic = instance.nics[0]
        zone = instance.placement.zone
        key = backend.key_pairs.get(instance.key_name)
        public_key = key.public_key.strip() if key else getattr(instance, "lc_public_key", "")
        groups = "\n".join(sorted(g.name for g in instance.security_groups))
        profile, role = self._profile(backend, instance)
        meta: dict[str, Any] = {
            "ami-id": instance.image_id,
            "ami-launch-index": str(instance.ami_launch_index),
            "hostname": instance.private_dns_name,
            "instance-action": "none",
            "instance-id": instance.id,
            "instance-life-cycle": "on-demand",
            "instance-type": instance.instance_type,
            "local-hostname": instance.private_dns_name,
            "local-ipv4": nic.private_ip_address,
            "mac": nic.mac_address,
            "security-groups": groups,
            "placement": {
                "availability-zone": zone,
                "availability-zone-id": nic.subnet.availability_zone_id,
                "region": region,
            },
            "services": {"domain": "amazonaws.com", "partition": "aws"},
            "network": {
                "interfaces": {
                    "macs": {
                        nic.mac_address: {
                            "device-number": "0",
                            "interface-id": nic.id,
                            "local-hostname": instance.private_dns_name,
                            "local-ipv4s": nic.private_ip_address,
                            "mac": nic.mac_address,
                            "owner-id": ACCOUNT,
                            "security-groups": groups,
                            "security-group-ids": "\n".join(sorted(g.id for g in instance.security_groups)),
                            "subnet-id": nic.subnet.id,
                            "subnet-ipv4-cidr-block": nic.subnet.cidr_block,
                            "vpc-id": nic.subnet.vpc_id,
                            "vpc-ipv4-cidr-block": backend.get_vpc(nic.subnet.vpc_id).cidr_block,
                        }
                    }
                }
            },
        }
        if public_key:
            meta["public-keys"] = {"0": {"openssh-key": public_key}}
        if profile is not None:
            meta["iam"] = {
                "info": json.dumps(
                    {
                        "Code": "Success",
                        "LastUpdated": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                        "InstanceProfileArn": profile.arn,
                        "InstanceProfileId": profile.id,
                    }
                ),
            }
            if role is not None:
                meta["iam"]["security-credentials"] = {
                    role.name: lambda: self._credentials(role, instance, changed),
                }
        if instance.metadata_options.instance_metadata_tags == "enabled":
            meta["tags"] = {"instance": ec2.tags_of(instance)}
        document = {
            "accountId": ACCOUNT,
            "architecture": instance.architecture,
            "availabilityZone": zone,
            "imageId": instance.image_id,
            "instanceId": instance.id,
            "instanceType": instance.instance_type,
            "pendingTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "privateIp": nic.private_ip_address,
            "region": region,
            "version": "2017-09-30",
        }
        return {
            "dynamic": {"instance-identity": {"document": json.dumps(document, indent=2)}},
            "meta-data": meta,
            "user-data": ec2.user_data(instance) or None,
        }

    def _profile(self, backend: Any, instance: Any) -> tuple[Any, Any]:
        association = backend.iam_instance_profile_associations.get(instance.id)
        if association is None:
            return None, None
        # The profile as it is now: its role may have come later.
        for profile in iam_backends[ACCOUNT][PARTITION].instance_profiles.values():
            if profile.arn == association.iam_instance_profile.arn:
                return profile, profile.roles[0] if profile.roles else None
        return None, None

    def _credentials(self, role: Any, instance: Any, changed: list[bool]) -> str | None:
        credentials, new = self._identities.instance_credentials(role, instance.id)
        changed[0] = changed[0] or new
        if credentials is None:
            return json.dumps({"Code": "AssumeRoleUnauthorizedAccess",
                               "Message": "EC2 cannot assume the role. Please see documentation."})
        return json.dumps(credentials, indent=2)
