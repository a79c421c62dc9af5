"""AUTH=none: other web sites cannot use a visitor's browser to read, delete or send."""

from __future__ import annotations

import json
from typing import Any, Final

import aiohttp
import pytest

from tests.api.conftest import Api, Serve
from tests.api.issuer import token
from tests.api.otp import state, write
from tests.api.sources import by_jwt

DELETE: Final = "/reporting/delete_all?status=*"
EVENT: Final = {"type": "login", "time": "2026-11-20T10:00:00Z", "user_id": "ada"}
PRIVATE: Final = (
    "/v1/overview",
    "/jans-auth/restv1/internal/stat?month=202611",
    "/oxauth/restv1/internal/stat?month=202611",
    "/api/v2/stats/active-users",
    "/reporting/maximum",
    "/admin/getsession",
    "/openapi.json",
)
OPEN: Final = ("/health/live", "/metrics", "/", "/dashboard/config.json")

OTHER_SITES: Final[list[tuple[dict[str, str], str]]] = [
    ({"Sec-Fetch-Site": "cross-site"}, "an image or a link of another site"),
    ({"Sec-Fetch-Site": "same-site"}, "another port of this host"),
    ({"Sec-Fetch-Site": "CROSS-SITE"}, "in capitals"),
    ({"Sec-Fetch-Site": "unheard-of"}, "a value that we do not know"),
    ({"Origin": "https://attacker.example"}, "a script of another site"),
    ({"Origin": "null"}, "a sandboxed frame, or a file"),
    ({"Origin": "http://127.0.0.1:1"}, "another port"),
    ({"Origin": "http://["}, "an origin that is none"),
    ({"Origin": "https://attacker.example", "Sec-Fetch-Site": "same-origin"}, "headers that disagree"),
]
REBOUND: Final[list[tuple[str, str]]] = [
    ("attacker.example", "a name that its owner points to 127.0.0.1"),
    ("attacker.example:8080", "with a port"),
    ("ATTACKER.EXAMPLE.", "in capitals, with the root's dot"),
    ("127.0.0.1.attacker.example", "a name that begins like an address"),
    ("localhost.attacker.example", "a name that begins like this host's"),
    ("127.0.0.1@attacker.example", "a user that looks like an address"),
    ("[::1].attacker.example", "brackets"),
]
OWN: Final[list[dict[str, str]]] = [
    {},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Host": "localhost:8080"},
    {"Host": "api:8080"},
    {"Host": "[::1]:8080"},
    {"Host": "192.0.2.7"},
    {"Host": "stats.localhost"},
    {"Host": "stats.example.com:8080"},
    {"Host": "stats.example.com", "Origin": "https://stats.example.com", "Sec-Fetch-Site": "same-origin"},
]
SETTINGS: Final[dict[str, Any]] = {"auth_none_hosts": "stats.example.com", "gluu_interval_s": 0}


@pytest.fixture
async def api(serve: Serve, redis_url: str) -> Api:
    return await serve(redis_url=redis_url, **SETTINGS)


@pytest.mark.parametrize("path", PRIVATE)
async def test_other_sites_are_refused(api: Api, path: str) -> None:
    for headers, why in OTHER_SITES:
        assert (await api.get(path, headers=headers)).status == 403, why
    for host, why in REBOUND:
        assert (await api.get(path, headers={"Host": host})).status in (400, 403), why
    for headers in OWN:
        assert (await api.get(path, headers=headers)).status == 200, headers


@pytest.mark.parametrize("path", OPEN)
async def test_what_holds_no_figures_is_open(api: Api, path: str) -> None:
    assert (await api.get(path, headers={"Sec-Fetch-Site": "cross-site", "Host": "api.monitoring.svc"})).status == 200


async def test_with_tokens_a_site_gains_nothing_so_nothing_is_refused(
    serve: Serve, redis_url: str, issuer: Any
) -> None:

    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Host": "attacker.example"}):
        answer = await api.get("/jans-auth/restv1/internal/stat?month=202611", token(), headers=headers)
        assert answer.status == 200


async def test_deletes_need_their_own_setting(serve: Serve, redis_url: str) -> None:
    await write(redis_url, [state("2026-11-20T10:00:00Z", "1", "token_init", "acme")])
    closed = await serve(redis_url=redis_url, auth_none_writes=False)
    for path in (DELETE, "/reporting/delete_before?date=2026-12-01&status=*"):
        answer = await closed.get(path)
        assert answer.json["result"]["status"] is False
        assert "AUTHTALLY_AUTH_NONE_WRITES" in answer.text
        answer = await closed.post(path, "")
        assert "AUTHTALLY_AUTH_NONE_WRITES" in answer.text
    opened = await serve(redis_url=redis_url, auth_none_writes=True)
    assert (await opened.get(DELETE, headers={"Sec-Fetch-Site": "cross-site"})).status == 403
    assert (await closed.get("/reporting/maximum")).json["result"]["value"]["acme"]["total"] == 1, "nothing is deleted"
    assert (await opened.get(DELETE)).json["result"]["value"] > 0


async def test_events_need_their_own_setting_or_the_webhooks_secret(serve: Serve, redis_url: str) -> None:
    given = {"ingest": True, "kafka_bootstrap_servers": "127.0.0.1:1", "ingest_timeout_s": 0.2}
    secret = "s" * 8 + "0123456789"
    closed = await serve(redis_url=redis_url, auth_none_writes=False, ingest_auth0_secret=secret, **given)
    opened = await serve(redis_url=redis_url, auth_none_writes=True, **given)
    async with aiohttp.ClientSession() as session:

        async def send(api: Api, path: str, **headers: str) -> int:
            headers = {"Content-Type": "application/json", **headers}
            async with session.post(api.url + path, data=json.dumps([EVENT]), headers=headers) as answer:
                text = await answer.text()
                assert answer.status != 403 or "AUTHTALLY_AUTH" in text
                return answer.status

        for path in ("/v1/events", "/v1/ingest/keycloak", "/v1/ingest/auth0", "/v1/ingest/fusionauth"):
            assert await send(closed, path) == 403, path
            assert await send(opened, path, Origin="https://attacker.example") == 403
            assert await send(opened, path, **{"Content-Type": "text/plain", "Sec-Fetch-Site": "cross-site"}) == 403
        assert await send(closed, "/v1/ingest/auth0", Authorization=secret) != 403, "the product authenticates itself"
        assert await send(opened, "/v1/events") == 503, "accepted, but here is no Kafka"
