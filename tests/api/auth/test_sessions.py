"""Sessions of reporting: opened by a bearer, good only where cookie and parameter agree, ended by time or by wish."""

from __future__ import annotations

from http.cookies import SimpleCookie
from pathlib import Path

import pytest
import redis

from deploy.demo.servers import Valkey
from tests.api.conftest import Answer, Api, Clock, Serve
from tests.api.issuer import Issuer
from tests.api.issuer import token as jwt
from tests.api.otp import state, write
from tests.api.sources import by_file, by_jwt, listed

ASKED = "/reporting/maximum"


@pytest.fixture
def bearers(tmp_path: Path) -> dict[str, object]:
    return by_file(
        tmp_path,
        listed("admin", scopes=["reporting"]),
        listed("acme", scopes=["reporting"], realms=["acme"]),
        listed("reader", scopes=["stats:read"]),
    )


@pytest.fixture
async def api(serve: Serve, redis_url: str, bearers: dict[str, object]) -> Api:
    return await serve(redis_url=redis_url, **bearers)


def cookie_of(answer: Answer) -> str:
    (morsel,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert morsel.key == "admin_session"
    return morsel.value


async def opened(api: Api, principal: str = "admin") -> str:
    answer = await api.get("/admin/getsession", principal)
    assert (answer.status, answer.json["result"]) == (200, {"status": True, "value": True})
    return cookie_of(answer)


async def ask(api: Api, cookie: str | None, session: str | None, path: str = ASKED) -> Answer:
    headers = {} if cookie is None else {"Cookie": f"admin_session={cookie}"}
    return await api.get(path + ("" if session is None else f"?session={session}"), headers=headers)


async def test_a_session_asks_as_its_bearer(api: Api, redis_url: str) -> None:
    await write(redis_url, [state("2026-11-20T10:00:00Z", "1", "token_init", name) for name in ("acme", "globex")])
    session = await opened(api)
    assert len(session) == 64
    assert (await ask(api, session, session)).json["result"]["value"].keys() == {"acme", "globex"}
    limited = await opened(api, "acme")
    assert (await ask(api, limited, limited)).json["result"]["value"].keys() == {"acme"}


async def test_the_cookie_is_for_this_site_only(api: Api) -> None:
    answer = await api.get("/admin/getsession", "admin")
    said = answer.headers["Set-Cookie"].lower()
    for attribute in ("httponly", "samesite=strict", "path=/", "max-age=3600"):
        assert attribute in said
    assert answer.headers["Cache-Control"] == "no-store"


async def test_cookie_and_parameter_must_agree(api: Api) -> None:
    one, other = await opened(api), await opened(api)
    for cookie, session, why in (
        (one, None, "a cookie alone is sent by any site's link"),
        (None, one, "a parameter alone stands in logs"),
        (one, other, "two sessions"),
        (one, one[:-1], "a part"),
        ("", "", "nothing"),
        ("é", "%C3%A9", "no session's text"),
        ("0" * 64, "0" * 64, "never opened"),
        (None, None, "neither"),
    ):
        answer = await ask(api, cookie, session)
        assert answer.status == 401, why
        result = answer.json["result"]
        assert result == {"status": False, "error": {"code": -311, "message": "You have no valid session!"}}
    assert (await ask(api, one, one)).status == 200


async def test_only_a_bearer_with_the_scope_opens_one(api: Api) -> None:
    assert (await api.get("/admin/getsession")).status == 401
    assert (await api.get("/admin/getsession", "nobody")).status == 401
    answer = await api.get("/admin/getsession", "reader")
    assert (answer.status, answer.json["result"]["error"]["code"]) == (200, 410)
    session = await opened(api)
    renewed = await api.get(f"/admin/getsession?session={session}", headers={"Cookie": f"admin_session={session}"})
    assert renewed.status == 401, "a session does not renew itself forever"


async def test_it_ends_in_time(api: Api, clock: Clock) -> None:
    session = await opened(api)
    clock.now += 3599
    assert (await ask(api, session, session)).status == 200
    clock.now += 1
    assert (await ask(api, session, session)).status == 401


async def test_it_ends_with_its_token(serve: Serve, redis_url: str, issuer: Issuer, clock: Clock) -> None:
    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    session = await opened(api, jwt(scope="reporting", exp=clock.now + 120))
    clock.now += 100
    assert (await ask(api, session, session)).status == 200
    clock.now += 21
    assert (await ask(api, session, session)).status == 401


async def test_it_is_dropped(api: Api) -> None:
    session = await opened(api)
    assert (await ask(api, session, None, "/admin/dropsession")).status == 401, "not by another site"
    answer = await ask(api, session, session, "/admin/dropsession")
    assert (answer.status, cookie_of(answer)) == (200, "")
    assert (await ask(api, session, session)).status == 401


async def test_processes_share_sessions(serve: Serve, redis_url: str, bearers: dict[str, object], clock: Clock) -> None:
    shared = redis_url.removesuffix("0") + "1"
    one, other = [await serve(redis_url=redis_url, cache_redis_url=shared, **bearers) for _ in range(2)]
    session = await opened(one)
    assert (await ask(other, session, session)).status == 200
    with redis.Redis.from_url(shared) as server:
        (key,) = server.keys("*session:*")
        assert session.encode() not in key + server.get(key), "who reads the store has no session"
        assert 3500 < server.ttl(key) <= 3600
    await ask(other, session, session, "/admin/dropsession")
    assert (await ask(one, session, session)).status == 401


async def test_without_the_shared_store_no_session_is_known(
    serve: Serve, redis_url: str, bearers: dict[str, object]
) -> None:
    with Valkey() as store:
        api = await serve(redis_url=redis_url, cache_redis_url=store.url, **bearers)
        session = await opened(api)
        store.kill()
        answer = await ask(api, session, session)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json["result"]["status"] is False
        assert (await api.get("/admin/getsession", "admin")).status == 503
        assert (await api.get(ASKED, "admin")).status == 200, "a bearer needs no session"


async def test_sessions_of_one_process_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.auth.sessions.MAX_LOCAL", 3)
    sessions = [await opened(api) for _ in range(4)]
    answers = [(await ask(api, session, session)).status for session in sessions]
    assert answers == [401, 200, 200, 200], "the oldest went"


async def test_a_subject_ends_only_its_own_sessions(
    serve: Serve, redis_url: str, bearers: dict[str, object], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.auth.sessions.MAX_PER_SUBJECT", 3)
    monkeypatch.setattr("api.auth.sessions.MAX_LOCAL", 5)
    shared = {"cache_redis_url": redis_url.removesuffix("0") + "1"}
    for settings in ({}, shared):
        api = await serve(redis_url=redis_url, **bearers | settings)
        victim = await opened(api, "acme")
        attacker = []
        for _ in range(20):
            # The first to end goes first.
            clock.now += 0.001
            attacker.append(await opened(api, "admin"))
        assert (await ask(api, victim, victim)).status == 200, settings
        answers = [(await ask(api, session, session)).status for session in attacker]
        assert answers == [401] * 17 + [200] * 3, settings
    with redis.Redis.from_url(shared["cache_redis_url"]) as server:
        assert len(server.keys("*session:*")) == 4
        registers = server.keys("*sessions-of:*")
        assert sorted(map(server.zcard, registers)) == [1, 3]
        assert all(3500 < server.ttl(key) <= 3600 for key in registers)


async def test_full_of_sessions_the_subject_with_most_loses_one(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.auth.sessions.MAX_LOCAL", 4)
    victim = await opened(api, "acme")
    attacker = [await opened(api, "admin") for _ in range(3)]
    another = await opened(api, "acme")
    answers = [(await ask(api, session, session)).status for session in (victim, *attacker, another)]
    assert answers == [200, 401, 200, 200, 200]


@pytest.mark.parametrize(
    ("settings", "secure", "why"),
    [
        ({}, False, "loopback, where browsers and tools use http"),
        ({"api_host": "0.0.0.0"}, True, "others reach it, by a proxy with TLS"),
        ({"api_host": "stats.example.com"}, True, "a name"),
        ({"api_host": "::1"}, False, "loopback of IPv6"),
        ({"api_host": "0.0.0.0", "reporting_cookie_secure": "off"}, False, "by the setting"),
        ({"reporting_cookie_secure": "on"}, True, "by the setting: a proxy on this machine"),
    ],
)
async def test_the_cookie_is_for_https_off_loopback(
    serve: Serve, redis_url: str, bearers: dict[str, object], settings: dict[str, object], secure: bool, why: str
) -> None:
    api = await serve(redis_url=redis_url, **bearers | settings)
    answer = await api.get("/admin/getsession", "admin")
    assert ("; secure" in answer.headers["Set-Cookie"].lower()) is secure, why


async def test_where_anybody_may_ask_no_session_is_needed(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url)
    assert (await ask(api, None, "45e939b02")).status == 200
    session = await opened(api, "anybody")
    assert (await ask(api, session, session)).status == 200
