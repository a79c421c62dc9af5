"""What a record of a topic of the inventory is read as."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from aggregator.fold.range_delta import CountingRules
from aggregator.inventory.fold import MAX_EVENTS, EventReader, decode_records
from schemas.events import BadRecordError, OtpTokenCount, OtpTokenState
from tests.aggregator import ledgers
from tests.aggregator.logs import NOW_MS, LogRecord

RULES = CountingRules.of(ledgers.settings("redis://nowhere"))
RECORD_MS = 1_767_229_200_000
STATE: dict[str, Any] = {"serial": "S", "event": "token_init", "realms": ["r"], "active": True, "assigned": False}
FINE = "2025-12-31T23:59:59.9999999Z"
CUT = datetime(2025, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
BOM = b"\xef\xbb\xbf"


def written(**more: Any) -> bytes:
    return json.dumps(STATE | {"time": FINE} | more).encode()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("otp", written(), "the latest time of a serial wins, so it is exact"),
        ("otp", BOM + written(), "a byte order mark"),
        ("linotp-report", written(timestamp=FINE, realm="r", parameter="total", count=1), "by way of an adapter"),
        ("otp-count", written(realm="r", status="total", count=1), "a row"),
    ],
)
def test_times_are_cut(name: str, value: bytes, why: str) -> None:
    (result,) = decode_records(name, [LogRecord(0, RECORD_MS, value)], RULES, NOW_MS)
    assert isinstance(result.event, (OtpTokenState, OtpTokenCount)), result.event
    assert result.event.time == CUT, why


@pytest.mark.parametrize(
    ("value", "reason", "why"),
    [
        (None, "empty_value", "a tombstone"),
        (b"", "not_json", "nothing"),
        (BOM + BOM + written(), "not_json", "two marks"),
        (written(serial="x" * 257), "too_long", "no one types such a serial"),
        (written(user_id="ü" * 513), "too_long", "over the limit in bytes"),
        (written(time="9999-12-31T23:59:59-14:00"), "impossible_time", "no such time in UTC"),
    ],
)
def test_bad_records_have_their_reason(value: bytes | None, reason: str, why: str) -> None:
    (result,) = decode_records("otp", [LogRecord(0, RECORD_MS, value)], RULES, NOW_MS)
    assert isinstance(result.event, BadRecordError), result.event
    assert result.event.reason == reason, why


async def test_a_record_that_raises_does_so_in_its_own_range() -> None:
    """Read ahead beside the script of the records before it, it must not fail them."""
    good, defective = LogRecord(0, RECORD_MS, written()), LogRecord(1, RECORD_MS, cast(Any, 5))
    reader = EventReader("otp", [good] * MAX_EVENTS + [defective], 2, RULES, NOW_MS)
    assert len(reader.take(0)[0]) == MAX_EVENTS
    await reader.read_ahead()
    with pytest.raises(AttributeError):
        reader.take(1)
