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
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
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
PROBES: Final = 300
"""Requests of another caller on which a p99 is based."""
PROBED: Final = "/jans-auth/restv1/internal/stat?month=202611"


class WideQuestion(NamedTuple):
    """`{n}` in the path is the caller's number."""

    name: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Cost:
    name: str
    statuses: dict[str, int]
    seconds: float
    body_bytes: int
    peak_bytes: int
    callback_ms: float
    idle_p99_ms: float
    p99_ms: float

    @property
    def p99_ratio(self) -> float:
        return self.p99_ms / self.idle_p99_ms

    @property
    def met(self) -> bool:
        return self.peak_bytes <= MEMORY_GOAL and self.callback_ms <= CALLBACK_GOAL_MS and self.p99_ratio <= P99_GOAL


def questions(today: date) -> list[WideQuestion]:
    """The widest question that each route accepts over the ledger of `wide_ledger`."""
    year, month = f"from={today - timedelta(days=399)}&to={today}", f"from={today - timedelta(days=32)}&to={today}"
    csv = (("Accept", "text/csv"),)
    return [
        WideQuestion("active-users, 90-day windows", f"/v1/active-users?trailing=90&{month}&limit={{n}}"),
        WideQuestion("active-users, days", f"/v1/active-users?{year}&limit={{n}}"),
        WideQuestion(
            "active-users by client", f"/v1/active-users?{month}&granularity=day&group_by=client_id&limit={{n}}00"
        ),
        WideQuestion("logins by client", f"/v1/logins?{year}&group_by=client_id&limit=40{{n}}"),
        WideQuestion("logins by client, CSV", f"/v1/logins?{year}&group_by=client_id,reason&limit=40{{n}}", csv),
        WideQuestion("tokens by client and grant", f"/v1/tokens?{month}&group_by=client_id,grant_type&limit=40{{n}}"),
        WideQuestion("accounts by client", f"/v1/accounts?{year}&group_by=client_id&limit=40{{n}}"),
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


async def ask(url: str, question: WideQuestion, callers: int) -> tuple[Counter[str], int]:
    """Ask by all callers at once and read every answer; the number of each status, and the largest body's bytes."""

    async def one(session: aiohttp.ClientSession, number: int) -> tuple[str, int]:
        target = yarl.URL(url + question.path.replace("{n}", str(number + 1)), encoded=True)
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
        found = await asyncio.gather(*(one(session, number) for number in range(callers)))
    return Counter(status for status, _ in found), max(size for _, size in found)


def ask_in_process(url: str, question: WideQuestion, callers: int) -> tuple[Counter[str], int]:
    return asyncio.run(ask(url, question, callers))


async def _probe(url: str, until: Callable[[int], bool]) -> list[float]:
    """Milliseconds of each answer to another caller, one request after the other."""
    found: list[float] = []
    async with aiohttp.ClientSession() as session:
        while until(len(found)):
            started = time.perf_counter()
            async with session.get(url + PROBED) as response:
                await response.read()
            found.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(0.005)
    return found


def _p99(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


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
        f"{cost.callback_ms:.0f} ms, p99 {cost.p99_ms:.1f} ms ({cost.p99_ratio:.1f} × idle)"
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
        load.submit(ask_in_process, url, WideQuestion("", "/health/live"), 1).result()
        idle = asyncio.run(_probe(url, lambda probes: probes < PROBES))
        started = time.perf_counter()
        asked = load.submit(ask_in_process, url, question, callers)
        probed = asyncio.run(_probe(url, lambda probes: not asked.done() or probes < PROBES))
        statuses, body = asked.result()
        seconds = time.perf_counter() - started
        peak = int(api.costs()["peak_bytes"])
    return Cost(question.name, dict(statuses), seconds, body, peak, callback_ms, _p99(idle), _p99(probed))
