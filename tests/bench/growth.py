"""How the worker's cost grows: with partitions, workers, days, labels and users; and what it holds over long logs.

Each point is measured against the default one (that of tests/bench/sample.py), runs interleaved, A B B A. What varies:

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
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import redis
from confluent_kafka import Producer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deploy.servers import ApacheKafka, Valkey, create_topics
from deploy.servers.process import stop_child
from deploy.servers.topics import admin
from schemas.keys import Shard
from tests.bench import sample
from tests.bench.arms import LIMIT_S, ROOT, WORKER, Stack, consumed
from tests.bench.measure import POLL_S, Speed, Stopwatch, rss

Say = Callable[[str], None]

ZIPF: Final = 1.1
CHUNK: Final = 50_000
STOP_S: Final = 10
RSS_GOAL: Final = 1.05
CATCH_UP_LIMIT: Final = 512 * 2**20
ALL_KEPT: Final = {"AUTHTALLY_RETAIN_DAYS": "36500"}
"""Whatever the day is on which this runs: a store deletes at once what has expired."""
EARLY: Final = (0.35, 0.45)
LATE: Final = (0.9, 1.0)
"""Shares of the log in which RSS is taken, its median: it rises and falls as users are remembered and forgotten."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a prefilled log looks like; as it stands, that of tests/bench/sample.py."""

    name: str
    topics: tuple[str, ...] = ("login", "token")
    partitions: int = sample.PARTITIONS
    days: float = sample.SPAN / timedelta(days=1)
    realms: int = sample.REALMS
    clients: int = sample.CLIENTS
    """In each realm."""
    users: int = sample.USERS
    zipf: float = ZIPF
    start: datetime = sample.START
    seed: int = 1

    @property
    def bound(self) -> dict[str, str]:
        """Topic to event."""
        return {f"bench.{self.name}.{event}": event for event in self.topics}

    @property
    def shards(self) -> list[Shard]:
        return [Shard(topic, place) for topic in self.bound for place in range(self.partitions)]

    def environment(self, stack: Stack, **settings: str) -> dict[str, str]:
        topics = ",".join(f"{topic}={event}" for topic, event in self.bound.items())
        return stack.environment(AUTHTALLY_TOPICS=topics, **settings)


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


# Points.


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
                    _forget(kafka.address, point.sample)
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


def read(stack: Stack, of: Sample, workers: int = 1, **settings: str) -> Speed:
    """Workers read a sample from its beginning into an empty ledger; CPU and RSS are those of all of them."""
    with redis.Redis.from_url(stack.store.url, decode_responses=True) as client:
        client.flushall()
        return _follow(stack, of, client, stack.events, workers, settings)


def _follow(
    stack: Stack,
    of: Sample,
    client: Any,
    until: int,
    workers: int = 1,
    settings: dict[str, str] | None = None,
    *,
    data_limit: int | None = None,
    look: Callable[[int, int], None] = lambda _, __: None,
) -> Speed:
    """Start workers, see them through until the ledger has consumed `until` events; `look` is told pid and consumed."""
    environment = of.environment(stack, **(settings or {}))

    def limit() -> None:
        if data_limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))

    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(workers):
            processes.append(  # noqa: PERF401 (what is started must be ended, whatever happens to the next)
                subprocess.Popen(WORKER, env=environment, stdout=subprocess.DEVNULL, cwd=ROOT, preexec_fn=limit)
            )
        return _timed(processes, client, of.shards, until, look)
    finally:
        # One by one, and not for ever: a worker that is told to stop while its group settles anew takes its time.
        for process in processes:
            stop_child(process, STOP_S)


def _timed(
    processes: Sequence[subprocess.Popen[bytes]],
    client: Any,
    shards: Sequence[Shard],
    until: int,
    look: Callable[[int, int], None],
) -> Speed:
    """As measure.watch, for several processes, from what the ledger has consumed before on."""
    before = consumed(client, shards)
    stopwatches = [Stopwatch(process.pid, until - before) for process in processes]
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in processes):
            raise RuntimeError("a process under measurement died")
        now = consumed(client, shards)
        for process in processes:
            look(process.pid, now)
        speeds = [speed for stopwatch in stopwatches if (speed := stopwatch.saw(now - before)) is not None]
        if len(speeds) == len(processes):
            cpu, held = sum(speed.cpu_s for speed in speeds), sum(speed.rss for speed in speeds)
            return Speed(speeds[0].events, speeds[0].wall_s, cpu, held)
        time.sleep(POLL_S)
    raise RuntimeError(f"not done within {LIMIT_S} s")


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


