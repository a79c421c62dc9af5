"""Counts logs into a real store as the worker does, without Kafka: fold a range, apply it, update the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Self

from aggregator.fold.deduplication import SeenIds
from aggregator.fold.range_delta import CountingRules, ShardCache
from aggregator.folds import Folds
from aggregator.ledger.ledger import Applied, Ledger, Refused, ShardState
from aggregator.ledger.store import connect
from schemas.ledger.keys import Shard, ShardKeys
from tests.aggregator import ledgers
from tests.aggregator.logs import NOW_MS, LogRecord

SHARD = Shard("auth.logins", 3)
OF = ShardKeys("authtally:", SHARD)


async def load_cache(ledger: Ledger, folds: Folds, shard: Shard) -> ShardCache:
    """The cache that a worker starts with when it gets a shard."""
    state = await ledger.read_state(shard)
    seen = await ledger.read_seen_ids(shard, state)
    assert seen is not None
    return folds.new_cache(shard, state, seen)


class Counting:
    """Counts ranges of one shard. Without `remember` the cache is loaded again before each script."""

    def __init__(self, redis_url: str, shard: Shard = SHARD, *, remember: bool = True, **given: Any) -> None:
        self.settings = ledgers.settings(redis_url, **given)
        self.shard = shard
        self.name = self.settings.topics[shard.topic]
        self.client = connect(self.settings)
        self.ledger = Ledger(self.client, self.settings)
        self.rules = CountingRules.of(self.settings)
        self.remember = remember
        self.now_ms = NOW_MS
        self.folds = Folds(self.settings, self.ledger)
        self.known = self.folds.new_cache(shard, ShardState(None, frozenset(), {}), SeenIds())
        self.in_sketches: frozenset[tuple[str, Any]] = frozenset()

    async def open(self, start: int = 0) -> None:
        assert isinstance(await self.ledger.initialize(self.shard, start, "id-1"), Applied)

    async def resume(self) -> int:
        """The position at which counting continues; a new shard is opened at 0."""
        position = (await self.ledger.read_state(self.shard)).position
        if position is None:
            await self.open()
        await self._load()
        return position or 0

    async def count(self, records: Sequence[LogRecord], start: int, end: int) -> Applied | Refused:
        """Apply one range with all its scripts. Returns the last script's outcome, or the first refusal."""
        outcome: Applied | Refused = Refused(None)
        batch = [one for one in records if start <= one.offset < end]
        piece = self.folds.new_fold(self.shard, self.now_ms, batch, end)
        while start < end:
            if not self.remember:
                await self._load()
            if not await piece.load(start, self.known):
                return Refused((await self.ledger.read_state(self.shard)).position)
            delta = piece.fold(self.known)
            applying = self.ledger.apply(self.shard, start, delta, self.in_sketches)
            outcome, _ = await asyncio.gather(applying, piece.read_ahead())
            if isinstance(outcome, Refused):
                return outcome
            self.known.update(delta)
            self.in_sketches |= outcome.in_sketches
            piece.advance(delta.end)
            start = delta.end
        return outcome

    async def _load(self) -> None:
        self.known = await load_cache(self.ledger, self.folds, self.shard)
        self.in_sketches = frozenset()

    async def count_cut(self, records: Sequence[LogRecord], cuts: Iterable[int] = ()) -> None:
        end = records[-1].offset + 1
        for start, until in pairwise([0, *sorted({range_ for range_ in cuts if 0 < range_ < end}), end]):
            assert isinstance(await self.count(records, start, until), Applied)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
