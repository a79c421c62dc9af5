"""Fields over their limit: an attacker types those of a failure, so they must not keep it from being counted."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.events import BadRecordError, decode
from schemas.ledger.scopes import OTHER
from tests.schemas.adapters.cases import AT_TEXT, RECORD, elements, events, lines, refusal

LONG = "x" * 300
LONG_BYTES = "ü" * 200
"""Within the limit in characters, over it in bytes."""
LONG_ID = "x" * 1025
HUGE = "ü" * 400_000

FAILED: dict[str, Any] = {"type": "login", "time": AT_TEXT, "user_id": "u", "success": False}
SIGNUP: dict[str, Any] = {"type": "account", "time": AT_TEXT, "kind": "signup_failed"}
TOKEN: dict[str, Any] = {"type": "token", "time": AT_TEXT, "grant_type": "password", "tokens": ["access_token"]}

NATIVE = [
    *((FAILED | {name: LONG}, {name: OTHER}, "over it in characters") for name in ("realm", "client_id", "node")),
    (FAILED | {"reason": LONG}, {"reason": OTHER}, "an error text"),
    (FAILED | {"reason": HUGE}, {"reason": OTHER}, "a very long one"),
    *((FAILED | {name: LONG_BYTES}, {name: OTHER}, "over it in bytes") for name in ("realm", "client_id", "reason")),
    (FAILED | {"user_id": LONG_ID}, {"user_id": ""}, "no user has such an id"),
    (FAILED | {"user_id": "ü" * 600}, {"user_id": ""}, "over it in bytes"),
    (
        FAILED | {"user_id": LONG_ID, "realm": LONG, "client_id": LONG_BYTES, "node": LONG, "reason": LONG},
        {"user_id": "", "realm": OTHER, "client_id": OTHER, "node": OTHER, "reason": OTHER},
        "all at once",
    ),
    (FAILED | {"client_id": LONG, "realm": "acme", "id": "1"}, {"client_id": OTHER, "realm": "acme"}, "the rest stays"),
    *(
        (SIGNUP | {"kind": kind, "client_id": LONG, "realm": LONG_BYTES}, {"client_id": OTHER, "realm": OTHER}, kind)
        for kind in ("signup_failed", "locked_out", "leaked_password")
    ),
    (SIGNUP | {"user_id": LONG_ID}, {"user_id": None}, "an account event need not name a user"),
    (SIGNUP | {"user_id": "ü" * 600}, {"user_id": None}, "over it in bytes"),
]


@pytest.mark.parametrize(("record", "expected", "why"), NATIVE)
def test_a_failure_counts_without_its_long_fields(record: dict[str, Any], expected: dict[str, Any], why: str) -> None:
    name = record["type"]
    typeless = {field: value for field, value in record.items() if field != "type"}
    found = [
        *events("native", record),
        *events(name, record),
        *events(name, typeless),
        decode(name, lines(record), RECORD),
        decode(name, lines(typeless), RECORD),
    ]
    assert len(found) == 5
    assert all(event == found[0] for event in found)
    unchanged = {field: value for field, value in typeless.items() if field not in {"time", *expected}}
    for field, value in (unchanged | expected).items():
        assert getattr(found[0], field) == value, why


TOO_LONG = [
    (FAILED | {"id": LONG_ID}, "id", "its repeats could not be recognised"),
    (FAILED | {"id": "ü" * 600, "client_id": LONG}, "id", "over it in bytes"),
    (SIGNUP | {"id": LONG_ID}, "id", "of an account event"),
    (FAILED | {"success": True, "client_id": LONG}, "client_id", "a success"),
    (FAILED | {"success": True, "reason": LONG_BYTES}, "reason", "in bytes"),
    (FAILED | {"success": True, "user_id": LONG_ID}, "user_id", "the user of a success"),
    (SIGNUP | {"kind": "signup", "client_id": LONG}, "client_id", "a sign-up"),
    (SIGNUP | {"kind": "signup", "user_id": "ü" * 600}, "user_id", "in bytes"),
    (SIGNUP | {"kind": LONG}, "kind", "no kind that is a failure"),
    (SIGNUP | {"kind": LONG_BYTES}, "kind", "in bytes"),
    (TOKEN | {"client_id": LONG}, "client_id", "tokens are no failure"),
    (TOKEN | {"grant_type": LONG_BYTES}, "grant_type", "in bytes"),
    (TOKEN | {"success": False, "node": LONG}, "node", "whatever else they say"),
]


@pytest.mark.parametrize(("record", "said", "why"), TOO_LONG)
def test_ids_and_successes_keep_their_limits(record: dict[str, Any], said: str, why: str) -> None:
    for reason, detail in (refusal("native", record), refusal(record["type"], record)):
        assert (reason, said in detail) == ("too_long", True), why
    with pytest.raises(BadRecordError, match=said) as refused:
        decode(record["type"], lines(record), RECORD)
    assert refused.value.reason == "too_long"


def cloud(type_: str, **data: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/", "type": f"io.identity.{type_}.v1", "data": data}


def janssen(**more: Any) -> dict[str, Any]:
    return {"action": "USER_AUTHORIZATION", "success": False} | more


@pytest.mark.parametrize(
    ("adapter", "record", "expected"),
    [
        ("keycloak", {"type": "LOGIN_ERROR", "error": LONG, "clientId": LONG}, {"reason": OTHER, "client_id": OTHER}),
        ("keycloak", {"type": "LOGIN_ERROR", "realmName": LONG, "userId": LONG_ID}, {"realm": OTHER, "user_id": ""}),
        ("keycloak", {"type": "REGISTER_ERROR", "clientId": LONG}, {"client_id": OTHER}),
        ("keycloak", {"type": "USER_DISABLED_BY_TEMPORARY_LOCKOUT", "userId": LONG_ID}, {"user_id": None}),
        (
            "auth0-logs",
            {"type": "fu", "client_id": LONG_BYTES, "user_id": LONG_ID},
            {"client_id": OTHER, "user_id": ""},
        ),
        ("auth0-logs", {"type": "pwd_leak", "user_id": LONG_ID}, {"user_id": None}),
        ("auth0-logs", {"type": "fs", "tenant_name": LONG}, {"realm": OTHER}),
        (
            "fusionauth",
            {"type": "user.login.failed", "reason": {"code": LONG}, "applicationId": LONG},
            {"reason": OTHER, "client_id": OTHER},
        ),
        ("fusionauth", {"type": "user.password.breach", "userId": LONG_ID}, {"user_id": None}),
        ("janssen-audit", janssen(username=LONG_ID, macAddress=LONG), {"user_id": "", "node": OTHER}),
        (
            "janssen-audit-sessions",
            janssen(action="SESSION_AUTHENTICATED", clientId=LONG),
            {"client_id": OTHER, "success": False},
        ),
        ("cloudevents", cloud("login", outcome="failure", reason=LONG, client=LONG), {"reason": OTHER, "realm": None}),
        ("cloudevents", cloud("login", outcome="failure", user_id=LONG_ID, node=LONG), {"user_id": "", "node": OTHER}),
        ("cloudevents", cloud("account", kind="leaked_password", tenant=LONG_BYTES), {"realm": OTHER}),
    ],
)
def test_so_do_the_failures_of_every_adapter(adapter: str, record: dict[str, Any], expected: dict[str, Any]) -> None:
    (event,) = events(adapter, record)
    assert {name: getattr(event, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("record", "reason", "why"),
    [
        (FAILED | {"time": 7, "client_id": LONG}, "wrong_type", "a fault before the long field"),
        ({"client_id": LONG} | FAILED | {"time": 7}, "too_long", "a fault behind it"),
        (FAILED | {"client_id": LONG, "time": "1999-12-31T23:59:59Z"}, "impossible_time", "a time that cannot be"),
    ],
)
def test_a_long_field_does_not_excuse_another_fault(record: dict[str, Any], reason: str, why: str) -> None:
    assert refusal("native", record)[0] == refusal("login", record)[0] == reason, why


def test_lines_and_arrays_of_them_are_read_one_by_one() -> None:
    found = [FAILED | {"reason": LONG}, FAILED | {"success": True, "reason": LONG}, FAILED]
    for value in (lines(*found), b"[" + b",".join(map(lines, found)) + b"]"):
        assert [one.bad is None for one in elements("native", value)] == [True, False, True]
