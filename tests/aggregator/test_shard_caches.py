"""The worker's copies of shards: of the position that a range starts at, and of no other."""

from __future__ import annotations

from aggregator.fold_factory import FoldFactory
from aggregator.ledger.ledger import Applied, Refused
from aggregator.shard_caches import LoadedShard, ShardCaches
from tests.aggregator.counting import SHARD, Counting
from tests.aggregator.logs import NOW_MS, record


def caches_of(counter: Counting) -> ShardCaches:
    folds = FoldFactory(counter.settings, counter.ledger)
    return ShardCaches(counter.settings, counter.ledger, folds, lambda: NOW_MS)


async def test_a_shard_that_stands_elsewhere_is_not_cached(redis_url: str) -> None:
    async with Counting(redis_url) as counter:
        caches = caches_of(counter)
        assert await caches.load(SHARD, 0) == Refused(None)
        await counter.open()
        assert await caches.load(SHARD, 7) == Refused(0)
        assert isinstance(await caches.load(SHARD, 0), LoadedShard)


async def test_a_cache_of_another_position_is_loaded_again(redis_url: str) -> None:
    async with Counting(redis_url) as counter:
        caches = caches_of(counter)
        await counter.open()
        assert isinstance(await caches.load(SHARD, 0), LoadedShard)
        login = {"time": "2026-11-20T10:00:00Z", "user_id": "u", "realm": "acme"}
        assert isinstance(await counter.count([record(0, login)], 0, 1), Applied)
        found = await caches.load(SHARD, 1)
        assert isinstance(found, LoadedShard)
        assert (found.position, found.cache.labels) == (1, {"realm/acme"})
