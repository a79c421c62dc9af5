"""Whatever a record holds: elements come back, and what counts keeps to the limits of `schemas.events`."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import events
from schemas.adapters import auth0_logs, cloudevents, janssen_audit, keycloak
from schemas.adapters.elements import Headers
from schemas.adapters.registry import ADAPTERS
from schemas.events import BOM, BadRecordError, RecordTime

# Fields that the adapters read, so that random records are similar to good ones.
WORDS = sorted(
    keycloak.COUNTED.keys()
    | auth0_logs.CODES.keys()
    | janssen_audit.BY_SESSION.keys()
    | cloudevents.TYPES
    | events.EVENTS.keys()
    | {"user.login.success", "user.login.failed", "jwt.refresh", "user.registration.create", "1.0", "success"}
    | {"password", "openid", "service-account-x", "2026-01-01T00:00:00Z", "PASSWORD"}
)
NAMES = [
    "type",
    "action",
    "id",
    "log_id",
    "_id",
    "time",
    "date",
    "timestamp",
    "createInstant",
    "userId",
    "user_id",
    "username",
    "user",
    "realmName",
    "tenant_name",
    "realm",
    "tenantId",
    "clientId",
    "client_id",
    "applicationId",
    "error",
    "reason",
    "details",
    "grant_type",
    "scope",
    "tokens",
    "kind",
    "data",
    "event",
    "success",
    "isSuccess",
    "specversion",
    "source",
    "subject",
    "outcome",
    "grant",
    "refresh_token",
    "macAddress",
]

# One good record each; random fields are written over theirs.
GOOD: dict[str, dict[str, Any]] = {
    "login": {"time": "2026-01-01T00:00:00Z", "user_id": "u"},
    "token": {"time": "2026-01-01T00:00:00Z", "grant_type": "password", "tokens": ["access_token"]},
    "account": {"time": "2026-01-01T00:00:00Z", "kind": "signup"},
    "native": {"type": "login", "time": "2026-01-01T00:00:00Z", "user_id": "u"},
    "keycloak": {"type": "LOGIN", "userId": "u", "details": {"grant_type": "password", "scope": "openid"}, "id": "1"},
    "janssen-audit": {"action": "USER_AUTHORIZATION", "success": True, "username": "u"},
    "janssen-audit-sessions": {"action": "TOKEN_REQUEST", "success": True, "username": "u"},
    "auth0-logs": {"log_id": "1", "data": {"type": "seacft", "user_id": "u", "details": {"refresh_token": "r"}}},
    "otp": {
        "time": "2026-01-01T00:00:00Z",
        "serial": "S",
        "event": "token_init",
        "realms": ["r"],
        "active": True,
        "assigned": False,
    },
    "otp-count": {"time": "2026-01-01T00:00:00Z", "realm": "r", "event": "token_init", "status": "total", "count": 1},
    "linotp-report": {
        "id": 1,
        "timestamp": "2026-01-01 00:00:00",
        "event": "token_init",
        "realm": "r",
        "parameter": "total",
        "count": 1,
    },
    "fusionauth": {"event": {"type": "user.login.success", "authenticationType": "PASSWORD", "user": {"id": "u"}}},
    "cloudevents": {
        "specversion": "1.0",
        "id": "1",
        "source": "/",
        "type": cloudevents.LOGIN,
        "subject": "u",
        "data": {"grant": "password", "tokens": {"access_token": 1}},
    },
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(946_684_800_000, 1_900_000_000_000),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(WORDS),
    st.sampled_from(["x" * 257, "ü" * 513, "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "\ud800"]),
)
near = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=8)),
    max_leaves=20,
)
types = st.fixed_dictionaries({}, optional=dict.fromkeys(("type", "action", "userId", "user_id", "time"), near))
records = st.one_of(
    st.binary(max_size=200),
    # NaN and Infinity, which are no JSON, and lone surrogates are written too.
    st.builds(lambda record: json.dumps(record).encode(), near),
    st.builds(
        lambda one, two: json.dumps({**one, **two}).encode(), st.dictionaries(st.sampled_from(NAMES), near), types
    ),
    st.builds(
        lambda pairs: b"{" + b",".join(json.dumps(k).encode() + b":" + json.dumps(v).encode() for k, v in pairs) + b"}",
        st.lists(st.tuples(st.sampled_from(NAMES), scalars), max_size=12),
    ),
    st.lists(st.builds(lambda record: json.dumps(record).encode(), near), max_size=4).map(b"\n".join),
    st.none(),
)
header_names = st.one_of(
    st.sampled_from(
        ["ce_specversion", "ce-type", "ce_id", "ce-source", "ce_time", "CE_subject", "content-type", "ce_"]
    ),
    st.text(max_size=5),
)
header_values = st.one_of(
    st.none(),
    st.binary(max_size=30),
    st.sampled_from([*WORDS, "1.0", "application/json", "ü", "%ff%00"]).map(str.encode),
    st.just(b"x" * 2000),
)
headers = st.lists(st.tuples(header_names, header_values), max_size=7)
RECORD = RecordTime(1_767_229_200_000)
moments = st.one_of(
    st.just(RECORD),
    st.builds(RecordTime, st.integers(-(2**63), 2**63 - 1), st.booleans()),
    st.builds(RecordTime.of, st.integers(-(2**63), 2**63 - 1), st.just(RECORD.ms)),
)

ODD: list[Any] = [
    b'{"type":"LOGIN","userId":"u","time":' + b"9" * 5000 + b"}",
    b'{"type":"LOGIN","userId":"u","time":1e400}',
    b'{"type":"LOGIN","userId":"u","time":NaN}',
    b'{"type":"LOGIN","type":"LOGIN_ERROR","userId":"u","userId":7}',
    b'{"type":"LOGIN","userId":"\xff"}',
    b"\xef\xbb\xbf{}",
    b'{"data":' * 5000,
    b'{"data":' * 5000 + b"1" + b"}" * 5000,
    b"\x00",
    b"\n" * 100_000,
    b"{\n" * 50_000,
]


def written_over(good: dict[str, Any], over: dict[str, Any], deeper: dict[str, Any]) -> bytes:
    """`good` with the fields of `over`, and those of `deeper` in each object that it holds."""
    return json.dumps(
        {name: {**inner, **deeper} if isinstance(inner, dict) else inner for name, inner in good.items()} | over
    ).encode()


few = st.dictionaries(st.sampled_from(NAMES), near, max_size=2)

# What passes for each type that a schema asks for, and is meant to do harm.
HOSTILE_TEXTS = [
    *("", " ", "x" * 257, "x" * 1025, "ü" * 200, "ü" * 600, "__other__", "\0", "\ufeff", "a/b", "{}", "null"),
    *("\ud800", "x" * 10_000, "e\u0301", "\u00e9", "\u200f\u202e", "1767225600000"),
    *("2025-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.9999999-23:59", "0001-01-01T00:00:00.0000001+23:59"),
    *("1999-12-31T23:59:59.9999999Z", "2026-01-01 00:00:00", "1e400", "NaN", "-1", "٣"),
]
HOSTILE_NUMBERS = [0, -1, 1.5, -0.0, 1e300, 1.7949e12, 2**31, 2**63, -(2**63), 10**400, 1_767_225_600_000_000]


def hostile(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same JSON type as `value`, half of them `value` itself."""
    if isinstance(value, dict):
        harm: st.SearchStrategy[Any] = hostile_object(value)
    elif isinstance(value, list):
        harm = st.lists(hostile(value[0]), max_size=18)
    elif isinstance(value, bool):
        harm = st.booleans()
    elif isinstance(value, (int, float)):
        harm = st.sampled_from(HOSTILE_NUMBERS) | st.integers() | st.floats()
    else:
        harm = st.sampled_from(HOSTILE_TEXTS + WORDS) | st.text(max_size=20)
    return st.one_of(st.just(value), harm)


