"""Times from outside: a value or a bad record, and the same instant however it is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.adapters.registry import ADAPTERS
from schemas.adapters.timestamps import checked_from_ms, checked_utc, from_text
from schemas.events import BadRecordError, RecordTime
from tests.schemas.adapters.cases import AT, AT_MS, RECORD, RECORD_MS, RECORDED_AT, elements, events, refusal

CLOUD: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/", "type": "io.identity.login.v1", "subject": "u"}
OTP: dict[str, Any] = {"serial": "S", "event": "token_init", "realms": ["r"], "active": True, "assigned": False}
ROW: dict[str, Any] = {"event": "token_init", "realm": "r", "parameter": "total", "count": 1}


def audited(time: object) -> dict[str, Any]:
    return {"action": "USER_AUTHORIZATION", "success": True, "username": "u", "timestamp": time}


def account(time: object) -> dict[str, Any]:
    return {"type": "account", "kind": "signup", "time": time}


def cloud(time: object) -> dict[str, Any]:
    return CLOUD | {"time": time}


Record = Callable[[object], dict[str, Any]]
TEXT_TIMES: dict[str, Record] = {
    "login": lambda time: {"user_id": "u", "time": time},
    "token": lambda time: {"grant_type": "password", "tokens": ["access_token"], "time": time},
    "account": account,
    "native": account,
    "otp": lambda time: OTP | {"time": time},
    "otp-count": lambda time: {"realm": "r", "event": "e", "status": "total", "count": 1, "time": time},
    "auth0-logs": lambda time: {"log_id": "1", "data": {"type": "s", "user_id": "u", "date": time}},
    "janssen-audit": audited,
    "janssen-audit-sessions": audited,
    "linotp-report": lambda time: ROW | {"timestamp": time},
    "cloudevents": cloud,
}
NUMBERS: dict[str, Record] = {
    "keycloak": lambda time: {"type": "LOGIN", "userId": "u", "time": time},
    "fusionauth": lambda time: {"type": "user.login.success", "user": {"id": "u"}, "createInstant": time},
    "janssen-audit": audited,
    "janssen-audit-sessions": audited,
    "linotp-report": lambda time: ROW | {"timestamp": time},
}


def test_every_adapter_reads_text_or_numbers() -> None:
    assert TEXT_TIMES.keys() | NUMBERS.keys() == ADAPTERS.keys()


@pytest.mark.parametrize("adapter", TEXT_TIMES)
@pytest.mark.parametrize(
    ("text", "expected", "why"),
    [
        ("2025-12-31T23:59:59.9999999Z", (2025, 12, 31, 23, 59, 59, 999_999), "rounding up would reach the next year"),
        ("2025-12-31T23:59:59.9999995Z", (2025, 12, 31, 23, 59, 59, 999_999), "just half a microsecond"),
        ("2025-12-31T23:59:59.99999949Z", (2025, 12, 31, 23, 59, 59, 999_999), "nothing to round up"),
        ("2026-01-01T00:00:00.0000009Z", (2026, 1, 1, 0, 0, 0, 0), "no microsecond at all"),
        ("2025-12-31T23:59:59." + "9" * 40 + "Z", (2025, 12, 31, 23, 59, 59, 999_999), "more digits than anybody has"),
        ("2026-01-01T00:59:59.9999999+01:00", (2025, 12, 31, 23, 59, 59, 999_999), "an offset behind the digits"),
        ("2026-01-01T00:00:00.123456Z", (2026, 1, 1, 0, 0, 0, 123_456), "six digits"),
    ],
)
def test_digits_after_the_sixth_are_cut_off(adapter: str, text: str, expected: tuple[int, ...], why: str) -> None:
    year, month, day, hour, minute, second, microsecond = expected
    at = datetime(year, month, day, hour, minute, second, microsecond, tzinfo=UTC)
    assert events(adapter, TEXT_TIMES[adapter](text))[0].time == at, why


FINE = "2025-12-31T23:59:59.9999999Z"
CUT = datetime(2025, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
NEXT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("record", "expected", "why"),
    [
        (
            f'{{"user_id":"u","time":"{AT}","time":"{FINE}"}}'.replace(str(AT), AT.isoformat()),
            CUT,
            "the last one holds",
        ),
        (f'{{"user_id":"u","time":"{FINE}","time":"2026-01-01T00:00:00Z"}}', NEXT, "though an earlier one is finer"),
        (f'{{"user_id":"u","x":{{"time":"{FINE}"}},"time":"2026-01-01T00:00:00Z"}}', NEXT, "a nested one is another"),
        (f'{{"user_id":"u","time":"{FINE}","x":{{"time":"2026-01-01T00:00:00Z"}}}}', CUT, "on either side"),
        (f'{{"user_id":"{FINE}","time":"2026-01-01T00:00:00Z"}}', NEXT, "a user that looks like a time"),
        ('{"user_id":"u","time":"2025-12-31T23:59:59.99999\\u00399\\u0039Z"}', CUT, "escaped digits"),
        (f'{{"user_id":"u","t\\u0069me":"{FINE}"}}', CUT, "an escaped name"),
    ],
)
def test_the_time_that_is_cut_is_the_one_that_was_decoded(record: str, expected: datetime, why: str) -> None:
    assert events("login", record.encode())[0].time == expected, why


def test_a_header_is_cut_like_a_field() -> None:
    headers = [(f"ce_{name}", value.encode()) for name, value in (CLOUD | {"time": FINE}).items()]
    assert events("cloudevents", {}, headers)[0].time == CUT


@pytest.mark.parametrize("adapter", NUMBERS)
@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("1767225600123", "an integer"),
        ("1767225600123.0", "a float"),
        ("1.767225600123E12", "an exponent"),
        ("1767225600123.000e0", "both"),
    ],
)
def test_whole_numbers_are_read_however_they_are_written(adapter: str, written: str, why: str) -> None:
    record = json.dumps(NUMBERS[adapter](0)).replace(": 0}", f": {written}}}")
    assert written in record
    assert events(adapter, record.encode())[0].time == AT, why


@pytest.mark.parametrize("adapter", NUMBERS)
@pytest.mark.parametrize(
    ("written", "reasons", "why"),
    [
        ("1767225600123.5", ("wrong_type",), "half a millisecond"),
        ("NaN", ("not_json",), "no JSON"),
        ("Infinity", ("not_json",), "no JSON"),
        ("1e400", ("wrong_type",), "beyond a float"),
        ("1e300", ("impossible_time",), "beyond any time"),
        ("9" * 400, ("impossible_time", "wrong_type"), "beyond 64 bits"),
        ("9" * 5000, ("impossible_time", "wrong_type"), "beyond what becomes an integer"),
        ("-1767225600123", ("impossible_time",), "negative"),
        ("-1e300", ("impossible_time",), "very negative"),
        ("-0.0", ("impossible_time",), "1970"),
        ("1e-400", ("impossible_time",), "a float that is nothing"),
        ("true", ("wrong_type",), "no number"),
        ("[1]", ("wrong_type",), "no number"),
    ],
)
def test_other_numbers_are_bad_records(adapter: str, written: str, reasons: tuple[str, ...], why: str) -> None:
    record = json.dumps(NUMBERS[adapter](0)).replace(": 0}", f": {written}}}")
    assert written in record
    assert refusal(adapter, record.encode())[0] in reasons, why


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ROW | {"id": 7, "timestamp": AT_MS * 1000.0}, (1, "linotp:7:2026-01-01T00:00:00.123000+00:00")),
        (ROW | {"id": 7.0, "timestamp": AT_MS, "count": 4.0}, (4, "linotp:7:2026-01-01T00:00:00.123000+00:00")),
    ],
)
def test_a_row_has_one_id_however_its_numbers_are_written(row: dict[str, Any], expected: tuple[int, str]) -> None:
    (event,) = events("linotp-report", row)
    assert (getattr(event, "count", None), event.id) == expected


TIMELESS = {
    "keycloak": {"type": "LOGIN", "userId": "u"},
    "fusionauth": {"type": "user.login.success", "user": {"id": "u"}},
    "auth0-logs": {"type": "s", "user_id": "u"},
    "janssen-audit": audited(None),
    "cloudevents": CLOUD,
}


@pytest.mark.parametrize("adapter", TIMELESS)
def test_an_event_without_a_time_has_its_records_if_that_is_usable(adapter: str) -> None:
    assert events(adapter, TIMELESS[adapter])[0].time == RECORDED_AT
    assert refusal(adapter, TIMELESS[adapter], at=RecordTime(RECORD_MS, usable=False))[0] == "no_time"


@pytest.mark.parametrize("adapter", TEXT_TIMES)
def test_an_untimed_record_is_counted_by_its_events_time(adapter: str) -> None:
    record = TEXT_TIMES[adapter]("2026-01-01T00:00:00.123Z")
    assert events(adapter, record, at=RecordTime(RECORD_MS, usable=False))[0].time == AT


OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(timezones=OFFSETS | st.just(UTC))
MOMENTS = st.builds(RecordTime, st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300_000_000_000_000), st.booleans())


def outcome(read: Callable[[], datetime]) -> datetime | str:
    """The time, or why the record is bad."""
    try:
        return read()
    except BadRecordError as bad:
        return bad.reason


@example(time=datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-14))), at=RecordTime(2**62))
@given(time=TIMES, at=MOMENTS)
def test_no_time_makes_the_arithmetic_raise(time: datetime, at: RecordTime) -> None:
    for found in (outcome(lambda: checked_utc(time, at)), outcome(lambda: from_text(time.isoformat(), at))):
        assert found == "impossible_time" or (found == time and getattr(found, "tzinfo", None) is UTC)


@example(ms=253_402_300_800_000, at=RecordTime(2**62))
@given(ms=st.none() | st.integers() | st.floats(), at=MOMENTS)
def test_no_number_does(ms: int | float | None, at: RecordTime) -> None:
    found = outcome(lambda: checked_from_ms(ms, at))
    if isinstance(found, str):
        assert found in ("impossible_time", "wrong_type", "no_time")
    else:
        assert found == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at.ms if ms is None else int(ms))


@pytest.mark.parametrize(
    ("text", "at", "why"),
    [
        ("9999-12-31T23:59:59-14:00", RecordTime(2**62), "no such time in UTC"),
        ("0001-01-01T00:00:00+14:00", RecordTime(-(2**63)), "nor before the year 1"),
        ("2026-01-01T00:00:00Z", RecordTime(-1), "a record of 1969"),
        ("2026-01-01T00:00:00Z", RecordTime(AT_MS // 1000), "a record in seconds"),
    ],
)
@pytest.mark.parametrize("adapter", TEXT_TIMES)
def test_times_that_cannot_be_are_bad_records(adapter: str, text: str, at: RecordTime, why: str) -> None:
    assert refusal(adapter, TEXT_TIMES[adapter](text), at=at)[0] == "impossible_time", why


def test_records_of_any_timestamp_are_read() -> None:
    for ms in (-(2**63), -1, 0, AT_MS * 1000, 253_402_300_800_000, 2**62, 2**63 - 1):
        assert len(elements("keycloak", TIMELESS["keycloak"], at=RecordTime(ms))) == 1
        at = RecordTime.of(ms, RECORD_MS)
        assert at == RecordTime(RECORD_MS, usable=False)
        assert refusal("keycloak", TIMELESS["keycloak"], at=at)[0] == "no_time"
    assert RecordTime.of(RECORD_MS, RECORD_MS) == RECORD
