"""Failed logins that no client can be given, and whose overflow makes an answer incomplete."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from schemas.ledger import fields
from schemas.ledger.changes import new_token
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import OTHER, Scope
from tests.api.conftest import Api, Clock, Serve
from tests.api.own_sample import query_api
from tests.api.sources import by_file, listed
from tests.api.worker import account, count, login, token

DAY, BEFORE = "2026-11-20", "2026-10-20"
NOW, THEN = f"{DAY}T12:00:00Z", f"{BEFORE}T12:00:00Z"
SCOPES = ["stats:read", "metrics:read"]
KEPT: dict[str, Any] = {"users_by": ("realm", "client"), "counts_by": ("realm", "client")}
LOGINS = ShardKeys("authtally:", Shard("auth.logins", 0))


def failure(time: str, realm: str | None, client_id: str | None) -> Any:
    labels = {"realm": realm, "client_id": client_id}
    given = {name: value for name, value in labels.items() if value is not None}
    return login(time, "typed", success=False, reason="user_not_found", **given)


EVENTS = [
    *(login(time, "ada", realm=realm, client_id="web") for time in (NOW, THEN) for realm in ("acme", "globex")),
    login(NOW, "realmless", client_id="web"),
    failure(NOW, "acme", "web"),
    *[failure(NOW, "acme", "typo")] * 3,
    *[failure(THEN, "acme", "typo")] * 2,
    *[failure(NOW, "globex", "typo")] * 5,
    failure(NOW, None, "typo"),
    failure(NOW, "acme", None),
    token(NOW, "password", "id_token", realm="acme", client_id="web"),
    account(NOW, "signup", realm="acme", client_id="web"),
]
"""Unattributed: 3 of acme, 5 of globex, 1 of no realm; and 2 of acme the month before."""


@pytest.fixture
async def api(serve: Serve, redis_url: str, clock: Clock, tmp_path: Path) -> Api:
    clock.now = datetime.fromisoformat(f"{DAY}T13:00:00+00:00").timestamp()
    await count(redis_url, EVENTS, partitions=1, **KEPT)
    tokens = by_file(
        tmp_path,
        listed("all", scopes=SCOPES),
        *(listed(realm, scopes=SCOPES, realms=[realm]) for realm in ("acme", "globex", OTHER)),
        listed("both", scopes=SCOPES, realms=["globex", "acme"]),
        listed("none", scopes=SCOPES, realms=[]),
    )
    return await serve(redis_url=redis_url, cache_ttl_s=0, **KEPT, **tokens)


def days(query: str) -> str:
    return f"/v1/logins?from={DAY}&to={DAY}&{query}"


@pytest.mark.parametrize(
    ("path", "expected", "why"),
    [
        (days("client_id=web"), {"all": 9, "acme": 3, "globex": 5, "both": 8, OTHER: 0, "none": 0}, "by a filter"),
        (days("group_by=client_id"), {"all": 9, "acme": 3, "globex": 5, "both": 8, OTHER: 0, "none": 0}, "by groups"),
        (days("group_by=client_id&realm=acme"), {"all": 3, "acme": 3, "globex": 0, "both": 3}, "of one realm"),
        (days("group_by=client_id,reason"), {"all": 9, "acme": 3}, "whatever the reason"),
        (days("client_id=unknown"), {"all": 9, "acme": 3}, "of an unknown client"),
        (days("client_id=web&realm=acme"), {"all": 3, "acme": 3, "globex": 0}, "of one client"),
        (days("client_id=web&group_by=realm"), {"all": 9, "acme": 3}, "one client by realm is by client"),
        ("/v1/logins?granularity=month&from=2026-10-01&client_id=web", {"all": 11, "acme": 5}, "of all periods asked"),
        (f"/v1/logins?from={BEFORE}&to={BEFORE}&client_id=web", {"all": 2, "acme": 2, "globex": 0}, "of an older day"),
    ],
)
async def test_answers_by_client_give_the_number_of_their_realms_and_periods(
    api: Api, path: str, expected: dict[str, int], why: str
) -> None:
    for principal, number in expected.items():
        result = await query_api(api, path, principal)
        assert (result["unattributed"], result["complete"]) == (number, True), f"{why}, {principal}"
        table = csv.DictReader(io.StringIO((await api.get(f"{path}&format=csv", principal)).text))
        *items, last = list(table)
        assert len(items) == len(result["items"])
        assert last["unattributed"] == str(number), "the last row of the table has it"
        assert (last["from"], last["to"]) == (result["from"], result["to"])
        blank = {name: value for name, value in last.items() if name not in ("from", "to", "unattributed")}
        assert not any(blank.values())
        assert not any(item["unattributed"] for item in items)


async def test_the_row_of_clients_that_are_not_known_stays_beside_the_number(api: Api) -> None:
    rows = (await query_api(api, days("group_by=client_id"), "all"))["items"]
    others = {row["realm"]: row["failed"] for row in rows if row["client_id"] == OTHER}
    assert others == {"acme": 3, "globex": 5, "": 1}


@pytest.mark.parametrize(
    "path",
    [
        days("realm=acme"),
        days("group_by=realm"),
        days("group_by=reason"),
        f"/v1/tokens?from={DAY}&client_id=web",
        f"/v1/accounts?from={DAY}&group_by=client_id",
        f"/v1/active-users?from={DAY}&client_id=web",
        "/v1/m2m",
        "/v1/overview",
        "/v1/labels",
    ],
)
async def test_answers_without_failed_logins_or_clients_do_not_give_it(api: Api, path: str) -> None:
    answer = await api.get(path, "all")
    assert answer.status == 200
    assert "unattributed" not in answer.text


async def test_the_overview_of_a_client_has_it_beside_the_failed_logins(api: Api) -> None:
    result = await query_api(api, "/v1/overview?client_id=web", "acme")
    assert result["activity"]["day"]["unattributed"] == {"value": 3, "previous": 0, "change": None}
    assert result["activity"]["month"]["unattributed"] == {"value": 3, "previous": 2, "change": 0.5}
    assert [row["unattributed"] for row in result["months"][-3:]] == [None, 2, 3]
    assert result["activity"]["day"]["failed_logins"]["value"] == 1
    table = list(csv.DictReader(io.StringIO((await api.get("/v1/overview?client_id=web&format=csv", "acme")).text)))
    figures = {row["figure"]: row["value"] for row in table}
    assert (figures["unattributed_day"], figures["unattributed_month"]) == ("3", "3")
    assert [row["unattributed"] for row in table if row["figure"] == "month"][-2:] == ["2", "3"]


async def test_too_many_counters_to_read_make_it_null(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.dialects.own.unattributed.MAX_READS", 1)
    result = await query_api(api, days("client_id=web"), "all")
    assert (result["unattributed"], result["items"][0]["failed"]) == (None, 1)
    overview = await query_api(api, "/v1/overview?client_id=web", "all")
    assert overview["activity"]["day"]["unattributed"]["value"] is None


def overflow(redis_url: str, dimension: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.hincrby(LOGINS.progress, fields.overflowed(dimension), 1)


def counted(redis_url: str, scope: Scope, field: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.hincrby(LOGINS.counts(DAY, scope), field, 1)
        server.hset(LOGINS.changes, DAY, new_token())


COMPLETE = {"all": True, "acme": True, "globex": True}


async def completeness(api: Api, path: str) -> dict[str, bool]:
    return {principal: (await query_api(api, path, principal))["complete"] for principal in COMPLETE}


async def test_another_realms_clients_without_a_place_leave_ones_own_answer_complete(api: Api, redis_url: str) -> None:
    path = days("group_by=client_id")
    assert await completeness(api, path) == COMPLETE, "failures under unknown clients are no overflow"
    overflow(redis_url, "client")
    counted(redis_url, Scope("client", ("globex", OTHER)), fields.account("locked_out"))
    counted(redis_url, Scope("client", ("acme", OTHER)), fields.LOGIN)
    assert await completeness(api, path) == {"all": False, "acme": False, "globex": True}
    assert await completeness(api, days("group_by=reason")) == COMPLETE, "reasons all found room"


async def test_another_realms_words_without_a_place_leave_ones_own_answer_complete(api: Api, redis_url: str) -> None:
    overflow(redis_url, "reason")
    counted(redis_url, Scope("realm", ("globex",)), fields.failed(OTHER))
    assert await completeness(api, days("group_by=reason")) == {"all": False, "acme": True, "globex": False}
    assert await completeness(api, days("group_by=client_id")) == COMPLETE


async def test_a_realm_that_may_have_found_no_place_is_not_complete(api: Api, redis_url: str) -> None:
    """Its events count under `__other__` in that shard, so that its own figures are too low."""
    overflow(redis_url, "realm")
    path = f"/v1/active-users?from={DAY}"
    assert (await completeness(api, path))["acme"] is True, "the shard knows acme"
    with redis.Redis.from_url(redis_url) as server:
        server.srem(LOGINS.labels, fields.label("realm", "acme"))
    assert (await completeness(api, path))["acme"] is False
    assert (await completeness(api, path))["globex"] is True


async def test_where_only_users_are_kept_by_client_the_users_say_so(
    serve: Serve, redis_url: str, clock: Clock, tmp_path: Path
) -> None:
    clock.now = datetime.fromisoformat(f"{DAY}T13:00:00+00:00").timestamp()
    kept: dict[str, Any] = {"users_by": ("realm", "client"), "counts_by": ("realm",)}
    log = [login(NOW, "ada", realm="acme", client_id="web"), login(NOW, "eve", realm="globex", client_id="web")]
    others = range(fields.REALM_CLIENTS + 2)
    late = [login(NOW, "bob", realm="acme", client_id=f"app {number}") for number in others]
    await count(redis_url, [*log, *late], partitions=1, max_labels=2, **kept)
    tokens = by_file(
        tmp_path,
        listed("all", scopes=SCOPES),
        *(listed(realm, scopes=SCOPES, realms=[realm]) for realm in ("acme", "globex")),
    )
    api = await serve(redis_url=redis_url, **kept, **tokens)
    path = f"/v1/active-users?from={DAY}&to={DAY}&client_id=web"
    assert await completeness(api, path) == {"all": False, "acme": False, "globex": True}
