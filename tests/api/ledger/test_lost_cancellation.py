"""A deadline that passes while redis-py sends a command is not lost."""

from __future__ import annotations

import asyncio

import pytest

from api.ledger.client import open_url


async def test_a_cancellation_that_was_dropped_is_raised_after_the_next_command(redis_url: str) -> None:
    client = open_url(redis_url)

    async def drop() -> None:
        # As asyncio.wait_for does in Python 3.11 if the result is there in the same turn.
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(10)

    async def ask() -> None:
        async with asyncio.timeout(0.01):
            await drop()
            await client.run([("PING",)])

    try:
        with pytest.raises(TimeoutError):
            await ask()
        assert await client.run([("PING",)]) == [True]
    finally:
        await client.close()
