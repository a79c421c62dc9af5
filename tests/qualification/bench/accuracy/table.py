"""The documents' table: ten servers of a million users each, ten million logins, through Kafka and the worker."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import redis

from api.ledger.client import open_ledger
from api.ledger.statistics import Statistics
from deploy.demo.servers import Valkey, create_topics
from schemas.ledger.accuracy import sketches, standard_error
from schemas.ledger.keys import SMALL_PARTS, Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING, Scope
from schemas.settings import CommonSettings, read
from tests.qualification.bench import sample
from tests.qualification.bench.arms import PREFIX, Stack, worker
from tests.qualification.bench.measure import Speed
from tests.servers import ApacheKafka

SERVERS: Final = 10
USERS: Final = 1_000_000
MONTH: Final = Month(2026, 11)
TIME: Final = "2026-11-15T12:00:00Z"
TIME_MS: Final = 1_794_744_000_000
"""The same moment, as a record's timestamp."""
DOCUMENTED: Final = (
    *(996_522, 998_560, 1_001_721, 988_345, 998_151, 1_005_606, 993_774, 992_465, 988_403, 1_002_353),
    10_010_897,
)
"""java-hll with log2m 15 and regwidth 5: server0 to server9, and their union."""
SETTINGS: Final = {
    "AUTHTALLY_TOPICS": f"{sample.LOGINS}=login",
    "AUTHTALLY_USERS_BY": "node",
    "AUTHTALLY_COUNTS_BY": "node",
}


def scope(server: int) -> Scope:
    return Scope("node", (f"server{server}",))


def prefill(bootstrap: str, users: int) -> None:
    """One login of every user of every server, servers taking turns, spread over the partitions by user."""
    create_topics(bootstrap, {sample.LOGINS: sample.PARTITIONS, sample.DEAD: 1}, {"retention.ms": "-1"})
    sample.produce(bootstrap, _logins(users))


def _logins(users: int) -> Iterator[sample.Produced]:
    for user in range(users):
        for server in range(SERVERS):
            value = f'{{"time":"{TIME}","user_id":"s{server}-{user:07}","node":"server{server}"}}'
            yield sample.Produced(sample.LOGINS, value.encode(), user % sample.PARTITIONS, TIME_MS)


async def run(store: Valkey, users: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Our table, read as the api reads it. Empties the store first."""
    with ApacheKafka() as kafka:
        begun = time.perf_counter()
        prefill(kafka.address, users)
        say(f"{SERVERS * users:,} logins in Kafka after {time.perf_counter() - begun:.0f} s")
        speed, _ = worker(Stack(kafka, store, SERVERS * users), **SETTINGS)
    say(f"counted at {speed.per_second:,.0f} events/s")
    return await read_table(store, users, speed)


async def read_table(store: Valkey, users: int, speed: Speed | None) -> dict[str, Any]:
    settings = read(CommonSettings, redis_url=store.url, users_by=("node",), counts_by=("node",))
    client = open_ledger(settings)
    try:
        statistics = Statistics(client, settings)
        (month,) = await statistics.months([MONTH])
        servers = [await statistics.active_users(MONTH.key, scope(server)) for server in range(SERVERS)]
    finally:
        await client.close()
    truths = [users] * SERVERS + [SERVERS * users]
    counts = [answer.count for answer in servers] + [month.active.count]
    with redis.Redis.from_url(store.url) as direct:
        held = [_held(direct, place) for place in (*map(scope, range(SERVERS)), EVERYTHING)]
    return {
        "logins": SERVERS * users,
        "users_per_server": users,
        "shards": sample.PARTITIONS,
        "rows": [
            {
                "name": f"server{number}" if number < SERVERS else "UNION",
                "count": count,
                "error": count / truth - 1,
                "standard_error": standard_error(MONTH.key, scope(0) if number < SERVERS else EVERYTHING),
                **size,
                "documented": documented,
                "documented_error": documented / (1_000_000 if number < SERVERS else 10_000_000) - 1,
            }
            for number, (truth, count, size, documented) in enumerate(
                zip(truths, counts, held, DOCUMENTED, strict=True)
            )
        ],
        "rmse": _rms([count / users - 1 for count in counts[:SERVERS]]),
        "documented_rmse": _rms(documented_errors()),
        "events_per_second": speed.per_second if speed else None,
    }


def documented_errors() -> list[float]:
    return [found / 1_000_000 - 1 for found in DOCUMENTED[:SERVERS]]


def _held(client: Any, place: Scope) -> dict[str, int]:
    """What a scope's month takes over all shards: the sketches' own bytes, and memory as the store reports it."""
    length = memory = sketched = 0
    for part in range(sample.PARTITIONS):
        shard_keys = ShardKeys(PREFIX, Shard(sample.LOGINS, part))
        for number in range(sketches(MONTH.key, place)):
            name = shard_keys.users(MONTH.key, place, number)
            length += client.strlen(name)
            memory += client.memory_usage(name) or 0
            sketched += client.exists(name)
        for number in range(SMALL_PARTS):
            memory += client.memory_usage(shard_keys.small_set(MONTH.key, place, number)) or 0
    return {"bytes": length, "memory": memory, "sketches": sketched}


def _rms(errors: list[float]) -> float:
    return math.sqrt(sum(error * error for error in errors) / len(errors))
