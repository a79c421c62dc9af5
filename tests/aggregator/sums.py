"""The sums of range deltas in memory: what the ledger's script does, without a store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from aggregator.fold.deduplication import SeenIds
from aggregator.fold.fold import fold
from aggregator.fold.labels import table_sizes
from aggregator.fold.range_delta import CountingRules, RangeDelta, ShardCache
from aggregator.inventory.fold import DecodedEvent, EventReader, fold_inventory, unknown_holders, unknown_tokens
from aggregator.inventory.state import InventoryCache, InventoryChanges, InventoryDelta, InventoryState
from schemas.ledger.inventory import DAY_BYTES, HEADER_BYTES, Token, pack_chunk_start
from schemas.ledger.inventory import INVENTORY_BINDINGS as INVENTORY
from tests.aggregator.logs import LogRecord

Span = tuple[int, int]
Chunk = tuple[str, int, int]
"""Rows of a realm and chunk, places of a realm, days of a realm and year."""


@dataclass
class Sums:
    """One shard. Two are equal if a ledger would hold the same for both."""

    counts: defaultdict[object, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    users: defaultdict[object, set[str]] = field(default_factory=lambda: defaultdict(set))
    clients: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    labels: set[str] = field(default_factory=set)
    shares: Counter[str] = field(default_factory=Counter)
    progress: Counter[str] = field(default_factory=Counter)
    spans: dict[str, Span] = field(default_factory=dict)
    """First and last, by what they are of: days, events, records."""
    dead: list[tuple[int, int, str, bytes | None]] = field(default_factory=list)
    ids: SeenIds = field(default_factory=SeenIds)
    stock: InventoryState = field(default_factory=lambda: InventoryState({}, {}, {}, {}))
    tokens: dict[str, Token] = field(default_factory=dict)
    holders: dict[bytes, int] = field(default_factory=dict)
    strings: defaultdict[Chunk, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    given: defaultdict[Span, dict[bytes, int]] = field(default_factory=lambda: defaultdict(dict))
    maxima: defaultdict[Span, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, delta: RangeDelta) -> None:
        for where, more in delta.counts.items():
            self.counts[where].update(more)
        for where, parts in delta.users.items():
            self.users[where].update(*parts)
        for period, digests in delta.clients.items():
            self.clients[period] |= digests
        self.labels |= delta.labels
        self.shares.update(delta.shares)
        self.progress.update(delta.progress)
        self._span("events", delta.first_event_ms, delta.last_event_ms)
        self._span("records", delta.first_record_ms, delta.last_record_ms)
        for day, span in delta.record_times.items():
            self._span(day, *span)
        self.dead += [
            (letter.record.offset, letter.element_index, letter.reason, letter.value) for letter in delta.dead_letters
        ]
        assert not delta.unexpected
        if isinstance(delta, InventoryDelta):
            self._change(delta.inventory)

    def _span(self, name: str, first: int | None, last: int | None) -> None:
        if first is not None and last is not None:
            held_first, held_last = self.spans.get(name, (first, last))
            self.spans[name] = min(first, held_first), max(last, held_last)

    def _change(self, changes: InventoryChanges) -> None:
        self.tokens |= changes.tokens
        self.holders = {holder: n for holder, n in (self.holders | changes.holders).items() if n}
        for (realm, chunk), (at, written) in changes.rows.items():
            self._write(("rows", realm, chunk), at, bytes(written))
        for realm, places in changes.chunk_starts.items():
            packed = b"".join(map(pack_chunk_start, places.values()))
            self._write(("places", realm, 0), min(places) * HEADER_BYTES, packed)
        for (realm, year), days in changes.days.items():
            self._write(("days", realm, year), min(days) * DAY_BYTES, b"".join(days.values()))
        for where, more in changes.external_rows.items():
            self.given[where] |= more
        for where, maxima in changes.external_days.items():
            for day, count in maxima.items():
                self.maxima[where][day] = max(count, self.maxima[where][day])

    def _write(self, chunk: Chunk, at: int, packed: bytes) -> None:
        held = self.strings[chunk]
        assert len(held) >= at, "no holes: the script refuses them"
        held[at : at + len(packed)] = packed

    def complete(self, stock: InventoryState, events: Sequence[DecodedEvent]) -> None:
        """Put into `stock` the tokens and holders that these events need."""
        stock.tokens.update({serial: self.tokens.get(serial) for serial in unknown_tokens(events, stock)})
        stock.holders.update({holder: self.holders.get(holder, 0) for holder in unknown_holders(events, stock)})

    def settle(self, known: ShardCache) -> None:
        """Take over the ids and the inventory of `known`, once all deltas are added."""
        self.ids = known.seen_ids
        assert self.labels == known.labels
        assert self.shares == known.shares
        assert known.table_sizes == table_sizes(known.labels)
        for ids in (self.ids, self.ids.excess or SeenIds()):
            assert ids.digests == {digest for held in ids.hours.values() for digest in held}
        by_hour = {hour: len(held) for hour, held in self.ids.hours.items() if held}
        assert {hour: sum(realms.values()) for hour, realms in self.ids.realms.items()} == by_hour
        if isinstance(known, InventoryCache) and known.inventory is not None:
            self.stock = InventoryState(
                known.inventory.realms, known.inventory.event_names, known.inventory.totals, known.inventory.reported
            )
        self.progress = +self.progress


def summed(name: str, log: Sequence[LogRecord], cuts: Sequence[int], rules: CountingRules, now_ms: int) -> Sums:
    """The sums of a log that is folded range by range, as the worker does. Raises what a fold raises."""
    sums = Sums()
    known = InventoryCache(set()) if name in INVENTORY else ShardCache(set())
    borders = [0, *sorted({range_ for range_ in cuts if 0 < range_ < len(log)}), len(log)]
    for start, end in pairwise(borders):
        batch = log[start:end]
        reading = EventReader(name, batch, end, rules, now_ms) if name in INVENTORY else None
        while start < end:
            delta = _tally(name, batch, (start, end), known, sums, reading, rules, now_ms)
            sums.add(delta)
            known.update(delta)
            assert start < delta.end <= end
            start = delta.end
            batch = [record for record in batch if record.offset >= start]
    sums.settle(known)
    return sums


def _tally(
    name: str,
    batch: Sequence[LogRecord],
    span: Span,
    known: ShardCache,
    sums: Sums,
    reading: EventReader | None,
    rules: CountingRules,
    now_ms: int,
) -> RangeDelta:
    records: Any = batch
    if reading is None:
        return fold(name, records, span[1], known, rules, now_ms)
    assert isinstance(known, InventoryCache)
    result, end = reading.take(span[0])
    if known.inventory is None:
        known.inventory = InventoryState({}, {}, {}, {})
    sums.complete(known.inventory, result)
    return fold_inventory(result, end, known, known.inventory, rules, now_ms)
