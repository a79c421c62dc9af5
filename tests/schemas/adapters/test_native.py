"""Our own events by way of an adapter."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.events import AccountEvent, Event, Login, TokenIssued
from tests.schemas.adapters.cases import AT, AT_TEXT, elements, events, lines, refusal

LOGIN: dict[str, Any] = {"type": "login", "time": AT_TEXT, "user_id": "alice"}
TOKEN: dict[str, Any] = {"type": "token", "time": AT_TEXT, "grant_type": "password", "tokens": ["access_token"]}
ACCOUNT: dict[str, Any] = {"type": "account", "time": AT_TEXT, "kind": "signup", "id": "a-1"}
OURS: list[Event] = [
    Login(time=AT, user_id="alice"),
    TokenIssued(time=AT, grant_type="password", tokens=("access_token",)),
    AccountEvent(time=AT, kind="signup", id="a-1"),
]


@pytest.mark.parametrize(("record", "expected"), list(zip((LOGIN, TOKEN, ACCOUNT), OURS, strict=True)))
def test_an_event_is_read_by_its_type_or_its_topic(record: dict[str, Any], expected: Event) -> None:
    typeless = {name: value for name, value in record.items() if name != "type"}
    assert events(record["type"], typeless) == [expected]
    assert events(record["type"], record) == [expected]
    assert events("native", record) == [expected]


@pytest.mark.parametrize("records", [[LOGIN, TOKEN, ACCOUNT], lines(LOGIN, TOKEN, ACCOUNT)], ids=["array", "lines"])
def test_many_events_come_at_once(records: object) -> None:
    assert [one.events for one in elements("native", records)] == [(event,) for event in OURS]


def test_times_are_converted_to_utc() -> None:
    assert events("native", LOGIN | {"time": "2026-01-01T05:30:00.123+05:30"}) == [OURS[0]]


@pytest.mark.parametrize(
    ("record", "reason", "said"),
    [
        ({"time": AT_TEXT, "user_id": "alice"}, "missing_field", "type"),
        (LOGIN | {"type": "session of alice - at `$.x`"}, "wrong_type", "type"),
        (LOGIN | {"type": 7}, "wrong_type", "type"),
        (LOGIN | {"user_id": ""}, "missing_field", "user_id"),
        (LOGIN | {"time": "9999-12-31T23:59:59-14:00"}, "impossible_time", "24 h"),
        (TOKEN | {"tokens": []}, "wrong_type", "tokens"),
        (b"", "not_json", ""),
        (b" \n \n", "not_json", ""),
        (None, "empty_value", "no value"),
    ],
)
def test_bad_events_say_why_and_never_what(record: object, reason: str, said: str) -> None:
    found, detail = refusal("native", record)
    assert found == reason
    assert said in detail
    assert "alice" not in detail


def test_a_topic_bound_to_one_event_takes_no_other() -> None:
    assert refusal("login", TOKEN)[0] == "wrong_type"
