"""How the worker's cost grows: with partitions, workers, days, labels and users; and what it holds over long logs.

Each point is measured against the default one (that of tests/qualification/bench/sample.py), runs interleaved, A B B A.
What varies:

- partitions: of one topic of logins, since a second topic could not have half a partition; against 8 of the same
- workers: one and two of a group on the default sample. They share the machine with Kafka and the store
- days: those present in the sample, all of them kept (RETAIN_DAYS is far beyond them). The sample is no longer for
  it, so one range touches many days where a live log's touches one or two: a bound from above, not a running cost
- labels: that many realms, and as many clients, one in each realm
- users: that many to draw from, all equally likely or by Zipf's law
"""

from __future__ import annotations

import itertools
import resource
import statistics
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import redis

from deploy.demo.servers import Valkey
from deploy.demo.servers.process import stop_child
from tests.qualification.bench.arms import LIMIT_S, ROOT, WORKER, Stack, consumed
from tests.qualification.bench.measure import Speed, peak, rss, watch
from tests.qualification.bench.shapes import ZIPF, Sample, forget, prefill
from tests.servers import ApacheKafka

Say = Callable[[str], None]

STOP_S: Final = 10
RSS_GOAL: Final = 1.05
CATCH_UP_LIMIT: Final = 512 * 2**20
ALL_KEPT: Final = {"AUTHTALLY_RETAIN_DAYS": "36500"}
"""Whatever the day is on which this runs: a store deletes at once what has expired."""
EARLY: Final = (0.35, 0.45)
LATE: Final = (0.9, 1.0)
"""Shares of the log in which RSS is taken, its median: it rises and falls as users are remembered and forgotten."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where `axis` is `x`. `against` is the sample that it is measured against, by one worker."""

    axis: str
    x: int
    sample: Sample
    against: Sample
    workers: int = 1
    settings: tuple[tuple[str, str], ...] = ()


DEFAULT: Final = Sample("default")
LOGINS: Final = Sample("logins", topics=("login",), partitions=8)
LONG_AGO: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""400 days from here on are past."""

POINTS: Final = (
    *(
        Point("partitions", x, replace(LOGINS, name=f"partitions-{x}", partitions=x), against=LOGINS)
        for x in (1, 4, 16, 64)
    ),
    *(Point("workers", x, DEFAULT, against=DEFAULT, workers=x) for x in (1, 2)),
    *(
        Point(
            "days",
            x,
            replace(DEFAULT, name=f"days-{x}", days=x, start=LONG_AGO),
            against=DEFAULT,
            settings=tuple(ALL_KEPT.items()),
        )
        for x in (1, 30, 400)
    ),
    *(
        Point("labels", x, replace(DEFAULT, name=f"labels-{x}", realms=x, clients=1), against=DEFAULT)
        for x in (1, 100, 1_000)
    ),
    *(
        Point(axis, x, replace(DEFAULT, name=f"{axis.replace(', ', '-')}-{x}", users=x, zipf=zipf), against=DEFAULT)
        for axis, zipf in (("users, Zipf", ZIPF), ("users, uniform", 0.0))
        for x in (10**4, 10**5, 10**6, 10**7)
    ),
)


def measure(quick: bool, say: Say, events: int | None = None, long: int | None = None) -> dict[str, Any]:
    """`points`, `rss` and `catch_up`. `events` are those of a point, `long` those that RSS is watched over."""
    events = events or (300_000 if quick else 600_000)
    # Memory of users fills during the first million and a half: 40 % has to lie beyond.
    long = long or (5_000_000 if quick else 20_000_000)
    backlog = 1_000_000 if quick else 10_000_000
    with Valkey() as store:
        found: dict[str, Any] = {"events": events, "points": points(store, events, 1 if quick else 2, say)}
        found |= over_time(store, long, backlog, say)
    return found | {"met": found["rss"]["met"] and found["catch_up"]["met"]}


def points(store: Valkey, events: int, pairs: int, say: Say, asked: Sequence[Point] = POINTS) -> list[dict[str, Any]]:
    """Every point's speed beside that of what it is measured against."""
    found = []
    for together in (False, True):
        some = [point for point in asked if (point.workers > 1 or point.axis == "workers") == together]
        if not some:
            continue
        # Workers of one group wait for each other, else the first would begin alone.
        properties = {"group.initial.rebalance.delay.ms": "3000"} if together else {}
        with ApacheKafka(properties=properties) as kafka:
            stack = Stack(kafka, store, events)
            held: set[Sample] = set()
            for point in some:
                for needed in {point.against, point.sample} - held:
                    prefill(kafka.address, needed, events)
                    held.add(needed)
                found.append(_beside(point, stack, pairs, say))
                if point.sample != point.against:
                    # A full run would fill the disk with logs that are read no more.
                    forget(kafka.address, point.sample)
                    held.discard(point.sample)
    order = {(point.axis, point.x): place for place, point in enumerate(POINTS)}
    return sorted(found, key=lambda row: order[row["axis"], row["x"]])


