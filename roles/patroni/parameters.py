"""Parameters of PostgreSQL that are not left to cluster.yml, or not to any value. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from builder.spec.model import Problem

_MANAGED = {
    "port": "use postgresql.port",
    "listen_addresses": "the host's own address and loopback",
    "ssl": "always on",
    "ssl_cert_file": "the cluster's own certificates",
    "ssl_key_file": "the cluster's own certificates",
    "ssl_ca_file": "the cluster's own certificates",
    "password_encryption": "always scram-sha-256",
    "synchronous_commit": "use failover.synchronous",
    "synchronous_standby_names": "Patroni sets it; use failover.synchronous",
    "wal_sender_timeout": "use failover.preset",
    "update_process_title": "on, for what watches over PostgreSQL's processes",
    "primary_conninfo": "Patroni sets it",
    "hot_standby": "Patroni needs it on",
    "cluster_name": "Patroni sets it",
    "wal_log_hints": "pg_rewind needs it on",
    "data_directory": "use postgresql.data_directory",
    "config_file": "Patroni writes it into the data directory",
    "hba_file": "Patroni writes it into the data directory; use postgresql.access",
    "ident_file": "Patroni writes it into the data directory",
    "external_pid_file": "the one in the data directory is read",
    "unix_socket_directories": "/var/run/postgresql, where Patroni and pgha-build ask",
}
_LOSES_DATA = {
    "fsync": "off, a host that crashes comes back with damaged data",
    "full_page_writes": "off, a host that crashes comes back with damaged data",
    "data_sync_retry": "on, a write that the disk refused may count as done",
    "zero_damaged_pages": "on, rows that cannot be read are destroyed",
    "ignore_checksum_failure": "on, damaged data is served, and copied to replicas",
}
# Patroni leaves them out of what it writes (its available_parameters, recovery_parameters).
_RECOVERY = frozenset(
    {
        "archive_cleanup_command",
        "primary_slot_name",
        "promote_trigger_file",
        "recovery_end_command",
        "recovery_min_apply_delay",
        "recovery_target",
        "recovery_target_action",
        "recovery_target_inclusive",
        "recovery_target_lsn",
        "recovery_target_name",
        "recovery_target_time",
        "recovery_target_timeline",
        "recovery_target_xid",
        "restore_command",
    }
)
NOT_TO_BE_SET = frozenset(_MANAGED) | frozenset(_LOSES_DATA)
# patroni/postgresql/__init__.py, CMDLINE_OPTIONS.
_PATRONIS_LEAST = {
    "max_connections": 25,
    "max_wal_senders": 3,
    "max_replication_slots": 4,
    "max_worker_processes": 2,
    "max_locks_per_transaction": 32,
}
_LEAST_KEPT = 16
_SIZE = re.compile(r"([0-9]+) *(|kB|MB|GB|TB)")
_MEGABYTES = {"": 1, "kB": 1 / 1024, "MB": 1, "GB": 1024, "TB": 1024 * 1024}


def problems(parameters: Mapping[str, Any]) -> Iterable[Problem]:
    yield from _not_to_be_set(parameters)
    yield from _below_what_patroni_takes(parameters)


def _not_to_be_set(parameters: Iterable[str]) -> Iterable[Problem]:
    for name in parameters:
        path = ("postgresql", "parameters", name)
        if name in _MANAGED:
            message = f"{name} is set by pgha-build: {_MANAGED[name]}"
            yield Problem(path=path, message=message)
        elif name in _LOSES_DATA:
            yield Problem(
                path=path,
                message=f"{name} is left as PostgreSQL has it: {_LOSES_DATA[name]}",
                advice="take it out",
            )
        elif name in _RECOVERY:
            yield Problem(
                path=path,
                message=f"{name} is about recovery, which Patroni steers: it would drop it",
                advice="take it out",
            )


def _below_what_patroni_takes(parameters: Mapping[str, Any]) -> Iterable[Problem]:
    """Patroni says nothing, and starts PostgreSQL with a value of its own instead."""
    for name, least in _PATRONIS_LEAST.items():
        value = str(parameters.get(name))
        if value.isdecimal() and int(value) < least:
            yield Problem(
                path=("postgresql", "parameters", name),
                message=f"{name} is {value}, and Patroni takes no less than {least}",
                advice="it would silently start PostgreSQL with a value of its own",
            )
    size = _SIZE.fullmatch(str(parameters.get("wal_keep_size")))
    if size and int(size[1]) * _MEGABYTES[size[2]] < _LEAST_KEPT:
        yield Problem(
            path=("postgresql", "parameters", "wal_keep_size"),
            message=f"wal_keep_size is {size[0]}, and Patroni takes no less than {_LEAST_KEPT}MB",
            advice="it would silently start PostgreSQL with a value of its own",
        )
    if parameters.get("wal_level") == "minimal":
        yield Problem(
            path=("postgresql", "parameters", "wal_level"),
            message="wal_level is minimal, and replicas need `replica` or `logical`",
        )
