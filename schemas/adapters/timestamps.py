"""Timestamps of foreign records: checked and converted to UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from schemas.events import EARLIEST, MAX_AHEAD, REASONS, TOO_EARLY, TOO_LATE, BadRecordError, RecordTime, check_time
from schemas.ledger.inventory import EPOCH
from schemas.time.rfc3339 import parse

Number = int | float
"""A JSON number: some products and database exports write whole numbers as `1.7949E12`."""

_EARLIEST_MS: Final = int(EARLIEST.timestamp() * 1000)
_MAX_AHEAD_MS: Final = int(MAX_AHEAD.total_seconds() * 1000)
_LATEST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, the last that `datetime` can hold."""


def whole(number: Number, name: str) -> int:
    """The number as an integer. Raises BadRecordError for a fraction; `name` is the field's name."""
    if isinstance(number, int):
        return number
    if not number.is_integer():
        raise BadRecordError("wrong_type", f"`{name}` is not a whole number")
    return int(number)


def checked_from_ms(ms: Number | None, at: RecordTime, name: str = "time") -> datetime:
    """`ms` since the epoch, from the field `name`; None means the record's time. Raises BadRecordError."""
    if ms is None:
        if not at.usable:
            raise BadRecordError("no_time", REASONS["no_time"])
        found = at.ms
    else:
        found = whole(ms, name)
    if found < _EARLIEST_MS:
        raise BadRecordError("impossible_time", TOO_EARLY)
    if found > at.ms + _MAX_AHEAD_MS:
        raise BadRecordError("impossible_time", TOO_LATE)
    if found > _LATEST_MS:
        raise BadRecordError("impossible_time", "time is after the year 9999")
    return EPOCH + timedelta(milliseconds=found)


def from_text(text: str | None, at: RecordTime, name: str = "time") -> datetime:
    """RFC 3339 from the field `name`; None or empty means the record's time. Raises BadRecordError."""
    if not text:
        return checked_from_ms(None, at)
    try:
        time = parse(text)
    except msgspec.ValidationError:
        detail = f"`{name}` is not a time of RFC 3339 with offset; example: 2026-11-20T12:00:00Z"
        raise BadRecordError("wrong_type", detail) from None
    return checked_utc(time, at)


def checked_utc(time: datetime, at: RecordTime) -> datetime:
    """`time` of any offset, in UTC. Raises BadRecordError for an impossible time."""
    check_time(time, at)
    if time.tzinfo is UTC:
        return time
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise BadRecordError("impossible_time", "time is after the year 9999") from None
