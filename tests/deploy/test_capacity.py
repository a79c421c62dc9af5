"""The capacity page shows the results of its formula, and the formula those of a real store."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy import capacity
from schemas.ledger.accuracy import K_MONTHS, K_OTHERS
from schemas.ledger.keys import ShardKeys
from tests.aggregator.counting import Counting
from tests.aggregator.logs import record

PAGE = (Path(__file__).parents[2] / "docs/capacity.md").read_text(encoding="utf-8")
BATCH = 16_384


@pytest.mark.parametrize("table", [capacity.memory_table, capacity.periods_table, capacity.sites_table])
def test_its_tables_are_those_of_the_formula(table: Any) -> None:
    assert table() in PAGE


def test_its_internet_scale_is_that_of_the_formula() -> None:
    site = capacity.INTERNET
    assert round(site.events_per_s * site.peak / 1e6, 1) == 5.0
    assert f"two topics: {site.shards} shards" in PAGE
    assert f"{site.workers} workers" in PAGE
    assert f"| ledger | {capacity.size(site.bytes)}:" in PAGE


@pytest.mark.parametrize("users", [1, 10, 300, 4_000, 6_000, 20_000])
async def test_a_shard_takes_what_the_formula_says(redis_url: str, users: int) -> None:
    event = {"time": "2026-11-20T10:00:00Z", "realm": "acme", "client_id": "web"}
    async with Counting(redis_url) as counting:
        await counting.open()
        for start in range(0, users, BATCH):
            end = min(users, start + BATCH)
            await counting.count(
                [record(at, {**event, "user_id": f"user-{at}"}) for at in range(start, end)], start, end
            )
    client: Any = redis.Redis.from_url(redis_url)

    def held(pattern: str) -> int:
        return sum(int(client.memory_usage(key, samples=0)) for key in client.keys(f"*{pattern}:*"))

    for period, scope, k in (
        ("2026-11", "all", K_MONTHS),
        ("2026-11", "realm/acme", K_OTHERS),
        ("2026-11-20", "all", K_OTHERS),
        ("2026-11-20", "realm/acme", K_OTHERS),
    ):
        found = held(f"small:{period}:{scope}") + held(f"users:{period}:{scope}")
        assert found == pytest.approx(capacity.users_bytes(users, k), rel=0.12, abs=300), (period, scope)
    client.close()


@pytest.mark.parametrize("days", [1, 30, 140, 480, 560])
async def test_the_periods_of_a_shard_take_what_the_formula_says(redis_url: str, days: int) -> None:
    first = date(2024, 5, 1)
    log = [record(at, {"time": f"{first + timedelta(at)}T10:00:00Z", "user_id": "one"}) for at in range(days)]
    async with Counting(redis_url, retain_days="forever") as counting:
        await counting.open()
        await counting.count(log, 0, days)
        shard_keys = ShardKeys(counting.settings.key_prefix, counting.shard)
    client: Any = redis.Redis.from_url(redis_url)
    periods = client.zcard(shard_keys.index)
    assert periods == days + len({str(first + timedelta(at))[:7] for at in range(days)})
    for key, formula in ((shard_keys.changes, capacity.changes_bytes), (shard_keys.index, capacity.index_bytes)):
        assert client.memory_usage(key, samples=0) == pytest.approx(formula(periods), rel=0.12, abs=100), key
    client.close()


def test_more_of_anything_takes_more() -> None:
    for users in (10, 4_000, 9_000, 1_000_000):
        site = capacity.Site(users, realms=3, clients=30, partitions=2)
        for more in (
            capacity.Site(users, realms=6, clients=30, partitions=2),
            capacity.Site(users, realms=3, clients=60, partitions=2),
            capacity.Site(users, realms=3, clients=30, partitions=2, months=61),
        ):
            assert more.bytes > site.bytes
