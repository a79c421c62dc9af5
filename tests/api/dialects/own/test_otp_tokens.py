"""`/v1/otp-tokens` and its gauges: the inventory as it is, and as it was day by day."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from schemas.ledger.keys import Shard, ShardKeys
from tests.api.conftest import Api, Clock, Serve
from tests.api.otp import COUNTS, SHARD, given, state, write
from tests.api.sources import by_file, listed
from tests.api.worker import count, login

LOG = [
    state("2026-11-16T10:00:00Z", "1", "token_init", "acme", user_id="ada"),
    state("2026-11-18T10:00:00Z", "2", "token_init", "acme"),
    state("2026-11-18T11:00:00Z", "3", "token_init", "acme", "globex", user_id="ada"),
    state("2026-11-18T12:00:00Z", "2", "token_remove", active=False, deleted=True),
    state("2026-11-20T09:00:00Z", "4", "token_init"),
]


@pytest.fixture
async def api(serve: Serve, redis_url: str, clock: Clock) -> Api:
    clock.now = datetime.fromisoformat("2026-11-20T12:00:00Z").timestamp()
    await write(redis_url, LOG)
    return await serve(redis_url=redis_url)


async def items(api: Api, query: str, token: str | None = None) -> list[dict[str, Any]]:
    answer = await api.get(f"/v1/otp-tokens?{query}", token)
    assert answer.status == 200, answer.text
    found: list[dict[str, Any]] = answer.json["items"]
    return found


async def test_now_is_every_realm_and_status(api: Api) -> None:
    found = await items(api, "")
    assert len(found) == 30
    result = {(item["realm"], item["status"]): item["count"] for item in found}
    assert [result["acme", name] for name in ("total", "assigned", "active&assigned", "total users")] == [2, 2, 2, 1]
    assert (result["globex", "total"], result["/:no realm:/", "unassigned"]) == (1, 1)


@pytest.mark.parametrize(
    ("query", "expected", "why"),
    [
        ("realm=ACME&status=total", [("acme", "total", 2)], "as LinOTP, whatever the case"),
        ("realm=acme&status=unassigned%26active", [("acme", "active&unassigned", 0)], "either order of a pair"),
        ("realm=nobody", [], "a realm that is not known has nothing"),
    ],
)
async def test_filters(api: Api, query: str, expected: list[tuple[str, str, int]], why: str) -> None:
    assert [tuple(item.values()) for item in await items(api, query)] == expected, why


async def test_days_have_their_end_and_their_maximum(api: Api) -> None:
    found = await items(api, "from=2026-11-15&to=2026-11-20&realm=acme&status=total")
    assert [(item["date"][-2:], item["count"], item["maximum"]) for item in found] == [
        ("16", 1, 1),
        ("17", 1, 1),
        ("18", 2, 3),
        ("19", 2, 2),
        ("20", 2, 2),
    ]


async def test_a_window_after_the_last_change_knows_what_was_there(api: Api) -> None:
    found = await items(api, "from=2026-11-19&realm=acme&status=total")
    assert [item["count"] for item in found] == [2, 2]


async def test_deleted_rows_are_no_longer_returned(api: Api) -> None:
    assert (await api.get("/reporting/delete_before?date=2026-11-18&status=total&realms=acme")).json
    found = await items(api, "from=2026-11-15&to=2026-11-20&realm=acme&status=total")
    assert [item["date"][-2:] for item in found] == ["18", "19", "20"]
    assert (await items(api, "realm=acme&status=total"))[0]["count"] == 2, "tokens are not deleted"


async def test_counts_of_another_system_are_an_inventory_too(api: Api, redis_url: str) -> None:
    rows = [given("2026-11-18T10:00:00Z", "initech", "total", 7), given("2026-11-18T12:00:00Z", "initech", "total", 5)]
    await write(redis_url, rows, COUNTS)
    assert await items(api, "realm=initech") == [{"realm": "initech", "status": "total", "count": 5}]
    found = await items(api, "realm=initech&from=2026-11-17&to=2026-11-19")
    assert [(item["date"][-2:], item["count"], item["maximum"]) for item in found] == [("18", 5, 7), ("19", 5, 5)]


async def test_it_is_a_table_too(api: Api) -> None:
    text = (await api.get("/v1/otp-tokens?realm=acme&status=total&from=2026-11-20&format=csv")).text
    assert list(csv.reader(io.StringIO(text))) == [
        ["date", "realm", "status", "count", "maximum"],
        ["2026-11-20", "acme", "total", "2", "2"],
    ]


@pytest.mark.parametrize("query", ["status=disable", "from=2026-13-01", "from=2026-11-02&to=2026-11-01", "page=1"])
async def test_bad_questions_name_the_parameter(api: Api, query: str) -> None:
    answer = await api.get(f"/v1/otp-tokens?{query}")
    assert (answer.status, answer.json["parameter"]) == (400, query.partition("=")[0])


async def test_a_bearer_sees_its_realms_only(serve: Serve, redis_url: str, tmp_path: Path, clock: Clock) -> None:
    clock.now = datetime.fromisoformat("2026-11-20T12:00:00Z").timestamp()
    await write(redis_url, LOG)
    scopes = ["stats:read", "metrics:read"]
    sources = by_file(
        tmp_path, listed("globex", scopes=scopes, realms=["globex"]), listed("none", scopes=["reporting"])
    )
    api = await serve(redis_url=redis_url, **sources)
    assert {item["realm"] for item in await items(api, "", "globex")} == {"globex"}
    assert {item["realm"] for item in await items(api, "from=2026-11-01", "globex")} == {"globex"}
    assert await items(api, "realm=acme", "globex") == []
    assert (await api.get("/v1/otp-tokens", "none")).status == 403
    text = (await api.get("/v1/metrics", "globex")).text
    assert 'authtally_otp_tokens{realm="globex",status="total"} 1.0' in text
    assert "acme" not in text


async def test_gauges_show_each_realm_and_status(api: Api) -> None:
    text = (await api.get("/v1/metrics")).text
    assert 'authtally_otp_tokens{realm="acme",status="active&assigned"} 2.0' in text
    assert 'authtally_otp_tokens{realm="/:no realm:/",status="total"} 1.0' in text


async def test_without_an_inventory_there_is_nothing(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url)
    assert await items(api, "") == []
    assert "authtally_otp_tokens" not in (await api.get("/v1/metrics")).text


async def test_a_state_that_a_defect_kept_from_counting_makes_it_incomplete(
    serve: Serve, redis_url: str, tmp_path: Path
) -> None:
    """Its realm is unknown, so every caller gets it."""
    await write(redis_url, LOG)
    await count(redis_url, [login("2026-11-20T10:00:00Z", "ada")], partitions=1)
    scopes = ["stats:read", "metrics:read"]
    tokens = by_file(tmp_path, listed("all", scopes=scopes), listed("acme", scopes=scopes, realms=["acme"]))
    api = await serve(redis_url=redis_url, cache_ttl_s=0, **tokens)

    async def complete(principal: str) -> tuple[bool, bool, bool]:
        now = (await api.get("/v1/otp-tokens", principal)).json["complete"]
        by_day = (await api.get("/v1/otp-tokens?from=2026-11-18&to=2026-11-20", principal)).json["complete"]
        return now, by_day, "authtally_otp_tokens_complete 1.0" in (await api.get("/v1/metrics", principal)).text

    with redis.Redis.from_url(redis_url) as server:
        server.sadd(ShardKeys("authtally:", Shard("auth.logins", 0)).unexpected, 3)
        for principal in ("all", "acme"):
            assert await complete(principal) == (True, True, True), "an unexpected login is no token's state"
        server.sadd(ShardKeys("authtally:", SHARD).unexpected, 3)
    for principal in ("all", "acme"):
        assert await complete(principal) == (False, False, False)
