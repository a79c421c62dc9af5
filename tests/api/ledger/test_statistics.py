"""Figures against plain Python sets, over random ledgers; the same through a Cluster."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings, strategies

from api.http.errors import ForbiddenError
from api.ledger.client import Client, open_ledger
from api.ledger.distinct_query import ActiveUsers
from api.ledger.ledger_statistics import LedgerStatistics
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey
from schemas.ledger import accuracy, fields
from schemas.ledger.keys import TEMPORARY_MS, Shard
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING, Scope
from tests.api.ledger_writer import PREFIX, LedgerWriter
from tests.conftest import wait_until

NOVEMBER = Month(2026, 11)
OCTOBER = Month(2026, 10)
DAY = "2026-11-20"
SHARDS = (Shard("auth.logins", 0), Shard("auth.logins", 1), Shard("auth.tokens", 0))
ACME, GLOBEX = Scope("realm", ("acme",)), Scope("realm", ("globex",))

# Signed 64-bit integers, as the worker's digests are.
USERS = [(number * 0x9E3779B97F4A7C15 + 0x1234567) % 2**64 - 2**63 for number in range(40_000)]


def api_settings(url: str, **changes: object) -> ApiSettings:
    return ApiSettings(**{"auth": ("none",), "redis_url": url} | changes)  # type: ignore[arg-type]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    client = open_ledger(api_settings(redis_url))
    yield client
    await client.close()


def statistics(client: Client, url: str, **changes: object) -> LedgerStatistics:
    return LedgerStatistics(client, api_settings(url, **changes))


async def test_users_of_small_sets_are_counted_one_by_one(client: Client, redis_url: str, ledger: LedgerWriter) -> None:
    ledger.few_users("2026-11", USERS[:300], SHARDS[0])
    ledger.few_users("2026-11", USERS[200:500], SHARDS[1])
    assert await statistics(client, redis_url).active_users("2026-11", EVERYTHING) == ActiveUsers(500, 0.0)


async def test_small_sets_whose_union_passes_the_bound_are_estimated(
    client: Client, redis_url: str, ledger: LedgerWriter
) -> None:
    ledger.few_users("2026-11", USERS[:300], SHARDS[0])
    ledger.few_users("2026-11", USERS[200:500], SHARDS[1])
    at_bound = statistics(client, redis_url, exact_up_to=500)
    beyond = statistics(client, redis_url, exact_up_to=499)
    assert (await at_bound.active_users("2026-11", EVERYTHING)).standard_error == 0
    estimate = await beyond.active_users("2026-11", EVERYTHING)
    assert estimate.standard_error == accuracy.standard_error("2026-11", EVERYTHING)
    assert estimate.count == pytest.approx(500, abs=5)


async def test_a_promoted_shard_and_a_small_one_are_one_union(
    client: Client, redis_url: str, ledger: LedgerWriter
) -> None:
    ledger.many_users("2026-11", USERS[:20_000], SHARDS[0])
    ledger.few_users("2026-11", USERS[:2000], SHARDS[1])
    ledger.few_users("2026-11", USERS[20_000:22_000], SHARDS[2])
    users = await statistics(client, redis_url).active_users("2026-11", EVERYTHING)
    assert users.count == pytest.approx(22_000, rel=4 * users.standard_error)
    assert users.standard_error == pytest.approx(0.002, rel=0.02)


async def test_a_question_leaves_no_key_behind(client: Client, redis_url: str, ledger: LedgerWriter) -> None:
    ledger.many_users("2026-11", USERS[:5000], SHARDS[0])
    ledger.few_users("2026-11", USERS[5000:5100], SHARDS[1])
    with redis.Redis.from_url(redis_url) as server:
        before = set(server.keys())
        await statistics(client, redis_url).active_users("2026-11", EVERYTHING)
        assert set(server.keys()) == before


async def test_temporary_keys_expire_should_the_api_die(redis_url: str) -> None:
    assert 1000 <= TEMPORARY_MS <= 60_000


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shards=strategies.lists(
        strategies.tuples(
            strategies.booleans(),
            strategies.integers(0, 30_000),
            strategies.integers(0, 9_000),
        ),
        min_size=1,
        max_size=3,
    ),
    period=strategies.sampled_from(("2026-11", DAY)),
)
def test_active_users_equal_the_oracle_when_small_and_are_near_it_when_not(
    valkey: Valkey, shards: list[tuple[bool, int, int]], period: str
) -> None:
    """Each shard is (promoted?, first user, users); the oracle is Python's set."""
    with redis.Redis.from_url(valkey.url) as server:
        server.flushall()
        ledger = LedgerWriter(server)
        oracle: set[int] = set()
        promoted_any = False
        for place, (promoted, first, many) in enumerate(shards):
            users = USERS[first : first + (many if promoted else many % 600)]
            promoted_any |= promoted and bool(users)
            oracle |= set(users)
            (ledger.many_users if promoted else ledger.few_users)(period, users, SHARDS[place])

    async def ask() -> ActiveUsers:
        client = open_ledger(api_settings(valkey.url))
        try:
            return await statistics(client, valkey.url).active_users(period, EVERYTHING)
        finally:
            await client.close()

    answer = asyncio.run(ask())
    if promoted_any:
        # A sketch below a few hundred users is a table of single hits: whole users off, not per cent.
        allowed = max(4 * answer.standard_error * len(oracle), 4 * math.sqrt(len(oracle) / 2000), 4)
        assert answer.standard_error == accuracy.standard_error(period, EVERYTHING)
        assert abs(answer.count - len(oracle)) <= allowed
    else:
        assert answer == ActiveUsers(len(oracle), 0.0)


