"""What a certificate that was found on a host says, and whether it is still good. Pure.

The text comes from a host, so it can be anything: whatever is not a certificate is a ValueError.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from builder.security.authority import Authority, CertificateRequest, load_key
from builder.security.secret import Secret

if TYPE_CHECKING:
    from cryptography import x509

LONG_LIFE = "at least a third left"


def parsed(text: str) -> x509.Certificate:
    """Raises ValueError for whatever is not a certificate with the parts that we look at."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        found = x509.load_pem_x509_certificate(text.encode())
        _ = found.extensions, found.subject, found.issuer, found.public_key()
    except (
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        UnsupportedAlgorithm,
        TypeError,
    ) as error:
        raise ValueError("not a certificate") from error
    return found


def request_of(certificate: x509.Certificate) -> CertificateRequest:
    """The request that would lead to it, but for its time."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    names = x509.SubjectAlternativeName([])
    usage = x509.ExtendedKeyUsage([])
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = extension.value
        elif isinstance(extension.value, x509.ExtendedKeyUsage):
            usage = extension.value
    subject = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return CertificateRequest(
        common_name=str(subject[0].value) if subject else None,
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
        addresses=tuple(str(a) for a in names.get_values_for_type(x509.IPAddress)),
        server=ExtendedKeyUsageOID.SERVER_AUTH in usage,
        client=ExtendedKeyUsageOID.CLIENT_AUTH in usage,
    )


def issuer_of(certificate: x509.Certificate, authority: Authority, key: Secret | None) -> str:
    """The start of the fingerprint of who signed this over `key`, of those who are trusted.

    Without a `key` it may be over any.
    """
    signer = next((a for a in authority.trusted() if _signed(certificate, a)), None)
    if signer is None:
        return f"another: {certificate.issuer.rfc4514_string() or 'nobody'}"
    if key and certificate.public_key() != load_key(key).public_key():
        return "signed, over another key"
    return signer.fingerprint[:16]


def _signed(certificate: x509.Certificate, authority: Authority) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def life_of(certificate: x509.Certificate, now: datetime) -> str:
    """`LONG_LIFE`, or a date. Not the days left: a saved plan still holds tomorrow."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        return f"begins on {begin:%Y-%m-%d}"
    if now > end:
        return f"ended on {end:%Y-%m-%d}"
    return LONG_LIFE if (end - now) * 3 >= end - begin else f"ends on {end:%Y-%m-%d}"
