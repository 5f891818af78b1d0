# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
RDS as AWS documents it: where moto differs, and where a call now waits for the real parts.

Differences from AWS that stay: Multi-AZ is an attribute only, nothing is redundant; no automated backups and no
point-in-time restore; a change that isn't applied at once stays pending until a call with ApplyImmediately, for
there is no maintenance window; storage size, type and throughput are attributes only; the minor version is an attribute
only; a database's name is unique in the whole cloud, not per region.
"""

from __future__ import annotations

import copy
import hashlib
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any

from moto.ec2.models import ec2_backends
from moto.logs.models import logs_backends
from moto.rds import models, responses
from moto.rds.models import rds_backends

from ..model import Database, Snapshot
from . import ec2, iam
from .identity import ACCOUNT
from .rds_catalogue import MAJORS, MINORS, PARAMETERS, allowed, class_memory
from .wire import AwsError, Call

#: Set at start: what makes endpoint names of two clouds differ.
cloud_id = ""

#: How long a database is "storage-optimization" after its storage has grown. On AWS these are hours.
storage_optimization_seconds = 120.0
_LINKED_ROLE = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"

#: ModifyDBInstance: what waits for the maintenance window unless ApplyImmediately is true. Response name -> attribute.
_DEFERRED = {
    "DBInstanceClass": "db_instance_class",
    "AllocatedStorage": "allocated_storage",
    "EngineVersion": "engine_version",
    "StorageType": "storage_type",
    "Iops": "iops",
    "StorageThroughput": "storage_throughput",
    "MultiAZ": "multi_az",
    "LicenseModel": "license_model",
}


def backends() -> Iterator[tuple[str, Any]]:
    for _, region, backend in list(rds_backends.iter_backends()):
        yield region, backend


def _database(region: str, identifier: str) -> Any:
    database = rds_backends[ACCOUNT][region].databases.get(identifier or "")
    if database is None:
        raise AwsError("DBInstanceNotFound", f"DBInstance {identifier} not found.", 404)
    return database


# -- checks before moto ----------------------------------------------------------------------------------------------


def _check_class(name: str) -> None:
    if class_memory(name) is None:
        raise AwsError("InvalidParameterValue", f"Invalid DB Instance class: {name}")


def _check_password(password: str) -> None:
    """CreateDBInstance, MasterUserPassword: printable ASCII but / ' \" @ and space, 8 to 128 characters."""
    if not 8 <= len(password) <= 128:
        raise AwsError(
            "InvalidParameterValue",
            "The parameter MasterUserPassword is not a valid password because it is "
            + ("shorter than 8 characters." if len(password) < 8 else "longer than 128 characters."),
        )
    if not re.fullmatch(r"[!-~]+", password) or set(password) & set("/@\" '"):
        raise AwsError(
            "InvalidParameterValue",
            "The parameter MasterUserPassword is not a valid password. "
            "Only printable ASCII characters besides '/', '@', '\"', ' ' may be used.",
        )


def _whole_version(version: str) -> str:
    """EngineVersion: a major version is its newest minor one."""
    return MINORS[version][-1] if version in MINORS else version


def _check_version(version: str) -> str:
    if version not in MAJORS and version not in MINORS.get(version.split(".")[0], ()):
        raise AwsError("InvalidParameterCombination", f"Cannot find version {version} for postgres")
    return version


def _check_upgrade(before: str, version: str) -> None:
    """ "Upgrading the PostgreSQL DB engine": there is no way back, from a minor version neither. """
    after = _whole_version(_check_version(version))
    if [int(part) for part in after.split(".")] < [int(part) for part in before.split(".")]:
        raise AwsError("InvalidParameterCombination", f"Cannot upgrade postgres from {before} to {version}")
    if after.split(".")[0] != before.split(".")[0]:
        raise AwsError("InvalidParameterCombination", "The local cloud has no upgrade to another major version.")


def _check_storage(size: int, params: dict[str, Any], kind: str, before: int = 0) -> None:
    """
    What RDS for PostgreSQL takes for storage of the type gp3, and how far it may grow.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Storage.html
    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PIOPS.Autoscaling.html
    """
    most = int(params.get("MaxAllocatedStorage") or 0)
    if most and most != size and most * 10 < size * 11:
        raise AwsError("InvalidParameterCombination", f"Max storage size must be at least 10% greater than the current storage "
                       f"size: {most}")
    if before and size != before and size * 10 < before * 11:
        raise AwsError("InvalidParameterCombination", f"The allocated storage must be increased by at least 10%, from {before} "
                       f"to {size} it is less.")
    if kind != "gp3":
        return
    for name, fewest in (("Iops", 12000), ("StorageThroughput", 500)):
        value = int(params.get(name) or 0)
        # Below 400 GiB what is there anyhow may be named.
        if value and size < 400 and value not in (3000, 125):
            raise AwsError("InvalidParameterCombination", f"You can't specify {name} for engine postgres and a storage size less "
                           "than 400.")
        if value and size >= 400 and value < fewest:
            raise AwsError("InvalidParameterCombination", f"{name} must be at least {fewest} for a storage of 400 GiB and more: "
                           f"{value}")


