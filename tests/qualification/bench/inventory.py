"""The OTP token inventory: its speed beside that of logins, what it takes in the store, and how long a script holds it.

Both samples are read by one worker from Apache Kafka, interleaved A B B A. Each token begins in one of the realms, most
of them with a user; then states change by chance, over a year.
"""

from __future__ import annotations

import random
import statistics
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import redis

from deploy.demo.servers import Valkey, create_topics
from schemas.ledger.inventory import ROWS_PER_CHUNK, RealmTotals
from schemas.ledger.keys import Shard, ShardKeys
from tests.qualification.bench import sample
from tests.qualification.bench.arms import LIMIT_S, PREFIX, ROOT, WORKER, Stack, consumed
from tests.qualification.bench.measure import Speed, watch
from tests.servers import ApacheKafka

TOPIC: Final = "bench.otp-tokens"
OF: Final = ShardKeys(PREFIX, Shard(TOPIC, 0))
REALMS: Final = 1_000
START: Final = datetime(2025, 11, 1, tzinfo=UTC)
YEAR: Final = timedelta(days=365)
GOAL: Final = 0.15
TOKEN_GOAL: Final = 120
ROW_GOAL: Final = 40
SCRIPT_GOAL_MS: Final = 5.0


class Size(NamedTuple):
    tokens: int
    events: int
    """Of a run whose speed is taken, of logins as of tokens."""
    pairs: int
    states: int
    """The run after which the store is inspected."""


QUICK: Final = Size(100_000, 300_000, 2, 300_000)
FULL: Final = Size(1_000_000, 2_000_000, 4, 10_000_000)


def measure(quick: bool, say: Callable[[str], object], size: Size | None = None) -> dict[str, Any]:
    """`ratio` of the speeds, bytes of the store, milliseconds of scripts, each with its goal."""
    size = size or (QUICK if quick else FULL)
    runs: dict[str, list[Speed]] = {"inventory": [], "logins": []}
    with Valkey() as store, redis.Redis.from_url(store.url) as client:
        with ApacheKafka() as kafka:
            say(f"filling Kafka with {size.events:,} logins and token answers, and as many states …")
            sample.prefill(kafka.address, size.events)
            fill(kafka.address, size.tokens, size.events)
            stack = Stack(kafka, store, size.events)
            for pair in range(size.pairs):
                for name in runs if pair % 2 == 0 else reversed(runs):
                    speed = read(stack, client, name)
                    runs[name].append(speed)
                    say(f"  {name}: {speed.per_second:,.0f} events/s, {speed.per_cpu_second:,.0f} per CPU second")
        with ApacheKafka() as kafka:
            say(f"filling Kafka with {size.states:,} states of {size.tokens:,} tokens …")
            create_topics(kafka.address, {sample.DEAD: 1})
            fill(kafka.address, size.tokens, size.states)
            speed = read(Stack(kafka, store, size.states), client, "inventory")
            scripts = _scripts(client)
            held = _held(client)
    both = list(zip(runs["inventory"], runs["logins"], strict=True))
    ratio = statistics.median(a.per_second / b.per_second for a, b in both)
    met = ratio >= GOAL and held["bytes_per_token"] <= TOKEN_GOAL and held["bytes_per_row"] <= ROW_GOAL
    return {
        "size": size._asdict(),
        "ratio": ratio,
        "cpu_ratio": statistics.median(a.per_cpu_second / b.per_cpu_second for a, b in both),
        "goal": GOAL,
        "runs": {name: [asdict(speed) for speed in found] for name, found in runs.items()},
        "long": asdict(speed),
        "held": held,
        "scripts": scripts,
        "goals": {"bytes_per_token": TOKEN_GOAL, "bytes_per_row": ROW_GOAL, "script_ms": SCRIPT_GOAL_MS},
        "met": met and scripts["mean_ms"] <= SCRIPT_GOAL_MS,
    }


def fill(bootstrap: str, tokens: int, events: int) -> None:
    create_topics(bootstrap, {TOPIC: 1}, {"retention.ms": "-1"})
    sample.produce(bootstrap, _records(tokens, events))


def _records(tokens: int, events: int) -> Iterator[sample.Produced]:
    chance = random.Random(1)
    step_ms, start_ms = YEAR / timedelta(milliseconds=1) / events, START.timestamp() * 1000
    for number in range(events):
        stamp = int(start_ms + number * step_ms)
        serial = number if number < tokens else chance.randrange(tokens)
        event = "token_init" if number < tokens else "token_assign"
        # In time mostly one realm each, and as many users as four fifths of the tokens.
        user, active = chance.randrange(tokens), chance.random() < 0.9
        time = datetime.fromtimestamp(stamp / 1000, UTC)
        result = f'{{"time":"{time:%Y-%m-%dT%H:%M:%S}.{stamp % 1000:03}Z","serial":"OATH{serial:08X}","event":"{event}"'
        result += f',"realms":["realm-{serial % REALMS:03}"],"active":{"true" if active else "false"}'
        result += f',"assigned":true,"user_id":"user-{user:08}"}}' if user % 5 else ',"assigned":false}'
        yield sample.Produced(TOPIC, result.encode(), 0, stamp)


def read(stack: Stack, client: Any, name: str) -> Speed:
    """One worker reads a whole sample into an empty ledger."""
    client.flushall()
    client.config_resetstat()
    shards = [OF.shard] if name == "inventory" else stack.shards
    environment = stack.environment(**({"AUTHTALLY_TOPICS": f"{TOPIC}=otp"} if name == "inventory" else {}))
    process = subprocess.Popen(WORKER, env=environment, stdout=subprocess.DEVNULL, cwd=ROOT)
    try:
        return watch([process], stack.events, lambda: consumed(client, shards), LIMIT_S)
    finally:
        process.terminate()
        process.wait(30)


def _held(client: Any) -> dict[str, float]:
    """Bytes of the store by MEMORY USAGE: per token beyond its serial, and per row."""

    def usage(names: list[str]) -> int:
        found = 0
        for begun in range(0, len(names), 1000):
            pipeline = client.pipeline(transaction=False)
            for name in names[begun : begun + 1000]:
                pipeline.memory_usage(name, samples=0)
            found += sum(size or 0 for size in pipeline.execute())
        return found

    figures = {int(number): RealmTotals.unpack(packed) for number, packed in client.hgetall(OF.totals).items()}
    rows = sum(held.rows for held in figures.values())
    tokens = client.hlen(OF.tokens)
    per_token = usage([OF.tokens, OF.holders])
    history = [OF.totals, OF.realms]
    for number, held in figures.items():
        history += [OF.chunk_starts(number), *(OF.days(number, year) for year in range(START.year, START.year + 2))]
        history += [OF.rows(number, chunk) for chunk in range(-(-held.rows // ROWS_PER_CHUNK))]
    serial = len("OATH00000000")
    return {
        "tokens": tokens,
        "rows": rows,
        "bytes_per_token": per_token / tokens - serial,
        "bytes_per_row": usage(history) / rows,
        "used_memory": client.info("memory")["used_memory"],
    }


def _scripts(client: Any) -> dict[str, float]:
    """Milliseconds that the store spent in the ledger's script, each time on the average."""
    ran = client.info("commandstats").get("cmdstat_evalsha", {})
    return {"calls": ran.get("calls", 0), "mean_ms": ran.get("usec_per_call", 0.0) / 1000}
