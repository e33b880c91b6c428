"""Damage to the links between hosts: cut, or lossy, per direction, by nftables on the bridge."""

from __future__ import annotations

from builder.errors import MachineError
from builder.machines.lab.commands import run
from builder.machines.lab.layout import GATEWAY, Layout

_TABLE = "bridge links"
_CHAIN = (
    f"add table {_TABLE}\nadd chain {_TABLE} damage {{ type filter hook forward priority 0; }}\n"
)


def drop(layout: Layout, pairs: list[tuple[str, str]], *, percent: int = 100) -> None:
    """Lose `percent` of what goes from the first to the second of each pair (ARP included)."""
    if not 1 <= percent <= 100:
        raise MachineError(f"{percent} % of packets cannot be lost", do="Choose 1 to 100.")
    luck = "" if percent == 100 else f"numgen random mod 100 < {percent} "
    rules = [
        f'add rule {_TABLE} damage iifname "{_port(layout, a)}" oifname "{_port(layout, b)}" '
        f"{luck}counter drop\n"
        for a, b in pairs
    ]
    _nft(layout, _CHAIN + "".join(rules))


def heal(layout: Layout) -> None:
    """Undo all damage to links."""
    _nft(layout, f"add table {_TABLE}\ndelete table {_TABLE}\n")


def _nft(layout: Layout, script: str) -> None:
    if not layout.namespace_path.exists():
        raise MachineError(
            f"the lab {layout.name} is not up", why="It has no links.", do="pgha-build lab up"
        )
    run(["nft", "-f", "-"], stdin=script, namespace=layout.namespace_path)


def _port(layout: Layout, host: str) -> str:
    return GATEWAY if host == GATEWAY else layout.place(host).port
