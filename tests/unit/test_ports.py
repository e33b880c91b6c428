"""Ports that a host cannot give to two."""

from __future__ import annotations

from typing import Any

import pytest

from builder.errors import SpecError

HOSTS = """
name: orders
ssh: {{port: {ssh}}}
hosts:
  one: {{address: 10.0.0.31, roles: [etcd, patroni, haproxy]}}
haproxy: {{status_port: {status}, primary_port: {primary}}}
"""


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ({"ssh": 22, "status": 22}, "HAProxy's state and metrics wants port 22, at which SSH is"),
        ({"ssh": 8404}, "HAProxy's state and metrics wants port 8404, at which SSH is"),
        ({"primary": 8008}, "both want 10.0.0.31:8008"),
    ],
)
def test_a_port_that_is_taken_is_refused(ports: dict[str, int], said: str, world_of: Any) -> None:
    with pytest.raises(SpecError, match=said):
        world_of(HOSTS.format(**{"ssh": 22, "status": 8404, "primary": 6432, **ports}))


def test_others_are_not(world_of: Any) -> None:
    assert world_of(HOSTS.format(ssh=22, status=8404, primary=6432)).spec
