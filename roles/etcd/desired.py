"""What an etcd host must have. Pure.

Bootstrap is apart from the steady state: what founds or joins a cluster counts until the data
directory exists, and never again, so a changed member list rewrites and restarts nothing (etcd
docs, runtime reconfiguration: `initial-*` flags are ignored once a member has data).
"""

from __future__ import annotations

from collections.abc import Iterable

from builder import debian
from builder.resources.base import Resource, address, quoted
from builder.resources.directory import Directory
from builder.resources.gate import Gate
from builder.resources.unit import Unit
from builder.role import Context, Opening, Secrets
from builder.security.authority import CertificateRequest
from builder.spec.model import ClusterSpec, Host
from roles._failover import timings
from roles.etcd.client import etcdctl
from roles.etcd.member import EtcdMember, EtcdMembers
from roles.etcd.settings import (
    CLIENT_CA,
    CONFIG,
    DATA,
    FOUNDING,
    NAME,
    PEER_CA,
    TLS,
    USER,
    endpoints,
    members,
)

UNIT = "etcd.service"
_ELECTED_SECONDS = 20  # in which those that are left have a leader, if they are enough


def resources(ctx: Context) -> Iterable[Resource]:
    here = (ctx.host.name,)
    packages = ctx.packages(*debian.ETCD)
    needs = tuple(package.address for package in packages)
    yield from packages
    yield Directory(hosts=here, name=CONFIG, needs=needs)
    yield Directory(hosts=here, name=TLS, mode="0750", group=USER, needs=needs)
    yield Directory(
        hosts=here, name="/var/lib/etcd", mode="0700", owner=USER, group=USER, needs=needs
    )
    tls = list(_tls(ctx, needs))
    settings = _settings(ctx, needs)
    member = _member(ctx, (*needs, *(item.address for item in tls)))
    unit = ctx.file(
        f"/etc/systemd/system/{UNIT}",
        "etcd/etcd.service",
        options={"needs": needs},
        config=CONFIG,
        user=USER,
        data=DATA,
        founding=FOUNDING,
    )
    yield from (*tls, settings, member, unit)
    # etcd reads its own pair at each connection, and whom it trusts only at its start.
    trust = tuple(f.address for f in tls if f.kind == "file")
    changed = (packages[0].address, settings.address, member.address, unit.address, *trust)
    yield _unit(ctx, member=member.address, restart_on=changed)


def _unit(ctx: Context, *, member: str, restart_on: tuple[str, ...]) -> Unit:
    """Who joins is on the list already, and needed for quorum: it starts at once, out of turn."""
    return Unit(
        hosts=(ctx.host.name,),
        name=UNIT,
        needs=(member,),
        restart_on=restart_on,
        stopped_by=(member,),
        group="etcd",
        before_restart=_may_be_missed(ctx),
        after_restart=_serves_again(ctx),
        before_stop=_leaves(ctx),
        last=_turn(ctx),
        wait=False,
        timeout_seconds=120,
    )


def gate(spec: ClusterSpec) -> str:
    """The address of the gate that Patroni waits for."""
    return address([host.name for host in members(spec)], Gate.kind, NAME)


def cluster_resources(spec: ClusterSpec, _: Secrets) -> Iterable[Resource]:
    hosts = tuple(host.name for host in members(spec))
    yield Gate(
        hosts=hosts,
        name=NAME,
        what="every etcd member is healthy",
        condition=health(spec),
        needs=tuple(f"{host}/unit:{UNIT}" for host in hosts),
        units=("etcd",),
        timeout_seconds=120,
    )
    yield EtcdMembers(
        hosts=hosts,
        name=spec.name,
        names=hosts,
        port=spec.sections["etcd"]["client_port"],
        needs=(gate(spec),),
    )


def health(spec: ClusterSpec) -> str:
    """Shell: every member answers a linearizable read. Says who does not."""
    return _answer(endpoints(spec))


def _answer(asked: Iterable[str]) -> str:
    hosts = ",".join(f"https://{endpoint}" for endpoint in asked)
    command = f"{etcdctl(hosts)} endpoint health --dial-timeout=2s --command-timeout=3s"
    return f"r=$({command} 2>&1) || {{ echo \"$r\" | grep -v 'is healthy' | tail -n 3; exit 1; }}"


def _may_be_missed(ctx: Context) -> str:
    """Shell: every other member is healthy; or this one is not, and has no vote to lose."""
    if not (others := _others(ctx)):
        return ""
    return f"( {_is_healthy(ctx)}; ) >/dev/null || exit 0\n{_answer(others)}"


def _serves_again(ctx: Context) -> str:
    """Shell: the new process runs and is healthy.

    Or it waits for a quorum, and no other member is healthy either: that takes the next one's
    restart, and to wait for it here would be for ever.
    """
    show = f"systemctl show -P {{}} {UNIT}"
    serves = (
        f"state=$({show.format('ActiveState')}) job=$({show.format('Job')})\n"
        f'[ "$state" = active ] && [ -z "$job" ] && {{ w=$( {_is_healthy(ctx)}; ) && exit 0; }}\n'
    )
    others = " || ".join(f"( {_answer([other])}; ) >/dev/null" for other in _others(ctx))
    since = f"$(($({show.format('StateChangeTimestampMonotonic')}) / 1000000))"
    alone = (
        f'if [ "$state" = activating ] && '
        f"[ $(($(cut -d. -f1 /proc/uptime) - {since})) -ge {_ELECTED_SECONDS} ]; then\n"
        f"  {{ {others}; }} || exit 0\nfi\n"
    )
    return f'{serves}{alone if others else ""}echo "etcd: $state $w"; exit 1'


