"""PostgreSQL's parameters in cluster.yml: which are refused, where, and with what words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.errors import SpecError
from builder.resources.file import File
from builder.templates import render

SPEC = """
name: orders
hosts:
  e1: {{address: 10.0.0.1, roles: [etcd]}}
  pg1: {{address: 10.0.0.2, roles: [patroni]}}
postgresql: {{parameters: {{{parameters}}}}}
patroni: {{watchdog: {watchdog}}}
"""


# ── in cluster.yml ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("parameter", "why"),
    [
        ("fsync: off", "left as PostgreSQL has it: off, a host that crashes"),
        ("full_page_writes: off", "left as PostgreSQL has it"),
        ("zero_damaged_pages: on", "left as PostgreSQL has it"),
        ("data_directory: /x", "use postgresql.data_directory"),
        ("config_file: /x", "Patroni writes it"),
        ("hba_file: /x", "use postgresql.access"),
        ("ident_file: /x", "Patroni writes it"),
        ("external_pid_file: /x", "is set by pgha-build"),
        ("unix_socket_directories: /tmp", "where Patroni and pgha-build ask"),
        ("synchronous_commit: off", "use failover.synchronous"),
        ("restore_command: cp", "about recovery, which Patroni steers"),
        ("max_connections: 10", "Patroni takes no less than 25"),
        ("max_wal_senders: '0'", "Patroni takes no less than 3"),
        ("wal_keep_size: 0", "Patroni takes no less than 16MB"),
        ("wal_keep_size: 512kB", "Patroni takes no less than 16MB"),
        ("wal_level: minimal", "replicas need `replica` or `logical`"),
    ],
)
def test_what_would_hurt_or_have_no_effect_is_refused(
    parameter: str, why: str, world_of: Any
) -> None:
    with pytest.raises(SpecError) as refused:
        world_of(SPEC.format(parameters=parameter, watchdog="off"))
    assert parameter.partition(":")[0] in str(refused.value)
    assert why in str(refused.value)


def test_what_patroni_is_to_read_is_checked_on_each_host_first(world_of: Any) -> None:
    parameters = "shared_bufers: 8GB, pg_stat_statements.max: 500"
    world = world_of(SPEC.format(parameters=parameters, watchdog="required"))
    config = world["pg1/file:/etc/patroni/config.yml"]
    assert isinstance(config, File)
    script, file = config.check
    assert file == "{}"
    assert {f"pg1/file:{script}", "pg1/unit:pgha-watchdog.service"} <= set(config.needs)


@pytest.mark.parametrize(
    "folder",
    ["/var/lib/pgdata", "/usr/bin/pg", "/home/pg/17/x", "/data", "/opt/pg", "/var/log/pg/x"],
)
def test_no_folder_of_the_system_becomes_postgresqls(folder: str, world_of: Any) -> None:
    """The one above the data is given to the user postgres."""
    spec = SPEC.replace("{{parameters:", f"{{{{data_directory: {folder}, parameters:")
    with pytest.raises(SpecError, match="would be given to the user postgres"):
        world_of(spec.format(parameters="", watchdog="off"))


@pytest.mark.parametrize(
    "folder", ["/var/lib/pg/data", "/data/pg/17", "/usr/local/pgsql/data", "/var/pgdata/17/main"]
)
def test_a_folder_of_its_own_may_be(folder: str, world_of: Any) -> None:
    spec = SPEC.replace("{{parameters:", f"{{{{data_directory: {folder}, parameters:")
    world_of(spec.format(parameters="", watchdog="off"))


@pytest.mark.parametrize(
    "named", ["users: [{name: all}]", "users: [{name: public}]", "databases: [{name: replication}]"]
)
def test_a_word_of_pg_hba_is_no_name(named: str, world_of: Any) -> None:
    """`all` as a user would let everybody in, the superuser included."""
    named = named.replace("{", "{{").replace("}", "}}")
    spec = SPEC.replace("{{parameters:", "{{" + named + ", parameters:")
    with pytest.raises(SpecError, match=r"is a word of pg_hba\.conf or SQL"):
        world_of(spec.format(parameters="", watchdog="off"))


def test_a_role_is_made_after_those_that_it_is_granted(world_of: Any) -> None:
    users = "users: [{{name: app, member_of: [zz]}}, {{name: zz}}], "
    world = world_of(
        SPEC.replace("{{parameters:", "{{" + users + "parameters:").format(
            parameters="", watchdog="off"
        )
    )
    assert "pg1/role:zz" in world["pg1/role:app"].needs


# ── on a host ───────────────────────────────────────────────────────────────────────────────────
Check = Callable[..., tuple[int, Sequence[str]]]
# Lists what a postgresql.conf shows, and knows one parameter more, as the real one does.
POSTGRES = """\
#!/bin/sh
case "$1 $2" in
  --describe-config*) printf '%s\\tx\\n' DateStyle shared_buffers work_mem ;;
  "-C backtrace_functions") [ -f "$4/postgresql.conf" ] && echo ;;
  "-C max_connections") grep -q "^work_mem = '.*gb'" "$4/postgresql.conf" || exit 0
    echo '2026-11-26 20:40:27 GMT [1] LOG:  invalid value for parameter "work_mem": "8gb"' >&2
    echo '2026-11-26 20:40:27 GMT [1] HINT:  Valid units are "MB" and "GB".' >&2
    echo 'FATAL:  configuration file contains errors' >&2; exit 1 ;;
  *) echo "FATAL:  unrecognized configuration parameter \\"$2\\"" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def check(tmp_path: Path) -> Check:
    (tmp_path / "postgres").write_text(POSTGRES)
    (tmp_path / "postgres").chmod(0o755)
    (tmp_path / "patroni").mkdir()
    values = {"postgres": tmp_path / "postgres", "device": tmp_path / "watchdog", "version": 17}
    script = tmp_path / "check-config"
    script.write_bytes(render("patroni/check-config", {"python": "", **values}).content)

    def run(
        watchdog: str, *, patroni: str = "4.0.7", synchronous: bool | str = True, **parameters: Any
    ) -> tuple[int, Sequence[str]]:
        (tmp_path / "patroni/version.py").write_text(f"__version__ = {patroni!r}\n")
        shared = {"synchronous_mode": synchronous, "postgresql": {"parameters": parameters}}
        file = tmp_path / "config.yml"
        config = {"bootstrap": {"dcs": shared}, "watchdog": {"mode": watchdog}}
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        done = subprocess.run(
            [sys.executable, str(script), str(file)],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).splitlines()

    return run


