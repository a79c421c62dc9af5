"""The store's time and the bytes of questions over closed months in 64 shards, with and without merged periods.

    python -m tests.qualification.bench.merged_periods

Prints, for one server and for a Cluster of two: milliseconds of CPU of the store's main thread and of wall time,
and bytes that the store received and sent, of the first question, the second one, and one after a late event.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import redis

from api.ledger.client import open_ledger
from api.ledger.merged_store import MergedStore
from api.ledger.statistics import Statistics
from api.settings.settings import ApiSettings
from deploy.cli.terminal import echo
from deploy.demo.servers import Valkey
from schemas.ledger import changes, fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING
from schemas.settings import read
from schemas.time.clock import SYSTEM
from tests.conftest import clustered

PREFIX: Final = "authtally:"
SHARDS: Final = [Shard("auth.logins", number) for number in range(64)]
MONTHS: Final = Month(2025, 1).until(Month(2025, 12))
VARIANTS: Final = 64
USERS: Final = 4_000
"""Per sketch: enough for a dense one."""


def fill(client: Any) -> None:
    """Twelve months of everything in all shards, every sketch dense."""
    chance = random.Random(1)
    sketches = []
    for number in range(VARIANTS):
        key = f"{PREFIX}{{variant}}:{number}"
        client.pfadd(key, *(chance.getrandbits(63) for _ in range(USERS)))
        sketches.append(client.get(key))
        client.delete(key)
    for number, shard in enumerate(SHARDS):
        of = ShardKeys(PREFIX, shard)
        client.sadd(keys.shards(PREFIX), shard.tag)
        pipe = client.pipeline(transaction=False)
        pipe.set(of.position, 1)
        pipe.hset(of.changes, changes.EPOCH, changes.new_token())
        for month in MONTHS:
            pipe.zadd(of.index, {month.key: "inf"})
            pipe.hset(of.changes, month.key, changes.new_token())
            pipe.hset(of.counts(month.key, EVERYTHING), fields.LOGIN, number + 1)
            for part in range(16):
                pipe.set(of.users(month.key, EVERYTHING, part), sketches[(number * 7 + part) % VARIANTS])
        pipe.execute()
    client.set(keys.ledger_id(PREFIX), changes.new_token())


def spent(nodes: Sequence[Any]) -> tuple[float, int]:
    """CPU seconds of the stores' main threads, and bytes received and sent."""
    cpu, sent = 0.0, 0
    for node in nodes:
        found = node.info("all")
        cpu += found["used_cpu_user_main_thread"] + found["used_cpu_sys_main_thread"]
        sent += found["total_net_input_bytes"] + found["total_net_output_bytes"]
    return cpu, sent


async def measured(name: str, nodes: Sequence[Any], ask: Callable[[], Awaitable[Any]]) -> Any:
    cpu_before, sent_before = spent(nodes)
    began = time.perf_counter()
    answer = await ask()
    wall = (time.perf_counter() - began) * 1000
    cpu, sent = spent(nodes)
    figures = f"{(cpu - cpu_before) * 1000:8.2f} ms of the store {wall:8.1f} ms wall"
    echo(f"{name:<52} {figures} {(sent - sent_before) / 1e6:8.2f} MB")
    return answer


async def run(url: str, nodes: Sequence[Any], client: Any, cluster: bool) -> None:
    settings = read(ApiSettings, auth=("none",), redis_url=url, redis_cluster=cluster)
    opened = open_ledger(settings)
    plain = Statistics(opened, settings)
    months = [month.key for month in MONTHS]
    questions: list[tuple[str, Callable[[Statistics], Awaitable[Any]]]] = [
        ("12 months, one figure each", lambda of: of.months(MONTHS)),
        ("12 months, one union", lambda of: of.active_over(months, [EVERYTHING])),
    ]
    for name, ask in questions:
        merged = Statistics(opened, settings, MergedStore(64 << 20, SYSTEM))
        began = time.perf_counter()
        expected = await measured(f"{name}: without", nodes, lambda: ask(plain))  # noqa: B023 - awaited here
        slow = (time.perf_counter() - began) * 1000 > keys.TEMPORARY_MS
        for which in ("first", "second"):
            found = await measured(f"{name}: merged, {which}", nodes, lambda: ask(merged))  # noqa: B023
            # Without merged periods, temporary sketches expire under a question of more than TEMPORARY_MS.
            assert found == expected or slow
        of = ShardKeys(PREFIX, SHARDS[5])
        client.hset(of.changes, months[3], changes.new_token())
        client.hincrby(of.counts(months[3], EVERYTHING), fields.LOGIN, 1)
        await measured(f"{name}: merged, after a late event", nodes, lambda: ask(merged))  # noqa: B023
    await opened.close()


def main() -> None:
    echo("one server")
    with Valkey() as server, redis.Redis.from_url(server.url) as client:
        fill(client)
        asyncio.run(run(server.url, [client], client, cluster=False))
    echo("Cluster of two")
    with (
        clustered(Valkey) as (one, two),
        redis.Redis.from_url(one.url) as first,
        redis.Redis.from_url(two.url) as second,
    ):
        client = redis.RedisCluster.from_url(one.url)
        fill(client)
        asyncio.run(run(one.url, [first, second], client, cluster=True))
        client.close()


if __name__ == "__main__":
    main()
