"""Packed forms of the OTP token inventory: totals, rows, days. Pure; little-endian; fixed-size records.

A realm's rows are numbered from 0 in the order in which they were applied. A row's place in time is the latest time of
any row up to it, so a late event counts from the last row on. Only the row's own time is stored; the place is computed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain
from typing import Final, NamedTuple

NO_REALM: Final = "/:no realm:/"
"""The realm of tokens that are in no realm: LinOTP's own word."""

STATUSES: Final = (
    "total",
    "active",
    "inactive",
    "assigned",
    "unassigned",
    "active&assigned",
    "active&unassigned",
    "inactive&assigned",
    "inactive&unassigned",
)
TOTAL_USERS: Final = "total users"
COUNTED_STATUSES: Final = (*STATUSES, TOTAL_USERS)
"""The counts of a row, in the order of maxima: the nine statuses, and the distinct users."""

INVENTORY_BINDINGS: Final = frozenset({"otp", "otp-count", "linotp-report"})
"""Bindings that make a topic an inventory topic: one partition, read in order."""

ROWS_PER_CHUNK: Final = 272
"""A full chunk with its header just fits an allocation of 8 KB; 256 rows would waste two bytes per row."""

MAX_EVENT_NAMES: Final = 1_000
"""Most distinct event names of a shard; later names become OTHER, number 0."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_ROW: Final = struct.Struct("<qH5I")
_OWN_TIME: Final = struct.Struct("<q22x")
_CHUNK_START: Final = struct.Struct("<q")
_DAY: Final = struct.Struct("<2I10I")
_TOTALS: Final = struct.Struct("<5IIqq3I10I")
_EXTERNAL: Final = struct.Struct(">QHI")
_TOKEN: Final = struct.Struct("<qB")

ROW_BYTES: Final = _ROW.size
HEADER_BYTES: Final = _CHUNK_START.size
DAY_BYTES: Final = _DAY.size
USER_BYTES: Final = 8

pack_row: Final = _ROW.pack
pack_chunk_start: Final = _CHUNK_START.pack
pack_day: Final = _DAY.pack
pack_totals: Final = _TOTALS.pack
unpack_totals: Final = _TOTALS.unpack


def canonical_status(status: str) -> str | None:
    """The status as in COUNTED_STATUSES, for a pair in either order; None for an unknown one."""
    if status in COUNTED_STATUSES:
        return status
    reversed_pair = "&".join(reversed(status.split("&")))
    return reversed_pair if reversed_pair in STATUSES else None


def status_counts(total: int, active: int, assigned: int, both: int, users: int) -> tuple[int, ...]:
    """All of COUNTED_STATUSES from four numbers and the users; `both` is active and assigned."""
    return (
        total,
        active,
        total - active,
        assigned,
        total - assigned,
        both,
        active - both,
        assigned - both,
        total - active - assigned + both,
        users,
    )


def micros(time: datetime) -> int:
    """Microseconds since 1970."""
    return (time - EPOCH) // _MICROSECOND


def from_micros(at_us: int) -> datetime:
    """The time in UTC of `micros`."""
    return EPOCH + timedelta(microseconds=at_us)


class Row(NamedTuple):
    """The counts of a realm after one event."""

    at_us: int
    """The place in time: no earlier row is later."""
    time_us: int
    """The event's own time; earlier than `at_us` if the event was late."""
    event: int
    """Number of the event's name."""
    total: int
    active: int
    assigned: int
    both: int
    users: int

    @property
    def values(self) -> tuple[int, ...]:
        """In the order of COUNTED_STATUSES."""
        return status_counts(*self[3:])


def rows(chunk: bytes) -> list[Row]:
    """The rows of a chunk; an empty chunk has none."""
    if not chunk:
        return []
    (start,) = _CHUNK_START.unpack_from(chunk)
    held = list(_ROW.iter_unpack(memoryview(chunk)[HEADER_BYTES:]))
    times = accumulate((row[0] for row in held), max, initial=start)
    next(times)
    return [Row(at, *row) for at, row in zip(times, held, strict=True)]


def row_times(chunk: bytes) -> list[int]:
    """The places in time of a chunk's rows (µs), without their counts."""
    if not chunk:
        return []
    (start,) = _CHUNK_START.unpack_from(chunk)
    times = chain.from_iterable(_OWN_TIME.iter_unpack(memoryview(chunk)[HEADER_BYTES:]))
    return list(accumulate(times, max, initial=start))[1:]


def row_of(chunk: bytes, index: int, at_us: int) -> Row:
    """One row of a chunk; `at_us` comes from `row_times`."""
    return Row(at_us, *_ROW.unpack_from(chunk, HEADER_BYTES + index * ROW_BYTES))


class Day(NamedTuple):
    """A day of a realm with rows."""

    ordinal: int
    """`date.toordinal` of the local day."""
    first: int
    """Number of its first row; its last is before the next day's first, or before the totals' `rows`."""
    maxima: tuple[int, ...]
    """In the order of COUNTED_STATUSES."""


def days(packed: bytes) -> Iterator[Day]:
    """The days of a year, in order."""
    for ordinal, first, *maxima in _DAY.iter_unpack(packed):
        yield Day(ordinal, first, tuple(maxima))


class RealmTotals(NamedTuple):
    """The present totals of a realm."""

    total: int
    active: int
    assigned: int
    both: int
    users: int
    rows: int
    """Number of rows ever applied, and so the number of the next row."""
    first_us: int
    """Place in time of the first row."""
    last_us: int
    """Place in time of the last row."""
    day: int
    """Ordinal of the last row's day."""
    slot: int
    """Index of that day in its year's days, from 0."""
    day_first: int
    """Number of that day's first row."""
    maxima: tuple[int, ...]
    """That day's maxima, in the order of COUNTED_STATUSES."""

    @classmethod
    def unpack(cls, packed: bytes) -> RealmTotals:
        fields = unpack_totals(packed)
        return cls._make((*fields[:11], fields[11:]))

    @property
    def values(self) -> tuple[int, ...]:
        """The present counts, in the order of COUNTED_STATUSES."""
        return status_counts(*self[:5])


class ExternalRow(NamedTuple):
    """A row that another system counted."""

    sequence: int
    event: int
    tokens: int


def pack_external(sequence: int, event: int, count: int) -> bytes:
    """Big-endian, so rows of one moment sort in log order. Raises struct.error for a count beyond 32 bits."""
    return _EXTERNAL.pack(sequence, event, count)


def unpack_external(member: bytes) -> ExternalRow:
    return ExternalRow(*_EXTERNAL.unpack(member))


class Token(NamedTuple):
    """The last state of a serial."""

    time_us: int
    active: bool
    assigned: bool
    deleted: bool
    """A deleted token is kept, so that older states of it are recognised as late."""
    user: bytes
    """Digest of the assigned user; empty if none is known."""
    realms: tuple[int, ...]
    """Realm numbers, ascending; empty after a delete."""


def pack_token(token: Token) -> bytes:
    flags = token.active | token.assigned << 1 | token.deleted << 2 | bool(token.user) << 3
    return _TOKEN.pack(token.time_us, flags) + token.user + struct.pack(f"<{len(token.realms)}I", *token.realms)


def unpack_token(packed: bytes) -> Token:
    time_us, flags = _TOKEN.unpack_from(packed)
    start = _TOKEN.size
    user = b""
    if flags & 8:
        user = packed[start : start + USER_BYTES]
        start += USER_BYTES
    realms = struct.unpack_from(f"<{(len(packed) - start) // 4}I", packed, start)
    return Token(time_us, bool(flags & 1), bool(flags & 2), bool(flags & 4), user, realms)