def hostile_object(good: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A record that the schema of `good` allows, with the fields that other records of it have."""
    optional = st.sampled_from(HOSTILE_TEXTS + WORDS)
    more = dict.fromkeys(
        ("realm", "client_id", "clientId", "node", "reason", "error", "user_id", "id", "time"), optional
    )
    booleans = dict.fromkeys(("success", "counted", "deleted"), st.booleans())
    times = dict.fromkeys(("createInstant", "timestamp"), st.sampled_from(HOSTILE_NUMBERS))
    return st.fixed_dictionaries(
        {name: hostile(value) for name, value in good.items()},
        optional={name: kind for name, kind in (more | booleans | times).items() if name not in good},
    )


ALLOWED = {name: hostile_object(good).map(lambda record: json.dumps(record).encode()) for name, good in GOOD.items()}


def held_to_account(name: str, value: bytes | None, given_headers: Headers, at: RecordTime) -> None:
    found = ADAPTERS[name](value, given_headers, at)
    assert [one.index for one in found] == list(range(len(found)))
    for one in found:
        if one.bad is not None:
            assert one.bad.reason in events.REASONS
            assert len(one.bad.detail) < 500
            assert one.events == ()
        assert len({event.id for event in one.events}) <= 1
        for event in one.events:
            assert events.check(event) is event
            events.check_time(event.time, at)
            assert event.time.tzinfo is UTC


@pytest.mark.parametrize("name", ADAPTERS)
@settings(deadline=None)
@given(value=records, given_headers=headers, at=moments)
def test_no_record_makes_an_adapter_raise(
    name: str, value: bytes | None, given_headers: list[tuple[str, bytes | None]], at: RecordTime
) -> None:
    held_to_account(name, value, given_headers, at)


@pytest.mark.parametrize("name", ADAPTERS)
@settings(deadline=None)
@given(over=few, deeper=few)
def test_no_field_of_a_good_record_does(name: str, over: dict[str, Any], deeper: dict[str, Any]) -> None:
    held_to_account(name, written_over(GOOD[name], over, deeper), (), RECORD)


@pytest.mark.parametrize("name", ADAPTERS)
@settings(deadline=None)
@given(
    data=st.data(), given_headers=headers, at=moments, layout=st.sampled_from([b"%b", BOM + b"%b", b"[%b]", b"%b\n%b"])
)
def test_no_harm_that_its_schema_allows_does(
    name: str, data: st.DataObject, given_headers: list[tuple[str, bytes | None]], at: RecordTime, layout: bytes
) -> None:
    value = data.draw(ALLOWED[name])
    held_to_account(name, layout.replace(b"%b", value), given_headers, at)


@pytest.mark.parametrize("name", events.EVENTS)
@settings(deadline=None)
@given(data=st.data(), at=moments)
def test_nor_does_a_value_make_decode_raise_anything_else(name: str, data: st.DataObject, at: RecordTime) -> None:
    value = data.draw(st.one_of(ALLOWED[name], records))
    found = decoded(name, value, at)
    if isinstance(found, BadRecordError):
        assert found.reason in events.REASONS
        assert len(found.detail) < 500
    else:
        assert events.check(found) is found
        events.check_time(found.time, at)


def decoded(name: str, value: bytes | None, at: RecordTime) -> events.Event | BadRecordError:
    try:
        return events.decode(name, value, at)
    except BadRecordError as bad:
        return bad


def test_the_good_records_are_good() -> None:
    for name, record in GOOD.items():
        (one,) = ADAPTERS[name](json.dumps(record).encode(), (), RECORD)
        assert one.events, name


@pytest.mark.parametrize("name", ADAPTERS)
def test_nor_do_the_oddest(name: str) -> None:
    for value in ODD:
        held_to_account(name, value, (), RECORD)
