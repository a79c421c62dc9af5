"""The cost of the tokens by which merged periods are recognised: the script with them against the script without.

Both count the same ranges by the worker's own fold, without Kafka, in runs A B B A; CPU of this process and of the
store's main thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import redis

from aggregator.ledger import ledger
from deploy.demo.servers import Valkey
from tests.aggregator.counting import Counting
from tests.aggregator.logs import LogRecord
from tests.qualification.bench import sample

TOKEN: Final = "redis.call('HSET', KEYS[8], period, ARGV[4])"
RANGE: Final = 4_000
"""Records of one range: about what the worker applies at once when it is not behind."""
GOAL: Final = 0.97


def without_tokens(script: str) -> str:
    """The script without the tokens of periods. Raises ValueError if it no longer has the line to leave out."""
    if script.count(TOKEN) != 1:
        raise ValueError("the script's token is not where it was")
    return script.replace(TOKEN, "")


def _log(events: int) -> list[LogRecord]:
    time_step_ms = 86_400_000 // events
    start = int(sample.START.timestamp() * 1000)
    return [
        LogRecord(at, start + at * time_step_ms, sample.value("login", at, user, f"{sample.START:%Y-%m-%d}T10:00:00Z"))
        for at, user in enumerate(sample.user_numbers(events, 1.1))
    ]


async def _count(url: str, log: list[LogRecord]) -> None:
    async with Counting(url, retain_days="forever") as counting:
        await counting.open()
        for start in range(0, len(log), RANGE):
            await counting.count(log[start : start + RANGE], start, min(start + RANGE, len(log)))


def _cpu(client: Any) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_user_main_thread"] + found["used_cpu_sys_main_thread"])


def _run(store: Valkey, script: str, log: list[LogRecord]) -> tuple[float, float]:
    """Microseconds of CPU per event: of the worker's part, and of the store."""
    kept = ledger.SCRIPT, ledger.SCRIPT_SHA
    ledger.SCRIPT = script  # type: ignore[misc]
    ledger.SCRIPT_SHA = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()  # type: ignore[misc]
    try:
        with redis.Redis.from_url(store.url) as client:
            client.flushall()
            ours, theirs = time.process_time(), _cpu(client)
            asyncio.run(_count(store.url, log))
            return (
                (time.process_time() - ours) / len(log) * 1e6,
                (_cpu(client) - theirs) / len(log) * 1e6,
            )
    finally:
        ledger.SCRIPT, ledger.SCRIPT_SHA = kept  # type: ignore[misc]


def measure(quick: bool, say: Callable[[str], object]) -> dict[str, Any]:
    """`ratio`: events per CPU second with tokens, of those without, over worker and store together."""
    events, pairs = (60_000, 2) if quick else (200_000, 12)
    log = _log(events)
    arms = {"with": ledger.SCRIPT, "without": without_tokens(ledger.SCRIPT)}
    found: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
    with Valkey() as store:
        for pair in range(pairs):
            for name in arms if pair % 2 == 0 else reversed(arms):
                found[name].append(_run(store, arms[name], log))
    ratios = [sum(theirs) / sum(ours) for ours, theirs in zip(found["with"], found["without"], strict=True)]
    ratio = statistics.median(ratios)
    store_us = {name: statistics.median(store for _, store in runs) for name, runs in found.items()}
    say(
        f"  tokens: {ratio:.3f} of the events per CPU second ({min(ratios):.3f} … {max(ratios):.3f}); the store "
        f"{store_us['with']:.3f} µs per event, {store_us['without']:.3f} without"
    )
    return {
        "ratio": ratio,
        "ratios": ratios,
        "store_us": store_us,
        "goal": GOAL,
        "runs": found,
        "met": ratio >= GOAL,
    }
