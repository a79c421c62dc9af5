"""The fold of the OTP inventory; reads the last states of tokens and holders from the store as it needs them."""

from __future__ import annotations

from collections.abc import Sequence

from aggregator.fold.range_delta import CountingRules, RangeDelta, Record
from aggregator.inventory import store
from aggregator.inventory.fold import DecodedEvent, EventReader, fold_inventory
from aggregator.inventory.state import InventoryCache
from schemas.ledger.keys import Shard


class InventoryFold:
    """Implements `Fold` for states and counts of OTP tokens."""

    def __init__(
        self,
        ledger: store.ScriptReader,
        shard: Shard,
        name: str,
        rules: CountingRules,
        records: Sequence[Record],
        end: int,
        now_ms: int,
    ) -> None:
        """`name` is the topic's binding; `now_ms` is the store's clock."""
        self.records = records
        self.end = end
        self._ledger = ledger
        self._shard = shard
        self._rules = rules
        self._now_ms = now_ms
        self._reader = EventReader(name, records, end, rules, now_ms)
        self._events: list[DecodedEvent] = []
        self._events_end = end

    async def load(self, start: int, cache: InventoryCache) -> bool:
        """Decode the next events and read the states that they change. Waits for Redis."""
        events, self._events_end = self._reader.take(start)
        self._events = [decoded for decoded in events if decoded.item.offset not in cache.unexpected]
        if cache.inventory is None:
            cache.inventory = await store.load_state(self._ledger, self._shard, start)
        return cache.inventory is not None and await store.load_needed(
            self._ledger, self._shard, start, cache.inventory, self._events
        )

    def fold(self, cache: InventoryCache) -> RangeDelta:
        if cache.inventory is None:
            raise RuntimeError("the inventory is folded before it is loaded")
        _, skipped = cache.without_unexpected(self.records)
        return fold_inventory(
            self._events, self._events_end, cache, cache.inventory, self._rules, self._now_ms, skipped
        )

    async def read_ahead(self) -> None:
        await self._reader.read_ahead()

    def advance(self, position: int) -> None:
        self.records = [record for record in self.records if record.offset >= position]
