"""A certificate and its private key on a host. Pure.

The key is wanted to the letter (it is derived, see `security.authority`); the certificate only by
what it says, for a new one is issued whenever it says something else, or has less than a third of
its life left.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import ClassVar, Self

from builder.resources.base import (
    Absent,
    Change,
    Observed,
    Present,
    Resource,
    Unknown,
    quoted,
)
from builder.resources.stat import Entry, parse_stat, stat_script
from builder.resources.steps import Put, Run, Step
from builder.security.authority import Authority, CertificateRequest
from builder.security.reading import LONG_LIFE, issuer_of, life_of, parsed, request_of
from builder.security.secret import Secret

_SUM = re.compile(r"^([0-9a-f]{64})  (/.*)$", re.MULTILINE)
_PRINT = (
    "/^-----BEGIN CERTIFICATE-----/,/^-----END CERTIFICATE-----/{"
    "/^-----BEGIN/F;s|^[-A-Za-z0-9+/= ]\\{1,76\\}$|=&|p}"
)
_AUTHORITY_WARNING = timedelta(days=365)
DAYS_LEFT = "days_left"  # observed only: nothing is wanted of it
_NOWHEN = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Certificate(Resource):
    """`name` is the certificate's path, `key_path` its key's, in the same folder.

    `now` decides about renewal.
    """

    kind: ClassVar[str] = "certificate"

    key_path: str
    request: CertificateRequest = CertificateRequest(common_name=None)
    authority: Authority | None = field(default=None, repr=False)
    key: Secret = field(default=Secret(""), repr=False)
    now: datetime = field(default=_NOWHEN, compare=False)
    owner: str = "root"
    group: str = "root"

    def attributes(self) -> Mapping[str, object]:
        return {
            **_said(self.request),
            "issuer": self.authority.fingerprint[:16] if self.authority else "",
            "key": self._key_sum,
            "key_mode": f"0600 {self.owner}:{self.group}",
            "life": LONG_LIFE,
        }

    @property
    def _key_sum(self) -> str:
        return hashlib.sha256(self.key.reveal().encode()).hexdigest()

    def hides(self, attribute: str) -> bool:
        return attribute == "key"

    def ages(self, attribute: str) -> bool:
        return attribute == "life"

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        """One stat, one sha256sum, one sed for all of a host.

        Only what stands between a certificate's two marks is read: a private key that somebody put
        into the same file stays where it is. `F` prints the file's name, each line then has a `=`.
        """
        certificates = [item.name for item in wanted]
        keys = [item.key_path for item in wanted]
        return (
            f"{stat_script([*certificates, *keys])}\nsha256sum -- {quoted(keys)} 2>/dev/null\n"
            f"sed -ns -e {quoted([_PRINT])} -- {quoted(certificates)} 2>/dev/null"
        )

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        entries = parse_stat(output)
        sums = {path: digest for digest, path in _SUM.findall(output)}
        texts = _texts(output)
        return {
            item.name: item._observed(entries, sums, texts.get(item.name, "")) for item in wanted
        }

    def _observed(
        self, entries: Mapping[str, Entry | Absent | Unknown], sums: Mapping[str, str], text: str
    ) -> Observed:
        found = [entries.get(path, Unknown("stat said nothing")) for path in self._paths]
        if unknown := next((item for item in found if isinstance(item, Unknown)), None):
            return unknown
        if all(isinstance(item, Absent) for item in found):
            return Absent()
        certificate, key = (item if isinstance(item, Entry) else None for item in found)
        key_sum = sums.get(self.key_path, "(unreadable)") if _is_file(key) else _what(key)
        return Present(
            attributes={
                **self._said_by(certificate, text, key_sum),
                "key": key_sum,
                "key_mode": self._mode(certificate, key),
            },
            note=self._note(),
        )

    def _mode(self, certificate: Entry | None, key: Entry | None) -> str:
        """The key's; and the certificate's, where that is not as it must be."""
        found = _mode_of(key) if key else "absent"
        if certificate is None or _mode_of(certificate) == f"0644 {self.owner}:{self.group}":
            return found
        return f"{found} (the certificate: {_mode_of(certificate)})"

    def _note(self) -> str:
        """A renewal does not help when the authority itself ends: that takes a rotation."""
        if self.authority is None:
            return ""
        end = self.authority.certificate.not_valid_after_utc
        if end - self.now > _AUTHORITY_WARNING:
            return ""
        name = self.authority.certificate.subject.rfc4514_string()
        return f"the authority {name} ends on {end:%Y-%m-%d}, and all that it signed with it"

    def _said_by(self, entry: Entry | None, text: str, key_sum: str) -> Mapping[str, object]:
        """Over which key it is signed matters where that is the wanted one; else it is renewed."""
        if not _is_file(entry):
            return {"life": _what(entry)}
        try:
            found = parsed(text)
            request = request_of(found)
            key = self.key if key_sum == self._key_sum else None
            issuer = issuer_of(found, self.authority, key) if self.authority else ""
        except ValueError:
            return {"life": "not a certificate"}
        days = (found.not_valid_after_utc - self.now).days
        life = life_of(found, self.now)
        return {**_said(request), "issuer": issuer, "life": life, DAYS_LEFT: days}

    @property
    def _paths(self) -> tuple[str, str]:
        return self.name, self.key_path

    def steps(self, change: Change) -> Sequence[Step]:
        """Both files get their names by two renames, one right after the other.

        Who reads the pair must not see one without the other: Patroni, told to reload at that
        moment, would be left without a REST API, and hang at the next reload (patroni/api.py,
        `__initialize`). To write a file out to the disk can take a second; that is done before.
        """
        if self.authority is None:
            raise ValueError("a certificate from the manifest cannot be issued")
        folder = PurePosixPath(self.name).parent
        if folder != PurePosixPath(self.key_path).parent:
            raise ValueError(f"{self.name} and {self.key_path} are not in the same folder")
        if isinstance(change.observed, Present) and _only(change, "key_mode"):
            return self._access()
        pem = self.authority.issue(self.request, self.key, self.now)
        new = folder / f".{PurePosixPath(self.name).name}.pgha-pair"
        certificate, key = (str(new / PurePosixPath(path).name) for path in self._paths)
        return (
            Run(argv=("mkdir", "-p", "-m", "0700", "--", str(new))),
            self._put(key, self.key.reveal().encode(), "0600"),
            self._put(certificate, pem, "0644"),
            Run(argv=("mv", "-f", "-t", str(folder), "--", key, certificate)),
            Run(argv=("sync", "--", str(folder))),
            Run(argv=("rmdir", "--", str(new))),
        )

    def _access(self) -> Sequence[Step]:
        return (
            Run(argv=("chown", f"{self.owner}:{self.group}", "--", *self._paths)),
            Run(argv=("chmod", "0600", "--", self.key_path)),
            Run(argv=("chmod", "0644", "--", self.name)),
        )

    def _put(self, path: str, content: bytes, mode: str) -> Put:
        return Put(path=path, content=content, mode=mode, owner=self.owner, group=self.group)

    def recall(self) -> Mapping[str, str]:
        return {"key_path": self.key_path}

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name, key_path=recalled.get("key_path", name))

    def removal(self) -> Sequence[Step]:
        return (Run(argv=("rm", "-f", "--", *self._paths)),)


def _only(change: Change, attribute: str) -> bool:
    return {item.name for item in change.attributes} == {attribute}


def _is_file(entry: Entry | None) -> bool:
    return entry is not None and entry.type == "regular file"


def _what(entry: Entry | None) -> str:
    return entry.type if entry else "absent"


def _mode_of(entry: Entry) -> str:
    return f"{entry.mode} {entry.owner}:{entry.group}"


def _texts(output: str) -> Mapping[str, str]:
    """Path → certificate, from what sed printed."""
    found: dict[str, str] = {}
    path = ""
    for line in output.splitlines():
        if line.startswith("/"):
            path = line
        elif line.startswith("="):
            found[path] = f"{found.get(path, '')}{line[1:]}\n"
    return found


def _said(request: CertificateRequest) -> Mapping[str, object]:
    usage = ["server"] * request.server + ["client"] * request.client
    addresses = (str(ip_address(address)) for address in request.addresses)
    return {
        "subject": request.common_name or "",
        "names": tuple(sorted((*request.dns_names, *addresses))),
        "usage": " and ".join(usage),
    }
