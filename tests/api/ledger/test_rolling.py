"""Trailing windows count what the same windows do one by one, few or many, alone and in a Cluster."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from api.dialects.own import window
from tests.api.conftest import Api, Clock, Serve
from tests.api.own_sample import NOON, query_api, values
from tests.api.worker import count, login

DAYS = [f"2026-11-{day:02}" for day in range(1, 21)]


def users_of(number: int, each: int) -> list[Any]:
    """Every day half of the users of the day before, and as many new ones."""
    return [
        login(day + NOON, f"u{(place * each) // 2 + n}") for place, day in enumerate(DAYS[:number]) for n in range(each)
    ]


@pytest.fixture
def clock(clock: Clock) -> Clock:
    clock.now = 1_795_176_000.0  # 2026-11-20T12:00:00Z
    return clock


async def same(api: Api, trailing: int) -> None:
    trailed = await query_api(api, f"/v1/active-users?from={DAYS[8]}&to={DAYS[-1]}&trailing={trailing}")
    for item in trailed["items"]:
        whole = await query_api(api, f"/v1/active-users?granularity=range&from={item['from']}&to={item['to']}")
        (one,) = whole["items"]
        assert (item["value"], item["exact"]) == (one["value"], one["exact"]), item


@pytest.mark.parametrize("trailing", [2, 7])
async def test_few_are_counted_one_by_one(serve: Serve, redis_url: str, clock: Clock, trailing: int) -> None:
    await count(redis_url, users_of(20, 10))
    await same(await serve(redis_url=redis_url), trailing)


@pytest.mark.parametrize(
    ("counted", "read", "why"),
    [
        (4096, 30, "days of few, windows of many"),
        (4096, 5, "days of many that the ledger has one by one"),
        (4, 4096, "days that the ledger has as sketches"),
    ],
)
async def test_many_are_estimated(
    serve: Serve, redis_url: str, clock: Clock, counted: int, read: int, why: str
) -> None:
    await count(redis_url, users_of(20, 24), exact_up_to=counted)
    await same(await serve(redis_url=redis_url, exact_up_to=read), 7)


async def test_nothing_is_left_behind(serve: Serve, redis_url: str, clock: Clock) -> None:
    await count(redis_url, users_of(20, 24), exact_up_to=4)
    api = await serve(redis_url=redis_url)
    with redis.Redis.from_url(redis_url) as server:
        before = set(server.scan_iter())
        assert len(values(await query_api(api, f"/v1/active-users?from={DAYS[0]}&trailing=30"))) == 20
        assert set(server.scan_iter()) == before


@pytest.mark.parametrize("few", [4, 4096])
async def test_a_cluster_answers_the_same(serve: Serve, cluster: str, clock: Clock, few: int) -> None:
    with redis.RedisCluster.from_url(cluster) as server:
        server.flushall()
    await count(cluster, users_of(20, 24), redis_cluster=True, exact_up_to=few)
    await same(await serve(redis_url=cluster, redis_cluster=True, exact_up_to=few), 7)


def test_the_bounds_fit_what_the_dashboard_asks() -> None:
    assert window.MAX_UNITED_DAYS >= 92 * 30
