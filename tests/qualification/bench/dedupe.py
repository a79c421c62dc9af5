"""The cost of deduplication: the worker with a window beside the worker without."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from deploy.demo.servers import Valkey
from tests.qualification.bench.arms import Stack
from tests.qualification.bench.growth import read
from tests.qualification.bench.measure import Speed
from tests.qualification.bench.shapes import Sample, prefill
from tests.servers import ApacheKafka

IDS: Final = Sample("ids", ids=True)
ARMS: Final[dict[str, dict[str, Any]]] = {"with": {}, "without": {"AUTHTALLY_DEDUPE_WINDOW_S": "0"}}


def measure(quick: bool, say: Callable[[str], object]) -> dict[str, Any]:
    """Interleaved pairs. No goal: what is wanted is the figure."""
    events, pairs = (400_000, 2) if quick else (2_000_000, 4)
    runs: dict[str, list[Speed]] = {name: [] for name in ARMS}
    with Valkey() as store, ApacheKafka() as kafka:
        say(f"filling Kafka with {events:,} events with ids …")
        prefill(kafka.address, IDS, events)
        stack = Stack(kafka, store, events)
        for pair in range(pairs):
            for name in ARMS if pair % 2 == 0 else reversed(ARMS):
                speed = read(stack, IDS, **ARMS[name])
                runs[name].append(speed)
                say(f"  {name}: {speed.per_second:,.0f} events/s, {speed.per_cpu_second:,.0f} per CPU second")
    both = list(zip(runs["with"], runs["without"], strict=True))
    return {
        "events": events,
        "ratio": statistics.median(a.per_second / b.per_second for a, b in both),
        "cpu_ratio": statistics.median(a.per_cpu_second / b.per_cpu_second for a, b in both),
        "cpu_s_per_million": statistics.median((a.cpu_s - b.cpu_s) / a.events * 1e6 for a, b in both),
        "bytes_per_id": statistics.median((a.rss - b.rss) / a.events for a, b in both),
        "runs": {name: [asdict(speed) for speed in found] for name, found in runs.items()},
        "met": True,
    }
