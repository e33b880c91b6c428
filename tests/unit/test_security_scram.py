"""SCRAM-SHA-256 verifiers are what PostgreSQL would store, proven by the exchange of RFC 7677."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode

import pytest

from builder.security.scram import ITERATIONS, verifier
from builder.security.secret import Secret

SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CONVERSATION = (
    f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={NONCE}"
).encode()
CLIENT_PROOF = b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SERVER_SIGNATURE = b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def parts(password: str, salt: bytes = SALT) -> tuple[str, str, bytes, bytes]:
    text = verifier(Secret(password), salt=salt).reveal()
    kind, parameters, keys = text.split("$")
    stored, server = keys.split(":")
    return kind, parameters, b64decode(stored), b64decode(server)


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def test_a_server_that_holds_it_accepts_the_proof_of_the_rfc_and_proves_itself() -> None:
    kind, parameters, stored, server = parts("pencil")
    assert (kind, parameters) == ("SCRAM-SHA-256", f"{ITERATIONS}:W22ZaJ0SNY7soEsUEjb6gQ==")
    signature = mac(stored, CONVERSATION)
    client_key = bytes(a ^ b for a, b in zip(CLIENT_PROOF, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored
    assert mac(server, CONVERSATION) == SERVER_SIGNATURE


def test_another_password_or_salt_is_another_verifier() -> None:
    seen = {parts("pencil")[2], parts("Pencil")[2], parts("pencil", b"0" * 16)[2]}
    assert len(seen) == 3


def test_the_same_is_the_same_so_that_a_second_apply_changes_nothing() -> None:
    assert parts("pencil") == parts("pencil")


def test_a_password_that_would_need_saslprep_is_refused_unseen() -> None:
    with pytest.raises(ValueError, match="ASCII") as said:
        verifier(Secret("pässword"), salt=SALT)
    assert "pässword" not in str(said.value)
