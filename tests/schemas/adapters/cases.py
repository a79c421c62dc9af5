"""How the tables of cases ask an adapter."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from schemas.adapters.elements import Element, Headers
from schemas.adapters.registry import ADAPTERS
from schemas.events import Event, RecordTime

RECORD_MS = 1_767_229_200_000
RECORD = RecordTime(RECORD_MS)
"""When the record was written: an hour after its event."""
RECORDED_AT = datetime(2026, 1, 1, 1, tzinfo=UTC)
AT = datetime(2026, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)
AT_MS = 1_767_225_600_123
AT_TEXT = "2026-01-01T00:00:00.123Z"


def elements(adapter: str, record: object, headers: Headers = (), at: RecordTime = RECORD) -> list[Element]:
    """`record` is bytes as they are, None, or whatever JSON can say."""
    value = record if record is None or isinstance(record, bytes) else json.dumps(record).encode()
    return ADAPTERS[adapter](value, headers, at)


def events(adapter: str, record: object, headers: Headers = (), at: RecordTime = RECORD) -> list[Event]:
    """What a record of one good element becomes."""
    (one,) = elements(adapter, record, headers, at)
    assert one.bad is None, one.bad
    assert one.index == 0
    assert all(event.time.tzinfo is UTC for event in one.events)
    return list(one.events)


def refusal(adapter: str, record: object, headers: Headers = (), at: RecordTime = RECORD) -> tuple[str, str]:
    """Reason and detail of a record of one bad element."""
    (one,) = elements(adapter, record, headers, at)
    assert one.bad is not None, one.events
    assert one.events == ()
    assert one.bad.__traceback__ is None
    return one.bad.reason, one.bad.detail


def lines(*records: Any) -> bytes:
    return b"\n".join(record if isinstance(record, bytes) else json.dumps(record).encode() for record in records)
