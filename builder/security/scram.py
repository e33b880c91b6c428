"""SCRAM-SHA-256 verifiers, computed here so that no server ever sees or logs a password. Pure."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from functools import lru_cache

from builder.security.secret import Secret

ITERATIONS = 4096  # PostgreSQL's own default


def verifier(password: Secret, *, salt: bytes, iterations: int = ITERATIONS) -> Secret:
    """As PostgreSQL stores it: `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey` (RFC 5803).

    Raises ValueError for a password beyond ASCII, for which SASLprep would be needed.
    """
    return Secret(_verifier(password.reveal(), salt, iterations))


@lru_cache(maxsize=256)
def _verifier(password: str, salt: bytes, iterations: int) -> str:
    if not password.isascii():
        raise ValueError("a password must be ASCII")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(_mac(salted, b"Client Key")).digest()
    server = _mac(salted, b"Server Key")
    texts = [b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{texts[0]}${texts[1]}:{texts[2]}"


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()
