"""Questions over closed months in 64 shards, with and without merged periods: the store's time, bytes, and the tokens.

Each question is asked without merging, then merged for the first and the second time, and after a late event; of one
server and of a Cluster of three. The store's time is CPU time of its main thread, which other work on the machine
does not change much.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import redis

from api.ledger.client import open_ledger
from api.ledger.ledger_statistics import LedgerStatistics
from api.ledger.merged_store import MergedStore
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey
from schemas.ledger import changes, fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING
from schemas.settings import read
from schemas.time.clock import SYSTEM
from tests.conftest import clustered
from tests.qualification.bench import token_cost

PREFIX: Final = "authtally:"
SHARDS: Final = [Shard("auth.logins", number) for number in range(64)]
MONTHS: Final = Month(2025, 1).until(Month(2025, 12))
MONTH_KEYS: Final = [month.key for month in MONTHS]
VARIANTS: Final = 64
USERS: Final = 4_000
"""Per sketch: enough for a dense one."""
PRIMARIES: Final = 3
SECOND_GOAL_MS: Final = 5.0
BYTES_GOAL: Final = 1 / 20
FIGURES: Final = "12 months, one figure each"
QUESTIONS: Final[dict[str, Callable[[LedgerStatistics], Awaitable[Any]]]] = {
    FIGURES: lambda of: of.months(MONTHS),
    "12 months, one union": lambda of: of.active_over(MONTH_KEYS, [EVERYTHING]),
}


class Cost(NamedTuple):
    """The store's CPU and the wall time, in ms, and the bytes that the store received and sent."""

    question: str
    cluster: bool
    which: str
    store_ms: float
    wall_ms: float
    sent: int


def fill(client: Any, shards: Sequence[Shard] = SHARDS) -> None:
    """Twelve months of everything in all shards, every sketch dense."""
    chance = random.Random(1)
    sketches = []
    for number in range(VARIANTS):
        key = f"{PREFIX}{{variant}}:{number}"
        client.pfadd(key, *(chance.getrandbits(63) for _ in range(USERS)))
        sketches.append(client.get(key))
        client.delete(key)
    for number, shard in enumerate(shards):
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


async def ask_all(url: str, nodes: Sequence[Any], client: Any, say: Callable[[str], object]) -> list[Cost]:
    cluster = len(nodes) > 1
    settings = read(ApiSettings, auth=("none",), redis_url=url, redis_cluster=cluster)
    opened = open_ledger(settings)
    found: list[Cost] = []

    async def ask(name: str, which: str, of: LedgerStatistics) -> Any:
        cpu_before, sent_before = spent(nodes)
        began = time.perf_counter()
        answer = await QUESTIONS[name](of)
        wall = time.perf_counter() - began
        cpu, sent = spent(nodes)
        found.append(Cost(name, cluster, which, (cpu - cpu_before) * 1000, wall * 1000, sent - sent_before))
        say(f"  {name}, {which}: {found[-1].store_ms:.2f} ms of the store, {found[-1].sent / 1e6:.2f} MB")
        return answer

    try:
        for name in QUESTIONS:
            plain = LedgerStatistics(opened, settings)
            merged = LedgerStatistics(opened, settings, MergedStore(64 << 20, SYSTEM))
            expected = await ask(name, "without", plain)
            for which in ("first", "second"):
                if await ask(name, which, merged) != expected:
                    raise RuntimeError(f"{name}: merged periods change the answer")
            of = ShardKeys(PREFIX, SHARDS[5])
            client.hset(of.changes, MONTH_KEYS[3], changes.new_token())
            client.hincrby(of.counts(MONTH_KEYS[3], EVERYTHING), fields.LOGIN, 1)
            await ask(name, "after a late event", merged)
    finally:
        await opened.close()
    return found


def measure(quick: bool, say: Callable[[str], object]) -> dict[str, Any]:
    """`rows` of costs, `tokens` of the script, and whether the goals are met."""
    say("12 months in 64 shards of one server …")
    with Valkey() as server, redis.Redis.from_url(server.url) as client:
        fill(client)
        found = asyncio.run(ask_all(server.url, [client], client, say))
    say(f"in a Cluster of {PRIMARIES} …")
    with clustered(Valkey, PRIMARIES) as servers, ExitStack() as opened:
        nodes = [opened.enter_context(redis.Redis.from_url(each.url)) for each in servers]
        whole: Any = opened.enter_context(redis.RedisCluster.from_url(servers[0].url))
        fill(whole)
        found += asyncio.run(ask_all(servers[0].url, nodes, whole, say))
    tokens = token_cost.measure(quick, say)
    by_case = {(cost.question, cost.cluster, cost.which): cost for cost in found}
    second = max(by_case[name, False, "second"].store_ms for name in QUESTIONS)
    sent = max(by_case[name, True, "second"].sent / by_case[name, True, "without"].sent for name in QUESTIONS)
    return {
        "rows": [cost._asdict() for cost in found],
        "second_ms": second,
        "second_goal_ms": SECOND_GOAL_MS,
        "bytes_ratio": sent,
        "bytes_goal": BYTES_GOAL,
        "tokens": tokens,
        "met": second <= SECOND_GOAL_MS and sent <= BYTES_GOAL and tokens["met"],
    }
