"""The rate limit per caller: which requests pass, what answers say of it, and that processes share it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from api.auth import rate_limit
from api.auth.rate_limit import Allowance, RateLimit
from api.ledger.client import Client, open_url
from api.ledger.cooldown import RETRY_S
from deploy.demo.servers import Valkey
from tests.api.conftest import Clock
from tests.conftest import wait_until

PREFIX = "authtally:"


def limit(clock: Clock, shared: Client | None = None, size: int = 3, per_s: float = 1) -> RateLimit:
    return RateLimit("test", size, per_s, PREFIX, clock.handed, shared)


@pytest.fixture
async def shared(redis_url: str) -> AsyncIterator[Client]:
    client = open_url(redis_url)
    yield client
    await client.close()


async def take(limit: RateLimit, times: int, caller: str = "one") -> list[Allowance]:
    return [await limit.take(caller) for _ in range(times)]


async def test_a_bucket_empties_and_fills_again(clock: Clock) -> None:
    bucket = limit(clock)
    clock.now = 1_000_000.0
    assert await take(bucket, 4) == [
        Allowance(3, 2, 1.0, 0.0),
        Allowance(3, 1, 2.0, 0.0),
        Allowance(3, 0, 3.0, 0.0),
        Allowance(3, 0, 3.0, 1.0),
    ]
    clock.now += 0.75
    assert await take(bucket, 1) == [Allowance(3, 0, 2.25, 0.25)]
    clock.now += 0.25
    assert await take(bucket, 2) == [Allowance(3, 0, 3.0, 0.0), Allowance(3, 0, 3.0, 1.0)]
    clock.now += 100
    assert await take(bucket, 1) == [Allowance(3, 2, 1.0, 0.0)]


async def test_a_refusal_costs_nothing(clock: Clock) -> None:
    bucket = limit(clock)
    clock.now = 1_000_000.0
    await take(bucket, 100)
    clock.now += 1
    assert (await bucket.take("one")).wait_s == 0


async def test_callers_have_buckets_of_their_own(clock: Clock, shared: Client) -> None:
    for bucket in (limit(clock), limit(clock, shared)):
        await take(bucket, 4, "one")
        assert (await bucket.take("other")).remaining == 2


@settings(max_examples=50, deadline=None)
@given(
    size=st.integers(1, 20),
    per_s=st.sampled_from((0.5, 1.0, 3.0, 1000.0)),
    steps=st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_no_more_is_let_in_than_a_bucket_and_its_refill(size: int, per_s: float, steps: list[float]) -> None:
    async def ask() -> None:
        clock = Clock()
        bucket, started, let_in = limit(clock, None, size, per_s), clock.now, 0
        for step in steps:
            clock.now += step
            let_in += not (await bucket.take("one")).wait_s
            # A microsecond is the grain of the bucket.
            assert let_in <= size + math.floor((clock.now - started + 1e-3) * per_s)

    asyncio.run(ask())


async def test_processes_share_a_bucket(clock: Clock, shared: Client) -> None:
    one, other = limit(clock, shared, per_s=0.001), limit(clock, shared, per_s=0.001)
    remaining = [(await bucket.take("one")).remaining for bucket in (one, other, one)]
    assert remaining == [2, 1, 0]
    refused = await other.take("one")
    assert refused.wait_s == pytest.approx(1000, abs=5)
    assert refused.full_s == pytest.approx(3000, abs=5)


async def test_a_shared_bucket_goes_when_it_is_full(clock: Clock, shared: Client, redis_url: str) -> None:
    await take(limit(clock, shared, per_s=20), 3, "somebody@example.com")
    with redis.Redis.from_url(redis_url) as server:
        (key,) = server.keys()
        assert b"somebody" not in key, "the caller's name must not be in a store"
        assert 0 < server.pttl(key) <= 150
        wait_until(lambda: server.dbsize() == 0)


async def test_a_dead_store_leaves_each_process_its_own_bucket(clock: Clock) -> None:
    with Valkey() as store:
        client = open_url(store.url)
        bucket = limit(clock, client, per_s=0.001)
        await take(bucket, 3)
        store.kill()
        assert [allowance.remaining for allowance in await take(bucket, 4)] == [2, 1, 0, 0]
        store.start()
        assert (await bucket.take("one")).wait_s > 0, "asked again a second later, not with every request"
        clock.now += RETRY_S
        assert (await bucket.take("one")).remaining == 2
        await client.close()


async def test_a_flood_of_callers_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "MAX_CALLERS", 100)
    bucket = limit(clock)
    await take(bucket, 3, "first")
    for number in range(1000):
        await bucket.take(f"caller {number}")
    assert (await bucket.take("caller 999")).remaining == 1
    assert (await bucket.take("first")).remaining == 2, "forgotten, and so full again"