def _beside(point: Point, stack: Stack, pairs: int, say: Say) -> dict[str, Any]:
    runs: dict[str, list[Speed]] = {"point": [], "against": []}
    arms = {
        "point": lambda: read(stack, point.sample, workers=point.workers, **dict(point.settings)),
        "against": lambda: read(stack, point.against),
    }
    for pair in range(pairs):
        for name in arms if pair % 2 == 0 else reversed(arms):
            runs[name].append(arms[name]())
    both = list(zip(runs["point"], runs["against"], strict=True))
    wall = [ours.per_second / theirs.per_second for ours, theirs in both]
    cpu = [ours.per_cpu_second / theirs.per_cpu_second for ours, theirs in both]
    speed = statistics.median(run.per_second for run in runs["point"])
    say(f"  {point.axis} {point.x:,}: {speed:,.0f} events/s, {statistics.median(wall):.2f} of the default's")
    return {
        "axis": point.axis,
        "x": point.x,
        "ratio": statistics.median(wall),
        "cpu_ratio": statistics.median(cpu),
        "ratios": wall,
        "cpu_ratios": cpu,
        "per_second": speed,
        "per_cpu_second": statistics.median(run.per_cpu_second for run in runs["point"]),
        "runs": {name: [asdict(run) for run in found] for name, found in runs.items()},
    }


def read(stack: Stack, shape: Sample, workers: int = 1, **settings: str) -> Speed:
    """Workers read a sample from its beginning into an empty ledger; CPU and RSS are those of all of them."""
    with redis.Redis.from_url(stack.store.url, decode_responses=True) as client:
        client.flushall()
        return _follow(stack, shape, client, stack.events, workers, settings)


def _follow(
    stack: Stack,
    shape: Sample,
    client: Any,
    until: int,
    workers: int = 1,
    settings: dict[str, str] | None = None,
    *,
    data_limit: int | None = None,
    look: Callable[[int, int], None] = lambda _, __: None,
) -> Speed:
    """Start workers and wait until the ledger has consumed `until` events; `look` is called with pid and consumed."""
    environment = shape.environment(stack, **(settings or {}))

    def limit() -> None:
        if data_limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))

    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(workers):
            processes.append(  # noqa: PERF401 (what is started must be ended, whatever happens to the next)
                subprocess.Popen(WORKER, env=environment, stdout=subprocess.DEVNULL, cwd=ROOT, preexec_fn=limit)
            )
        before = consumed(client, shape.shards)
        return watch(processes, until - before, lambda: consumed(client, shape.shards) - before, LIMIT_S, look)
    finally:
        # One by one, and with a limit: a worker that is stopped during a rebalance takes its time.
        for process in processes:
            stop_child(process, STOP_S)


# Long logs.


def over_time(store: Valkey, events: int, backlog: int, say: Say) -> dict[str, Any]:
    """A worker reads `events`; then an outage, in which `backlog` piles up; another catches up in bounded memory."""
    whole = replace(DEFAULT, name="long")
    step = timedelta(days=whole.days) / events
    later = replace(whole, start=whole.start + step * events, days=whole.days * backlog / events, seed=2)
    with ExitStack() as opened:
        kafka = opened.enter_context(ApacheKafka())
        client = opened.enter_context(redis.Redis.from_url(store.url, decode_responses=True))
        client.flushall()
        say(f"filling Kafka with {events:,} events …")
        prefill(kafka.address, whole, events)
        stack = Stack(kafka, store, events)
        curve: list[tuple[int, int]] = []
        speed = _follow(stack, whole, client, events, look=lambda pid, now: curve.append((now, rss(pid))))
        flat = _flat(curve, events, speed)
        say(f"  RSS after {events:,} events: {speed.rss / 1e6:.0f} MB, {flat['ratio']:.3f} of that at 40 %")

        say(f"outage: {backlog:,} events pile up …")
        prefill(kafka.address, later, backlog, create=False)
        peaks: list[int] = []
        speed = _follow(
            stack,
            later,
            client,
            events + backlog,
            data_limit=CATCH_UP_LIMIT,
            look=lambda pid, _: peaks.append(peak(pid)),
        )
    say(f"  caught up with {backlog:,} events at {speed.per_second:,.0f} events/s, peak {max(peaks) / 1e6:.0f} MB")
    catch_up = {
        "events": backlog,
        "limited_by": "RLIMIT_DATA",
        "limit": CATCH_UP_LIMIT,
        "peak": max(peaks),
        "run": asdict(speed),
        "met": max(peaks) <= CATCH_UP_LIMIT,
    }
    return {"rss": flat, "catch_up": catch_up}


def _flat(curve: Sequence[tuple[int, int]], events: int, speed: Speed) -> dict[str, Any]:
    early, late = (
        statistics.median(held for now, held in curve if low * events <= now <= high * events)
        for low, high in (EARLY, LATE)
    )
    # A few hundred places are enough to draw.
    thinned = [next(found) for _, found in itertools.groupby(curve, key=lambda at: at[0] * 200 // events)]
    return {
        "events": events,
        "goal": RSS_GOAL,
        "early": early,
        "late": late,
        "ratio": late / early,
        "met": late / early <= RSS_GOAL,
        "curve": thinned,
        "run": asdict(speed),
    }
