"""A million unknown clients: memory stays bounded, and totals stay exact."""

from __future__ import annotations

import random

from prometheus_client import REGISTRY

from schemas.ledger import fields
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope
from tests.aggregator import ledgers
from tests.aggregator.counting import OF, SHARD, Counting
from tests.aggregator.logs import LogRecord

EVENTS = 1_000_000
RANGE = 20_000
MAX_LABELS = 1_000
MAX_CLIENTS = MAX_LABELS + fields.REALM_CLIENTS
AT_MS = 1_795_168_800_000
"""2026-11-20, ten o'clock."""
SIGMAS = 4
CLIENT_ERROR = 0.0081
"""One Redis sketch's."""


def flood(start: int, chance: random.Random) -> list[LogRecord]:
    """Half successes, half failures, each of a client of its own."""
    found = []
    for offset in range(start, start + RANGE):
        success = "true" if offset % 2 else "false"
        value = (
            f'{{"time":"2026-11-20T10:00:00Z","user_id":"user-{offset % 100}","realm":"acme",'
            f'"client_id":"{chance.getrandbits(64):x}","success":{success}}}'
        )
        found.append(LogRecord(offset, AT_MS, value.encode()))
    return found


async def test_a_flood_of_random_clients_is_bounded_and_counted_exactly(redis_url: str) -> None:
    chance = random.Random(1)
    series = len(list(REGISTRY.collect()))
    client = ledgers.client(redis_url)
    async with Counting(redis_url, max_labels=MAX_LABELS) as counter:
        await counter.open()
        for start in range(0, EVENTS, RANGE):
            await counter.count(flood(start, chance), start, start + RANGE)
        # One realm, its clients and OTHER; for each two periods; and what a shard has once.
        assert client.dbsize() < 2 * (MAX_CLIENTS + 100)
        assert len(counter.known.event_classes) <= 2 * MAX_CLIENTS
        assert sum(map(len, counter.known.applied_users.values())) <= 2 * 100 * (MAX_CLIENTS + 2)
    assert len(list(REGISTRY.collect())) == series
    assert client.scard(OF.labels) == MAX_CLIENTS + 1

    half = str(EVENTS // 2)
    for scope in (EVERYTHING, Scope("realm", ("acme",))):
        result = client.hgetall(OF.counts("2026-11", scope))
        # The realm is unknown until its first success.
        assert abs(int(result[fields.failed("unspecified")]) - EVENTS // 2) <= (scope != EVERYTHING)
        assert result[fields.LOGIN] == half
    other = client.hgetall(OF.counts("2026-11", Scope("client", ("acme", OTHER))))
    assert int(other[fields.LOGIN]) == EVENTS // 2 - MAX_CLIENTS
    assert client.hget(OF.progress, fields.COUNTED) == str(EVENTS)
    assert client.hget(OF.progress, fields.overflowed("client")) == str(EVENTS // 2 - MAX_CLIENTS)
    active = client.pfcount(OF.clients("2026-11"))
    assert abs(active - EVENTS // 2) < SIGMAS * CLIENT_ERROR * EVENTS // 2
    assert SHARD.tag in client.smembers("authtally:shards")