def _refuse_common(params: dict[str, Any]) -> None:
    for name, why in (
        ("ManageMasterUserPassword", "passwords that RDS keeps in Secrets Manager itself"),
        ("EnableIAMDatabaseAuthentication", "IAM database authentication"),
        ("PubliclyAccessible", "public addresses"),
        ("Domain", "directories"),
        ("EnablePerformanceInsights", "Performance Insights"),
    ):
        value = params.get(name)
        if value is True or (isinstance(value, str) and value.lower() not in ("", "false")):
            raise AwsError("InvalidParameterCombination", f"{name} is set, and the local cloud has no {why}.")


def check_create(call: Call) -> None:
    params = call.params
    if params.get("DBClusterIdentifier"):
        raise AwsError("InvalidParameterCombination", "The local cloud has no DB clusters.")
    engine = params.get("Engine", "")
    if engine != "postgres":
        raise AwsError(
            "InvalidParameterCombination", f"The local cloud has the engine postgres only; {engine} can't be had."
        )
    _check_version(params.get("EngineVersion") or MAJORS[0])
    _check_class(params.get("DBInstanceClass", ""))
    _refuse_common(params)
    name = params.get("MasterUsername") or ""
    if not name:
        raise AwsError("InvalidParameterValue", "The parameter MasterUsername must be provided and must not be blank.")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name) or name.lower() in (
        "admin", "postgres", "rdsadmin", "rds_superuser", "public") and name.lower() != "postgres":
        raise AwsError("InvalidParameterValue", f"MasterUsername {name} cannot be used as it is a reserved word used by "
                       "the engine")
    if not params.get("MasterUserPassword"):
        raise AwsError(
            "InvalidParameterValue", "The parameter MasterUserPassword must be provided and must not be blank."
        )
    _check_password(params["MasterUserPassword"])
    dbname = params.get("DBName")
    if dbname and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", dbname):
        raise AwsError("InvalidParameterValue", "DBName must begin with a letter and contain only alphanumeric "
                       "characters.")
    size = params.get("AllocatedStorage")
    if size is not None and int(size) < 20:
        raise AwsError("InvalidParameterCombination", "Invalid storage size for engine name postgres and storage type "
                       f"gp3: {size}")
    _check_storage(int(size or 20), params, params.get("StorageType") or "gp3")
    _check_identifier(call)
    _check_network(call)
    _check_parameter_group(call.region, params.get("DBParameterGroupName"), params.get("EngineVersion") or MAJORS[0])
    _check_linked_role(call)


def _check_linked_role(call: Call) -> None:
    """
    The first database of an account has RDS make its service-linked role, in the name of the caller.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAM.ServiceLinkedRoles.html
    """
    backend = rds_backends[ACCOUNT]["us-east-1"]
    if getattr(backend, "lc_linked_role", False) or any(found.databases for _, found in backends()):
        return
    if not iam.may(call.principal, "iam:CreateServiceLinkedRole", _LINKED_ROLE):
        raise AwsError("InvalidParameterValue", "Unable to create the resource. Verify that you have permission to create "
                       "service linked role. Otherwise wait and try again later")
    backend.lc_linked_role = True


def _check_identifier(call: Call) -> None:
    """One name, one set of real parts: the parts don't tell regions apart."""
    name = call.params.get("DBInstanceIdentifier", "")
    for region, backend in backends():
        if region != call.region and name in backend.databases:
            raise AwsError(
                "DBInstanceAlreadyExists",
                f"The local cloud has a database {name} in {region}, and a name can be used in one region only.",
            )


def _check_network(call: Call) -> None:
    backend = ec2_backends[ACCOUNT][call.region]
    vpc_id = backend.default_vpc.id
    group = call.params.get("DBSubnetGroupName")
    if group:
        groups = rds_backends[ACCOUNT][call.region].subnet_groups
        if group not in groups:
            raise AwsError("DBSubnetGroupNotFoundFault", f"DBSubnetGroup '{group}' not found.", 404)
        vpc_id = groups[group].vpc_id
    for group_id in call.params.get("VpcSecurityGroupIds", []):
        _check_security_group(backend, group_id, vpc_id)
    ec2.refuse_overlap(call.region, vpc_id)


def _check_security_group(backend: Any, group_id: str, vpc_id: str) -> None:
    found = backend.get_security_group_from_id(group_id)
    if found is None:
        raise AwsError("InvalidParameterValue", f"Invalid security group , groupId= {group_id}, groupName=.")
    if found.vpc_id != vpc_id:
        raise AwsError(
            "InvalidParameterCombination",
            f"The DB instance and EC2 security group are in different VPCs. The DB instance is in {vpc_id} and the EC2 "
            f"security group is in {found.vpc_id}",
        )


