"""LinOTP's reporting over HTTP: maxima, periods and deletes, edge rules, and what hostile callers get."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from deploy.demo.servers import Valkey
from schemas.ledger import keys
from schemas.ledger.audit import parse_entry
from tests.api.conftest import Api, Serve
from tests.api.dialects.linotp.conftest import LOG, NONE, error
from tests.api.otp import COUNTS, given, rows, state, value, write
from tests.api.sources import by_file, listed
from tests.conftest import wait_until_async


@pytest.mark.parametrize(
    ("query", "expected", "why"),
    [
        (
            "",
            {"realm1": {"total": 3}, "realm2": {"total": 1}},
            "only `total` without a status; no realm in `show` only",
        ),
        ("status=inactive,unassigned&realms=realm1", {"realm1": {"unassigned": 2, "inactive": 1}}, "as documented"),
        ("status=unassigned%26active&realms=realm1", {"realm1": {"unassigned&active": 2}}, "either order"),
        ("realms=REALM1,nonsense", {"realm1": {"total": 3}}, "what of it is known"),
        (f"realms={quote(NONE)}", {}, "not reported where it is grouped by realm"),
    ],
)
async def test_maximum(api: Api, query: str, expected: Any, why: str) -> None:
    assert value(await api.get(f"/reporting/maximum?{query}")) == expected, why


async def test_maximum_of_nothing_is_minus_one_and_period_null(source: Api) -> None:
    assert value(await source.post("/reporting/delete_all", "status=*&realms=realm1")) == 36
    found = value(await source.get("/reporting/maximum"))
    assert found == {"realm1": {"total": -1}, "realm2": {"total": 1}, NONE: {"total": 1}}
    result = value(await source.get("/reporting/period?realms=realm1"))["realms"]
    assert result == [{"name": "realm1", "maxtokencount": {"total": None}}]


async def test_period_is_as_documented(api: Api) -> None:
    found = value(await api.get("/reporting/period?status=active,assigned%26active&from=2016-07-25&to=2016-07-26"))
    assert found == {
        # The sample in the document has these two the other way round: a misprint.
        "period": {"from": "2016-07-25T00:00:00", "to": "2016-07-26T00:00:00"},
        "realms": [
            {"name": "realm1", "maxtokencount": {"active": 3, "active&assigned": 1}},
            {"name": "realm2", "maxtokencount": {"active": 1, "active&assigned": 0}},
        ],
    }


@pytest.mark.parametrize(
    ("zone", "to", "why"),
    [
        ("Pacific/Auckland", "2016-07-29", "the end of the day here: it is the 28th already"),
        ("UTC", "2016-07-28", "the end of the day"),
    ],
)
async def test_the_window_ends_with_today(serve: Serve, redis_url: str, zone: str, to: str, why: str) -> None:
    api = await serve(redis_url=redis_url, timezone=zone)
    assert value(await api.get("/reporting/period"))["period"]["to"] == f"{to}T00:00:00", why
    source = await serve(redis_url=redis_url, timezone=zone, linotp_shape="source")
    assert value(await source.get("/reporting/period"))["period"]["to"] == "2016-07-28T00:00:00"


async def test_days_and_stamps_are_local(serve: Serve, redis_url: str) -> None:
    late = [state("2016-07-25T22:30:00.250Z", "1", "token_init", "realm1")]
    await write(redis_url, late, timezone="Europe/Berlin")
    api = await serve(redis_url=redis_url, timezone="Europe/Berlin")
    assert (await rows(api, "status=total"))[0]["timestamp"] == "2016-07-26 00:30:00.250000"
    for window, expected in (("from=2016-07-26", 1), ("to=2016-07-26", None)):
        result = value(await api.get(f"/reporting/period?{window}"))["realms"][0]["maxtokencount"]["total"]
        assert result == expected
    assert await rows(api, "date=2016-07-26")
    assert not await rows(api, "date=2016-07-27")


@pytest.mark.parametrize(
    ("path", "count", "left", "why"),
    [
        ("delete_all", 6, 54, "only `total` without a status, of all realms"),
        ("delete_all?status=*", 60, 0, "each status"),
        ("delete_all?status=*&realms=realm1", 40, 20, "of one realm"),
        ("delete_all?status=inactive,disable", 6, 54, "what is no status matches nothing"),
        ("delete_all?status=disable", 0, 60, "nothing at all"),
        ("delete_all?status=unassigned%26active", 6, 54, "either order"),
        ("delete_before?date=2016-07-26", 4, 56, "only `total`"),
        ("delete_before?date=2016-07-26&status=*", 40, 20, "what was before that day"),
        ("delete_before?status=active&realms=realm1&date=2016-07-26", 3, 57, "as documented"),
        ("delete_before?date=2016-07-25", 0, 60, "nothing was before"),
    ],
)
async def test_deletes(api: Api, path: str, count: int, left: int, why: str) -> None:
    assert value(await api.get(f"/reporting/{path}")) == count, why
    assert len(await rows(api)) == left
    assert value(await api.get(f"/reporting/{path}")) == 0, "twice deletes nothing more"


async def test_deletes_of_the_source_take_a_post_and_the_nine(source: Api, redis_url: str) -> None:
    assert (await source.get("/reporting/delete_all?status=*")).status == 405
    assert value(await source.post("/reporting/delete_before", "date=2016-07-28&status=*")) == 0
    assert value(await source.post("/reporting/delete_all", "status=*")) == 54
    left = (await source.get("/reporting/show")).json
    assert {row["parameter"] for row in left["result"]["value"]} == {"total users"}


@pytest.mark.parametrize("shape", ["documented", "source"])
async def test_head_deletes_nothing(serve: Serve, redis_url: str, shape: str) -> None:
    await write(redis_url, LOG)
    api = await serve(redis_url=redis_url, linotp_shape=shape)
    async with api._session.head(f"{api.url}/reporting/delete_all?status=*") as response:
        assert response.status == 405
    assert (await api.get("/reporting/show")).text.count("token_init") > 0


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("maximum?status=disable", "unsupported status: 'disable'"),
        ("maximum?status=*", "unsupported status: '*'"),
        ("period?from=yesterday", "Failed to convert start time paramter to timestamp"),
        ("period?to=2016-02-30", "Failed to convert start time paramter to timestamp"),
        ("show?date=", "Failed to convert start time paramter to timestamp"),
        ("period?from=", "Failed to convert start time paramter to timestamp"),
        ("period?to=2016-07-26T00:00:00", "unconverted data remains: T00:00:00"),
        ("period?to=10000-01-01", "Failed to convert start time paramter to timestamp"),
        ("maximum?status=", "unsupported status: ''"),
        ("period?status=total,,active", "unsupported status: ''"),
        ("maximum?status=total,%20active", "unsupported status: ' active'"),
        ("period?status=active,assigned,assigned%26activei", "unsupported status: 'assigned&activei'"),
        ("show?date=2016-7-2%D9%A2", "Failed to convert start time paramter to timestamp"),
        ("delete_before", "Missing parameter: 'date'"),
        ("delete_before?date=%27%3B%20DROP", "Failed to convert start time paramter to timestamp"),
        ("show?page=1&pagesize=0", "`pagesize` is not between 1 and"),
        ("show?page=1&pagesize=-3", "`pagesize` is not between 1 and"),
        (f"show?realms={'x' * 5000}", "The query is longer than 4096 bytes."),
        ("show?" + "&".join(f"p{number}=1" for number in range(70)), "The query has more than 64 parameters."),
    ],
)
async def test_bad_questions_are_a_200_that_says_no(api: Api, path: str, message: str) -> None:
    code, said = error(await api.get(f"/reporting/{path}"))
    assert code == -311
    assert message in said


async def test_the_source_knows_nine_statuses_as_they_are_written(source: Api) -> None:
    for status in ("unassigned%26active", "total%20users", "ACTIVE"):
        assert error(await source.get(f"/reporting/maximum?status={status}"))[0] == -311


async def test_realms_that_may_not_be_seen(api: Api) -> None:
    code, said = error(await api.get("/reporting/show?realms=nobody,%3Cscript%3E"))
    assert code == 410
    assert said == "ERR410: You do not have the rights to see these realms: ['nobody', '<script>']. Check the policies!"


@pytest.mark.parametrize(("asked", "status"), [("418", 418), ("abc", 500), ("200", 500), ("99999", 500)])
async def test_httperror_makes_a_page_of_an_error(api: Api, asked: str, status: int) -> None:
    answer = await api.get(f"/reporting/show?realms=%3Cb%3E&httperror={asked}")
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert "&lt;b&gt;" in answer.text
    assert (await api.get(f"/reporting/show?httperror={asked}")).status == 200


async def test_a_form_is_as_good_as_a_query(api: Api) -> None:
    answer = await api.post("/reporting/maximum?realms=realm2", "realms=realm1&status=active%26assigned")
    assert value(answer) == {"realm1": {"active&assigned": 1}}
    assert error(await api.post("/reporting/show", "{}", "application/json"))[0] == -311
    assert error(await api.post("/reporting/show", "a=" + "x" * 5000))[0] == -311


async def test_given_rows_are_rows(serve: Serve, redis_url: str) -> None:
    result = [
        given("2016-07-26T10:00:00Z", "realm1", "active", 5),
        given("2016-07-25T10:00:00Z", "realm1", "active", 7),
        given("2016-07-26T09:00:00Z", "realm1", "total", 9),
    ]
    await write(redis_url, result, COUNTS)
    api = await serve(redis_url=redis_url)
    assert [(row["parameter"], row["count"]) for row in await rows(api)] == [("active", 7), ("total", 9), ("active", 5)]
    assert [row["count"] for row in await rows(api, "sortdir=desc&page=1&pagesize=2")] == [5, 9]
    assert value(await api.get("/reporting/maximum?status=active,total")) == {"realm1": {"active": 7, "total": 9}}
    found = value(await api.get("/reporting/period?status=active&from=2016-07-27"))
    assert found["realms"] == [{"name": "realm1", "maxtokencount": {"active": 5}}]
    assert value(await api.get("/reporting/delete_before?date=2016-07-26&status=*")) == 1
    assert value(await api.get("/reporting/maximum?status=active")) == {"realm1": {"active": 5}}


async def test_a_bearer_sees_and_deletes_in_its_realms_only(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    await write(redis_url, LOG)
    sources = by_file(
        tmp_path,
        listed("one", scopes=["reporting"], realms=["realm2"]),
        listed("all", scopes=["reporting"]),
        listed("reader", scopes=["stats:read"]),
    )
    api = await serve(redis_url=redis_url, **sources)
    for query in ("", "?realms=*", f"?realms=realm2,realm1,{quote(NONE)}"):
        found = value(await api.get(f"/reporting/show{query}", "one"))
        assert {row["realm"] for row in found["data"]} == {"realm2"}
    assert error(await api.get(f"/reporting/show?realms={quote(NONE)}", "one"))[0] == 410
    assert value(await api.get("/reporting/maximum", "one")) == {"realm2": {"total": 1}}
    assert [realm["name"] for realm in value(await api.get("/reporting/period", "one"))["realms"]] == ["realm2"]
    assert error(await api.get("/reporting/delete_all?status=*&realms=realm1", "one"))[0] == 410
    assert value(await api.get("/reporting/delete_all?status=*", "one")) == 10
    assert value(await api.get("/reporting/show", "all"))["resultset"]["report_rows"] == 50
    for action in ("show", "period", "maximum", "delete_all", "delete_before"):
        code, said = error(await api.get(f"/reporting/{action}", "reader"))
        assert (code, said.endswith(f"scope=reporting.access, action={action}")) == (410, True)
        assert (await api.get(f"/reporting/{action}")).status == 401


async def test_without_an_inventory_there_is_nothing(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url)
    assert await rows(api) == []
    assert value(await api.get("/reporting/maximum")) == {}
    assert value(await api.get("/reporting/delete_all?status=*")) == 0


async def test_a_dead_store_is_a_503_in_the_same_shape(serve: Serve) -> None:
    with Valkey() as store:
        await write(store.url, LOG)
        api = await serve(redis_url=store.url)
        assert await rows(api)
        store.kill()
        for action in ("show", "maximum", "delete_all"):
            answer = await api.get(f"/reporting/{action}")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert answer.json["result"]["status"] is False


async def test_deletes_race_with_a_worker_that_writes(api: Api, redis_url: str) -> None:
    """What is deleted and what is left are together all that was ever written, each row once."""
    written = len(LOG) + 1
    done = asyncio.Event()

    async def work() -> None:
        nonlocal written
        for number in range(60):
            log = [
                state(f"2016-07-27T10:{number:02}:{second:02}Z", f"{number} {second}", "token_init", "realm1")
                for second in range(20)
            ]
            await write(redis_url, log)
            written += len(log)
        done.set()

    deleted = 0

    async def delete() -> None:
        nonlocal deleted
        while not done.is_set():
            path = "delete_all?status=*" if deleted % 3 else "delete_before?date=2016-07-28&status=*"
            count = value(await api.get(f"/reporting/{path}"))
            deleted += count

    await asyncio.gather(work(), delete(), delete())
    await wait_until_async(done.is_set)
    left = await rows(api)
    assert deleted + len(left) == written * 10
    assert value(await api.get("/reporting/delete_all?status=*")) == len(left)
    assert await rows(api) == []
    answer = await api.get("/v1/otp-tokens?realm=realm1&status=total")
    assert answer.json["items"][0]["count"] == 3 + 1200


@pytest.mark.parametrize(
    ("path", "expected", "why"),
    [
        ("period?to=9999-12-31&realms=realm2", 1, "the last day that a date can be"),
        ("period?from=0001-01-01&realms=realm2", 1, "the first"),
        ("period?from=2016-7-26&realms=realm1", 3, "without zeros"),
        ("period?from=9999-12-31&realms=realm1", 3, "the last row before"),
        ("period?to=0001-01-01&realms=realm1", None, "nothing before"),
    ],
)
async def test_odd_days_are_taken(api: Api, path: str, expected: int | None, why: str) -> None:
    (realm,) = value(await api.get(f"/reporting/{path}"))["realms"]
    assert realm["maxtokencount"] == {"total": expected}, why


async def test_old_and_distant_dates_of_rows(api: Api) -> None:
    assert len(await rows(api, "date=1960-01-01&status=total")) == 6
    assert await rows(api, "date=9999-12-31") == []
    assert value(await api.get("/reporting/delete_before?date=0001-01-01&status=*")) == 0
    assert value(await api.get("/reporting/delete_before?date=9999-12-31&status=*")) == 60


@pytest.mark.parametrize(
    ("path", "form", "count", "why"),
    [
        ("delete_all", "status=unassigned%26active", 0, "a turned pair is another text"),
        ("delete_all", "status=active%26unassigned", 6, "the pair as it is recorded"),
        ("delete_all", "status=total,%20active", 6, "a space belongs to its item"),
        ("delete_all", "status=", 0, "an empty status is none"),
        ("delete_before", "date=2016-07-28&status=unassigned%26active", 0, "before a day too"),
        ("delete_before", "date=2016-07-28&status=total,%20active", 6, "before a day too"),
    ],
)
async def test_deletes_of_the_source_compare_texts(source: Api, path: str, form: str, count: int, why: str) -> None:
    assert value(await source.post(f"/reporting/{path}", form)) == count, why


async def test_an_empty_status_deletes_and_shows_nothing(api: Api) -> None:
    assert value(await api.get("/reporting/delete_all?status=")) == 0
    assert await rows(api, "status=") == []
    assert len(await rows(api, "status=total,,active")) == 12, "documented: spaces and empty items are passed over"
    assert len(await rows(api, "status=total,%20active")) == 12


@pytest.mark.parametrize(
    ("path", "form", "message"),
    [
        ("delete_before", "status=total", "strptime() argument 1 must be str, not None"),
        ("delete_before", "date=bad", "time data 'bad' does not match format '%Y-%m-%d'"),
    ],
)
async def test_dates_of_the_source_fail_as_in_the_product(source: Api, path: str, form: str, message: str) -> None:
    assert error(await source.post(f"/reporting/{path}", form)) == (-311, message)


@pytest.mark.parametrize("shape", ["documented", "source"])
async def test_configured_realms_without_rows_are_listed_in_their_order(
    serve: Serve, redis_url: str, shape: str
) -> None:
    await write(redis_url, LOG)
    realms = ("realm2", "new", "Realm1")
    api = await serve(redis_url=redis_url, linotp_shape=shape, linotp_realms=realms)
    without = [NONE] if shape == "source" else []
    found = value(await api.get("/reporting/maximum"))
    assert list(found) == ["realm2", "new", "realm1", *without]
    assert found["new"] == {"total": -1}
    assert value(await api.get("/reporting/maximum?realms=NEW")) == {"new": {"total": -1}}
    (new,) = value(await api.get("/reporting/period?realms=new&status=total,active"))["realms"]
    assert new == {"name": "new", "maxtokencount": {"total": None, "active": None}}
    shown = value(await api.get("/reporting/show?realms=new"))
    assert (shown if shape == "source" else shown["data"]) == []
    assert value(await api.post("/reporting/delete_all", "realms=new")) == 0


async def test_a_realm_with_rows_that_is_not_configured_stays(serve: Serve, redis_url: str) -> None:
    await write(redis_url, LOG)
    api = await serve(redis_url=redis_url, linotp_realms=("realm2",))
    assert list(value(await api.get("/reporting/maximum"))) == ["realm2", "realm1"]


@pytest.mark.parametrize(
    ("query", "realms", "why"),
    [
        ("realms=", {"realm1", "realm2"}, "an empty list: every realm, not the tokens without one"),
        ("realms=*", {"realm1", "realm2", NONE}, "all"),
        ("realms=realm2,", {"realm2"}, "an empty item"),
        (f"realms={quote(NONE)}", {NONE}, "by name"),
    ],
)
async def test_lists_of_realms(source: Api, query: str, realms: set[str], why: str) -> None:
    found = value(await source.get(f"/reporting/show?{query}"))
    assert {row["realm"] for row in found} == realms, why


@pytest.mark.parametrize("shape", ["documented", "source"])
async def test_unknown_paths_and_methods_have_the_shape_of_the_surface(
    serve: Serve, redis_url: str, shape: str
) -> None:
    api = await serve(redis_url=redis_url, linotp_shape=shape)
    answer = await api.get("/reporting/status")
    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/json")
    assert answer.json["result"]["error"]["code"] == -311
    assert "'status'" in answer.json["result"]["error"]["message"]
    async with api._session.put(f"{api.url}/reporting/show") as response:
        assert response.status == 405
        assert (await response.json())["result"]["status"] is False


async def test_head_is_answered_where_get_reads(api: Api) -> None:
    for action in ("show", "period", "maximum"):
        async with api._session.head(f"{api.url}/reporting/{action}") as response:
            assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize(
    ("shape", "message"), [("documented", "You have no valid session!"), ("source", "Not authenticated")]
)
async def test_a_caller_without_a_session_is_refused_in_the_words_of_the_version(
    serve: Serve, redis_url: str, tmp_path: Path, shape: str, message: str
) -> None:
    sources = by_file(tmp_path, listed("one", scopes=["reporting"]))
    api = await serve(redis_url=redis_url, linotp_shape=shape, **sources)
    answer = await api.get("/reporting/show")
    assert (answer.status, answer.json["result"]["error"]) == (401, {"code": -311, "message": message})


async def test_deletes_are_in_the_audit_log(api: Api, redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert value(await api.get("/reporting/delete_before?date=2016-07-26&realms=realm1&status=total")) == 3
    with redis.Redis.from_url(redis_url, decode_responses=True) as server:
        ((entry_id, values),) = server.xrange(keys.audit("authtally:"))
    entry = parse_entry(entry_id, values)
    parameters = {"realms": ["realm1"], "statuses": ["total"], "before": "2016-07-26"}
    assert entry[:4] == ("reporting delete_before", "subject anybody", parameters, 3)
    assert abs(entry.at_ms / 1000 - time.time()) < 600, "the store's clock"
    assert "reporting delete_before" in capsys.readouterr().out
