"""Fold and ledger together, on a real store: the law that a shard is a function of the log and its settings."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from itertools import chain
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.fold.fold import fold
from aggregator.fold.range_delta import ShardCache
from aggregator.ledger import ledger as ledgers_of_aggregator
from aggregator.ledger.ledger import Applied, LedgerDefectError, Refused
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard
from schemas.ledger.scopes import EVERYTHING, Scope
from tests.aggregator import ledgers
from tests.aggregator.counting import OF, SHARD, Counting
from tests.aggregator.logs import NOW_MS, logins, record, tokens

UTC = ZoneInfo("UTC")
YEAR_2040_MS = 2_220_000_000_000


@pytest.fixture
async def counter(redis_url: str) -> AsyncIterator[Counting]:
    async with Counting(redis_url) as counter:
        yield counter


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Pacific/Chatham"])
async def test_counts_and_users_equal_a_plain_calculation(redis_url: str, zone: str) -> None:
    async with Counting(redis_url, timezone=zone) as counter:
        log, expected = logins(1, 3000, ZoneInfo(zone))
        await counter.open()
        await counter.count_cut(log, [500, 501, 2000])
        client = ledgers.client(redis_url)
        for (period, scope), counts in expected.counts.items():
            assert client.hgetall(OF.counts(period, scope)) == {name: str(n) for name, n in counts.items() if n}, scope
        for (period, scope), users in expected.users.items():
            digest = counter.rules.digest
            assert ledgers.small(client, OF, period, scope) == set(chain(*digest.users(users))), scope
        progress = client.hgetall(OF.progress)
        assert int(progress[fields.CONSUMED]) == expected.consumed
        assert int(progress[fields.COUNTED]) == expected.consumed - expected.dead
        assert sum(int(n) for name, n in progress.items() if name.startswith("dead/")) == expected.dead
        assert client.get(OF.position) == str(log[-1].offset + 1)
        assert client.smembers(keys.shards("authtally:")) == {SHARD.tag}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, 900), max_size=12),
    bound=st.sampled_from([0, 30, 4096]),
    remember=st.booleans(),
    max_labels=st.sampled_from([1, 2, 1000]),
)
async def test_any_cutting_of_a_log_gives_the_same_ledger(
    redis_url: str, seed: int, cuts: list[int], bound: int, remember: bool, max_labels: int
) -> None:
    log, _ = logins(seed, 400, UTC)
    found = []
    for where, memory in (([], False), (cuts, remember)):
        client = ledgers.client(redis_url)
        client.flushall()
        async with Counting(redis_url, remember=memory, exact_up_to=bound, max_labels=max_labels) as counter:
            await counter.open()
            await counter.count_cut(log, where)
            found.append(ledgers.contents(client))
        client.close()
    assert found[0] == found[1]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), again=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 300)), max_size=6))
async def test_whatever_is_applied_again_or_out_of_turn_changes_nothing(
    redis_url: str, seed: int, again: list[tuple[int, int]]
) -> None:
    log, _ = tokens(seed, 200, UTC)
    client = ledgers.client(redis_url)
    client.flushall()
    async with Counting(redis_url, Shard("auth.tokens", 0)) as counter:
        await counter.open()
        end = log[-1].offset + 1
        await counter.count_cut(log, [])
        before = ledgers.contents(client)
        for start, length in again:
            if start != end:
                assert await counter.count(log, start, start + length) == Refused(end)
        assert ledgers.contents(client) == before
    client.close()


async def test_a_range_that_starts_beyond_the_position_is_refused_with_the_position(counter: Counting) -> None:
    log, _ = logins(1, 50, UTC)
    await counter.open()
    await counter.count(log, 0, 10)
    assert await counter.count(log, 20, 30) == Refused(10)


async def test_an_emptied_store_answers_that_it_holds_nothing(counter: Counting, redis_url: str) -> None:
    log, _ = logins(1, 50, UTC)
    await counter.open()
    await counter.count(log, 0, 10)
    ledgers.client(redis_url).flushall()
    assert await counter.count(log, 10, 20) == Refused(None)
    assert ledgers.client(redis_url).keys("*") == []


async def test_a_range_without_records_moves_the_position(counter: Counting, redis_url: str) -> None:
    await counter.open()
    assert await counter.count([], 0, 7) == Applied(frozenset())
    assert ledgers.client(redis_url).get(OF.position) == "7"


async def test_opening_twice_leaves_the_first_position(counter: Counting) -> None:
    await counter.open(5)
    assert await counter.ledger.initialize(SHARD, 0, "id-1") == Refused(5)


async def test_offsets_beyond_a_double_are_compared_exactly(counter: Counting, redis_url: str) -> None:
    start = 2**53 + 1
    await counter.open(start)
    assert await counter.count([], start - 1, start + 5) == Refused(start)
    assert await counter.count([], start, start + 6) == Applied(frozenset())
    assert ledgers.client(redis_url).get(OF.position) == str(start + 6)


async def test_skipped_offsets_are_counted_as_lost(counter: Counting, redis_url: str) -> None:
    await counter.open()
    assert await counter.ledger.skip_lost(SHARD, 0, 40) == Applied(frozenset())
    client = ledgers.client(redis_url)
    assert (client.get(OF.position), client.hget(OF.progress, fields.LOST)) == ("40", "40")


async def test_too_many_ids_are_cut_into_several_scripts(counter: Counting, redis_url: str) -> None:
    log = [
        record(i, {"time": "2026-11-20T10:00:00Z", "user_id": f"u{i}", "realm": "acme", "client_id": "web"})
        for i in range(12_000)
    ]
    await counter.open()
    state = await counter.ledger.read_state(SHARD)
    first = fold("login", log, 12_000, ShardCache(set(state.labels)), counter.rules, NOW_MS)
    assert first.end == 5_000  # 20,000 ids at four additions per user: day and month, everything and realm
    await counter.count(log, 0, 12_000)
    client = ledgers.client(redis_url)
    assert client.hget(OF.counts("2026-11", EVERYTHING), fields.LOGIN) == "12000"
    assert client.get(OF.position) == "12000"


async def test_users_move_to_sketches_when_few_no_more(redis_url: str) -> None:
    async with Counting(redis_url, exact_up_to=100) as counter:
        log = [record(i, {"time": "2026-11-20T10:00:00Z", "user_id": f"u{i}", "realm": "acme"}) for i in range(5_000)]
        await counter.open()
        client = ledgers.client(redis_url)
        await counter.count(log, 0, 100)
        realm = Scope("realm", ("acme",))
        assert len(ledgers.small(client, OF, "2026-11", realm)) == 100
        await counter.count(log, 100, 101)
        assert ledgers.small(client, OF, "2026-11", realm) == set()
        await counter.count(log, 101, 5_000)
        for period, scope in (("2026-11", EVERYTHING), ("2026-11", realm), ("2026-11-20", EVERYTHING)):
            assert abs(ledgers.estimate(client, OF, period, scope) - 5_000) < 5_000 * 0.0081 * 4
            assert ledgers.small(client, OF, period, scope) == set()


async def test_a_foreign_key_of_another_type_stops_the_step_before_its_first_write(redis_url: str) -> None:
    async with Counting(redis_url) as counter:
        await counter.open()
        client = ledgers.client(redis_url)
        client.set(OF.counts("2026-11", EVERYTHING), "not a hash")
        before = ledgers.contents(client)
        log = [record(0, {"time": "2026-11-20T10:00:00Z", "user_id": "u"})]
        delta = fold("login", log, 1, ShardCache(set()), counter.rules, NOW_MS)
        with pytest.raises(LedgerDefectError, match="holds a string instead of a hash"):
            await counter.ledger.apply(SHARD, 0, delta)
        assert ledgers.contents(client) == before


async def test_a_string_that_is_no_sketch_stops_the_step_before_its_first_write(redis_url: str) -> None:
    async with Counting(redis_url, exact_up_to=0) as counter:
        await counter.open()
        client = ledgers.client(redis_url)
        client.set(OF.users("2026-11", EVERYTHING, 3), "text")
        before = ledgers.contents(client)
        log = [record(0, {"time": "2026-11-20T10:00:00Z", "user_id": "u"})]
        delta = fold("login", log, 1, ShardCache(set()), counter.rules, NOW_MS)
        with pytest.raises(LedgerDefectError, match="holds no HyperLogLog"):
            await counter.ledger.apply(SHARD, 0, delta)
        assert ledgers.contents(client) == before


async def test_a_move_of_the_position_renews_the_epoch(counter: Counting, redis_url: str) -> None:
    """What was merged before the move may be of other content."""
    client, epochs = ledgers.client(redis_url), list[str]()

    async def note() -> None:
        epochs.append(client.hget(OF.changes, "epoch"))

    await counter.open()
    await note()
    assert isinstance(await counter.ledger.skip_lost(SHARD, 0, 5), Applied)
    await note()
    assert isinstance(await counter.ledger.move_position(SHARD, 5, 3, {}), Applied)
    await note()
    assert isinstance(await counter.ledger.adopt_settings(SHARD, 3, {}), Applied)
    await note()
    assert len(set(epochs)) == len(epochs)
    await counter.count([], 3, 4)
    assert client.hget(OF.changes, "epoch") == epochs[-1], "a range renews the tokens of its periods only"


async def test_a_server_that_forgot_the_script_gets_it_again(counter: Counting, redis_url: str) -> None:
    await counter.open()
    ledgers.client(redis_url).script_flush()
    assert await counter.count([], 0, 1) == Applied(frozenset())


async def test_lifetimes_follow_the_period_and_never_the_clock(redis_url: str) -> None:
    async with Counting(redis_url, retain_days=30, retain_months=2, timezone="Europe/Berlin") as counter:
        counter.now_ms = YEAR_2040_MS
        await counter.open()
        log = [record(0, {"time": "2040-01-31T22:30:00Z", "user_id": "u", "realm": "acme"})]
        await counter.count(log, 0, 1)
        client = ledgers.client(redis_url)
        day_ends, month_and_two_end = 2_211_663_600, 2_216_844_000
        assert client.expiretime(OF.counts("2040-01-31", EVERYTHING)) == day_ends + 30 * 86_400
        assert client.expiretime(OF.record_times("2040-01-31")) == day_ends + 30 * 86_400
        assert client.expiretime(OF.counts("2040-01", EVERYTHING)) == month_and_two_end
        assert client.zrange(OF.index, 0, -1, withscores=True) == [
            ("2040-01-31", day_ends + 30 * 86_400),
            ("2040-01", month_and_two_end),
        ]


async def test_after_a_longer_retention_a_period_is_hidden_when_its_first_keys_expire(redis_url: str) -> None:
    """Its keys that nothing is added to keep their expiry: read longer, it would be a part of itself."""
    expiries = []
    for start, days in ((0, 30), (1, 60)):
        async with Counting(redis_url, retain_days=days) as counter:
            counter.now_ms = YEAR_2040_MS
            await counter.resume()
            await counter.count([record(start, {"time": "2040-04-01T10:00:00Z", "user_id": "u"})], start, start + 1)
        expiries.append(ledgers.client(redis_url).zscore(OF.index, "2040-04-01"))
    assert expiries[0] == expiries[1] > 0


@pytest.mark.parametrize(
    ("times", "held", "why"),
    [
        (("2020-01-31T10:00:00Z", "2040-04-01T10:00:00Z"), {"2020-01", "2040-04", "2040-04-01"}, "2020's day is over"),
        (
            ("2040-01-31T10:00:00Z", "2040-04-01T10:00:00Z"),
            {"2040-01", "2040-01-31", "2040-04", "2040-04-01"},
            "all to come",
        ),
    ],
)
async def test_a_period_leaves_the_index_by_the_stores_clock(
    redis_url: str, times: tuple[str, ...], held: set[str], why: str
) -> None:
    async with Counting(redis_url, retain_days=30) as counter:
        counter.now_ms = YEAR_2040_MS
        await counter.open()
        log = [record(offset, {"time": time, "user_id": "u"}) for offset, time in enumerate(times)]
        await counter.count(log, 0, len(log))
        assert set(ledgers.client(redis_url).zrange(OF.index, 0, -1)) == held, why


async def test_every_key_of_a_ledger_is_one_that_the_vocabulary_builds(counter: Counting, redis_url: str) -> None:
    log, expected = logins(5, 500, UTC)
    await counter.open()
    await counter.count_cut(log, [])
    known = {keys.shards("authtally:"), keys.ledger_id("authtally:"), OF.meta, OF.position, OF.progress, OF.index}
    known |= {OF.labels, OF.shares, OF.changes}
    for period, scope in expected.counts:
        known.add(OF.counts(period, scope))
        known |= {OF.record_times(period), OF.clients(period)}
        known |= {OF.small_set(period, scope, part) for part in range(keys.SMALL_PARTS)}
    assert set(ledgers.client(redis_url).keys("*")) <= known


def test_the_script_is_what_the_file_holds() -> None:
    assert ledgers_of_aggregator.SCRIPT.startswith("-- Applies one range to one shard")


@pytest.mark.parametrize("key", ["position", "labels", "meta", "ids", "shares"])
async def test_a_key_of_another_type_ends_a_look_with_a_defect(redis_url: str, key: str) -> None:
    async with Counting(redis_url) as counter:
        await counter.open()
        client = ledgers.client(redis_url)
        name = getattr(OF, key)
        client.delete(name)
        client.xadd(name, {"a": "stream"})
        with pytest.raises(LedgerDefectError, match="WRONGTYPE"):
            await counter.ledger.read_state(SHARD)


@pytest.mark.parametrize("key", ["progress", "index", "labels", "meta", "ids", "shares"])
async def test_a_key_of_another_type_ends_an_addition_with_a_defect_and_nothing_is_written(
    redis_url: str, key: str
) -> None:
    async with Counting(redis_url) as counter:
        log, _ = logins(1, 300, UTC)
        await counter.open()
        client = ledgers.client(redis_url)
        name = getattr(OF, key)
        client.delete(name)
        client.xadd(name, {"a": "stream"})
        delta = fold("login", log, log[-1].offset + 1, ShardCache(set()), counter.rules, NOW_MS)
        keys_before, position = sorted(client.keys("*")), client.get(OF.position)
        with pytest.raises(LedgerDefectError, match=f"LEDGER {re.escape(name)} holds a stream"):
            await counter.ledger.apply(SHARD, 0, delta)
        assert (sorted(client.keys("*")), client.get(OF.position)) == (keys_before, position)
        client.close()
