"""Merged periods: what is kept, what is refused, and what a second question costs."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from api.ledger.client import Client, Command, open_ledger, open_url
from api.ledger.held_periods import is_closed
from api.ledger.ledger_statistics import LedgerStatistics
from api.ledger.merged_store import DENSE_BYTES, MergedStore, MergedUsers, is_sketch
from api.settings.settings import ApiSettings
from schemas.ledger import changes, fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING
from schemas.settings import read
from schemas.time.clock import SYSTEM
from tests.api.ledger_writer import PREFIX, LedgerWriter
from tests.api.ledger_writer import open_ledger as open_writer
from tests.stores import Store

SHARDS = [Shard("auth.logins", number) for number in range(3)]
MONTHS = [Month(2025, 3), Month(2025, 4)]
DENSE = b"HYLL\0" + bytes(DENSE_BYTES - 5)


def fill(redis_url: str, shards: list[Shard] = SHARDS) -> Any:
    """Two closed months: one of many users, one of few."""
    writer: LedgerWriter = open_writer(redis_url)
    client: Any = redis.Redis.from_url(redis_url)
    for number, shard in enumerate(shards):
        writer.many_users(MONTHS[0].key, range(number * 500, number * 500 + 900), shard)
        writer.few_users(MONTHS[1].key, range(number * 10, number * 10 + 15), shard)
        for month in MONTHS:
            writer.tokens(month.key, {"password": {"access_token": number + 1}}, shard)
            touch(client, shard, month)
        client.hset(ShardKeys(PREFIX, shard).changes, changes.EPOCH, changes.new_token())
    client.set(keys.ledger_id(PREFIX), changes.new_token())
    return client


def touch(client: Any, shard: Shard, month: Month) -> None:
    client.hset(ShardKeys(PREFIX, shard).changes, month.key, changes.new_token())


def test_the_second_question_reads_no_sketch(redis_url: str) -> None:
    async def ask() -> None:
        of = read(ApiSettings, auth=("none",), redis_url=redis_url)
        client = open_ledger(of)
        merged = LedgerStatistics(client, of, MergedStore(1 << 20, SYSTEM))
        expected = await LedgerStatistics(client, of).months(MONTHS)
        assert await merged.months(MONTHS) == expected
        store.config_resetstat()
        assert await merged.months(MONTHS) == expected
        asked = store.info("commandstats").keys()
        assert not {"cmdstat_pfcount", "cmdstat_sunion", "cmdstat_pfmerge"} & asked
        touch(store, SHARDS[1], MONTHS[0])
        assert await merged.months(MONTHS) == expected
        assert "cmdstat_pfmerge" in store.info("commandstats"), "a changed shard's month is merged again"
        await client.close()

    store = fill(redis_url)
    asyncio.run(ask())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda store, of: store.delete(keys.ledger_id(PREFIX)), "no worker of this version has registered"),
        (lambda store, of: store.delete(of.changes), "the shard has no epoch"),
        (lambda store, of: store.set(of.position, fields.RESTORING), "the shard is being restored"),
        (
            lambda store, of: store.zadd(of.index, dict.fromkeys((month.key for month in MONTHS), time.time() + 600)),
            "expires soon",
        ),
    ],
)
def test_what_must_not_be_kept(redis_url: str, change: Any, why: str) -> None:
    async def ask() -> None:
        of = read(ApiSettings, auth=("none",), redis_url=redis_url)
        client = open_ledger(of)
        kept = MergedStore(1 << 20, SYSTEM)
        expected = await LedgerStatistics(client, of).months(MONTHS)
        assert await LedgerStatistics(client, of, kept).months(MONTHS) == expected
        assert not kept.bytes, why
        await client.close()

    store = fill(redis_url)
    change(store, ShardKeys(PREFIX, SHARDS[2]))
    asyncio.run(ask())


class StoppingClient:
    """A client that counts its pipelines, and never answers after `most` of them."""

    def __init__(self, client: Client, most: float = math.inf) -> None:
        self._client, self._most = client, most
        self.pipelines = 0

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        if self.pipelines >= self._most:
            await asyncio.Event().wait()
        self.pipelines += 1
        return await self._client.run(commands)

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


async def test_a_question_that_misses_its_deadline_keeps_what_it_has_merged(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.ledger.merged.MAX_CONCURRENT", 1)
    fill(redis_url).close()
    of = read(ApiSettings, auth=("none",), redis_url=redis_url)
    client = open_ledger(of)
    kept = MergedStore(1 << 20, SYSTEM)
    whole = StoppingClient(client)
    expected = await LedgerStatistics(whole, of, MergedStore(1 << 20, SYSTEM)).months(MONTHS)
    for most in range(whole.pipelines):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await LedgerStatistics(StoppingClient(client, most), of, kept).months(MONTHS)
        if kept.bytes:
            break
    rest = StoppingClient(client)
    assert await LedgerStatistics(rest, of, kept).months(MONTHS) == expected
    assert rest.pipelines < whole.pipelines
    await client.close()


@pytest.mark.parametrize("merged", [False, True])
async def test_a_damaged_sketch_is_an_error_also_inside_a_transaction(
    redis_url: str, merged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.ledger.users.MAX_MERGED", 2)
    with fill(redis_url) as store:
        store.set(ShardKeys(PREFIX, SHARDS[1]).users(MONTHS[0].key, EVERYTHING, 3), "HYLL damaged")
    of = read(ApiSettings, auth=("none",), redis_url=redis_url)
    client = open_ledger(of)
    try:
        with pytest.raises(redis.RedisError):
            await LedgerStatistics(client, of, MergedStore(1 << 20, SYSTEM) if merged else None).months(MONTHS)
    finally:
        await client.close()


def test_a_cluster_merges_too_and_then_moves_few_bytes(cluster: str) -> None:
    async def ask() -> None:
        of = read(ApiSettings, auth=("none",), redis_url=cluster, redis_cluster=True)
        client = open_ledger(of)
        merged = LedgerStatistics(client, of, MergedStore(1 << 20, SYSTEM))
        plain = LedgerStatistics(client, of)
        months = [month.key for month in MONTHS]
        expected = await plain.months(MONTHS), await plain.active_over(months, [EVERYTHING])
        without = sent()
        await plain.months(MONTHS)
        without = sent() - without
        for _ in range(2):
            before = sent()
            answers = await merged.months(MONTHS)
            more = sent() - before
            assert (answers, await merged.active_over(months, [EVERYTHING])) == expected
        assert more * 20 <= without
        await client.close()

    def sent() -> int:
        return sum(row["total_net_output_bytes"] for row in store.info("stats", target_nodes="all").values())

    writing = redis.RedisCluster.from_url(cluster)
    store: Any = writing
    writer, shards = LedgerWriter(writing), [Shard("auth.logins", number) for number in range(8)]
    for shard in shards:
        writer.many_users(MONTHS[0].key, range(20_000), shard)
        writer.few_users(MONTHS[1].key, range(shard.partition, shard.partition + 15), shard)
        store.hset(ShardKeys(PREFIX, shard).changes, changes.EPOCH, changes.new_token())
    store.set(keys.ledger_id(PREFIX), changes.new_token())
    asyncio.run(ask())
    store.close()


def test_another_process_uses_what_is_shared_unless_it_is_damaged(redis_url: str) -> None:
    shared_url = redis_url.removesuffix("/0") + "/1"

    async def ask() -> None:
        of = read(ApiSettings, auth=("none",), redis_url=redis_url)
        client, shared = open_ledger(of), open_url(shared_url)
        expected = await LedgerStatistics(client, of).months(MONTHS)
        for damage in (False, True):
            await LedgerStatistics(client, of, MergedStore(1 << 20, SYSTEM, shared)).months(MONTHS)
            if damage:
                for key in kept.keys("*"):
                    kept.setrange(key, 40, b"damaged")
            store.config_resetstat()
            assert await LedgerStatistics(client, of, MergedStore(1 << 20, SYSTEM, shared)).months(MONTHS) == expected
            assert ("cmdstat_pfmerge" in store.info("commandstats")) is damage
        assert all(0 < kept.ttl(key) <= 86_400 for key in kept.keys("*"))
        await client.close()
        await shared.close()

    store = fill(redis_url)
    with redis.Redis.from_url(shared_url) as kept:
        asyncio.run(ask())


def test_the_shipped_user_of_the_api_may_merge(redis_7_binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis demands the right to write to every key of EVAL, which the api has for few."""

    async def ask(url: str) -> None:
        of = read(ApiSettings, auth=("none",), redis_url=url)
        client = open_ledger(of)
        kept = MergedStore(1 << 20, SYSTEM)
        expected = await LedgerStatistics(client, of).months(MONTHS)
        assert await LedgerStatistics(client, of, kept).months(MONTHS) == expected
        assert kept.bytes
        with monkeypatch.context() as patch:
            patch.setattr("api.ledger.users.MAX_MERGED", 2)  # sketches are merged in temporary ones, step by step
            assert await LedgerStatistics(client, of).months(MONTHS) == expected
        await client.close()

    for binary in (None, redis_7_binary):
        with Store(binary=binary) as store, fill(store.url):
            asyncio.run(ask(store.url_of("api")))


