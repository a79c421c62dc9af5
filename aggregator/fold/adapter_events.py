"""Events of records on a topic that is bound to an adapter, one by one: the input of the fold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from aggregator.fold.range_delta import Record
from schemas.adapters.elements import Adapter
from schemas.events import REASONS, BadRecordError, Event, Inventory, RecordTime


class IgnoredError(Exception):
    """A well-formed element that contains no event."""


class AdapterEvent(NamedTuple):
    """One event of an element, or an element without one; the fold reads it like a record of a native event."""

    record: Record
    offset: int
    timestamp: int
    value: Event | BadRecordError | None
    raw: bytes | None
    element_index: int
    """The index of the element in the record, from 0."""
    starts_element: bool
    """Whether it is the first event of its element."""
    unknown: str | None = None
    """The name of an ignored element's event type, if it is unknown."""

    @property
    def starts_record(self) -> bool:
        """Whether it is the first event of its record."""
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
                events.append(AdapterEvent(record, *at, element.bad, raw, nth, True, element.unknown))
            for position, event in enumerate(element.events):
                if position and event.id is not None:
                    # Each event needs an id of its own: otherwise the later ones would be duplicates of the first.
                    event = msgspec.structs.replace(event, id=f"{event.id} {position}")
                events.append(AdapterEvent(record, *at, event, raw, nth, starts_element=not position))
    return events


def require_event(value: Event | BadRecordError | None) -> Event:
    """The event of an AdapterEvent's value. Raises BadRecordError, IgnoredError."""
    if value is None:
        raise IgnoredError
    if isinstance(value, BadRecordError):
        raise value
    if isinstance(value, Inventory):
        raise BadRecordError("wrong_topic", REASONS["wrong_topic"])
    return value
