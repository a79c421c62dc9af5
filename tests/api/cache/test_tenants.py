"""The questions of one tenant, however many and wide, keep no place from those of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from api.cache.cache import LARGE_BYTES, MAX_CONCURRENT, MAX_OF_ONE, Cache, Figures, ResponseBody
from api.http.places import tenant_of
from api.ledger.client import open_ledger
from api.ledger.ledger_statistics import MAX_WIDE, MAX_WIDE_OF_ONE, LedgerStatistics
from api.settings.settings import ApiSettings
from schemas.settings import read
from schemas.time.clock import Clock
from tests.conftest import wait_until_async

ACME, HOSTILE = frozenset({"acme"}), frozenset({"hostile"})


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    cache = Cache(Clock(), lambda: 0.0, grace_s=0)
    yield cache
    await cache.close()


async def test_cache_misses_of_one_tenant_leave_places_to_others(cache: Cache) -> None:
    started, go = 0, asyncio.Event()

    async def slow() -> Figures:
        nonlocal started
        started += 1
        await go.wait()
        return Figures("hostile")

    async def quick() -> Figures:
        return Figures("acme")

    asked = [
        asyncio.create_task(cache.get(f"{number}", 60, slow, str, tenant_of(HOSTILE)))
        for number in range(2 * MAX_CONCURRENT)
    ]
    await wait_until_async(lambda: started == MAX_CONCURRENT // 2, what="its share is used")
    async with asyncio.timeout(1):
        assert (await cache.get("mine", 60, quick, str, tenant_of(ACME))).figures(str) == "acme"
    assert started == MAX_CONCURRENT // 2
    go.set()
    assert {entry.figures(str) for entry in await asyncio.gather(*asked)} == {"hostile"}


async def test_large_renderings_of_one_tenant_leave_a_thread_to_others(cache: Cache) -> None:
    release, rendering = asyncio.Event(), 0
    loop = asyncio.get_running_loop()

    async def large() -> Figures:
        return Figures("x" * LARGE_BYTES)

    def slow() -> ResponseBody:
        nonlocal rendering
        rendering += 1
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
        return ResponseBody(b"hostile", "text/csv")

    entries = [await cache.get(f"{number}", 60, large) for number in range(4)]
    asked = [
        asyncio.create_task(cache.body(f"{number}", entry, "csv", slow, tenant_of(HOSTILE)))
        for number, entry in enumerate(entries[1:])
    ]
    await wait_until_async(lambda: rendering == 1, what="one is rendered")
    await cache.body("mine", entries[0], "csv", lambda: ResponseBody(b"acme", "text/csv"), tenant_of(ACME))
    assert rendering == 1
    release.set()
    await asyncio.gather(*asked)


async def test_wide_questions_do_not_take_the_places_of_ordinary_ones(cache: Cache) -> None:
    go, started = asyncio.Event(), 0

    async def wide() -> Figures:
        nonlocal started
        started += 1
        await go.wait()
        return Figures("wide")

    async def ordinary() -> Figures:
        return Figures("ordinary")

    tenant = tenant_of(ACME)
    asked = [
        asyncio.create_task(cache.get(f"{number}", 60, wide, str, tenant, is_wide=True))
        for number in range(2 * MAX_CONCURRENT)
    ]
    await wait_until_async(lambda: started == MAX_OF_ONE, what="its places are used")
    async with asyncio.timeout(1):
        assert (await cache.get("mine", 60, ordinary, str, tenant)).figures(str) == "ordinary"
    assert started == MAX_OF_ONE
    go.set()
    await asyncio.gather(*asked)


async def test_wide_questions_of_one_tenant_leave_places_to_others(redis_url: str) -> None:
    settings = read(ApiSettings, auth=("none",), redis_url=redis_url)
    async with AsyncExitStack() as held:
        client = open_ledger(settings)
        held.push_async_callback(client.close)
        statistics = LedgerStatistics(client, settings)
        for _ in range(MAX_WIDE_OF_ONE):
            await held.enter_async_context(statistics.wide_question(HOSTILE))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), statistics.wide_question(HOSTILE):
                pass
        for number in range(MAX_WIDE - MAX_WIDE_OF_ONE):
            async with asyncio.timeout(1):
                await held.enter_async_context(statistics.wide_question({f"realm {number}"}))
