"""When a foreign record says that something happened, as our events want it: possible, and in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from schemas.events import EARLIEST, MAX_AHEAD, BadRecordError, check_time

_EARLIEST_MS: Final = int(EARLIEST.timestamp() * 1000)
_MAX_AHEAD_MS: Final = int(MAX_AHEAD.total_seconds() * 1000)
_LATEST_MS: Final = int(datetime.max.replace(tzinfo=UTC).timestamp() * 1000) - 1
"""What `datetime` can hold: a producer may give its record any 64-bit timestamp."""


def from_ms(ms: int | None, record_ms: int) -> datetime:
    """`ms` since the epoch; None is the record's own time. Raises BadRecordError for a time that cannot be."""
    if ms is None:
        ms = record_ms
    if ms < _EARLIEST_MS:
        raise BadRecordError("impossible_time", "time is before 2000")
    if ms > record_ms + _MAX_AHEAD_MS:
        raise BadRecordError("impossible_time", "time is more than 24 h ahead of the record's timestamp")
    if ms > _LATEST_MS:
        raise BadRecordError("impossible_time", "time is after the year 9999")
    return datetime.fromtimestamp(ms / 1000, UTC)


def in_utc(time: datetime | None, record_ms: int) -> datetime:
    """`time` of any offset; None is the record's own time. Raises BadRecordError for a time that cannot be."""
    if time is None:
        return from_ms(None, record_ms)
    check_time(time, record_ms)
    if time.tzinfo is UTC:
        return time
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise BadRecordError("impossible_time", "time is after the year 9999") from None
