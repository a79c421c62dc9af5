"""A hundred clients on the dashboard of three regions: all alive, one stalled, one killed.

Each region is an api process over a store with dense sketches. The clients ask the api of one region the questions of
the dashboard with `region=all`, for everything and for two realms, so that some answers come from its cache and others
from three regions.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import redis

from deploy.demo.servers import Valkey
from schemas.ledger import accuracy, changes, fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING, Scope
from tests.api.sources import listed
from tests.integration.api_process import ApiProcess

PREFIX: Final = "authtally:"
NAMES: Final = ("eu", "us", "ap")
SHARDS: Final = [Shard("auth.logins", number) for number in range(4)]
MONTHS: Final = Month(2025, 11).until(Month(2026, 10))
DAYS: Final = [f"2026-10-{day:02}" for day in range(1, 32)]
REALMS: Final = ("acme", "globex")
SCOPES: Final = (EVERYTHING, *(Scope("realm", (realm,)) for realm in REALMS))
USERS: Final = 8_000
"""Per sketch: a dense one."""
CLIENTS: Final = 100
PAUSE_S: Final = 2.0
"""Between two rounds of a client."""
TIMEOUT_S: Final = 1.0
SPAN: Final = "from=2026-10-01&to=2026-10-31"
QUESTIONS: Final = (
    "/v1/overview?date=2026-10-31",
    f"/v1/active-users?{SPAN}&granularity=day",
    f"/v1/active-users?{SPAN}&granularity=week",
    "/v1/active-users?from=2025-11-01&to=2026-10-31&granularity=month",
    f"/v1/active-users?{SPAN}&trailing=7",
    f"/v1/logins?{SPAN}&granularity=day",
    f"/v1/logins?{SPAN}&group_by=reason",
    f"/v1/tokens?{SPAN}&group_by=grant_type",
    f"/v1/active-users?{SPAN}&granularity=month&group_by=region",
    "/v1/labels?dimension=realm",
)
P99_GOAL_S: Final = 2.0
REFUSED_GOAL: Final = 0.05
DEAD_SLOWER_GOAL: Final = 1.5
"""p99 of answers while a region is stalled or killed, against all alive, beyond the time that the first ones wait."""


class Phase(NamedTuple):
    """Answers of one phase: seconds, statuses, and how many were complete."""

    name: str
    seconds: list[float]
    statuses: Counter[int]
    complete: int

    def as_document(self) -> dict[str, Any]:
        ordered = sorted(self.seconds)
        asked = len(ordered)
        return {
            "name": self.name,
            "answers": asked,
            "median_ms": statistics.median(ordered) * 1000,
            "p99_ms": ordered[int(asked * 0.99)] * 1000,
            "longest_ms": ordered[-1] * 1000,
            "refused": self.statuses[503] / asked,
            "others": {status: number for status, number in self.statuses.items() if status not in (200, 503)},
            "complete": self.complete / max(1, self.statuses[200]),
        }


def fill(client: Any, number: int) -> None:
    """A year of months and a month of days, every sketch dense; half of the users are those of other regions."""
    chance = random.Random(number)
    shared = random.Random(99)
    sketches = []
    for variant in range(16):
        key = f"{PREFIX}{{variant}}:{variant}"
        client.pfadd(
            key, *(shared.getrandbits(63) for _ in range(USERS)), *(chance.getrandbits(63) for _ in range(USERS))
        )
        sketches.append(client.get(key))
        client.delete(key)
    client.set(keys.ledger_id(PREFIX), changes.new_token())
    for shard in SHARDS:
        shard_keys = ShardKeys(PREFIX, shard)
        client.sadd(keys.shards(PREFIX), shard.tag)
        pipe = client.pipeline(transaction=False)
        pipe.set(shard_keys.position, 1)
        pipe.hset(shard_keys.changes, changes.EPOCH, changes.new_token())
        pipe.sadd(shard_keys.labels, *(fields.label("realm", realm) for realm in REALMS))
        for period in (*(month.key for month in MONTHS), *DAYS):
            pipe.zadd(shard_keys.index, {period: "inf"})
            pipe.hset(shard_keys.changes, period, changes.new_token())
            for scope in SCOPES:
                pipe.hset(shard_keys.counts(period, scope), mapping={fields.LOGIN: 7, fields.failed("locked"): 3})
                for part in range(accuracy.sketches(period, scope)):
                    pipe.set(shard_keys.users(period, scope, part), sketches[part])
        pipe.execute()


async def ask(base: str, seconds: float, name: str) -> Phase:
    """What CLIENTS clients see for some seconds."""
    phase = Phase(name, [], Counter(), 0)
    complete = 0
    ends_at = time.monotonic() + seconds

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal complete
        chance = random.Random(number)
        realm = ("", *(f"&realm={realm}" for realm in REALMS))[number % 3]
        await asyncio.sleep(chance.random() * PAUSE_S)
        while time.monotonic() < ends_at:
            for question in chance.sample(QUESTIONS, len(QUESTIONS)):
                began = time.monotonic()
                async with session.get(f"{base}{question}{realm}&region=all") as answer:
                    body = await answer.read()
                phase.seconds.append(time.monotonic() - began)
                phase.statuses[answer.status] += 1
                complete += answer.status == 200 and json.loads(body)["complete"]
            await asyncio.sleep(PAUSE_S)

    headers = {"Authorization": "Bearer reader"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session, asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(session, number))
    return phase._replace(complete=complete)


def started(stack: ExitStack, folder: Path) -> dict[str, ApiProcess]:
    """The apis of the regions, each other's peers, over filled stores."""
    tokens = {"reader": {"scopes": ["stats:read"], "regions": ["*"]}, "peer": {"scopes": ["sketches:read"]}}
    entries = [listed(name, **fields_of_entry) for name, fields_of_entry in tokens.items()]
    (folder / "tokens.json").write_text(json.dumps(entries))
    (folder / "peer.token").write_text("peer")
    apis = {}
    for number, name in enumerate(NAMES):
        store = stack.enter_context(Valkey())
        with redis.Redis.from_url(store.url) as client:
            fill(client, number)
        apis[name] = ApiProcess(
            auth="static",
            auth_tokens_file=str(folder / "tokens.json"),
            redis_url=store.url,
            region=name,
            region_users="shared",
            region_min_users="1000",
            region_timeout_s=str(TIMEOUT_S),
            peers_file=str(folder / f"{name}.json"),
        )
    for name in NAMES:
        peers = [
            {"name": other, "url": f"http://{apis[other].address}", "token_file": str(folder / "peer.token")}
            for other in NAMES
            if other != name
        ]
        (folder / f"{name}.json").write_text(json.dumps(peers))
    for api in apis.values():
        stack.enter_context(api)
    return apis


