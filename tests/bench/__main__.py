"""`make bench`: the worker against its ceilings and alternatives, side by side on real servers.

Arms run interleaved, A B B A, so that a machine that slows down slows both. Ratios are of events per second, pair by
pair; below them the same of CPU seconds, which a busy machine disturbs less. Two arms that claim the same work must
leave the same counters, else the run is void.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from deploy.servers import ApacheKafka, Valkey
from tests.bench import sample
from tests.bench.arms import ARMS, Stack, Work
from tests.bench.measure import Speed


class Comparison(NamedTuple):
    """Arm `ours` against arm `theirs`: the ratio wanted at least, and the share of the sample that is read."""

    ours: str
    theirs: str
    goal: float
    share: float = 1.0


COMPARISONS: Final = (
    Comparison("worker", "aiokafka getmany", 0.60),
    Comparison("worker, months only", "aiokafka getmany", 0.70),
    Comparison("worker", "aiokafka getmany + decode", 0.75),
    Comparison("worker, months only", "aiokafka getmany + decode", 0.85),
    Comparison("worker", "Quix Streams", 2.2),
    Comparison("worker", "Bytewax", 1.7),
    Comparison("worker", "worker without the compare", 0.97),
    # Plain Faust needs minutes for what the worker reads in seconds.
    Comparison("worker, months only", "plain Faust, months only", 25.0, share=0.1),
)
GROWTH_GOAL: Final = 1.05


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--events", type=int, default=4_000_000, help="events in the sample")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of runs per comparison, an even number")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sample, two pairs: two minutes")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="where the figures go as JSON")
    given = parser.parse_args()
    events, pairs = (given.events // 10, 2) if given.quick else (given.events, given.pairs)

    console = Console(soft_wrap=True)
    results: list[dict[str, Any]] = []
    with Valkey() as store:
        for share in sorted({comparison.share for comparison in COMPARISONS}):
            size = int(events * share)
            with ApacheKafka() as kafka:
                console.print(f"filling Kafka with {size:,} events …")
                sample.prefill(kafka.address, size)
                stack = Stack(kafka, store, size)
                asked = [comparison for comparison in COMPARISONS if comparison.share == share]
                results += [compare(comparison, stack, pairs, console) for comparison in asked]
        growth = memory(store, events, console)
    show(results, growth, console)
    given.out.write_text(json.dumps({"comparisons": results, "rss": growth}, indent=2))
    sys.exit(0 if all(result["met"] for result in (*results, growth)) else 1)


def compare(comparison: Comparison, stack: Stack, pairs: int, console: Console) -> dict[str, Any]:
    """Run a comparison's pairs. Raises RuntimeError when the arms did not do the same work."""
    speeds: dict[str, list[Speed]] = {comparison.ours: [], comparison.theirs: []}
    left: dict[str, Work | None] = {}
    for pair in range(pairs):
        order = (comparison.ours, comparison.theirs)
        for name in order if pair % 2 == 0 else reversed(order):
            speed, left[name] = ARMS[name](stack)
            speeds[name].append(speed)
            console.print(f"  {name}: {speed.per_second:,.0f} events/s, {speed.per_cpu_second:,.0f} per CPU second")
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
        "ratios": wall,
        "cpu_ratios": cpu,
        "met": statistics.median(wall) >= comparison.goal,
        "runs": {name: [asdict(speed) for speed in found] for name, found in speeds.items()},
    }


def memory(store: Valkey, events: int, console: Console) -> dict[str, Any]:
    """RSS of a worker after 2.5 times the sample against after the sample itself: flat means that nothing piles up."""
    found = []
    for size in (events, events * 5 // 2):
        with ApacheKafka() as kafka:
            console.print(f"filling Kafka with {size:,} events …")
            sample.prefill(kafka.address, size)
            speed, _ = ARMS["worker"](Stack(kafka, store, size))
            found.append(speed.rss)
            console.print(f"  RSS after {size:,} events: {speed.rss / 1e6:.0f} MB")
    ratio = found[1] / found[0]
    return {"events": [events, events * 5 // 2], "rss": found, "ratio": ratio, "met": ratio <= GROWTH_GOAL}


def show(results: list[dict[str, Any]], growth: dict[str, Any], console: Console) -> None:
    table = Table(title=f"Worker, {time.strftime('%Y-%m-%d')}: median ratio of pairs (least … most)")
    for column in ("ours", "against", "events/s", "per CPU second", "goal", "met"):
        table.add_column(column)
    for result in results:
        table.add_row(
            result["ours"],
            result["theirs"],
            spread(result["ratios"]),
            spread(result["cpu_ratios"]),
            f"≥ {result['goal']:g}",
            "yes" if result["met"] else "no",
        )
    table.add_row(
        "worker RSS", "itself earlier", f"{growth['ratio']:.3f}", "", f"≤ {GROWTH_GOAL:g}", str(growth["met"])
    )
    console.print(table)


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})"


if __name__ == "__main__":
    main()
