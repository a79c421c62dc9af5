"""The compared programs, called arms: each reads the whole prefilled sample once, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from deploy.demo.servers import Valkey
from deploy.demo.servers.process import stop_child
from schemas.ledger import accuracy, fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING
from tests.qualification.bench import sample
from tests.qualification.bench.measure import Speed, watch
from tests.servers import ApacheKafka
from tests.servers.java import java

LIMIT_S: Final = 900
STOP_S: Final = 30
PREFIX: Final = "authtally:"
MONTH: Final = f"{sample.START:%Y-%m}"
MONTHS_ONLY: Final = {"AUTHTALLY_RETAIN_DAYS": "0", "AUTHTALLY_USERS_BY": "", "AUTHTALLY_COUNTS_BY": ""}
ROOT: Final = Path(__file__).parents[3]
PEERS: Final = ROOT / ".venv-peers"
"""The peers' own virtual environment, made by `make bench`."""
KAFKA_STREAMS: Final = ROOT / ".kafka-streams"
"""Classes and jars of the Java arm, made by `make bench`."""
JVM: Final = ("-Xms512m", "-Xmx512m", "-XX:+UseParallelGC", "-XX:-UsePerfData", "--enable-native-access=ALL-UNNAMED")
"""As much memory as the worker's limit in its manifests, and the collector with the best throughput on two cores."""


@dataclass(frozen=True)
class Stack:
    """The servers of a run, and how many events the topics hold."""

    kafka: ApacheKafka
    store: Valkey
    events: int
    partitions: int = sample.PARTITIONS

    @property
    def shards(self) -> list[Shard]:
        return [Shard(topic, part) for topic in (sample.LOGINS, sample.TOKENS) for part in range(self.partitions)]

    def environment(self, **settings: str) -> dict[str, str]:
        return {
            **os.environ,
            "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": self.kafka.address,
            "AUTHTALLY_KAFKA_GROUP": f"bench-{uuid.uuid4().hex[:8]}",
            "AUTHTALLY_REDIS_URL": self.store.url,
            "AUTHTALLY_USER_HASH_KEY": "the same in every run",
            "AUTHTALLY_WORKER_PORT": "0",
            "AUTHTALLY_LOG_LEVEL": "error",
            "AUTHTALLY_TOPICS": f"{sample.LOGINS}=login,{sample.TOKENS}=token",
            "AUTHTALLY_DEAD_LETTER_TOPIC": sample.DEAD,
            **settings,
        }


@dataclass(frozen=True)
class Work:
    """The figures that an arm has written for the month of the whole deployment, to compare them with another arm's."""

    counts: dict[str, int]
    users: float
    users_error: float
    """Relative standard error of `users`; 0 when counted one by one."""

    def differs(self, other: Work) -> str | None:
        """Why two arms did not do the same work; None when they did."""
        if self.counts != other.counts:
            return f"counters differ: {self.counts} and {other.counts}"
        sigma = max(self.users, other.users) * (self.users_error**2 + other.users_error**2) ** 0.5
        if abs(self.users - other.users) > 3 * sigma:
            return f"active users differ by more than three standard errors: {self.users} and {other.users}"
        return None


Run = tuple[Speed, Work | None]
"""The speed, and the figures; None for an arm that writes none."""
WORKER: Final = (sys.executable, "-m", "aggregator")


def worker(stack: Stack, command: Sequence[str] = WORKER, **settings: str) -> Run:
    """The product. Its ledger starts empty."""
    return group(stack, 1, command, **settings)


def group(stack: Stack, workers: int, command: Sequence[str] = WORKER, **settings: str) -> Run:
    environment = stack.environment(**settings)
    with redis.Redis.from_url(stack.store.url, decode_responses=True) as client:
        client.flushall()
        with ExitStack() as started:
            processes = []
            for _ in range(workers):
                process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=ROOT)
                started.callback(stop_child, process, STOP_S)
                processes.append(process)
            speed = watch(processes, stack.events, lambda: consumed(client, stack.shards), LIMIT_S)
        return speed, left(client, stack.shards)


