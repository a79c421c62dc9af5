"""Rows of LinOTP's own `reporting` table: how many tokens of a status a realm had after an event.

Columns by LinOTP's names (linotp/model/reporting.py): `id, timestamp, event, realm, parameter, count`; the others hold
nothing that counts. A row may lie in the envelope of a Kafka Connect source (`payload`) or of Debezium (`after`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

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
    count: Number | str | None = None
    id: Number | str | None = None


class Payload(Row, frozen=True, gc=False):
    after: Row | None = None
    op: str | None = None


class Message(Payload, frozen=True, gc=False):
    payload: Payload | None = None


_DECODE: Final = msgspec.json.Decoder(Message).decode
_DELETED: Final = "d"
# Debezium tells a time as a number: of milliseconds, or of microseconds where the column has fractions of a second.
_LEAST_MICROS: Final = 100_000_000_000_000
_MOST_MICROS: Final = 200_000_000_000_000_000


def _read(raw: bytes, at: RecordTime) -> tuple[Event, ...]:
    message = _DECODE(raw)
    payload = message.payload or message
    if payload.op == _DELETED:
        # LinOTP was told to delete its rows; whoever wants that here says it here.
        return ()
    row = payload.after or payload
    for name in ("timestamp", "event", "parameter", "count"):
        if getattr(row, name) in (None, ""):
            raise BadRecordError("missing_field", f"the row's {name} is missing or empty")
    time = checked_utc(_time(row.timestamp), at)
    count = _count(row.count)
    if not 0 <= count <= MAX_COUNT:
        raise BadRecordError("wrong_type", f"count is not from 0 to {MAX_COUNT}")
    row_id = whole(row.id, "id") if isinstance(row.id, float) else row.id
    event = OtpTokenCount(
        time=time,
        realm=row.realm or NO_REALM,
        event=row.event or "",
        status=row.parameter or "",
        count=count,
        # Deleting all rows may start the numbers anew, so they are told apart by their time too.
        id=None if row_id is None else f"linotp:{row_id}:{time.isoformat()}",
    )
    return (check(event),)


def _time(payload: str | Number | None) -> datetime:
    """LinOTP writes no offset: the query that reads the table has to make it UTC."""
    if isinstance(payload, (int, float)):
        payload = whole(payload, "timestamp")
        micros = payload if abs(payload) >= _LEAST_MICROS else payload * 1000
        return EPOCH + timedelta(microseconds=max(0, min(micros, _MOST_MICROS)))
    try:
        time = datetime.fromisoformat(payload or "")
    except ValueError:
        raise BadRecordError("wrong_type", "timestamp is no date and time") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _count(payload: Number | str | None) -> int:
    """Some ways out of a database make every column text."""
    if isinstance(payload, float):
        return whole(payload, "count")
    try:
        return msgspec.convert(payload, int, strict=False)
    except msgspec.ValidationError:
        raise BadRecordError("wrong_type", "count is no whole number") from None


linotp_report: Final = adapter(_read)
