"""LinOTP's rows over HTTP: both shapes, pages, order, CSV, and streams of many."""

from __future__ import annotations

import csv
import io
from typing import Any

import aiohttp
import pytest
import redis

from tests.aggregator.inventories import OF as SHARD_KEYS
from tests.api.conftest import Api, Serve
from tests.api.dialects.linotp.conftest import NONE, error
from tests.api.otp import rows, state, value, write


async def test_show_is_as_documented(api: Api) -> None:
    answer = await api.get("/reporting/show?session=45e939b02&status=total&realms=realm1,realm2")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json.keys() == {"version", "jsonrpc", "result", "id"}
    assert answer.json["jsonrpc"] == "2.0802"
    found = value(answer)
    assert found["resultset"] == {"page": 1, "pages": 1, "pagesize": 5, "report_rows": 5}
    assert found["data"][0] == {
        "count": 1,
        "realm": "realm1",
        "description": "",
        "timestamp": "2016-07-25 13:27:47",
        "detail": "",
        "value": "",
        "session": "",
        "parameter": "total",
        "event": "token_init",
    }
    assert [(row["realm"], row["count"]) for row in found["data"]] == [
        ("realm1", 1),
        ("realm1", 2),
        ("realm1", 3),
        ("realm2", 1),
        ("realm1", 3),
    ]


async def test_show_is_as_the_source_sends_it(source: Api) -> None:
    answer = await source.get("/reporting/show?status=total&page=1&pagesize=2")
    assert list(answer.json) == ["jsonrpc", "result", "version", "id", "detail"]
    assert list(answer.json["result"]) == ["status", "value", "queried"]
    assert answer.json["result"]["queried"] == 2
    assert answer.json["detail"] == {"pages": 3, "pagesize": 2, "report_rows": 6, "page": 1}
    assert " ".join(answer.json["result"]["value"][0]) == (
        "timestamp event realm parameter value count detail session description"
    )


async def test_a_late_event_stands_last_and_says_when_it_happened(api: Api, redis_url: str) -> None:
    await write(redis_url, [state("2016-07-25T00:00:00Z", "9", "token_init", "realm2")])
    last = (await rows(api, "realms=realm2&status=total"))[-1]
    assert (last["count"], last["timestamp"], last["detail"]) == (2, "2016-07-25 13:27:54", "2016-07-25 00:00:00")


@pytest.mark.parametrize(
    ("query", "expected", "why"),
    [
        ("page=2&pagesize=4", (2, 2, 4, 2), "the last page is shorter"),
        ("page=9&pagesize=4", (9, 2, 4, 0), "beyond the last"),
        ("page=0&pagesize=4", (1, 2, 4, 4), "below the first"),
        ("page=x&pagesize=y", (1, 1, 20, 6), "neither is a number"),
        ("page=1", (1, 1, 50, 6), "the usual size"),
        ("pagesize=2", (1, 1, 6, 6), "a size without a page counts for nothing"),
        ("page=999999999999999999&pagesize=999999999", (999999999999999999, 1, 999999999, 0), "as far as it goes"),
    ],
)
async def test_pages(api: Api, query: str, expected: tuple[int, ...], why: str) -> None:
    found = value(await api.get(f"/reporting/show?status=total&{query}"))
    pages = found["resultset"]
    assert (pages["page"], pages["pages"], pages["pagesize"], len(found["data"])) == expected, why


@pytest.mark.parametrize(
    ("query", "column", "expected"),
    [
        ("sortby=count", "count", [1, 1, 1, 2, 3, 3]),
        ("sortby=count&sortdir=desc", "count", [3, 3, 2, 1, 1, 1]),
        ("sortby=realm&page=1&pagesize=2", "realm", [NONE, "realm1"]),
        ("sortby=event&sortdir=DESC&page=1&pagesize=1", "event", ["token_disable"]),
        ("sortby=nonsense&sortdir=desc&page=1&pagesize=2", "timestamp", ["2016-07-26 13:00:10", "2016-07-26 11:37:58"]),
    ],
)
async def test_sorted(api: Api, query: str, column: str, expected: list[Any]) -> None:
    assert [row[column] for row in await rows(api, f"status=total&{query}")] == expected


async def test_too_many_rows_are_sorted_by_time_only(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.dialects.linotp.show.MAX_SORTED", 20)
    code, said = error(await api.get("/reporting/show?sortby=count"))
    assert code == -311
    assert "at most 20 rows, and the result has 60" in said
    assert await rows(api, "sortby=count&status=total"), "filters come first"
    assert await rows(api, "sortby=timestamp")


async def test_csv_is_as_the_product_writes_it(api: Api, redis_url: str) -> None:
    await write(redis_url, [state("2016-07-26T14:00:00Z", "5", 'a "b", c\nd', "realm3")])
    answer = await api.get("/reporting/show?outform=csv&status=total&realms=realm3")
    assert answer.text == (
        '"timestamp","event","realm","parameter","value","count","detail","session","description",\n'
        '"2016-07-26 14:00:00", "a "b", c d", "realm3", "total", "", 1, "", "", "", \n'
    ), "no spaces in the head; a line break is a space; quotes are not doubled"


async def test_csv_is_read_back_as_the_same_rows(api: Api, redis_url: str) -> None:
    strange = "a, c; =1+1 ü"
    await write(redis_url, [state("2016-07-26T14:00:00Z", "5", strange, strange)])
    answer = await api.get("/reporting/show?outform=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == "attachment; filename=linotp-reports.csv"
    assert answer.text.startswith('"timestamp","event","realm",')
    read = list(csv.DictReader(io.StringIO(answer.text, newline=""), skipinitialspace=True))
    result = await rows(api)
    assert len(result) == 70
    assert [{name: line[name] for name in result[0]} for line in read] == [
        {name: str(cell) for name, cell in row.items()} for row in result
    ]
    assert (await api.get("/reporting/show?outform=csv&status=disable")).text == ""


async def test_an_answer_that_cannot_go_on_is_cut_off(serve: Serve, redis_url: str) -> None:
    log = [state(f"2016-07-26T10:{n // 60:02}:{n % 60:02}Z", str(n), "token_init", "realm1") for n in range(1500)]
    await write(redis_url, log)
    with redis.Redis.from_url(redis_url) as server:
        server.unlink(SHARD_KEYS.rows(0, 4))
    api = await serve(redis_url=redis_url)
    assert len(await rows(api, "page=1&pagesize=20")) == 20
    with pytest.raises(aiohttp.ClientError):
        await api.get("/reporting/show")
    answer = await api.get("/reporting/show?status=total&page=1200&pagesize=1")
    assert (answer.status, answer.json["result"]["status"]) == (503, False)
    assert answer.json["result"]["error"]["message"] == "Rows are being deleted while they are read."


async def test_a_stream_is_whole(serve: Serve, redis_url: str) -> None:
    log = [state(f"2016-07-26T10:{n // 60:02}:{n % 60:02}Z", str(n), "token_init", "realm1") for n in range(600)]
    await write(redis_url, log)
    for shape in ("documented", "source"):
        api = await serve(redis_url=redis_url, linotp_shape=shape)
        answer = await api.get("/reporting/show")
        result = answer.json["result"]["value"]
        data = result["data"] if shape == "documented" else result
        assert [row["count"] for row in data if row["parameter"] == "total"] == list(range(1, 601))
        text = (await api.get("/reporting/show?outform=csv")).text
        assert len(text.splitlines()) == 6001
