"""Signs and verifies documents with Ed25519 (RFC 8032), for `authtally report --sign`.

The signature covers the canonical JSON of `signed`: members sorted by name, no white space, UTF-8. All names are ASCII
and all numbers are integers, so RFC 8785 and other canonical forms give the same bytes.
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
REGIONS_VERSION: Final = 2
"""Of a report over regions, which earlier releases cannot show."""
ALGORITHM: Final = "Ed25519"
MAX_BYTES: Final = 64 << 20


class SignatureError(Exception):
    """The report is not the one that the key's owner signed; the text gives the reason."""


def canonical(signed: dict[str, Any]) -> bytes:
    """The bytes that a signature covers."""
    return orjson.dumps(signed, option=orjson.OPT_SORT_KEYS)


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the key in its PEM, to distinguish keys."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def signed_with(key: Ed25519PrivateKey, result: dict[str, Any]) -> dict[str, Any]:
    """The envelope of a report: `signed` and `signature`."""
    signed = {"type": TYPE, "version": REGIONS_VERSION if "regions" in result else VERSION, **result}
    value = base64.b64encode(key.sign(canonical(signed))).decode()
    return {
        "signed": signed,
        "signature": {"algorithm": ALGORITHM, "key": fingerprint(key.public_key()), "value": value},
    }


def verified(text: bytes, key: Ed25519PublicKey) -> dict[str, Any]:
    """The signed report. Raises SignatureError."""
    envelope = _strict(text)
    if set(envelope) != {"signed", "signature"}:
        raise SignatureError("is not a signed report: it must contain `signed` and `signature` only")
    signed, signature = envelope["signed"], envelope["signature"]
    if not isinstance(signed, dict) or not isinstance(signature, dict):
        raise SignatureError("is not a signed report")
    if set(signature) != {"algorithm", "key", "value"} or signature["algorithm"] != ALGORITHM:
        raise SignatureError(f"is not signed with {ALGORITHM}")
    if signature["key"] != fingerprint(key):
        raise SignatureError(f"is signed with another key: SHA-256 {signature['key']}, this one is {fingerprint(key)}")
    try:
        value = base64.b64decode(signature["value"], validate=True)
        # Reject a second encoding of the same signature: decoding ignores some bits of the last character.
        if base64.b64encode(value).decode() != signature["value"]:
            raise ValueError
        key.verify(value, canonical(signed))
    except (InvalidSignature, ValueError, TypeError) as error:
        raise SignatureError("was changed after it was signed, or was never signed with this key") from error
    if signed.get("type") != TYPE or signed.get("version") not in (VERSION, REGIONS_VERSION):
        raise SignatureError(f"is signed, but is not an {TYPE} of version {VERSION} or {REGIONS_VERSION}")
    return signed


def _strict(text: bytes) -> dict[str, Any]:
    """A JSON object that all readers parse alike: no repeated names, integers only."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise SignatureError("has the same name twice in one object")
        return found

    def whole(number: str) -> Any:
        raise SignatureError(f"contains {number}, which is not an integer")

    try:
        envelope = json.loads(text.decode(), object_pairs_hook=once, parse_float=whole, parse_constant=whole)
    except (ValueError, RecursionError) as error:
        raise SignatureError("is not JSON") from error
    if not isinstance(envelope, dict):
        raise SignatureError("is not a signed report")
    return envelope


def private_key(path: Path) -> Ed25519PrivateKey:
    """Raises click.ClickException."""
    pem = read_file(path)
    try:
        key = load_pem_private_key(pem, None)
    except TypeError as error:
        raise click.ClickException(f"{path}: is encrypted: store it unencrypted, readable by its user only") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise click.ClickException(f"{path}: is not a private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise click.ClickException(f"{path}: is not an {ALGORITHM} key: openssl genpkey -algorithm ed25519")
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """Raises click.ClickException."""
    pem = read_file(path)
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise click.ClickException(f"{path}: is not a public key in PEM: openssl pkey -in KEYFILE -pubout") from error
    if not isinstance(key, Ed25519PublicKey):
        raise click.ClickException(f"{path}: is not an {ALGORITHM} key")
    return key


def read_file(path: Path) -> bytes:
    """Raises click.ClickException."""
    try:
        with path.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise click.ClickException(f"{path}: longer than {MAX_BYTES >> 20} MB")
    return text
