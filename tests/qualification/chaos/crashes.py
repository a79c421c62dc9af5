"""Measures the time of a worker from a crash to its exit. Run as a program.

`python -m tests.qualification.chaos.crashes --crashes 30 --out FILE`: each worker counts a flow for a while. Then a
fold raises
MemoryError, or the ledger turns out to be counted with another setting, by turns: both must end the process, whatever
else in it hangs. The time includes the wait for the range that crashes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, Final

import redis

from deploy.demo.servers import Valkey, create_topics
from schemas.ledger.keys import Shard, ShardKeys
from tests.integration.expected_counts import positions
from tests.integration.workers import WorkerProcess, Workers
from tests.qualification.chaos.faulty_fold import FAULTY
from tests.qualification.chaos.ledger import Ledger
from tests.qualification.chaos.run import spread
from tests.qualification.chaos.waiting import wait_for
from tests.servers import ApacheKafka

GOAL_S: Final = 10.0
HANGS_S: Final = 120.0
"""A worker that has not ended by then never does."""
PARTITIONS: Final = 4
EVENTS_PER_S: Final = 1000
POLL_S: Final = 0.1


@dataclass(frozen=True)
class Exit:
    """How one worker ended; None where it did not."""

    crash: str
    exit_s: float | None
    exit_code: int | None
    ready_s: float
    """How long after the crash it said that it was ready for the last time."""


class Bench:
    """A topic, a key prefix and a group of its own on servers that are shared."""

    def __init__(self, kafka: str, store: Valkey, folder: Path, number: int) -> None:
        self.topic = f"crashes-{number}.logins"
        dead = f"crashes-{number}.dead-letter"
        create_topics(kafka, {self.topic: PARTITIONS, dead: 1})
        self.ledger = Ledger(kafka, {self.topic: "login"}, PARTITIONS, seed=number, plain=False)
        self.ledger.open(self.ledger.lanes.values())
        self.prefix = f"crashes-{number}:"
        self.switch = folder / f"switch-{number}"
        self.client: Any = redis.Redis.from_url(store.url, decode_responses=True)
        self.workers = Workers(
            folder / f"workers-{number}",
            kafka_bootstrap_servers=kafka,
            kafka_group=f"crashes-{number}",
            redis_url=store.url,
            key_prefix=self.prefix,
            user_hash_key="a key for nothing but tests",
            topics=f"{self.topic}=login",
            dead_letter_topic=dead,
        )

    def crash(self, kind: str, works_s: float) -> Exit:
        """Start a worker, let it work, crash it. Raises LateError when it does not count."""
        worker = self.workers.start((sys.executable, FAULTY, str(self.switch)))
        try:
            for _ in range(2):
                self._wait_until_moved()
            time.sleep(works_s)
            self._wait_until_moved()
            undo = CRASHES[kind](self)
            found = _until_exit(worker, kind)
            undo()
        finally:
            worker.kill()
        return found

    def _wait_until_moved(self) -> None:
        before = self._positions()
        wait_for(lambda: all(at > before[shard] for shard, at in self._positions().items()), 90, "every shard moves")

    def _positions(self) -> dict[Shard, int]:
        return {shard: at or 0 for shard, at in positions(self.client, self.ledger.lanes, self.prefix).items()}

    def exhaust(self) -> Callable[[], object]:
        self.switch.touch()
        return self.switch.unlink

    def count_otherwise(self) -> Callable[[], object]:
        """As a restored snapshot of a ledger with another setting does: the next range is refused, then the worker."""
        shard_keys = ShardKeys(self.prefix, Shard(self.topic, 0))
        was = self.client.hget(shard_keys.meta, "user_scope")
        self.client.pipeline().hset(shard_keys.meta, "user_scope", "realm").decr(shard_keys.position).execute()
        return lambda: (
            self.client.pipeline().hset(shard_keys.meta, "user_scope", was).incr(shard_keys.position).execute()
        )

    def close(self) -> None:
        self.ledger.stop()
        self.client.close()


CRASHES: Final[dict[str, Callable[[Bench], Callable[[], object]]]] = {
    "the fold raises MemoryError": Bench.exhaust,
    "the ledger has another setting": Bench.count_otherwise,
}


def _until_exit(worker: WorkerProcess, kind: str) -> Exit:
    began = time.monotonic()
    ready_s = 0.0
    while time.monotonic() - began < HANGS_S:
        with suppress(TimeoutExpired):
            code = worker.wait(POLL_S)
            return Exit(kind, round(time.monotonic() - began, 2), code, round(ready_s, 2))
        if worker.readiness()[0]:
            ready_s = time.monotonic() - began
    return Exit(kind, None, None, round(ready_s, 2))


def crashes(number: int, at_once: int, works_s: float, report: Callable[[str], None]) -> list[Exit]:
    """That many crashes, of several workers at a time."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authtally-crashes-")))
        kafka = stack.enter_context(ApacheKafka(heap_mb=256))
        store = stack.enter_context(Valkey())
        benches = [Bench(kafka.address, store, folder, place) for place in range(at_once)]
        for bench in benches:
            stack.callback(bench.close)
            bench.ledger.flow(EVENTS_PER_S)
        kinds = list(CRASHES)

        def crash(place: int) -> list[Exit]:
            found = []
            for turn in range(place, number, at_once):
                found.append(benches[place].crash(kinds[(turn // at_once + place) % len(kinds)], works_s))
                report(f"{turn + 1}: {found[-1]}")
            return found

        with ThreadPoolExecutor(at_once) as pool:
            return [one for found in pool.map(crash, range(at_once)) for one in found]


def record(found: list[Exit], works_s: float) -> dict[str, Any]:
    """What goes into the recorded runs."""
    times = [one.exit_s for one in found if one.exit_s is not None]
    return {
        "what": "seconds from a crash of a worker to the end of its process",
        "machine": f"{os.cpu_count()} cores",
        "works_s": works_s,
        "crashes": len(found),
        "within_goal": sum(seconds <= GOAL_S for seconds in times),
        "goal_s": GOAL_S,
        "hung": len(found) - len(times),
        "exit_code_0": sum(one.exit_code == 0 for one in found),
        "exit": spread(times),
        "said_ready": spread([one.ready_s for one in found]),
        "each": [asdict(one) for one in found],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.qualification.chaos.crashes", description=__doc__)
    parser.add_argument("--crashes", type=int, default=30)
    parser.add_argument("--at-once", type=int, default=3, help="workers that run side by side")
    parser.add_argument("--works-s", type=float, default=30, help="seconds that each works before its crash")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = crashes(given.crashes, given.at_once, given.works_s, lambda line: print(line, flush=True))  # noqa: T201
    result = record(found, given.works_s)
    text = json.dumps(result, indent=1)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")
    print(text)  # noqa: T201
    return 0 if result["within_goal"] == result["crashes"] and not result["exit_code_0"] else 1


if __name__ == "__main__":
    sys.exit(main())
