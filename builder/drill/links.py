"""Links that are cut or lossy, by nftables on the host itself. Pure: shell comes out."""

from __future__ import annotations

from builder.drill.scene import Scene
from builder.drill.steps import Script

TABLE = "pgha_drill"


# Where sshd listens, and where this session came in; sudo may hide the latter.
_SSH_PORTS = (
    "ports=$( { echo 22; sshd -T 2>/dev/null | awk '$1 == \"port\" { print $2 }'; "
    'set -- ${SSH_CONNECTION:-}; echo "${4:-}"; } | grep . | sort -un | paste -sd, )'
)


def _filtered(host: str, incoming: str, outgoing: str, *, look: str = "", more: str = "") -> Script:
    """SSH, loopback and what is already answered to us stay: the drill must be able to heal.

    `more` is a table of the family netdev, which may use what `look` found.
    """
    tables = (
        f"table inet {TABLE} {{\n"
        " chain incoming { type filter hook input priority -300;\n"
        f"  iif lo accept; tcp dport {{ $ports }} accept; {incoming}\n }}\n"
        " chain outgoing { type filter hook output priority -300;\n"
        f"  oif lo accept; tcp sport {{ $ports }} accept; {outgoing}\n }}\n}}\n{more}"
    )
    return Script(
        host=host,
        before=f"{_SSH_PORTS}\n{look}\nrules=$(cat <<PGHA_NFT\n{tables}\nPGHA_NFT\n)",
        do='echo "$rules" | nft -f -',
        undo="\n".join(
            f"nft delete table {family} {TABLE} 2>/dev/null || true"
            for family in ("inet", *(["netdev"] if more else []))
        ),
        still=f"nft list table inet {TABLE} >/dev/null",
    )


def isolated(scene: Scene, host: str) -> Script:
    """Cut off from everything; a balancer is not heard to have the virtual address, either.

    Keepalived announces that over a raw socket, which only the family netdev sees.
    """
    if "keepalived" not in scene.spec.hosts[host].roles or not scene.virtual_ip:
        return _filtered(host, "drop", "drop")
    own = f"ip -o -4 address show to {scene.address(host)}"
    hook = 'type filter hook egress device "$device" priority -300;'
    return _filtered(
        host,
        "drop",
        "drop",
        look=f"device=$({own} | awk '{{ sub(/@.*/, \"\", $2); print $2; exit }}')",
        more=f"table netdev {TABLE} {{\n"
        f" chain outgoing {{ {hook} arp saddr ip {scene.virtual_ip} drop\n }}\n}}",
    )


def deaf(host: str) -> Script:
    """It is heard, and hears nobody."""
    return _filtered(host, "drop", "")


def cut_from(host: str, addresses: tuple[str, ...]) -> Script:
    peers = ", ".join(addresses)
    return _filtered(host, f"ip saddr {{ {peers} }} drop", f"ip daddr {{ {peers} }} drop")


def lossy(host: str, addresses: tuple[str, ...], percent: int) -> Script:
    peers, luck = ", ".join(addresses), f"numgen random mod 100 < {percent} drop"
    return _filtered(host, f"ip saddr {{ {peers} }} {luck}", f"ip daddr {{ {peers} }} {luck}")


def cut_vrrp(host: str) -> Script:
    return _filtered(host, "ip protocol 112 drop", "ip protocol 112 drop")