async def test_a_forged_sketch_never_reaches_the_store(redis_url: str) -> None:
    """The checksum is no secret: anyone who writes to the cache store can forge an entry."""
    shared = open_url(redis_url)
    forged = MergedUsers(1, [], [DENSE[:-1]] * 4)
    await MergedStore(1 << 20, SYSTEM, shared).put("name", b"vector", forged)
    assert await MergedStore(1 << 20, SYSTEM, shared).users({"name": b"vector"}) == {}
    sound = MergedUsers(1, [], [DENSE] * 4)
    await MergedStore(1 << 20, SYSTEM, shared).put("name", b"vector", sound)
    assert await MergedStore(1 << 20, SYSTEM, shared).users({"name": b"vector"}) == {"name": sound}
    assert await MergedStore(1 << 20, SYSTEM, shared).users({"name": b"another"}) == {}
    await shared.close()


async def test_memory_is_bounded_and_the_oldest_use_goes_first() -> None:
    store = MergedStore(4 * (DENSE_BYTES + 1_000), SYSTEM)
    for name in "abcd":
        await store.put(name, b"vector", MergedUsers(1, [], [DENSE]))
    assert await store.users({"a": b"vector"})
    await store.put("e", b"vector", MergedUsers(1, [], [DENSE]))
    found = await store.users(dict.fromkeys("abcde", b"vector"))
    assert set(found) == {"a", "c", "d", "e"}
    assert store.bytes <= 4 * (DENSE_BYTES + 1_000)