async def test_tokens_add_up_over_shards_and_nothing_else_counts_as_one(
    client: Client, redis_url: str, ledger: LedgerWriter
) -> None:
    ledger.tokens("2026-11", {"password": {"access_token": 2}}, SHARDS[0])
    ledger.tokens("2026-11", {"password": {"access_token": 3, "id_token": 1}, "a/b %": {"x/y": 4}}, SHARDS[1])
    ledger.other_counts("2026-11", SHARDS[1])
    (figures,) = await statistics(client, redis_url).months([NOVEMBER])
    assert figures.tokens == {"password": {"access_token": 5, "id_token": 1}, "a/b %": {"x/y": 4}}


async def test_a_month_is_answered_until_it_expires_by_the_clock_of_the_store(
    client: Client, redis_url: str, ledger: LedgerWriter
) -> None:
    """Keys expire by that clock. The api's own, and what records say, may be years away from it."""
    with redis.Redis.from_url(redis_url) as server:
        now, _ = server.time()
        ledger.hold("2026-10", SHARDS[0], expires=now + 60)
        ledger.hold("2026-11", SHARDS[1])
        asked = [Month(2026, 9), OCTOBER, NOVEMBER]
        result = await statistics(client, redis_url).months(asked)
        assert [row.month for row in result] == [OCTOBER, NOVEMBER]
        ledger.hold("2026-10", SHARDS[0], expires=now - 1)
        result = await statistics(client, redis_url).months(asked)
        assert [row.month for row in result] == [NOVEMBER]


async def test_an_empty_ledger_holds_nothing(client: Client, redis_url: str) -> None:
    assert await statistics(client, redis_url).months([NOVEMBER]) == []
    assert await statistics(client, redis_url).active_users("2026-11", EVERYTHING) == ActiveUsers(0, 0.0)


async def test_a_bearer_of_realms_sees_their_union_as_everything(
    client: Client, redis_url: str, ledger: LedgerWriter
) -> None:
    ledger.few_users("2026-11", USERS[:100])
    ledger.few_users("2026-11", USERS[:30], SHARDS[0], ACME)
    ledger.few_users("2026-11", USERS[20:50], SHARDS[1], GLOBEX)
    ledger.tokens("2026-11", {"password": {"access_token": 100}})
    ledger.tokens("2026-11", {"password": {"access_token": 2}}, SHARDS[0], ACME)
    ledger.tokens("2026-11", {"password": {"access_token": 3}}, SHARDS[1], GLOBEX)
    (figures,) = await statistics(client, redis_url).months([NOVEMBER], {"acme", "globex"})
    assert figures.active == ActiveUsers(50, 0.0)
    assert figures.tokens == {"password": {"access_token": 5}}
    (figures,) = await statistics(client, redis_url).months([NOVEMBER], {"acme"})
    assert figures.active == ActiveUsers(30, 0.0)
    assert await statistics(client, redis_url).months([NOVEMBER], {"initech"}) == []
    assert await statistics(client, redis_url).months([NOVEMBER], set()) == []


@pytest.mark.parametrize("kept", [{"users_by": ("client",)}, {"counts_by": ("client",)}])
async def test_a_bearer_of_realms_sees_nothing_where_realms_are_not_kept(
    client: Client, redis_url: str, kept: dict[str, Any]
) -> None:
    with pytest.raises(ForbiddenError):
        await statistics(client, redis_url, **kept).months([NOVEMBER], {"acme"})


