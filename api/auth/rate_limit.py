"""Rate limit per caller: a bucket of requests that refills steadily, in this process or shared in Redis.

The state of a caller is one number, the time at which its bucket is full again. Every request moves it by one
interval; a request that would move it further than a whole bucket from now is refused (the generic cell rate
algorithm of ITU-T I.371). A time in the past need not be stored.
"""

from __future__ import annotations

import hashlib
from math import ceil
from typing import Final, NamedTuple

import structlog

from api.ledger.client import UNREACHABLE, Client
from api.ledger.cooldown import Cooldown
from api.metrics import REDIS_ERRORS
from schemas.ledger.keys import allowance
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

MAX_CALLERS: Final = 10_000
"""Most buckets of this process that are not full. Beyond it the least recently used is dropped, which refills it."""

TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
if full + interval - now > interval * size then
  return {0, full - now}
end
full = full + interval
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return {1, full - now}
"""
"""Takes one request by the server's clock, because processes' clocks differ; in whole microseconds. Returns whether the
request is allowed, and the time until the bucket is full."""


class Allowance(NamedTuple):
    """A caller's remaining requests. `wait_s` until the next request, 0 if this one was allowed; `full_s` until all."""

    limit: int
    remaining: int
    full_s: float
    wait_s: float


class RateLimit:
    """At most `size` requests at once and `per_s` in the long run, per caller.

    While the shared store is unreachable, each process has its own buckets.
    """

    def __init__(
        self,
        name: str,
        size: int,
        per_s: float,
        prefix: str,
        clock: Clock,
        shared: Client | None,
    ) -> None:
        self._name = name
        self._size = size
        self._interval_us = max(1, round(1_000_000 / per_s))
        self._prefix = prefix
        self._clock = clock.monotonic
        self._cooldown = Cooldown(clock.monotonic)
        self._shared = shared
        self._full_at: dict[str, int] = {}

    async def take(self, caller: str) -> Allowance:
        """Take one of the caller's requests, if one is left."""
        # A digest, so that subjects of any length or content do not reach the store.
        caller = hashlib.blake2b(f"{self._name} {caller}".encode(), digest_size=16).hexdigest()
        taken = await self._take_shared(caller)
        if taken is None:
            taken = self._take_locally(caller)
        allowed, ahead_us = taken
        wait_us = 0 if allowed else ahead_us + self._interval_us - self._size * self._interval_us
        remaining = self._size - ceil(ahead_us / self._interval_us)
        return Allowance(self._size, max(0, remaining), ahead_us / 1_000_000, wait_us / 1_000_000)

    async def _take_shared(self, caller: str) -> tuple[bool, int] | None:
        if self._shared is None or self._cooldown.active:
            return None
        key = allowance(self._prefix, caller)
        try:
            ((allowed, ahead_us),) = await self._shared.run([("EVAL", TAKE, 1, key, self._interval_us, self._size)])
        except UNREACHABLE as error:
            REDIS_ERRORS.labels("cache").inc()
            log.warning("limits not shared", setting="AUTHTALLY_CACHE_REDIS_URL", error=type(error).__name__)
            self._cooldown.record_failure(error)
            return None
        self._cooldown.record_answer()
        return bool(allowed), int(ahead_us)

    def _take_locally(self, caller: str) -> tuple[bool, int]:
        now = int(self._clock() * 1_000_000)
        full = max(self._full_at.get(caller, 0), now)
        if full + self._interval_us - now > self._size * self._interval_us:
            return False, full - now
        # Moved to the end: the first entries are the least recently used.
        self._full_at.pop(caller, None)
        self._full_at[caller] = full + self._interval_us
        while len(self._full_at) > MAX_CALLERS:
            del self._full_at[next(iter(self._full_at))]
        return True, full + self._interval_us - now
