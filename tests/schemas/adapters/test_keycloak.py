"""What Keycloak's user events become, case by case."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from schemas.adapters import keycloak
from schemas.events import AccountEvent, Event, Login, TokenIssued
from tests.schemas.adapters.cases import AT, AT_MS, RECORDED_AT, elements, events, refusal

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


PRE_AUTHORIZED = "urn:ietf:params:oauth:grant-type:pre-authorized_code"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"


def user_event(type_: str, details: object = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "b0c1d2e3-1111-4222-8333-444455556666",
        "time": AT_MS,
        "type": type_,
        "realmId": "9f3e0000-1111-4222-8333-444455556666",
        "realmName": "shop",
        "clientId": "web",
        "userId": "7d0a",
        "sessionId": "5e21",
        "ipAddress": "203.0.113.7",
        "error": None,
        "details": details,
    } | more


common: dict[str, Any] = {
    "time": AT,
    "realm": "shop",
    "client_id": "web",
    "id": "keycloak:b0c1d2e3-1111-4222-8333-444455556666",
}
login = partial(Login, user_id="7d0a", **common)
failed = partial(Login, user_id="7d0a", success=False, **common)
token = partial(TokenIssued, tokens=("access_token",), user_id="7d0a", **common)
account = partial(AccountEvent, user_id="7d0a", **common)
ALL_THREE = ("access_token", "id_token", "refresh_token")
PASSWORD = {"username": "alice", "grant_type": "password", "token_id": "t", "refresh_token_id": "r", "scope": "email"}


@pytest.mark.parametrize(
    ("record", "expected", "why"),
    [
        (
            user_event("LOGIN", {"auth_method": "openid-connect", "auth_type": "code", "username": "alice"}),
            [login()],
            "the browser's login",
        ),
        (
            user_event(
                "CODE_TO_TOKEN",
                {"grant_type": "authorization_code", "refresh_token_id": "r", "scope": "openid email profile"},
            ),
            [token(grant_type="authorization_code", tokens=ALL_THREE)],
            "the same login's tokens, no second login",
        ),
        (
            user_event("CODE_TO_TOKEN", {"scope": "email openid-connect"}),
            [token(grant_type="authorization_code")],
            "a scope that only begins like openid gives no id token, and no trace no refresh token",
        ),
        (
            user_event("LOGIN", PASSWORD),
            [login(), token(grant_type="password", tokens=("access_token", "refresh_token"))],
            "the password grant reports itself as a login: it is both, under one id",
        ),
        (
            user_event(
                "REFRESH_TOKEN", {"refresh_token_id": "old", "updated_refresh_token_id": "new", "scope": "openid"}
            ),
            [token(grant_type="refresh_token", tokens=ALL_THREE)],
            "a refresh names its user, which makes active",
        ),
        (
            user_event("REFRESH_TOKEN", {"refresh_token_id": "old"}),
            [token(grant_type="refresh_token")],
            "the refresh token that was used is not one that was issued",
        ),
        (
            user_event("CLIENT_LOGIN", {"username": "service-account-svc"}, userId="5eaf", clientId="svc"),
            [token(grant_type="client_credentials", user_id=None, client_id="svc")],
            "a service account has a user id and is no user",
        ),
        (user_event("CLIENT_LOGIN"), [token(grant_type="client_credentials", user_id=None)], "even unnamed"),
        (
            user_event("REFRESH_TOKEN", {"username": "service-account-svc"}),
            [token(grant_type="refresh_token", user_id=None)],
            "nor is it active by refreshing",
        ),
        (user_event("LOGIN", {"username": "service-account-svc"}), [], "nor by any other way in"),
        (
            user_event("OAUTH2_DEVICE_CODE_TO_TOKEN", {"scope": "openid"}),
            [token(grant_type=DEVICE, tokens=("access_token", "id_token"))],
            "device flow",
        ),
        (
            user_event("TOKEN_EXCHANGE", {"requested_token_type": f"{TOKEN_TYPE}id_token", "scope": "openid email"}),
            [token(grant_type=EXCHANGE, tokens=("id_token",))],
            "the answer's only token is an id token",
        ),
        (
            user_event("TOKEN_EXCHANGE", {"requested_token_type": f"{TOKEN_TYPE}access_token", "scope": "openid"}),
            [token(grant_type=EXCHANGE)],
            "the scope is that of the exchanged token",
        ),
        (
            user_event(
                "TOKEN_EXCHANGE", {"requested_token_type": f"{TOKEN_TYPE}refresh_token", "refresh_token_id": "r"}
            ),
            [token(grant_type=EXCHANGE, tokens=("access_token", "refresh_token"))],
            "a refresh token comes with an access token",
        ),
        (
            user_event("CODE_TO_TOKEN", {"grant_type": PRE_AUTHORIZED}),
            [token(grant_type=PRE_AUTHORIZED)],
            "a pre-authorized code is a grant of its own",
        ),
        (
            user_event("VERIFIABLE_CREDENTIAL_PRE_AUTHORIZED_GRANT", {"grant_type": PRE_AUTHORIZED}),
            [token(grant_type=PRE_AUTHORIZED)],
            "since Keycloak 26.6 with an event of its own",
        ),
        (
            user_event("JWT_AUTHORIZATION_GRANT", {}),
            [token(grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer")],
            "an assertion of another issuer",
        ),
        (user_event("TOKEN_EXCHANGE", None), [token(grant_type=EXCHANGE)], "details may be null"),
        (
            user_event("AUTHREQID_TO_TOKEN", {}),
            [token(grant_type="urn:openid:params:grant-type:ciba")],
            "backchannel",
        ),
        (
            user_event("PERMISSION_TOKEN", {}),
            [token(grant_type="urn:ietf:params:oauth:grant-type:uma-ticket")],
            "UMA",
        ),
        (
            user_event("JWT_BEARER", {}),
            [token(grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer")],
            "assertion",
        ),
        (
            user_event("OAUTH2_EXTENSION_GRANT", {"grant_type": "urn:example:sms"}),
            [token(grant_type="urn:example:sms")],
            "a site's own grant has the name that it gave",
        ),
        (user_event("OAUTH2_EXTENSION_GRANT", {}), [token(grant_type="unknown")], "or none"),
        (
            user_event("LOGIN_ERROR", {"username": "mallory"}, userId=None, error="user_not_found"),
            [failed(user_id="", reason="user_not_found")],
            "a failure need not know its user",
        ),
        (
            user_event("LOGIN_ERROR", {}, error="invalid_user_credentials"),
            [failed(reason="invalid_credentials")],
            "our word for it",
        ),
        (user_event("LOGIN_ERROR", {}, error="user_temporarily_disabled"), [failed(reason="locked")], "our word"),
        (user_event("LOGIN_ERROR", {}, error="user_disabled"), [failed(reason="user_disabled")], "the same word"),
        (user_event("LOGIN_ERROR", {}, error="expired_code"), [failed(reason="expired_code")], "Keycloak's own word"),
        (user_event("LOGIN_ERROR", {}), [failed(reason=None)], "no word at all"),
        (user_event("IDENTITY_PROVIDER_LOGIN", {"identity_provider": "corp"}), [], "its LOGIN follows"),
        (
            user_event("IDENTITY_PROVIDER_LOGIN_ERROR", {}, userId=None, error="identity_provider_login_failure"),
            [failed(user_id="", reason="identity_provider_login_failure")],
            "nothing else reports it",
        ),
        (user_event("REGISTER", {"register_method": "form"}), [account(kind="signup")], "sign-up"),
        (user_event("REGISTER_ERROR", {}, error="email_in_use"), [account(kind="signup_failed")], "and not"),
        (user_event("CLIENT_REGISTER"), [account(kind="client_registered")], "dynamic registration"),
        (user_event("CLIENT_UPDATE"), [account(kind="client_updated")], "dynamic registration"),
        (user_event("CLIENT_DELETE"), [account(kind="client_deleted")], "dynamic registration"),
        (user_event("USER_DISABLED_BY_TEMPORARY_LOCKOUT"), [account(kind="locked_out")], "brute force"),
        (user_event("USER_DISABLED_BY_PERMANENT_LOCKOUT"), [account(kind="locked_out")], "brute force"),
        (user_event("CODE_TO_TOKEN_ERROR", {}, error="invalid_code"), [], "a refused token request is no login"),
        (user_event("CLIENT_LOGIN_ERROR", {}, userId=None, error="invalid_client_credentials"), [], "no user's login"),
        (user_event("LOGOUT"), [], "nothing that is counted"),
        (user_event("IMPERSONATE", {"impersonator": "admin"}), [], "an administrator, not the user"),
        (user_event("SOME_TYPE_OF_2030"), [], "a later version's"),
        (
            {"operationType": "CREATE", "resourceType": "USER", "id": "a1", "time": AT_MS, "realmId": "r"},
            [],
            "an admin event: a user made by an administrator has not signed up",
        ),
    ],
)
def test_user_events_become_ours(record: dict[str, Any], expected: list[Event], why: str) -> None:
    assert events("keycloak", record) == expected, why


WEBHOOK = {
    "id": "b0c1d2e3-1111-4222-8333-444455556666",
    "time": AT_MS,
    "realmId": "9f3e0000-1111-4222-8333-444455556666",
    "realmName": "shop",
    "uid": "adb55e7c-3df8-4dec-8603-cb3dd4b3352d",
    "authDetails": {"realmId": "shop", "clientId": "web", "userId": "7d0a", "username": "alice", "sessionId": "5e21"},
}
MACHINE = {"authDetails": {"realmId": "shop", "clientId": "svc", "userId": "5eaf", "username": "service-account-svc"}}


@pytest.mark.parametrize(
    ("record", "expected", "why"),
    [
        (WEBHOOK | {"type": "access.LOGIN"}, [login()], "user and client are in authDetails"),
        (
            WEBHOOK | {"type": "access.LOGIN", "details": PASSWORD},
            [login(), token(grant_type="password", tokens=("access_token", "refresh_token"))],
            "with the password grant",
        ),
        (
            WEBHOOK | {"type": "access.LOGIN_ERROR", "error": "invalid_user_credentials"},
            [failed(reason="invalid_credentials")],
            "a failure",
        ),
        (
            WEBHOOK | {"type": "access.LOGIN_ERROR", "error": "user_not_found", "authDetails": {"clientId": "web"}},
            [failed(user_id="", reason="user_not_found")],
            "of an unknown user",
        ),
        (
            WEBHOOK | MACHINE | {"type": "access.REFRESH_TOKEN", "details": {"refresh_token_id": "old"}},
            [token(grant_type="refresh_token", user_id=None, client_id="svc")],
            "only authDetails shows that a service account refreshes",
        ),
        (WEBHOOK | {"type": "access.LOGOUT"}, [], "ignored by name"),
        (WEBHOOK | {"type": "admin.USER-CREATE", "operationType": "CREATE"}, [], "an admin event"),
    ],
)
def test_bodies_of_the_webhook_listener_are_read(record: dict[str, Any], expected: list[Event], why: str) -> None:
    assert events("keycloak", record) == expected, why
    (one,) = elements("keycloak", record)
    assert one.unknown is None


def test_both_listeners_send_an_event_under_one_id() -> None:
    (by_webhook,) = events("keycloak", WEBHOOK | {"type": "access.LOGIN"})
    (by_http,) = events("keycloak", user_event("LOGIN"))
    assert by_webhook.id == by_http.id


@pytest.mark.parametrize("type_", ["SOME_TYPE_OF_2030", "access.SOME_TYPE_OF_2030", "system.OURS"])
def test_an_unknown_type_is_named(type_: str) -> None:
    (one,) = elements("keycloak", WEBHOOK | {"type": type_})
    assert (one.events, one.bad, one.unknown) == ((), None, type_)


def test_an_older_version_names_its_realm_by_id_alone() -> None:
    record = user_event("LOGIN")
    del record["realmName"]
    assert getattr(events("keycloak", record)[0], "realm", None) == "9f3e0000-1111-4222-8333-444455556666"


def test_what_is_missing_is_left_out() -> None:
    assert events("keycloak", {"type": "LOGIN", "userId": "7d0a"}) == [Login(time=RECORDED_AT, user_id="7d0a")]


def test_every_documented_type_has_its_error() -> None:
    errors = {name.removesuffix("_ERROR") for name in keycloak.RULES if name.endswith("_ERROR")}
    assert errors == {name for name in keycloak.RULES if not name.endswith("_ERROR")}


@pytest.mark.parametrize(
    ("record", "reason", "said"),
    [
        (user_event("LOGIN", userId=None), "missing_field", "user_id"),
        ({"time": AT_MS}, "missing_field", "type"),
        (user_event("LOGIN", time="today"), "wrong_type", "time"),
        (user_event("LOGIN", time=-1), "impossible_time", "2000"),
        (user_event("LOGIN", time=AT_MS + 90_000_000), "impossible_time", "24 h"),
        (user_event("LOGIN", time=10**300), "impossible_time", "24 h"),
        (user_event("LOGIN", [1]), "wrong_type", "details"),
        (user_event("LOGIN", userId="ü" * 513), "too_long", "user_id"),
        (user_event("LOGIN", realmName="x" * 257), "too_long", "realm"),
        (user_event("LOGIN", clientId="x" * 257), "too_long", "client_id"),
        (user_event("LOGIN_ERROR", id="x" * 1020), "too_long", "id"),
        (user_event("LOGIN", id="x" * 1020), "too_long", "id"),
        ([[]], "not_an_object", "array"),
        (b"<event/>", "not_json", "malformed"),
        (None, "empty_value", "no value"),
    ],
)
def test_bad_records_say_why(record: object, reason: str, said: str) -> None:
    found, detail = refusal("keycloak", record)
    assert found == reason
    assert said in detail
