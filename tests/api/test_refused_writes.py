"""A store that answers reads and refuses writes: full, a replica, without its disk or its replicas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from deploy.demo.servers import Valkey
from schemas.ledger import changes, keys
from schemas.ledger.keys import Shard, ShardKeys
from tests.api.conftest import Serve
from tests.api.ledger_writer import PREFIX, open_ledger

SHARDS = [Shard("auth.logins", number) for number in range(3)]
FEW, MANY, BOTH = "2025-03", "2025-04", "2025-05"
"""Months whose users are in small sets, in sketches, and in both."""


@pytest.fixture
def store() -> Iterator[Valkey]:
    with Valkey() as server, redis.Redis.from_url(server.url) as client:
        writer = open_ledger(server.url)
        for number, shard in enumerate(SHARDS):
            writer.few_users(FEW, range(number * 10, number * 10 + 15), shard)
            writer.many_users(MANY, range(number * 500, number * 500 + 900), shard)
            (writer.many_users if number else writer.few_users)(BOTH, range(number * 10, number * 10 + 15), shard)
            for month in (FEW, MANY, BOTH):
                writer.tokens(month, {"password": {"access_token": 1}}, shard)
            client.hset(ShardKeys(PREFIX, shard).changes, changes.EPOCH, changes.new_token())
        client.set(keys.ledger_id(PREFIX), changes.new_token())
        yield server


def month_of(month: str, suffix: str = "") -> str:
    return f"/jans-auth/restv1/internal/stat?month={month.replace('-', '')}{suffix}"


@pytest.mark.parametrize(
    ("setting", "value"),
    [("maxmemory", "1"), ("replicaof", "127.0.0.1 1"), ("min-replicas-to-write", "1")],
    ids=["OOM", "READONLY", "NOREPLICAS"],
)
async def test_only_the_questions_that_need_a_write_fail(serve: Serve, store: Valkey, setting: str, value: str) -> None:
    before = await serve(redis_url=store.url, janssen_cache_ttl_s=60)
    expected = {month: (await before.get(month_of(month))).json for month in (FEW, MANY)}
    # A process of its own: the first one keeps its figures.
    api = await serve(redis_url=store.url, janssen_cache_ttl_s=60)
    with redis.Redis.from_url(store.url) as client:
        refuse(client, setting, value)
        with pytest.raises(redis.ResponseError):
            client.set("any", 1)
    for _ in range(5):
        assert (await api.get(month_of(BOTH))).status == 503, "sketches and members meet in a temporary sketch"
    tokens = await api.get("/v1/tokens?granularity=month&from=2025-03-01&to=2025-05-31")
    assert tokens.status == 200, "a question that only reads does not wait for those that are refused"
    assert [item["tokens"] for item in tokens.json["items"]] == [3, 3, 3]
    for month, figures in expected.items():
        answer = await api.get(month_of(month))
        assert (answer.status, answer.json) == (200, figures), "merging saves time only"


def refuse(client: Any, setting: str, value: str) -> None:
    if setting == "replicaof":
        client.replicaof(*value.split())
    else:
        client.config_set(setting, value)