def _check_parameter_group(region: str, name: str | None, version: str) -> None:
    if not name or name.startswith("default.postgres"):
        return
    group = rds_backends[ACCOUNT][region].db_parameter_groups.get(name)
    if group is None:
        raise AwsError("DBParameterGroupNotFound", f"DBParameterGroup not found: {name}", 404)
    family = f"postgres{version.split('.')[0]}"
    if group.family != family:
        raise AwsError(
            "InvalidParameterCombination",
            f"The parameter group {name} with DBParameterGroupFamily {group.family} can't be used for this instance. "
            f"Please use a parameter group with DBParameterGroupFamily {family}",
        )


def _check_state(database: Any, *states: str) -> None:
    if database.status not in states:
        raise AwsError(
            "InvalidDBInstanceState",
            f"Database instance {database.db_instance_identifier} is not in {' or '.join(states)} state: it is "
            f"{database.status}.",
        )


def check_modify(call: Call) -> None:
    params = call.params
    database = _database(call.region, params.get("DBInstanceIdentifier", ""))
    # "Stopping an Amazon RDS DB instance temporarily", limitations: a stopped DB instance can't be modified.
    _check_state(database, "available", "modifying", "storage-optimization")
    _refuse_common(params)
    if params.get("DBInstanceClass"):
        _check_class(params["DBInstanceClass"])
    if params.get("MasterUserPassword"):
        _check_password(params["MasterUserPassword"])
    if params.get("EngineVersion"):
        _check_upgrade(database.engine_version, params["EngineVersion"])
    if params.get("NewDBInstanceIdentifier"):
        raise AwsError("InvalidParameterCombination", "The local cloud can't rename databases.")
    if params.get("DBPortNumber") and int(params["DBPortNumber"]) != database.port:
        raise AwsError("InvalidParameterCombination", "The local cloud can't change a database's port.")
    group = params.get("DBSubnetGroupName")
    if group and group.lower() != getattr(database.db_subnet_group, "name", None):
        raise AwsError("InvalidVPCNetworkStateFault", "The local cloud can't move a database to other subnets.")
    size = params.get("AllocatedStorage")
    if size is not None and int(size) < database.allocated_storage:
        raise AwsError("InvalidParameterCombination", "Requested storage size can't be less than the current size.")
    before = int(database.allocated_storage)
    if size is not None and int(size) != before and database.status == "storage-optimization":
        raise AwsError("InvalidParameterCombination", "You can't currently modify the storage of this DB instance because the "
                       "previous storage change is being optimized.")
    _check_storage(int(size or before), params, params.get("StorageType") or database.storage_type, before)
    _check_parameter_group(call.region, params.get("DBParameterGroupName"), database.engine_version)
    backend = ec2_backends[ACCOUNT][call.region]
    for group_id in params.get("VpcSecurityGroupIds", []):
        _check_security_group(backend, group_id, backend.enis[database.lc["eni"]].vpc_id)


def check_delete(call: Call) -> None:
    """DeleteDBInstance: a final snapshot, or the word that none is wanted; never both, never neither."""
    params = call.params
    database = _database(call.region, params.get("DBInstanceIdentifier", ""))
    if database.status == "deleting":
        raise AwsError("InvalidDBInstanceState", f"Instance {database.db_instance_identifier} is already being deleted.")
    skip, final = params.get("SkipFinalSnapshot", False), params.get("FinalDBSnapshotIdentifier")
    if skip and final:
        raise AwsError(
            "InvalidParameterCombination", "FinalDBSnapshotIdentifier can not be specified when deleting with "
            "SkipFinalSnapshot")
    if not skip and not final:
        raise AwsError(
            "InvalidParameterCombination", "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is "
            "specified.")
    if final and database.status not in ("available", "modifying", "storage-optimization"):
        raise AwsError("InvalidDBInstanceState", f"A final snapshot needs a running database, and "
                       f"{database.db_instance_identifier} is {database.status}.")


def check_snapshot(call: Call) -> None:
    _check_state(_database(call.region, call.params.get("DBInstanceIdentifier", "")), "available", "storage-optimization")


def check_reboot(call: Call) -> None:
    _check_state(_database(call.region, call.params.get("DBInstanceIdentifier", "")), "available", "storage-optimization")


def _is_optimizing(database: Any) -> bool:
    """ "Increasing DB instance storage capacity": usable, but not available, until its storage is optimized. """
    return database.lc.get("optimizing_until", 0) > time.time()


def end_optimizing(call: Call) -> None:
    for _, backend in backends():
        for database in backend.databases.values():
            if database.status == "storage-optimization" and not _is_optimizing(database):
                database.status = "available"


def check_restore(call: Call) -> None:
    params = call.params
    snapshot = rds_backends[ACCOUNT][call.region].database_snapshots.get(params.get("DBSnapshotIdentifier", ""))
    if snapshot is None:
        raise AwsError("DBSnapshotNotFound", f"DBSnapshot {params.get('DBSnapshotIdentifier')} not found.", 404)
    if snapshot.status != "available":
        raise AwsError("InvalidDBSnapshotState", f"DBSnapshot {snapshot.db_snapshot_identifier} is {snapshot.status}.")
    if params.get("DBInstanceClass"):
        _check_class(params["DBInstanceClass"])
    if params.get("Engine") not in (None, "postgres"):
        raise AwsError("InvalidParameterCombination", "The local cloud has the engine postgres only.")
    _refuse_common(params)
    _check_parameter_group(call.region, params.get("DBParameterGroupName"), snapshot.engine_version)
    _check_identifier(call)
    _check_network(call)


