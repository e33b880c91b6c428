"""Restarting PostgreSQL through the Patroni on its host, and what asks for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace

from builder.resources.patroni_config import RestApi
from builder.resources.steps import Shell

# PostgreSQL's parameters of context `postmaster` (pg_settings, 15 to 18), and those of extensions
# that come with it.
_POSTMASTER = """
archive_mode autovacuum_freeze_max_age autovacuum_max_workers
autovacuum_multixact_freeze_max_age autovacuum_worker_slots bonjour bonjour_name cluster_name
commit_timestamp_buffers data_sync_retry debug_io_direct dynamic_shared_memory_type event_source
external_pid_file hot_standby huge_page_size huge_pages ignore_invalid_pages
io_max_combine_limit io_max_concurrency io_method jit_provider listen_addresses
logging_collector max_active_replication_origins max_connections max_files_per_process
max_locks_per_transaction max_logical_replication_workers max_notify_queue_pages
max_pred_locks_per_transaction max_prepared_transactions max_replication_slots max_wal_senders
max_worker_processes min_dynamic_shared_memory multixact_member_buffers
multixact_offset_buffers notify_buffers old_snapshot_threshold pg_prewarm.autoprewarm
pg_stat_statements.max port reserved_connections serializable_buffers shared_buffers
shared_memory_type shared_preload_libraries subtransaction_buffers
superuser_reserved_connections track_activity_query_size track_commit_timestamp
transaction_buffers unix_socket_directories unix_socket_group unix_socket_permissions
wal_buffers wal_decode_buffer_size wal_level wal_log_hints
"""
_NEED_RESTART = frozenset(_POSTMASTER.split())
# A replica first replays what it had received. Without a time of ours Patroni takes
# `primary_start_timeout` or, where that is 0, `pg_ctl_timeout` (60 s), and answers 503.
_START_SECONDS = 300
# The checkpoint before the stop has no limit in Patroni (postgresql/__init__.py, `stop`).
_STOP_SECONDS = 600

# curl's 28, 52, 55 and 56: no answer in time, or the connection was cut. Patroni goes on by itself.
_JUDGED = """\
status=0
said=$( (
{sent}
) 2>&1) || status=$?
case "$status $said" in
0* | 28* | 52* | 55* | 56* | 22*'already in progress'*) ;;
22*) echo "Patroni could not restart PostgreSQL (it has {seconds} s to start again): $said"
  echo 'journalctl -u patroni has the log of both.'; exit 1 ;;
*) echo "Patroni could not be told to restart PostgreSQL: $said"; exit 1 ;;
esac
"""


def need_restart(names: Iterable[str]) -> AbstractSet[str]:
    """Those parameters that come into force only at a restart."""
    return _NEED_RESTART & {name.lower() for name in names}


def restarted(api: RestApi, only_if: str = ":") -> Shell:
    """Restart, where the shell `only_if` holds.

    An answer that does not come is no failure: how it ends is for the wait that must follow
    (`ask.complete`) to say.
    """
    body = {"timeout": _START_SECONDS}
    sent = api.send("POST", "/restart", body, _STOP_SECONDS + _START_SECONDS, only_if=only_if)
    return replace(sent, script=_JUDGED.format(sent=sent.script, seconds=_START_SECONDS))
