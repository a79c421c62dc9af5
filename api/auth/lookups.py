"""Bounds the requests to an issuer that tokens cause: anyone can invent endless tokens.

Tokens that were good before have their own places, so that neither a flood nor a slow issuer shuts them out.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from api.auth.principal import Principal
from api.auth.rate_limit import RateLimit
from api.http.client_address import network_of
from api.http.errors import UnavailableError
from schemas.time.clock import Clock

PLACES: Final = 32
"""Concurrent requests for unknown tokens, and as many for tokens that were good before."""
WAIT_S: Final = 1.5
"""The longest wait for a place."""
BURST_S: Final = 4.0
"""Seconds of the rate that may come at once."""
ADDRESS_SHARE: Final = 0.2
"""The part of the rate that one address may use."""
REFUSED_S: Final = 10.0
"""Time for which a refusal is remembered, and so the delay of a token that becomes valid later."""
MAX_REFUSED: Final = 10_000
GOOD_S: Final = 3600.0
"""Time after its last verification for which a token counts as good before."""
MAX_GOOD: Final = 4096
BUSY: Final = "Too many tokens are being verified at the moment."


class Lookups:
    """Look-ups of tokens at an issuer: at most `per_s` of unknown tokens. Tokens are kept as digests only."""

    def __init__(self, per_s: float, clock: Clock) -> None:
        self._clock = clock.monotonic
        self._in_all = RateLimit("lookups", max(1, round(BURST_S * per_s)), per_s, "", clock, None)
        by_address = ADDRESS_SHARE * per_s
        self._by_address = RateLimit("lookups", max(1, round(BURST_S * by_address)), by_address, "", clock, None)
        self._unknown, self._known = asyncio.Semaphore(PLACES), asyncio.Semaphore(PLACES)
        self._good = _Remembered(GOOD_S, MAX_GOOD)
        self._refused = _Remembered(REFUSED_S, MAX_REFUSED)

    async def run(
        self, token: str, address: str, look_up: Callable[[], Awaitable[Principal | None]]
    ) -> Principal | None:
        """The result of `look_up`, or a remembered refusal. Raises UnavailableError."""
        digest = hashlib.sha256(token.encode()).digest()
        if self._refused.contains(digest, self._clock()):
            return None
        known = self._good.contains(digest, self._clock())
        if not known:
            await self._take(address)
        places = self._known if known else self._unknown
        try:
            async with asyncio.timeout(WAIT_S):
                await places.acquire()
        except TimeoutError as error:
            raise UnavailableError(BUSY, wait_s=1) from error
        try:
            principal = await look_up()
        finally:
            places.release()
        (self._refused if principal is None else self._good).add(digest, self._clock())
        if principal is None:
            self._good.remove(digest)
        return principal

    async def _take(self, address: str) -> None:
        """Take one request of the address, and one of all."""
        # 503, not 429: Janssen and Gluu have no 429, and a caller behind a proxy shares its address with others.
        for limit, caller in ((self._by_address, network_of(address)), (self._in_all, "")):
            allowance = await limit.take(caller)
            if allowance.wait_s:
                raise UnavailableError(BUSY, wait_s=allowance.wait_s)


class _Remembered:
    """Digests for `lifetime_s` each; beyond `size` the oldest is forgotten."""

    def __init__(self, lifetime_s: float, size: int) -> None:
        self._lifetime_s = lifetime_s
        self._size = size
        self._until: dict[bytes, float] = {}

    def contains(self, digest: bytes, now: float) -> bool:
        return now < self._until.get(digest, now)

    def add(self, digest: bytes, now: float) -> None:
        # Moved to the end: the first entry is the oldest.
        self._until.pop(digest, None)
        self._until[digest] = now + self._lifetime_s
        while len(self._until) > self._size:
            del self._until[next(iter(self._until))]

    def remove(self, digest: bytes) -> None:
        self._until.pop(digest, None)
