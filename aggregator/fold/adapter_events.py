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


class Unit(NamedTuple):
    """One event of an element, or what an element is instead; stands where a record of native events does."""

    record: Record
    offset: int
    timestamp: int
    value: Event | BadRecordError | None
    raw: bytes | None
    nth: int
    """Which element of the record, from 0."""
    leads: bool
    """Whether it is the first of its element."""

    @property
    def opens(self) -> bool:
        """Whether it is the first of its record."""
        return self.leads and not self.nth


def units_of(adapter: Adapter, records: Iterable[Record], now_ms: int) -> list[Unit]:
    """Every event of the records, in log order. `now_ms` is the store's clock."""
    found = []
    for record in records:
        message: Any = record
        at = record.offset, record.timestamp
        for element in adapter(record.value, message.headers, RecordTime.of(record.timestamp, now_ms)):
            told, nth = element.raw, element.index
            if not element.events:
                found.append(Unit(record, *at, element.bad, told, nth, leads=True))
            for place, event in enumerate(element.events):
                if place and event.id is not None:
                    # An id of its own for each: they count together, and repeat together.
                    event = msgspec.structs.replace(event, id=f"{event.id} {place}")
                found.append(Unit(record, *at, event, told, nth, leads=not place))
    return found


def event_of(value: Event | BadRecordError | None) -> Event:
    """The event of a unit. Raises BadRecordError, IgnoredError."""
    if value is None:
        raise IgnoredError
    if isinstance(value, BadRecordError):
        raise value
    if isinstance(value, Inventory):
        raise BadRecordError("wrong_topic", REASONS["wrong_topic"])
    return value
