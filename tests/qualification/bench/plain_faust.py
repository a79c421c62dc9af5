"""Arm: Faust as its guide shows it, `take(5000)`, with our fold and our ledger behind it. Months only."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faust

from aggregator.fold.fold import fold
from aggregator.fold.range_delta import CountingRules, ShardCache
from aggregator.ledger.ledger import Applied, Ledger
from aggregator.ledger.store import connect
from aggregator.settings import WorkerSettings
from schemas.ledger.keys import Shard
from schemas.settings import read
from tests.qualification.bench import sample
from tests.qualification.bench.measure import Stopwatch, report


@dataclass(frozen=True, slots=True)
class Taken:
    """A record as an agent sees one."""

    offset: int
    timestamp: int
    value: bytes
    key: bytes | None = None


def build(bootstrap: str, events: int, quit_: Callable[[], None]) -> faust.App:
    settings = read(WorkerSettings)
    ledger, rules = Ledger(connect(settings), settings), CountingRules.of(settings)
    app = faust.App(
        f"plain-faust-{os.getpid()}",
        broker=f"kafka://{bootstrap}",
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
        stream_recovery_delay=0.0,
        datadir=os.environ["BENCH_FOLDER"],
    )
    stopwatch = Stopwatch(os.getpid(), events)
    seen = 0
    known: dict[Shard, tuple[int, ShardCache]] = {}

    async def count(stream: Any) -> None:
        nonlocal seen
        async for taken in stream.take_events(5000, within=0.5):
            parts: dict[Shard, list[Taken]] = defaultdict(list)
            for event in taken:
                at = event.message
                parts[Shard(at.topic, at.partition)].append(Taken(at.offset, int(at.timestamp * 1000), event.value))
            for shard, records in parts.items():
                if shard not in known:
                    await ledger.initialize(shard, records[0].offset, "")
                    known[shard] = (records[0].offset, ShardCache(set()))
                start, cache = known[shard]
                end = records[-1].offset + 1
                while start < end:
                    delta = fold(settings.topics[shard.topic], records, end, cache, rules, int(time.time() * 1000))
                    assert isinstance(await ledger.apply(shard, start, delta), Applied)
                    # Its labels only: everything else is read again, as a worker without a cache does.
                    cache = ShardCache(cache.labels | delta.labels, shares=cache.shares + Counter(delta.shares))
                    start = delta.end
                    records = [record for record in records if record.offset >= start]
                known[shard] = (end, cache)
            seen += len(taken)
            speed = stopwatch.saw(seen)
            if speed is not None:
                report(speed)
                quit_()

    for topic in (sample.LOGINS, sample.TOKENS):
        app.agent(app.topic(topic, value_serializer="raw", value_type=bytes), name=f"plain:{topic}")(count)
    return app


if __name__ == "__main__":
    # Nothing to tidy: the process is the measurement.
    built = build(sys.argv[1], int(sys.argv[2]), lambda: os._exit(0))
    faust.Worker(built, loglevel="error", redirect_stdouts=False, quiet=True).execute_from_commandline()
