"""Estimates in the tab Lifecycle: errors on hover, in table and CSV; bounds where there is no figure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pytest
from playwright.async_api import expect

from deploy.demo.servers import Valkey
from tests.api.ledger_writer import open_ledger
from tests.dashboard.conftest import Look
from tests.dashboard.queries import PageProbe
from tests.dashboard.site import Site
from tests.dashboard.test_lifecycle import TAB, chart_csv

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVER: Final = 60_000
ACTIVE: Final = 6_000
FEW: Final = 5


@pytest.fixture(scope="module")
def many() -> Iterator[Valkey]:
    """A ledger of sketches: in October many users of September come back, and a few are new; in November all are."""
    with Valkey() as server:
        ledger = open_ledger(server.url)
        ledger.many_users("2026-08", range(EVER))
        ledger.many_users("2026-09", range(ACTIVE))
        ledger.many_users("2026-10", [*range(ACTIVE // 2), *range(EVER, EVER + FEW)])
        ledger.many_users("2026-11", range(2 * EVER, 2 * EVER + 2 * ACTIVE))
        yield server


async def test_estimates_have_their_errors_and_bounds(look: Look, many: Valkey) -> None:
    async with Site(many.url) as served:
        page = await look(served, f"/?{TAB}&from=2026-08-01&to=2026-11-20&by=month")
        await page.drawn()
        answer = await served.get("/v1/lifecycle?granularity=month&from=2026-08-01&to=2026-11-20")
        bound = answer["items"][2]["new"]["fewer_than"]
        assert bound is not None, "the ledger has a figure too small for its error"
        head, rows = await page.table("lifecycle")
        place = head.index("New")
        assert rows[2][place : place + 2] == [f"fewer than {bound:,}", "–"]
        november = answer["items"][3]["new"]
        assert rows[3][place : place + 2] == [str(november["value"]), str(november["standard_error"])]
        legend = page.chart("lifecycle").locator(".legend")
        await expect(legend).to_contain_text("No bar where the estimate is too small against its error")
        tile = page.page.locator("#figure-new .value")
        await expect(tile).to_have_text(f"fewer than {bound:,}")
        await expect(page.page.locator("#figure-new .detail")).to_have_text("")
        await expect(page.page.locator("#figure-returning .detail")).to_contain_text(re.compile(r"^about \d.*% of \d"))
        # By keyboard, and by the pointer.
        plot = page.chart("lifecycle").locator(".plot")
        await plot.focus()
        for _ in range(3):
            await plot.press("ArrowRight")
        await expect(page.page.locator("#spoken")).to_contain_text(f"New fewer than {bound:,}")
        await expect(plot.locator(".hoverlayer")).to_contain_text(f"fewer than {bound:,}")
        await expect(plot.locator(".hoverlayer")).to_contain_text("in 95 of 100 cases")
        assert [f"fewer than {bound}"] == [
            row[place] for row in await chart_csv(page, "lifecycle") if row[0] == "2026-10"
        ]
        await retention_of_estimates(page, served)


async def test_the_users_of_an_estimated_range_have_their_error_beside_them(look: Look, many: Valkey) -> None:
    async with Site(many.url) as served:
        page = await look(served, "/?from=2026-08-01&to=2026-08-31")
        await page.drawn()
        answer = await served.get("/v1/active-users?granularity=month&from=2026-08-01&to=2026-08-31")
        (august,) = answer["items"]
        off = round(1.96 * august["standard_error"] * august["value"])
        assert off > 0
        await expect(page.page.locator("#figure-users .detail")).to_have_text(f"± {off:,}")


async def retention_of_estimates(page: PageProbe, served: Site) -> None:
    answer = await served.get("/v1/retention?granularity=month&from=2026-08-01&to=2026-11-20&ages=3")
    ages = {(item["period"], age["age"]): age for item in answer["items"] for age in item["ages"]}
    none, half = ages["2026-09", 2], ages["2026-09", 1]
    assert none["rate"]["less_than"] is not None, "no user of September came in November"
    rows = (await page.table("retention"))[1]
    few = next(row for row in rows if row[0] == "2026-09" and row[1] == "2")
    assert few[5] == f"fewer than {none['retained']['fewer_than']:,}"
    assert few[7].startswith("less than ")
    cell = page.chart("retention").locator("[data-row='1'][data-column='1']")
    await expect(cell).to_contain_text("<")
    assert await cell.get_attribute("data-value") is None
    await expect(page.chart("retention").locator(".legend")).to_contain_text("less than this share")
    cell = page.chart("retention").locator("[data-row='1'][data-column='0']")
    await cell.hover()
    await expect(page.chart("retention").locator(".readout")).to_contain_text("points in 95 of 100 cases")
    assert float(str(await cell.get_attribute("data-value"))) == half["rate"]["value"]
