"""Which periods an api answers for: those that the index names, by the clock of the store that holds it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from api.ledger.client import open_ledger
from api.ledger.ledger_statistics import LedgerStatistics
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey
from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING
from schemas.settings import read
from tests.api.conftest import Api, Clock, Serve
from tests.api.ledger_writer import PREFIX, LedgerWriter
from tests.api.own_sample import query_api
from tests.api.worker import count, login
from tests.conftest import clustered

LOGINS = ShardKeys(PREFIX, Shard("auth.logins", 0))
IN_2100 = 4_102_444_800_000
DAY = "2026-11-20"
NOON = f"{DAY}T12:00:00Z"
HOUR_OF_2100 = IN_2100 // 3_600_000


@pytest.fixture
async def damaged(serve: Serve, redis_url: str, clock: Clock) -> Api:
    """A ledger as a format 1 worker left it after one record of 2100: each range prunes every day from the index."""
    clock.now = datetime.fromisoformat("2026-11-21T12:00:00+00:00").timestamp()
    await count(redis_url, [login(NOON, "ada", realm="acme"), login(NOON, "bob", realm="acme")], partitions=1)
    with redis.Redis.from_url(redis_url) as server:
        server.hset(LOGINS.progress, fields.LAST_RECORD, IN_2100)
        server.hset(LOGINS.ids, str(HOUR_OF_2100), 1)
        server.hset(LOGINS.record_times(DAY), fields.LAST, IN_2100)
        server.zremrangebyscore(LOGINS.index, "-inf", "+inf")
        assert server.exists(LOGINS.counts(DAY, EVERYTHING), LOGINS.counts("2026-11", EVERYTHING)) == 2
    return await serve(redis_url=redis_url)


@pytest.mark.parametrize("day", [DAY, "2026-11"])
async def test_periods_lost_from_the_index_are_found_by_their_keys(damaged: Api, day: str) -> None:
    granularity, first = ("day", day) if day == DAY else ("month", DAY)
    query = f"granularity={granularity}&from={first}&to={first}"
    (users,) = (await query_api(damaged, f"/v1/active-users?{query}"))["items"]
    (logins,) = (await query_api(damaged, f"/v1/logins?{query}&realm=acme"))["items"]
    assert (users["value"], logins["succeeded"]) == (2, 2)


@pytest.mark.parametrize(
    ("path", "expected", "why"),
    [
        ("/jans-auth/restv1/internal/stat?month=202611", b'"monthly_active_users":2', "Janssen"),
        ("/oxauth/restv1/internal/stat?month=202611&format=openmetrics", b"monthly_active_users{", "Gluu"),
        ("/api/v2/stats/active-users", b"2", "Auth0's rolling 30 days"),
        ("/api/v2/stats/daily", b'"logins":2', "Auth0's days"),
        ("/v1/overview?date=2026-11-20", b'"value":2', "the overview"),
        ("/v1/active-users?trailing=7&from=2026-11-21", b'"value":2', "a trailing window"),
        ("/v1/metrics", b'authtally_active_users{period="month"} 2.0', "gauges"),
    ],
)
async def test_every_surface_finds_them(damaged: Api, path: str, expected: bytes, why: str) -> None:
    answer = await damaged.get(path)
    assert answer.status == 200
    assert expected in answer.body, why


async def test_a_period_that_such_a_shard_does_not_hold_stays_missing(damaged: Api) -> None:
    assert (await damaged.get("/jans-auth/restv1/internal/stat?month=202610")).json == {"response": {}}
    (row,) = (await damaged.get("/api/v2/stats/daily")).json
    assert row["date"].startswith(DAY)


async def test_a_pruned_period_of_a_sound_shard_stays_hidden(serve: Serve, redis_url: str, clock: Clock) -> None:
    """After a longer retention some of its keys may outlive its index entry: it is hidden rather than read half."""
    clock.now = datetime.fromisoformat("2026-11-21T12:00:00+00:00").timestamp()
    await count(redis_url, [login(NOON, "ada")], partitions=1)
    with redis.Redis.from_url(redis_url) as server:
        now, _ = server.time()
        server.hset(LOGINS.progress, fields.LAST_RECORD, now * 1000)
        server.zrem(LOGINS.index, DAY)
    api = await serve(redis_url=redis_url)
    (item,) = (await query_api(api, f"/v1/active-users?from={DAY}&to={DAY}"))["items"]
    assert item["value"] == 0


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Valkey, ...]]:
    with clustered(Valkey) as both:
        yield both


def calls(node: Any) -> dict[str, int]:
    found = node.info("commandstats")
    return {name: found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval_ro", "time", "command|getkeys")}


def shard_below(limit: int, *, start: int) -> Shard:
    """A shard whose keys have a slot in [start, limit)."""
    found = (Shard("auth.logins", number) for number in range(1000))
    return next(shard for shard in found if start <= key_slot(shard.tag.encode()) < limit)


async def test_in_a_cluster_each_node_gives_its_own_time(nodes: tuple[Valkey, ...]) -> None:
    shards = [shard_below(8192, start=0), shard_below(16_384, start=8192)]
    settings = read(ApiSettings, auth=("none",), redis_url=nodes[0].url, redis_cluster=True)
    with redis.RedisCluster.from_url(nodes[0].url) as server:
        now = int(time.time())
        ledger = LedgerWriter(server)
        ledger.hold(DAY, shards[0], expires=now + 60)
        ledger.hold(DAY, shards[1], expires=now - 60)
    each = [redis.Redis.from_url(node.url) for node in nodes]
    client = open_ledger(settings)
    try:
        before = [calls(node) for node in each]
        held = await LedgerStatistics(client, settings).find_periods([DAY])
        after = [calls(node) for node in each]
        assert [shard.shard for shard in held.shards[DAY]] == shards[:1]
        for one, other in zip(before, after, strict=True):
            grown = {name: other[name] - one[name] for name in one}
            assert grown == {"eval_ro": 1, "time": 1, "command|getkeys": 0}, "one round trip, nothing asked before"
    finally:
        await client.close()
        for node in each:
            node.close()


async def test_a_slot_that_has_moved_is_followed(nodes: tuple[Valkey, ...]) -> None:
    moved = Shard("auth.moved", 0)
    slot = key_slot(moved.tag.encode())
    source, target = nodes if slot < 8192 else nodes[::-1]
    settings = read(ApiSettings, auth=("none",), redis_url=nodes[0].url, redis_cluster=True)
    client = open_ledger(settings)
    try:
        statistics = LedgerStatistics(client, settings)
        await statistics.find_periods([DAY])
        with redis.Redis.from_url(source.url) as old, redis.Redis.from_url(target.url) as new:
            owner = new.execute_command("CLUSTER MYID").decode()
            for node in (new, old):
                node.execute_command("CLUSTER SETSLOT", slot, "NODE", owner)
        with redis.RedisCluster.from_url(target.url) as server:
            LedgerWriter(server).hold(DAY, moved)
        held = await statistics.find_periods([DAY])
        assert moved in [shard.shard for shard in held.shards[DAY]]
    finally:
        await client.close()
