"""Tokens from a file, for machines that have no identity provider: only their SHA-256 is kept."""

from __future__ import annotations

import hashlib
import hmac
from functools import partial
from pathlib import Path

from api.auth.principal import Principal
from api.settings.token_file import decode
from api.settings.watched_file import WatchedFile
from schemas.time.clock import Clock


class StaticTokens:
    """The tokens of one file, read again when it has changed; a wrong one is logged, and the last good one holds."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._bearers: list[tuple[bytes, Principal]] = []
        self._file = WatchedFile(path, "AUTH_TOKENS_FILE", partial(self._take, path), clock)

    def _take(self, path: Path, content: bytes) -> None:
        self._bearers = [
            (
                bytes.fromhex(token.sha256),
                Principal(
                    token.subject,
                    frozenset(token.scopes),
                    None if token.realms is None else frozenset(token.realms),
                ),
            )
            for token in decode(path, content)
        ]

    async def verify(self, token: str) -> Principal | None:
        self._file.reload_if_changed()
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        # Every entry is compared: how long it takes tells nothing about which one came close.
        for known, principal in self._bearers:
            if hmac.compare_digest(known, digest):
                found = principal
        return found