def in_process(module: str, python: str | Path = sys.executable, **settings: str) -> Arm:
    """An arm that is a module of its own, which reports itself."""

    def run(stack: Stack) -> Run:
        with tempfile.TemporaryDirectory() as folder:
            command = (python, "-W", "ignore", "-m", module, stack.kafka.address, str(stack.events))
            return reported(stack, command, BENCH_FOLDER=folder, **settings)

    return run


def kafka_streams(stack: Stack, passes: int = 1) -> Run:
    """The Java arm of `peers/kafka_streams`; the last of `passes` over the sample in one JVM is measured."""
    classes = f"{KAFKA_STREAMS / 'classes'}{os.pathsep}{KAFKA_STREAMS / 'dependency' / '*'}"
    with tempfile.TemporaryDirectory() as folder:
        command = (java(), *JVM, f"-Djava.io.tmpdir={folder}", "-cp", classes, "authtally.bench.Arm")
        return reported(stack, (*command, stack.kafka.address, str(stack.events), folder, str(passes)))


def reported(stack: Stack, command: Sequence[str | Path], **settings: str) -> Run:
    """Run an arm that prints its own speed. Its work is what it prints, else what it leaves in the ledger."""
    with redis.Redis.from_url(stack.store.url, decode_responses=True) as client:
        client.flushall()
        done = subprocess.run(
            command,
            env=stack.environment(**settings),
            stdout=subprocess.PIPE,
            timeout=LIMIT_S,
            check=True,
            text=True,
            cwd=ROOT,
        )
        result: dict[str, Any] = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
        speed = Speed(**result["speed"])
        if "counts" in result:
            return speed, Work(result["counts"], result["users"], result.get("users_error", 0.0))
        return speed, left(client, stack.shards) if client.dbsize() else None


def consumed(client: Any, shards: Sequence[Shard]) -> int:
    pipeline = client.pipeline(transaction=False)
    for shard in shards:
        pipeline.hget(ShardKeys(PREFIX, shard).progress, fields.CONSUMED)
    return sum(int(found or 0) for found in pipeline.execute())


def left(client: Any, shards: Sequence[Shard]) -> Work:
    """What the ledger holds of the month."""
    held = [ShardKeys(PREFIX, shard) for shard in shards]
    counts: Counter[str] = Counter()
    for shard_keys in held:
        for field, number in client.hgetall(shard_keys.counts(MONTH, EVERYTHING)).items():
            counts[field] += int(number)
    nonce, users = "bench-union", 0
    k = accuracy.sketches(MONTH, EVERYTHING)
    for part in range(k):
        members = client.sunion(
            [
                shard_keys.small_set(MONTH, EVERYTHING, p)
                for shard_keys in held
                for p in range(part, keys.SMALL_PARTS, k)
            ]
        )
        client.delete(nonce)
        client.pfmerge(nonce, *(shard_keys.users(MONTH, EVERYTHING, part) for shard_keys in held))
        if members:
            client.pfadd(nonce, *members)
        users += client.pfcount(nonce)
    client.delete(nonce)
    return Work(dict(counts), users, accuracy.standard_error(MONTH, EVERYTHING))


Arm = Callable[[Stack], Run]

ARMS: Final[dict[str, Arm]] = {
    "worker": worker,
    "two workers": lambda stack: group(stack, 2),
    "worker, months only": lambda stack: worker(stack, **MONTHS_ONLY),
    "worker without the compare": lambda stack: worker(
        stack, (sys.executable, "-m", "tests.qualification.bench.no_compare")
    ),
    "aiokafka getmany": in_process("tests.qualification.bench.getmany"),
    "aiokafka getmany + decode": in_process("tests.qualification.bench.getmany_decoded"),
    "plain Faust, months only": in_process("tests.qualification.bench.plain_faust", **MONTHS_ONLY),
    "Quix Streams": in_process("tests.qualification.bench.peers.quix", PEERS / "bin" / "python"),
    "Bytewax": in_process("tests.qualification.bench.peers.wax", PEERS / "bin" / "python"),
    "Kafka Streams": kafka_streams,
    "Kafka Streams, compiled": lambda stack: kafka_streams(stack, passes=3),
}
