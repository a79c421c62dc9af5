"""Tokens from a file, for machines that have no identity provider: only their SHA-256 is kept."""

from __future__ import annotations

import hashlib
import hmac
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec

from api.bearer import Bearer
from api.watched_file import WatchedFile, content_of
from schemas.clock import Clock


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One element of the file."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")]
    subject: str
    scopes: list[str]
    realms: list[str] | None = None


def read(path: Path) -> list[Listed]:
    """Raises ValueError with a sentence that says what is wrong with the file, never what it holds."""
    return _decoded(path, content_of(path))


def _decoded(path: Path, content: bytes) -> list[Listed]:
    try:
        listed = msgspec.json.decode(content, type=list[Listed])
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is no list of sha256, subject, scopes and realms: {error}") from error
    if not listed:
        raise ValueError(f"{path} lists no token")
    return listed


class StaticTokens:
    """The tokens of one file, read again when it has changed; a wrong one is logged, and the last good one holds."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._bearers: list[tuple[bytes, Bearer]] = []
        self._file = WatchedFile(path, "AUTH_TOKENS_FILE", partial(self._take, path), clock)

    def _take(self, path: Path, content: bytes) -> None:
        self._bearers = [
            (
                bytes.fromhex(token.sha256),
                Bearer(
                    token.subject,
                    frozenset(token.scopes),
                    None if token.realms is None else frozenset(token.realms),
                ),
            )
            for token in _decoded(path, content)
        ]

    async def verify(self, token: str) -> Bearer | None:
        self._file.look()
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        # Every entry is compared: how long it takes tells nothing about which one came close.
        for known, bearer in self._bearers:
            if hmac.compare_digest(known, digest):
                found = bearer
        return found
