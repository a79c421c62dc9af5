"""Counts logs into a real store as the worker does, without Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Self

from aggregator.fold.fold import fold
from aggregator.fold.range_delta import CountingRules, ShardCache
from aggregator.ledger.ledger import Applied, Ledger, Refused
from aggregator.ledger.store import connect
from schemas.ledger.keys import Shard, ShardKeys
from tests.aggregator import ledgers
from tests.aggregator.logs import NOW_MS, LogRecord

SHARD = Shard("auth.logins", 3)
OF = ShardKeys("authtally:", SHARD)


class Counting:
    """Counts ranges as the worker does, without Kafka."""

    def __init__(self, redis_url: str, shard: Shard = SHARD, *, remember: bool = True, **given: Any) -> None:
        self.settings = ledgers.settings(redis_url, **given)
        self.shard = shard
        self.client = connect(self.settings)
        self.ledger = Ledger(self.client, self.settings)
        self.rules = CountingRules.of(self.settings)
        self.remember = remember
        self.now_ms = NOW_MS
        self.known = ShardCache(set())
        self.in_sketches: frozenset[tuple[str, Any]] = frozenset()

    async def open(self, start: int = 0) -> None:
        assert isinstance(await self.ledger.initialize(self.shard, start, "id-1"), Applied)

    async def count(self, records: Sequence[LogRecord], start: int, end: int) -> Applied | Refused:
        """One range; all its scripts."""
        outcome: Applied | Refused = Refused(None)
        while start < end:
            if not self.remember:
                state = await self.ledger.read_state(self.shard)
                seen = await self.ledger.read_seen_ids(self.shard, state)
                assert seen is not None
                self.known = ShardCache(set(state.labels), seen_ids=seen)
                self.in_sketches = frozenset()
            batch = [one for one in records if start <= one.offset < end]
            delta = fold(self.settings.topics[self.shard.topic], batch, end, self.known, self.rules, self.now_ms)
            outcome = await self.ledger.apply(self.shard, start, delta, self.in_sketches)
            if isinstance(outcome, Refused):
                return outcome
            self.known.update(delta)
            self.in_sketches |= outcome.in_sketches
            start = delta.end
        return outcome

    async def count_cut(self, records: Sequence[LogRecord], cuts: Iterable[int] = ()) -> None:
        end = records[-1].offset + 1
        for start, until in pairwise([0, *sorted({range_ for range_ in cuts if 0 < range_ < end}), end]):
            assert isinstance(await self.count(records, start, until), Applied)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
