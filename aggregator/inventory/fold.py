"""The fold of the OTP inventory: states of tokens in, counts per realm and their history out. Pure.

As in `aggregator.fold.fold`: the result depends on the log and the recorded settings, not on where ranges end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from aggregator.fold.adapter_events import AdapterEvent, adapter_events
from aggregator.fold.deduplication import Deduplicator
from aggregator.fold.fold import note_skipped
from aggregator.fold.range_delta import CountingRules, DeadLetter, Record, ShardCache
from aggregator.inventory.changes import ChangesBuilder
from aggregator.inventory.state import InventoryDelta, InventoryState, realm_bytes
from schemas.adapters.registry import adapter_named
from schemas.adapters.timestamps import checked_utc
from schemas.events import (
    DECODERS,
    BadRecordError,
    Inventory,
    OtpTokenCount,
    OtpTokenState,
    RecordTime,
    decode_native,
)
from schemas.ledger.inventory import (
    NO_REALM,
    micros,
)

MAX_EVENTS: Final = 500
"""Records per delta: the reads for them and the script each stay under 5 ms of the store's time."""
MAX_CHANGES: Final = 1_000
"""Events and rows per script: tokens in many realms end a delta before MAX_EVENTS."""

READ_SLICE: Final = 50
"""Records decoded between two turns of the event loop: half a millisecond."""


class DecodedEvent(NamedTuple):
    """One event of a record, or the reason why there is none; independent of the shard's state."""

    item: Any
    """A record, or an AdapterEvent of one."""
    at: RecordTime
    event: Inventory | BadRecordError | None
    holder: bytes = b""
    """The digest of the token's holder; empty if it has none."""


def decode_records(name: str, records: Sequence[Record], rules: CountingRules, now_ms: int) -> list[DecodedEvent]:
    """Decode and check records of a topic bound to `name`, one of `schemas.ledger.inventory.INVENTORY_BINDINGS`."""
    if name not in DECODERS:
        return [
            _validated(item, item.value, RecordTime.of(item.timestamp, now_ms), rules)
            for item in adapter_events(adapter_named(name, rules.realm_names), records, now_ms)
        ]
    events: list[DecodedEvent] = []
    for record in records:
        at = RecordTime.of(record.timestamp, now_ms)
        try:
            event = decode_native(name, record.value)
        except BadRecordError as bad:
            events.append(DecodedEvent(record, at, BadRecordError(bad.reason, bad.detail)))
        else:
            events.append(_validated(record, event, at, rules))
    return events


def _validated(item: Any, event: Any, at: RecordTime, rules: CountingRules) -> DecodedEvent:
    if not isinstance(event, (OtpTokenState, OtpTokenCount)):
        return DecodedEvent(item, at, event)
    try:
        checked_utc(event.time, at)
    except BadRecordError as bad:
        bad.__context__ = None
        return DecodedEvent(item, at, bad.with_traceback(None))
    if isinstance(event, OtpTokenState) and event.assigned and event.user_id and not event.deleted:
        return DecodedEvent(item, at, event, rules.digest.holder(event.user_id))
    return DecodedEvent(item, at, event)


class EventReader:
    """Decodes the records of one range to events, step by step."""

    def __init__(self, name: str, records: Sequence[Record], end: int, rules: CountingRules, now_ms: int) -> None:
        self._name = name
        self._now_ms = now_ms
        self._records = records
        self._end = end
        self._rules = rules
        self._read = 0
        self._ahead: list[DecodedEvent] = []

    def take(self, start: int) -> tuple[list[DecodedEvent], int]:
        """The events to fold from offset `start` on, and the offset after them."""
        self._ahead = [decoded for decoded in self._ahead if decoded.item.offset >= start]
        if not self._ahead:
            self._read_some(MAX_EVENTS)
        end = self._records[self._read].offset if self._read < len(self._records) else self._end
        return self._ahead, end

    async def read_ahead(self) -> None:
        """Decode at most MAX_EVENTS more records; in slices, so that the event loop can meanwhile send a script.

        Ends before records that raise: `take` raises again, when everything before them is applied.
        """
        for _ in range(0, MAX_EVENTS, READ_SLICE):
            await asyncio.sleep(0)
            try:
                self._read_some(READ_SLICE)
            except Exception:  # noqa: BLE001 - take() raises it again
                return

    def _read_some(self, most: int) -> None:
        more = self._records[self._read : self._read + most]
        events = decode_records(self._name, more, self._rules, self._now_ms)
        self._read += len(more)
        self._ahead = self._ahead + events


