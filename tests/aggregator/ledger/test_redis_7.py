"""Redis 7, as Debian ships it, holds the same ledger as Valkey."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from deploy.demo.servers import Valkey
from tests.aggregator import ledgers
from tests.aggregator.counting import Counting
from tests.aggregator.inventories import SHARD, Inventories, log, state
from tests.aggregator.logs import logins
from tests.api.otp import COUNTS, TOPICS


@pytest.fixture(scope="module")
def redis_7(redis_7_binary: Path) -> Iterator[Valkey]:
    with Valkey(binary=redis_7_binary) as server:
        yield server


@pytest.fixture
def redis_7_url(redis_7: Valkey) -> str:
    """The URL of an empty database."""
    with ledgers.client(redis_7.url) as client:
        client.flushall()
    return redis_7.url


async def test_a_log_leaves_the_same_ledger_on_either_server(redis_url: str, redis_7_url: str) -> None:
    log, _ = logins(11, 2_000, ZoneInfo("UTC"))
    found = []
    for url in (redis_url, redis_7_url):
        async with Counting(url, exact_up_to=100) as counter:
            await counter.open()
            await counter.count_cut(log, [300, 301, 900])
        with ledgers.client(url) as client:
            found.append(ledgers.contents(client))
    assert found[0] == found[1]
    assert any(":users:" in key for key in found[0])


async def test_an_inventory_leaves_the_same_ledger_on_either_server(redis_url: str, redis_7_url: str) -> None:
    """Tokens' states with late ones and deletes among them, and counts of another system; several chunks of rows."""
    chance = random.Random(7)
    states = log([changed(chance, number) for number in range(1500)])
    counts = log([counted(number) for number in range(700)])
    found = []
    for url in (redis_url, redis_7_url):
        for shard, events in ((SHARD, states), (COUNTS, counts)):
            async with Inventories(url, shard, topics=TOPICS) as counter:
                await counter.open()
                await counter.count_cut(events, [1, 300, 650])
        with ledgers.client(url) as client:
            found.append(ledgers.contents(client))
    assert found[0] == found[1]
    assert any(":otp:rows:" in key for key in found[0])
    assert any(":otp:given:" in key for key in found[0])


def changed(chance: random.Random, number: int) -> dict[str, object]:
    late = chance.randrange(90_000) if chance.random() < 0.05 else 0
    time = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=60 * number - late)
    user = {"user_id": f"user-{chance.randrange(90)}"} if chance.random() < 0.7 else {}
    deleted = chance.random() < 0.02
    realm = chance.choice(("acme", "globex"))
    return state(time.isoformat(), str(chance.randrange(400)), "token_init", realm, deleted=deleted, **user)


def counted(number: int) -> dict[str, object]:
    time = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=number)
    return {"time": time.isoformat(), "realm": "acme", "event": "token_init", "status": "total", "count": number}
