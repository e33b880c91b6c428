"""What a balancer must have. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from builder.resources.base import Resource
from builder.resources.directory import Directory
from builder.resources.file import File
from builder.resources.unit import Unit
from builder.role import Context
from builder.spec.model import ClusterSpec
from roles._failover import timings
from roles.haproxy.settings import CA_FILE, CONFIG, client_address, sources, witnesses
from roles.patroni.settings import CA, members

UNIT = "haproxy.service"


def resources(ctx: Context) -> Iterable[Resource]:
    here = (ctx.host.name,)
    packages = ctx.packages("haproxy", "curl")
    needs = tuple(package.address for package in packages)
    authority = ctx.authority_file(CA_FILE, CA, needs=needs)
    config, in_force = _config(ctx, authority)
    directory = f"/etc/systemd/system/{UNIT}.d"
    drop_in = ctx.file(
        f"{directory}/pgha-build.conf", "haproxy/drop-in.conf", options={"needs": needs}
    )
    yield from (*packages, authority, config, Directory(hosts=here, name=directory), drop_in)
    yield Unit(
        hosts=here,
        name=UNIT,
        needs=(ctx.address("sysctl", "net.ipv4.ip_nonlocal_bind"),),
        restart_on=(packages[0].address, drop_in.address),
        reload_on=(config.address, authority.address),
        after_restart=in_force,
        after_reload=in_force,
        last=holds_address(ctx.spec),
        group="balancer",
        timeout_seconds=60,
    )


def holds_address(spec: ClusterSpec) -> str:
    """Shell: 1 on the host that has the virtual IP, so that it is the last to be restarted."""
    virtual = spec.sections.get("keepalived", {}).get("virtual_ip")
    if not virtual:
        return "echo 0"
    return f"ip -o -4 address show to {virtual.split('/')[0]}/32 | wc -l"


def _config(ctx: Context, authority: File) -> tuple[File, str]:
    """The file, and shell that holds once HAProxy goes by it.

    A reload that fails, for a port that another has, leaves the old HAProxy as it was, and says so
    only in the unit's status. So it tells which configuration it goes by.
    """
    plain = _rendered(ctx, authority, "")
    digest = sha256(plain.content + authority.content).hexdigest()[:16]
    port = ctx.section("haproxy")["status_port"]
    asked = f"curl -fsS -m 2 http://127.0.0.1:{port}/configuration"
    in_force = (
        f'said=$({asked} 2>&1) && [ "$said" = {digest} ] || {{\n'
        f'  state=$(systemctl show -P StatusText {UNIT})\n  echo "HAProxy does not go by its new '
        'file: ${state:-$said}"; exit 1\n}'
    )
    return _rendered(ctx, authority, digest), in_force


def _rendered(ctx: Context, authority: File, digest: str) -> File:
    section = ctx.section("haproxy")
    return ctx.file(
        CONFIG,
        "haproxy/haproxy.cfg",
        options={
            "needs": (*authority.needs, authority.address),
            "mode": "0640",
            "group": "haproxy",
            "check": ("haproxy", "-c", "-q", "-f", "{}"),
        },
        section=section,
        address=client_address(ctx.spec, ctx.host),
        members=members(ctx.spec),
        witnesses=witnesses(ctx.spec, ctx.host),
        clients=sources(ctx.spec, ctx.host, "clients"),
        monitoring=sources(ctx.spec, ctx.host, "monitoring"),
        postgresql=ctx.section("postgresql"),
        patroni=ctx.section("patroni"),
        timings=timings(ctx.spec),
        ca=CA_FILE,
        digest=digest,
    )
