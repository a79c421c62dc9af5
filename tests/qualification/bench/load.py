"""The widest question of each route, asked by 100 callers at the same time: memory, turns, and other callers' p99.

Each question has an api process of its own. Each caller asks for a slightly different answer where the route allows
it, so that neither the cache nor the sharing of computations helps. Callers that get no place get 503, as stated.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import redis
import yarl

from deploy.demo.servers import Valkey
from tests.integration.api_process import ApiProcess
from tests.qualification.bench import wide_ledger

ROOT: Final = Path(__file__).parents[3]
MODULE: Final = "tests.qualification.bench.measured_api"
CALLERS: Final = 100
MEMORY_GOAL: Final = 300 * 2**20
CALLBACK_GOAL_MS: Final = 100.0
P99_GOAL: Final = 3.0
IDLE_PROBES: Final = 50
"""Ordinary questions of another caller to an idle api, and CACHED_PROBES times as many cached ones."""
CACHED_PROBES: Final = 4
LOAD_S: Final = 4.0
"""The callers ask again, for other answers, until this time has passed, so that every probe meets the load."""
CACHED: Final = "/jans-auth/restv1/internal/stat?month=202611"
ORDINARY: Final = "/v1/active-users?limit={n}"
"""A question of 30 days as a dashboard asks it; with another limit each time, no answer is cached."""


class WideQuestion(NamedTuple):
    """`{n}` in the path is the caller's number."""

    name: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Waits:
    """99th percentiles of another caller's question: its time, and the api's CPU time meanwhile.

    The latter is what the caller waits for the api; unlike the time it does not depend on what else the machine does.
    """

    idle_ms: float
    ms: float
    idle_cpu_ms: float
    cpu_ms: float
    refused: int
    """Answers other than 200 under load."""

    @property
    def ratio(self) -> float:
        return self.ms / self.idle_ms


@dataclass(frozen=True)
class Cost:
    name: str
    statuses: dict[str, int]
    seconds: float
    body_bytes: int
    peak_bytes: int
    callback_ms: float
    cached: Waits
    ordinary: Waits

    @property
    def p99_ratio(self) -> float:
        return self.cached.ratio

    @property
    def met(self) -> bool:
        return self.peak_bytes <= MEMORY_GOAL and self.callback_ms <= CALLBACK_GOAL_MS and self.p99_ratio <= P99_GOAL


def questions(today: date) -> list[WideQuestion]:
    """The widest question that each route accepts over the ledger of `wide_ledger`."""
    year, month = f"from={today - timedelta(days=399)}&to={today}", f"from={today - timedelta(days=32)}&to={today}"
    # 142 clients, those without a label among them, of so many days are just below MAX_READS counters.
    readable = f"from={today - timedelta(days=349)}&to={today}"
    csv = (("Accept", "text/csv"),)
    return [
        WideQuestion("active-users, 90-day windows", f"/v1/active-users?trailing=90&{month}&limit={{n}}"),
        WideQuestion("active-users, days", f"/v1/active-users?{year}&limit={{n}}"),
        WideQuestion(
            "active-users by client", f"/v1/active-users?{month}&granularity=day&group_by=client_id&limit={{n}}00"
        ),
        WideQuestion("logins by client", f"/v1/logins?{readable}&group_by=client_id&limit=40{{n}}"),
        WideQuestion("logins by client, CSV", f"/v1/logins?{readable}&group_by=client_id,reason&limit=40{{n}}", csv),
        WideQuestion("tokens by client and grant", f"/v1/tokens?{month}&group_by=client_id,grant_type&limit=40{{n}}"),
        WideQuestion("accounts by client", f"/v1/accounts?{readable}&group_by=client_id&limit=40{{n}}"),
        WideQuestion("overview", "/v1/overview?realm=realm-{n}"),
        WideQuestion("labels", "/v1/labels?limit=9{n}"),
        WideQuestion("m2m", "/v1/m2m?limit=40{n}"),
        WideQuestion("otp-tokens", f"/v1/otp-tokens?{year}&status=total,active,assigned"),
        WideQuestion("metrics", "/v1/metrics"),
        WideQuestion("pipeline", "/v1/pipeline"),
        WideQuestion("Janssen, ten years", "/jans-auth/restv1/internal/stat?start-month=201612&end-month=202611"),
        WideQuestion("Auth0 daily", f"/api/v2/stats/daily?from={today - timedelta(days=399):%Y%m%d}&to={today:%Y%m%d}"),
        WideQuestion("LinOTP show by count", "/reporting/show?status=total&sortby=count"),
        WideQuestion("LinOTP show by count, a page", "/reporting/show?status=total&sortby=count&page={n}&pagesize=50"),
        WideQuestion("LinOTP show, CSV", "/reporting/show?status=*&outform=csv"),
        WideQuestion("LinOTP period", "/reporting/period?status=*"),
        WideQuestion("LinOTP maximum", "/reporting/maximum?status=*"),
    ]