def test_a_bearer_sees_everything_or_its_realms_and_never_the_others(redis_url: str) -> None:
    asked = statistics(open_ledger(api_settings(redis_url)), redis_url)
    assert asked.scopes_of(None) == (EVERYTHING,)
    assert asked.scopes_of({"globex", "acme", "__other__"}) == (ACME, GLOBEX)
    assert asked.scopes_of(()) == ()


async def test_periods_and_scopes_are_one_union(client: Client, redis_url: str, ledger: LedgerWriter) -> None:
    ledger.few_users("2026-11-19", USERS[:30], SHARDS[0], ACME)
    ledger.few_users("2026-11-20", USERS[20:50], SHARDS[1], ACME)
    ledger.few_users("2026-11-20", USERS[40:60], SHARDS[2], GLOBEX)
    ledger.few_users("2026-10", USERS[55:70], SHARDS[0], GLOBEX)
    asked = statistics(client, redis_url)
    periods = ["2026-10", "2026-11-18", "2026-11-19", "2026-11-20"]
    assert await asked.active_over(periods, [ACME, GLOBEX]) == ActiveUsers(70, 0.0)
    assert await asked.active_over(periods[1:], [ACME]) == ActiveUsers(50, 0.0)
    assert await asked.active_over(periods, []) == ActiveUsers(0, 0.0)
    assert await asked.active_over([], [ACME]) == ActiveUsers(0, 0.0)


async def test_a_month_and_days_unite_in_the_parts_of_the_coarser(
    client: Client, redis_url: str, ledger: LedgerWriter
) -> None:
    ledger.many_users("2026-10", USERS[:20_000], SHARDS[0])
    ledger.many_users(DAY, USERS[15_000:30_000], SHARDS[1])
    ledger.few_users(DAY, USERS[29_000:30_100], SHARDS[2])
    users = await statistics(client, redis_url).active_over(["2026-10", DAY], [EVERYTHING])
    assert users.standard_error == accuracy.standard_error(DAY, EVERYTHING)
    assert users.count == pytest.approx(30_100, rel=4 * users.standard_error)


