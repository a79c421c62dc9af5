"""What Auth0's log events become, case by case."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from schemas.adapters import auth0_logs
from schemas.events import AccountEvent, Event, Login, TokenIssued
from tests.schemas.adapters.cases import AT, AT_TEXT, RECORDED_AT, elements, events, lines, refusal

LOG_ID = "90020260101000000123456000000000000001223372036854775807"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
MFA = "http://auth0.com/oauth/grant-type/mfa-"


def item(code: str, details: object = None, **more: Any) -> dict[str, Any]:
    return {
        "log_id": LOG_ID,
        "date": AT_TEXT,
        "type": code,
        "description": "what happened",
        "connection": "Username-Password-Authentication",
        "client_id": "AbC",
        "client_name": "Web",
        "ip": "203.0.113.7",
        "tenant_name": "acme",
        "environment_name": "prod-eu-1",
        "user_id": "auth0|63",
        "user_name": "alice@example.org",
        "organization_id": "org_1",
        "is_mobile": False,
        "details": details,
        "$event_schema": {"version": "1.0.0"},
    } | more


def streamed(code: str, details: object = None, **more: Any) -> dict[str, Any]:
    return {"log_id": LOG_ID, "data": item(code, details, **more)}


common: dict[str, Any] = {"time": AT, "realm": "acme", "client_id": "AbC", "id": f"auth0:{LOG_ID}"}
login = partial(Login, user_id="auth0|63", **common)
active = partial(login, counted=False)
failed = partial(login, success=False)
token = partial(TokenIssued, tokens=("access_token",), user_id="auth0|63", **common)
account = partial(AccountEvent, user_id="auth0|63", **common)
BOTH = ("access_token", "refresh_token")


@pytest.mark.parametrize(
    ("record", "expected", "why"),
    [
        (streamed("s", {"prompts": [], "stats": {"loginsCount": 5}}), [login()], "a login"),
        (item("s"), [login()], "the item alone, as the Management API lists it"),
        (item("s", log_id=None) | {"_id": LOG_ID}, [login()], "with the older name of its id"),
        (streamed("sens"), [login()], "a native app's social login has no `s`"),
        (streamed("ssa"), [active()], "a session renewed in silence"),
        (streamed("scoa"), [active()], "its `s` follows"),
        (
            streamed("seacft", {"code": "***abc", "refresh_token": "***xyz"}),
            [active(), token(grant_type="authorization_code", tokens=BOTH)],
            "an exchange makes its user active and is no second login",
        ),
        (
            streamed("seacft", {"refresh_token": {"access": "offline"}}),
            [active(), token(grant_type="authorization_code", tokens=BOTH)],
            "as newer logs put it",
        ),
        (
            streamed("seacft", {"refresh_token": None}),
            [active(), token(grant_type="authorization_code")],
            "null is absent",
        ),
        (streamed("seacft", ["odd"]), [active(), token(grant_type="authorization_code")], "details of any shape"),
        (
            streamed("seacft", user_id=None),
            [token(grant_type="authorization_code", user_id=None)],
            "an exchange need not name a user",
        ),
        (
            streamed("seccft", client_id="M2M", user_id=""),
            [token(grant_type="client_credentials", client_id="M2M", user_id=None)],
            "a machine",
        ),
        (
            streamed("seccft", user_id="M2M@clients"),
            [token(grant_type="client_credentials", user_id=None)],
            "a machine with a user id is no user",
        ),
        (streamed("sertft"), [token(grant_type="refresh_token")], "whether refreshing makes active is a setting"),
        (
            streamed("sertft", {"familyId": "f1", "tokenCounter": 3}),
            [token(grant_type="refresh_token", tokens=BOTH)],
            "rotation replaces the refresh token",
        ),
        (
            streamed("sertft", {"refresh_token": {"access": "offline"}}),
            [token(grant_type="refresh_token")],
            "the refresh token that was used is not one that was issued",
        ),
        (streamed("sepft"), [login(), token(grant_type="password")], "the password grant is the login itself"),
        (streamed("seotpft"), [login(), token(grant_type=f"{MFA}otp")], "its second step"),
        (streamed("seoobft"), [login(), token(grant_type=f"{MFA}oob")], "its second step"),
        (streamed("sercft"), [login(), token(grant_type=f"{MFA}recovery-code")], "its second step"),
        (streamed("sepkotpft"), [login(), token(grant_type=f"{MFA}otp")], "after a passkey"),
        (
            streamed("sede"),
            [active(), token(grant_type="urn:ietf:params:oauth:grant-type:device_code")],
            "device flow",
        ),
        (streamed("secte"), [active(), token(grant_type=EXCHANGE)], "custom token exchange"),
        (streamed("seta"), [active(), token(grant_type=EXCHANGE)], "token vault"),
        (
            streamed("ciba_exchange_succeeded"),
            [active(), token(grant_type="urn:openid:params:grant-type:ciba")],
            "backchannel",
        ),
        (streamed("f"), [failed()], "no reason of its own"),
        (streamed("fp"), [failed(reason="invalid_credentials")], "wrong password"),
        (streamed("fu", user_id=None), [failed(user_id="", reason="user_not_found")], "unknown user"),
        (streamed("limit_wc"), [failed(reason="locked")], "too many failures of one account"),
        (streamed("fsa"), [failed(reason="silent_authentication")], "apart, since apps try this all the time"),
        (streamed("feacft"), [], "a refused exchange is no login"),
        (streamed("fepft"), [], "its `fp` decides"),
        (streamed("ss"), [account(kind="signup")], "sign-up"),
        (streamed("fs"), [account(kind="signup_failed")], "and not"),
        (streamed("pwd_leak", user_id=None), [account(kind="leaked_password", user_id=None)], "at a login"),
        (streamed("signup_pwd_leak"), [account(kind="leaked_password")], "at a sign-up"),
        (streamed("reset_pwd_leak"), [account(kind="leaked_password")], "at a reset"),
        (streamed("slo"), [], "logout"),
        (streamed("sapi"), [], "management"),
        (streamed("code_of_2030"), [], "a later code"),
    ],
)
def test_log_events_become_ours(record: dict[str, Any], expected: list[Event], why: str) -> None:
    assert events("auth0-logs", record) == expected, why


@pytest.mark.parametrize("code", sorted(auth0_logs.CODES))
def test_every_code_of_the_table_counts_something(code: str) -> None:
    assert events("auth0-logs", streamed(code))


def test_a_log_without_a_date_has_its_records() -> None:
    assert events("auth0-logs", {"data": {"type": "s", "user_id": "u"}}) == [Login(time=RECORDED_AT, user_id="u")]


@pytest.mark.parametrize(
    "layout",
    [
        lambda *items: b"[" + b",".join(lines(one) for one in items) + b"]",
        lambda *items: lines(*items),
        lambda *items: lines(*items).replace(b"\n", b"\r\n\r\n") + b"\n",
    ],
    ids=["JSON array", "JSON Lines", "JSON Lines with blank ones"],
)
def test_every_content_format_of_a_stream_is_read(layout: Any) -> None:
    found = elements("auth0-logs", layout(streamed("s"), streamed("sapi"), streamed("fp", date=7), item("ss")))
    assert [one.index for one in found] == [0, 1, 2, 3]
    assert [list(one.events) for one in found] == [[login()], [], [], [account(kind="signup")]]
    assert [one.bad is None for one in found] == [True, True, False, True]


@pytest.mark.parametrize(
    ("record", "reason", "said"),
    [
        (streamed("s", user_id=None), "missing_field", "user_id"),
        ({"log_id": LOG_ID, "data": {"date": AT_TEXT}}, "missing_field", "type"),
        ({}, "missing_field", "type"),
        (streamed("s", date="2026-01-01T00:00:00"), "wrong_type", "date"),
        (streamed("s", date="2026-01-03T00:00:00Z"), "impossible_time", "24 h"),
        (streamed("s", date="0001-01-01T00:00:00+14:00"), "impossible_time", "2000"),
        (streamed("s", client_id="x" * 257), "too_long", "client_id"),
        (streamed("s", user_id={"id": 1}), "wrong_type", "user_id"),
        ({"log_id": LOG_ID, "data": "s"}, "wrong_type", "data"),
    ],
)
def test_bad_records_say_why(record: object, reason: str, said: str) -> None:
    found, detail = refusal("auth0-logs", record)
    assert found == reason
    assert said in detail


ITEM = {"type": "fp", "date": "2026-01-01T00:00:00.123Z", "log_id": "9002"}
STREAMED = {"log_id": "9002", "data": ITEM}
EVENT_BRIDGE = {
    "version": "0",
    "id": "6b4bc671",
    "detail-type": "Auth0 log",
    "source": "aws.partner/auth0.com/shop/auth0.logs",
    "time": "2026-01-01T00:00:01Z",
    "detail": STREAMED,
}
EVENT_GRID = {
    "id": "6b4bc671",
    "subject": "fp",
    "eventType": "Auth0.Log",
    "eventTime": "2026-01-01T00:00:01Z",
    "data": STREAMED,
    "dataVersion": "1.0",
}


@pytest.mark.parametrize(
    ("record", "number", "why"),
    [
        (EVENT_BRIDGE, 1, "Amazon EventBridge"),
        ([EVENT_GRID], 1, "Azure Event Grid"),
        (
            {"specversion": "1.0", "id": "1", "source": "/auth0", "type": "auth0.log", "data": STREAMED},
            1,
            "its CloudEvents",
        ),
        (EVENT_GRID | {"data": ITEM}, 1, "with the item itself"),
        ({"logs": [STREAMED, ITEM]}, 2, "a body with several"),
        ({"logs": []}, 0, "or none"),
        (b"\xef\xbb\xbf" + json.dumps({"logs": [STREAMED]}).encode(), 1, "after a byte order mark"),
    ],
)
def test_wrapped_logs_are_read(record: object, number: int, why: str) -> None:
    found = elements("auth0-logs", record)
    assert [one.index for one in found] == list(range(number)), why
    for one in found:
        assert one.bad is None, one.bad
        (event,) = one.events
        assert isinstance(event, Login)
        assert (event.id, event.time, event.reason) == ("auth0:9002", AT, "invalid_credentials")


def test_a_bad_log_of_a_body_is_a_bad_element_alone() -> None:
    good, bad = elements("auth0-logs", {"logs": [STREAMED, {"data": {"type": 7}}]})
    assert good.events
    assert bad.bad is not None
    assert json.loads(bad.raw or b"") == {"data": {"type": 7}}
