"""The short way gives what the long one gives, or leaves it to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from api.ingest.deliveries import Converter, Delivery
from api.ingest.event_ids import id_prefix
from api.ingest.fast_path import Batch, decode_batch
from api.ingest.records import Records
from schemas.adapters.elements import Element, Headers
from schemas.adapters.native import native
from schemas.events import AccountEvent, Event, Login, RecordTime, TokenIssued

NOW_MS = 1_795_168_800_000
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
TOPICS: dict[type[Event], str] = {Login: "logins", TokenIssued: "tokens", AccountEvent: "accounts"}
MAX_AGE_DAYS = 35
LOGIN = {"type": "login", "time": "2026-11-20T10:00:00Z", "user_id": "alice"}


def element_by_element(value: bytes | None, headers: Headers, at: RecordTime) -> list[Element]:
    """The same adapter under another name, by which the converter does not know it."""
    return native(value, headers, at)


def long_way(body: bytes) -> Delivery:
    return Converter("native", TOPICS, 10_000, MAX_AGE_DAYS).convert(element_by_element, body, (), NOW_MS, None)


def short_way(body: bytes) -> Batch | None:
    return decode_batch(body, NOW_MS, NOW - timedelta(days=MAX_AGE_DAYS), id_prefix("native"), TOPICS)


def taken(records: Records) -> list[tuple[int, str, Any, bytes]]:
    """Element, topic, key and value of each record."""
    return sorted(
        (index, topic, message["key"], message["value"])
        for topic, messages in records.messages.items()
        for index, message in zip(records.element_of[topic], messages, strict=True)
    )


texts = some.one_of(
    some.sampled_from(
        ["", "a", "acme", 'x"', '"', "\\", "\n", "é", "東" * 86, "a" * 257, "東" * 342, "a" * 1010, "a" * 1011]
    ),
    some.text(max_size=5),
)
times = some.sampled_from(
    [
        *("2026-11-20T10:00:00Z", "2026-11-20T12:00:00.123456+02:00", "2026-11-20T10:00:00", "yesterday"),
        *("2026-10-31T23:59:59.9999999Z", "2026-11-20T10:00:00.1234567+01:00", "1999-12-31T23:59:59.9999999Z"),
        *("1999-12-31T23:59:59Z", "2000-01-01T00:00:00Z", "2000-01-01T00:00:00+01:00"),
        *((NOW - timedelta(days=MAX_AGE_DAYS, seconds=seconds)).isoformat() for seconds in (-1, 0, 1)),
        *((NOW + timedelta(hours=24, seconds=seconds)).isoformat() for seconds in (-1, 0, 1)),
    ]
)
fields = {
    "time": times,
    "user_id": texts,
    "success": some.booleans(),
    "realm": texts,
    "id": texts,
    "kind": texts,
    "grant_type": texts,
    "tokens": some.lists(texts, max_size=3),
    "extra": some.integers(),
}
events = some.builds(
    lambda kind, given: {"type": kind} | given,
    some.sampled_from(["login", "token", "account", "otp", "other"]),
    some.fixed_dictionaries({}, optional=fields).map(lambda given: {"time": LOGIN["time"]} | given),
)


@given(some.lists(events, max_size=4), some.sampled_from(["array", "lines", "pretty"]))
def test_it_gives_the_same_records_or_none(sent: list[dict[str, Any]], layout: str) -> None:
    if layout == "lines":
        body = b"\n".join(json.dumps(event).encode() for event in sent)
    else:
        body = json.dumps(sent, indent=2 if layout == "pretty" else None, ensure_ascii=False).encode()
    batch = short_way(body)
    if batch is not None:
        expected = long_way(body)
        assert (expected.ignored, expected.rejections) == (0, [])
        assert len(batch.records) == expected.accepted
        assert taken(batch.records) == taken(expected.records)


@given(some.binary(max_size=40) | some.text(max_size=40).map(str.encode))
def test_it_leaves_what_is_no_event_alone(body: bytes) -> None:
    assert short_way(body) is None


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ([LOGIN] * 3, "logins"),
        ([LOGIN | {"id": "1"}, LOGIN], "with an id and without"),
        (
            [LOGIN, {"type": "account", "time": LOGIN["time"], "kind": "signup"}, LOGIN | {"success": False}],
            "of several types",
        ),
        ([{"type": "token", "time": LOGIN["time"], "grant_type": "password", "tokens": ["id_token"]}], "tokens"),
    ],
)
def test_the_usual_goes_the_short_way(sent: list[dict[str, Any]], why: str) -> None:
    for body in (json.dumps(sent).encode(), b"\n".join(json.dumps(event).encode() for event in sent) + b"\n"):
        batch = short_way(body)
        assert batch is not None, why
        assert batch.exact, why
        assert taken(batch.records) == taken(long_way(body).records)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (LOGIN | {"user_id": ""}, "a success without a user"),
        (LOGIN | {"realm": "東" * 86}, "258 bytes in 86 characters"),
        (LOGIN | {"time": "1999-12-31T23:59:59Z"}, "too early"),
        (LOGIN | {"time": "2026-11-21T10:00:01Z"}, "too late"),
        (LOGIN | {"time": "2026-10-16T09:59:59Z"}, "too old"),
        (LOGIN | {"id": "a" * 1011}, "an id that is too long with its prefix"),
        (LOGIN | {"time": "2026-11-20T12:00:00+02:00"}, "to be converted to UTC"),
        (LOGIN | {"type": "account", "kind": ""}, "an empty kind"),
        (LOGIN | {"time": "2026-10-31T23:59:59.9999999Z"}, "a fraction to be cut"),
        (LOGIN | {"success": False, "reason": "x" * 257}, "a long field of a failure"),
    ],
)
def test_whatever_needs_a_closer_look_is_left_to_it(event: dict[str, Any], why: str) -> None:
    assert short_way(json.dumps([LOGIN, event]).encode()) is None, why


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("body", "accepted", "why"),
    [
        (BOM + json.dumps(LOGIN).encode(), 1, "one event"),
        (BOM + json.dumps([LOGIN, LOGIN]).encode(), 2, "an array"),
        (BOM + b"\n".join([json.dumps(LOGIN).encode()] * 2), 2, "lines"),
    ],
)
def test_a_byte_order_mark_before_a_body_is_skipped(body: bytes, accepted: int, why: str) -> None:
    delivery = Converter("native", TOPICS, 10_000, MAX_AGE_DAYS).convert(native, body, (), NOW_MS, None)
    assert (delivery.accepted, delivery.rejections) == (accepted, []), why


def test_unknown_fields_stay_on_the_short_way_and_are_seen() -> None:
    sent = [LOGIN, LOGIN | {"sucess": False}, {"type": "account", "time": LOGIN["time"], "kind": "signup", "x": 1}]
    for body in (json.dumps(sent).encode(), b"\n".join(json.dumps(event).encode() for event in sent)):
        batch = short_way(body)
        assert batch is not None
        assert not batch.exact
        assert taken(batch.records) == taken(long_way(body).records)
