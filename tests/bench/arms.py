"""What is measured: each arm reads the whole prefilled sample once, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import redis

from deploy.servers import ApacheKafka, Valkey
from schemas import fields
from schemas.keys import Shard, ShardKeys
from tests.bench import sample
from tests.bench.measure import Speed, watch

LIMIT_S: Final = 900
PREFIX: Final = "authtally:"
SHARDS: Final = [Shard(topic, part) for topic in (sample.LOGINS, sample.TOKENS) for part in range(sample.PARTITIONS)]
MONTHS_ONLY: Final = {"AUTHTALLY_RETAIN_DAYS": "0", "AUTHTALLY_USERS_BY": "", "AUTHTALLY_COUNTS_BY": ""}


@dataclass(frozen=True)
class Stack:
    """The servers of a run, and how many events the topics hold."""

    kafka: ApacheKafka
    store: Valkey
    events: int

    def environment(self, **settings: str) -> dict[str, str]:
        return {
            **os.environ,
            "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": self.kafka.address,
            "AUTHTALLY_KAFKA_GROUP": f"bench-{uuid.uuid4().hex[:8]}",
            "AUTHTALLY_REDIS_URL": self.store.url,
            "AUTHTALLY_USER_HASH_KEY": "the same in every run",
            "AUTHTALLY_WORKER_PORT": "0",
            "AUTHTALLY_LOG_LEVEL": "warning",
            "AUTHTALLY_TOPICS": f"{sample.LOGINS}=login,{sample.TOKENS}=token",
            "AUTHTALLY_DEAD_LETTER_TOPIC": sample.DEAD,
            **settings,
        }


Counts = dict[str, dict[str, str]]
"""Every counter of the ledger, by key: what two arms that did the same work agree on."""


def worker(stack: Stack, **settings: str) -> tuple[Speed, Counts]:
    """The product. Its ledger starts empty."""
    with redis.Redis.from_url(stack.store.url, decode_responses=True) as client:
        client.flushall()
        process = subprocess.Popen([sys.executable, "-m", "aggregator"], env=stack.environment(**settings))
        try:
            speed = watch(process.pid, stack.events, lambda: consumed(client), lambda: process.poll() is None, LIMIT_S)
        finally:
            process.terminate()
            process.wait(30)
        return speed, counts(client)


def getmany(stack: Stack) -> tuple[Speed, Counts]:
    """aiokafka alone."""
    return _reported("tests.bench.getmany", stack, os.environ.copy()), {}


def plain_faust(stack: Stack, **settings: str) -> tuple[Speed, Counts]:
    """Faust by its guide, with our fold and ledger."""
    with (
        redis.Redis.from_url(stack.store.url, decode_responses=True) as client,
        tempfile.TemporaryDirectory() as folder,
    ):
        client.flushall()
        speed = _reported("tests.bench.plain_faust", stack, stack.environment(BENCH_FOLDER=folder, **settings))
        return speed, counts(client)


def _reported(module: str, stack: Stack, environment: dict[str, str]) -> Speed:
    done = subprocess.run(
        [sys.executable, "-m", module, stack.kafka.address, str(stack.events)],
        env=environment,
        stdout=subprocess.PIPE,
        timeout=LIMIT_S,
        check=True,
        text=True,
    )
    return Speed(**next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")))


def consumed(client: Any) -> int:
    pipeline = client.pipeline(transaction=False)
    for shard in SHARDS:
        pipeline.hget(ShardKeys(PREFIX, shard).progress, fields.CONSUMED)
    return sum(int(found or 0) for found in pipeline.execute())


def counts(client: Any) -> Counts:
    found: Counts = {}
    for shard in SHARDS:
        of = ShardKeys(PREFIX, shard)
        for key in client.scan_iter(f"{of.base.replace('{', '[{]').replace('}', '[}]')}counts:*", count=10_000):
            found[key] = client.hgetall(key)
    return found


Arm = Callable[[Stack], tuple[Speed, Counts]]

ARMS: Final[dict[str, Arm]] = {
    "worker": lambda stack: worker(stack),
    "worker, months only": lambda stack: worker(stack, **MONTHS_ONLY),
    "aiokafka getmany": getmany,
    "plain Faust, months only": lambda stack: plain_faust(stack, **MONTHS_ONLY),
}
