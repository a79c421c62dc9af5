"""The fold and the shard cache of each topic, by its binding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from aggregator.fold.deduplication import SeenIds
from aggregator.fold.event_fold import EventFold
from aggregator.fold.protocol import Fold
from aggregator.fold.range_delta import CountingRules, Record, ShardCache
from aggregator.inventory.inventory_fold import InventoryFold
from aggregator.inventory.state import InventoryCache
from aggregator.ledger.ledger import Ledger, ShardState
from aggregator.settings import WorkerSettings
from schemas.ledger.inventory import INVENTORY_BINDINGS
from schemas.ledger.keys import Shard


class FoldFactory:
    """Makes folds and the caches that belong to them."""

    def __init__(self, settings: WorkerSettings, ledger: Ledger) -> None:
        self._topics = settings.topics
        self._rules = CountingRules.of(settings)
        self._ledger = ledger

    def new_cache(self, shard: Shard, state: ShardState, seen_ids: SeenIds) -> ShardCache:
        cache_type = InventoryCache if self._topics[shard.topic] in INVENTORY_BINDINGS else ShardCache
        return cache_type(
            set(state.labels),
            seen_ids=seen_ids,
            unexpected=set(state.unexpected),
            shares=Counter({group: int(number) for group, number in state.shares.items()}),
        )

    def new_fold(self, shard: Shard, now_ms: int, records: Sequence[Record], end: int) -> Fold[Any]:
        """A fold of the records of `shard` before offset `end`. Its methods take a cache made by `new_cache`."""
        binding = self._topics[shard.topic]
        if binding in INVENTORY_BINDINGS:
            return InventoryFold(self._ledger, shard, binding, self._rules, records, end, now_ms)
        return EventFold(binding, self._rules, records, end, now_ms)
