"""An etcdctl command line for an etcd host. Pure."""

from __future__ import annotations

from builder.resources.base import quoted
from roles.etcd.settings import TLS


def etcdctl(endpoints: str) -> str:
    words = (
        "etcdctl",
        f"--endpoints={endpoints}",
        f"--cacert={TLS}/client-ca.crt",
        f"--cert={TLS}/client.crt",
        f"--key={TLS}/client.key",
    )
    return f"ETCDCTL_API=3 {quoted(words)}"
