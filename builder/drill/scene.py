"""Who is who in a healthy cluster. Pure, over the JSON of `pgha-build status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.disk import own
from builder.health import SYNCHRONOUS
from builder.spec.model import ClusterSpec


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Who is who at the moment of the fault; names of hosts.

    Of `replicas`, those that are waited for come first: only their loss is felt. `data` and
    `etcd_data` say where the data of PostgreSQL and of etcd is mounted by itself. `software` maps
    names to the versions that run.
    """

    spec: ClusterSpec
    leader: str
    replicas: tuple[str, ...]
    holder: str
    balancers: tuple[str, ...]
    etcd_leader: str
    etcd: tuple[str, ...]
    data: Mapping[str, str]
    etcd_data: Mapping[str, str]
    software: Mapping[str, str]

    @property
    def etcd_follower(self) -> str:
        return next(host for host in self.etcd if host != self.etcd_leader)

    @property
    def virtual_ip(self) -> str:
        """Without its prefix length; empty where there is none."""
        return str(self.spec.sections.get("keepalived", {}).get("virtual_ip", "")).split("/")[0]

    def address(self, host: str) -> str:
        return self.spec.hosts[host].address


def scene(spec: ClusterSpec, status: Mapping[str, Any]) -> Scene:
    """Of a healthy cluster."""
    patroni, etcd = status["patroni"], status["etcd"]
    members = patroni["members"]
    replicas = [name for name in members if name != patroni["leader"]]
    replicas.sort(key=lambda name: members[name]["role"] not in SYNCHRONOUS)
    holders = status.get("keepalived", {}).get("holders", [])
    balancers = tuple(status.get("haproxy", {}).get("balancers", {}))
    return Scene(
        spec=spec,
        leader=patroni["leader"],
        replicas=tuple(replicas),
        holder=holders[0] if holders else "",
        balancers=balancers,
        etcd_leader=next((name for name, m in etcd["members"].items() if m["leader"]), ""),
        etcd=tuple(etcd["members"]),
        data={name: own(member["disk"]) for name, member in members.items()},
        etcd_data={name: own(member["disk"]) for name, member in etcd["members"].items()},
        software={
            "PostgreSQL": _versions(members, "postgresql"),
            "Patroni": _versions(members, "patroni"),
            "etcd": _versions(etcd["members"], "version"),
        },
    )


def _versions(members: Mapping[str, Mapping[str, Any]], key: str) -> str:
    return ", ".join(sorted({member[key] for member in members.values() if member.get(key)}))
