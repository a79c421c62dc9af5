"""The overview: which days its figures are of, what they are compared with, and what bills are made of."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime
from typing import Any

import pytest

from api.dialects.own.overview import MEASURES, billing, spans
from api.dialects.own.overview_answer import Billing, OverviewMonth
from schemas.ledger.periods import Span
from tests.api.conftest import Clock, Serve
from tests.api.worker import account, count, login, token

AT = "T12:00:00Z"
FIGURES = ("dau", "wau", "mau", "rolling_7_days", "rolling_30_days")


@pytest.mark.parametrize(
    ("day", "name", "now", "before", "why"),
    [
        ("2026-11-20", "dau", "2026-11-20/2026-11-20", "2026-11-19/2026-11-19", "a day and the one before"),
        ("2027-01-01", "dau", "2027-01-01/2027-01-01", "2026-12-31/2026-12-31", "New Year"),
        ("2026-11-20", "wau", "2026-11-16/2026-11-20", "2026-11-09/2026-11-13", "Monday to Friday, twice"),
        ("2027-01-02", "wau", "2026-12-28/2027-01-02", "2026-12-21/2026-12-26", "the week of New Year"),
        ("2026-11-16", "wau", "2026-11-16/2026-11-16", "2026-11-09/2026-11-09", "a Monday"),
        ("2026-11-20", "mau", "2026-11-01/2026-11-20", "2026-10-01/2026-10-20", "as many days"),
        ("2027-01-31", "mau", "2027-01-01/2027-01-31", "2026-12-01/2026-12-31", "whole months over the year's end"),
        ("2026-02-28", "mau", "2026-02-01/2026-02-28", "2026-01-01/2026-01-31", "a whole month with a longer one"),
        ("2028-02-28", "mau", "2028-02-01/2028-02-28", "2028-01-01/2028-01-28", "not whole in a leap year"),
        ("2026-03-30", "mau", "2026-03-01/2026-03-30", "2026-02-01/2026-02-28", "the month before was shorter"),
        ("2028-03-01", "rolling_7_days", "2028-02-24/2028-03-01", "2028-02-17/2028-02-23", "over a leap day"),
        ("2027-01-10", "rolling_30_days", "2026-12-12/2027-01-10", "2026-11-12/2026-12-11", "over New Year"),
    ],
)
def test_a_figure_and_the_one_before_are_of_these_days(day: str, name: str, now: str, before: str, why: str) -> None:
    found = spans(date.fromisoformat(day))[name]
    assert [f"{span.first}/{span.last}" for span in found] == [now, before], why


@pytest.mark.parametrize(
    ("first", "last", "today", "keys", "why"),
    [
        ("2026-11-01", "2026-11-30", "2027-05-01", ["2026-11"], "a whole month"),
        ("2026-10-31", "2026-11-30", "2027-05-01", ["2026-10-31", "2026-11"], "and a day before"),
        ("2026-11-01", "2026-12-01", "2027-05-01", ["2026-11", "2026-12-01"], "and a day after"),
        ("2026-12-01", "2027-01-31", "2027-05-01", ["2026-12", "2027-01"], "over New Year"),
        ("2028-02-01", "2028-02-28", "2028-05-01", [f"2028-02-{d:02}" for d in range(1, 29)], "not in a leap year"),
        ("2026-11-01", "2026-11-02", "2026-11-02", ["2026-11"], "a month so far"),
        ("2026-11-01", "2026-11-02", "2026-11-03", ["2026-11-01", "2026-11-02"], "but not when it has gone on"),
        ("2026-11-02", "2026-11-03", "2026-11-03", ["2026-11-02", "2026-11-03"], "nor when it began before"),
        ("2026-11-03", "2026-11-02", "2026-11-03", [], "no days"),
    ],
)
def test_days_are_covered_by_whole_months_where_they_can_be(
    first: str, last: str, today: str, keys: list[str], why: str
) -> None:
    assert Span(date.fromisoformat(first), date.fromisoformat(last)).covering(date.fromisoformat(today)) == keys, why


async def overview(serve: Serve, redis_url: str, query: str = "") -> Any:
    answer = await (await serve(redis_url=redis_url)).get(f"/v1/overview{query}")
    assert answer.status == 200, answer.text
    return answer.json


@pytest.fixture
def clock(clock: Clock) -> Clock:
    clock.now = datetime.fromisoformat("2026-11-20" + AT).timestamp()
    return clock


async def test_figures_stand_beside_those_before_them(serve: Serve, redis_url: str, clock: Clock) -> None:
    await count(
        redis_url,
        [
            *(login("2026-11-20" + AT, user) for user in ("ada", "bob", "ada")),
            login("2026-11-19" + AT, "ada"),
            *(login("2026-11-18" + AT, user) for user in ("cyd", "eve")),
            *(login("2026-11-10" + AT, user) for user in ("fay", "gus")),
            login("2026-10-30" + AT, "hal"),
            login("2026-10-02" + AT, "ivy"),
        ],
    )
    result = await overview(serve, redis_url)
    found = {
        name: (result[name]["value"], result[name]["previous"]["value"], result[name]["change"]) for name in FIGURES
    }
    assert found == {
        "dau": (2, 1, 1.0),
        "wau": (4, 2, 1.0),
        "mau": (6, 1, 5.0),
        "rolling_7_days": (4, 2, 1.0),
        "rolling_30_days": (7, 1, 6.0),
    }
    assert result["stickiness"] == round(2 / 7, 4)
    earlier = await overview(serve, redis_url, "?date=2026-11-10")
    assert (earlier["dau"]["value"], earlier["mau"]["value"], earlier["rolling_30_days"]["value"]) == (2, 2, 3)


async def test_the_month_so_far_is_the_figure_that_bills_show(serve: Serve, redis_url: str, clock: Clock) -> None:
    await count(redis_url, [login("2026-11-20" + AT, f"user-{n}") for n in range(6000)])
    result = await overview(serve, redis_url)
    assert result["mau"]["value"] == result["months"][-1]["value"]
    assert result["mau"]["standard_error"] == pytest.approx(0.002031, rel=0.001)
    assert result["months"][-1]["to_date"] is True


async def test_what_happened_is_counted_by_day_and_month(serve: Serve, redis_url: str, clock: Clock) -> None:
    today = "2026-11-20" + AT
    await count(
        redis_url,
        [
            login(today, "ada"),
            login(today, "ada", success=False, reason="locked"),
            login(today, "ada", success=False),
            login("2026-11-02" + AT, "bob"),
            token(today, "password", "access_token", "refresh_token"),
            token(today, "client_credentials", "access_token", client_id="job"),
            token("2026-10-05" + AT, "password", "access_token"),
            account(today, "signup"),
            account(today, "leaked_password"),
        ],
    )
    result = (await overview(serve, redis_url))["activity"]
    assert result["day"] == {
        "from": "2026-11-20",
        "to": "2026-11-20",
        "logins": {"value": 1, "previous": 0, "change": None},
        "failed_logins": {"value": 2, "previous": 0, "change": None},
        "signups": {"value": 1, "previous": 0, "change": None},
        "tokens": {"value": 3, "previous": 0, "change": None},
        "failed_logins_by_reason": {"locked": 1, "unspecified": 1},
        "tokens_by_grant_type": {"client_credentials": 1, "password": 2},
    }
    assert result["month"]["logins"]["value"] == 2
    assert result["month"]["tokens"] == {"value": 3, "previous": 1, "change": 2.0}


async def test_twelve_months_end_with_that_of_the_day(serve: Serve, redis_url: str, clock: Clock) -> None:
    await count(
        redis_url, [login("2025-12-31" + AT, "ada"), login("2026-01-01" + AT, "bob"), login("2026-01-02" + AT, "cyd")]
    )
    result = await overview(serve, redis_url)
    assert [row["month"] for row in result["months"]] == ["2025-12", *(f"2026-{month:02}" for month in range(1, 12))]
    assert [row["value"] for row in result["months"]] == [1, 2, *([None] * 10)]
    assert result["billing"] == {"average": 1.5, "months_averaged": 2, "maximum": 2, "maximum_month": "2026-01"}


def test_a_month_in_progress_is_in_the_maximum_and_not_in_the_average() -> None:
    nothing: dict[str, Any] = dict.fromkeys((*MEASURES, "imported", "standard_error"))
    rows = [
        OverviewMonth(month="2026-09", value=10, to_date=False, exact=True, **nothing),
        OverviewMonth(month="2026-10", value=None, to_date=False, exact=False, **nothing),
        OverviewMonth(month="2026-11", value=99, to_date=True, exact=True, **nothing),
    ]
    assert billing(rows) == Billing(average=10.0, months_averaged=1, maximum=99, maximum_month="2026-11")
    assert billing(rows[1:2]) == Billing(average=None, months_averaged=0, maximum=None, maximum_month=None)


async def test_a_ledger_of_nothing_has_an_overview(serve: Serve, redis_url: str) -> None:
    result = await overview(serve, redis_url)
    assert (result["dau"]["value"], result["stickiness"], result["billing"]["average"]) == (0, None, None)


async def test_the_table_has_a_line_per_figure(serve: Serve, redis_url: str, clock: Clock) -> None:
    await count(redis_url, [login("2026-11-20" + AT, "ada")])
    answer = await (await serve(redis_url=redis_url)).get("/v1/overview?format=csv")
    rows = {row["figure"]: row["value"] for row in csv.DictReader(io.StringIO(answer.text))}
    assert rows.items() >= {"dau": "1", "rolling_30_days": "1", "logins_day": "1", "tokens_month": "0"}.items()
