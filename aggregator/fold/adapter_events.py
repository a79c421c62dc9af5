"""What fold reads where a topic is bound to an adapter: the events of each record, one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from aggregator.fold.range_delta import Record
from schemas.adapters.elements import Adapter
from schemas.events import REASONS, BadRecordError, Event, Inventory, RecordTime


class IgnoredError(Exception):
    """Well-formed, and of no concern here."""


class AdapterEvent(NamedTuple):
    """One event of an element, or what an element is instead; stands where a record of native events does."""

    record: Record
    offset: int
    timestamp: int
    value: Event | BadRecordError | None
    raw: bytes | None
    element_index: int
    """Which element of the record, from 0."""
    starts_element: bool
    """Whether it is the first of its element."""

    @property
    def starts_record(self) -> bool:
        """Whether it is the first of its record."""
        return self.starts_element and not self.element_index


def adapter_events(adapter: Adapter, records: Iterable[Record], now_ms: int) -> list[AdapterEvent]:
    """Every event of the records, in log order. `now_ms` is the store's clock."""
    events = []
    for record in records:
        message: Any = record
        at = record.offset, record.timestamp
        for element in adapter(record.value, message.headers, RecordTime.of(record.timestamp, now_ms)):
            raw, nth = element.raw, element.index
            if not element.events:
                events.append(AdapterEvent(record, *at, element.bad, raw, nth, starts_element=True))
            for position, event in enumerate(element.events):
                if position and event.id is not None:
                    # An id of its own for each: they count together, and repeat together.
                    event = msgspec.structs.replace(event, id=f"{event.id} {position}")
                events.append(AdapterEvent(record, *at, event, raw, nth, starts_element=not position))
    return events


def require_event(value: Event | BadRecordError | None) -> Event:
    """The event of a unit. Raises BadRecordError, IgnoredError."""
    if value is None:
        raise IgnoredError
    if isinstance(value, BadRecordError):
        raise value
    if isinstance(value, Inventory):
        raise BadRecordError("wrong_topic", REASONS["wrong_topic"])
    return value