def _is_healthy(ctx: Context) -> str:
    return _answer([f"127.0.0.1:{ctx.section('etcd')['client_port']}"])


def _others(ctx: Context) -> list[str]:
    port = ctx.section("etcd")["client_port"]
    return [f"{host.address}:{port}" for host in members(ctx.spec) if host != ctx.host]


def _leaves(ctx: Context) -> str:
    """Shell: who leaves takes itself off the list before it stops: quorum is of those left.

    etcd refuses what would cost quorum, and we try again. Where it does not run (it ends by itself
    once it is off the list), it is not needed.
    """
    own = f"https://127.0.0.1:{ctx.section('etcd')['client_port']}"
    ctl = f"{etcdctl(own)} --command-timeout=4s member"
    only = f"awk -F', ' -v name={quoted([ctx.host.name])} '$3 == name {{ print $1 }}'"
    return (
        f'runs() {{ [ "$(systemctl show -P ActiveState {UNIT})" = active ]; }}\n'
        f"list=$({ctl} list -w simple 2>&1) || "
        '{ runs || exit 0; echo "etcd does not answer: $(echo "$list" | tail -n 1)"; exit 1; }\n'
        f'id=$(printf \'%s\\n\' "$list" | {only}); [ -n "$id" ] || exit 0\n'
        f"{ctl} remove $id 2>&1 | grep -v '^[[:punct:]]' | tail -n 1; exit 1"
    )


def _turn(ctx: Context) -> str:
    """Shell: 0 on a member that is not healthy, 2 on etcd's leader: who is missed least goes first.

    A healthy one is not restarted while another is not, which its own restart may mend.
    """
    own = f"https://127.0.0.1:{ctx.section('etcd')['client_port']}"
    command = f"{etcdctl(own)} endpoint status --command-timeout=3s -w fields 2>/dev/null"
    same = '/"MemberID"/ { m = $3 } /"Leader"/ { l = $3 } END { print (m != "" && m == l) ? 2 : 1 }'
    healthy = f"( {_is_healthy(ctx)}; ) >/dev/null"
    return f"if {healthy}; then {command} | awk {quoted([same])}; else echo 0; fi"


def _tls(ctx: Context, needs: tuple[str, ...]) -> Iterable[Resource]:
    owner = {"owner": USER, "group": USER, "needs": needs}
    for name, authority in (("peer", PEER_CA), ("client", CLIENT_CA)):
        yield ctx.authority_file(f"{TLS}/{name}-ca.crt", authority, needs=needs)
    both = _request(ctx, server=True)
    client = _request(ctx, server=False)
    for purpose, authority, request in (
        ("peer", PEER_CA, both),
        ("server", CLIENT_CA, both),
        ("client", CLIENT_CA, client),
    ):
        yield ctx.certificate(
            f"{TLS}/{purpose}.crt",
            key_path=f"{TLS}/{purpose}.key",
            authority=authority,
            purpose=f"etcd-{purpose}",
            request=request,
            **owner,
        )


def _request(ctx: Context, *, server: bool) -> CertificateRequest:
    """etcd's server certificate is a client's too: its gateway talks to itself."""
    return CertificateRequest(
        common_name=ctx.host.name if server else None,
        dns_names=(ctx.host.name, "localhost"),
        addresses=(ctx.host.address, "127.0.0.1"),
        server=server,
        client=True,
    )


def _settings(ctx: Context, needs: tuple[str, ...]) -> Resource:
    section = ctx.section("etcd")
    return ctx.file(
        f"{CONFIG}/etcd.env",
        "etcd/etcd.env",
        options={"needs": needs},
        section=section,
        timings=timings(ctx.spec),
        tls=TLS,
        data=DATA,
        quota_bytes=section["quota_mib"] * 1024 * 1024,
    )


def _member(ctx: Context, needs: tuple[str, ...]) -> EtcdMember:
    section = ctx.section("etcd")
    urls = {h.name: f"https://{h.address}:{section['peer_port']}" for h in members(ctx.spec)}
    others = (h for h in members(ctx.spec) if h != ctx.host)
    return EtcdMember(
        hosts=(ctx.host.name,),
        name=ctx.host.name,
        url=urls[ctx.host.name],
        peers=tuple(f"{name}={url}" for name, url in urls.items()),
        others=tuple(f"{h.address}:{section['client_port']}" for h in others),
        cluster=ctx.spec.name,
        needs=needs,
    )


def openings(spec: ClusterSpec, host: Host) -> Iterable[Opening]:
    section = spec.sections["etcd"]
    etcd = tuple(h.address for h in members(spec))
    clients = tuple(h.address for h in spec.with_role("patroni"))
    yield Opening(
        port=section["client_port"],
        peers=tuple(dict.fromkeys(etcd + clients)),
        what="etcd clients",
        address=host.address,
    )
    yield Opening(port=section["peer_port"], peers=etcd, what="etcd peers", address=host.address)
