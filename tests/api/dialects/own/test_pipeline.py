"""`/v1/pipeline`: each consumed record is counted, a duplicate, ignored or dead, and `adds_up` is false otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from tests.api.conftest import Api, Clock, Serve
from tests.api.sources import by_file, listed
from tests.api.worker import Event, count, login

LOGINS = ShardKeys("authtally:", Shard("auth.logins", 0))
AT_MS = 1_795_176_000_000
"""2026-11-20T12:00:00Z, a whole hour."""
NOW = "2026-11-20T12:00:00Z"


def raw(value: bytes | None) -> Event:
    return {"type": "login", "raw": value, "at_ms": AT_MS}


@pytest.fixture
async def api(serve: Serve, redis_url: str) -> Api:
    log = [login(NOW, "ada", id="1"), login(NOW, "ada", id="1"), login(NOW, "bob", id="2"), raw(b"{"), raw(None)]
    await count(redis_url, log, partitions=1)
    return await serve(redis_url=redis_url)


async def partition(api: Api) -> dict[str, Any]:
    answer = await api.get("/v1/pipeline")
    assert answer.status == 200
    (found,) = answer.json["items"]
    assert isinstance(found, dict)
    return found


async def test_consumed_is_the_sum_of_counted_duplicates_ignored_and_dead(api: Api) -> None:
    found = await partition(api)
    assert (found["topic"], found["partition"], found["position"]) == ("auth.logins", 0, 5)
    assert [found[name] for name in ("consumed", "counted", "duplicates", "ignored", "dead")] == [5, 2, 1, 0, 2]
    assert found["dead_by_reason"] == {"empty_value": 1, "not_json": 1}
    assert found["adds_up"] is True
    assert found["last_event"] == "2026-11-20T12:00:00.000Z"
    assert (found["end"], found["lag"], found["seen"], found["refused"]) == (None, None, None, 0)


async def test_a_wrong_sum_is_shown(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.hincrby(LOGINS.progress, fields.COUNTED, 1)
    answer = (await api.get("/v1/pipeline")).json
    assert (answer["items"][0]["adds_up"], answer["total"]["adds_up"]) == (False, False)


async def test_unknown_event_types_are_returned_by_name(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.hset(LOGINS.progress, mapping={fields.unknown("A/TYPE"): 3, fields.UNKNOWN_TYPES: 1})
    assert (await partition(api))["unknown_by_type"] == {"A/TYPE": 3}


async def test_observations_are_returned_with_their_time(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.hset(LOGINS.observed, fields.END, fields.observation(12, AT_MS))
        server.hset(LOGINS.observed, fields.STABLE_END, fields.observation(9, AT_MS))
        server.hset(LOGINS.observed, mapping={fields.REFUSED: 3, fields.REFUSED_MS: AT_MS})
        server.hincrby(LOGINS.progress, fields.LOST, 100)
    found = await partition(api)
    assert (found["end"], found["stable_end"], found["lag"], found["lost"]) == (12, 9, 7, 100)
    assert found["adds_up"] is True, "what was lost was never consumed"
    assert found["seen"] == found["refused_last"] == "2026-11-20T12:00:00.000Z"
    assert found["refused"] == 3


async def test_the_window_of_deduplication_is_returned_in_whole_hours(api: Api, redis_url: str, clock: Clock) -> None:
    found = await partition(api)
    assert found["ids_held"] == 2
    assert (found["ids_from"], found["ids_until"]) == ("2026-11-20T12:00:00.000Z", "2026-11-20T13:00:00.000Z")
    assert found["ids_given_up_before"] is None
    with redis.Redis.from_url(redis_url) as server:
        server.hset(LOGINS.ids, fields.EVICTED_BEFORE, AT_MS // 3_600_000)
    clock.now += 11
    assert (await partition(api))["ids_given_up_before"] == "2026-11-20T12:00:00.000Z"


async def test_records_without_a_usable_time_and_unexpected_ones_are_returned(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.hset(LOGINS.progress, mapping={fields.UNTIMED: 4, fields.dead("no_time"): 1})
        server.hset(LOGINS.progress, mapping={fields.dead("unexpected"): 2, fields.CONSUMED: 8})
        server.sadd(LOGINS.unexpected, 17, 18)
    found = await partition(api)
    assert (found["untimed"], found["unexpected"], found["unexpected_allowed"]) == (4, 2, fields.ALLOWED_AT_FIRST)
    assert found["dead_by_reason"] == {"empty_value": 1, "no_time": 1, "not_json": 1, "unexpected": 2}
    assert found["adds_up"] is True, "an untimed record is also counted, a duplicate, ignored or dead"
    total = (await api.get("/v1/pipeline")).json["total"]
    assert (total["untimed"], total["unexpected"], total["dead"]) == (4, 2, 5)
    labels = 'partition="0",topic="auth.logins"'
    gauges = (await api.get("/v1/metrics")).text
    assert f"authtally_pipeline_untimed_records{{{labels}}} 4.0" in gauges
    assert f"authtally_pipeline_unexpected_records{{{labels}}} 2.0" in gauges
    assert f"authtally_pipeline_unexpected_allowed{{{labels}}} 100.0" in gauges
    assert 'authtally_pipeline_dead_letters{partition="0",reason="no_time",topic="auth.logins"} 1.0' in gauges


async def test_a_raised_allowance_is_returned(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.hset(LOGINS.meta, fields.UNEXPECTED_ALLOWED, 250)
    assert (await partition(api))["unexpected_allowed"] == 250


async def test_a_bearer_of_realms_gets_no_gauges_of_partitions(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    await count(redis_url, [login(NOW, "ada", realm="acme")], partitions=1)
    tokens = by_file(tmp_path, listed("acme", scopes=["metrics:read"], realms=["acme"]))
    gauges = (await (await serve(redis_url=redis_url, **tokens)).get("/v1/metrics", "acme")).text
    assert "authtally_active_users{" in gauges
    assert "authtally_pipeline" not in gauges


async def test_partitions_are_a_table_too(api: Api) -> None:
    header, line, *_ = (await api.get("/v1/pipeline?format=csv")).text.splitlines()
    assert header.startswith("topic,partition,position,")
    assert line.startswith("auth.logins,0,5,")
    assert '"{""empty_value"":1,""not_json"":1}"' in line
