"""Patroni's dynamic configuration: what all members share, kept in etcd. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.spec.model import ClusterSpec
from roles._failover import timings
from roles.patroni.settings import TLS, members


def dynamic_config(spec: ClusterSpec) -> Mapping[str, Any]:
    times = timings(spec)
    return {
        "ttl": times.ttl,
        "loop_wait": times.loop_wait,
        "retry_timeout": times.retry_timeout,
        "maximum_lag_on_failover": 1048576,
        "primary_start_timeout": times.primary_start_timeout,
        "primary_stop_timeout": times.primary_stop_timeout,
        "failsafe_mode": True,
        "check_timeline": True,
        "synchronous_mode": _synchronous(spec),
        "synchronous_mode_strict": False,
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
            "parameters": parameters(spec),
        },
    }


def _synchronous(spec: ClusterSpec) -> bool | str:
    """Not strict: the last host goes on alone. A quorum only where asked for: Patroni 3 reads
    the word as «off»."""
    section = spec.sections["failover"]
    if not section["synchronous"]:
        return False
    return "quorum" if section["quorum"] and len(members(spec)) > 2 else True


def parameters(spec: ClusterSpec) -> Mapping[str, Any]:
    times = timings(spec)
    defaults = {
        "max_connections": 200,
        "max_wal_senders": 10,
        "max_replication_slots": 10,
        "max_worker_processes": 8,
        "wal_level": "replica",
        "wal_log_hints": "on",
        "hot_standby": "on",
        "max_slot_wal_keep_size": "4GB",
        "wal_keep_size": "256MB",
        "wal_sender_timeout": f"{times.wal_sender_timeout}s",
        "wal_receiver_timeout": f"{times.wal_sender_timeout * 2}s",
        "synchronous_commit": "on",
        "password_encryption": "scram-sha-256",
        "ssl": "on",
        "ssl_cert_file": f"{TLS}/server.crt",
        "ssl_key_file": f"{TLS}/server.key",
        "ssl_ca_file": f"{TLS}/ca.crt",
        "ssl_min_protocol_version": "TLSv1.2",
        "tcp_keepalives_idle": 60,
        "tcp_keepalives_interval": 10,
        "tcp_keepalives_count": 6,
        "client_connection_check_interval": "10s",
        "log_checkpoints": "on",
        "log_lock_waits": "on",
        "log_line_prefix": "%m [%p] %q%u@%d %a ",
    }
    return {**defaults, **spec.sections["postgresql"]["parameters"]}
