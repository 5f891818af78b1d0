# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
What the local cloud doesn't do, it says.

Services it answers: ec2, rds, s3, iam, sts, secretsmanager, ssm (parameters only), kms (keys that other services
name), logs (groups and streams, nothing is written to them by itself). Calls of any other service, and the calls of
these services listed below, would need an effect that isn't there; they get the error ``LocalCloudUnsupported``
(HTTP 501) in the service's own protocol.
"""

from __future__ import annotations

import re

from .wire import SERVICES, AwsError

CODE = "LocalCloudUnsupported"

#: service -> (pattern of operations, what is missing)
_REFUSED: dict[str, list[tuple[str, str]]] = {
    "ec2": [
        (r"(Allocate|Associate)Address", "public addresses"),
        (r"(Create|Delete)NatGateway", "NAT gateways (machines reach the network through their host)"),
        (r"(Create|Replace)NetworkAclEntry|CreateNetworkAcl", "network ACLs"),
        (r"Create(Vpn|CustomerGateway|TransitGateway|VpcPeering|CarrierGateway|LocalGateway|ClientVpn).*",
         "connections between networks"),
        (r"CreateVpcEndpoint.*", "VPC endpoints"),
        (r"CreateFleet|RequestSpot.*|CreateLaunchTemplate.*|PurchaseReserved.*|AllocateHosts", "fleets and spot"),
        (r"(Create|Copy|Register|Import)Image|ImportSnapshot", "images but Debian's"),
        (r"CreateVolume|AttachVolume|CreateSnapshots?|CopySnapshot|ModifyVolume", "volumes but the root device"),
        (r"AttachNetworkInterface|AssignPrivateIpAddresses|AssignIpv6Addresses|AssociateSubnetCidrBlock",
         "second addresses of a machine"),
        (r"CreateFlowLogs|CreateTrafficMirror.*", "traffic logs"),
        (r"GetConsole.*|SendDiagnosticInterrupt|GetPasswordData", "consoles"),
    ],
    "rds": [
        (r".*DBCluster.*|.*GlobalCluster.*|.*DBShardGroup.*", "DB clusters"),
        (r"CreateDBInstanceReadReplica|PromoteReadReplica|SwitchoverReadReplica", "read replicas"),
        (r"RestoreDBInstanceToPointInTime", "point-in-time restore: restore from a snapshot instead"),
        (r"RestoreDBInstanceFromS3|(Start|Cancel)ExportTask|CopyDBSnapshot|ModifyDBSnapshot.*",
         "snapshots but those made and restored in place"),
        (r".*DBProxy.*|.*BlueGreen.*|.*Integration.*|.*TenantDatabase.*", "proxies and blue/green deployments"),
        (r"(Create|Modify|Copy)OptionGroup", "option groups (PostgreSQL has no options)"),
        (r".*DBSecurityGroup.*", "EC2-Classic security groups"),
        (r"AddRoleToDBInstance", "roles of databases"),
        (r"DownloadDBLogFilePortion|DescribeDBLogFiles", "log files"),
    ],
    "ssm": [
        (r"(?!.*Parameter|.*Tags).*", "Systems Manager beyond its parameters"),
    ],
    "iam": [
        (r".*SAML.*|.*OpenIDConnect.*|.*MFADevice.*|.*SSHPublicKey.*|.*ServiceLinkedRole.*", "federation and MFA"),
    ],
    "sts": [
        (r"(?!GetCallerIdentity$|AssumeRole$|GetAccessKeyInfo$).*", "federation"),
    ],
    "s3": [
        (r"PutBucketReplication|PutBucketNotification.*|PutBucketAccelerate.*|PutBucketWebsite|PutBucketLogging|"
         r"PutBucketInventory.*|PutBucketAnalytics.*|PutBucketMetrics.*|PutBucketIntelligent.*|SelectObjectContent|"
         r"RestoreObject|.*Torrent|WriteGetObjectResponse|.*BucketMetadata.*", "this part of S3"),
    ],
    "secretsmanager": [
        (r"RotateSecret|ReplicateSecretToRegions|PutResourcePolicy", "rotation by Lambda, replicas and resource "
         "policies"),
    ],
}


def check_service(service: str) -> None:
    if service not in SERVICES:
        raise AwsError(
            CODE,
            f"The local cloud doesn't have the service {service!r}. It has: {', '.join(sorted(SERVICES))}.",
            501,
        )


def check_operation(service: str, operation: str) -> None:
    for pattern, what in _REFUSED.get(service, []):
        if re.fullmatch(pattern, operation):
            if service == "rds" and operation.startswith("Describe") and "Log" not in operation:
                return
            raise AwsError(CODE, f"{operation}: the local cloud doesn't have {what}.", 501)


def not_implemented(service: str, operation: str) -> AwsError:
    """What moto itself doesn't have."""
    return AwsError(CODE, f"The local cloud doesn't have {service}:{operation}.", 501)
