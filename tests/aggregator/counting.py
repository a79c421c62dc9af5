"""Counts logs into a real store as the worker does, without Kafka: fold a range, apply it, update the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Self

from aggregator.fold.range_delta import CountingRules, ShardCache
from aggregator.fold_factory import FoldFactory
from aggregator.inventory.state import InventoryCache
from aggregator.ledger.ledger import Applied, Ledger, Refused
from aggregator.ledger.store import connect
from schemas.ledger.inventory import INVENTORY_BINDINGS
from schemas.ledger.keys import Shard, ShardKeys
from tests.aggregator import ledgers
from tests.aggregator.logs import NOW_MS, LogRecord

SHARD = Shard("auth.logins", 3)
OF = ShardKeys("authtally:", SHARD)


class Counting:
    """Counts ranges of one shard. Without `remember` the cache is loaded again before each script."""

    def __init__(self, redis_url: str, shard: Shard = SHARD, *, remember: bool = True, **given: Any) -> None:
        self.settings = ledgers.settings(redis_url, **given)
        self.shard = shard
        self.client = connect(self.settings)
        self.ledger = Ledger(self.client, self.settings)
        self.rules = CountingRules.of(self.settings)
        self.remember = remember
        self.now_ms = NOW_MS
        self.known: Any = (
            InventoryCache(set()) if self.settings.topics[shard.topic] in INVENTORY_BINDINGS else ShardCache(set())
        )
        self._folds = FoldFactory(self.settings, self.ledger)
        self.in_sketches: frozenset[tuple[str, Any]] = frozenset()

    async def open(self, start: int = 0) -> None:
        assert isinstance(await self.ledger.initialize(self.shard, start, "id-1"), Applied)

    async def resume(self) -> int:
        """The position at which counting continues; a new shard is opened at 0."""
        position = (await self.ledger.read_state(self.shard)).position
        if position is None:
            await self.open()
        await self._load_cache()
        return position or 0

    async def count(self, records: Sequence[LogRecord], start: int, end: int) -> Applied | Refused:
        """Apply one range with all its scripts. Returns the last script's outcome, or the first refusal."""
        outcome: Applied | Refused = Refused(None)
        batch = [one for one in records if start <= one.offset < end]
        fold = self._folds.new_fold(self.shard, self.now_ms, batch, end)
        while start < end:
            if not self.remember:
                await self._load_cache()
            if not await fold.load(start, self.known):
                return Refused((await self.ledger.read_state(self.shard)).position)
            delta = fold.fold(self.known)
            applying = self.ledger.apply(self.shard, start, delta, self.in_sketches)
            outcome, _ = await asyncio.gather(applying, fold.read_ahead())
            if isinstance(outcome, Refused):
                return outcome
            self.known.update(delta)
            self.in_sketches |= outcome.in_sketches
            start = delta.end
            fold.advance(start)
        return outcome

    async def _load_cache(self) -> None:
        state = await self.ledger.read_state(self.shard)
        seen = await self.ledger.read_seen_ids(self.shard, state)
        assert seen is not None
        self.known = self._folds.new_cache(self.shard, state, seen)
        self.in_sketches = frozenset()

    async def count_cut(self, records: Sequence[LogRecord], cuts: Iterable[int] = ()) -> None:
        end = records[-1].offset + 1
        for start, until in pairwise([0, *sorted({range_ for range_ in cuts if 0 < range_ < end}), end]):
            assert isinstance(await self.count(records, start, until), Applied)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
