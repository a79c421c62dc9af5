"""An answer is never computed from temporary keys that expired: it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
import redis

from api.ledger import distinct_query, users
from api.ledger.client import Client, Command, open_ledger
from api.ledger.ledger_statistics import LedgerStatistics
from api.ledger.merged_store import MergedStore
from api.ledger.rolling import count_rolling
from api.settings.settings import ApiSettings
from schemas.ledger.keys import Shard
from schemas.ledger.scopes import EVERYTHING
from schemas.settings import read
from schemas.time.clock import SYSTEM
from tests.api.ledger_writer import PREFIX, LedgerWriter
from tests.conftest import wait_until_async

SHARDS = [Shard("auth.logins", number) for number in range(3)]
DAYS = ["2025-03-10", "2025-03-11", "2025-03-12"]
MONTHS = ["2025-03", "2025-04"]
USERS = [(number * 0x9E3779B97F4A7C15 + 0x1234567) % 2**64 - 2**63 for number in range(6_000)]

Question = Callable[[LedgerStatistics], Awaitable[Any]]


class NothingToExpireError(Exception):
    pass


class ExpiringClient:
    """A client whose temporary keys expire once, before its pipeline number `at`; it raises if there are none then."""

    def __init__(self, client: Client, server: Any, at: int) -> None:
        self._client = client
        self._server = server
        self._at = at
        self.pipelines = 0

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        if self.pipelines == self._at:
            names = self._temporary()
            if not names:
                raise NothingToExpireError
            for name in names:
                self._server.pexpire(name, 1)
            await wait_until_async(lambda: not self._temporary(), 30)
        self.pipelines += 1
        return await self._client.run(commands)

    def _temporary(self) -> list[bytes]:
        return list(self._server.scan_iter(f"{PREFIX}temporary:*"))

    async def ping(self) -> None:
        await self._client.ping()

    async def close(self) -> None:
        await self._client.close()


def fill(ledger: LedgerWriter) -> None:
    """Each shard has other users; some are in small sets, some in sketches, which are needed together."""
    for number, shard in enumerate(SHARDS):
        for place, period in enumerate([*DAYS, *MONTHS]):
            own = USERS[number * 1200 + place * 100 : number * 1200 + place * 100 + 600]
            (ledger.many_users if number % 2 else ledger.few_users)(period, own, shard)


async def _rolling(of: LedgerStatistics) -> Any:
    held = await of.find_periods(DAYS)
    return await count_rolling(of.distinct, [held.distinct_query([day], [EVERYTHING]) for day in DAYS], 2)


QUESTIONS: dict[str, Question] = {
    "a month": lambda of: of.active_over(MONTHS[:1], [EVERYTHING]),
    "months and days": lambda of: of.active_over([*MONTHS, *DAYS], [EVERYTHING]),
    "clients": lambda of: of.active_clients(MONTHS[0]),
    "rolling days": _rolling,
}


@pytest.fixture(params=["one server", "one server, in pieces", "Cluster", "Cluster, in pieces"])
async def ledger(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[ApiSettings, Any]]:
    """Settings and a client of a filled ledger; in pieces: few small sets and sketches are read at once."""
    monkeypatch.setattr("api.ledger.client.TIMEOUT_S", 30.0)  # a busy machine is no expired key
    cluster = request.param.startswith("Cluster")
    url = request.getfixturevalue("cluster" if cluster else "redis_url")
    if request.param.endswith("pieces"):
        monkeypatch.setattr(distinct_query, "MAX_SHARD_SCOPES", 2)
        monkeypatch.setattr(users, "MAX_MERGED", 3)
        monkeypatch.setattr(users, "MAX_COPIED", 2)
    settings = read(ApiSettings, auth=("none",), redis_url=url, redis_cluster=cluster, exact_up_to=100)
    server: Any = redis.RedisCluster.from_url(url) if cluster else redis.Redis.from_url(url)
    server.flushall()
    fill(LedgerWriter(server))
    for number, shard in enumerate(SHARDS):
        names = LedgerWriter(server).hold(MONTHS[0], shard)
        server.pfadd(names.clients(MONTHS[0]), *USERS[number * 100 : number * 100 + 150])
    yield settings, server
    server.close()


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("name", QUESTIONS)
async def test_an_answer_is_right_or_fails(ledger: tuple[ApiSettings, Any], name: str, merged: bool) -> None:
    settings, server = ledger
    opened = open_ledger(settings)
    try:
        await fail_or_agree(opened, settings, server, QUESTIONS[name], merged)
    finally:
        await opened.close()


async def fail_or_agree(opened: Client, settings: ApiSettings, server: Any, ask: Question, merged: bool) -> None:
    """Ask again and again, with an expiry before each pipeline in turn."""

    def statistics(client: Client) -> LedgerStatistics:
        return LedgerStatistics(client, settings, MergedStore(8 << 20, SYSTEM) if merged else None)

    expected = await ask(statistics(opened))
    at, failed = 0, 0
    while True:
        client = ExpiringClient(opened, server, at)
        try:
            assert await ask(statistics(client)) == expected, f"keys expired before pipeline {at}"
        except NothingToExpireError:
            pass
        except TimeoutError:
            failed += 1
        if client.pipelines < at:
            break
        at += 1
    # A Cluster's shards cannot be read by one command: all of these questions need keys for more than one pipeline.
    assert failed or merged or not settings.redis_cluster
