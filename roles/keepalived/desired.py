"""What a holder of the virtual IP must have. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from builder.resources.base import Resource
from builder.resources.directory import Directory
from builder.resources.gate import Gate
from builder.resources.unit import Unit
from builder.resources.user import User
from builder.role import Context, Secrets
from builder.spec.model import ClusterSpec
from roles._failover import timings
from roles.haproxy.desired import holds_address
from roles.keepalived.settings import NAME, peers

UNIT = "keepalived.service"
DROP_INS = f"/etc/systemd/system/{UNIT}.d"
SCRIPT_USER = "keepalived_script"
INTERFACE_SCRIPT = "/usr/local/lib/pgha-build/keepalived-interface"
CHECK_SCRIPT = "/usr/local/lib/pgha-build/haproxy-answers"

# Keepalived 2.2 ends its own process group with SIGTERM after finding a file good (143).
_CHECK = f'{INTERFACE_SCRIPT} && {{ setsid -w keepalived -t -f "$0" || [ $? = 143 ]; }}'

# Started, it is in no state that could take the address until its check has succeeded.
_TAKES_PART = (
    "now=$(systemctl show -P InvocationID keepalived)\n"
    'journalctl -q --no-pager -o cat _SYSTEMD_INVOCATION_ID="$now" | '
    "grep -qE 'Entering (BACKUP|MASTER) STATE' || "
    "{ echo 'Keepalived does not find its HAProxy well yet'; exit 1; }"
)


def resources(ctx: Context) -> Iterable[Resource]:
    here = (ctx.host.name,)
    packages = ctx.packages("keepalived", "curl")
    user = User(hosts=here, name=SCRIPT_USER)
    needs = (*(package.address for package in packages), user.address)
    interface, check = _interface_script(ctx), _check_script(ctx)
    config = _config(ctx, (*needs, interface.address, check.address))
    drop_in = _drop_in(ctx, (*needs, check.address))
    yield from (*packages, user)
    yield Directory(hosts=here, name="/usr/local/lib/pgha-build")
    yield from (interface, check, config)
    yield Directory(hosts=here, name=DROP_INS)
    yield drop_in
    yield Unit(
        hosts=here,
        name=UNIT,
        needs=(ctx.address("unit", "haproxy.service"),),
        restart_on=(packages[0].address, drop_in.address, interface.address),
        reload_on=(config.address,),
        group="balancer",
        after_restart=_TAKES_PART,
        last=holds_address(ctx.spec),
        timeout_seconds=60,
    )


def _interface_script(ctx: Context) -> Resource:
    return ctx.file(
        INTERFACE_SCRIPT,
        "keepalived/keepalived-interface",
        options={"mode": "0755"},
        section=ctx.section(NAME),
    )


def _check_script(ctx: Context) -> Resource:
    """It comes after the HAProxy that answers what it asks."""
    return ctx.file(
        CHECK_SCRIPT,
        "keepalived/haproxy-answers",
        options={
            "mode": "0755",
            "check": ("sh", "-n", "{}"),
            "needs": (ctx.address("unit", "haproxy.service"),),
        },
        status_port=ctx.section("haproxy")["status_port"],
        timings=timings(ctx.spec),
    )


def _drop_in(ctx: Context, needs: tuple[str, ...]) -> Resource:
    return ctx.file(
        f"{DROP_INS}/pgha-build.conf",
        "keepalived/drop-in.conf",
        options={"needs": needs},
        script=INTERFACE_SCRIPT,
        check=CHECK_SCRIPT,
        watchdog_seconds=timings(ctx.spec).keepalived_silent,
    )


def cluster_resources(spec: ClusterSpec, _: Secrets) -> Iterable[Resource]:
    """An apply ends when the virtual IP answers, not while it moves to another balancer."""
    hosts = tuple(host.name for host in spec.with_role(NAME))
    address = spec.sections[NAME]["virtual_ip"]
    if hosts and address:
        target = f"{address.split('/')[0]}/{spec.sections['haproxy']['primary_port']}"
        yield Gate(
            hosts=hosts,
            name=NAME,
            what="the virtual IP answers",
            condition=f"timeout 2 bash -c ': </dev/tcp/{target}' 2>&1",
            needs=tuple(f"{host}/unit:{UNIT}" for host in hosts),
            units=("keepalived", "haproxy"),
            timeout_seconds=60,
        )


def _config(ctx: Context, needs: tuple[str, ...]) -> Resource:
    order = [host.name for host in ctx.spec.with_role(NAME)].index(ctx.host.name)
    return ctx.file(
        "/etc/keepalived/keepalived.conf",
        "keepalived/keepalived.conf",
        options={
            "needs": needs,
            "mode": "0640",
            "check": ("sh", "-c", _CHECK, "{}"),
        },
        section=ctx.section(NAME),
        check=CHECK_SCRIPT,
        peers=peers(ctx.spec, ctx.host),
        priority=200 - 10 * order,
        timings=timings(ctx.spec),
        user=SCRIPT_USER,
    )