class MeasuredApi(ApiProcess):
    """The api in a process that writes its costs at its end."""

    def __init__(self, *, production_loop: bool = False, patient: bool = False, **settings: str) -> None:
        super().__init__(**settings)
        self._loop = (*(("--uvloop",) if production_loop else ()), *(("--patient",) if patient else ()))

    def command(self) -> Sequence[str | Path]:
        return (sys.executable, "-m", MODULE, self.folder / "costs.json", *self._loop)

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(ROOT)}

    def restart_measurement(self) -> None:
        """Forget the callbacks of the start-up, which imports modules."""
        os.kill(self.pid, signal.SIGUSR1)

    def costs(self) -> dict[str, float]:
        """Ends the process. `callback_ms`: the longest callback's CPU time; `peak_bytes`: of the process."""
        self.stop()
        found: dict[str, float] = json.loads((self.folder / "costs.json").read_text())
        return found


async def ask(url: str, question: WideQuestion, callers: int, first: int = 1) -> tuple[Counter[str], int]:
    """Ask by all callers at once and read every answer; the number of each status, and the largest body's bytes.

    `first` is the number of the first caller.
    """

    async def one(session: aiohttp.ClientSession, number: int) -> tuple[str, int]:
        target = yarl.URL(url + question.path.replace("{n}", str(number)), encoded=True)
        try:
            async with session.get(target, headers=dict(question.headers)) as response:
                size = 0
                async for piece in response.content.iter_any():
                    size += len(piece)
                return str(response.status), size
        except aiohttp.ClientError as error:
            return type(error).__name__, 0

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(120)) as session:
        found = await asyncio.gather(*(one(session, number) for number in range(first, first + callers)))
    return Counter(status for status, _ in found), max(size for _, size in found)


def ask_in_process(url: str, question: WideQuestion, callers: int, seconds: float) -> tuple[Counter[str], int]:
    """`ask`, again and again until `seconds` have passed."""
    statuses, size, ends_at, rounds = Counter[str](), 0, time.monotonic() + seconds, 0
    while not rounds or time.monotonic() < ends_at:
        found, largest = asyncio.run(ask(url, question, callers, 1 + rounds * callers))
        statuses, size, rounds = statuses + found, max(size, largest), rounds + 1
    return statuses, size


class Probe(NamedTuple):
    """One request: its milliseconds, the api's CPU milliseconds meanwhile, and the status."""

    ms: float
    cpu_ms: float
    status: int


class Probes(NamedTuple):
    """Requests of another caller, one after the other."""

    cached: list[Probe]
    ordinary: list[Probe]


