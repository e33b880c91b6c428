"""What a client needs to connect: libpq URIs without a secret in them. Pure.

The password is in a file that the URI names (libpq's `passfile`), so the URI can be shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from builder.spec.model import ClusterSpec
from roles.haproxy.settings import NAME, client_address


def connection(spec: ClusterSpec) -> Mapping[str, str]:
    """`primary` and `replica`, for the first user and database of the spec."""
    balancers = spec.with_role(NAME)
    users = spec.sections["postgresql"]["users"]
    if not balancers or not users:
        return {}
    section = spec.sections["haproxy"]
    databases = spec.sections["postgresql"]["databases"]
    database = databases[0]["name"] if databases else "postgres"
    ports = {"primary": section["primary_port"], "replica": section["replica_port"]}
    hosts = [client_address(spec, balancers[0])]
    if not spec.sections.get("keepalived", {}).get("virtual_ip"):
        hosts = [balancer.address for balancer in balancers]
    return {
        name: _uri(spec, users[0]["name"], hosts, port, database) for name, port in ports.items()
    }


def _uri(spec: ClusterSpec, user: str, hosts: list[str], port: int, database: str) -> str:
    home = spec.path.parent / ".pgha" / spec.name
    where = ",".join(f"{host}:{port}" for host in hosts)
    files = f"sslrootcert={quote(str(home / 'ca.crt'))}&passfile={quote(str(home / 'pgpass'))}"
    return f"postgresql://{user}@{where}/{database}?sslmode=verify-full&{files}"
