"""Between Terraform's words and ours: blocks, changes, errors. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from builder.errors import PghaError, SpecError
from builder.resources.base import Action, Change, Impact

_SYMBOLS = {Action.CREATE: "+", Action.UPDATE: "~", Action.DELETE: "-", Action.DECIDE: "?"}


class Unclear(PghaError):
    """The block contradicts itself; `attribute` is where."""

    def __init__(self, attribute: str, what: str, *, do: str = "") -> None:
        super().__init__(what, do=do)
        self.attribute = attribute


def spec_text(block: Mapping[str, Any]) -> str:
    """Either `spec` as it is written, or one out of `name`, `host` blocks and `settings`.

    Raises Unclear where both are there, or neither.
    """
    spec, hosts = block.get("spec"), block.get("host") or []
    pieces = {"name": block.get("name"), "host": hosts, "settings": block.get("settings")}
    given = [key for key, value in pieces.items() if value]
    if spec:
        if given:
            raise Unclear(
                given[0],
                f"`spec` says everything already, and `{given[0]}` is there, too",
                do="Keep one of them.",
            )
        return str(spec)
    if not (pieces["name"] and hosts):
        raise Unclear(
            "spec",
            "neither `spec`, nor `name` and `host` blocks are there",
            do='Write spec = file("cluster.yml"), or a name and a host block per machine.',
        )
    return _put_together(str(pieces["name"]), hosts, pieces["settings"])


def _put_together(name: str, hosts: list[Mapping[str, Any]], settings: Any) -> str:
    try:
        rest = json.loads(settings) if settings else {}
    except ValueError as error:
        raise Unclear("settings", f"this is no JSON: {error}", do="Use jsonencode({…}).") from error
    if not isinstance(rest, dict):
        raise Unclear("settings", "this is no object", do="Use jsonencode({…}).")
    if twice := {"name", "hosts"} & rest.keys():
        raise Unclear("settings", f"`{min(twice)}` is said elsewhere", do="Leave it out here.")
    ordered = sorted(hosts, key=lambda host: str(host["name"]))
    document = {
        "name": name,
        "hosts": {
            host["name"]: {"address": host["address"], "roles": list(host["roles"])}
            for host in ordered
        },
        **rest,
    }
    return yaml.safe_dump(document, sort_keys=False)


def line(change: Change) -> str:
    """One change in a few words: the same each time it is planned."""
    symbol = _SYMBOLS.get(change.action, ".")
    cost = f" [{change.impact}]" if change.impact > Impact.NONE else ""
    return f"{symbol} {change.address}{cost}"


def complain(diags: Any, error: PghaError) -> None:
    """With the attribute that it is about, where there is one."""
    path = None
    if isinstance(error, Unclear):
        path = [error.attribute]
    elif isinstance(error, SpecError):
        path = ["spec"]
        for diagnostic in error.diagnostics:
            diags.add_error("The cluster's spec is wrong", str(diagnostic), path=path)
        return
    diags.add_error(error.what, "\n".join(filter(None, (error.why, error.do))), path=path)
