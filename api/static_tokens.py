"""Tokens from a file, for machines that have no identity provider: only their SHA-256 is kept."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Annotated

import msgspec

from api.bearer import Bearer


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One element of the file."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")]
    subject: str
    scopes: list[str]
    realms: list[str] | None = None


def read(path: Path) -> list[Listed]:
    """Raises ValueError with a sentence that tells what is wrong with the file, never what it holds."""
    try:
        listed = msgspec.json.decode(path.read_bytes(), type=list[Listed])
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is no list of sha256, subject, scopes and realms: {error}") from error
    if not listed:
        raise ValueError(f"{path} lists no token")
    return listed


class StaticTokens:
    """The tokens of one file, read when it is built."""

    def __init__(self, path: Path) -> None:
        self._bearers = [
            (
                bytes.fromhex(token.sha256),
                Bearer(
                    token.subject,
                    frozenset(token.scopes),
                    None if token.realms is None else frozenset(token.realms),
                ),
            )
            for token in read(path)
        ]

    async def verify(self, token: str) -> Bearer | None:
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        # Every entry is compared: how long it takes tells nothing about which one came close.
        for known, bearer in self._bearers:
            if hmac.compare_digest(known, digest):
                found = bearer
        return found