def check_subnet_group(call: Call) -> None:
    """CreateDBSubnetGroup: subnets of one VPC in at least two zones, and a name that is free."""
    params = call.params
    groups = rds_backends[ACCOUNT][call.region].subnet_groups
    name = params.get("DBSubnetGroupName", "")
    if call.operation == "CreateDBSubnetGroup" and name in groups:
        raise AwsError("DBSubnetGroupAlreadyExists", f"The DB subnet group '{name}' already exists.")
    if call.operation == "ModifyDBSubnetGroup" and name not in groups:
        raise AwsError("DBSubnetGroupNotFoundFault", f"DB subnet group '{name}' not found.", 404)
    backend = ec2_backends[ACCOUNT][call.region]
    known = {s.id: s for s in backend.describe_subnets()}
    wanted = params.get("SubnetIds", [])
    missing = [s for s in wanted if s not in known]
    if missing:
        raise AwsError("InvalidSubnet", f"The requested subnet is invalid, or multiple subnets were requested that are "
                       f"not all in a common VPC: {', '.join(missing)}")
    if len({known[s].vpc_id for s in wanted}) > 1:
        raise AwsError("InvalidSubnet", "The subnets are not all in a common VPC.")
    if len({known[s].availability_zone for s in wanted}) < 2:
        raise AwsError(
            "DBSubnetGroupDoesNotCoverEnoughAZs",
            "The DB subnet group doesn't meet Availability Zone (AZ) coverage requirement. "
            "Add subnets to cover at least 2 AZs.",
        )


def check_delete_subnet_group(call: Call) -> None:
    name = call.params.get("DBSubnetGroupName", "").lower()
    for database in rds_backends[ACCOUNT][call.region].databases.values():
        if getattr(database.db_subnet_group, "name", None) == name:
            raise AwsError(
                "InvalidDBSubnetGroupStateFault",
                f"Cannot delete the subnet group '{name}' because at least one database instance: "
                f"{database.db_instance_identifier} is still using it.",
            )


def check_delete_parameter_group(call: Call) -> None:
    name = call.params.get("DBParameterGroupName", "").lower()
    if name.startswith("default."):
        raise AwsError("InvalidDBParameterGroupState", "Default DBParameterGroup cannot be deleted.")
    for database in rds_backends[ACCOUNT][call.region].databases.values():
        if (database.db_parameter_group_name or "").lower() == name:
            raise AwsError("InvalidDBParameterGroupState", "One or more database instances are still members of this "
                           f"parameter group {name}, so the group cannot be deleted")


def check_parameter_group(call: Call) -> None:
    family = call.params.get("DBParameterGroupFamily", "")
    if family not in [f"postgres{m}" for m in MAJORS]:
        raise AwsError("InvalidParameterValue", f"ParameterGroupFamily {family} is not a valid parameter group family")


def check_parameters(call: Call) -> None:
    """ModifyDBParameterGroup: known names, values in range, and no immediate change of a static parameter."""
    name = call.params.get("DBParameterGroupName", "")
    if name.lower().startswith("default."):
        raise AwsError("InvalidDBParameterGroupState", "Default DBParameterGroup cannot be modified.")
    for parameter in call.params.get("Parameters", []):
        key, value = parameter.get("ParameterName", ""), parameter.get("ParameterValue", "")
        if key not in PARAMETERS:
            raise AwsError("InvalidParameterValue", f"Could not find parameter with name: {key}")
        if not allowed(key, value):
            raise AwsError("InvalidParameterValue", f"Invalid parameter value: {value} for: {key} allowed values are: "
                           f"{PARAMETERS[key][3]}")
        if PARAMETERS[key][0] == "static" and parameter.get("ApplyMethod") == "immediate":
            raise AwsError("InvalidParameterCombination", f"cannot use immediate apply method for static parameter: "
                           f"{key}")


CHECKS = {
    "DescribeDBInstances": end_optimizing,
    "CreateDBInstance": check_create,
    "ModifyDBInstance": check_modify,
    "DeleteDBInstance": check_delete,
    "CreateDBSnapshot": check_snapshot,
    "StopDBInstance": check_reboot,
    "RebootDBInstance": check_reboot,
    "RestoreDBInstanceFromDBSnapshot": check_restore,
    "CreateDBSubnetGroup": check_subnet_group,
    "ModifyDBSubnetGroup": check_subnet_group,
    "DeleteDBSubnetGroup": check_delete_subnet_group,
    "DeleteDBParameterGroup": check_delete_parameter_group,
    "CreateDBParameterGroup": check_parameter_group,
    "ModifyDBParameterGroup": check_parameters,
}


