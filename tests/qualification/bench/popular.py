"""Popular questions: the dashboard's first load at 64 shards, a thousand realms by day, `/v1/metrics` of them.

Each has an api process of its own. Asked twice without the cache: the second time closed periods are merged. CPU time
of the api and of the store's main thread, the bytes that the store sends, the longest callback and the peak of memory.
The deadline of questions is lifted, so that a busy machine changes none of these.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

import aiohttp
import redis

from deploy.demo.servers import Valkey
from schemas.ledger.periods import Month
from tests.qualification.bench import popular_ledger
from tests.qualification.bench.load import MeasuredApi
from tests.qualification.bench.measure import cpu_s

CALLBACK_GOAL_MS: Final = 100.0
MEMORY_GOAL: Final = 300 * 2**20
CONNECTIONS: Final = 6
"""Of a browser to one host."""


class Popular(NamedTuple):
    """`paths` are asked together, by at most CONNECTIONS requests at the same time."""

    name: str
    size: popular_ledger.Size
    paths: tuple[str, ...]


def first_load(today: date) -> tuple[str, ...]:
    """The requests of the dashboard's page with its default range, as tests/dashboard/test_first_load.py records them.

    Without the stream `/v1/live`.
    """
    now = f"from={today - timedelta(days=29)}&to={today}"
    before = f"from={today - timedelta(days=59)}&to={today - timedelta(days=30)}"
    from_second = f"from={today - timedelta(days=28)}&to={today}"
    return (
        *(f"/v1/active-users?granularity=range&{span}" for span in (now, before)),
        *(f"/v1/active-users?granularity=day&{span}" for span in (now, before, from_second)),
        *(f"/v1/active-users?granularity=day&{now}&trailing={days}" for days in (7, 30)),
        *(f"/v1/logins?granularity=day&{span}" for span in (now, before, from_second)),
        *(f"/v1/accounts?granularity=day&{span}&group_by=kind" for span in (now, before)),
        *(f"/v1/tokens?granularity=day&{span}" for span in (now, before)),
        *(
            f"/v1/active-users?granularity=range&{span}&group_by={label}"
            for label in ("realm", "client_id")
            for span in (now, before)
        ),
        *(f"/v1/logins?granularity=day&{now}&group_by={label}" for label in ("realm", "client_id")),
        "/v1/pipeline",
        f"/v1/overview?date={today}",
        "/v1/labels?limit=2000",
    )


def questions(today: date) -> list[Popular]:
    days = f"from={today - timedelta(days=30)}&to={today}"
    last = Month.of(today).plus(-1).span
    month = f"from={last.first}&to={last.last}"
    wide, many = popular_ledger.REALMS_1000, popular_ledger.SHARDS_64
    return [
        Popular("the dashboard's first load, 64 shards", many, first_load(today)),
        Popular("logins by realm and day, 1,000 realms", wide, (f"/v1/logins?{days}&group_by=realm",)),
        Popular("logins by realm, a month", wide, (f"/v1/logins?{month}&granularity=month&group_by=realm",)),
        Popular(
            "users by realm and day, 1,000 realms", wide, (f"/v1/active-users?{days}&granularity=day&group_by=realm",)
        ),
        Popular(
            "users by realm, a month",
            wide,
            (f"/v1/active-users?{month}&granularity=month&group_by=realm&limit=1000",),
        ),
        Popular("metrics, 1,000 realms", wide, ("/v1/metrics",)),
        Popular("overview, 1,000 realms", wide, ("/v1/overview",)),
        Popular("labels, 1,000 realms", wide, ("/v1/labels?limit=2000",)),
    ]


async def _ask(url: str, paths: Sequence[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    places = asyncio.Semaphore(CONNECTIONS)

    async def one(session: aiohttp.ClientSession, path: str) -> None:
        async with places, session.get(url + path) as response:
            await response.read()
            found[str(response.status)] += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session, path) for path in paths))
    return found


def _spent(client: Any) -> tuple[float, int]:
    """CPU seconds of the store's main thread, and bytes that it has sent."""
    found = client.info("all")
    cpu = found["used_cpu_user_main_thread"] + found["used_cpu_sys_main_thread"]
    return cpu, found["total_net_output_bytes"]


def _cost(url: str, client: Any, question: Popular) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "redis_url": url,
        "auth": "none",
        "users_by": "realm,client",
        "counts_by": "realm,client",
    }
    rounds = []
    with MeasuredApi(patient=True, **settings, cache_ttl_s="0") as api:
        address = f"http://{api.address}"
        asyncio.run(_ask(address, ("/health/ready",)))
        api.restart_measurement()
        for _ in range(2):
            cpu, sent = _spent(client)
            of_api, began = cpu_s(api.pid), time.perf_counter()
            statuses = asyncio.run(_ask(address, question.paths))
            wall = time.perf_counter() - began
            cpu_after, sent_after = _spent(client)
            rounds.append(
                {
                    "statuses": dict(statuses),
                    "wall_ms": wall * 1000,
                    "api_ms": (cpu_s(api.pid) - of_api) * 1000,
                    "store_ms": (cpu_after - cpu) * 1000,
                    "sent": sent_after - sent,
                }
            )
        costs = api.costs()
    return {"name": question.name, "rounds": rounds, **costs}


def measure(quick: bool, say: Callable[[str], object], only: str = "") -> dict[str, Any]:
    """`rows`, one per question, each with the costs of its first and second round."""
    del quick  # every question is asked twice, however long that takes
    today = datetime.now(UTC).date()
    rows: list[dict[str, Any]] = []
    for size in (popular_ledger.SHARDS_64, popular_ledger.REALMS_1000):
        with Valkey() as store, redis.Redis.from_url(store.url) as client:
            say(f"writing a ledger of {size.shards} shards and {size.realms} realms …")
            popular_ledger.fill(client, size, today)
            for question in questions(today):
                if question.size == size and only in question.name:
                    rows.append(_cost(store.url, client, question))
                    say(f"  {_line(rows[-1])}")
    for row in rows:
        row["met"] = row["callback_ms"] <= CALLBACK_GOAL_MS and row["peak_bytes"] <= MEMORY_GOAL
    return {
        "rows": rows,
        "goals": {"callback_ms": CALLBACK_GOAL_MS, "peak_bytes": MEMORY_GOAL},
        "met": all(row["met"] for row in rows),
    }


def _line(row: dict[str, Any]) -> str:
    rounds = "; ".join(
        f"{round_['statuses']} api {round_['api_ms']:.0f} ms, store {round_['store_ms']:.0f} ms, "
        f"{round_['sent'] / 1e6:.2f} MB, wall {round_['wall_ms']:.0f} ms"
        for round_ in row["rounds"]
    )
    return f"{row['name']}: {rounds}; callback {row['callback_ms']:.0f} ms, peak {row['peak_bytes'] / 2**20:.0f} MiB"
