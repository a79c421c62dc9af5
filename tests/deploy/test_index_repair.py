"""An index that a record of 2100 emptied comes back from the keys, and impossible record timestamps go."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import redis

from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING
from tests.conftest import wait_until
from tests.deploy.fixtures import DAMAGED, DAYS, SHARDS, WHOLE, of, restore, run
from tests.deploy.fixtures.format_1 import FAR_AHEAD_MS
from tests.stores import Store

COUNTED = [shard for shard in SHARDS if shard.topic != "auth.otp-tokens"]
LOGINS = Shard("auth.logins", 1)
ONE = {"redis_cluster": "off"}


def printed(redis_url: str, *arguments: object, **settings: str) -> dict[str, Any]:
    done = run(redis_url, "positions", "rebuild-index", *arguments, "--json", settings=ONE | settings)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def indexes(client: Any) -> dict[Shard, dict[str, float]]:
    return {shard: dict(client.zrange(of(shard).index, 0, -1, withscores=True)) for shard in SHARDS}


def impossible(client: Any) -> set[str]:
    """Keys with a record timestamp of 2100."""
    named = [key for shard in SHARDS for key in (of(shard).progress, of(shard).record_times("2026-11-26"))]
    return {key for key in named if str(FAR_AHEAD_MS) in client.hgetall(key).values()}


@pytest.mark.parametrize("clustered", ["off", "on"])
def test_a_damaged_ledger_gets_every_day_back(redis_url: str, cluster: str, clustered: str) -> None:
    url, settings = (cluster, {"redis_cluster": "on"}) if clustered == "on" else (redis_url, ONE)
    kind: Any = redis.RedisCluster if clustered == "on" else redis.Redis
    with kind.from_url(url, decode_responses=True) as client:
        restore(url, WHOLE, settings)
        whole = indexes(client)
        client.flushall()
        restore(url, DAMAGED, settings)
        damaged = indexes(client)
        assert all(whole[shard].keys() >= DAYS for shard in COUNTED)
        assert all(not DAYS & damaged[shard].keys() for shard in COUNTED)
        assert len(impossible(client)) == len(SHARDS) + 1

        dry = printed(url, "--all", **settings)
        assert dry["changed"] is False
        assert indexes(client) == damaged
        done = printed(url, "--all", "--yes", **settings)
        assert done["changed"] is True
        assert indexes(client) == whole
        assert impossible(client) == set()
        assert sum(each["added"] for each in done["shards"]) == sum(len(each["periods"]) for each in dry["shards"]) > 20
        assert [each["removed"] for each in done["shards"]] == [1, 1, 2, 1, 1, 1]

        again = printed(url, "--all", "--yes", **settings)
        assert again["changed"] is False
        assert not any(each["periods"] or each["times"] for each in again["shards"])
        client.flushall()


def test_a_dry_run_names_each_period_and_a_shard_alone_is_repaired(redis_url: str) -> None:
    restore(redis_url, DAMAGED)
    command = ("positions", "rebuild-index", "auth.logins", "1")
    dry = run(redis_url, *command)
    assert dry.exit_code == 0, dry.output
    for said in ("2026-10-28", "would be in the index until 2081-", f"{FAR_AHEAD_MS} ms is not between", "Dry run"):
        assert said in dry.output
    done = run(redis_url, *command, "--yes")
    assert "Added 4 periods and removed 2 timestamps." in done.output
    assert "Nothing to repair" in run(redis_url, *command).output
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        held = indexes(client)
        assert [held[shard].keys() >= DAYS for shard in COUNTED] == [shard == LOGINS for shard in COUNTED]


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        ((), 2, "neither a shard nor all"),
        (("auth.logins",), 2, "a topic without a partition"),
        (("auth.logins", "1", "--all"), 2, "both"),
        (("auth.logins", "7"), 1, "a shard that the ledger does not have"),
    ],
)
def test_what_to_repair_must_be_said(redis_url: str, arguments: tuple[str, ...], status: int, why: str) -> None:
    done = run(redis_url, "positions", "rebuild-index", *arguments)
    assert done.exit_code == status, why


def test_a_period_whose_keys_expire_at_different_times_is_hidden_when_the_first_goes(redis_url: str) -> None:
    restore(redis_url, WHOLE)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        counts = of(LOGINS).counts("2026-11-25", EVERYTHING)
        sooner = client.expiretime(counts) - 86_400
        client.expireat(counts, sooner)
        assert printed(redis_url, "--all", "--yes")["changed"] is True
        assert client.zscore(of(LOGINS).index, "2026-11-25") == sooner


def test_months_kept_forever_have_no_expiry(redis_url: str) -> None:
    restore(redis_url, WHOLE)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        before = indexes(client)
        client.delete(of(LOGINS).index)
        (shard,) = [each for each in printed(redis_url, "auth.logins", "1", "--yes")["shards"] if each["added"]]
        assert shard["periods"]["2026-11"] is None
        assert indexes(client) == before


def test_a_shard_that_is_being_restored_is_left_alone(redis_url: str) -> None:
    restore(redis_url, DAMAGED)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.set(of(LOGINS).position, fields.RESTORING)
        (shard,) = printed(redis_url, "auth.logins", "1", "--yes")["shards"]
        assert "being restored" in shard["unfit"]
        assert DAYS.isdisjoint(indexes(client)[LOGINS])


def test_the_shipped_operator_may_repair(redis_url: str) -> None:
    with Store() as store:
        restore(store.url_of("operator"), DAMAGED)
        assert printed(store.url_of("operator"), "--all", "--yes")["changed"] is True
        with store.watcher() as client:
            assert all(indexes(client)[shard].keys() >= DAYS for shard in COUNTED)


def test_a_worker_counts_on_while_its_index_is_rebuilt(redis_url: str) -> None:
    """The index is emptied again and again under a writer, and each time rebuilt; no event is lost or added."""
    shard = Shard("auth.logins", 3)
    keys = ShardKeys("authtally:", shard)
    writer = subprocess.Popen((sys.executable, "-m", "tests.deploy.load", redis_url, "0"))
    try:
        with redis.Redis.from_url(redis_url, decode_responses=True) as client:
            wait_until(lambda: int(client.get(keys.position) or 0) > 200, 30)
            for _ in range(5):
                client.delete(keys.index)
                printed(redis_url, *shard, "--yes")
                days = {f"2026-11-{day:02}" for day in range(1, 29)}
                assert days <= set(client.zrange(keys.index, 0, -1))
            writer.kill()
            writer.wait()
            position = int(client.get(keys.position))
            counted = [client.hget(keys.counts(day, EVERYTHING), fields.LOGIN) for day in sorted(days)]
            assert sum(map(int, counted)) == position
    finally:
        writer.kill()
        writer.wait()
