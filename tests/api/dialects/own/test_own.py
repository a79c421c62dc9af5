"""Active users and counters of the own surface, over a ledger that the worker's own fold and script wrote."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

import pytest
import redis

from tests.api.conftest import Api, Clock, Serve
from tests.api.own_sample import DAY, EVENTS, NOON, query_api, serve_sample, values
from tests.api.worker import count, login


@pytest.fixture
async def api(serve: Serve, redis_url: str, clock: Clock) -> Api:
    return await serve_sample(serve, redis_url, clock)


@pytest.mark.parametrize(
    ("query", "expected", "why"),
    [
        ("from=2026-12-31&to=2027-01-01", {"2026-12-31": 1, "2027-01-01": 2}, "days"),
        ("from=2028-02-28&to=2028-03-01", {"2028-02-28": 0, "2028-02-29": 1, "2028-03-01": 2}, "a leap day"),
        (
            "granularity=week&from=2025-12-30&to=2026-01-05",
            {"2026-W01": 2, "2026-W02": 0},
            "week 1 has the year's first Thursday",
        ),
        ("granularity=week&from=2027-01-01&to=2027-01-01", {"2026-W53": 2}, "New Year in the old year's last week"),
        ("granularity=month&from=2026-12-31&to=2027-01-01", {"2026-12": 1, "2027-01": 2}, "months around New Year"),
        ("granularity=month&from=2028-02-10&to=2028-02-11", {"2028-02": 1}, "a month is whole"),
        ("granularity=range&from=2025-12-31&to=2027-01-01", {"2025-12-31/2027-01-01": 3}, "a union, not a sum"),
        ("granularity=range&from=2026-12-31&to=2027-01-01", {"2026-12-31/2027-01-01": 2}, "over New Year"),
        ("granularity=range", {"2028-02-02/2028-03-02": 2}, "the last 30 days"),
        ("granularity=range&from=2028-03-01", {"2028-03-01/2028-03-02": 2}, "up to today"),
        ("granularity=range&to=2028-03-01", {"2028-02-01/2028-03-01": 2}, "the 30 days up to it"),
        ("granularity=range&realm=globex", {"2028-02-02/2028-03-02": 1}, "a realm"),
        ("granularity=range&realm=nowhere", {"2028-02-02/2028-03-02": 0}, "an unknown realm has none"),
        ("granularity=range&from=2025-12-31&client_id=web", {"2025-12-31/2028-03-02": 3}, "a client of any realm"),
        ("granularity=range&from=2025-12-31&client_id=web&realm=acme", {"2025-12-31/2028-03-02": 1}, "of one realm"),
        ("granularity=range&from=2025-12-31&client_id=none", {"2025-12-31/2028-03-02": 0}, "an unknown client"),
    ],
)
async def test_active_users_of_any_days(api: Api, query: str, expected: dict[str, int], why: str) -> None:
    answer = await query_api(api, f"/v1/active-users?{query}")
    assert values(answer) == expected, why
    assert all(item["exact"] and item["standard_error"] == 0 for item in answer["items"])
    assert answer["definition"] == {"active_on": ["login", "refresh"], "user_scope": ["global"]}


async def test_weeks_and_months_have_their_days(api: Api) -> None:
    (week,) = (await query_api(api, "/v1/active-users?granularity=week&from=2027-01-01&to=2027-01-01"))["items"]
    assert (week["from"], week["to"]) == ("2026-12-28", "2027-01-03")
    (month,) = (await query_api(api, "/v1/active-users?granularity=month&from=2028-02-01&to=2028-02-01"))["items"]
    assert (month["from"], month["to"]) == ("2028-02-01", "2028-02-29")


async def test_groups_come_largest_first_and_with_what_was_left_out(api: Api) -> None:
    path = "/v1/active-users?granularity=range&from=2025-12-31&group_by="
    answer = await query_api(api, path + "realm")
    assert [(item["realm"], item["value"]) for item in answer["items"]] == [("acme", 2), ("globex", 2)]
    answer = await query_api(api, path + "client_id&limit=2")
    found = [(item["realm"], item["client_id"], item["value"]) for item in answer["items"]]
    assert found == [("globex", "web", 2), ("acme", "app", 1)]
    assert answer["left_out"] == {"groups": 1}
    answer = await query_api(api, path + "client_id&realm=acme")
    assert [(item["client_id"], item["value"]) for item in answer["items"]] == [("app", 1), ("web", 1)]
    answer = await query_api(api, path + "realm&client_id=web")
    assert [(item["realm"], item["value"]) for item in answer["items"]] == [("globex", 2), ("acme", 1)]
    assert (await query_api(api, path + "client_id&realm=nowhere"))["items"] == []
    answer = await query_api(api, "/v1/active-users?from=2027-01-01&to=2027-01-02&group_by=realm")
    assert [(item["period"], item["realm"], item["value"]) for item in answer["items"]] == [
        ("2027-01-01", "acme", 1),
        ("2027-01-01", "globex", 1),
    ]


async def test_more_groups_than_there_is_time_for_are_refused(
    api: Api, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/v1/active-users?from=2027-01-01&to=2027-01-01&group_by=realm"
    assert (await api.get(path)).status == 200
    clock.now += 11
    monkeypatch.setattr("api.dialects.own.active_users.MAX_SHARD_SCOPES", 3)
    refused = await api.get(path)
    assert (refused.status, refused.json["parameter"]) == (400, "group_by")
    monkeypatch.setattr("api.dialects.own.series.MAX_READS", 1)
    refused = await api.get(f"/v1/logins?from=2028-02-29&to={DAY[-10:]}&group_by=realm")
    assert (refused.status, refused.json["parameter"]) == (400, "group_by")


@pytest.mark.parametrize(
    ("path", "filters"),
    [
        ("/v1/active-users?granularity=day&from=2027-12-01&group_by=realm", ["realm=acme"]),
        ("/v1/active-users?granularity=range&from=2025-12-31&group_by=client_id", ["realm=acme", "client_id=web"]),
        ("/v1/logins?from=2027-12-01&group_by=realm", ["realm=acme"]),
        ("/v1/logins?from=2027-12-01&group_by=client_id,reason", ["realm=acme", "client_id=web"]),
        ("/v1/tokens?from=2027-12-01&group_by=client_id", ["realm=acme", "client_id=web"]),
        ("/v1/accounts?from=2027-12-01&group_by=realm,kind", ["realm=acme"]),
    ],
)
async def test_a_refusal_for_its_size_names_the_filter_that_makes_it_answerable(
    api: Api, clock: Clock, monkeypatch: pytest.MonkeyPatch, path: str, filters: list[str]
) -> None:
    for wide in range(1, 100):
        clock.now += 11  # no answer is cached
        monkeypatch.setattr("api.dialects.own.active_users.MAX_SHARD_SCOPES", wide)
        monkeypatch.setattr("api.dialects.own.series.MAX_READS", wide)
        narrowed = [await api.get(f"{path}&{narrowing}") for narrowing in filters]
        refused = await api.get(path)
        if refused.status == 400 and all(answer.status == 200 for answer in narrowed):
            break
    else:
        pytest.fail("every bound either answers both or refuses both")
    assert refused.json["parameter"] == "group_by"
    for narrowing in filters:
        assert f"`{narrowing.partition('=')[0]}`" in refused.json["detail"]


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        (f"/v1/logins?{DAY}", [{"succeeded": 2, "failed": 2}]),
        ("/v1/logins?granularity=month&from=2028-02-01&to=2028-03-31", [{"succeeded": 1, "failed": 0}, {"failed": 2}]),
        (f"/v1/logins?{DAY}&realm=globex", [{"succeeded": 1, "failed": 1}]),
        (
            f"/v1/logins?{DAY}&group_by=reason",
            [{"reason": "locked", "failed": 1}, {"reason": "unspecified", "failed": 1}],
        ),
        (
            f"/v1/logins?{DAY}&group_by=realm",
            [{"realm": "globex", "succeeded": 1, "failed": 1}, {"realm": "typo", "succeeded": 0, "failed": 1}],
        ),
        (f"/v1/tokens?{DAY}", [{"tokens": 5}]),
        (
            f"/v1/tokens?{DAY}&group_by=grant_type,token_type",
            [
                {"grant_type": "client_credentials", "token_type": "access_token", "tokens": 3},
                {"grant_type": "password", "token_type": "access_token", "tokens": 1},
                {"grant_type": "password", "token_type": "id_token", "tokens": 1},
            ],
        ),
        (
            f"/v1/tokens?{DAY}&group_by=client_id,grant_type&limit=2",
            [
                {"realm": "acme", "client_id": "job", "grant_type": "client_credentials", "tokens": 2},
                {"realm": "acme", "client_id": "web", "grant_type": "password", "tokens": 2},
            ],
        ),
        (f"/v1/tokens?{DAY}&client_id=job", [{"tokens": 3}]),
        (f"/v1/accounts?{DAY}", [{"events": 2}]),
        (f"/v1/accounts?{DAY}&group_by=kind", [{"kind": "client_registered", "events": 1}, {"kind": "signup"}]),
        (f"/v1/accounts?{DAY}&realm=acme&group_by=kind", [{"kind": "signup", "events": 1}]),
    ],
)
async def test_counters_by_period_label_and_word(api: Api, path: str, rows: list[dict[str, object]]) -> None:
    items = (await query_api(api, path))["items"]
    assert len(items) == len(rows)
    for item, row in zip(items, rows, strict=True):
        assert item.items() >= {**row, "exact": True}.items()


async def test_what_is_left_out_adds_up(api: Api) -> None:
    answer = await query_api(api, f"/v1/tokens?{DAY}&group_by=client_id&limit=1")
    assert (answer["items"][0]["tokens"], answer["left_out"]) == (2, {"groups": 2, "count": 3})


@pytest.mark.parametrize(
    ("path", "parameter", "words"),
    [
        ("/v1/active-users?from=2023-02-31", "from", "2023-02-31"),
        ("/v1/active-users?from=20230201", "from", "YYYY-MM-DD"),
        ("/v1/active-users?to=2026-W47-5", "to", "YYYY-MM-DD"),
        ("/v1/active-users?to=1999-12-31", "to", "2000-01-01"),
        (f"/v1/active-users?to={quote('٢٠٢٦-٠١-٠١')}", "to", "YYYY-MM-DD"),
        ("/v1/active-users?from=2026-11-21&to=2026-11-20", "from", "after"),
        ("/v1/active-users?from=2026-01-01&to=2027-02-05", "from", "400"),
        ("/v1/active-users?granularity=week&from=2026-01-01&to=2027-02-05", "from", "400"),
        ("/v1/active-users?granularity=range&from=2000-01-01&to=2027-02-05", "from", "10 years"),
        ("/v1/active-users?granularity=hour", "granularity", "day, week, month, range"),
        ("/v1/active-users?group_by=reason", "group_by", "realm, client_id, node"),
        ("/v1/active-users?group_by=realm,client_id", "group_by", "one of"),
        ("/v1/active-users?group_by=node", "group_by", "USERS_BY"),
        ("/v1/active-users?node=as1", "node", "USERS_BY"),
        ("/v1/active-users?node=as1&realm=acme", "node", "combined"),
        ("/v1/active-users?group_by=node&realm=acme", "group_by", "all realms"),
        ("/v1/active-users?limit=0", "limit", "1 to"),
        ("/v1/active-users?limit=ten", "limit", "1 to"),
        ("/v1/active-users?realm=", "realm", "blank"),
        (f"/v1/active-users?realm={'x' * 257}", "realm", "256"),
        ("/v1/active-users?format=xml", "format", "json, csv"),
        ("/v1/active-users?granularity=week&from=2000-01-01&to=2000-01-09", "from", "begins before 2000-01-01"),
        ("/v1/active-users?colour=red", "colour", "not a parameter"),
        ("/v1/active-users?realm=acme&realm=globex", "realm", "more than once"),
        ("/v1/lifecycle?from=2026-10-01&to=2026-11-20&from=2026-10-01", "from", "more than once"),
        ("/v1/metrics?x=1&x=1", "x", "more than once"),
        ("/v1/logins?granularity=week", "granularity", "day, month"),
        ("/v1/logins?node=as1", "node", "COUNTS_BY"),
        ("/v1/logins?group_by=kind", "group_by", "reason"),
        ("/v1/logins?group_by=reason,reason", "group_by", "repeats an item"),
        ("/v1/tokens?group_by=realm,client_id", "group_by", "only one"),
        ("/v1/overview?date=2026-02-29", "date", "2026-02-29"),
        ("/v1/overview?month=2026-11", "month", "not a parameter"),
        ("/v1/m2m?month=2026-13", "month", "2026-13"),
        ("/v1/m2m?month=202611", "month", "YYYY-MM"),
        ("/v1/pipeline?partition=1", "partition", "not a parameter"),
        ("/v1/metrics?format=json", "format", "not a parameter"),
    ],
)
async def test_a_bad_parameter_is_refused_by_its_name(api: Api, path: str, parameter: str, words: str) -> None:
    answer = await api.get(path)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.json["parameter"], answer.json["status"]) == (parameter, 400)
    assert words in answer.json["detail"]


async def test_a_day_turns_where_the_time_zone_says(serve: Serve, redis_url: str, clock: Clock) -> None:
    """Clocks in Berlin go forward on 2026-03-29, so that day is 23 hours long, and back on 2026-10-25."""
    clock.now = datetime.fromisoformat("2026-10-25T22:59:59Z").timestamp()
    await count(
        redis_url,
        [
            login("2026-03-28T22:59:59Z", "ada"),
            login("2026-03-28T23:00:00Z", "bob"),
            login("2026-03-29T21:59:59Z", "cyd"),
            login("2026-03-29T22:00:00Z", "eve"),
            login("2026-10-25T22:59:59Z", "fay"),
            login("2026-10-25T23:00:00Z", "gus"),
        ],
        timezone="Europe/Berlin",
    )
    api = await serve(redis_url=redis_url, timezone="Europe/Berlin")
    answer = await query_api(api, "/v1/active-users?from=2026-03-28&to=2026-03-30")
    assert values(answer) == {"2026-03-28": 1, "2026-03-29": 2, "2026-03-30": 1}
    assert (await query_api(api, "/v1/active-users"))["to"] == "2026-10-25"
    clock.now += 1
    assert (await query_api(api, "/v1/active-users?granularity=range"))["to"] == "2026-10-26"
    assert values(await query_api(api, "/v1/active-users?from=2026-10-25"))["2026-10-25"] == 1


async def test_figures_that_retention_has_taken_are_refused_not_answered_as_zero(
    serve: Serve, redis_url: str, clock: Clock
) -> None:
    clock.now = datetime.fromisoformat("2028-03-02" + NOON).timestamp()
    await count(redis_url, EVENTS[5:], retain_days=40_000)
    with redis.Redis.from_url(redis_url) as server:
        for tag in server.smembers("authtally:shards"):
            server.hset(f"authtally:{{{tag.decode()}}}:meta", mapping={"retain_days": 10, "retain_months": 3})
    api = await serve(redis_url=redis_url)
    assert (await api.get("/v1/active-users?from=2028-02-21")).status == 200
    gone = await api.get("/v1/active-users?from=2028-02-20")
    assert (gone.status, gone.json["parameter"]) == (400, "from")
    assert "RETAIN_DAYS" in gone.json["detail"]
    assert (await api.get("/v1/active-users?granularity=range&from=2028-02-01")).status == 200, "a month is kept whole"
    assert "RETAIN_MONTHS" in (await api.get("/v1/logins?granularity=month&from=2027-11-01")).json["detail"]
    overview = await query_api(api, "/v1/overview")
    assert (overview["rolling_7_days"]["value"], overview["rolling_30_days"]["value"]) == (2, None)
    month = overview["mau"]
    assert (month["value"], month["previous"]["value"], month["change"]) == (2, None, None)
    assert overview["activity"]["month"]["tokens"] == {"value": 5, "previous": None, "change": None}


async def test_a_shard_that_was_counted_without_it_names_the_setting(api: Api, serve: Serve, redis_url: str) -> None:
    other = await serve(redis_url=redis_url, users_by=("realm", "node"), counts_by=("node",))
    for path, setting in (("active-users", "USERS_BY"), ("logins", "COUNTS_BY")):
        answer = await other.get(f"/v1/{path}?node=as1")
        assert (answer.status, answer.json["parameter"]) == (400, "node")
        assert setting in answer.json["detail"]
