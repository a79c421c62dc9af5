"""`authtally report --sign`: a month's figures with the log positions that they cover, signed (Ed25519, RFC 8032).

What is signed is the canonical JSON of `signed`: members in order of their names, no space, UTF-8. All names are ASCII
and all numbers whole, so that RFC 8785 and any other canonical form agree on it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, Final

import click
import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

TYPE: Final = "authtally month report"
VERSION: Final = 1
ALGORITHM: Final = "Ed25519"
MAX_BYTES: Final = 64 << 20


class SignatureError(Exception):
    """The report is not what the holder of the key signed; says why."""


def canonical(signed: dict[str, Any]) -> bytes:
    """The bytes that a signature is of."""
    return orjson.dumps(signed, option=orjson.OPT_SORT_KEYS)


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the key as it stands in its PEM, for telling keys apart."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def signed_with(key: Ed25519PrivateKey, result: dict[str, Any]) -> dict[str, Any]:
    """The report in its envelope."""
    signed = {"type": TYPE, "version": VERSION, **result}
    value = base64.b64encode(key.sign(canonical(signed))).decode()
    return {
        "signed": signed,
        "signature": {"algorithm": ALGORITHM, "key": fingerprint(key.public_key()), "value": value},
    }


def verified(text: bytes, key: Ed25519PublicKey) -> dict[str, Any]:
    """What was signed. Raises SignatureError."""
    envelope = _strict(text)
    if set(envelope) != {"signed", "signature"}:
        raise SignatureError("is no signed report: it must hold `signed` and `signature`, and nothing else")
    signed, signature = envelope["signed"], envelope["signature"]
    if not isinstance(signed, dict) or not isinstance(signature, dict):
        raise SignatureError("is no signed report")
    if set(signature) != {"algorithm", "key", "value"} or signature["algorithm"] != ALGORITHM:
        raise SignatureError(f"is not signed with {ALGORITHM}")
    if signature["key"] != fingerprint(key):
        raise SignatureError(f"is signed with another key: SHA-256 {signature['key']}, this one is {fingerprint(key)}")
    try:
        value = base64.b64decode(signature["value"], validate=True)
        # One signature has one text: the last letter carries bits that decoding drops.
        if base64.b64encode(value).decode() != signature["value"]:
            raise ValueError
        key.verify(value, canonical(signed))
    except (InvalidSignature, ValueError, TypeError) as error:
        raise SignatureError("was changed after it was signed, or was never signed with this key") from error
    if signed.get("type") != TYPE or signed.get("version") != VERSION:
        raise SignatureError(f"is signed, but is no {TYPE} of version {VERSION}")
    return signed


def _strict(text: bytes) -> dict[str, Any]:
    """A JSON object that every reader takes alike: no name twice, no number that is not whole."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise SignatureError("names something twice")
        return found

    def whole(number: str) -> Any:
        raise SignatureError(f"holds {number}, which is no whole number")

    try:
        envelope = json.loads(text.decode(), object_pairs_hook=once, parse_float=whole, parse_constant=whole)
    except (ValueError, RecursionError) as error:
        raise SignatureError("is no JSON") from error
    if not isinstance(envelope, dict):
        raise SignatureError("is no signed report")
    return envelope


def private_key(path: Path) -> Ed25519PrivateKey:
    """Raises click.ClickException."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    except TypeError as error:
        raise click.ClickException(f"{path}: is encrypted: keep it unencrypted, readable by its user alone") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise click.ClickException(f"{path}: is no private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise click.ClickException(f"{path}: is no {ALGORITHM} key: openssl genpkey -algorithm ed25519")
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """Raises click.ClickException."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise click.ClickException(f"{path}: is no public key in PEM: openssl pkey -in KEYFILE -pubout") from error
    if not isinstance(key, Ed25519PublicKey):
        raise click.ClickException(f"{path}: is no {ALGORITHM} key")
    return key


def read_report(path: Path) -> bytes:
    """Raises click.ClickException."""
    try:
        with path.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise click.ClickException(f"{path}: longer than {MAX_BYTES >> 20} MB")
    return text
