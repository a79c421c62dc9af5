"""Bearers of the own surface: who needs which scope, what one limited to realms sees, and never another's answer."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.api.conftest import Api, Clock, Serve
from tests.api.issuer import Issuer
from tests.api.issuer import token as jwt
from tests.api.sources import by_file, by_jwt, listed
from tests.api.worker import account, count, login, token

NOW = "2026-11-20T12:00:00Z"
KEPT: dict[str, Any] = {"users_by": ("realm", "client", "node"), "counts_by": ("realm", "client", "node")}
READ = ["stats:read", "metrics:read", "jans_stat", "read:stats"]


def of(realm: str, *users: str) -> list[Any]:
    of_realm = {"realm": realm, "client_id": "web", "node": "as1"}
    return [
        *(login(NOW, user, **of_realm) for user in users),
        *(login(NOW, user, **{**of_realm, "success": False}) for user in users),
        *(token(NOW, "client_credentials", "access_token", **of_realm) for _ in users),
        *(account(NOW, "signup", realm=realm) for _ in users),
    ]


@pytest.fixture
async def api(serve: Serve, redis_url: str, clock: Clock, tmp_path: Path) -> Api:
    clock.now = datetime.fromisoformat("2026-11-20T13:00:00Z").timestamp()
    strangers = [login(NOW, "nobody", success=False, realm="typo", client_id="typo")]
    events = [*of("acme", "ada", "bob", "cyd"), *of("globex", "ada", "eve", "fay", "gus", "hal"), *strangers]
    await count(redis_url, [*events, login(NOW, "realmless")], partitions=1, **KEPT)
    tokens = by_file(
        tmp_path,
        listed("all", scopes=READ),
        listed("acme", scopes=READ, realms=["acme"]),
        listed("globex", scopes=READ, realms=["globex"]),
        listed("both", scopes=READ, realms=["globex", "acme"]),
        listed("other", scopes=READ, realms=["__other__"]),
        listed("none", scopes=READ, realms=[]),
        listed("reader", scopes=["stats:read"]),
        listed("scraper", scopes=["metrics:read"]),
    )
    shared = redis_url.removesuffix("0") + "1"
    with redis.Redis.from_url(shared) as server:
        server.flushdb()
    return await serve(redis_url=redis_url, cache_redis_url=shared, **KEPT, **tokens)


async def get(api: Api, path: str, principal: str) -> Any:
    answer = await api.get(path, principal)
    assert answer.status == 200, answer.text
    return answer.json


MONTH = "granularity=month&from=2026-11-01"
SEEN = {
    f"/v1/active-users?{MONTH}": {"all": 8, "acme": 3, "globex": 5, "both": 7, "other": 0, "none": 0},
    f"/v1/active-users?{MONTH}&client_id=web": {"all": 7, "acme": 3, "globex": 5, "both": 7, "other": 0, "none": 0},
    f"/v1/active-users?{MONTH}&realm=globex": {"all": 5, "acme": 0, "globex": 5, "both": 5, "other": 0, "none": 0},
    f"/v1/active-users?{MONTH}&realm=globex&client_id=web": {"all": 5, "acme": 0, "globex": 5, "none": 0},
    f"/v1/active-users?{MONTH}&realm=__other__": {"all": 0, "other": 0, "acme": 0},
    f"/v1/logins?{MONTH}": {"all": 9, "acme": 3, "globex": 5, "both": 8, "other": 0, "none": 0},
    f"/v1/logins?{MONTH}&client_id=web": {"all": 8, "acme": 3, "globex": 5, "both": 8, "none": 0},
    f"/v1/tokens?{MONTH}": {"all": 8, "acme": 3, "globex": 5, "both": 8, "other": 0, "none": 0},
    f"/v1/accounts?{MONTH}": {"all": 8, "acme": 3, "globex": 5, "both": 8, "other": 0, "none": 0},
    f"/v1/accounts?{MONTH}&realm=acme": {"all": 3, "acme": 3, "globex": 0, "both": 3, "none": 0},
}
MEASURES = {"active-users": "value", "logins": "succeeded", "tokens": "tokens", "accounts": "events"}


@pytest.mark.parametrize("path", SEEN)
async def test_each_sees_its_realms_and_their_union_and_never_the_answer_of_another(api: Api, path: str) -> None:
    measure = MEASURES[path.removeprefix("/v1/").partition("?")[0]]
    for _ in range(2):
        for principal, expected in SEEN[path].items():
            (item,) = (await get(api, path, principal))["items"]
            assert item[measure] == expected, principal


@pytest.mark.parametrize("form", ["json", "csv"])
async def test_an_etag_of_another_is_not_ones_own(api: Api, form: str) -> None:
    path = f"/v1/logins?{MONTH}&format={form}"
    tags = {principal: (await api.get(path, principal)).headers["ETag"] for principal in ("all", "acme", "globex")}
    assert len(set(tags.values())) == 3
    crossed = await api.get(path, "acme", {"If-None-Match": tags["globex"]})
    assert crossed.status == 200


async def test_groups_are_of_ones_own_realms(api: Api) -> None:
    async def realms(path: str, principal: str) -> list[str]:
        return [item["realm"] for item in (await get(api, f"/v1/{path}?{MONTH}&group_by=realm", principal))["items"]]

    assert await realms("active-users", "all") == ["globex", "acme"]
    assert await realms("logins", "all") == ["globex", "acme", "typo"]
    assert await realms("logins", "acme") == ["acme"]
    assert await realms("logins", "other") == []
    assert await realms("tokens", "none") == []
    clients = await get(api, f"/v1/logins?{MONTH}&group_by=client_id", "acme")
    assert [(item["realm"], item["client_id"]) for item in clients["items"]] == [("acme", "web")]
    everyones = await get(api, f"/v1/logins?{MONTH}&group_by=client_id", "all")
    assert ("typo", "__other__") in [(item["realm"], item["client_id"]) for item in everyones["items"]]
    clients = await get(api, f"/v1/active-users?{MONTH}&group_by=client_id", "globex")
    assert [(item["realm"], item["value"]) for item in clients["items"]] == [("globex", 5)]


async def test_overview_usage_and_gauges_are_of_ones_own_realms(api: Api) -> None:
    for principal, (users, logins, failed) in {"all": (8, 9, 9), "acme": (3, 3, 3), "none": (0, 0, 0)}.items():
        result = await get(api, "/v1/overview", principal)
        assert (result["dau"]["value"], result["mau"]["value"], result["months"][-1]["value"] or 0) == (users,) * 3
        day = result["activity"]["day"]
        assert (day["logins"]["value"], day["failed_logins"]["value"]) == (logins, failed)
        gauges = (await api.get("/v1/metrics", principal)).text
        assert f'authtally_active_users{{period="month"}} {users}.0' in gauges
    usage = await get(api, "/v1/m2m", "acme")
    assert (usage["tenant"]["used"], [row["realm"] for row in usage["items"]]) == (3, ["acme"])
    assert usage["active_clients"]["value"] == 1
    assert (await get(api, "/v1/m2m?realm=globex", "acme"))["items"] == []
    assert (await get(api, "/v1/m2m?realm=globex", "acme"))["tenant"]["used"] == 0


@pytest.mark.parametrize(
    "path",
    ["/v1/pipeline", "/v1/active-users?node=as1", "/v1/active-users?group_by=node", "/v1/logins?node=as1"],
)
async def test_what_is_of_all_realms_is_closed_to_who_sees_some(api: Api, path: str) -> None:
    for principal in ("acme", "none"):
        answer = await api.get(path, principal)
        assert (answer.status, answer.json["status"]) == (403, 403)
    assert (await api.get(path, "all")).status == 200


ROUTES = ("active-users", "overview", "logins", "tokens", "accounts", "m2m", "pipeline")


@pytest.mark.parametrize("route", [*ROUTES, "metrics"])
async def test_each_route_asks_for_its_scope(api: Api, route: str) -> None:
    good, bad = ("scraper", "reader") if route == "metrics" else ("reader", "scraper")
    assert (await api.get(f"/v1/{route}", good)).status == 200
    refused = await api.get(f"/v1/{route}", bad)
    assert (refused.status, refused.headers["Content-Type"]) == (403, "application/problem+json")
    for unknown in ("stranger", None):
        answer = await api.get(f"/v1/{route}", unknown)
        assert (answer.status, answer.json["status"]) == (401, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("route", ROUTES)
async def test_where_realms_are_not_kept_who_sees_some_sees_nothing(
    serve: Serve, redis_url: str, tmp_path: Path, route: str
) -> None:
    tokens = by_file(tmp_path, listed("acme", scopes=READ, realms=["acme"]))
    api = await serve(redis_url=redis_url, users_by=("client",), counts_by=("client",), **tokens)
    assert (await api.get(f"/v1/{route}", "acme")).status == 403


async def test_a_claim_limits_too(serve: Serve, redis_url: str, issuer: Issuer) -> None:
    await count(redis_url, [*of("acme", "ada"), *of("globex", "bob", "eve")], **KEPT)
    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    path = f"/v1/active-users?{MONTH}"
    (item,) = (await get(api, path, jwt(scope="stats:read", realms=["globex"])))["items"]
    assert item["value"] == 2
    (item,) = (await get(api, path, jwt(scope="stats:read")))["items"]
    assert item["value"] == 3
