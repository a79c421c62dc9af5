"""The fold of logins, token answers and account events; needs the shard cache only and reads nothing from the store."""

from __future__ import annotations

from collections.abc import Sequence

from aggregator.fold.fold import fold
from aggregator.fold.range_delta import CountingRules, RangeDelta, Record, ShardCache


class EventFold:
    """Implements `Fold` for counters and users."""

    def __init__(self, binding: str, rules: CountingRules, records: Sequence[Record], end: int, now_ms: int) -> None:
        """`binding` is the topic's event or adapter; `now_ms` is the store's clock."""
        self.records = records
        self.end = end
        self._binding = binding
        self._rules = rules
        self._now_ms = now_ms

    async def load(self, start: int, cache: ShardCache) -> bool:
        return True

    def fold(self, cache: ShardCache) -> RangeDelta:
        return fold(self._binding, self.records, self.end, cache, self._rules, self._now_ms)

    async def read_ahead(self) -> None: ...

    def advance(self, position: int) -> None:
        self.records = [record for record in self.records if record.offset >= position]
