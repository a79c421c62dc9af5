"""How often a caller may ask: a bucket of requests that fills again steadily, in this process or shared in Redis.

Kept as one number a caller, the moment at which its bucket will be full again: every request moves it by one
interval, and a request that would move it further than a whole bucket from now is refused (the generic cell rate
algorithm of ITU-T I.371). A caller who has not asked for a while is a number in the past, so it need not be kept.
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
"""Buckets that are not full, in this process. Beyond it the longest known goes, and so starts anew."""

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
"""Takes one request by the server's own clock, in whole microseconds: processes' clocks differ. Answers whether there
was one, and how long until the bucket is full."""


class Allowance(NamedTuple):
    """What a caller has left. `wait_s` until one request more, 0 when this one was let in; `full_s` until all."""

    limit: int
    remaining: int
    full_s: float
    wait_s: float


class RateLimit:
    """At most `size` requests at once and `per_s` in the long run, by caller.

    While the shared buckets cannot be reached, each process keeps its own.
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
        """Takes one request of the caller's, if there is one."""
        # Neither a subject's length nor its text is anybody's business in a store.
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
            self._cooldown.start()
            return None
        return bool(allowed), int(ahead_us)

    def _take_locally(self, caller: str) -> tuple[bool, int]:
        now = int(self._clock() * 1_000_000)
        full = max(self._full_at.get(caller, 0), now)
        if full + self._interval_us - now > self._size * self._interval_us:
            return False, full - now
        # Put at the end: the first ones are those that asked longest ago.
        self._full_at.pop(caller, None)
        self._full_at[caller] = full + self._interval_us
        while len(self._full_at) > MAX_CALLERS:
            del self._full_at[next(iter(self._full_at))]
        return True, full + self._interval_us - now