@pytest.mark.parametrize(
    ("text", "sound", "why"),
    [
        (DENSE, True, "dense"),
        (DENSE[:-1], False, "dense, one byte short"),
        (DENSE + b"\0", False, "dense, one byte long"),
        (b"HYLL\1" + bytes(11) + b"\x7f\xff", True, "sparse: one XZERO of all registers"),
        (b"HYLL\1" + bytes(11) + b"\x7f\xfe\x00", True, "sparse: XZERO and ZERO"),
        (b"HYLL\1" + bytes(11) + b"\x7f\xff\x00", False, "sparse: one register too many"),
        (b"HYLL\1" + bytes(11) + b"\x7f\xfe", False, "sparse: one register missing"),
        (b"HYLL\1" + bytes(11) + b"\x7f\xfb\x83", True, "sparse: XZERO and a VAL of four"),
        (b"HYLL\1" + bytes(11) + b"\x7f\xfe\x40", False, "sparse: XZERO is cut off"),
        (b"HYLL\2" + bytes(11) + b"\x7f\xff", False, "no such encoding"),
        (b"HYLL", False, "only the magic"),
        (b"nope" + DENSE[4:], False, "another magic"),
    ],
)
def test_a_sketch_from_outside_is_checked(text: bytes, sound: bool, why: str) -> None:
    assert is_sketch(text) is sound, why


@pytest.mark.parametrize(
    ("period", "now", "closed", "why"),
    [
        ("2026-10", "2026-11-01T23:59:59", False, "the month is not over in every time zone"),
        ("2026-10", "2026-11-02T00:00:00", True, "a day later it is"),
        ("2026-10-31", "2026-11-01T23:59:59", False, "as for days"),
        ("2026-10-31", "2026-11-02T00:00:00", True, "as for days"),
        ("9999-12", "2026-11-02T00:00:00", False, "the last month of the calendar"),
        ("9999-12-31", "2026-11-02T00:00:00", False, "the last day of the calendar"),
    ],
)
def test_a_period_is_closed_a_day_after_its_end(period: str, now: str, closed: bool, why: str) -> None:
    second = int(datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp())
    assert is_closed(period, second) == closed, why


async def test_more_periods_than_lua_unpacks_are_found_once_each(redis_url: str) -> None:
    fill(redis_url)
    client = open_ledger(read(ApiSettings, redis_url=redis_url, auth=("none",), _env_file=None))
    try:
        statistics = LedgerStatistics(client, read(ApiSettings, redis_url=redis_url, auth=("none",), _env_file=None))
        days = [date.fromordinal(730_000 + number).isoformat() for number in range(10_000)]
        held = await statistics.find_periods([*days, MONTHS[0].key, MONTHS[0].key])
        assert {period: len(shards) for period, shards in held.shards.items()} == {MONTHS[0].key: len(SHARDS)}
    finally:
        await client.close()
