"""Our own certificate authorities, and leaf keys that are derived, not stored. Pure but for chance.

A leaf's private key follows from the secrets file alone (HKDF of its seed over host, purpose and
generation), so the wanted key file is a value like any other: no state per host to keep, and an
apply that was killed half-way leaves no pair that does not match. docs/decisions/0001.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING

from builder.security.secret import Secret

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

AUTHORITY_DAYS = 3650
_BACKDATED = timedelta(days=1)  # clocks differ
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256


@dataclass(frozen=True, kw_only=True)
class CertificateRequest:
    """What a leaf certificate says. Without a `common_name` the subject is empty.

    etcd's gateway refuses client certificates that have one (etcd server/embed/serve.go).
    """

    common_name: str | None
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    server: bool = False
    client: bool = False
    days: int = 397


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A CA: its certificate as PEM, and its private key.

    `beside` are certificates of others that are trusted like it while one takes over from another.
    """

    certificate_pem: bytes
    key_pem: Secret = field(repr=False)
    beside: tuple[bytes, ...] = ()

    def trusted(self) -> Iterator[Authority]:
        """Itself, and those beside it, which can only verify."""
        yield self
        yield from (Authority(certificate_pem=pem, key_pem=Secret("")) for pem in self.beside)

    @property
    def bundle_pem(self) -> bytes:
        """What whoever verifies must trust, in an order that does not tell who signs."""
        return b"".join(sorted((self.certificate_pem, *self.beside)))

    @cached_property
    def certificate(self) -> x509.Certificate:
        from cryptography import x509

        return x509.load_pem_x509_certificate(self.certificate_pem)

    @cached_property
    def fingerprint(self) -> str:
        from cryptography.hazmat.primitives.hashes import SHA256

        return self.certificate.fingerprint(SHA256()).hex()

    def is_whole(self) -> bool:
        """Whether both can be read, and the key is the certificate's."""
        try:
            return load_key(self.key_pem).public_key() == self.certificate.public_key()
        except (ValueError, TypeError):
            return False

    def issue(self, request: CertificateRequest, key: Secret, now: datetime) -> bytes:
        """A certificate over the public half of `key`, as PEM.

        It ends no later than the authority itself. Raises ValueError for a request that says
        neither for whom nor for what it is, or when the authority has come to its end.
        """
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding

        if not (request.server or request.client):
            raise ValueError("a certificate is a server's, a client's, or both")
        if not (request.common_name or request.dns_names or request.addresses):
            raise ValueError("a certificate needs a name")
        builder = _leaf(self.certificate, request, load_key(key), now)
        return builder.sign(load_key(self.key_pem), SHA256()).public_bytes(Encoding.PEM)


def new_authority(name: str, now: datetime) -> Authority:
    """A new CA with a key of its own."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _dated(now, now + timedelta(days=AUTHORITY_DAYS))
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
    )
    certificate = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    return Authority(certificate_pem=certificate, key_pem=_pem(key))


def derived_key(seed: bytes, host: str, purpose: str, generation: int) -> Secret:
    """The private key (P-256, PKCS 8, PEM) of one host for one purpose.

    48 bytes, reduced: the bias against a uniform key is below 2**-128 (FIPS 186-5, A.2.1).
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = f"leaf|{host}|{purpose}|{generation}".encode()
    wide = HKDF(algorithm=SHA256(), length=48, salt=None, info=info).derive(seed)
    scalar = int.from_bytes(wide, "big") % (_ORDER - 1) + 1
    return _pem(ec.derive_private_key(scalar, ec.SECP256R1()))


def _leaf(
    issuer: x509.Certificate,
    request: CertificateRequest,
    key: EllipticCurvePrivateKey,
    now: datetime,
) -> x509.CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usages = ExtendedKeyUsageOID
    purposes = [usages.SERVER_AUTH] * request.server + [usages.CLIENT_AUTH] * request.client
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in request.dns_names]
    names += [x509.IPAddress(ip_address(address)) for address in request.addresses]
    above = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    end = min(now + timedelta(days=request.days), issuer.not_valid_after_utc)
    builder = (
        _dated(now, end)
        .subject_name(_name(request.common_name))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(own, critical=False)
        .add_extension(authority, critical=False)
    )
    if not names:  # an empty list is not a list of names (RFC 5280, 4.2.1.6)
        return builder
    empty = request.common_name is None  # then the names below are all there is
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=empty)


def _dated(now: datetime, end: datetime) -> x509.CertificateBuilder:
    from cryptography import x509

    builder = x509.CertificateBuilder().serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _BACKDATED).not_valid_after(end)


def _name(common_name: str | None) -> x509.Name:
    from cryptography import x509

    if common_name is None:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: EllipticCurvePrivateKey) -> Secret:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def load_key(pem: Secret) -> EllipticCurvePrivateKey:
    """Raises ValueError or TypeError for what is not a key of ours."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem.reveal().encode(), None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise TypeError("not a key of ours")
    return key
