"""Measures how long a worker takes to isolate records on which its fold raises. Run as a program.

`python -m tests.qualification.chaos.isolating --out FILE`: one range of 20,000 records, in process, into a real store.
A fold that
raises for marked records halves the range until each is alone; every other record must be counted. Kafka is left out:
dead letters are collected, and the log is always the same one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis
import structlog

from aggregator.clocks import StoreClocks
from aggregator.counting import RangeCounter
from aggregator.fold import event_fold
from aggregator.fold.fold import fold
from aggregator.fold.range_delta import DeadLetter
from aggregator.kafka.ranges import Range
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import connect
from aggregator.settings import WorkerSettings
from deploy.demo.servers import Valkey
from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from schemas.settings import read
from tests.qualification.chaos.faulty_fold import MARK, raising
from tests.qualification.chaos.templates import BAD, Templates, first_ms

RECORDS: Final = 20_000
MARKED: Final = (0, 1, 100)
SHARD: Final = Shard("isolating.logins", 0)


class Record(NamedTuple):
    """The parts of a Kafka record that a fold reads."""

    offset: int
    timestamp: int
    value: bytes
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Outside:
    """Stands for dead-letter topic, placement and consumer: everything goes well, at once."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []

    async def send(self, shard: Shard, letters: Sequence[DeadLetter], **_: Any) -> bool:
        self.letters += letters
        return True

    async def is_same_log(self, range_: Range) -> bool:
        return True

    def is_current(self, range_: Range) -> bool:
        return True


def log_of(marked: int, seed: int) -> list[Record]:
    """A log of logins, with that many marked records at random places."""
    chance = random.Random(seed)
    templates, stamp_ms = Templates(SHARD.topic, "login", seed), first_ms()
    values = [templates.values[chance.randrange(BAD)] for _ in range(RECORDS)]
    for at in chance.sample(range(RECORDS), marked):
        values[at] = MARK
    return [Record(offset, stamp_ms + offset, value) for offset, value in enumerate(values)]


async def seconds(store: Valkey, records: list[Record], marked: int) -> float:
    """The time of one range. Raises AssertionError when a record is not what it must be."""
    settings = read(
        WorkerSettings,
        redis_url=store.url,
        user_hash_key="a key for nothing but tests",
        topics=f"{SHARD.topic}=login",
        kafka_bootstrap_servers="unused:9092",
    )
    outside: Any = Outside()
    client = connect(settings)
    try:
        ledger = Ledger(client, settings)
        await ledger.initialize(SHARD, 0, "an id")
        counts = RangeCounter(settings, ledger, outside, outside, StoreClocks(ledger))
        range_: Any = Range(SHARD, 0, len(records), records, 0, time.monotonic())
        began = time.perf_counter()
        await counts.count(outside, range_)
        took_s = time.perf_counter() - began
    finally:
        await client.aclose()
    with redis.Redis.from_url(store.url, decode_responses=True) as reader:
        held: Any = reader.hgetall(ShardKeys(settings.key_prefix, SHARD).progress)
    reasons = [letter.reason for letter in outside.letters]
    if reasons != ["unexpected"] * marked or int(held[fields.CONSUMED]) != len(records):
        raise AssertionError(f"{len(reasons)} letters of {marked}, {held}")
    return took_s


def times(marked: int, runs: int) -> list[float]:
    found = []
    for seed in range(runs):
        with Valkey() as store:
            found.append(round(asyncio.run(seconds(store, log_of(marked, seed), marked)), 3))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.qualification.chaos.isolating", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    switch = Path(tempfile.gettempdir()) / "authtally-no-such-switch"
    event_fold.__dict__["fold"] = raising(fold, switch)
    found = {marked: times(marked, given.runs) for marked in MARKED}
    medians = {marked: statistics.median(held) for marked, held in found.items()}
    result = {
        "what": f"seconds to count a range of {RECORDS} records, by the number on which the fold raises",
        "machine": f"{os.cpu_count()} cores",
        "seconds": found,
        "median_s": medians,
    }
    text = json.dumps(result, indent=1)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
