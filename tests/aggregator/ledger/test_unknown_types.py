"""Unknown event types in the ledger: bounded, and the same however the log is cut into ranges."""

from __future__ import annotations

import json
import random

import pytest
import redis

from aggregator.ledger.ledger import Applied
from schemas.ledger import fields
from schemas.ledger.scopes import OTHER
from tests.aggregator.counting import OF, SHARD, Counting
from tests.aggregator.logs import LogRecord

AT_MS = 1_795_168_800_000
TYPES = fields.MAX_UNKNOWN_TYPES


def log() -> list[LogRecord]:
    """More types than are kept; some come again after the limit."""
    numbers = [*range(TYPES + 20), *range(10), TYPES + 19, 5]
    names = [f"TYPE {number}" for number in numbers]
    return [LogRecord(offset, AT_MS, json.dumps({"type": name}).encode()) for offset, name in enumerate(names)]


async def progress(redis_url: str, cuts: list[int]) -> dict[str, str]:
    records = log()
    with redis.Redis.from_url(redis_url, decode_responses=True) as store:
        store.flushall()
        async with Counting(redis_url, topics={SHARD.topic: "keycloak"}) as counting:
            await counting.open()
            for start, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
                assert isinstance(await counting.count(records, start, end), Applied)
        found: dict[str, str] = store.hgetall(OF.progress)
        return found


async def test_types_beyond_the_limit_count_together(redis_url: str) -> None:
    found = await progress(redis_url, [])
    assert found[fields.UNKNOWN_TYPES] == str(TYPES)
    # Twenty types beyond the limit, one of them twice.
    assert found[fields.unknown(OTHER)] == "21"
    assert (found[fields.unknown("TYPE 5")], found[fields.unknown("TYPE 99")]) == ("3", "1")
    assert sum(int(number) for name, number in found.items() if name.startswith("unknown/")) == len(log())
    assert found[fields.IGNORED] == str(len(log()))


@pytest.mark.parametrize("seed", range(3))
async def test_the_borders_of_ranges_do_not_matter(redis_url: str, seed: int) -> None:
    cuts = sorted(random.Random(seed).sample(range(1, len(log())), 12))
    assert await progress(redis_url, cuts) == await progress(redis_url, [])
