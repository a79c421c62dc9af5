"""Measures how long the partitions of a killed worker wait, beside Faust with its default timeouts. Run as a program.

`python -m tests.qualification.chaos.recovery --kills 5 --out FILE`: two workers each, one is killed and started again
at once; timed
is from SIGKILL to the next commit of the partition that comes last. Ours commits in the store, Faust in Kafka.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import redis
from confluent_kafka import Consumer, TopicPartition

from deploy.demo.servers import Valkey, create_topics
from schemas.ledger.keys import Shard
from tests.integration.expected_counts import positions
from tests.qualification.chaos.arms import program
from tests.qualification.chaos.fleet import MODULE, Fleet
from tests.qualification.chaos.ledger import Ledger
from tests.qualification.chaos.run import spread
from tests.qualification.chaos.waiting import wait_for
from tests.servers import ApacheKafka

TOPIC: Final = "recovery.logins"
DEAD: Final = "recovery.dead-letter"
PARTITIONS: Final = 4
EVENTS_PER_S: Final = 1000
RECOVERS_S: Final = 400
ARMS: Final = {"authtally": MODULE, "Faust's defaults": program("faust-defaults")}


def times(arm: str, kills: int, report: Callable[[str], None]) -> list[float]:
    """Seconds until all partitions had their next commit, of each kill."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authtally-recovery-")))
        kafka = stack.enter_context(ApacheKafka(heap_mb=256))
        store = stack.enter_context(Valkey())
        create_topics(kafka.address, {TOPIC: PARTITIONS, DEAD: 1})
        ours = arm == "authtally"
        ledger = Ledger(kafka.address, {TOPIC: "login"}, PARTITIONS, seed=1, plain=not ours)
        ledger.open(ledger.lanes.values())
        settings = {
            "kafka_bootstrap_servers": kafka.address,
            "kafka_group": "recovery",
            "redis_url": store.url,
            "user_hash_key": "a key for nothing but tests",
            "topics": f"{TOPIC}=login",
            "dead_letter_topic": DEAD,
        }
        fleet = Fleet(folder / "workers", 2, settings, ARMS[arm])
        stack.callback(fleet.close)
        stack.callback(ledger.stop)
        client: Any = stack.enter_context(redis.Redis.from_url(store.url, decode_responses=True))
        committed = _in_store(client, ledger) if ours else stack.enter_context(_InKafka(kafka.address, ledger))
        fleet.start()
        ledger.flow(EVENTS_PER_S)
        return [_kill(fleet, number % 2, committed, arm, report) for number in range(kills)]


def _in_store(client: Any, ledger: Ledger) -> Callable[[], Mapping[Shard, int]]:
    return lambda: {shard: at or 0 for shard, at in positions(client, ledger.lanes).items()}


class _InKafka:
    def __init__(self, bootstrap: str, ledger: Ledger) -> None:
        self._reader: Any = Consumer({"bootstrap.servers": bootstrap, "group.id": "recovery", "log_level": 0})
        self._asked = [TopicPartition(*shard) for shard in ledger.lanes]

    def __call__(self) -> Mapping[Shard, int]:
        return {Shard(at.topic, at.partition): at.offset for at in self._reader.committed(self._asked, timeout=20)}

    def __enter__(self) -> _InKafka:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()


def _kill(
    fleet: Fleet, number: int, committed: Callable[[], Mapping[Shard, int]], arm: str, report: Callable[[str], None]
) -> float:
    for _ in range(2):
        _wait_until_moved(committed)
    # Into the middle of what the group does at rest.
    time.sleep(3)
    struck = 0.0
    at: Mapping[Shard, int] = {}

    def note() -> None:
        nonlocal struck, at
        struck, at = time.monotonic(), committed()

    fleet.kill(number, 0, note)
    wait_for(lambda: _beyond(committed(), at), RECOVERS_S, f"{arm}: every partition has its next commit")
    took_s = round(time.monotonic() - struck, 2)
    report(f"{arm}: {took_s} s")
    return took_s


def _wait_until_moved(committed: Callable[[], Mapping[Shard, int]]) -> None:
    at = committed()
    wait_for(lambda: _beyond(committed(), at), RECOVERS_S, "every partition moves")


def _beyond(now: Mapping[Shard, int], then: Mapping[Shard, int]) -> bool:
    return all(now[shard] > at for shard, at in then.items())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.qualification.chaos.recovery", description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--arm", choices=ARMS, action="append")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = {
        arm: times(arm, given.kills, lambda line: print(line, flush=True))  # noqa: T201
        for arm in given.arm or ARMS
    }
    record: dict[str, Any] = {
        "what": "seconds from SIGKILL of one of two workers to the last partition's next commit",
        "machine": f"{os.cpu_count()} cores",
        "seconds": found,
        "spread": {arm: spread(held) for arm, held in found.items()},
    }
    if len(found) == len(ARMS):
        mine, theirs = (record["spread"][arm]["p50_s"] for arm in ARMS)
        record["ratio_of_medians"] = round(mine / theirs, 3)
    text = json.dumps(record, indent=1)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
