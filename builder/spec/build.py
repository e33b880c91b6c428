"""Valid, normalised values to the model. Pure but for `~`, which is the user's home."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.spec.model import ClusterSpec, Host, Machines, Ssh
from builder.spec.section import Vocabulary


def build(values: Mapping[str, Any], vocabulary: Vocabulary, path: Path) -> ClusterSpec:
    """`values` fit the schema and have all defaults; `path` is the absolute path of the file."""
    ssh = values["ssh"]
    hosts = {name: _host(name, host, ssh, path.parent) for name, host in values["hosts"].items()}
    return ClusterSpec(
        name=values["name"],
        machines=_machines(values["machines"]),
        hosts=hosts,
        sections={name: values[name] for name in vocabulary.sections},
        path=path,
        ssh=_ssh(ssh, path.parent),
    )


def _machines(values: Mapping[str, Any]) -> Machines:
    settings = {key: value for key, value in values.items() if key != "provider"}
    return Machines(provider=values["provider"], settings=settings)


def _host(name: str, values: Mapping[str, Any], ssh: Mapping[str, Any], folder: Path) -> Host:
    own = {key: value for key, value in values["ssh"].items() if value is not None}
    return Host(
        name=name,
        address=values["address"],
        roles=tuple(values["roles"]),
        ssh=_ssh({**ssh, **own}, folder),
    )


def _ssh(values: Mapping[str, Any], folder: Path) -> Ssh:
    identity = values["identity_file"]
    return Ssh(
        user=values["user"],
        port=values["port"],
        identity_file=None if identity is None else folder / Path(identity).expanduser(),
        jump=values["jump"],
        host_key=values.get("host_key"),
    )
