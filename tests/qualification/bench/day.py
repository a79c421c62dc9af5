"""A day of ten million users, in minutes: 16 partitions, two workers, an outage in the evening, and the dashboard.

Users are drawn with equal chance, so that most events have a new user of the day, which costs most. A process of its
own publishes the day's events at an even pace; the record timestamps are those of yesterday, so the day passes
`FACTOR` times as fast. For a twelfth of the day both workers are down. Meanwhile the dashboard's first load is asked
again and again. Lag, answers, memory of workers and store are sampled every second.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import aiohttp
import numpy as np
import redis

from deploy.demo.servers import Valkey
from deploy.demo.servers.process import stop_child
from schemas.ledger import accuracy
from schemas.ledger.scopes import EVERYTHING
from tests.conftest import clustered
from tests.integration.api_process import ApiProcess
from tests.qualification.bench import sample
from tests.qualification.bench.arms import ROOT, WORKER, Stack, consumed
from tests.qualification.bench.measure import cpu_s, rss
from tests.qualification.bench.popular import first_load
from tests.qualification.bench.shapes import Sample, make_topics, records, user_numbers
from tests.servers import ApacheKafka

WORKERS: Final = 2
PARTITIONS: Final = 8
"""Of each of two topics."""
USERS: Final = 10_000_000
DOWN: Final = (0.70, 0.78)
"""Share of the day in which no worker runs."""
NEAR: Final = 0.005
"""Share of the day's events that may be published and not counted while the workers keep up."""
SETTLED: Final = 0.5
"""Share of the day after which the sketches of the day are dense, so that memory must be flat."""
FLAT_GOAL: Final = 1.15
LIMIT_S: Final = 420
STOP_S: Final = 20


class Length(NamedTuple):
    events: int
    seconds: float


FULL: Final = Length(10_000_000, 240.0)
QUICK: Final = Length(1_000_000, 60.0)


class Second(NamedTuple):
    """What was sampled at one time. `worker_bytes` of all workers, 0 while they are down."""

    at_s: float
    published: int
    counted: int
    worker_bytes: int
    store_bytes: int


@dataclass
class Asked:
    """The answers to the dashboard's requests: statuses and milliseconds, by whether the workers were behind."""

    statuses: Counter[str] = field(default_factory=Counter)
    ms: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})


class Ledger(NamedTuple):
    """`server` is one of its nodes, `nodes` are clients of all of them."""

    server: Valkey
    nodes: Sequence[Any]
    client: Any

    @property
    def is_cluster(self) -> str:
        return str(len(self.nodes) > 1).lower()

    def bytes(self) -> int:
        return sum(int(node.info("memory")["used_memory"]) for node in self.nodes)

    def cpu_s(self) -> float:
        found = [node.info("cpu") for node in self.nodes]
        return float(sum(each["used_cpu_user_main_thread"] + each["used_cpu_sys_main_thread"] for each in found))


@contextmanager
def opened(primaries: int) -> Iterator[Ledger]:
    """A ledger's store: one server, or a Cluster of several."""
    with ExitStack() as stack:
        servers: Sequence[Valkey] = (
            stack.enter_context(clustered(Valkey, primaries)) if primaries > 1 else [stack.enter_context(Valkey())]
        )
        nodes = [stack.enter_context(redis.Redis.from_url(each.url, decode_responses=True)) for each in servers]
        client: Any = nodes[0]
        if primaries > 1:
            client = stack.enter_context(redis.RedisCluster.from_url(servers[0].url, decode_responses=True))
        yield Ledger(servers[0], nodes, client)


def publish(bootstrap: str, shape: Sample, length: Length, published: Any) -> None:
    """Publish the day's events at an even pace; `published` is a shared number of them."""

    def paced() -> Iterator[sample.Produced]:
        began = time.monotonic()
        for number, record in enumerate(records(shape, length.events)):
            if not number % 1_000:
                published.value = number
                time.sleep(max(0.0, began + number * length.seconds / length.events - time.monotonic()))
            yield record

    sample.produce(bootstrap, paced())
    published.value = length.events


async def _ask(url: str, paths: Sequence[str], is_over: Callable[[], bool], behind: Callable[[], bool]) -> Asked:
    """Ask for one path after the other until the day is over."""
    asked, number = Asked(), 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        while not is_over():
            late, began = behind(), time.perf_counter()
            async with session.get(url + paths[number % len(paths)]) as response:
                await response.read()
                asked.statuses[str(response.status)] += 1
            asked.ms[late].append((time.perf_counter() - began) * 1000)
            number += 1
            await asyncio.sleep(0.05)
    return asked