# -- moto corrected --------------------------------------------------------------------------------------------------


def _user_parameters(database: Any) -> dict[str, str]:
    """What the user has set in the database's parameter group."""
    name = database.db_parameter_group_name
    group = database.backend.db_parameter_groups.get(name) if name else None
    if group is None:
        return {}
    return {k: v["ParameterValue"] for k, v in group.parameters.items() if "ParameterValue" in v}


def _subnets(database: Any, ec2_backend: Any) -> list[Any]:
    group = getattr(database, "db_subnet_group", None)
    if group is not None:
        return list(group._subnets)
    return [s for _, s in sorted(ec2_backend.get_default_subnets().items())]


def _baseline(gib: int) -> tuple[int, int]:
    """ "Amazon RDS DB instance storage": IOPS and MiB/s that gp3 has by itself. """
    return (3000, 125) if gib < 400 else (12000, 500)


_create = models.RDSBackend.create_db_instance


def _create_db_instance(self: Any, db_kwargs: Any) -> Any:
    source = db_kwargs.get("lc_source", "")
    kwargs = {k: v for k, v in db_kwargs.items() if k != "lc_source"}
    kwargs["engine_version"] = _whole_version(kwargs.get("engine_version") or MAJORS[0])
    kwargs["publicly_accessible"] = False
    if kwargs.get("license_model") in (None, "general-public-license"):
        kwargs["license_model"] = "postgresql-license"
    if not kwargs.get("ca_certificate_identifier"):
        kwargs["ca_certificate_identifier"] = "rds-ca-rsa2048-g1"
    if kwargs.get("storage_encrypted") and not kwargs.get("kms_key_id"):
        kwargs["kms_key_id"] = f"arn:aws:kms:{self.region_name}:{ACCOUNT}:key/{_key_uuid(self.region_name)}"
    kwargs.setdefault("backup_retention_period", 1)
    kwargs["storage_type"] = kwargs.get("storage_type") or "gp3"
    if kwargs["storage_type"] == "gp3":
        iops, throughput = _baseline(int(kwargs.get("allocated_storage") or 20))
        kwargs["iops"] = kwargs.get("iops") or iops
        kwargs["storage_throughput"] = kwargs.get("storage_throughput") or throughput
    database = _create(self, kwargs)
    ec2_backend = ec2_backends[ACCOUNT][self.region_name]
    subnets = _subnets(database, ec2_backend)
    zone = kwargs.get("availability_zone")
    subnet = next((s for s in subnets if s.availability_zone == zone), subnets[0])
    try:
        eni = ec2_backend.create_network_interface(
            subnet, None, group_ids=list(database.vpc_security_group_ids), description="RDSNetworkInterface"
        )
    except BaseException:
        self.databases.pop(database.db_instance_identifier, None)
        raise
    _log_groups(self, database)
    eni.requester_managed = True
    eni.status = "in-use"
    database.availability_zone = subnet.availability_zone
    database.dbi_resource_id = "db-" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(26))
    database.status = "creating"
    database.pending_modified_values = {}
    if not hasattr(database, "db_subnet_group"):
        database.db_subnet_group = None
    database.lc = {
        "changes": 0,
        "reboots": 0,
        "eni": eni.id,
        "source": source,
        "class": database.db_instance_class,
        "parameters": _user_parameters(database),
        "applying": {},
        "reason": "",
    }
    return database


def _log_groups(self: Any, database: Any) -> None:
    """ "Publishing PostgreSQL logs to Amazon CloudWatch Logs": RDS makes the groups, without an end, and leaves them. """
    logs = logs_backends[ACCOUNT][self.region_name]
    for kind in database.enabled_cloudwatch_logs_exports or []:
        name = f"/aws/rds/instance/{database.db_instance_identifier}/{kind}"
        if name not in logs.groups:
            logs.create_log_group(name, {})


