"""The kernel's watchdog, which resets a leader that hangs. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from builder.resources.base import Resource
from builder.resources.directory import Directory
from builder.resources.file import File
from builder.resources.unit import Unit
from builder.role import Context
from roles.patroni.settings import USER

UNIT = "pgha-watchdog.service"
SCRIPT = "/usr/local/lib/pgha-build/watchdog"
DEVICE = "/dev/watchdog"
# Hardware only: QEMU's, Intel's, AMD's, ACPI's, IPMI's. A watchdog in software (softdog) hangs with
# the kernel; whoever wants it loads it, and it is used.
_DRIVERS = ("i6300esb", "iTCO_wdt", "sp5100_tco", "wdat_wdt", "ipmi_watchdog")


def watchdog(ctx: Context, needs: tuple[str, ...]) -> Iterable[Resource]:
    """A rule for a device that comes later, and a unit for what is there when the host boots."""
    if ctx.section("patroni")["watchdog"] == "off":
        return
    here = (ctx.host.name,)
    yield Directory(hosts=here, name="/etc/udev/rules.d")
    yield File(
        hosts=here,
        name="/etc/udev/rules.d/60-pgha-build-watchdog.rules",
        content=b"# Managed by pgha-build: Patroni may use the watchdog.\n"
        b'KERNEL=="watchdog", OWNER="postgres", GROUP="postgres", MODE="0600"\n',
        needs=(*needs, ctx.address("directory", "/etc/udev/rules.d")),
    )
    script = ctx.file(
        SCRIPT,
        "patroni/watchdog",
        options={"mode": "0755", "check": ("sh", "-n", "{}")},
        drivers=_DRIVERS,
        user=USER,
    )
    unit = ctx.file(
        f"/etc/systemd/system/{UNIT}",
        "patroni/pgha-watchdog.service",
        options={"needs": needs},
        script=SCRIPT,
    )
    yield from (script, unit)
    yield Unit(
        hosts=here,
        name=UNIT,
        needs=(*needs, script.address),
        restart_on=(unit.address, script.address),
    )
