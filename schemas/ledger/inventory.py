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

import msgspec

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

WRITTEN_STATUSES: Final = (
    *COUNTED_STATUSES,
    *("&".join(reversed(name.split("&"))) for name in STATUSES if "&" in name),
)
"""Statuses as LinOTP's policies may write them: COUNTED_STATUSES, then the pairs in the other order.

LinOTP stores the policy's spelling and compares texts, so external rows of each spelling are kept apart.
"""

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
_COUNTS: Final = struct.Struct("<5I")
_CHUNK_START: Final = struct.Struct("<q")
_DAY: Final = struct.Struct("<2I10I")
_TOTALS: Final = struct.Struct("<5IIqq3I10I")
_OPEN_EVENT: Final = struct.Struct("<8s10I")
_EXTERNAL: Final = struct.Struct(">QHI")
_TOKEN: Final = struct.Struct("<qB")

ROW_BYTES: Final = _ROW.size
COUNTS_BYTES: Final = _COUNTS.size
"""The counts are the end of a row."""
HEADER_BYTES: Final = _CHUNK_START.size
DAY_BYTES: Final = _DAY.size
USER_BYTES: Final = 8

pack_row: Final = _ROW.pack
pack_counts: Final = _COUNTS.pack
pack_chunk_start: Final = _CHUNK_START.pack
pack_day: Final = _DAY.pack
pack_totals: Final = _TOTALS.pack
unpack_totals: Final = _TOTALS.unpack_from
"""Ignores the open event after the totals."""


def pack_open_event(event: bytes, maxima: tuple[int, ...]) -> bytes:
    """The end of a realm's packed totals while its last row belongs to an event that may continue.

    `event` is the digest of the event's id, eight bytes; `maxima` are those of the row's day without the row.
    """
    return _OPEN_EVENT.pack(event, *maxima)


def unpack_open_event(totals: bytes) -> tuple[bytes, tuple[int, ...]]:
    """The digest and the maxima at the end of packed totals; an empty digest if no event is open."""
    if len(totals) == _TOTALS.size:
        return b"", ()
    event, *maxima = _OPEN_EVENT.unpack_from(totals, _TOTALS.size)
    return event, tuple(maxima)


def canonical_status(status: str) -> str | None:
    """The status as in COUNTED_STATUSES, for a pair in either order; None for an unknown one."""
    return COUNTED_STATUSES[canonical_index(WRITTEN_STATUSES.index(status))] if status in WRITTEN_STATUSES else None


def canonical_index(written: int) -> int:
    """The index in COUNTED_STATUSES of a status by its index in WRITTEN_STATUSES."""
    if written < len(COUNTED_STATUSES):
        return written
    return COUNTED_STATUSES.index("&".join(reversed(WRITTEN_STATUSES[written].split("&"))))


def spellings(status: int) -> tuple[int, ...]:
    """The indexes in WRITTEN_STATUSES of a status by its index in COUNTED_STATUSES."""
    return tuple(written for written in range(len(WRITTEN_STATUSES)) if canonical_index(written) == status)


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


class RowTexts(NamedTuple):
    """Columns of LinOTP's table that are not counted."""

    value: str = ""
    detail: str = ""
    session: str = ""
    description: str = ""


NO_TEXTS: Final = RowTexts()


class ExternalRow(NamedTuple):
    """A row that another system counted. `sequence` is its place in the log."""

    sequence: int
    event: int
    tokens: int
    texts: RowTexts = NO_TEXTS


def pack_external(sequence: int, event: int, count: int, texts: RowTexts = NO_TEXTS) -> bytes:
    """Big-endian, so rows of one moment sort in log order. Raises struct.error for a count beyond 32 bits.

    The texts follow as JSON; nearly every row of LinOTP has empty ones, which take no space.
    """
    packed = _EXTERNAL.pack(sequence, event, count)
    return packed if texts == NO_TEXTS else packed + msgspec.json.encode(texts)


def unpack_external(member: bytes) -> ExternalRow:
    row = ExternalRow(*_EXTERNAL.unpack_from(member))
    texts = member[_EXTERNAL.size :]
    return row._replace(texts=msgspec.json.decode(texts, type=RowTexts)) if texts else row


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
    counts_user: bool = False
    """Whether the token counts its user. Format 1 counted users of inactive tokens too, until their next state."""

    def has_state_of(self, other: Token) -> bool:
        """Whether both are the same state, however their users were counted."""
        return self[:-1] == other[:-1]


_USER: Final = 8
_COUNTS_USER: Final = 16
_FORMAT_2: Final = 32


def pack_token(token: Token) -> bytes:
    flags = token.active | token.assigned << 1 | token.deleted << 2 | bool(token.user) * _USER
    flags |= token.counts_user * _COUNTS_USER | _FORMAT_2
    return _TOKEN.pack(token.time_us, flags) + token.user + struct.pack(f"<{len(token.realms)}I", *token.realms)


def unpack_token(packed: bytes) -> Token:
    time_us, flags = _TOKEN.unpack_from(packed)
    start = _TOKEN.size
    user = b""
    if flags & _USER:
        user = packed[start : start + USER_BYTES]
        start += USER_BYTES
    realms = struct.unpack_from(f"<{(len(packed) - start) // 4}I", packed, start)
    counts_user = bool(flags & _COUNTS_USER) if flags & _FORMAT_2 else bool(user)
    return Token(time_us, bool(flags & 1), bool(flags & 2), bool(flags & 4), user, realms, counts_user)
