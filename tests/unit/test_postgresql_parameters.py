"""PostgreSQL's parameters in cluster.yml: which are refused, where, and with what words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

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
    script, *asked = config.check
    assert asked == ["required", "shared_bufers"], "a dot is an extension's"
    assert {f"pg1/file:{script}", "pg1/unit:pgha-watchdog.service"} <= set(config.needs)


# ── on a host ───────────────────────────────────────────────────────────────────────────────────
Check = Callable[..., tuple[int, Sequence[str]]]
# Lists what a postgresql.conf shows, and knows one parameter more, as the real one does.
POSTGRES = """\
#!/bin/sh
case "$1 $2" in
  --describe-config*) printf '%s\\tx\\n' DateStyle shared_buffers work_mem ;;
  "-C backtrace_functions") [ -f "$4/postgresql.conf" ] && echo ;;
  *) echo "FATAL:  unrecognized configuration parameter \\"$2\\"" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def check(tmp_path: Path) -> Check:
    (tmp_path / "postgres").write_text(POSTGRES)
    (tmp_path / "postgres").chmod(0o755)
    values = {"postgres": tmp_path / "postgres", "device": tmp_path / "watchdog", "version": 17}
    script = tmp_path / "check-config"
    script.write_bytes(render("patroni/check-config", values).content)

    def run(*arguments: str) -> tuple[int, Sequence[str]]:
        argv = [sys.executable, str(script), *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, (done.stdout + done.stderr).splitlines()

    return run


def test_what_the_server_knows_is_fine_in_whatever_letters(check: Check) -> None:
    assert check("automatic") == (0, [])
    assert check("automatic", "work_mem", "datestyle", "backtrace_functions") == (0, [])


def test_a_mistyped_parameter_is_named_with_the_nearest_and_all_at_once(check: Check) -> None:
    assert check("off", "shared_bufers", "work_mem", "nonsense") == (
        1,
        [
            "postgresql.parameters: PostgreSQL 17 knows no shared_bufers; did you mean "
            "shared_buffers?",
            "postgresql.parameters: PostgreSQL 17 knows no nonsense.",
        ],
    )


def test_a_required_watchdog_has_to_be_there(check: Check, tmp_path: Path) -> None:
    status, (said,) = check("required")
    assert status == 1
    assert "patroni.watchdog is required, and this host has no" in said
    (tmp_path / "watchdog").touch()
    assert check("required") == (0, [])