@pytest.mark.parametrize("units", [1, 5, 256])
async def test_a_wide_union_reads_piece_by_piece_and_leaves_nothing(
    client: Client, redis_url: str, ledger: LedgerWriter, units: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("distinct_query.MAX_SHARD_SCOPES", "users.MAX_MERGED"):
        monkeypatch.setattr(f"api.ledger.{name}", units)
    days = [f"2026-11-{number:02}" for number in range(1, 13)]
    for number, day in enumerate(days):
        start = 900 * number
        write = ledger.many_users if number % 3 == 0 else ledger.few_users
        write(day, USERS[start : start + 1000], SHARDS[number % 3])
    with redis.Redis.from_url(redis_url) as server:
        before = set(server.keys())
        users = await statistics(client, redis_url).active_over(days, [EVERYTHING])
        assert set(server.keys()) == before
    assert users.count == pytest.approx(10_900, rel=4 * users.standard_error)


async def test_counters_are_summed_by_period(client: Client, redis_url: str, ledger: LedgerWriter) -> None:
    ledger.other_counts(DAY, SHARDS[0])
    ledger.other_counts(DAY, SHARDS[1])
    ledger.tokens(DAY, {"password": {"access_token": 3}}, SHARDS[1])
    ledger.hold("2026-11-21", expires=1000)
    counts = await statistics(client, redis_url).counts([DAY, "2026-11-21", "2026-11-22"], [EVERYTHING])
    found = {
        ("login",): 14,
        ("failed", "locked"): 14,
        ("account", "signup"): 14,
        ("token", "password", "access_token"): 3,
    }
    assert counts == {DAY: found}, "what has expired or never was is not answered"


async def test_a_day_has_its_first_and_last_record(client: Client, redis_url: str, ledger: LedgerWriter) -> None:
    with redis.Redis.from_url(redis_url) as server:
        for shard, first, last in ((SHARDS[0], 20, 30), (SHARDS[1], 10, 25)):
            names = ledger.hold(DAY, shard)
            server.hset(names.record_times(DAY), mapping={fields.FIRST: first, fields.LAST: last})
    assert await statistics(client, redis_url).record_times([DAY, "2026-11-21"]) == {DAY: (10, 30)}


async def test_an_imported_month_stands_whatever_is_counted_here(
    client: Client, redis_url: str, ledger: LedgerWriter
) -> None:
    ledger.few_users("2026-11", USERS[:3])
    ledger.few_users("2026-11", USERS[:3], scope=ACME)
    with redis.Redis.from_url(redis_url) as server:
        for month, active in (("2026-10", 500), ("2026-11", 600)):
            server.hset("authtally:imported", fields.imported(month, fields.ACTIVE), active)
            server.hset("authtally:imported", fields.imported(month, fields.SOURCE), "old.csv")
        server.hset("authtally:imported", fields.imported("2026-10", "token", "password", "id_token"), 7)
        server.hset("authtally:imported", fields.imported("2026-09", "login"), 7)
    asked = [Month(2026, 9), OCTOBER, NOVEMBER]
    october, november = await statistics(client, redis_url).months(asked)
    assert (october.active.count, october.tokens, october.source) == (500, {"password": {"id_token": 7}}, "old.csv")
    assert (november.active.count, november.source) == (600, "old.csv")
    limited = await statistics(client, redis_url).months(asked, {"acme"})
    assert [row.month for row in limited] == [NOVEMBER], "figures of everybody are not for who sees some"


async def test_active_clients_are_a_union_of_the_shards_sketches(
    client: Client, redis_url: str, ledger: LedgerWriter
) -> None:
    with redis.Redis.from_url(redis_url) as server:
        for shard, clients in ((SHARDS[0], ("web", "app")), (SHARDS[1], ("web", "job"))):
            server.pfadd(ledger.hold("2026-11", shard).clients("2026-11"), *clients)
    asked = statistics(client, redis_url)
    assert (await asked.active_clients("2026-11")).count == 3
    assert await asked.active_clients("2026-10") == ActiveUsers(0, 0.0)


@pytest.fixture(scope="module")
def cluster_url() -> Iterator[str]:
    """A Cluster of one node with all slots: it refuses commands across slots as a large one does."""
    with Valkey(options=("--cluster-enabled", "yes")) as server:
        with redis.Redis.from_url(server.url) as node:
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
            wait_until(lambda: node.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        yield server.url


async def test_a_cluster_answers_the_same(cluster_url: str) -> None:
    with redis.RedisCluster.from_url(cluster_url) as server:
        ledger = LedgerWriter(server)
        ledger.many_users("2026-11", USERS[:20_000], SHARDS[0])
        ledger.many_users("2026-11", USERS[10_000:25_000], SHARDS[1])
        ledger.few_users("2026-11", USERS[24_900:25_100], SHARDS[2])
        ledger.few_users("2026-10", USERS[:70], SHARDS[0])
        ledger.few_users("2026-10", USERS[50:100], SHARDS[1])
        ledger.tokens("2026-11", {"password": {"access_token": 2}}, SHARDS[0])
        ledger.tokens("2026-11", {"password": {"access_token": 3}}, SHARDS[2])
        before = set(server.keys())
        client = open_ledger(api_settings(cluster_url, redis_cluster=True))
        try:
            october, november = await statistics(client, cluster_url, redis_cluster=True).months([OCTOBER, NOVEMBER])
        finally:
            await client.close()
        assert october.active == ActiveUsers(100, 0.0)
        assert november.active.count == pytest.approx(25_100, rel=4 * november.active.standard_error)
        assert november.active.standard_error > 0
        assert november.tokens == {"password": {"access_token": 5}}
        assert set(server.keys()) == before
        assert all(key.decode().startswith(PREFIX) for key in before)


@pytest.mark.parametrize("units", [2, 256])
async def test_a_cluster_unites_periods_and_clients_the_same(
    cluster_url: str, units: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("distinct_query.MAX_SHARD_SCOPES", "users.MAX_COPIED"):
        monkeypatch.setattr(f"api.ledger.{name}", units)
    with redis.RedisCluster.from_url(cluster_url) as server:
        ledger = LedgerWriter(server)
        ledger.many_users("2025-10", USERS[:20_000], SHARDS[0])
        ledger.many_users("2025-11-20", USERS[10_000:25_000], SHARDS[1])
        ledger.few_users("2025-11-20", USERS[24_900:25_100], SHARDS[2])
        ledger.few_users("2025-11-21", USERS[25_000:25_300], SHARDS[0])
        for shard, clients in ((SHARDS[0], ("web", "app")), (SHARDS[1], ("web", "job"))):
            server.pfadd(ledger.hold("2025-11", shard).clients("2025-11"), *clients)
        before = set(server.keys())
        client = open_ledger(api_settings(cluster_url, redis_cluster=True))
        try:
            asked = statistics(client, cluster_url, redis_cluster=True)
            users = await asked.active_over(["2025-10", "2025-11-20", "2025-11-21"], [EVERYTHING])
            few = await asked.active_over(["2025-11-21"], [EVERYTHING])
            clients_seen = await asked.active_clients("2025-11")
        finally:
            await client.close()
        assert users.count == pytest.approx(25_300, rel=4 * users.standard_error)
        assert few == ActiveUsers(300, 0.0)
        assert clients_seen.count == 3
        assert set(server.keys()) == before