def measure(quick: bool, report: Callable[[str], None]) -> dict[str, Any]:
    seconds = 15.0 if quick else 60.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        apis = started(stack, folder)
        base = f"http://{apis['eu'].address}"
        asyncio.run(ask(base, seconds, "first questions"))
        phases = [asyncio.run(ask(base, seconds, "all alive"))]
        apis["us"].pause()
        phases.append(asyncio.run(ask(base, seconds, "one stalled")))
        apis["us"].resume()
        apis["ap"].kill()
        phases.append(asyncio.run(ask(base, seconds, "one killed")))
        peak = apis["eu"].rss_bytes
    rows = [phase.as_document() for phase in phases]
    for row in rows:
        report(
            f"{row['name']}: {row['answers']:,} answers, median {row['median_ms']:.0f} ms, p99 {row['p99_ms']:.0f} ms, "
            f"503 {row['refused']:.1%}, complete {row['complete']:.0%}"
        )
    alive = rows[0]["p99_ms"]
    slower = [row["p99_ms"] <= DEAD_SLOWER_GOAL * alive + TIMEOUT_S * 1000 for row in rows[1:]]
    met = all(
        row["p99_ms"] <= P99_GOAL_S * 1000 and row["refused"] <= REFUSED_GOAL and not row["others"] for row in rows
    )
    return {
        "clients": CLIENTS,
        "regions": len(NAMES),
        "rows": rows,
        "rss_bytes": peak,
        "p99_goal_ms": P99_GOAL_S * 1000,
        "refused_goal": REFUSED_GOAL,
        "met": met and all(slower),
    }
