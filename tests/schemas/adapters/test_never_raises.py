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

# What the adapters look at, so that random records come near to good ones.
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
header_names = st.sampled_from(["ce_specversion", "ce-type", "ce_id", "ce-source", "ce_time", "content-type", "ce_"])
headers = st.lists(
    st.tuples(header_names, st.one_of(st.binary(max_size=30), st.sampled_from(WORDS).map(str.encode))), max_size=7
)
timestamps = st.one_of(st.just(1_767_229_200_000), st.integers(-(2**63), 2**63 - 1))

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


def held_to_account(name: str, value: bytes | None, given_headers: Headers, record_ms: int) -> None:
    found = ADAPTERS[name](value, given_headers, record_ms)
    assert [one.index for one in found] == list(range(len(found)))
    for one in found:
        if one.bad is not None:
            assert one.bad.reason in events.REASONS
            assert len(one.bad.detail) < 500
            assert one.events == ()
        assert len({event.id for event in one.events}) <= 1
        for event in one.events:
            events.check(event)
            events.check_time(event.time, record_ms)
            assert event.time.tzinfo is UTC


@pytest.mark.parametrize("name", ADAPTERS)
@settings(deadline=None)
@given(value=records, given_headers=headers, record_ms=timestamps)
def test_no_record_makes_an_adapter_raise(
    name: str, value: bytes | None, given_headers: list[tuple[str, bytes]], record_ms: int
) -> None:
    held_to_account(name, value, given_headers, record_ms)


@pytest.mark.parametrize("name", ADAPTERS)
@settings(deadline=None)
@given(over=few, deeper=few)
def test_no_field_of_a_good_record_does(name: str, over: dict[str, Any], deeper: dict[str, Any]) -> None:
    held_to_account(name, written_over(GOOD[name], over, deeper), (), 1_767_229_200_000)


def test_the_good_records_are_good() -> None:
    for name, record in GOOD.items():
        (one,) = ADAPTERS[name](json.dumps(record).encode(), (), 1_767_229_200_000)
        assert one.events, name


@pytest.mark.parametrize("name", ADAPTERS)
def test_nor_do_the_oddest(name: str) -> None:
    for value in ODD:
        held_to_account(name, value, (), 1_767_229_200_000)
