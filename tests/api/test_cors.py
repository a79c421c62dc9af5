"""Pages of other origins: CORS_ORIGINS decides which may call the api from a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import hdrs

from api.settings.settings import ApiSettings
from schemas.settings import SettingsError, read
from tests.api.conftest import Api, Serve
from tests.api.sources import by_file, listed

APP: Final = "https://app.example.com"
OTHER: Final = "https://evil.example"
OVERVIEW: Final = "/v1/overview"
PREFLIGHT: Final = {
    hdrs.ACCESS_CONTROL_REQUEST_METHOD: "GET",
    hdrs.ACCESS_CONTROL_REQUEST_HEADERS: "authorization",
}


@pytest.fixture
async def settings(redis_url: str, tmp_path: Path) -> dict[str, Any]:
    return {"redis_url": redis_url} | by_file(tmp_path, listed("reader", scopes=["stats:read"]))


async def preflight(api: Api, origin: str, path: str = OVERVIEW) -> tuple[int, dict[str, str]]:
    headers = {hdrs.ORIGIN: origin, **PREFLIGHT}
    async with api._session.options(api.url + path, headers=headers) as response:
        return response.status, {name: value for name, value in response.headers.items() if "Access-" in name}


def allowed(headers: Any) -> str | None:
    assert hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS not in headers, "a cookie must not work from another origin"
    origin: str | None = headers.get(hdrs.ACCESS_CONTROL_ALLOW_ORIGIN)
    return origin


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        (OVERVIEW, "reader", 200),
        (OVERVIEW, "unknown", 401),
        (f"{OVERVIEW}?from=x", "reader", 400),
        ("/v1/nothing", "reader", 404),
        ("/jans-auth/restv1/internal/stat?month=202611", "reader", 401),
        ("/dashboard/0123456789abcdef/nothing.js", "reader", 404),
    ],
)
async def test_answers_and_errors_name_the_origin(
    serve: Serve, settings: dict[str, Any], path: str, token: str, status: int
) -> None:
    api = await serve(cors_origins=(APP, "http://localhost:3000"), **settings)
    for _ in range(2):
        answer = await api.get(path, token, {hdrs.ORIGIN: APP})
        assert (answer.status, allowed(answer.headers)) == (status, APP)
        assert hdrs.ORIGIN in answer.headers[hdrs.VARY], "a shared cache must not give it to another origin"
        assert "Retry-After" in answer.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS]
    refused = await api.get(path, token, {hdrs.ORIGIN: OTHER})
    assert (refused.status, allowed(refused.headers)) == (status, None)
    assert hdrs.ORIGIN in refused.headers[hdrs.VARY]


async def test_a_preflight_needs_no_token(serve: Serve, settings: dict[str, Any]) -> None:
    api = await serve(cors_origins=(APP,), **settings)
    status, headers = await preflight(api, APP)
    assert status == 204
    assert headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == APP
    assert headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] == "GET, HEAD"
    assert "Authorization" in headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS]
    assert hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS not in headers
    assert hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in (await preflight(api, OTHER))[1]
    assert (await preflight(api, APP, "/v1/nothing"))[0] == 404


async def test_any_origin(serve: Serve, settings: dict[str, Any]) -> None:
    api = await serve(cors_origins=("*",), **settings)
    answer = await api.get(OVERVIEW, "reader", {hdrs.ORIGIN: OTHER})
    assert (answer.status, allowed(answer.headers)) == (200, "*")
    assert (await preflight(api, OTHER))[1][hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == "*"


async def test_by_default_no_other_origin(serve: Serve, settings: dict[str, Any]) -> None:
    api = await serve(**settings)
    answer = await api.get(OVERVIEW, "reader", {hdrs.ORIGIN: APP})
    assert (answer.status, allowed(answer.headers)) == (200, None)
    assert (await preflight(api, APP))[0] == 405


@pytest.mark.parametrize(
    "origins", ["https://app.example.com/", "app.example.com", "*,https://app.example.com", "null", "ftp://x"]
)
def test_a_bad_origin_is_a_fault_of_its_setting(monkeypatch: pytest.MonkeyPatch, origins: str) -> None:
    monkeypatch.setenv("AUTHTALLY_AUTH", "none")
    monkeypatch.setenv("AUTHTALLY_CORS_ORIGINS", origins)
    with pytest.raises(SettingsError, match="AUTHTALLY_CORS_ORIGINS"):
        read(ApiSettings)
