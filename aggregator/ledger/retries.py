"""Calls of the ledger's Redis, repeated until it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from aggregator.ledger.store import UNREACHABLE, Client, as_connection_errors, describe_error
from schemas.connections.redis_replies import Remedy, leave_server, reply_of

log = structlog.get_logger(__name__)

MIN_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 0.5
"""A store that is back, or has a new primary, is found after this long at most."""

T = TypeVar("T")


class LedgerDefectError(Exception):
    """A key of a shard has the wrong type or content, or a script failed. Nothing was written; a retry cannot help."""


class RetryingClient:
    """Runs operations on a client, with retries and backoff."""

    def __init__(self, client: Client, redis_url: str, on_error: Callable[[str | None], None]) -> None:
        """`on_error` is called with each failure, and with None when the store answers again."""
        self._client = client
        self._redis_url = redis_url
        self._on_error = on_error

    async def once(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Run an operation without a retry. Reconnects if another server must be used. Raises one of UNREACHABLE."""
        try:
            with as_connection_errors():
                return await operation()
        except UNREACHABLE as error:
            await leave_server(self._client, error, self._redis_url)
            raise

    async def until_ok(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Run an operation until Redis answers. It must be safe to repeat: a lost answer does not show the outcome.

        Raises LedgerDefectError.
        """
        pause, failures = MIN_PAUSE_S, 0
        while True:
            try:
                answer = await self.once(operation)
            except UNREACHABLE as error:
                if (reply := reply_of(error)) and reply.remedy is Remedy.DEFECT:
                    self._on_error(None)
                    raise LedgerDefectError(str(error)) from error
                description = describe_error(error)
                self._on_error(description)
                failures += 1
                # The 1st, 2nd, 4th, 8th …: an hour without a store is a dozen lines, not thousands.
                if failures & (failures - 1) == 0:
                    log.warning("redis call failed", error=description, failures=failures, retry_in_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE_S)
            else:
                self._on_error(None)
                return answer
