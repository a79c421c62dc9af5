"""What FusionAuth's events become, case by case."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from schemas.adapters.registry import ADAPTERS
from schemas.events import AccountEvent, Event, Login, TokenIssued
from tests.schemas.adapters.cases import AT, AT_MS, RECORD, RECORDED_AT, events, lines, refusal

USER = {"id": "7d0a", "tenantId": "f2ce", "email": "alice@example.org", "registrations": [{"roles": []}]}


def webhook(type_: str, **more: Any) -> dict[str, Any]:
    return {
        "event": {
            "id": "6b33",
            "createInstant": AT_MS,
            "type": type_,
            "tenantId": "f2ce",
            "applicationId": "10000000",
            "ipAddress": "203.0.113.7",
            "info": {"deviceType": "BROWSER", "location": {"country": "DE"}},
            "user": USER,
        }
        | more
    }


REFRESH = webhook("jwt.refresh", user=None, userId="7d0a", token="live.jwt", original="old.jwt", refreshToken="secret")
common: dict[str, Any] = {"time": AT, "realm": "f2ce", "client_id": "10000000", "id": "fusionauth:6b33"}
login = partial(Login, user_id="7d0a", **common)
failed = partial(login, success=False)
token = partial(TokenIssued, tokens=("access_token",), user_id="7d0a", **common)
account = partial(AccountEvent, user_id="7d0a", **common)


def logged_in(by: str | None) -> dict[str, Any]:
    return webhook("user.login.success", authenticationType=by, connectorId="e363")


@pytest.mark.parametrize(
    ("record", "expected", "why"),
    [
        (logged_in("PASSWORD"), [login(), token(grant_type="password")], "a login, and the password grant's token"),
        (logged_in("PASSWORDLESS"), [login()], "a login whose tokens come by another way"),
        (logged_in(None), [login()], "older versions do not say how"),
        (logged_in("PING"), [login(counted=False)], "a ping is activity"),
        (logged_in("REFRESH_TOKEN"), [login(counted=False)], "no user was asked"),
        (logged_in("JWT_SSO"), [login(counted=False)], "no user was asked"),
        (logged_in("REGISTRATION"), [login(counted=False)], "the registration's own token"),
        (logged_in("PASSWORD")["event"], [login(), token(grant_type="password")], "the event without its wrapping"),
        (webhook("user.login.failed", authenticationType="PASSWORD"), [failed()], "a known user, no reason given"),
        (
            webhook("user.login.failed", reason={"code": "credentials"}),
            [failed(reason="invalid_credentials")],
            "our word for it",
        ),
        (
            webhook("user.login.failed", reason={"code": "lambdaValidation", "lambdaId": "l1"}),
            [failed(reason="lambdaValidation")],
            "FusionAuth's own word",
        ),
        (
            webhook("user.login.failed", user=None),
            [failed(user_id="", reason="user_not_found")],
            "the user is named if there is one",
        ),
        (REFRESH, [token(grant_type="refresh_token")], "a refresh names its user; but not the tokens that it gave"),
        (webhook("user.registration.create"), [account(kind="signup")], "sign-up"),
        (webhook("user.create"), [], "administrators create users too"),
        (webhook("user.password.breach"), [account(kind="leaked_password")], "breached password"),
        (webhook("user.update", original={"id": "7d0a"}), [], "nothing that is counted"),
        (webhook("event.of.2030"), [], "a later version's"),
    ],
)
def test_events_become_ours(record: dict[str, Any], expected: list[Event], why: str) -> None:
    assert events("fusionauth", record) == expected, why


def test_no_token_of_a_refresh_gets_into_its_event() -> None:
    (one,) = ADAPTERS["fusionauth"](lines(REFRESH), (), RECORD)
    assert not any(secret in repr(one.events) for secret in ("live.jwt", "old.jwt", "secret"))


def test_what_is_missing_is_left_out() -> None:
    record = {"event": {"type": "user.login.success", "user": {"id": "7d0a"}}}
    assert events("fusionauth", record) == [Login(time=RECORDED_AT, user_id="7d0a")]


@pytest.mark.parametrize(
    ("record", "reason", "said"),
    [
        (webhook("user.login.success", user=None), "missing_field", "user_id"),
        ({"event": {}}, "missing_field", "type"),
        ({}, "missing_field", "type"),
        (webhook("user.login.success", createInstant="now"), "wrong_type", "createInstant"),
        (webhook("user.login.success", createInstant=0), "impossible_time", "2000"),
        (webhook("user.login.success", applicationId="x" * 257), "too_long", "client_id"),
    ],
)
def test_bad_records_say_why(record: object, reason: str, said: str) -> None:
    found, detail = refusal("fusionauth", record)
    assert found == reason
    assert said in detail
