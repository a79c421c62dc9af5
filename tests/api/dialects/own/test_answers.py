"""What every answer of the own surface says of itself, in which form, and for how long."""

from __future__ import annotations

import csv
import io
from datetime import datetime

import pytest
import redis

from api.dialects.own import preferred_format
from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from tests.api.conftest import Api, Clock, Serve
from tests.api.own_sample import DAY, NOON, query_api, serve_sample
from tests.api.worker import count, login


@pytest.fixture
async def api(serve: Serve, redis_url: str, clock: Clock) -> Api:
    return await serve_sample(serve, redis_url, clock)


async def test_an_answer_says_how_fresh_and_whole_it_is(api: Api, redis_url: str) -> None:
    shard_keys = ShardKeys("authtally:", Shard("auth.logins", 0))
    path = "/v1/logins?granularity=month&from=2028-02-01&to=2028-03-31"
    answer = await query_api(api, path)
    assert answer["as_of"] == {"newest_event": "2028-03-01T12:00:00.000Z", "lag": None}
    assert (answer["complete"], answer["since"]) == (True, {})
    with redis.Redis.from_url(redis_url) as server:
        position = int(server.get(shard_keys.position))
        server.hset(shard_keys.observed, fields.END, fields.observation(position + 7, 1_830_000_000_000))
        server.hset(shard_keys.progress, fields.overflowed("realm"), 3)
        at_ms = int(datetime.fromisoformat("2028-02-20T00:00:00Z").timestamp() * 1000)
        server.hset(shard_keys.meta, fields.since("counts_by"), fields.observation(1, at_ms))
    answer = await query_api(api, path + "&realm=acme")
    assert answer["as_of"]["lag"] == 7
    assert answer["complete"] is False, "a realm found no room"
    assert answer["since"] == {"COUNTS_BY": "2028-02-20T00:00:00.000Z"}
    assert (await query_api(api, path + "&group_by=reason"))["complete"] is True, "reasons all found room"
    assert (await query_api(api, "/v1/logins?from=2028-03-01"))["since"] == {}, "older than what was asked"


async def test_estimates_have_their_error(serve: Serve, redis_url: str, clock: Clock) -> None:
    clock.now = datetime.fromisoformat("2028-03-02" + NOON).timestamp()
    await count(redis_url, [login("2028-03-01" + NOON, f"user-{n}") for n in range(3000)], exact_up_to=100)
    api = await serve(redis_url=redis_url, exact_up_to=100)
    (month,) = (await query_api(api, "/v1/active-users?granularity=month&from=2028-03-01"))["items"]
    assert (month["exact"], month["standard_error"]) == (False, pytest.approx(0.002031, rel=0.01))
    assert month["value"] == pytest.approx(3000, rel=0.01)
    (day,) = (await query_api(api, "/v1/active-users?from=2028-03-01&to=2028-03-01"))["items"]
    assert day["standard_error"] == pytest.approx(0.0040625, rel=0.01)


async def test_a_table_has_a_header_and_a_line_per_item(api: Api) -> None:
    path = f"/v1/logins?{DAY}&group_by=realm"
    by_name = await api.get(path + "&format=csv")
    by_accept = await api.get(path, headers={"Accept": "text/csv, application/json;q=0.5"})
    assert by_name.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert by_name.body == by_accept.body
    assert list(csv.DictReader(io.StringIO(by_name.text))) == [
        {"period": "2028-03-01", "from": "2028-03-01", "to": "2028-03-01", "realm": realm}
        | {"succeeded": succeeded, "failed": "1", "exact": "true"}
        for realm, succeeded in (("globex", "1"), ("typo", "0"))
    ]
    with_mark = await api.get(path + "&format=csv&bom=1")
    assert with_mark.body == b"\xef\xbb\xbf" + by_name.body, "so that spreadsheets read it as UTF-8"
    assert (await api.get(path + "&format=csv&bom=0")).body == by_name.body
    again = await api.get(path)
    assert again.json["items"], "the same path in another form is another answer"
    assert "Accept" in again.headers["Vary"]
    both = await api.get(path + "&format=json", headers={"Accept": "text/csv"})
    assert both.headers["Content-Type"] == "application/json", "the parameter wins"


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV", "csv"),
        ("text/*", "csv"),
        ("text/html, */*;q=0.8", "json"),
        ("text/csv;q=0.5, application/json;q=0.6", "json"),
        ("text/csv;q=0.5, application/json;q=0.5", "json"),
        ("text/csv;q=0", "json"),
        ("text/csv;q=nan", "json"),
        ("text/csv; q=1, */*; q=0.1", "csv"),
    ],
)
def test_the_form_is_what_accept_prefers(header: str, form: str) -> None:
    assert preferred_format([header]) == form


async def test_an_unchanged_answer_is_304(api: Api) -> None:
    path = "/v1/active-users?granularity=month"
    first = await api.get(path)
    again = await api.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["Age"] == "0"


async def test_answers_are_kept_for_ten_seconds(api: Api, redis_url: str, clock: Clock) -> None:
    path = f"/v1/logins?{DAY}"
    assert (await query_api(api, path))["items"][0]["succeeded"] == 2
    await count(redis_url, [login("2028-03-01" + NOON, "new")], users_by=("realm", "client"))
    assert (await query_api(api, path))["items"][0]["succeeded"] == 2
    clock.now += 10.3
    assert (await query_api(api, path))["items"][0]["succeeded"] == 3


async def test_a_name_that_a_spreadsheet_runs_stays_as_it_is(serve: Serve, redis_url: str) -> None:
    """The dashboard's downloads guard formulas; the api's tables are for programs, which need the exact name."""
    await count(redis_url, [login("2028-03-01" + NOON, "u", realm="=1+1")])
    api = await serve(redis_url=redis_url)
    table = (await api.get("/v1/logins?from=2028-03-01&to=2028-03-01&group_by=realm&format=csv&bom=1")).text
    assert table.splitlines()[1].split(",")[3] == "=1+1"


async def test_json_has_no_byte_order_mark(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url)
    for query, said in (("bom=1", "CSV only"), ("format=csv&bom=yes", "bom")):
        answer = await api.get(f"/v1/logins?{query}")
        assert (answer.status, answer.json["parameter"]) == (400, "bom")
        assert said in answer.json["detail"]
