"""Our nftables table: each port of the cluster, closed to hosts that have no business there. Pure.

It accepts by default and drops only what is listed, so it cannot lock anybody out of SSH.
"""

from __future__ import annotations

from collections.abc import Iterable

from builder.resources.base import Resource
from builder.resources.nftables import NftablesTable
from builder.resources.unit import Unit
from builder.role import Context

TABLE = "pgha"


def firewall(ctx: Context, home: str) -> Iterable[Resource]:
    here = (ctx.host.name,)
    package = ctx.package("nftables")
    path = f"{home}/nftables.nft"
    closed = [opening for opening in ctx.openings if opening.peers is not None]
    rules = ctx.file(
        path,
        "system/nftables.nft",
        options={"needs": (package.address,), "check": ("nft", "-c", "-f", "{}")},
        table=TABLE,
        openings=closed,
    )
    table = NftablesTable(
        hosts=here,
        name=TABLE,
        path=path,
        rules=rules.content.decode(),
        needs=(rules.address,),
    )
    unit = ctx.file(
        "/etc/systemd/system/pgha-nftables.service",
        "system/pgha-nftables.service",
        options={},
        path=path,
        table=TABLE,
    )
    yield from (package, rules, table, unit)
    yield Unit(
        hosts=here,
        name="pgha-nftables.service",
        needs=(table.address,),
        restart_on=(unit.address,),
    )