async def _probe(api: MeasuredApi, numbers: Iterator[int], until: Callable[[int], bool]) -> Probes:
    """Ask until `until` of the number of ordinary questions is false."""
    found = Probes([], [])
    clock = ~api.pid << 3 | 2  # The CPU-time clock of another process, as clock_getcpuclockid makes it.
    async with aiohttp.ClientSession() as session:

        async def one(path: str) -> Probe:
            await asyncio.sleep(0.005)
            started, spent = time.perf_counter(), time.clock_gettime(clock)
            async with session.get(f"http://{api.address}{path}") as response:
                await response.read()
            passed, used = time.perf_counter() - started, time.clock_gettime(clock) - spent
            return Probe(passed * 1000, used * 1000, response.status)

        while until(len(found.ordinary)):
            for _ in range(CACHED_PROBES):
                found.cached.append(await one(CACHED))
            found.ordinary.append(await one(ORDINARY.replace("{n}", str(next(numbers)))))
    return found


def _p99(times: Iterable[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _waits(idle: Sequence[Probe], loaded: Sequence[Probe]) -> Waits:
    return Waits(
        _p99(probe.ms for probe in idle),
        _p99(probe.ms for probe in loaded),
        _p99(probe.cpu_ms for probe in idle),
        _p99(probe.cpu_ms for probe in loaded),
        sum(probe.status != 200 for probe in loaded),
    )


def measure(quick: bool, say: Callable[[str], object]) -> dict[str, Any]:
    """`rows`, one per question, each with its goals."""
    callers, size = (20, wide_ledger.FULL._replace(clients=40)) if quick else (CALLERS, wide_ledger.FULL)
    today = datetime.now(UTC).date()
    with Valkey() as store, redis.Redis.from_url(store.url) as client:
        say("writing the ledger …")
        wide_ledger.fill(client, size, today)
        found = []
        for question in questions(today):
            found.append(_cost(store, question, callers))
            say(f"  {_line(found[-1])}")
    return {
        "callers": callers,
        "goals": {"peak_bytes": MEMORY_GOAL, "callback_ms": CALLBACK_GOAL_MS, "p99_ratio": P99_GOAL},
        "rows": [asdict(each) | {"p99_ratio": each.p99_ratio, "met": each.met} for each in found],
        "met": all(each.met for each in found),
    }


def _line(cost: Cost) -> str:
    return (
        f"{cost.name}: {cost.statuses}, {cost.seconds:.1f} s, {cost.peak_bytes / 2**20:.0f} MiB, "
        f"callback {cost.callback_ms:.0f} ms, cached {_shown(cost.cached)}, ordinary {_shown(cost.ordinary)}"
    )


def _shown(waits: Waits) -> str:
    return (
        f"p99 {waits.ms:.1f} ms ({waits.ratio:.1f} × {waits.idle_ms:.1f}), "
        f"CPU {waits.cpu_ms:.1f} ms ({waits.idle_cpu_ms:.1f}), {waits.refused} refused"
    )


def _cost(store: Valkey, question: WideQuestion, callers: int) -> Cost:
    settings: dict[str, Any] = {
        "redis_url": store.url,
        "auth": "none",
        "users_by": "realm,client",
        "counts_by": "realm,client",
    }
    with MeasuredApi(**settings) as api:
        api.restart_measurement()
        asyncio.run(ask(f"http://{api.address}", question, callers))
        callback_ms = api.costs()["callback_ms"]
    context = multiprocessing.get_context("spawn")
    with MeasuredApi(production_loop=True, **settings) as api, ProcessPoolExecutor(1, context) as load:
        url = f"http://{api.address}"
        load.submit(ask_in_process, url, WideQuestion("", "/health/live"), 1, 0).result()
        numbers = count(1)
        idle = asyncio.run(_probe(api, numbers, lambda ordinary: ordinary < IDLE_PROBES))
        started = time.perf_counter()
        asked = load.submit(ask_in_process, url, question, callers, LOAD_S)
        loaded = asyncio.run(_probe(api, numbers, lambda ordinary: not asked.done() or ordinary < 2))
        statuses, body = asked.result()
        seconds = time.perf_counter() - started
        peak = int(api.costs()["peak_bytes"])
    cached, ordinary = (_waits(*probes) for probes in zip(idle, loaded, strict=True))
    return Cost(question.name, dict(statuses), seconds, body, peak, callback_ms, cached, ordinary)
