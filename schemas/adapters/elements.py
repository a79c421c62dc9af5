"""The result of an adapter for one record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from schemas.events import BadRecordError, Event, RecordTime

Headers = Sequence[tuple[str, bytes | None]]
"""A record's Kafka headers (a value may be null), or a request's HTTP headers under the same names."""


class Element(Struct, frozen=True):
    """One element of a record; an array and JSON Lines have several, other records have one.

    It has `events` (checked; several with the same `id` if a product reports a login and its tokens as one), or `bad`,
    or neither if it is well-formed but ignored.
    """

    index: int
    """Index in the record, from 0."""
    raw: bytes | None
    """The unchanged bytes of the element, for its dead letter."""
    events: tuple[Event, ...] = ()
    bad: BadRecordError | None = None


class Adapter(Protocol):
    """A pure function that never raises, whatever the record contains: an undecodable record is one bad element."""

    def __call__(self, value: bytes | None, headers: Headers, at: RecordTime) -> list[Element]:
        """`at` is the only "now"; if usable, it is also the time of an event without one."""
        ...
