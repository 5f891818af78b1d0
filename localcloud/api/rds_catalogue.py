# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What RDS for PostgreSQL offers: majors, memory of instance classes, parameters."""

from __future__ import annotations

import re

MAJORS = ("17", "15")
#: The minor versions of a major one that can be had, the oldest first. Asked for a major version, RDS takes the last.
MINORS = {"17": ("17.4", "17.5", "17.6"), "15": ("15.12", "15.13", "15.14")}
_GIB = 1 << 30

_SIZES = {"micro": 1, "small": 2, "medium": 4, "large": 8, "xlarge": 16, "2xlarge": 32}
#: GiB of the size "large"; larger sizes double or multiply.
_MEMORY_LARGE = {"m": 8, "r": 16, "x": 32, "c": 4}
_FAMILIES = re.compile(r"db\.(t3|t4g|m5d?|m6g?d?|m6i|m6id|m7g|m7i|m8g|r5d?|r6g?d?|r6i|r6id|r7g|r7i|r8g|x2g)\.(\w+)")


def class_memory(name: str) -> int | None:
    """
    DBInstanceClassMemory of an instance class, or None for one that isn't known.

    That is less than what "DB instance class types" says: the operating system and RDS's own processes have their share. How much
    is documented nowhere; this line goes through what people measured from 1 to 8 GiB.
    """
    whole = _whole_memory(name)
    return None if whole is None else whole - int(0.2 * _GIB + 0.025 * whole)


def _whole_memory(name: str) -> int | None:
    match = _FAMILIES.fullmatch(name)
    if not match:
        return None
    family, size = match.groups()
    if family in ("t3", "t4g"):
        return _SIZES[size] * _GIB if size in _SIZES else None
    factor = re.fullmatch(r"(\d*)xlarge", size)
    if size == "large":
        multiple = 1
    elif factor:
        multiple = 2 * int(factor.group(1) or 1)
    else:
        return None
    return _MEMORY_LARGE[family[0]] * multiple * _GIB


