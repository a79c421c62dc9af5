"""Cached answers, in this process and, if configured, in a shared Redis.

An entry's computation time and absolute expiry are fixed at its computation and stored with it, so copies expire at the
same time. An expired entry stays for the grace period, in which it serves only while the ledger is unreachable.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import orjson
import structlog
from multidict import CIMultiDict

from api.cache.single_flight import SingleFlight
from api.http.errors import UnavailableError
from api.ledger.client import UNREACHABLE, Client
from api.ledger.cooldown import Cooldown
from api.metrics import CACHE_ANSWERS, CACHE_BYTES, REDIS_ERRORS
from api.turns import release_frames
from schemas.ledger.keys import answer
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

DEADLINE_S: Final = 1.8
"""Deadline of a cache miss: a caller gets its answer or a 503 within two seconds."""

EMPTY_TTL_S: Final = 10.0
"""TTL of an answer without any month: the first event of a new month must not stay hidden for an hour."""

MAX_CONCURRENT: Final = 32
"""Most different requests computed at the same time; others wait, within their deadline."""

MAX_BYTES: Final = 64 * 2**20
JITTER: Final = 0.02
"""Entries expire up to this fraction later than their TTL, so those computed together do not expire together. Never
earlier: Janssen's documentation promises an hour without a refresh, and Gluu's interval is a minimum."""


class ResponseBody(NamedTuple):
    """The computed body of an answer. An empty one (no month held) is soon out of date, so it is cached briefly."""

    content: bytes
    content_type: str
    empty: bool = False


class CacheEntry:
    """A cached answer. `computed` and `expires` are Unix seconds, `made_at` and `ends_at` are monotonic seconds."""

    __slots__ = (
        *("computed_at", "content", "content_type", "ends_at", "etag", "expires_at"),
        *("headers", "headers_second", "made_at", "stale"),
    )

    def __init__(
        self, content: bytes, content_type: str, computed: float, expires: float, clock: Clock, *, stale: bool = False
    ) -> None:
        self.content = content
        self.content_type = content_type
        # A strong ETag: equal bytes have equal ETags, in every process and after a restart.
        self.etag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
        self.computed_at = computed
        self.expires_at = expires
        # Another process's clock may differ, and ours may have been set back, so an age is never negative.
        now, lifetime_s = clock.now(), expires - computed
        age_s = max(0.0, now - computed)
        self.made_at = clock.monotonic() - age_s
        self.ends_at = self.made_at + lifetime_s
        self.stale = stale
        """Expired, and served because no newer answer can be computed."""
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.headers_second: int | None = None
        """The second for which `headers` were built."""

    def pack(self) -> bytes:
        return orjson.dumps((self.computed_at, self.expires_at, self.content_type)) + b"\n" + self.content

    @classmethod
    def unpack(cls, packed: bytes, clock: Clock) -> CacheEntry:
        head, _, content = packed.partition(b"\n")
        computed, expires, content_type = orjson.loads(head)
        return cls(content, content_type, computed, expires, clock)


class LocalStore:
    """The entries of this process, at most `max_bytes`. Evicts the oldest first, because they expire first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._entries: dict[str, CacheEntry] = {}
        self._max_bytes = max_bytes
        self._bytes = 0
        self.get = self._entries.get

    def put(self, key: str, entry: CacheEntry) -> None:
        self._drop(key)
        self._entries[key] = entry
        self._bytes += self._size(key, entry)
        while self._bytes > self._max_bytes and self._entries:
            self._drop(next(iter(self._entries)))
        CACHE_BYTES.set(self._bytes)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= self._size(key, entry)

    @staticmethod
    def _size(key: str, entry: CacheEntry) -> int:
        return len(key) + len(entry.content) + 512


class SharedStore:
    """The entries that several api processes share. If Redis is unreachable, each process uses its own entries only."""

    def __init__(self, client: Client, prefix: str, grace_s: float, clock: Clock) -> None:
        self._clock = clock
        self._client = client
        self._prefix = prefix
        self._grace_s = grace_s

    async def get(self, key: str) -> CacheEntry | None:
        try:
            (packed,) = await self._client.run([("GET", self._name(key))])
            return None if packed is None else CacheEntry.unpack(packed, self._clock)
        except UNREACHABLE:
            REDIS_ERRORS.labels("cache").inc()
        except (ValueError, TypeError):
            # A foreign value, or one of another version: the new computation overwrites it.
            REDIS_ERRORS.labels("cache").inc()
        return None

    async def put(self, key: str, entry: CacheEntry) -> None:
        until_ms = int((entry.expires_at + self._grace_s) * 1000)
        try:
            await self._client.run([("SET", self._name(key), entry.pack(), "PXAT", until_ms)])
        except UNREACHABLE:
            REDIS_ERRORS.labels("cache").inc()

    async def close(self) -> None:
        await self._client.close()

    def _name(self, key: str) -> str:
        return answer(self._prefix, hashlib.blake2b(key.encode(), digest_size=16).hexdigest())


