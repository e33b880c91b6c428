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
from typing import TYPE_CHECKING, ClassVar, Self

from builder.resources.base import (
    Absent,
    Change,
    Observed,
    Present,
    Resource,
    Unknown,
    Value,
    quoted,
)
from builder.resources.stat import Entry, parse_stat, stat_script
from builder.resources.steps import Put, Run, Step
from builder.security.authority import Authority, CertificateRequest
from builder.security.secret import Secret

if TYPE_CHECKING:
    from cryptography import x509

_SUM = re.compile(r"^([0-9a-f]{64})  (/.*)$", re.MULTILINE)
_NOWHEN = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Certificate(Resource):
    """`name` is the certificate's path, `key_path` its key's. `now` decides about renewal."""

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
            "key": hashlib.sha256(self.key.reveal().encode()).hexdigest(),
            "key_mode": f"0600 {self.owner}:{self.group}",
            "life": "at least a third left",
        }

    def hides(self, attribute: str) -> bool:
        return attribute == "key"

    def ages(self, attribute: str) -> bool:
        return attribute == "life"

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        certificates = [item.name for item in wanted]
        keys = [item.key_path for item in wanted]
        return (
            f"{stat_script([*certificates, *keys])}\nsha256sum -- {quoted(keys)} 2>/dev/null\n"
            f'for f in {quoted(certificates)}; do [ -f "$f" ] && echo "certificate $f" && '
            'cat -- "$f"; done; echo end'
        )

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        head, *parts = output.split("\ncertificate ")
        entries = parse_stat(head)
        sums = {path: digest for digest, path in _SUM.findall(head)}
        texts = dict(part.split("\n", 1) for part in parts if "\n" in part)
        return {item.name: item._observed(entries, sums, texts.get(item.name)) for item in wanted}

    def _observed(
        self,
        entries: Mapping[str, Entry | Absent | Unknown],
        sums: Mapping[str, str],
        text: str | None,
    ) -> Observed:
        found = [entries.get(path, Unknown("stat said nothing")) for path in self._paths]
        if unknown := next((item for item in found if isinstance(item, Unknown)), None):
            return unknown
        if all(isinstance(item, Absent) for item in found):
            return Absent()
        key = found[1]
        mode = f"{key.mode} {key.owner}:{key.group}" if isinstance(key, Entry) else "absent"
        return Present(
            attributes={
                **self._read(text),
                "key": sums.get(self.key_path, "absent"),
                "key_mode": mode,
            }
        )

    def _read(self, text: str | None) -> Mapping[str, object]:
        from cryptography import x509

        if text is None:
            return {"names": "absent"}
        try:
            parsed = x509.load_pem_x509_certificate(text.encode())
            request = _request(parsed)
        except (ValueError, x509.ExtensionNotFound):
            return {"names": "not a certificate"}
        life = parsed.not_valid_after_utc - parsed.not_valid_before_utc
        left = parsed.not_valid_after_utc - self.now
        days = max(left // timedelta(days=1), 0)
        return {
            **_said(request),
            "issuer": self._issuer(parsed),
            "life": "at least a third left" if left * 3 >= life else f"{days} days left",
        }

    def _issuer(self, parsed: x509.Certificate) -> str:
        """Our authority's fingerprint if it signed this over our key; else whose name it bears."""
        from cryptography.exceptions import InvalidSignature

        if self.authority is None:
            return ""
        try:
            parsed.verify_directly_issued_by(self.authority.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return parsed.issuer.rfc4514_string() or "nobody"
        if _public(parsed) != _own_public(self.key):
            return "signed, over another key"
        return self.authority.fingerprint[:16]

    @property
    def _paths(self) -> tuple[str, str]:
        return self.name, self.key_path

    def differs(self, attribute: str, desired: Value, observed: Value) -> bool:
        return bool(desired != observed)

    def steps(self, change: Change) -> Sequence[Step]:
        if self.authority is None:
            raise ValueError("a certificate from the manifest cannot be issued")
        pem = self.authority.issue(self.request, self.key, self.now)
        return (
            self._put(self.key_path, self.key.reveal().encode(), "0600"),
            self._put(self.name, pem, "0644"),
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


def _said(request: CertificateRequest) -> Mapping[str, object]:
    usage = ["server"] * request.server + ["client"] * request.client
    return {
        "subject": request.common_name or "",
        "names": tuple(sorted((*request.dns_names, *request.addresses))),
        "usage": " and ".join(usage),
    }


def _request(parsed: x509.Certificate) -> CertificateRequest:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usage = parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    subject = parsed.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return CertificateRequest(
        common_name=str(subject[0].value) if subject else None,
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
        addresses=tuple(str(a) for a in names.get_values_for_type(x509.IPAddress)),
        server=ExtendedKeyUsageOID.SERVER_AUTH in usage,
        client=ExtendedKeyUsageOID.CLIENT_AUTH in usage,
    )


def _public(parsed: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _own_public(key: Secret) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    public = load_pem_private_key(key.reveal().encode(), None).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