#: name -> (static or dynamic, type, default, allowed values)
PARAMETERS: dict[str, tuple[str, str, str, str]] = {
    "autovacuum": ("dynamic", "boolean", "1", "0,1"),
    "autovacuum_analyze_scale_factor": ("dynamic", "float", "0.05", "0-100"),
    "autovacuum_max_workers": ("static", "integer", "3", "1-262143"),
    "autovacuum_naptime": ("dynamic", "integer", "15", "1-2147483"),
    "autovacuum_vacuum_scale_factor": ("dynamic", "float", "0.1", "0-100"),
    "checkpoint_completion_target": ("dynamic", "float", "0.9", "0-1"),
    "checkpoint_timeout": ("dynamic", "integer", "300", "30-86400"),
    "client_min_messages": ("dynamic", "string", "notice", "debug5,debug4,debug3,debug2,debug1,log,notice,warning,error"),
    "deadlock_timeout": ("dynamic", "integer", "1000", "1-2147483647"),
    "default_statistics_target": ("dynamic", "integer", "100", "1-10000"),
    "effective_cache_size": ("dynamic", "integer", "{DBInstanceClassMemory/16384}", "1-2147483647"),
    "hot_standby_feedback": ("dynamic", "boolean", "0", "0,1"),
    "idle_in_transaction_session_timeout": ("dynamic", "integer", "86400000", "0-2147483647"),
    "idle_session_timeout": ("dynamic", "integer", "0", "0-2147483647"),
    "lock_timeout": ("dynamic", "integer", "0", "0-2147483647"),
    "log_autovacuum_min_duration": ("dynamic", "integer", "10000", "-1-2147483647"),
    "log_checkpoints": ("dynamic", "boolean", "1", "0,1"),
    "log_connections": ("dynamic", "boolean", "0", "0,1"),
    "log_disconnections": ("dynamic", "boolean", "0", "0,1"),
    "log_duration": ("dynamic", "boolean", "0", "0,1"),
    "log_error_verbosity": ("dynamic", "string", "default", "default,verbose,terse"),
    "log_lock_waits": ("dynamic", "boolean", "0", "0,1"),
    "log_min_duration_statement": ("dynamic", "integer", "-1", "-1-2147483647"),
    "log_min_error_statement": ("dynamic", "string", "error", ""),
    "log_min_messages": ("dynamic", "string", "warning", ""),
    "log_rotation_age": ("dynamic", "integer", "60", "1-1440"),
    "log_statement": ("dynamic", "string", "none", "none,ddl,mod,all"),
    "log_temp_files": ("dynamic", "integer", "-1", "-1-2147483647"),
    "maintenance_work_mem": ("dynamic", "integer", "GREATEST({DBInstanceClassMemory*1024/63963136},65536)",
                             "1024-2147483647"),
    "max_connections": ("static", "integer", "LEAST({DBInstanceClassMemory/9531392},5000)", "6-262143"),
    "max_locks_per_transaction": ("static", "integer", "64", "10-2147483647"),
    "max_parallel_workers": ("dynamic", "integer", "GREATEST($DBInstanceVCPU/2,8)", "0-1024"),
    "max_parallel_workers_per_gather": ("dynamic", "integer", "2", "0-1024"),
    "max_prepared_transactions": ("static", "integer", "0", "0-262143"),
    "max_replication_slots": ("static", "integer", "20", "0-262143"),
    "max_standby_streaming_delay": ("dynamic", "integer", "30000", "-1-2147483647"),
    "max_wal_senders": ("static", "integer", "35", "5-100"),
    "max_wal_size": ("dynamic", "integer", "2048", "128-201326592"),
    "max_worker_processes": ("static", "integer", "GREATEST($DBInstanceVCPU*2,8)", "0-262143"),
    "min_wal_size": ("dynamic", "integer", "192", "128-201326592"),
    "password_encryption": ("dynamic", "string", "scram-sha-256", "md5,scram-sha-256"),
    "random_page_cost": ("dynamic", "float", "4", "0-1000"),
    "rds.force_ssl": ("dynamic", "boolean", "1", "0,1"),
    "rds.log_retention_period": ("dynamic", "integer", "4320", "1440-10080"),
    "rds.logical_replication": ("static", "boolean", "0", "0,1"),
    "rds.restrict_password_commands": ("static", "boolean", "0", "0,1"),
    "seq_page_cost": ("dynamic", "float", "1", "0-1000"),
    "shared_buffers": ("static", "integer", "{DBInstanceClassMemory/32768}", "16-1073741823"),
    "shared_preload_libraries": ("static", "list", "pg_stat_statements",
                                 "auto_explain,pg_stat_statements,pgaudit,pg_cron,pg_hint_plan,pg_prewarm"),
    "ssl_min_protocol_version": ("dynamic", "string", "TLSv1.2", "TLSv1.2,TLSv1.3"),
    "statement_timeout": ("dynamic", "integer", "0", "0-2147483647"),
    "synchronous_commit": ("dynamic", "string", "on", "local,on,off"),
    "tcp_keepalives_count": ("dynamic", "integer", "2", "0-2147483647"),
    "tcp_keepalives_idle": ("dynamic", "integer", "300", "0-2147483647"),
    "tcp_keepalives_interval": ("dynamic", "integer", "30", "0-2147483647"),
    "temp_buffers": ("dynamic", "integer", "1024", "100-1073741823"),
    "timezone": ("dynamic", "string", "UTC", ""),
    "track_activity_query_size": ("static", "integer", "4096", "100-1048576"),
    "track_io_timing": ("dynamic", "boolean", "1", "0,1"),
    "wal_buffers": ("static", "integer", "-1", "-1-262143"),
    "work_mem": ("dynamic", "integer", "4096", "64-2147483647"),
}


def allowed(name: str, value: str) -> bool:
    """Whether a value is one that the parameter takes. Formulas ({…}, LEAST(…)) are left to the database."""
    kind, rule = PARAMETERS[name][1], PARAMETERS[name][3]
    if not rule or "{" in value or "(" in value:
        return True
    if kind == "list":
        return all(v.strip() in rule.split(",") for v in value.split(",") if v.strip())
    numbers = re.fullmatch(r"(-?[\d.]+)-(-?[\d.]+)", rule)
    if numbers:
        try:
            return float(numbers.group(1)) <= float(value) <= float(numbers.group(2))
        except ValueError:
            return False
    return value in rule.split(",")
