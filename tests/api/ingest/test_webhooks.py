"""The webhooks of products: what becomes of their events, and who may send."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.api.ingest.samples import (
    AUTH0,
    FUSIONAUTH,
    KEYCLOAK,
    LOGIN,
    LOGOUT,
    PASSWORD_GRANT,
    SECRET,
    SECRETS,
    hook,
    lines,
)
from tests.api.ingest.sending import MakeSite, Site
from tests.api.sources import by_file, listed


@pytest.mark.parametrize(
    ("way", "body", "expected"),
    [
        ("keycloak", KEYCLOAK, {"login": [hook("keycloak", "0f0e")]}),
        (
            "keycloak",
            PASSWORD_GRANT,
            {"login": [hook("keycloak", "0f0f")], "token": [hook("keycloak", "0f0f")]},
        ),
        ("keycloak", LOGOUT, {}),
        (
            "auth0",
            [AUTH0, AUTH0 | {"log_id": "9003"}],
            {"login": [hook("auth0", "9002"), hook("auth0", "9003")]},
        ),
        (
            "auth0",
            lines(AUTH0, AUTH0 | {"log_id": "9003"}),
            {"login": [hook("auth0", "9002"), hook("auth0", "9003")]},
        ),
        ("fusionauth", FUSIONAUTH, {"login": [hook("fusionauth", "6b33")]}),
    ],
)
async def test_a_webhook_becomes_events_of_ours(
    site: Site, way: str, body: Any, expected: dict[str, list[str]]
) -> None:
    answer = await site.send(body, f"/v1/ingest/{way}", media="text/whatever")
    assert answer.status == 202, answer.text
    assert answer.json["ignored"] == (0 if expected else 1)
    assert site.held() == {"login": [], "token": [], "account": []} | expected


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        ({"Authorization": f"Bearer {SECRET}"}, 202, "as a bearer token"),
        ({"Authorization": SECRET}, 202, "as it is: Auth0's field takes any text"),
        ({"X-Webhook-Secret": SECRET}, 202, "in a header of its own"),
        ({"Authorization": "Bearer writer"}, 202, "a token with the scope instead"),
        ({"Authorization": "Bearer writer", "X-Webhook-Secret": "wrong"}, 202, "one of both is enough"),
        ({}, 401, "nothing"),
        ({"X-Webhook-Secret": SECRET[:-1]}, 401, "a part of it"),
        ({"X-Webhook-Secret": ""}, 401, "an empty one"),
        ({"Authorization": aiohttp.encode_basic_auth("keycloak", SECRET)}, 202, "as the password of Basic, any user"),
        ({"Authorization": aiohttp.encode_basic_auth("", SECRET)}, 202, "the same without a user"),
        ({"Authorization": aiohttp.encode_basic_auth(SECRET, "")}, 401, "as the user of Basic"),
        ({"Authorization": aiohttp.encode_basic_auth("keycloak", SECRET + "x")}, 401, "a longer password"),
        ({"Authorization": "Basic " + SECRET}, 401, "Basic without its encoding"),
        ({"Authorization": "Digest " + SECRET}, 401, "another scheme"),
        ({"X-API-Key": SECRET}, 401, "in a header that no setting names"),
        ({"Authorization": "Bearer reader"}, 403, "a token without the scope"),
    ],
)
async def test_a_webhook_is_let_in_by_its_secret_or_a_scope(
    make_site: MakeSite, tmp_path: Path, headers: dict[str, str], status: int, why: str
) -> None:
    tokens = by_file(tmp_path, listed("writer", scopes=["events:write"]), listed("reader", scopes=["stats:read"]))
    site = await make_site(**tokens, **SECRETS)
    for source, body in (("keycloak", KEYCLOAK), ("auth0", AUTH0), ("fusionauth", FUSIONAUTH)):
        answer = await site.send(body, f"/v1/ingest/{source}", headers=headers)
        assert answer.status == status, why
        assert status == 202 or answer.headers["Content-Type"] == "application/problem+json"
    assert len(site.holds("login")) == (3 if status == 202 else 0)


async def test_a_setting_names_the_header_of_the_secret(make_site: MakeSite, tmp_path: Path) -> None:
    tokens = by_file(tmp_path, listed("writer", scopes=["events:write"]))
    site = await make_site(**tokens, **SECRETS, ingest_secret_header="X-API-Key")
    for header, status in (("x-api-key", 202), ("Authorization", 202), ("X-Webhook-Secret", 401)):
        assert (await site.send(KEYCLOAK, "/v1/ingest/keycloak", headers={header: SECRET})).status == status, header


VYMALO = {"realmId": "acme", "id": "f1", "clientId": "web", "userId": "7d0a", "ipAddress": "192.0.2.1"}


async def test_a_listener_with_basic_authentication_and_a_base_url_is_accepted(
    make_site: MakeSite, tmp_path: Path
) -> None:
    # keycloak-webhook posts to its base URL with a slash appended, with the fields of its OpenAPI document.
    site = await make_site(**by_file(tmp_path, listed("writer", scopes=["events:write"])), **SECRETS)
    body = VYMALO | {"type": "LOGIN", "time": int(time.time() * 1000), "details": {"auth_method": "openid-connect"}}
    headers = {"Authorization": aiohttp.encode_basic_auth("keycloak", SECRET)}
    answer = await site.send(body, "/v1/ingest/keycloak/", headers=headers)
    assert (answer.status, answer.json["accepted"]) == (202, 1)
    admin = VYMALO | {"type": "USER-CREATE", "time": int(time.time() * 1000), "resourcePath": "users/7d0a"}
    answer = await site.send(admin, "/v1/ingest/keycloak/", headers=headers)
    assert (answer.status, answer.json["ignored"]) == (202, 1)


async def test_a_webhooks_secret_opens_nothing_else(make_site: MakeSite, tmp_path: Path) -> None:
    site = await make_site(
        **by_file(tmp_path, listed("writer", scopes=["events:write"])), ingest_keycloak_secret=SECRET
    )
    for path in ("/v1/events", "/v1/ingest/auth0"):
        answer = await site.send(LOGIN, path, headers={"X-Webhook-Secret": SECRET})
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="authtally"')
    assert (await site.send(LOGIN, token=SECRET)).status == 401
    assert (await site.send(LOGIN, token="writer")).status == 202
