"""Rows of LinOTP's own table `REPORTING`: the number of tokens of a status in a realm after an event.

Columns by LinOTP's names (linotp/model/schema/reporting_schema.py): `R_ID, R_TIMESTAMP, R_EVENT, R_REALM, R_PARAMETER,
R_VALUE, R_COUNT, R_DETAIL, R_SESSION, R_DESCRIPTION`, in either case, with or without `R_`; others are ignored. A row
may be in the envelope of a Kafka Connect source (`payload`) or of Debezium (`after`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas.adapters.framing import adapter
from schemas.adapters.timestamps import Number, checked_utc, whole
from schemas.events import MAX_COUNT, BadRecordError, Event, OtpTokenCount, RecordTime, check
from schemas.ledger.inventory import EPOCH, NO_REALM


class Row(Struct, frozen=True, gc=False):
    timestamp: str | Number | None = None
    event: str | None = None
    realm: str | None = None
    parameter: str | None = None
    value: str | None = None
    count: Number | str | None = None
    detail: str | None = None
    session: str | None = None
    description: str | None = None
    id: Number | str | None = None


_DECODE: Final = msgspec.json.Decoder(dict[str, Any]).decode
_PREFIX: Final = "r_"
_DELETED: Final = "d"
# Debezium writes a time as milliseconds, or as microseconds if the column has fractions of a second.
_LEAST_MICROS: Final = 100_000_000_000_000
_MOST_MICROS: Final = 200_000_000_000_000_000


def _read(raw: bytes, at: RecordTime) -> tuple[Event, ...]:
    message = _DECODE(raw)
    payload = _inner(message, "payload")
    if payload.get("op") == _DELETED:
        # A delete in LinOTP does not delete here; use the delete route of /reporting.
        return ()
    row = _row(_inner(payload, "after"))
    for name in ("timestamp", "event", "parameter", "count"):
        if getattr(row, name) in (None, ""):
            raise BadRecordError("missing_field", f"the row's `{name}` is missing or empty")
    time = checked_utc(_time(row.timestamp), at)
    count = _count(row.count)
    if not 0 <= count <= MAX_COUNT:
        raise BadRecordError("wrong_type", f"`count` is not from 0 to {MAX_COUNT}")
    row_id = whole(row.id, "id") if isinstance(row.id, float) else row.id
    event = OtpTokenCount(
        time=time,
        realm=row.realm or NO_REALM,
        event=row.event or "",
        status=row.parameter or "",
        count=count,
        value=row.value or "",
        detail=row.detail or "",
        session=row.session or "",
        description=row.description or "",
        # Ids may restart after a delete of all rows, so the event id includes the time.
        id=None if row_id is None else f"linotp:{row_id}:{time.isoformat()}",
    )
    return (check(event),)


def _inner(message: dict[str, Any], name: str) -> dict[str, Any]:
    """The object in an envelope's field; the message itself without that field."""
    inner = message.get(name)
    if inner is None:
        return message
    if not isinstance(inner, dict):
        raise BadRecordError("wrong_type", f"`{name}` is not an object")
    return inner


def _row(columns: dict[str, Any]) -> Row:
    """The columns by the names in LinOTP's code. Databases and connectors change the case of names."""
    return msgspec.convert({name.lower().removeprefix(_PREFIX): value for name, value in columns.items()}, Row)


def _time(payload: str | Number | None) -> datetime:
    """LinOTP writes no offset: the query that reads the table must convert to UTC."""
    if isinstance(payload, (int, float)):
        payload = whole(payload, "timestamp")
        micros = payload if abs(payload) >= _LEAST_MICROS else payload * 1000
        return EPOCH + timedelta(microseconds=max(0, min(micros, _MOST_MICROS)))
    try:
        time = datetime.fromisoformat(payload or "")
    except ValueError:
        raise BadRecordError(
            "wrong_type", "`timestamp` is not a date and time; example: 2026-11-20 12:00:00, in UTC"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _count(payload: Number | str | None) -> int:
    """Some database exports write every column as text."""
    if isinstance(payload, float):
        return whole(payload, "count")
    try:
        return msgspec.convert(payload, int, strict=False)
    except msgspec.ValidationError:
        raise BadRecordError("wrong_type", "`count` is not a whole number") from None


linotp_report: Final = adapter(_read)
