"""The lab's network: a namespace with a bridge, and a cable from it to this machine.

        machine ── veth (gateway address, masquerade) ──┐
                                                     br0 in namespace pgha-NAME
        host ── host0 ════════ vb-… (one per host) ─────┘

The machine's end is just another port, so the machine sees ARP, gratuitous too, and reaches the
hosts directly. As long as the lab exists, an `unreachable` route of last resort keeps packets for
its addresses from leaving through the machine's own interface.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from builder.errors import MachineError
from builder.machines.lab.commands import run
from builder.machines.lab.layout import BRIDGE, GATEWAY, NETWORK_RECORD, STATE, Layout
from builder.machines.lab.locks import locked

_LAST_RESORT = "4278198272"
_INOTIFY_INSTANCES = 8192  # each host's systemd holds a few; 128 are enough for 24 hosts
_FORWARDING = Path("/run/pgha-build/forwarding")  # interfaces that we made forward


def claim(layout: Layout) -> None:
    """Take the network's addresses for this lab, or refuse; holding the lock of all labs."""
    (layout.directory / NETWORK_RECORD).write_text(f"{layout.network}\n")


def refuse_overlap(layout: Layout) -> None:
    """MachineError if the network, or a part of it, is another lab's or the machine's own."""
    for lab, network in _claimed():
        if lab != layout.name and network.overlaps(layout.network):
            raise _taken(layout, f"the lab {lab} uses {network}")
        if lab == layout.name and network != layout.network:
            raise _taken(layout, f"this lab was made in {network}")
    for route in _routes():
        if _overlaps(route, layout):
            raise _taken(layout, f"this machine has a route to {route['dst']}")


def _claimed() -> Iterator[tuple[str, IPv4Network]]:
    for record in STATE.glob(f"*/{NETWORK_RECORD}"):
        if text := record.read_text().strip():  # empty when its writer was killed
            yield record.parent.name, IPv4Network(text)


def _taken(layout: Layout, by: str) -> MachineError:
    return MachineError(
        f"the lab {layout.name} cannot have the network {layout.network}: {by}",
        why="Packets for one would reach the other.",
        do="Give the hosts other addresses, or take the other lab down (pgha-build lab down).",
    )


def _routes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(["ip", "-j", "-4", "route"]) or "[]")
    return found


def _overlaps(route: dict[str, Any], layout: Layout) -> bool:
    ours = route.get("dev") == layout.veth or (
        route.get("type") == "unreachable" and route["dst"] == str(layout.network)
    )
    if ours or route["dst"] == "default":
        return False
    return IPv4Network(route["dst"]).overlaps(layout.network)


def whole(layout: Layout) -> bool:
    """Is every part of the network there?"""
    return linked(layout) and _has_way_out(layout)


def linked(layout: Layout) -> bool:
    """Do the hosts reach each other and this machine?"""
    try:
        inside = run(["ip", "-o", "link"], namespace=layout.namespace_path)
        outside = run(["ip", "-o", "-4", "address", "show", "dev", layout.veth, "up"])
    except MachineError:
        return False
    gateway = f" {layout.gateway}/" in outside
    parts = (f" {BRIDGE}: " in inside, f" {GATEWAY}@" in inside, gateway)
    return all(parts) and any(route.get("dev") == layout.veth for route in _routes())


def _has_way_out(layout: Layout) -> bool:
    try:
        run(["nft", "list", "table", "ip", layout.table])
    except MachineError:
        return False
    return True


def make(layout: Layout) -> None:
    """Make the network anew; `remove` must have been there before."""
    run(["ip", "netns", "add", layout.namespace])
    cable = f"type veth peer name {GATEWAY} netns {layout.namespace}"
    run(
        ["ip", "-batch", "-"],
        stdin=f"link add {layout.veth} {cable}\n"
        f"address add {layout.with_prefix(layout.gateway)} dev {layout.veth}\n"
        f"link set {layout.veth} up\n"
        f"route replace unreachable {layout.network} metric {_LAST_RESORT}\n",
    )
    run(
        ["ip", "-batch", "-"],
        stdin="link set lo up\n"
        f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
        f"link set {GATEWAY} master {BRIDGE} up\n"
        f"link set {BRIDGE} up\n",
        namespace=layout.namespace_path,
    )
    _allow_many_hosts()
    open_the_way_out(layout)


def open_the_way_out(layout: Layout) -> None:
    """Through this machine; also where a firewall's reload has swept it away."""
    if _has_way_out(layout):
        return
    rule = f"ip saddr {layout.network} ip daddr != {layout.network} masquerade"
    run(
        ["nft", "-f", "-"],
        stdin=f"table ip {layout.table} {{ chain postrouting {{\n"
        f"type nat hook postrouting priority 100;\n{rule}\n}}\n}}\n",
    )
    _conf(layout.veth).write_text("1")
    for device in {route["dev"] for route in _routes() if route["dst"] == "default"}:
        if _conf(device).read_text().strip() == "0":
            _FORWARDING.mkdir(parents=True, exist_ok=True)
            (_FORWARDING / device).touch()
            _conf(device).write_text("1")


def remove(layout: Layout) -> None:
    """Remove whatever is there of the network; nothing is left of it, also after half a `make`."""
    _if_there(["ip", "link", "delete", layout.veth])
    _if_there(["nft", "delete", "table", "ip", layout.table])
    _if_there(["ip", "netns", "delete", layout.namespace])
    while any(_is_last_resort(route, layout) for route in _routes()):
        run(["ip", "route", "delete", "unreachable", str(layout.network), "metric", _LAST_RESORT])


def stop_forwarding_unless_needed() -> None:
    """Give the machine's interfaces their setting back once no lab is left.

    Not where somebody has turned forwarding on for all since: it may rely on these.
    """
    with locked(STATE):
        if any(STATE.glob(f"*/{NETWORK_RECORD}")) or not _FORWARDING.is_dir():
            return
        for device in _FORWARDING.iterdir():
            if _conf(device.name).exists() and _conf("all").read_text().strip() == "0":
                _conf(device.name).write_text("0")
            device.unlink()


def _is_last_resort(route: dict[str, Any], layout: Layout) -> bool:
    return route.get("type") == "unreachable" and route["dst"] == str(layout.network)


def _if_there(argv: list[str]) -> None:
    try:
        run(argv)
    except MachineError as error:
        if not any(text in error.what for text in ("Cannot find", "No such file")):
            raise


def _conf(device: str) -> Path:
    return Path("/proc/sys/net/ipv4/conf") / device / "forwarding"


def _allow_many_hosts() -> None:
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < _INOTIFY_INSTANCES:
        limit.write_text(str(_INOTIFY_INSTANCES))