class Day:
    """A running day."""

    def __init__(self, kafka: ApacheKafka, ledger: Ledger, shape: Sample, length: Length, published: Any) -> None:
        self.ledger, self.shape, self.length, self.published = ledger, shape, length, published
        self._environment = shape.environment(
            Stack(kafka, ledger.server, length.events), AUTHTALLY_REDIS_CLUSTER=ledger.is_cluster
        )
        self.processes: list[subprocess.Popen[bytes]] = []
        self.seconds: list[Second] = []
        self.began = time.monotonic()
        self.caught_up_s: float | None = None
        self.lag_before = self.lag_after = self.published_before = 0
        """Events published and not counted when the outage began and ended; events published at its begin."""
        self.cpu = 0.0

    def start(self) -> None:
        self.processes = [
            subprocess.Popen(WORKER, env=self._environment, stdout=subprocess.DEVNULL, cwd=ROOT) for _ in range(WORKERS)
        ]

    def stop(self) -> None:
        self.cpu += sum(cpu_s(process.pid) for process in self.processes if process.poll() is None)
        for process in self.processes:
            stop_child(process, STOP_S)
        self.processes = []

    def look(self) -> Second:
        if any(process.poll() is not None for process in self.processes):
            raise RuntimeError("a worker died")
        held = sum(rss(process.pid) for process in self.processes)
        counted = consumed(self.ledger.client, self.shape.shards)
        now, published = time.monotonic() - self.began, self.published.value
        self.seconds.append(Second(now, published, counted, held, self.ledger.bytes()))
        return self.seconds[-1]

    def is_behind(self) -> bool:
        """Whether more is published and not counted than NEAR allows, by the last sample."""
        return bool(self.seconds) and self._lag(self.seconds[-1]) > NEAR * self.length.events

    def _lag(self, at: Second) -> int:
        return max(0, at.published - at.counted)

    async def run(self) -> None:
        """Follow the day to its last event."""
        self.began = time.monotonic()
        is_down = False
        while True:
            now = await asyncio.to_thread(self.look)
            share = now.at_s / self.length.seconds
            if DOWN[0] <= share < DOWN[1] and not is_down:
                self.lag_before, self.published_before = self._lag(now), now.published
                await asyncio.to_thread(self.stop)
                is_down = True
            elif share >= DOWN[1] and is_down and not self.processes:
                self.lag_after = self._lag(now)
                await asyncio.to_thread(self.start)
            elif share >= DOWN[1] and self.caught_up_s is None and not self.is_behind():
                self.caught_up_s = now.at_s - DOWN[1] * self.length.seconds
            if now.counted >= self.length.events:
                return
            if now.at_s > self.length.seconds + LIMIT_S:
                raise RuntimeError(f"{now.counted:,} of {self.length.events:,} events were counted in time")
            await asyncio.sleep(1)


def measure(quick: bool, say: Callable[[str], object]) -> dict[str, Any]:
    """The day with one store, and a short one with a Cluster of three."""
    found = {"one server": follow(QUICK if quick else FULL, 1, say), "Cluster of 3": follow(QUICK, 3, say)}
    return {"days": found, "goal": FLAT_GOAL, "met": all(day["met"] for day in found.values())}


def follow(length: Length, primaries: int, say: Callable[[str], object]) -> dict[str, Any]:
    today = datetime.now(UTC).date()
    start = datetime(today.year, today.month, today.day, tzinfo=UTC) - timedelta(days=1)
    shape = Sample(f"day-{primaries}", partitions=PARTITIONS, days=1, users=USERS, zipf=0.0, start=start)
    paths = [path for path in first_load(today) if "active-users" not in path or "group_by=client_id" not in path]
    say(f"a day of {length.events:,} events in {length.seconds:.0f} s, {primaries} store(s) …")
    with ExitStack() as stack:
        ledger = stack.enter_context(opened(primaries))
        kafka = stack.enter_context(ApacheKafka())
        make_topics(kafka.address, shape)
        api = stack.enter_context(ApiProcess(redis_url=ledger.server.url, redis_cluster=ledger.is_cluster, auth="none"))
        context = multiprocessing.get_context("spawn")
        published = context.Value("q", 0)
        day = Day(kafka, ledger, shape, length, published)
        stack.callback(day.stop)
        day.start()
        publisher = context.Process(target=publish, args=(kafka.address, shape, length, published))
        publisher.start()
        store_cpu = ledger.cpu_s()

        async def whole() -> Asked:
            following = asyncio.create_task(day.run())
            asked = await _ask(f"http://{api.address}", paths, following.done, day.is_behind)
            await following
            return asked

        asked = asyncio.run(whole())
        publisher.join()
        store_cpu = ledger.cpu_s() - store_cpu
        day.stop()
        found = _found(day, asked, store_cpu) | _users(api.address, shape, length)
    error = abs(found["users"] / found["users_expected"] - 1)
    found["met"] = found["met"] and error <= 4 * found["users_error"]
    say(f"  {_line(found)}")
    return found


