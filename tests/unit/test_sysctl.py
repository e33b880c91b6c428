"""Kernel parameters: ours, those of cluster.yml, and pairs of which the kernel knows one."""

from __future__ import annotations

from typing import Any

import pytest

from builder.errors import SpecError
from builder.resources.file import File

SPEC = """
name: orders
hosts:
  e1: {address: 10.0.0.1, roles: [etcd]}
  pg1: {address: 10.0.0.2, roles: [patroni]}
"""


def kept(world_of: Any, sysctl: str = "{}") -> tuple[set[str], str]:
    """The parameters of pg1, and the file that keeps them."""
    world = world_of(f"{SPEC}system: {{sysctl: {sysctl}}}\n")
    live = {r.name for r in world.resources if r.kind == "sysctl" and r.hosts == ("pg1",)}
    file = world["pg1/file:/etc/sysctl.d/zz-pgha-build.conf"]
    assert isinstance(file, File)
    return live, file.content.decode()


@pytest.mark.parametrize(
    ("named", "ours"),
    [
        ("vm.dirty_ratio", "vm.dirty_bytes"),
        ("vm.dirty_background_ratio", "vm.dirty_background_bytes"),
        ("vm.overcommit_kbytes", "vm.overcommit_ratio"),
    ],
)
def test_ours_gives_way_to_the_counterpart_that_would_zero_it(
    named: str, ours: str, world_of: Any
) -> None:
    before, _ = kept(world_of)
    after, file = kept(world_of, f'{{{named}: "20"}}')
    assert (before - after, after - before) == ({ours}, {named})
    assert f"{named} = 20\n" in file
    assert f"{ours} = " not in file


def test_both_of_a_pair_are_refused(world_of: Any) -> None:
    with pytest.raises(SpecError, match=r"either vm\.dirty_ratio or vm\.dirty_bytes"):
        kept(world_of, '{vm.dirty_ratio: "20", vm.dirty_bytes: "5"}')
