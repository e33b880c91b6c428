"""Patroni's dynamic configuration, which lives in etcd, not in a file. Pure.

`bootstrap.dcs` counts once, at the cluster's birth (docs/dynamic_configuration.rst). From then on
this resource reads `/config` of any member's REST API and patches what differs. Keys that the spec
does not name belong to the operator: reported, never touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from builder.resources.base import (
    Absent,
    AttributeChange,
    Change,
    Observed,
    Present,
    Resource,
    Unknown,
    quoted,
)
from builder.resources.steps import Shell, Step
from builder.security.secret import Secret

_SEPARATOR = "."
_PARAMETERS = ("postgresql", "parameters")
_PARAMETERS_PREFIX = "postgresql.parameters."
_DOWN = """\
down() {{ # for certain, or for three answers that are not there
  for try in 1 2 3; do
    code=0; {ask} "$1/patroni" >/dev/null || code=$?
    case $code in 0) return 1 ;; 7) return 0 ;; esac
    sleep 1
  done
}}
"""
_EVERYBODY = """\
seen() {{ {ask} "$1/patroni" | sed -n 's/.*"dcs_last_seen": \\([0-9]*\\).*/\\1/p'; }}
has_read() {{
  ! down "$1" || return 0 # it reads it when it comes up
  last=$(seen "$1") moved=0 tries=0
  while [ $moved -lt 2 ]; do
    [ $tries -lt 240 ] || {{ echo "$1 has not read the configuration"; return 1; }}
    now=$(seen "$1")
    if [ -n "$now" ] && [ "$now" != "$last" ]; then
      [ -z "$last" ] || moved=$((moved + 1))
      last=$now
    fi
    tries=$((tries + 1)); sleep 0.5
  done
}}
all=
for url in {urls}; do has_read "$url" & all="$all $!"; done
for one in $all; do wait "$one"; done
"""


# GET /config answers from what a member's last loop has read (patroni/api.py, do_GET_config).
_TOLD = """\
told=$(
{sent}
) || {{ printf '%s\\n' "$told"; exit 1; }}
says() {{ {ask} "$1/config"; }}
has_heard() {{
  end=$(($(date +%s) + 30))
  while [ "$(date +%s)" -lt $end ]; do
    now=$(says "$1") || {{ ! down "$1" || return 0; }} # it reads it when it comes up
    [ "$now" != "$told" ] || return 0
    sleep 0.25
  done
}}
for url in {urls}; do has_heard "$url" & done
wait
"""


@dataclass(frozen=True, kw_only=True)
class RestApi:
    """How each host asks the Patroni on itself: `urls` by host, without a path, and
    the files it needs: the CA, and a client certificate with its key, which changes require.

    `user` and `password` are for changes; looking needs none. `data` is the data directory.
    """

    urls: Mapping[str, str] = field(default_factory=dict)
    ca: str = ""
    certificate: str = ""
    key: str = ""
    data: str = ""
    user: str = ""
    password: Secret | None = field(default=None, repr=False)

    def curl(self, path: str, *options: str) -> str:
        words = ("curl", "-sS", "--max-time", "10", "--cacert", self.ca)
        return f'{self._own_url()}; {quoted((*words, *options))} "$url"{quoted([path])}'

    def everybody_has_read(self) -> Shell:
        """Every member has gone through a whole loop since now.

        A loop begins with reading etcd (`dcs_last_seen`, in the member's own seconds) and ends with
        PostgreSQL's settings in force or marked as waiting for a restart. So the time has to move
        on twice: the first says that a loop began after now, the second that it has ended.
        """
        script = (_DOWN + _EVERYBODY).format(ask=self._ask(), urls=quoted(self.urls.values()))
        return Shell(script=script, timeout_seconds=180)

    def patch_config(self, patch: Mapping[str, Any]) -> Shell:
        """Change the dynamic configuration; ends when every member answers with the new one.

        Or after 30 s: somebody else may have changed it meanwhile, which a look then tells.
        """
        sent = self.send("PATCH", "/config", patch, 15)
        urls = quoted(self.urls.values())
        script = (_DOWN + _TOLD).format(sent=sent.script, ask=self._ask(), urls=urls)
        return replace(sent, script=script, timeout_seconds=sent.timeout_seconds + 60)

    def _ask(self) -> str:
        return quoted(("curl", "-s", "--max-time", "5", "--cacert", self.ca))

    def _own_url(self) -> str:
        """Shell that sets `url`, by the name under which the engine knows the host it runs on."""
        cases = "".join(
            f"{quoted([host])}) url={quoted([url])};; " for host, url in self.urls.items()
        )
        return f'case "$PGHA_HOST" in {cases}esac'

    def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        timeout_seconds: int,
        *,
        only_if: str = ":",
        tries: int = 1,
    ) -> Shell:
        """A change; the password and the body travel on stdin, as curl's own configuration.

        `only_if` is shell: the change is not sent where it does not hold. What is refused is sent
        again until it was tried `tries` times.
        """
        password = self.password.reveal() if self.password else ""
        settings = {
            "user": f"{self.user}:{password}",
            "request": method,
            "data": json.dumps(body),
            "header": "Content-Type: application/json",
        }
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        tls = ("--cacert", self.ca, "--cert", self.certificate, "--key", self.key)
        words = ("curl", "-sS", "--fail-with-body", "--max-time", str(timeout_seconds), *tls)
        call = f'{quoted((*words, "-K", "-"))} "$url"{quoted([path])}'
        if tries > 1:
            again = f'printf "%s\\n" "$said" | {call} && exit 0; echo; sleep 1'
            call = f"said=$(cat); for try in $(seq {tries}); do {again}; done; exit 1"
        script = f"{self._own_url()}; {{ {only_if}; }} || exit 0; {call}"
        limit = tries * (timeout_seconds + 1) + 5
        return Shell(script=script, stdin=lines.encode(), timeout_seconds=limit)


@dataclass(frozen=True, kw_only=True)
class PatroniConfig(Resource):
    """The dynamic configuration of scope `name`; `config` is the wanted part of it, nested."""

    kind: ClassVar[str] = "patroni_config"
    late: ClassVar[bool] = True

    config: Mapping[str, Any] = field(default_factory=dict)
    api: RestApi = RestApi()

    def attributes(self) -> Mapping[str, object]:
        return dict(flatten(self.config))

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        api = wanted[0].api
        return (
            f"if [ ! -e {quoted([api.data + '/PG_VERSION'])} ]; then echo absent; "
            f"else {{ {api.curl('/config')}; }} 2>&1; fi"
        )

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        return {item.name: item._observed(output.strip()) for item in wanted}

    def _observed(self, output: str) -> Observed:
        if output == "absent":
            return Absent(elsewhere=True)
        try:
            config = json.loads(output)
        except ValueError:
            return Unknown(f"Patroni does not answer: {output[:200]}")
        if not isinstance(config, dict):
            return Unknown(f"Patroni answers something else than its configuration: {output[:80]}")
        seen = dict(flatten(config))
        foreign = sorted(set(seen) - set(self.attributes()))
        note = f"not managed, left alone: {', '.join(foreign)}" if foreign else ""
        return Present(attributes=seen, note=note)

    def differs(self, attribute: str, desired: object, observed: object) -> bool:
        """PostgreSQL's parameters compare as text: `100` and `"100"` are the same."""
        if attribute.startswith(_PARAMETERS_PREFIX):
            return _text(desired) != _text(observed)
        return desired != observed

    def steps(self, change: Change) -> Sequence[Step]:
        patch: dict[str, Any] = {}
        for item in change.attributes:
            _nest(patch, item.name, item.after)
        sent = self.api.patch_config(patch)
        return (sent, self.api.everybody_has_read()) if changed_parameters(change) else (sent,)

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name)


def changed_parameters(change: Change) -> Mapping[str, AttributeChange]:
    """What changes of PostgreSQL's parameters, by their own names."""
    return {
        item.name.removeprefix(_PARAMETERS_PREFIX): item
        for item in change.attributes
        if item.name.startswith(_PARAMETERS_PREFIX)
    }


def flatten(config: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """`{"postgresql": {"use_slots": True}}` → `("postgresql.use_slots", True)`."""
    for key, value in config.items():
        here = (*path, str(key))
        if isinstance(value, Mapping) and value:
            yield from flatten(value, here)
        else:
            yield _SEPARATOR.join(here), value


def _nest(target: dict[str, Any], name: str, value: Any) -> None:
    """The inverse of `flatten`; a parameter's own name may have dots (`pg_stat_statements.max`)."""
    if name.startswith(_PARAMETERS_PREFIX):
        keys = [*_PARAMETERS, name.removeprefix(_PARAMETERS_PREFIX)]
    else:
        keys = name.split(_SEPARATOR)
    for key in keys[:-1]:
        target = target.setdefault(key, {})
    target[keys[-1]] = value


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