def test_what_the_server_knows_is_fine_in_whatever_letters(check: Check) -> None:
    assert check("automatic") == (0, [])
    known = {"work_mem": "4MB", "datestyle": "iso", "backtrace_functions": "x"}
    assert check("automatic", **known, **{"pg_stat_statements.max": 500}) == (0, [])


def test_a_mistyped_parameter_is_named_with_the_nearest_and_all_at_once(check: Check) -> None:
    assert check("off", shared_bufers=1, work_mem="4MB", nonsense=2) == (
        1,
        [
            "postgresql.parameters: PostgreSQL 17 knows no shared_bufers; did you mean "
            "shared_buffers?",
            "postgresql.parameters: PostgreSQL 17 knows no nonsense.",
        ],
    )


def test_a_value_that_the_server_does_not_take_is_told_in_its_words(check: Check) -> None:
    """Patroni would leave it out, and PostgreSQL start with its default."""
    assert check("off", work_mem="8gb") == (
        1,
        [
            'postgresql.parameters: invalid value for parameter "work_mem": "8gb"',
            'postgresql.parameters: Valid units are "MB" and "GB".',
        ],
    )


def test_a_quorum_is_not_asked_of_a_patroni_that_takes_it_for_off(check: Check) -> None:
    status, (said,) = check("off", patroni="3.0.2", synchronous="quorum")
    assert status == 1
    assert "needs Patroni 4, and this host has 3.0.2" in said
    assert check("off", patroni="4.0.7", synchronous="quorum") == (0, [])


def test_a_required_watchdog_has_to_be_there(check: Check, tmp_path: Path) -> None:
    status, (said,) = check("required")
    assert status == 1
    assert "patroni.watchdog is required, and this host has no" in said
    (tmp_path / "watchdog").touch()
    assert check("required") == (0, [])
