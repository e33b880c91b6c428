"""What a role is: values and pure functions, gathered in one `Role` per package under `roles/`.

A role turns the spec into desired resources for each host that carries it. It does no IO, and it is
never named by the engine; the registry finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from builder import debian
from builder.resources.base import Change, Resource
from builder.resources.certificate import Certificate
from builder.resources.file import File
from builder.resources.package import Package
from builder.security.authority import Authority, CertificateRequest
from builder.security.secret import Secret
from builder.spec.model import ClusterSpec, Host
from builder.spec.section import Section
from builder.templates import Rendered, render

if TYPE_CHECKING:
    from builder.operations.course import Operation


class Secrets(Protocol):
    """Where passwords and keys come from; the same name always gives the same secret."""

    def password(self, name: str) -> Secret: ...

    def authority(self, name: str) -> Authority: ...

    def leaf_key(self, host: str, purpose: str) -> Secret: ...

    def salt(self, name: str) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A TCP port that a host listens on at `address`, and who may reach it (None: everybody).

    `protocol` is `tcp`, or `vrrp`, which has no port.
    """

    port: int
    peers: tuple[str, ...] | None
    what: str
    address: str = ""
    protocol: str = "tcp"


@dataclass(frozen=True, kw_only=True)
class Promise:
    """How long an outage lasts at worst, by the cluster's own timings: `seconds`, for `fault`."""

    fault: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a role may know while it says what one host needs."""

    spec: ClusterSpec
    host: Host
    secrets: Secrets
    now: datetime
    openings: tuple[Opening, ...] = ()
    protected_units: tuple[str, ...] = ()

    def section(self, name: str) -> Mapping[str, Any]:
        return self.spec.sections[name]

    def address(self, kind: str, name: str) -> str:
        """The address of another resource on this host."""
        return f"{self.host.name}/{kind}:{name}"

    def render(self, template: str, /, **values: Any) -> Rendered:
        """Render a template; every one may use `cluster` and `host`."""
        return render(template, {"cluster": self.spec.name, "host": self.host, **values})

    def file(
        self, path: str, template: str, /, *, options: Mapping[str, Any], **values: Any
    ) -> File:
        """A file from a template; `options` are the other fields of File."""
        rendered = self.render(template, **values)
        return File(
            hosts=(self.host.name,),
            name=path,
            content=rendered.content,
            sensitive=rendered.sensitive,
            masked=rendered.masked,
            **options,
        )

    def packages(self, *names: str, needs: Iterable[str] = ()) -> list[Package]:
        """Programs that systemd runs: installed only after what keeps packages from our units."""
        first = (*needs, self.address("file", debian.POLICY))
        return [self.package(name, *first) for name in names]

    def package(self, name: str, *needs: str) -> Package:
        """A package, in the version that cluster.yml pins, from the sources it names."""
        section = self.spec.sections["packages"]
        version = section["versions"].get(name)
        if section["sources"]:
            needs = (*needs, self.address("apt_lists", "apt"))
        return Package(hosts=(self.host.name,), name=name, version=version, needs=needs)

    def certificate(
        self,
        path: str,
        *,
        authority: str,
        purpose: str,
        request: CertificateRequest,
        **options: Any,
    ) -> Certificate:
        """A certificate of this host, signed by one of the cluster's authorities."""
        return Certificate(
            hosts=(self.host.name,),
            name=path,
            request=request,
            authority=self.secrets.authority(authority),
            key=self.secrets.leaf_key(self.host.name, purpose),
            now=self.now,
            **options,
        )

    def authority_file(self, path: str, authority: str, **options: Any) -> File:
        """The public certificate of an authority, for whoever verifies what it signed."""
        content = self.secrets.authority(authority).bundle_pem
        return File(hosts=(self.host.name,), name=path, content=content, **options)


def _nothing(*_: object) -> Iterable[Any]:
    return ()


Needed = Callable[[ClusterSpec, Host, Mapping[str, Any]], str]
Guard = Callable[[ClusterSpec, Mapping[str, Change]], None]
Refine = Callable[[ClusterSpec, Mapping[str, Change]], Mapping[str, Change]]


@dataclass(frozen=True, kw_only=True)
class StatusProbe:
    """A role's part of `status`: what to ask a host, and what all answers together mean.

    `script` is shell for one host; `summarise` turns the hosts' output into the JSON of `status`
    and is pure; `rows` turns that JSON into lines for a person.
    """

    script: Callable[[ClusterSpec, Host], str]
    summarise: Callable[[ClusterSpec, Mapping[str, str]], Mapping[str, Any]]
    rows: Callable[[Mapping[str, Any]], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What may live inside the database beside what cluster.yml names, for whoever else manages it.

    `role` (spec, secrets, name; login, options, member_of, connection_limit) and `database` (spec,
    name; owner, extensions) raise PlanError for a name that is cluster.yml's. `clients` is the role
    whose members may come in through the balancers.
    """

    role: Callable[..., Resource]
    database: Callable[..., Sequence[Resource]]
    clients: str


@dataclass(frozen=True, kw_only=True)
class Role:
    """One role. `services` are its units that nobody but pgha-build starts and restarts.

    `resources` is called once per host that carries the role (`everywhere`: once per host), and
    `cluster_resources` once. `openings` are the ports of a host, `promises` its share of the
    outage bounds. `refine` says what can only be said with all hosts in view: changes that replace
    those of the same address, or a PlanError that refuses the plan. `connection` is what a client
    needs (`primary`, `replica`: libpq URIs). `watch` is shell that runs as long as a drill samples
    the host, and answers each line with one of words, what the host is now, in a second at most:
    `primary`, `holder` (of the address), `up:NAME` (gets writes).
    `operations` are what `pgha-build ops` offers for it. `needed` says, from the JSON of `status`,
    why the cluster cannot do without a host now ("" where it can). `guard` sees all changes, also
    removals, and raises PlanError for a plan that would lose data; `caution` does, too, and is left
    out by `--no-check` and by operations that see to it. `inside` is what it can hold.
    """

    name: str
    doc: str
    sections: Mapping[str, Section] = field(default_factory=dict)
    services: tuple[str, ...] = ()
    everywhere: bool = False
    resources: Callable[[Context], Iterable[Resource]]
    cluster_resources: Callable[[ClusterSpec, Secrets], Iterable[Resource]] = _nothing
    openings: Callable[[ClusterSpec, Host], Iterable[Opening]] = _nothing
    promises: Callable[[ClusterSpec], Iterable[Promise]] = _nothing
    refine: Refine | None = None
    connection: Callable[[ClusterSpec], Mapping[str, str]] | None = None
    status: StatusProbe | None = None
    watch: Callable[[ClusterSpec, Host], str] | None = None
    operations: tuple[Operation, ...] = ()
    needed: Needed | None = None
    guard: Guard | None = None
    caution: Guard | None = None
    inside: Inside | None = None
