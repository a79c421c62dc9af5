"""Static tokens from a file, for machines without an identity provider: the file has only their SHA-256."""

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
    """The tokens of one file, read again after a change. An invalid file is logged; the last valid one stays."""

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
                    regions=None if token.regions is None else frozenset(token.regions),
                ),
            )
            for token in decode(path, content)
        ]

    async def verify(self, token: str, address: str) -> Principal | None:
        self._file.reload_if_changed()
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        # Every entry is compared, so the duration does not reveal which entry is similar.
        for known, principal in self._bearers:
            if hmac.compare_digest(known, digest):
                found = principal
        return found