def _found(day: Day, asked: Asked, store_cpu: float) -> dict[str, Any]:
    length = day.length
    settled = [each for each in day.seconds if each.at_s > SETTLED * length.seconds]
    store_growth = settled[-1].store_bytes / settled[0].store_bytes
    # Of the workers that caught up: they hold the most then, and must not hold more later.
    held = [each.worker_bytes for each in settled if each.worker_bytes and each.at_s > DOWN[1] * length.seconds]
    worker_growth = statistics.median(held[-10:]) / max(held[: len(held) // 2])
    return {
        "events": length.events,
        "factor": 86_400 / length.seconds,
        "caught_up_s": day.caught_up_s,
        "pace": day.published_before / (DOWN[0] * length.events),
        "lag_before": day.lag_before,
        "lag_after": day.lag_after,
        "worker_cpu_s_per_million": day.cpu / length.events * 1e6,
        "store_cpu_s_per_million": store_cpu / length.events * 1e6,
        "store_bytes": settled[-1].store_bytes,
        "store_growth": store_growth,
        "worker_peak_bytes": max(each.worker_bytes for each in day.seconds) // WORKERS,
        "worker_growth": worker_growth,
        "statuses": dict(asked.statuses),
        "ms": {
            name: {"median": statistics.median(times), "most": max(times), "asked": len(times)}
            for name, times in (("keeping up", asked.ms[False]), ("behind", asked.ms[True]))
            if times
        },
        "seconds": day.seconds,
        # A short day ends before the sketches of all shards are dense.
        "met": length != FULL or max(store_growth, worker_growth) <= FLAT_GOAL,
    }


def _users(address: str, shape: Sample, length: Length) -> dict[str, Any]:
    """The day's users by the api, and by a plain count of the same draws."""

    async def ask() -> int:
        day = f"{shape.start:%Y-%m-%d}"
        url = f"http://{address}/v1/active-users?from={day}&to={day}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return int((await response.json())["items"][0]["value"])

    active = np.zeros(shape.users, dtype=bool)
    for number, user in enumerate(user_numbers(shape, length.events)):
        # As sample.value makes them: nine of ten logins succeed, a third of the tokens are refreshes.
        if (number // 2) % 10 if number % 2 == 0 else (number // 2) % 3 == 1:
            active[user] = True
    return {
        "users": asyncio.run(ask()),
        "users_expected": int(active.sum()),
        "users_error": accuracy.standard_error(f"{shape.start:%Y-%m-%d}", EVERYTHING),
    }


def _line(found: dict[str, Any]) -> str:
    answers = "; ".join(
        f"{name}: {summary['asked']} answers, median {summary['median']:.0f} ms, most {summary['most']:.0f} ms"
        for name, summary in found["ms"].items()
    )
    return (
        f"{found['events']:,} events, {found['factor']:.0f} times as fast; published at {found['pace']:.2f} of the "
        f"pace; {found['lag_before']:,} events not counted before the outage, {found['lag_after']:,} after it, "
        f"caught up in {found['caught_up_s'] or 0:.0f} s; worker {found['worker_cpu_s_per_million']:.2f}, store "
        f"{found['store_cpu_s_per_million']:.2f} CPU s per million; worker {found['worker_peak_bytes'] / 1e6:.0f} MB "
        f"(late/before {found['worker_growth']:.2f}); store {found['store_bytes'] / 1e6:.0f} MB (late/middle "
        f"{found['store_growth']:.2f}); {found['users']:,} users of {found['users_expected']:,}; "
        f"{found['statuses']}; {answers}"
    )
