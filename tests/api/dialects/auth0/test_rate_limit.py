"""The rate limit of `/api/v2/stats`, and its headers."""

from __future__ import annotations

from pathlib import Path

from deploy.demo.servers import Valkey
from tests.api.conftest import Answer, Clock, Serve
from tests.api.dialects.auth0.conftest import ACTIVE, DAILY, READ
from tests.api.sources import by_file, listed


def limits(answer: Answer) -> tuple[int, list[int]]:
    return answer.status, [int(answer.headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining", "reset")]


async def test_every_answer_has_what_is_left(serve: Serve, redis_url: str, clock: Clock, tmp_path: Path) -> None:
    tokens = by_file(tmp_path, listed("one", scopes=READ), listed("two", scopes=READ))
    api = await serve(redis_url=redis_url, auth0_rate_limit=3, auth0_rate_per_s=0.5, **tokens)
    now = int(clock.now)
    # The second one is cached, the third a refusal, and both questions take from one bucket.
    assert limits(await api.get(ACTIVE, "one")) == (200, [3, 2, now + 2])
    assert limits(await api.get(ACTIVE, "one")) == (200, [3, 1, now + 4])
    assert limits(await api.get(f"{DAILY}?from=1", "one")) == (400, [3, 0, now + 6])
    refused = await api.get(ACTIVE, "one")
    assert limits(refused) == (429, [3, 0, now + 6])
    assert refused.headers["Retry-After"] == "2"
    assert refused.json == {
        "statusCode": 429,
        "error": "Too Many Requests",
        "message": "Too many requests. Check the X-RateLimit-Limit, X-RateLimit-Remaining and X-RateLimit-Reset "
        "headers.",
        "errorCode": "too_many_requests",
    }
    assert (await api.get(ACTIVE, "two")).status == 200
    clock.now += 2
    assert limits(await api.get(ACTIVE, "one")) == (200, [3, 0, now + 8])


async def test_bad_tokens_of_one_address_are_limited_too(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    tokens = by_file(tmp_path, listed("good", scopes=READ))
    api = await serve(redis_url=redis_url, auth0_rate_limit=2, auth0_rate_per_s=0.5, **tokens)
    assert [(await api.get(ACTIVE, f"guess{number}")).status for number in range(4)] == [401, 401, 429, 429]
    assert (await api.get(ACTIVE, "good")).status == 200


async def test_processes_share_a_limit(serve: Serve, redis_url: str) -> None:
    shared = {"redis_url": redis_url, "cache_redis_url": f"{redis_url.removesuffix('0')}1"}
    apis = [await serve(auth0_rate_limit=4, auth0_rate_per_s=0.001, **shared) for _ in range(2)]
    statuses = [(await api.get(ACTIVE)).status for _ in range(3) for api in apis]
    assert statuses == [200, 200, 200, 200, 429, 429]


async def test_a_dead_shared_store_limits_no_less_and_fails_nothing(serve: Serve, redis_url: str) -> None:
    with Valkey() as store:
        api = await serve(redis_url=redis_url, cache_redis_url=store.url, auth0_rate_limit=2, auth0_rate_per_s=0.001)
        store.kill()
        assert [(await api.get(ACTIVE)).status for _ in range(3)] == [200, 200, 429]


async def test_no_limit_has_no_headers(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url, auth0_rate_limit=0)
    answer = await api.get(ACTIVE)
    assert answer.status == 200
    assert not [name for name in answer.headers if name.lower().startswith("x-ratelimit")]