def peak(pid: int) -> int:
    """The most that a process has had in memory so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024


# Samples.


def prefill(bootstrap: str, of: Sample, events: int, *, create: bool = True) -> None:
    """Make the topics and produce the sample; returns when Kafka has all of it."""
    if create:
        config = {"retention.ms": "-1", "segment.ms": str(10**12)}
        dead = {} if _there(bootstrap, sample.DEAD) else {sample.DEAD: 1}
        create_topics(bootstrap, dict.fromkeys(of.bound, of.partitions) | dead, config)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "batch.size": 500_000,
            "queue.buffering.max.messages": 400_000,
        }
    )
    for number, (topic, value, partition, stamp) in enumerate(_records(of, events)):
        while True:
            try:
                producer.produce(topic, value, partition=partition, timestamp=stamp)
                break
            except BufferError:
                producer.poll(0.05)
        if not number % 20_000:
            producer.poll(0)
    left = producer.flush(120)
    if left:
        raise RuntimeError(f"{left} records were not produced")


def _records(of: Sample, events: int) -> Iterator[tuple[str, bytes, int, int]]:
    """Topic, value, partition and timestamp of each, in the order of their time."""
    topics, kinds = list(of.bound), len(of.topics)
    step_ms, start_ms = of.days * 86_400_000 / events, int(of.start.timestamp() * 1000)
    second, written = -1, ""
    for number, user in enumerate(_user_numbers(of, events)):
        stamp = start_ms + int(number * step_ms)
        if stamp // 1000 != second:
            second = stamp // 1000
            written = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}Z"
        kind = number % kinds
        yield topics[kind], _value(of, of.topics[kind], number // kinds, user, written), user % of.partitions, stamp


def _value(of: Sample, event: str, number: int, user: int, time_: str) -> bytes:
    """One record as tests/bench/sample.py makes them; `number` counts those of the topic."""
    realm = user % of.realms
    head = f'{{"time":"{time_}","user_id":"user-{user:08}","realm":"realm-{realm:02}"'
    # One client in each realm is that realm's own, so that there are as many clients as realms.
    head += f',"client_id":"client-{number % of.clients if of.clients > 1 else realm}"'
    if event == "token":
        grant = ("authorization_code", "refresh_token", "client_credentials")[number % 3]
        head += f',"grant_type":"{grant}","tokens":["access_token"]'
    else:
        head += ',"success":true' if number % 10 else ',"success":false,"reason":"locked"'
    return f'{head},"x":"'.encode().ljust(sample.VALUE_BYTES - 2, b"-") + b'"}'


def _user_numbers(of: Sample, events: int) -> Iterator[int]:
    """`events` user numbers below `of.users`, a chunk of them at a time."""
    chance = np.random.default_rng(of.seed)
    bounds = np.cumsum(np.arange(1, of.users + 1, dtype=np.float64) ** -of.zipf) if of.zipf else None
    for begun in range(0, events, CHUNK):
        size = min(CHUNK, events - begun)
        if bounds is None:
            yield from chance.integers(of.users, size=size).tolist()
        else:
            yield from np.searchsorted(bounds, chance.random(size) * bounds[-1], side="right").tolist()


def _there(bootstrap: str, topic: str) -> bool:
    return topic in admin(bootstrap).list_topics(timeout=10).topics


def _forget(bootstrap: str, of: Sample) -> None:
    client = admin(bootstrap)
    for future in client.delete_topics(list(of.bound), operation_timeout=10).values():
        future.result(10)


# Curves.

WALL: Final = "#0b6e4f"
CPU: Final = "#1f77b4"
TITLES: Final = {
    "partitions": "Partitions (logins only; 8 = 1)",
    "workers": "Workers",
    "days": "Days kept",
    "labels": "Realms, and as many clients",
    "users": "Users (dotted: equally likely)",
}


def draw(found: dict[str, Any], path: Path) -> None:
    """A panel for each axis, events/s in shares of the default's, and one of memory."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "authtally", "font.size": 9}):
        figure = Figure(figsize=(9.5, 6), layout="constrained")
        panels = list(figure.subplots(2, 3).flat)
        for axes, (axis, title) in zip(panels, TITLES.items(), strict=False):
            for name, line in ((axis, "-"), (f"{axis}, Zipf", "-"), (f"{axis}, uniform", ":")):
                _lines(axes, [row for row in found["points"] if row["axis"] == name], line)
            axes.axhline(1, color="#8d8d8d", linewidth=0.8)
            axes.set_ylim(bottom=0)
            axes.set_title(title, loc="left")
        panels[0].legend(frameon=False)
        for axes in (panels[0], panels[3]):
            axes.set_ylabel("events per second / default's")
        _memory(panels[5], found)
        for axes in panels:
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _lines(axes: Axes, rows: Sequence[dict[str, Any]], line: str) -> None:
    if not rows:
        return
    x = [row["x"] for row in rows]
    for kind, label, colour in (("ratio", "of wall time", WALL), ("cpu_ratio", "of CPU time", CPU)):
        axes.plot(x, [row[kind] for row in rows], line, marker="o", markersize=3.5, color=colour, label=label)
    if x[-1] > 2:
        axes.set_xscale("log")
    if x[-1] <= 1_000:
        axes.set_xticks(x, [f"{number:,}" for number in x])
        axes.minorticks_off()


def _memory(axes: Axes, found: dict[str, Any]) -> None:
    events, held = zip(*found["rss"]["curve"], strict=True)
    axes.plot([number / 1e6 for number in events], [size / 1e6 for size in held], color=WALL, linewidth=1.4)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("million events")
    axes.set_title("Memory of the worker, MB", loc="left")
