"""What the tests of the pure middle start from: shapes of clusters, secrets that are no secrets,
hosts that are only their answers, and golden files (`PGHA_UPDATE_GOLDEN=1` writes them anew).

A shape is a cluster.yml under `tests/golden/shapes`. The authorities' certificates are data beside
them: made once, for a signature is never the same twice.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path

import pytest

from builder import registry
from builder.engine.desired import Desired, desired, present
from builder.engine.manifest import Manifest
from builder.engine.observe import Look
from builder.engine.plan import Plan, make_plan
from builder.errors import TransportError
from builder.resources.base import Absent, Change, Observed, Present, Resource
from builder.security.authority import Authority, derived_key, new_authority
from builder.security.secret import Secret
from builder.spec.model import ClusterSpec
from builder.spec.tree import parse
from builder.spec.validate import validate

GOLDEN = Path(__file__).parents[1] / "golden"
UPDATE = os.environ.get("PGHA_UPDATE_GOLDEN") == "1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
_SEED = b"not a secret: the seed of the tests"


@cache
def _authority(name: str) -> Authority:
    file = GOLDEN / "authorities" / f"{name}.pem"
    if not file.exists():
        if not UPDATE:
            pytest.fail(f"no authority {name} yet: PGHA_UPDATE_GOLDEN=1 makes one")
        made = new_authority(f"golden {name} CA", NOW)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(made.certificate_pem.decode() + made.key_pem.reveal())
    certificate, mark, key = file.read_text().partition("-----BEGIN PRIVATE KEY-----\n")
    return Authority(certificate_pem=certificate.encode(), key_pem=Secret(mark + key))


@cache
def _leaf_key(host: str, purpose: str) -> Secret:
    return derived_key(_SEED, host, purpose, 1)


def _telling(text: str) -> str:
    """The part of a secret to search for: of a key its first line of base64."""
    return text.splitlines()[1] if text.startswith("-----") else text


@dataclass(frozen=True)
class FakeSecrets:
    """The same name always gives the same, in every run. `given` is what was asked for."""

    given: dict[str, str] = field(default_factory=dict)

    def _give(self, what: str, secret: Secret) -> Secret:
        self.given[what] = secret.reveal()
        return secret

    def password(self, name: str) -> Secret:
        return self._give(f"password {name}", Secret(f"fake-password-of-{name}"))

    def authority(self, name: str) -> Authority:
        found = _authority(name)
        self._give(f"authority {name}", found.key_pem)
        return found

    def leaf_key(self, host: str, purpose: str) -> Secret:
        return self._give(f"key {host} {purpose}", _leaf_key(host, purpose))

    def salt(self, name: str) -> bytes:
        return hashlib.sha256(name.encode()).digest()[:16]

    def texts(self) -> Mapping[str, str]:
        """What must never be shown, by what it is: passwords, and the middle line of each key."""
        return {what: _telling(text) for what, text in self.given.items()}


def read(text: str) -> ClusterSpec:
    """A spec from text. Raises SpecError."""
    path = Path("/srv/cluster.yml")
    return validate(parse(text, "cluster.yml"), registry.vocabulary(), path)


@dataclass(frozen=True)
class World:
    """A spec, what it asks of its hosts, and hosts made of answers."""

    spec: ClusterSpec
    secrets: FakeSecrets = field(default_factory=FakeSecrets)

    @cached_property
    def desired(self) -> Desired:
        return desired(self.spec, registry.roles(), self.secrets, NOW)

    @property
    def resources(self) -> Iterator[Resource]:
        return iter(self.desired.resources)

    def __getitem__(self, address: str) -> Resource:
        return next(item for item in self.resources if item.address == address)

    def manifest(self, host: str) -> Manifest:
        """What a finished apply leaves on a host."""
        here = [r for r in self.resources if host in r.hosts and r.observed_in_plan]
        return Manifest().settled(self.spec.name, here)

    def looks(
        self,
        overrides: Mapping[str, Observed] | None = None,
        *,
        otherwise: Callable[[Resource], Observed] | None = None,
        manifest: Callable[[str], Manifest] | None = None,
        errors: Mapping[str, TransportError] | None = None,
    ) -> dict[str, Look]:
        """Hosts on which everything is as wanted, but for what `overrides` says by address."""
        said = otherwise or (lambda r: Present(attributes=r.attributes()))
        found = {}
        for host in self.spec.hosts:
            if error := (errors or {}).get(host):
                found[host] = Look(host=host, error=error)
                continue
            observed = {
                r.address: said(r) for r in self.resources if host in r.hosts and r.observed_in_plan
            }
            here = (manifest or self.manifest)(host)
            more = {
                a: o for a, o in (overrides or {}).items() if a in observed or a in here.entries
            }
            found[host] = Look(host=host, observed={**observed, **more}, manifest=here)
        return found

    def plan(self, looks: Mapping[str, Look]) -> Plan:
        resources, kinds = self.desired.resources, registry.kinds()
        return make_plan(self.spec.name, resources, looks, kinds, refine=self._refine)

    def _refine(self, changes: Mapping[str, Change]) -> Mapping[str, Change]:
        refined = dict(changes)
        for role in present(self.spec, registry.roles()):
            if role.refine:
                refined |= role.refine(self.spec, refined)
        return refined

    def empty(self) -> dict[str, Look]:
        """Hosts as Debian installs them."""
        return self.looks(otherwise=_nothing_there, manifest=lambda _: Manifest())


def _nothing_there(resource: Resource) -> Observed:
    return Absent(elsewhere=resource.late)


@cache
def _world(shape: str) -> World:
    return World(read((GOLDEN / "shapes" / f"{shape}.yml").read_text()))


@pytest.fixture(scope="session")
def world() -> Callable[[str], World]:
    """A shape by name."""
    return _world


@pytest.fixture(scope="session")
def world_of() -> Callable[[str], World]:
    """A world from the text of a cluster.yml."""
    return lambda text: World(read(text))


@pytest.fixture(scope="session")
def seven() -> World:
    return _world("seven")


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def fake_secrets() -> FakeSecrets:
    return FakeSecrets()


@pytest.fixture(scope="session")
def samples() -> Mapping[str, list[Resource]]:
    """Every resource that any shape asks for, by kind."""
    found: dict[str, list[Resource]] = {}
    for shape in sorted((GOLDEN / "shapes").glob("*.yml")):
        for resource in _world(shape.stem).resources:
            found.setdefault(resource.kind, []).append(resource)
    return found


@pytest.fixture(scope="session")
def all_secrets(samples: Mapping[str, list[Resource]]) -> Mapping[str, str]:
    """Every secret text that went into `samples`."""
    found: dict[str, str] = {}
    for shape in (GOLDEN / "shapes").glob("*.yml"):
        found |= {f"{shape.stem} {k}": v for k, v in _world(shape.stem).secrets.texts().items()}
    for resource in (resource for alike in samples.values() for resource in alike):
        for name, value in vars(resource).items():
            if isinstance(value, Secret):
                found[f"its {name} {resource.address}"] = _telling(value.reveal())
    return found


@pytest.fixture(scope="session")
def golden() -> Callable[[str, str], None]:
    """Compare a text with the golden file of that name, whole."""

    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        if UPDATE:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        assert file.exists(), f"{name} is new: PGHA_UPDATE_GOLDEN=1 writes it"
        assert text == file.read_text(), f"{name} differs: PGHA_UPDATE_GOLDEN=1, then git diff"

    return compare
