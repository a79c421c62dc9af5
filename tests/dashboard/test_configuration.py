"""The page's configuration before sign-in, and which of its settings are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api.dashboard.configuration import connect_origins
from api.settings.settings import ApiSettings
from schemas.settings import SettingsError, read
from tests.dashboard.site import Site

PATH = "/dashboard/config.json"
pytestmark = pytest.mark.asyncio(loop_scope="session")

JWT: dict[str, Any] = {
    "auth": ("jwt",),
    "auth_issuer": "https://login.example.com/realms/main",
    "auth_audience": "statistics",
    "auth_jwks_url": "https://login.example.com/keys",
}


async def test_it_has_how_to_sign_in_and_what_is_kept(redis_url: str) -> None:
    async with Site(redis_url, dashboard_client_id="dashboard", timezone="Europe/Berlin", **JWT) as site:
        assert await site.get(PATH) == {
            "auth": ["jwt"],
            "sign_in": True,
            "openid": {
                "issuer": "https://login.example.com/realms/main",
                "client_id": "dashboard",
                "scope": "openid stats:read",
                "audience": "statistics",
                "origins": ["https://login.example.com"],
            },
            "timezone": "Europe/Berlin",
            "region": "",
            "users_by": ["realm", "client"],
            "counts_by": ["realm", "client"],
            "ingest": False,
            "kafka_topics": {
                "login": "auth.logins",
                "token": "auth.tokens",
                "account": "auth.accounts",
                "otp": "auth.otp-tokens",
            },
        }


async def test_without_access_control_no_one_signs_in(redis_url: str) -> None:
    async with Site(redis_url) as site:
        result = await site.get(PATH)
        assert (result["sign_in"], result["openid"]) == (False, None)


async def test_no_secret_is_returned(redis_url: str, tmp_path: Path) -> None:
    secrets = {
        "auth": ("jwt", "introspection"),
        "auth_introspection_url": "https://login.example.com/introspect",
        "auth_client_id": "the api's own client",
        "auth_client_secret": "its secret",
    }
    async with Site(redis_url, **JWT | secrets, dashboard_client_id="dashboard") as site:
        result = str(await site.get(PATH))
    assert "its secret" not in result
    assert "the api's own client" not in result
    assert "redis" not in result


@pytest.mark.parametrize(
    ("given", "setting", "sentence", "why"),
    [
        (
            {"auth": ("none",)},
            "CLIENT_ID",
            "lists neither jwt nor introspection",
            "no authenticator would accept its tokens",
        ),
        ({"auth_issuer": "main"}, "CLIENT_ID", "AUTH_ISSUER must be the http", "an issuer that cannot be gone to"),
        ({"dashboard_connect_origins": "https://a.example/token"}, "CONNECT_ORIGINS", "is not an origin", "a path"),
        (
            {"dashboard_connect_origins": "https://a.example;script-src"},
            "CONNECT_ORIGINS",
            "is not an origin",
            "a directive",
        ),
        ({"dashboard_connect_origins": "*"}, "CONNECT_ORIGINS", "is not an origin", "everybody"),
        ({"dashboard_connect_origins": "https://me@a.example"}, "CONNECT_ORIGINS", "is not an origin", "a user"),
    ],
)
async def test_settings_that_could_not_work_are_refused(
    given: dict[str, Any], setting: str, sentence: str, why: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        read(ApiSettings, **JWT | {"dashboard_client_id": "dashboard"} | given)
    (error,) = refused.value.errors
    assert error.startswith(f"AUTHTALLY_DASHBOARD_{setting}: "), why
    assert sentence in error


async def test_the_page_may_ask_the_issuer_only_where_people_sign_in_there() -> None:
    elsewhere = {"dashboard_connect_origins": "https://tokens.example.com, https://login.example.com"}
    assert connect_origins(read(ApiSettings, **JWT)) == ()
    assert connect_origins(read(ApiSettings, **JWT, **elsewhere, dashboard_client_id="dashboard")) == (
        "https://login.example.com",
        "https://tokens.example.com",
    )
