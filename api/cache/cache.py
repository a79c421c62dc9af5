"""Cached figures, in this process and, if configured, in a shared Redis.

Figures are cached, not answers, so all formats of a product show the same figures. An entry's computation time and
absolute expiry are fixed at its computation and stored with it, so copies expire at the same time. An expired entry
stays for the grace period, in which it serves only while the ledger is unreachable; a partial one has no grace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import structlog

from api.cache.entries import Body, CacheEntry, Figures, ResponseBody, pack_figures
from api.cache.single_flight import SingleFlight
from api.cache.stores import LocalStore, SharedStore
from api.http.errors import UnavailableError
from api.http.places import Places
from api.ledger.client import UNREACHABLE
from api.ledger.cooldown import Cooldown
from api.metrics import CACHE_ANSWERS, REDIS_ERRORS
from api.turns import arrive, freeing_locals
from schemas.time.clock import Clock

__all__ = ["Cache", "CacheEntry", "Figures", "LocalStore", "ResponseBody", "SharedStore"]

log = structlog.get_logger(__name__)

DEADLINE_S: Final = 1.8
"""Deadline of a cache miss: a caller gets its answer or a 503 within two seconds."""

PARTIAL_TTL_S: Final = 10.0
"""Longest life of partial figures: the first event of a new month must not stay hidden for an hour."""

LARGE_BYTES: Final = 100_000
"""Size of packed figures from which on rendering would hold up other requests."""
MAX_CONCURRENT: Final = 32
"""Most different requests computed at the same time; others wait, within their deadline."""
MAX_OF_ONE: Final = 16
"""Most of them of one tenant, so that its questions, however many, leave places to other tenants."""
MAX_RENDERINGS: Final = 2
"""Most large figures rendered at the same time; a thread delays the loop by up to 5 ms a turn. One tenant has half."""

JITTER: Final = 0.02
"""Entries expire up to this fraction later than their TTL, so those computed together do not expire together. Never
earlier: Janssen's documentation promises an hour without a refresh, and Gluu's interval is a minimum."""


class Cache:
    """Figures by key. A key must contain everything on which they depend, including the principal's realms."""

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
        self._places = Places(MAX_CONCURRENT, MAX_OF_ONE, wait_s=None)
        self._wide_places = Places(MAX_CONCURRENT, MAX_OF_ONE, wait_s=None)
        """Of wide questions, which wait for each other: ordinary ones of the same tenant must not wait with them."""
        self._renderings = Places(MAX_RENDERINGS, MAX_RENDERINGS // 2)
        self._reachable = True

    def fresh(self, key: str, now: float) -> CacheEntry | None:
        """The entry if this process has it and it has not expired: the fast path of a cached request.

        `now` is by the monotonic clock.
        """
        entry = self._lookup(key)
        return entry if entry is not None and now < entry.ends_at else None

    async def get(
        self,
        key: str,
        ttl_s: float,
        compute: Callable[[], Awaitable[Figures]],
        kind: Any = Any,
        tenant: str = "",
        *,
        is_wide: bool = False,
    ) -> CacheEntry:
        """The figures: cached, shared, or computed once for all concurrent callers. `kind` is their type.

        All callers of the same `tenant` share MAX_OF_ONE places; wide questions have as many of their own.

        The entry is marked stale if the ledger is unreachable and the entry has expired. Raises UnavailableError, and
        the other exceptions of `compute`.
        """
        entry = self.fresh(key, self._clock.monotonic())
        if entry is not None:
            CACHE_ANSWERS.labels("hit").inc()
            return entry
        places = self._wide_places if is_wide else self._places
        return await self._flights.run(key, lambda: self._fill(key, ttl_s, compute, kind, places.take(tenant)))

    async def body(
        self, key: str, entry: CacheEntry, form: str, render: Callable[[], ResponseBody], tenant: str = ""
    ) -> Body:
        """The entry in one format. The result of `render` follows from both, so it is kept with the entry.

        Figures in pieces are rendered in turns: 50,000 rows take hundreds of milliseconds as CSV. Others that are large
        are rendered in a thread. Raises UnavailableError if too many are being rendered.
        """
        body = entry.bodies.get(form)
        if body is None:
            if entry.pieces:
                async with self._renderings.take(tenant):
                    body = await Body.of(render())
            elif len(entry.packed) < LARGE_BYTES:
                body = await Body.of(render())
            else:
                async with self._renderings.take(tenant):
                    body = await Body.of(await asyncio.to_thread(render))
            body = entry.bodies.setdefault(form, body)
            self._store.grown(key, entry)
        return body

    async def close(self) -> None:
        """Cancel running work. Entries not yet written to the shared store are lost and must be computed again."""
        await self._flights.close()
        for write in self._writes:
            write.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        if self._shared is not None:
            await self._shared.close()

    async def _fill(
        self,
        key: str,
        ttl_s: float,
        compute: Callable[[], Awaitable[Figures]],
        kind: Any,
        place: AbstractAsyncContextManager[None],
    ) -> CacheEntry:
        try:
            async with asyncio.timeout(DEADLINE_S):
                if self._shared is not None:
                    shared = await self._shared.get(key, kind)
                    if shared is not None:
                        self._store.put(key, shared)
                        if shared.ends_at > self._clock.monotonic():
                            CACHE_ANSWERS.labels("shared").inc()
                            return shared
                if self._cooldown.active:
                    return self._stale(key)
                async with place:
                    figures = await freeing_locals(compute())
        except TimeoutError:
            # Questions that arrived together time out together: each continues in a turn of its own.
            await arrive()
            # The query is too large, or Redis is slow; other requests may still succeed, so no cooldown starts.
            REDIS_ERRORS.labels("ledger").inc()
            return self._stale(key)
        except UNREACHABLE as error:
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
        entry = self._entry(figures, ttl_s)
        self._store.put(key, entry)
        if self._shared is not None:
            write = asyncio.create_task(self._shared.put(key, entry))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)
        return entry

    def _entry(self, figures: Figures, ttl_s: float) -> CacheEntry:
        now = self._clock.now()
        lifetime_s = ttl_s * (1 + JITTER * self._jitter())
        if figures.partial:
            lifetime_s = min(lifetime_s, PARTIAL_TTL_S)
        return CacheEntry(pack_figures(figures.value), now, now + lifetime_s, self._clock, partial=figures.partial)

    def _stale(self, key: str) -> CacheEntry:
        entry = self._store.get(key)
        grace_s = 0.0 if entry is None or entry.partial else self._grace_s
        if entry is None or entry.ends_at + grace_s <= self._clock.monotonic():
            CACHE_ANSWERS.labels("none").inc()
            raise UnavailableError("The statistics cannot be read at the moment.")
        CACHE_ANSWERS.labels("stale").inc()
        return entry.as_stale()
