"""The result of an adapter for one record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

from schemas.events import BadRecordError, Event, RecordTime
from schemas.ledger.fields import MAX_UNKNOWN_TYPES
from schemas.ledger.scopes import OTHER

MAX_TYPE_CHARS: Final = 64

Headers = Sequence[tuple[str, bytes | None]]
"""A record's Kafka headers (a value may be null), or a request's HTTP headers under the same names."""


class UnknownType(Struct, frozen=True, gc=False):
    """A well-formed element whose event type is neither counted nor ignored by name."""

    name: str
    """OTHER for a type that is too long or not printable: it comes from outside and is shown to operators."""

    @classmethod
    def of(cls, text: str) -> UnknownType:
        return cls(text if 0 < len(text) <= MAX_TYPE_CHARS and text.isprintable() else OTHER)


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
    unknown: str | None = None
    """The name of an ignored element's unknown event type; None if it is ignored by name."""


def count_unknown(counts: dict[str, int], name: str) -> None:
    """Add one to the count of an unknown event type, within MAX_UNKNOWN_TYPES."""
    if name not in counts and len(counts) - (OTHER in counts) >= MAX_UNKNOWN_TYPES:
        name = OTHER
    counts[name] = counts.get(name, 0) + 1


class Adapter(Protocol):
    """A pure function that never raises, whatever the record contains: an undecodable record is one bad element."""

    def __call__(self, value: bytes | None, headers: Headers, at: RecordTime) -> list[Element]:
        """`at` is the only "now"; if usable, it is also the time of an event without one."""
        ...
