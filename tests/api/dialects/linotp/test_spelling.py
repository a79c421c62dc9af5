"""The spelling of statuses: rows keep their own, derived rows have the policy's, or else the request's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Api, Serve
from tests.api.dialects.linotp.conftest import LOG
from tests.api.otp import COUNTS, REPORT, given, policy, rows, value, write, written


def table_row(number: int, parameter: str, count: int, **texts: str) -> dict[str, Any]:
    row = {"id": number, "timestamp": f"2016-07-26 10:00:00.{number:06}", "event": "token_init", "realm": "realm1"}
    row |= {"parameter": parameter, "count": count, "value": "", "detail": "", "session": "", "description": ""}
    return {f"R_{name.upper()}": text for name, text in (row | texts).items()}


TABLE = [
    table_row(1, "unassigned&active", 3),
    table_row(2, "active&unassigned", 4, value="v", detail="d\\n", session="s", description="ü"),
    table_row(3, "total", 9),
]


async def shown(api: Api, query: str = "") -> list[dict[str, Any]]:
    found = value(await api.get(f"/reporting/show?{query}"))
    data: list[dict[str, Any]] = found if isinstance(found, list) else found["data"]
    return data


@pytest.mark.parametrize("shape", ["documented", "source"])
async def test_rows_of_the_table_keep_every_column(serve: Serve, redis_url: str, shape: str) -> None:
    await write(redis_url, TABLE, REPORT)
    api = await serve(redis_url=redis_url, linotp_shape=shape)
    found = await shown(api)
    assert [{f"R_{name.upper()}": text for name, text in row.items()} for row in found] == [
        {name: text for name, text in row.items() if name != "R_ID"} for row in TABLE
    ]


@pytest.mark.parametrize(
    ("shape", "status", "counts", "why"),
    [
        ("source", "unassigned%26active", [3], "texts are compared"),
        ("source", "active%26unassigned", [4], "texts are compared"),
        ("source", "total,%20unassigned%26active", [9], "a space belongs to its item"),
        ("documented", "unassigned%26active", [3, 4], "either spelling"),
        ("documented", "active%26unassigned", [3, 4], "either spelling"),
    ],
)
async def test_a_status_finds_rows_by_their_spelling(
    serve: Serve, redis_url: str, shape: str, status: str, counts: list[int], why: str
) -> None:
    await write(redis_url, TABLE, REPORT)
    api = await serve(redis_url=redis_url, linotp_shape=shape)
    assert [row["count"] for row in await shown(api, f"status={status}")] == counts, why


async def test_the_source_deletes_one_spelling(serve: Serve, redis_url: str) -> None:
    await write(redis_url, TABLE, REPORT)
    api = await serve(redis_url=redis_url, linotp_shape="source")
    assert value(await api.post("/reporting/delete_all", "status=unassigned%26active")) == 1
    assert [row["parameter"] for row in await shown(api)] == ["active&unassigned", "total"]
    assert value(await api.post("/reporting/delete_all", "status=*")) == 2


async def test_maxima_join_both_spellings_where_the_document_does(serve: Serve, redis_url: str) -> None:
    turned = [table_row(1, "unassigned&active", 5), table_row(2, "active&unassigned", 4)]
    await write(redis_url, turned, REPORT)
    api = await serve(redis_url=redis_url)
    assert value(await api.get("/reporting/maximum?status=active%26unassigned")) == {"realm1": {"active&unassigned": 5}}
    source = await serve(redis_url=redis_url, linotp_shape="source")
    assert value(await source.get("/reporting/maximum?status=active%26unassigned"))["realm1"] == {
        "active&unassigned": 4
    }


async def test_the_present_count_is_the_later_row_of_both_spellings(serve: Serve, redis_url: str) -> None:
    await write(redis_url, TABLE, REPORT)
    api = await serve(redis_url=redis_url)
    (item,) = (await api.get("/v1/otp-tokens?status=active%26unassigned")).json["items"]
    assert item["count"] == 4
    (item,) = (await api.get("/v1/otp-tokens?status=active%26unassigned&from=2016-07-26&to=2016-07-26")).json["items"]
    assert (item["count"], item["maximum"]) == (4, 4)


@pytest.mark.parametrize("shape", ["documented", "source"])
@pytest.mark.parametrize(
    ("status", "parameters", "why"),
    [
        ("unassigned%26active", {"unassigned&active"}, "as the request writes it"),
        ("active%26unassigned", {"active&unassigned"}, "as the request writes it"),
        ("unassigned%26active,active", {"unassigned&active", "active"}, "each"),
        ("unassigned%26active,active%26unassigned", {"active&unassigned"}, "one row for both"),
    ],
)
async def test_without_a_policy_a_row_has_the_spelling_of_the_request(
    serve: Serve, redis_url: str, shape: str, status: str, parameters: set[str], why: str
) -> None:
    await write(redis_url, LOG)
    api = await serve(redis_url=redis_url, linotp_shape=shape)
    found = await shown(api, f"status={status}")
    assert {row["parameter"] for row in found} == parameters, why
    assert len(found) == 6 * len(parameters)


@pytest.mark.parametrize(
    ("shape", "status", "parameters", "why"),
    [
        ("source", "unassigned%26active", {"unassigned&active"}, "as recorded"),
        ("source", "active%26unassigned", set(), "not as recorded"),
        ("documented", "active%26unassigned", {"unassigned&active"}, "the policy's spelling"),
        ("documented", "*", {"unassigned&active", "total"}, "the policy's spelling"),
    ],
)
async def test_with_a_policy_a_row_has_its_spelling(
    serve: Serve, redis_url: str, tmp_path: Path, shape: str, status: str, parameters: set[str], why: str
) -> None:
    await write(redis_url, LOG)
    path = written(tmp_path, policy("reporting", "token_total, token_status=unassigned&active"))
    api = await serve(redis_url=redis_url, linotp_shape=shape, reporting_policy_file=path)
    assert {row["parameter"] for row in await shown(api, f"status={status}")} == parameters, why


async def test_the_source_deletes_derived_rows_by_the_policys_spelling(
    serve: Serve, redis_url: str, tmp_path: Path
) -> None:
    await write(redis_url, LOG)
    path = written(tmp_path, policy("reporting", "token_status=unassigned&active"))
    api = await serve(redis_url=redis_url, linotp_shape="source", reporting_policy_file=path)
    assert value(await api.post("/reporting/delete_all", "status=active%26unassigned")) == 0
    assert len(await shown(api)) == 6
    assert value(await api.get("/reporting/maximum?status=active%26unassigned&realms=realm1"))["realm1"] == {
        "active&unassigned": -1
    }
    assert value(await api.post("/reporting/delete_all", "status=unassigned%26active")) == 6
    assert await shown(api) == []


async def test_rows_of_one_second_keep_the_order_of_their_log(serve: Serve, redis_url: str) -> None:
    """MySQL's column holds seconds, so all rows of an event have one time."""
    names = ("total", "inactive", "active", "assigned", "unassigned&active", "active&assigned")
    order = [(realm, name) for realm in ("realm2", "realm1") for name in names]
    await write(
        redis_url,
        [given("2016-07-26T10:00:00Z", realm, name, number) for number, (realm, name) in enumerate(order)],
        COUNTS,
    )
    api = await serve(redis_url=redis_url)
    assert [(row["realm"], row["parameter"]) for row in await rows(api)] == order
    assert [row["count"] for row in await rows(api, "sortdir=desc")] == list(range(11, -1, -1))
    for page in (1, 2, 3):
        found = await rows(api, f"page={page}&pagesize=5")
        assert [row["count"] for row in found] == list(range(12))[5 * page - 5 : 5 * page]