class Cache:
    """Answers by key. A key must contain everything on which an answer depends, including the principal's realms."""

    def __init__(
        self,
        clock: Clock,
        jitter: Callable[[], float],
        grace_s: float,
        shared: SharedStore | None = None,
        store: LocalStore | None = None,
    ) -> None:
        self._clock = clock
        self._cooldown = Cooldown(clock.monotonic)
        self._jitter = jitter
        self._grace_s = grace_s
        self._shared = shared
        self._store = store or LocalStore()
        self._lookup = self._store.get
        self._flights = SingleFlight[CacheEntry]()
        self._writes: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._reachable = True

    def fresh(self, key: str, now: float) -> CacheEntry | None:
        """The entry if this process has it and it has not expired: the fast path of a cached request.

        `now` is by the monotonic clock.
        """
        entry = self._lookup(key)
        return entry if entry is not None and now < entry.ends_at else None

    async def get(self, key: str, ttl_s: float, compute: Callable[[], Awaitable[ResponseBody]]) -> CacheEntry:
        """The answer: cached, shared, or computed once for all concurrent callers.

        It is marked stale if the ledger is unreachable and the entry has expired. Raises UnavailableError, and the
        other exceptions of `compute`.
        """
        entry = self.fresh(key, self._clock.monotonic())
        if entry is not None:
            CACHE_ANSWERS.labels("hit").inc()
            return entry
        return await self._flights.run(key, lambda: self._fill(key, ttl_s, compute))

    async def close(self) -> None:
        """Cancel running work. Entries not yet written to the shared store are lost and must be computed again."""
        await self._flights.close()
        for write in self._writes:
            write.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        if self._shared is not None:
            await self._shared.close()

    async def _fill(self, key: str, ttl_s: float, compute: Callable[[], Awaitable[ResponseBody]]) -> CacheEntry:
        try:
            async with asyncio.timeout(DEADLINE_S):
                if self._shared is not None:
                    shared = await self._shared.get(key)
                    if shared is not None:
                        self._store.put(key, shared)
                        if shared.ends_at > self._clock.monotonic():
                            CACHE_ANSWERS.labels("shared").inc()
                            return shared
                if self._cooldown.active:
                    return self._stale(key)
                async with self._slots:
                    body = await compute()
        except TimeoutError as error:
            release_frames(error)
            # The query is too large, or Redis is slow; other requests may still succeed, so no cooldown starts.
            REDIS_ERRORS.labels("ledger").inc()
            return self._stale(key)
        except UNREACHABLE as error:
            release_frames(error)
            REDIS_ERRORS.labels("ledger").inc()
            if self._reachable:
                self._reachable = False
                log.warning("ledger unreachable", setting="AUTHTALLY_REDIS_URL", error=type(error).__name__)
            self._cooldown.record_failure(error)
            return self._stale(key)
        self._cooldown.record_answer()
        if not self._reachable:
            self._reachable = True
            log.info("ledger reachable again")
        CACHE_ANSWERS.labels("miss").inc()
        entry = self._entry(body, ttl_s)
        self._store.put(key, entry)
        if self._shared is not None:
            write = asyncio.create_task(self._shared.put(key, entry))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)
        return entry

    def _entry(self, body: ResponseBody, ttl_s: float) -> CacheEntry:
        now = self._clock.now()
        ttl_s = min(ttl_s, EMPTY_TTL_S) if body.empty else ttl_s
        return CacheEntry(
            body.content, body.content_type, now, now + ttl_s * (1 + JITTER * self._jitter()), self._clock
        )

    def _stale(self, key: str) -> CacheEntry:
        entry = self._store.get(key)
        if entry is None or entry.ends_at + self._grace_s <= self._clock.monotonic():
            CACHE_ANSWERS.labels("none").inc()
            raise UnavailableError("The statistics cannot be read at the moment.")
        CACHE_ANSWERS.labels("stale").inc()
        stale = CacheEntry(
            entry.content, entry.content_type, entry.computed_at, entry.expires_at, self._clock, stale=True
        )
        stale.made_at, stale.ends_at = entry.made_at, entry.ends_at
        return stale
