"""A question that is cancelled between two replies leaves none of them to the next question."""

from __future__ import annotations

import asyncio

import pytest

from api.ledger.client import open_url

LATE = "for _ = 1, 20000000 do end return 'late'"


async def test_the_next_question_gets_its_own_replies(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_url(redis_url)
    pauses = 0

    async def cancelled() -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 1:
            raise asyncio.CancelledError

    try:
        await client.run([("SET", "first", "1"), ("SET", "second", "2")])
        monkeypatch.setattr("api.ledger.client.pause", cancelled)
        with pytest.raises(asyncio.CancelledError):
            # Its replies come after the cancellation: redis-py finds replies that are there already.
            await client.run([("EVAL", LATE, 0), ("GET", "second")])
        assert await client.run([("GET", "first")]) == [b"1"]
    finally:
        await client.close()
