"""Who is limited to realms is answered as if there were no others: whatever is asked, cached, refused or streamed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import redis

from api.dialects.own import today
from tests.api.conftest import Answer, Api, Clock, Serve
from tests.api.otp import state, write
from tests.api.sources import by_file, listed
from tests.api.worker import account, count, login, token
from tests.attacks.deployment import KEPT, NOW, SCOPES
from tests.attacks.requests import SURFACES

MINE, THEIRS = "acme", "globex"
QUESTIONS = 150
"""Of each surface."""
VALUES: dict[str, Sequence[str]] = {
    **dict.fromkeys(("from", "to", "date", "day"), ("2026-11-01", "2026-11-20", "20261101", "20261120", "2026-09-30")),
    "month": ("202611", "202610 202611", "202609"),
    "start-month": ("202609",),
    "end-month": ("202611",),
    "months": ("2", "202611"),
    "granularity": ("day", "month", "week"),
    "group_by": ("realm", "client_id", "node", "reason", "grant_type"),
    **dict.fromkeys(("realm", "realms"), (MINE, THEIRS, "__other__", "*", f"{MINE},{THEIRS}", "nowhere", "")),
    "client_id": ("web", "theirs", "job"),
    "node": ("as1", "theirs"),
    "dimension": ("realm", "client", "client_id", "node"),
    "prefix": ("a", "g", "t"),
    "format": ("json", "csv", "openmetrics", "jsonmonth"),
    "status": ("total", "active", "total,assigned", "*"),
    "outform": ("csv",),
    "page": ("1", "2"),
    "pagesize": ("2",),
    "sortby": ("realm", "count"),
    "limit": ("1", "10"),
}
OF_ALL = re.compile(r'"as_of":\{[^}]*\}|authtally_(?:newest_event|lag|data_age)\w*.*')
"""How far the whole ledger has come, which every answer contains by design."""


def events(realm: str, client: str, chance: Random) -> list[dict[str, Any]]:
    found: list[Any] = []
    for number in range(0, 70, 3):
        day = (NOW - timedelta(days=number, minutes=5)).isoformat()
        labels = {
            "realm": realm,
            "client_id": chance.choice(("web", client)),
            "node": "as1" if realm == MINE else "theirs",
        }
        found += [
            login(day, f"{realm}-{chance.randrange(30)}", **labels),
            login(day, f"{realm}-{chance.randrange(30)}", success=False, reason=f"{realm}-reason", **labels),
            token(day, f"{realm}-grant", "access_token", **labels),
            token(day, "client_credentials", "access_token", "id_token", **labels),
            account(day, f"{realm}_kind", realm=realm),
        ]
    return found


def states(realm: str, serials: int) -> list[Any]:
    return [
        state((NOW - timedelta(days=50 - number)).isoformat(), f"{realm}{number}", f"{realm}_event", realm)
        for number in range(serials)
    ]


@pytest.fixture
async def apis(serve: Serve, redis_url: str, clock: Clock, tmp_path: Path) -> tuple[Api, Api]:
    """One where others are too, and one where the bearer's realm is all there is."""
    clock.now = NOW.timestamp()
    chance = Random(7)
    mine = events(MINE, "job", chance)
    # Their last event is the same as ours; and before there is any of ours, there are some of theirs.
    theirs = events(THEIRS, "theirs", chance)
    everybody = sorted([*mine, *theirs, *events("__other__", "theirs", chance)], key=lambda one: str(one["time"]))
    shared = redis_url.removesuffix("0") + "1"
    with redis.Redis.from_url(shared) as server:
        server.flushdb()
    tokens = by_file(
        tmp_path,
        listed("all", scopes=SCOPES),
        listed("mine", scopes=SCOPES, realms=[MINE]),
        listed("theirs", scopes=SCOPES, realms=[THEIRS]),
    )
    kept: dict[str, Any] = {"users_by": KEPT, "counts_by": KEPT}
    found = []
    for prefix, logged, inventory in (
        ("together:", everybody, [*states(THEIRS, 9), *states(MINE, 6)]),
        ("alone:", sorted(mine, key=lambda one: str(one["time"])), states(MINE, 6)),
    ):
        await count(redis_url, logged, partitions=1, key_prefix=prefix, **kept)
        await write(redis_url, inventory, key_prefix=prefix, **kept)
        found.append(
            await serve(
                redis_url=redis_url,
                key_prefix=prefix,
                cache_redis_url=shared,
                auth0_rate_limit=0,
                gluu_interval_s=0,
                janssen_cache_ttl_s=60,
                live_interval_s=0.1,
                **kept,
                **tokens,
            )
        )
    return found[0], found[1]


def question(chance: Random, surface: str) -> str:
    attacked = SURFACES[surface]
    names = chance.sample(attacked.parameters, chance.randrange(min(4, len(attacked.parameters)) + 1))
    pairs = [f"{name}={quote(chance.choice(VALUES[name]))}" for name in names if name in VALUES]
    return chance.choice(attacked.paths) + "?" + "&".join(pairs)


def parts(answer: Answer) -> tuple[int, str, str]:
    return answer.status, answer.headers["Content-Type"], OF_ALL.sub("", answer.text)


@pytest.mark.parametrize("surface", ["janssen", "gluu", "auth0", "own", "reporting", "deletes"])
async def test_a_limited_bearer_is_answered_as_if_alone(apis: tuple[Api, Api], surface: str) -> None:
    together, alone = apis
    answered = differing = 0
    for number in range(QUESTIONS):
        path = question(Random(number), surface)
        # Those who see more have asked the same before, and what they got lies in both caches.
        others = [await together.get(path, other) for other in ("all", "theirs") if surface != "deletes"]
        for _ in range(2):
            seen, expected = await together.get(path, "mine"), await alone.get(path, "mine")
            assert parts(seen) == parts(expected), path
            assert THEIRS not in seen.text.replace(path, "") or THEIRS in path, path
            answered += seen.status == 200
        differing += any(parts(other) != parts(seen) for other in others)
    assert answered > QUESTIONS / 4
    assert differing > 5 or surface == "deletes", "the others have figures of their own"


async def test_a_limited_listener_gets_its_own_realms_only(apis: tuple[Api, Api]) -> None:
    received = []
    for api in apis:
        async with aiohttp.ClientSession() as session:
            headers = {"Authorization": "Bearer mine"}
            async with session.get(api.url + today.PATH, headers=headers) as response:
                data = (await response.content.readuntil(b"\n\n")).split(b"data: ")[1]
        received.append({name: value for name, value in json.loads(data).items() if name != "as_of"})
    assert received[0] == received[1]


async def test_the_tag_of_anothers_answer_is_of_no_use(apis: tuple[Api, Api]) -> None:
    together, _ = apis
    for surface in ("janssen", "own", "auth0"):
        for number in range(20):
            path = question(Random(number), surface)
            theirs = await together.get(path, "theirs")
            mine = await together.get(path, "mine")
            if theirs.status == mine.status == 200 and theirs.body != mine.body and "ETag" in theirs.headers:
                again = await together.get(path, "mine", {"If-None-Match": theirs.headers["ETag"]})
                assert (again.status, again.body) == (200, mine.body)