def _key_uuid(region: str) -> str:
    text = hashlib.sha256(f"{cloud_id} aws/rds {region}".encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"


def _change(database: Any, status: str) -> None:
    database.lc["changes"] += 1
    if database.status != "stopped":
        database.status = status


_modify = models.RDSBackend.modify_db_instance


def _modify_db_instance(self: Any, db_instance_identifier: str, db_kwargs: Any) -> Any:
    database = self.describe_db_instances(db_instance_identifier)[0]
    kwargs = {k: v for k, v in db_kwargs.items() if v is not None}
    immediately = bool(kwargs.pop("apply_immediately", False))
    if kwargs.get("engine_version"):
        kwargs["engine_version"] = _whole_version(kwargs["engine_version"])
    size = kwargs.get("allocated_storage")
    if size and database.storage_type == "gp3":
        iops, throughput = _baseline(int(size))
        kwargs["iops"] = kwargs.get("iops") or max(iops, database.iops or 0)
        kwargs["storage_throughput"] = kwargs.get("storage_throughput") or max(throughput, database.storage_throughput or 0)
    wanted = {}
    for public, name in _DEFERRED.items():
        value = kwargs.pop(name, None)
        if value is not None and value != getattr(database, name):
            wanted[public] = value
        elif value is not None:
            database.pending_modified_values.pop(public, None)
    password = kwargs.pop("master_user_password", None)
    group_before = database.db_parameter_group_name
    for name in ("publicly_accessible", "db_subnet_group_name", "db_port_number", "allow_major_version_upgrade",
                 "manage_master_user_password"):
        kwargs.pop(name, None)
    _modify(self, db_instance_identifier, kwargs)
    _log_groups(self, database)
    if "vpc_security_group_ids" in kwargs:
        eni_groups(database)
    database.pending_modified_values.update(wanted)
    changed = False
    if password is not None:
        database.master_user_password = password
        database.pending_modified_values["MasterUserPassword"] = "****"
        database.lc["applying"]["MasterUserPassword"] = None
        changed = True
    if immediately and database.pending_modified_values:
        now = {k: v for k, v in database.pending_modified_values.items() if k in _DEFERRED}
        database.lc["applying"].update(now)
        if "DBInstanceClass" in now:
            database.lc["class"] = now["DBInstanceClass"]
        changed = changed or bool(now)
    if changed or database.db_parameter_group_name != group_before:
        _change(database, "modifying")
    return database


def eni_groups(database: Any) -> None:
    """The database's interface has the database's security groups."""
    backend = ec2_backends[ACCOUNT][database.region]
    eni = backend.enis.get(database.lc["eni"])
    if eni is not None:
        eni._group_set = [backend.get_security_group_from_id(g) for g in database.vpc_security_group_ids]


def _reboot(self: Any, db_instance_identifier: str) -> Any:
    database = self.describe_db_instances(db_instance_identifier)[0]
    database.lc["reboots"] += 1
    # "Working with parameter groups": a reboot applies a newly associated group and static parameters.
    database.lc["parameters"] = _user_parameters(database)
    _change(database, "rebooting")
    return database


def _stop(self: Any, db_instance_identifier: str, db_snapshot_identifier: str | None = None) -> Any:
    if db_snapshot_identifier:
        raise AwsError("InvalidParameterCombination", "The local cloud makes no snapshot when it stops a database; call "
                       "CreateDBSnapshot first.")
    database = self.describe_db_instances(db_instance_identifier)[0]
    _check_state(database, "available")
    _change(database, "stopping")
    return database


def _start(self: Any, db_instance_identifier: str) -> Any:
    database = self.describe_db_instances(db_instance_identifier)[0]
    _check_state(database, "stopped")
    database.lc["changes"] += 1
    database.lc["parameters"] = _user_parameters(database)
    database.status = "starting"
    return database


def _delete_db_instance(self: Any, db_instance_identifier: str, final_db_snapshot_identifier: str | None = None,
                        skip_final_snapshot: bool | None = False, delete_automated_backups: bool | None = True) -> Any:
    database = self.describe_db_instances(db_instance_identifier)[0]
    if database.deletion_protection:
        raise AwsError("InvalidParameterCombination", "Cannot delete protected DB Instance, please disable deletion "
                       "protection and try again.")
    if final_db_snapshot_identifier:
        self.create_db_snapshot(db_instance_identifier, final_db_snapshot_identifier)
    database.status = "deleting"
    return database


_create_snapshot = models.RDSBackend.create_db_snapshot


def _create_db_snapshot(self: Any, *args: Any, **kwargs: Any) -> Any:
    snapshot = _create_snapshot(self, *args, **kwargs)
    snapshot.database.lc = copy.deepcopy(snapshot.database.lc)
    snapshot.database.pending_modified_values = {}
    snapshot.status = "creating"
    snapshot.percent_progress = 0
    return snapshot


def _delete_db_snapshot(self: Any, db_snapshot_identifier: str) -> Any:
    snapshot = self.database_snapshots.get(db_snapshot_identifier)
    if snapshot is None:
        raise AwsError("DBSnapshotNotFound", f"DBSnapshot {db_snapshot_identifier} not found.", 404)
    if snapshot.status not in ("available", "failed"):
        raise AwsError("InvalidDBSnapshotState", f"DBSnapshot {db_snapshot_identifier} is {snapshot.status}.")
    snapshot.status = "deleting"
    return snapshot


_restore = models.RDSBackend.restore_db_instance_from_db_snapshot


def _restore_db_instance(self: Any, from_snapshot_id: str, overrides: Any) -> Any:
    snapshot = self.database_snapshots[from_snapshot_id.rsplit(":", 1)[-1]]
    overrides = dict(overrides.items())
    overrides["lc_source"] = snapshot.db_snapshot_identifier
    return _restore(self, snapshot.db_snapshot_identifier, overrides)


def _address(self: Any) -> str:
    digest = int(hashlib.sha256(f"{cloud_id} {self.region}".encode()).hexdigest(), 16)
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    label = "c" + "".join(alphabet[(digest >> (6 * i)) % 36] for i in range(11))
    return f"{self.db_instance_identifier}.{label}.{self.region}.rds.amazonaws.com"


def _endpoint(self: Any) -> dict[str, Any] | None:
    """DBInstance: "The endpoint might not be shown for instances with the status of creating"."""
    if self.status == "creating":
        return None
    return {"Address": self.address, "Port": self.port, "HostedZoneId": "Z2R2ITUGPM61AM"}


def _default_group(self: Any) -> tuple[str, str]:
    family = f"postgres{str(self.engine_version).split('.')[0]}"
    return family, f"default.{family}"


def _group_status(self: Any) -> Any:
    groups = self.db_parameter_groups()
    lc = getattr(self, "lc", None)
    status = "in-sync" if lc is None or lc["parameters"] == _user_parameters(self) else "pending-reboot"
    return [{"DBParameterGroupName": g.name, "ParameterApplyStatus": status} for g in groups]


_modify_parameters = models.RDSBackend.modify_db_parameter_group


def _modify_db_parameter_group(self: Any, db_parameter_group_name: str, db_parameter_group_parameters: Any) -> Any:
    parameters = [dict(p) for p in db_parameter_group_parameters]
    group = _modify_parameters(self, db_parameter_group_name, parameters)
    immediate = {
        p["ParameterName"]: p["ParameterValue"]
        for p in parameters
        if p.get("ApplyMethod") == "immediate" and "ParameterValue" in p
    }
    for database in self.databases.values():
        if (database.db_parameter_group_name or "").lower() == group.name and immediate:
            new = {k: v for k, v in immediate.items() if database.lc["parameters"].get(k) != v}
            if new and database.status != "deleting":
                database.lc["parameters"].update(new)
                database.lc["changes"] += 1
    return group


def _describe_groups(self: Any, db_parameter_group_kwargs: Any) -> list[Any]:
    """DescribeDBParameterGroups: DBParameterGroupNotFound for a name that isn't there."""
    name = db_parameter_group_kwargs.get("db_parameter_group_name")
    if not name:
        return list(self.db_parameter_groups.values())
    if name not in self.db_parameter_groups:
        if re.fullmatch(r"default\.postgres(17|15)", name.lower()):
            family = name.lower().removeprefix("default.")
            self.db_parameter_groups[name.lower()] = models.DBParameterGroup(
                self, name.lower(), f"Default parameter group for {family}", family, []
            )
        else:
            raise AwsError("DBParameterGroupNotFound", f"DBParameterGroup not found: {name}", 404)
    return [self.db_parameter_groups[name]]


def _describe_parameters(self: Any) -> Any:
    """DescribeDBParameters: all of the family's parameters, with the user's values in place."""
    name = self.params.get("DBParameterGroupName")
    group = self.backend.describe_db_parameter_groups({"db_parameter_group_name": name})[0]
    source = self.params.get("Source")
    out = []
    for key, (apply_type, kind, default, values) in PARAMETERS.items():
        mine = group.parameters.get(key, {})
        entry = {
            "ParameterName": key,
            "ParameterValue": mine.get("ParameterValue", default),
            "Description": key,
            "Source": "user" if "ParameterValue" in mine else "engine-default",
            "ApplyType": apply_type,
            "DataType": kind,
            "AllowedValues": values or None,
            "IsModifiable": True,
            "ApplyMethod": mine.get("ApplyMethod", "pending-reboot"),
        }
        if not source or source == entry["Source"]:
            out.append(entry)
    return responses.PaginatedResult({"Parameters": out})


def _reset_parameters(self: Any) -> Any:
    """ResetDBParameterGroup, which moto hasn't got."""
    group = self.backend.describe_db_parameter_groups(
        {"db_parameter_group_name": self.params.get("DBParameterGroupName")}
    )[0]
    if self.params.get("ResetAllParameters"):
        group.parameters.clear()
    for parameter in self.params.get("Parameters", []):
        group.parameters.pop(parameter.get("ParameterName"), None)
    return responses.ActionResult({"DBParameterGroupName": group.name})


def _modify_subnet_group(self: Any, subnet_name: str, description: str, subnets: list[Any]) -> Any:
    """ModifyDBSubnetGroup: moto takes the group out and never puts it back."""
    group = self.subnet_groups[subnet_name]
    group.subnets = subnets
    if description is not None:
        group.description = description
    return group


def _engine_versions(self: Any) -> Any:
    """DescribeDBEngineVersions, which moto hasn't got: the majors of the local cloud."""
    engine, version = self.params.get("Engine"), self.params.get("EngineVersion")
    versions = [
        {
            "Engine": "postgres",
            "MajorEngineVersion": m,
            "EngineVersion": _whole_version(m),
            "DBParameterGroupFamily": f"postgres{m}",
            "DBEngineDescription": "PostgreSQL",
            "DBEngineVersionDescription": f"PostgreSQL {_whole_version(m)}",
            "ValidUpgradeTarget": [],
            "Status": "available",
        }
        for m in MAJORS
        if engine in (None, "postgres") and (not version or version.split(".")[0] == m)
    ]
    if self.params.get("DefaultOnly"):
        versions = versions[:1]
    return responses.ActionResult({"DBEngineVersions": versions})


# -- reports of the parts --------------------------------------------------------------------------------------------


def find(identifier: str) -> Any:
    for _, backend in backends():
        if identifier in backend.databases:
            return backend.databases[identifier]
    return None


def report_database(identifier: str, status: str, changes: int | None, reason: str) -> bool:
    database = find(identifier)
    if database is None or database.status == "deleting":
        return False
    if changes is not None and changes < database.lc["changes"]:
        return False  # a newer change is under way
    if status == "available" and database.status in ("stopping",) and changes is None:
        return False
    before = (database.status, dict(database.pending_modified_values), database.lc["reason"])
    database.status = status
    database.lc["reason"] = reason
    if status in ("available", "stopped"):
        if database.lc["applying"].get("AllocatedStorage"):
            database.lc["optimizing_until"] = time.time() + storage_optimization_seconds
        for public, value in database.lc["applying"].items():
            database.pending_modified_values.pop(public, None)
            if value is not None:
                setattr(database, _DEFERRED[public], value)
        database.lc["applying"] = {}
    if status == "available" and _is_optimizing(database):
        database.status = "storage-optimization"
    return before != (database.status, database.pending_modified_values, reason)


def report_gone(identifier: str) -> bool:
    database = find(identifier)
    if database is None or database.status != "deleting":
        return False
    del database.backend.databases[identifier]
    backend = ec2_backends[ACCOUNT][database.region]
    eni = backend.enis.get(database.lc["eni"])
    if eni is not None:
        eni.delete()
    return True


def report_snapshot(identifier: str, status: str) -> bool:
    for _, backend in backends():
        snapshot = backend.database_snapshots.get(identifier)
        if snapshot is None:
            continue
        if status == "deleted":
            if snapshot.status == "deleting":
                del backend.database_snapshots[identifier]
                return True
            return False
        if snapshot.status != "creating":
            return False
        snapshot.status = status
        snapshot.percent_progress = 100 if status == "available" else 0
        return True
    return False


# -- what should be there --------------------------------------------------------------------------------------------


def desired_databases() -> tuple[Database, ...]:
    out = []
    for region, backend in backends():
        for d in backend.databases.values():
            eni = ec2_backends[ACCOUNT][region].enis[d.lc["eni"]]
            out.append(
                Database(
                    identifier=d.db_instance_identifier,
                    region=region,
                    status="available" if d.status == "storage-optimization" else d.status,
                    engine_version=d.engine_version,
                    endpoint=d.address,
                    private_ip=eni.private_ip_address,
                    port=int(d.port),
                    vpc_id=eni.vpc_id,
                    master_username=d.master_username,
                    master_password=d._master_user_password or "",
                    dbname=d.db_name or "",
                    parameters=dict(d.lc["parameters"]),
                    instance_class_memory=class_memory(d.lc["class"]) or 0,
                    security_group_ids=tuple(sorted(d.vpc_security_group_ids)),
                    restore_from_snapshot=d.lc["source"],
                    changes=d.lc["changes"],
                    reboots=d.lc["reboots"],
                )
            )
    return tuple(out)


def desired_snapshots() -> tuple[Snapshot, ...]:
    return tuple(
        Snapshot(s.db_snapshot_identifier, region, s.status, s.db_instance_identifier, s.engine_version)
        for region, backend in backends()
        for s in backend.database_snapshots.values()
    )


def install(cloud: str) -> None:
    """Put the corrections in moto's place."""
    global cloud_id
    cloud_id = cloud
    backend, instance, response = models.RDSBackend, models.DBInstance, responses.RDSResponse
    for name, function in {
        "create_db_instance": _create_db_instance,
        "modify_db_instance": _modify_db_instance,
        "reboot_db_instance": _reboot,
        "stop_db_instance": _stop,
        "start_db_instance": _start,
        "delete_db_instance": _delete_db_instance,
        "create_db_snapshot": _create_db_snapshot,
        "delete_db_snapshot": _delete_db_snapshot,
        "restore_db_instance_from_db_snapshot": _restore_db_instance,
        "modify_db_parameter_group": _modify_db_parameter_group,
        "describe_db_parameter_groups": _describe_groups,
        "modify_db_subnet_group": _modify_subnet_group,
    }.items():
        setattr(backend, name, function)
    # DBInstance: StorageThroughput is always there, and 0 where the storage type has none.
    instance.storage_throughput = property(
        lambda self: getattr(self, "_storage_throughput", None) or 0,
        lambda self, value: setattr(self, "_storage_throughput", value if self.storage_type == "gp3" else None),
    )
    instance.address = property(_address)
    instance.endpoint = property(_endpoint)
    instance.default_db_parameter_group_details = _default_group
    instance.db_parameter_group_status_list = property(_group_status)
    instance.save_automated_backup = lambda self: None
    response.describe_db_parameters = _describe_parameters
    response.reset_db_parameter_group = _reset_parameters
    response.describe_db_engine_versions = _engine_versions
