"""A lease that allows one restore per ledger: a second one would write into shards in which workers count already."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast

from aggregator.ledger.store import UNREACHABLE, Client
from schemas.ledger import keys

LEASE_S: Final = 10.0
"""Others wait this long after a restore was killed."""
LEASE_MS: Final = int(LEASE_S * 1000)
POLL_S: Final = 0.5

KEEP: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
END: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
"""


class InTheWayError(Exception):
    """A shard moved, or another restore is running."""


class Lease:
    """Ours until `check` raises, which it does when renewal failed for LEASE_S, such as in a suspended process."""

    def __init__(self, client: Client, key: str) -> None:
        self._client, self._key = client, key
        self._token = secrets.token_hex(8)
        self._until = 0.0

    def check(self) -> None:
        """Raises InTheWayError."""
        if time.monotonic() > self._until:
            raise InTheWayError(
                f"{self._key}: this restore was suspended for {LEASE_S:g} s, and another one may have begun: repeat"
            )

    async def take(self) -> bool:
        asked = time.monotonic()
        if not await self._client.set(self._key, self._token, nx=True, px=LEASE_MS):
            return False
        self._until = asked + LEASE_S
        return True

    async def keep(self) -> None:
        """Renew until cancelled. Returns when another process has the lease."""
        while True:
            await asyncio.sleep(LEASE_S / 5)
            asked = time.monotonic()
            with suppress(*UNREACHABLE):
                if not await cast(Any, self._client.eval(KEEP, 1, self._key, self._token, str(LEASE_MS))):
                    self._until = 0.0
                    return
                self._until = asked + LEASE_S

    async def end(self) -> None:
        await cast(Any, self._client.eval(END, 1, self._key, self._token))


@asynccontextmanager
async def alone(client: Client, key_prefix: str) -> AsyncIterator[Lease]:
    """Hold the lease. Waits for the expiry of a killed restore's. Raises InTheWayError, RedisError."""
    key = keys.restoring(key_prefix)
    lease = Lease(client, key)
    patience = time.monotonic() + LEASE_S + 1
    while not await lease.take():
        if time.monotonic() > patience:
            raise InTheWayError(f"{key}: another restore is running; repeat when it has ended")
        await asyncio.sleep(POLL_S)
    keeping = asyncio.create_task(lease.keep())
    try:
        yield lease
    finally:
        keeping.cancel()
        with suppress(*UNREACHABLE):
            await lease.end()
