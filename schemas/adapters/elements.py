"""What an adapter makes of a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from schemas.events import BadRecordError, Event, RecordTime

Headers = Sequence[tuple[str, bytes | None]]
"""A record's Kafka headers (a value may be null), or a request's HTTP headers under the same names."""


class Element(Struct, frozen=True):
    """One thing that a record tells; an array and JSON Lines have several, anything else one.

    Exactly one of three: `events` (checked; more than one where a product reports a login and its tokens as one, all
    with the same `id`), `bad`, or neither, for what is well-formed and of no concern here.
    """

    index: int
    """Place in the record, from 0."""
    raw: bytes | None
    """The element as it was sent, for its dead letter."""
    events: tuple[Event, ...] = ()
    bad: BadRecordError | None = None


class Adapter(Protocol):
    """A pure function. Never raises for what records hold: an undecodable record is one bad element."""

    def __call__(self, value: bytes | None, headers: Headers, at: RecordTime) -> list[Element]:
        """`at` is the only "now", and where it is usable the time of an event that names none."""
        ...
