"""What every host must have. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from builder import debian
from builder.resources.base import Resource
from builder.resources.block import Block
from builder.resources.directory import Directory
from builder.resources.file import File
from builder.resources.sysctl import Sysctl
from builder.resources.unit import Unit
from builder.role import Context
from roles.system.firewall import firewall
from roles.system.settings import COUNTERPARTS, NAME
from roles.system.sources import sources

HOME = "/etc/pgha-build"
_EVERYWHERE = {
    "net.ipv4.tcp_keepalive_time": "60",
    "net.ipv4.tcp_keepalive_intvl": "10",
    "net.ipv4.tcp_keepalive_probes": "6",
    "net.core.somaxconn": "4096",
}
_BY_ROLE: Mapping[str, Mapping[str, str]] = {
    "patroni": {
        "vm.swappiness": "1",
        "vm.overcommit_memory": "2",
        "vm.overcommit_ratio": "90",
        "vm.dirty_background_bytes": "67108864",
        "vm.dirty_bytes": "536870912",
    },
    "haproxy": {
        "net.ipv4.ip_nonlocal_bind": "1",
        "net.ipv4.ip_local_port_range": "10000 65535",
    },
}


def resources(ctx: Context) -> Iterable[Resource]:
    section = ctx.section(NAME)
    yield Directory(hosts=(ctx.host.name,), name=HOME)
    yield from sources(ctx)
    yield from _protection(ctx)
    if section["hosts_file"]:
        lines = (f"{host.address} {host.name}\n" for host in ctx.spec.hosts.values())
        yield Block(hosts=(ctx.host.name,), name="/etc/hosts", content="".join(lines))
    if section["time"] == "chrony":
        yield from _chrony(ctx)
    yield from _sysctl(ctx)
    if section["firewall"]:
        yield from firewall(ctx, HOME)


def _protection(ctx: Context) -> Iterable[Resource]:
    """Nobody but pgha-build starts or restarts our units: no package, no needrestart, no timer.

    `POLICY` is what packages ask before they touch a unit (deb-systemd-invoke(1p)).
    """
    units = sorted(ctx.protected_units)
    yield ctx.file(debian.POLICY, "system/policy-rc.d", options={"mode": "0755"}, units=units)
    for directory, name in (
        ("/etc/needrestart/conf.d", "needrestart.conf"),
        ("/etc/apt/apt.conf.d", "unattended-upgrades.conf"),
    ):
        if directory.startswith("/etc/needrestart"):
            yield Directory(hosts=(ctx.host.name,), name="/etc/needrestart")
            yield Directory(hosts=(ctx.host.name,), name=directory)
        target = "60-pgha-build.conf" if "needrestart" in name else "60pgha-build"
        yield ctx.file(f"{directory}/{target}", f"system/{name}", options={}, units=units)


def _chrony(ctx: Context) -> Iterable[Resource]:
    package = ctx.package("chrony")
    yield package
    yield Unit(hosts=(ctx.host.name,), name="chrony.service", needs=(package.address,))


def _sysctl(ctx: Context) -> Iterable[Resource]:
    """The live values, and a file that keeps them over a reboot: the last of its kind counts."""
    wanted = dict(_EVERYWHERE)
    for role in ctx.host.roles:
        wanted |= _BY_ROLE.get(role, {})
    own = ctx.section(NAME)["sysctl"]
    wanted = {key: value for key, value in wanted.items() if COUNTERPARTS.get(key) not in own}
    wanted |= {key: " ".join(value.split()) for key, value in own.items()}
    lines = "".join(f"{key} = {value}\n" for key, value in sorted(wanted.items()))
    yield File(
        hosts=(ctx.host.name,),
        name="/etc/sysctl.d/zz-pgha-build.conf",
        content=f"# Managed by pgha-build: changes here are drift.\n{lines}".encode(),
    )
    for key, value in sorted(wanted.items()):
        yield Sysctl(hosts=(ctx.host.name,), name=key, value=value)
