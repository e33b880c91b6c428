"""What makes one host out of the shared root file system: its own files, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from builder.machines.lab.layout import PACKAGE_CACHE_PORT, Layout

NETWORK_FILE = "etc/pgha-lab-network"


@dataclass(frozen=True, kw_only=True)
class HostFile:
    text: str
    mode: int = 0o644


def lasting_files(host: str, address: IPv4Address, machine_id: str) -> Mapping[str, HostFile]:
    """Files that are written once, when a host is made; from then on they are the host's own."""
    return {
        "etc/hostname": HostFile(text=f"{host}\n"),
        "etc/hosts": HostFile(
            text=f"127.0.0.1\tlocalhost\n{address}\t{host}\n::1\tlocalhost ip6-localhost\n"
        ),
        "etc/machine-id": HostFile(text=f"{machine_id}\n"),
    }


def lab_files(
    layout: Layout,
    address: IPv4Address,
    *,
    public_key: str,
    resolver: str,
    apt: Mapping[str, str],
) -> Mapping[str, HostFile]:
    """Files that are the lab's, and written at each start."""
    proxy = f"http://{layout.gateway}:{PACKAGE_CACHE_PORT}"
    settings = {**apt, "Acquire::http::Proxy": proxy}
    return {
        NETWORK_FILE: HostFile(
            text=f"ADDRESS={layout.with_prefix(address)}\nGATEWAY={layout.gateway}\n"
        ),
        "etc/resolv.conf": HostFile(text=resolver),
        "etc/apt/apt.conf.d/90lab": HostFile(
            text="".join(f'{name} "{value}";\n' for name, value in settings.items())
        ),
        "root/.ssh/authorized_keys": HostFile(text=f"{public_key} lab\n", mode=0o600),
    }
