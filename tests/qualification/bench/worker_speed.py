"""The worker against its Kafka client without further work, and against alternatives, on real servers.

The compared programs, called arms, run in turn, A B B A, so that a machine that slows down slows both. Each pair gives
a ratio of events per second, and one of events per CPU second, which a busy machine disturbs less. If both arms write
figures, these must be equal, else the run is void.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import redis
from rich.console import Console
from rich.table import Table

from deploy.demo.servers import Valkey
from tests.qualification.bench import sample
from tests.qualification.bench.arms import ARMS, Stack, Work
from tests.qualification.bench.measure import Speed
from tests.servers import ApacheKafka


class Comparison(NamedTuple):
    """Arm `ours` against arm `theirs`: the least ratios that are accepted, and the share of the sample that is read."""

    ours: str
    theirs: str
    goal: float | None
    """Of events per second; None for a ratio that is only reported."""
    share: float = 1.0
    cpu_goal: float | None = None
    """Of events per CPU second."""


COMPARISONS: Final = (
    Comparison("worker", "aiokafka getmany", 0.60),
    Comparison("worker, months only", "aiokafka getmany", 0.70),
    Comparison("worker", "aiokafka getmany + decode", 0.75),
    Comparison("worker, months only", "aiokafka getmany + decode", 0.85),
    Comparison("worker", "Quix Streams", 2.2),
    Comparison("worker", "Bytewax", 1.7),
    Comparison("worker", "Kafka Streams", 1.2, cpu_goal=2.5),
    Comparison("worker", "Kafka Streams, compiled", None),
    # Both cores for both: Kafka Streams has two threads, a worker has one.
    Comparison("two workers", "Kafka Streams", None),
    Comparison("worker", "worker without the compare", 0.97),
    # Plain Faust needs minutes for what the worker reads in seconds.
    Comparison("worker, months only", "plain Faust, months only", 25.0, share=0.1),
)

UNIFORM: Final = (
    COMPARISONS[0],
    Comparison("worker", "Kafka Streams", None, cpu_goal=2.3),
    Comparison("worker", "Kafka Streams, compiled", None),
    Comparison("two workers", "Kafka Streams", None),
)

SAMPLES: Final = {"Zipf 1.1": (1.1, COMPARISONS), "uniform": (0.0, UNIFORM)}
"""Each kind of users: its exponent and what is compared."""
NAIVE_ROUND_TRIPS: Final = 3_000_000
"""Of a million events counted by PFADD, HINCRBY and SET, one after the other."""
MOST_ROUND_TRIPS: Final = 600


def measure(quick: bool, say: Callable[[str], object]) -> dict[str, Any]:
    """All comparisons with Zipf users, some with uniform ones too; and round trips. Plain JSON, goals included."""
    events, pairs = (400_000, 2) if quick else (2_000_000, 4)
    results = []
    with Valkey() as store:
        for name, (zipf, comparisons) in SAMPLES.items():
            for share in sorted({comparison.share for comparison in comparisons}):
                asked = [comparison for comparison in comparisons if comparison.share == share]
                size = int(events * share)
                with ApacheKafka() as kafka:
                    say(f"filling Kafka with {size:,} events, users {name} …")
                    sample.prefill(kafka.address, size, zipf)
                    stack = Stack(kafka, store, size)
                    results += [{**compare(comparison, stack, pairs, say), "users": name} for comparison in asked]
        trips = _round_trips(store, events, say)
    return {"comparisons": results, "round_trips": trips, "met": all(r["met"] for r in (*results, trips))}


def compare(comparison: Comparison, stack: Stack, pairs: int, say: Callable[[str], object]) -> dict[str, Any]:
    """Run a comparison's pairs. Raises RuntimeError when the arms did not do the same work."""
    speeds: dict[str, list[Speed]] = {comparison.ours: [], comparison.theirs: []}
    left: dict[str, Work | None] = {}
    for pair in range(pairs):
        order = (comparison.ours, comparison.theirs)
        for name in order if pair % 2 == 0 else reversed(order):
            speed, left[name] = ARMS[name](stack)
            speeds[name].append(speed)
            say(f"  {name}: {speed.per_second:,.0f} events/s, {speed.per_cpu_second:,.0f} per CPU second")
    ours, theirs = left[comparison.ours], left[comparison.theirs]
    difference = ours.differs(theirs) if ours is not None and theirs is not None else None
    if difference:
        raise RuntimeError(f"void: {comparison.ours} and {comparison.theirs}: {difference}")
    both = list(zip(speeds[comparison.ours], speeds[comparison.theirs], strict=True))
    wall = [a.per_second / b.per_second for a, b in both]
    cpu = [a.per_cpu_second / b.per_cpu_second for a, b in both]
    return {
        "ours": comparison.ours,
        "theirs": comparison.theirs,
        "events": stack.events,
        "goal": comparison.goal,
        "cpu_goal": comparison.cpu_goal,
        "ratios": wall,
        "cpu_ratios": cpu,
        "met": reached(wall, comparison.goal) and reached(cpu, comparison.cpu_goal),
        "runs": {name: [asdict(speed) for speed in found] for name, found in speeds.items()},
    }


def reached(ratios: list[float], goal: float | None) -> bool:
    return goal is None or statistics.median(ratios) >= goal


def _round_trips(store: Valkey, events: int, say: Callable[[str], object]) -> dict[str, Any]:
    """Scripts run per million events: each is one round trip."""
    with ApacheKafka() as kafka:
        say("counting round trips …")
        sample.prefill(kafka.address, events)
        with redis.Redis.from_url(store.url) as client:
            client.config_resetstat()
            ARMS["worker"](Stack(kafka, store, events))
            ran: Any = client.info("commandstats")
    scripts = sum(ran.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))
    per_million = scripts * 1e6 / events
    goal = MOST_ROUND_TRIPS
    return {"per_million": per_million, "naive": NAIVE_ROUND_TRIPS, "goal": goal, "met": per_million <= goal}


def show(found: dict[str, Any], console: Console) -> None:
    table = Table(title="Worker: median ratio of pairs (least … most)")
    for column in ("ours", "against", "users", "events/s", "per CPU second", "goal", "met"):
        table.add_column(column)
    for result in found["comparisons"]:
        table.add_row(
            result["ours"],
            result["theirs"],
            result["users"],
            spread(result["ratios"]),
            spread(result["cpu_ratios"]),
            goals(result["goal"], result["cpu_goal"]),
            "yes" if result["met"] else "no",
        )
    console.print(table)
    trips = found["round_trips"]
    console.print(
        f"Round trips to the store per million events: {trips['per_million']:.0f} (goal ≤ {trips['goal']}); "
        f"one command at a time: {trips['naive']:,}."
    )


def goals(wall: float | None, cpu: float | None) -> str:
    found = ("" if wall is None else f"≥ {wall:g}", "" if cpu is None else f"≥ {cpu:g} per CPU second")
    return ", ".join(goal for goal in found if goal)


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})"
