"""Where entries are kept: in this process, and in a Redis that api processes share."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from api.cache.entries import CacheEntry, pack_entry, unpack_entry
from api.ledger.client import UNREACHABLE, Client
from api.metrics import CACHE_BYTES, REDIS_ERRORS
from schemas.ledger.keys import answer
from schemas.time.clock import Clock

LAYOUT: Final = 3
"""Version of an entry's layout in the shared store. Entries of another layout or release have other keys."""

MAX_BYTES: Final = 64 * 2**20


class LocalStore:
    """The entries of this process, at most `max_bytes`. Evicts the oldest first, because they expire first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._entries: dict[str, CacheEntry] = {}
        self._sizes: dict[str, int] = {}
        self._max_bytes = max_bytes
        self._bytes = 0
        self.get = self._entries.get

    def put(self, key: str, entry: CacheEntry) -> None:
        self._drop(key)
        self._entries[key] = entry
        self._resize(key, entry)

    def grown(self, key: str, entry: CacheEntry) -> None:
        """The entry has another body. Does nothing if the entry has been replaced or evicted."""
        if self._entries.get(key) is entry:
            self._resize(key, entry)

    def _resize(self, key: str, entry: CacheEntry) -> None:
        size = len(key) + entry.size
        self._bytes += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        while self._bytes > self._max_bytes and self._entries:
            self._drop(next(iter(self._entries)))
        CACHE_BYTES.set(self._bytes)

    def _drop(self, key: str) -> None:
        if self._entries.pop(key, None) is not None:
            self._bytes -= self._sizes.pop(key)


class SharedStore:
    """The entries that several api processes share. If Redis is unreachable, each process uses its own entries only."""

    def __init__(self, client: Client, prefix: str, grace_s: float, clock: Clock, release: str = "") -> None:
        """`release` is the version of the program: other releases may compute other figures."""
        self._clock = clock
        self._client = client
        self._prefix = prefix
        self._grace_s = grace_s
        self._version = f"{LAYOUT} {release}"

    async def get(self, key: str, kind: Any) -> CacheEntry | None:
        """The entry whose figures decode as `kind`; None without one. A value that cannot be read is overwritten."""
        name = self._name(key)
        try:
            (value,) = await self._client.run([("GET", name)])
            if value is None:
                return None
            entry = unpack_entry(name, value, self._clock)
            entry.figures(kind)
        except UNREACHABLE:
            REDIS_ERRORS.labels("cache").inc()
        except (ValueError, TypeError):
            # msgspec's errors are ValueErrors.
            REDIS_ERRORS.labels("cache").inc()
        else:
            return entry
        return None

    async def put(self, key: str, entry: CacheEntry) -> None:
        name = self._name(key)
        until_ms = int((entry.expires_at + (0 if entry.partial else self._grace_s)) * 1000)
        try:
            await self._client.run([("SET", name, pack_entry(name, entry), "PXAT", until_ms)])
        except UNREACHABLE:
            REDIS_ERRORS.labels("cache").inc()

    async def close(self) -> None:
        await self._client.close()

    def _name(self, key: str) -> str:
        digest = hashlib.blake2b(f"{self._version} {key}".encode(), digest_size=16)
        return answer(self._prefix, digest.hexdigest())
