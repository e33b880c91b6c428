"""Hosts that other hosts remember, and cluster.yml does not: asked, cleaned, or let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.engine import manifest as manifests
from builder.engine.desired import Desired
from builder.engine.manifest import Manifest
from builder.errors import PlanError, SecretsError
from builder.resources.base import Resource
from builder.transport.base import Connections, Endpoint
from builder.workspace import Workspace
from tests.unit.folders import Folder, Site

SPEC = """
name: orders
machines: {provider: existing}
hosts:
  a: {address: 10.0.0.1, roles: [etcd]}
  b: {address: 10.0.0.2, roles: [patroni]}
"""
HOSTS = {"a": "10.0.0.1", "b": "10.0.0.2"}


class Reached(Connections):
    """Hosts that are folders; `more` are those that can be reached, too."""

    def __init__(self, hosts: Mapping[str, Folder], more: Mapping[str, Folder]) -> None:
        super().__init__(hosts)
        self._more = more

    def reach(self, endpoints: Mapping[str, Endpoint], timeout_seconds: float = 15) -> None:
        self.update({host: self._more[host] for host in endpoints})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, ["a", "b", "c"])


def workspace(world_of: Any, resources: Sequence[Resource]) -> Workspace:
    store: Any = SimpleNamespace(is_new=False, id="ours", path="cluster.secrets.yml")
    found = Workspace(spec=world_of(SPEC).spec, store=store)
    found.__dict__["desired"] = Desired(resources=tuple(resources), origins={})
    return found


def remember(
    site: Site,
    host: str,
    hosts: Mapping[str, str],
    resources: Sequence[Resource] = (),
    secrets: str = "",
) -> None:
    state = site.hosts[host].folder / "state"
    state.mkdir()
    known = Manifest(hosts=hosts, secrets=secrets).settled("orders", resources)
    (state / "manifest.json").write_text(manifests.dump(known))


def test_a_host_that_is_clean_already_is_let_go_and_forgotten(site: Site, world_of: Any) -> None:
    """It was cleaned while `b`, which remembers it, was away; or it is somebody else's by now."""
    wanted = [site.file("a", "f"), site.file("b", "f")]
    remember(site, "b", {**HOSTS, "c": "10.0.0.3"})
    work = workspace(world_of, wanted)
    reached = Reached({h: site.hosts[h] for h in "ab"}, {"c": site.hosts["c"]})
    looks = work.look(reached)
    assert set(reached) == set(looks) == {"a", "b"}
    assert work.plan(reached, looks).departed == {}


def test_a_host_that_a_cluster_of_the_same_name_has_taken_is_let_go(
    site: Site, world_of: Any
) -> None:
    wanted = [site.file("a", "f"), site.file("b", "f")]
    remember(site, "a", {**HOSTS, "c": "10.0.0.3"}, [wanted[0]], secrets="ours")
    remember(site, "c", {"c": "10.0.0.3"}, [site.file("c", "f")], secrets="another's")
    reached = Reached({h: site.hosts[h] for h in "ab"}, {"c": site.hosts["c"]})
    assert set(workspace(world_of, wanted).look(reached)) == {"a", "b"}


def test_a_host_that_got_another_name_is_refused_untouched(site: Site, world_of: Any) -> None:
    wanted = [site.file("b", "f")]
    remember(site, "a", {"a": "10.0.0.1", "old": "10.0.0.2"})
    remember(site, "b", {}, [replace(wanted[0], hosts=("old",))])
    work = workspace(world_of, wanted)
    reached = Reached({h: site.hosts[h] for h in "ab"}, {"old": site.hosts["b"]})
    with pytest.raises(PlanError, match="b has the address of old") as refused:
        work.plan(reached, work.look(reached))
    assert "pgha-build state forget old" in refused.value.do


def test_a_cluster_of_the_same_name_that_has_other_secrets_is_left_alone(
    site: Site, world_of: Any
) -> None:
    """A new laptop where `init` was run, or a second cluster that is called as the first."""
    wanted = [site.file("a", "f"), site.file("b", "f")]
    remember(site, "a", HOSTS, [wanted[0]], secrets="ours")
    remember(site, "b", HOSTS, [wanted[1]], secrets="another's")
    work = workspace(world_of, wanted)
    with pytest.raises(SecretsError, match="b was set up with other secrets") as refused:
        work.look(Reached({h: site.hosts[h] for h in "ab"}, {}))
    assert "from your copy" in refused.value.do