def unknown_tokens(events: Iterable[DecodedEvent], state: InventoryState) -> list[str]:
    """Serials whose last state must be read before the fold."""
    serials = {decoded.event.serial for decoded in events if isinstance(decoded.event, OtpTokenState)}
    return [serial for serial in serials if serial not in state.tokens]


def unknown_holders(events: Iterable[DecodedEvent], state: InventoryState) -> list[bytes]:
    """Holders whose number of tokens must be read before the fold; all serials must be in `state`."""
    found: set[bytes] = set()
    for decoded in events:
        if not isinstance(decoded.event, OtpTokenState):
            continue
        if decoded.holder:
            for realm in decoded.event.realms or (NO_REALM,):
                number = state.realms.get(realm)
                if number is not None:
                    found.add(realm_bytes(number) + decoded.holder)
        held = state.tokens[decoded.event.serial]
        if held is not None and held.user:
            found.update([realm_bytes(number) + held.user for number in held.realms])
    return [holder for holder in found if holder not in state.holders]


def fold_inventory(
    events: Sequence[DecodedEvent],
    end: int,
    cache: ShardCache,
    state: InventoryState,
    rules: CountingRules,
    now_ms: int,
    skipped: Sequence[Record] = (),
) -> InventoryDelta:
    """Fold events up to offset `end`. `state` must contain each serial and holder of them; `now_ms` as for `fold`.

    `skipped` are the unexpected records, which are not among `events`.
    """
    delta = InventoryDelta(end)
    fold = ChangesBuilder(state, rules)
    deduplicator = Deduplicator(cache.seen_ids, rules.dedupe_window_s, rules.dedupe_max_ids, now_ms, len(events))
    consumed = duplicates = ignored = 0
    times: list[RecordTime] = []
    starts_record: list[bool] = []
    first: datetime | None = None
    last: datetime | None = None
    for item, at, event, holder in events:
        from_adapter = isinstance(item, AdapterEvent)
        if fold.work_done >= MAX_CHANGES and (not from_adapter or item.starts_record):
            delta.end = item.offset
            break
        times.append(at)
        starts_record.append(not from_adapter or item.starts_record)
        starts_element = item.starts_element if from_adapter else True
        consumed += starts_element
        if event is None:
            ignored += 1
            if from_adapter and item.unknown is not None:
                delta.note_unknown(item.unknown)
            continue
        if isinstance(event, BadRecordError):
            record, value, nth = (item.record, item.raw, item.element_index) if from_adapter else (item, item.value, 0)
            delta.dead_letters.append(DeadLetter(record, event.reason, event.detail, value, nth))
            continue
        if event.id is not None and rules.dedupe_window_s:
            at_ms = at.ms if at.usable else micros(event.time) // 1000
            if deduplicator.is_duplicate(rules.digest.event_id(event.id), at_ms, _realm_of(event)):
                duplicates += starts_element
                continue
        if isinstance(event, OtpTokenState):
            event_key = b"" if event.event_id is None else rules.digest.event_id(event.event_id)
            order = fold.fold_state(event, holder, event_key)
            if order <= 0:
                duplicates += order == 0
                ignored += order < 0
                continue
        else:
            fold.fold_count(event, item.offset << 16 | (item.element_index if from_adapter else 0))
        if first is None or last is None:
            first = last = event.time
        elif event.time > last:
            last = event.time
        elif event.time < first:
            first = event.time
    if first is not None and last is not None:
        delta.first_event_ms, delta.last_event_ms = micros(first) // 1000, micros(last) // 1000
    untimed = frozenset(place for place, at in enumerate(times) if not at.usable)
    delta.note_timestamps([at.ms for at in times], untimed, starts_record)
    delta.dedupe = deduplicator.finish()
    delta.inventory = fold.finish()
    delta.record_progress(consumed, duplicates, ignored, note_skipped(delta, skipped, now_ms))
    return delta


def _realm_of(event: OtpTokenState | OtpTokenCount) -> str:
    """The realm whose share the event's id uses."""
    if isinstance(event, OtpTokenCount):
        return event.realm
    return event.realms[0] if event.realms else ""
