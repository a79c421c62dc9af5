"""The page over two regions: the filter, the table of regions, and what it says when one is old or missing."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, expect

from deploy.demo.servers import Valkey
from tests.api.sources import listed
from tests.api.worker import count, login
from tests.dashboard.conftest import MODULE, Look
from tests.dashboard.queries import PATIENCE_MS, PageProbe, narrow
from tests.dashboard.sample import KEPT, at, days, fill
from tests.dashboard.site import Site
from tests.integration.api_process import ApiProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")
TOKENS = {
    "all": {"scopes": ["stats:read"], "regions": ["*"]},
    "own": {"scopes": ["stats:read"]},
    "peer": {"scopes": ["sketches:read"]},
}
WAIT_S = 60
RANGE = "granularity=range&from=2026-10-22&to=2026-11-20"
"""The last 30 days of the sample's clock."""


class Two(NamedTuple):
    """The page is that of eu; us is a process of its own."""

    eu: Site
    us: ApiProcess


@pytest_asyncio.fixture(**MODULE)
async def regions(store: Valkey, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    """The sample in eu; two users each day in us."""
    folder = tmp_path_factory.mktemp("regions")
    with Valkey() as other:
        await fill(store.url)
        events = [login(at(day), f"{who}-1", realm="acme", client_id="web") for day in days() for who in ("us", "user")]
        await count(other.url, events, **KEPT)
        sites = pair(store.url, other.url, folder)
        with sites.us:
            async with sites.eu:
                await ready(sites.eu)
                yield sites


def pair(eu_store: str, us_store: str, folder: Path) -> Two:
    entries = [listed(name, **entry) for name, entry in TOKENS.items()]
    (folder / "tokens.json").write_text(json.dumps(entries))
    (folder / "peer.token").write_text("peer")
    # Without sketches, which are the most of what regions compute.
    usual: dict[str, Any] = {"auth_tokens_file": str(folder / "tokens.json"), "region_users": "distinct"}

    def peers(name: str, url: str) -> str:
        path = folder / f"{name}.json"
        path.write_text(json.dumps([{"name": name, "url": url, "token_file": str(folder / "peer.token")}]))
        return str(path)

    us = ApiProcess(
        redis_url=us_store, auth="static", region="us", peers_file=peers("eu", "http://127.0.0.1:1"), **usual
    )
    of_us = peers("us", f"http://{us.address}")
    return Two(Site(eu_store, auth=("static",), region="eu", peers_file=of_us, cache_ttl_s=0, **usual), us)


async def states(site: Site) -> dict[str, str]:
    return {item["region"]: item["state"] for item in (await site.get("/v1/regions", "all"))["items"]}


async def ready(site: Site, state: str = "current") -> None:
    deadline = time.monotonic() + WAIT_S
    while (found := (await states(site))["us"]) != state:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)


@pytest_asyncio.fixture(**MODULE)
async def page(window: BrowserContext, regions: Two) -> AsyncIterator[PageProbe]:
    async with PageProbe.opened(window, regions.eu) as opened:
        await opened.go("/#token=all")
        await opened.drawn()
        yield opened


async def current(page: PageProbe, path: str) -> None:
    """The view, with the figures of now: on a busy machine an answer of the other region can be late."""
    for _ in range(20):
        await page.view(path)
        if await page.page.locator("#regions").is_hidden():
            return
    pytest.fail(await page.page.locator("#regions").inner_text())


async def users(site: Site, query: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await site.get(f"/v1/active-users?{RANGE}&{query}", "all"))["items"]
    return items


async def test_figures_are_those_of_the_chosen_regions(page: PageProbe, regions: Two) -> None:
    names = await page.page.locator("#region option").all_inner_texts()
    assert names == ["Region eu", "All regions", "Region us"]
    for region in ("all", "us"):
        await current(page, f"/?region={region}")
        (item,) = await users(regions.eu, f"region={region}")
        assert await page.value("users") == item["value"] > 0
    await page.view("/")
    (own,) = await users(regions.eu, "region=eu")
    assert await page.value("users") == own["value"]


async def test_a_region_is_chosen_shown_as_a_chip_and_removed(page: PageProbe) -> None:
    await page.view("/")
    await page.page.select_option("#region", "all")
    await page.drawn()
    assert "region=all" in page.page.url
    assert "All regions" in await page.chips()
    await page.page.locator("#chips [data-chip=region] button").click()
    await page.drawn()
    assert "region" not in page.page.url


async def test_the_table_of_regions_leads_to_each(page: PageProbe, regions: Two) -> None:
    await page.view("/")
    assert await page.ranking("regions").is_hidden()
    await current(page, "/?region=all")
    rows = await page.ranked("regions")
    items = await users(regions.eu, "group_by=region")
    assert {name: row["users"] for name, row in rows.items()} == {item["region"]: item["value"] for item in items}
    await page.ranking("regions").get_by_role("button", name="us", exact=True).click()
    await page.drawn()
    assert "region=us" in page.page.url
    assert await page.ranking("regions").is_hidden()


async def test_lifecycle_and_retention_are_those_of_the_chosen_regions(page: PageProbe, regions: Two) -> None:
    asked = "granularity=week&from=2026-10-22&to=2026-11-20"
    for region in ("all", "us"):
        await current(page, f"/?region={region}&tab=lifecycle")
        items = (await regions.eu.get(f"/v1/lifecycle?{asked}&region={region}", "all"))["items"]
        columns, rows = await page.table("lifecycle")
        new = columns.index("New")
        assert [row[new] for row in rows] == [f"{item['new']['value']:,}" for item in items]
        cohorts = (await regions.eu.get(f"/v1/retention?{asked}&region={region}&ages=4", "all"))["items"]
        columns, rows = await page.table("retention")
        users = columns.index("Users")
        assert [row[users] for row in rows] == [f"{item['users']['value']:,}" for item in cohorts for _ in item["ages"]]


async def test_the_table_of_lifecycle_has_the_kinds_of_users_of_each_region(page: PageProbe, regions: Two) -> None:
    await page.view("/?tab=lifecycle")
    assert await page.ranking("lifecycle-regions").is_hidden()
    await current(page, "/?region=all&tab=lifecycle&by=month&range=90d")
    asked = "granularity=month&from=2026-10-01&to=2026-10-31&group_by=region"
    items = (await regions.eu.get(f"/v1/lifecycle?{asked}", "all"))["items"]
    kinds = ("active", "new", "returning", "reactivated", "lapsed")
    expected = {item["region"]: {kind: item[kind]["value"] for kind in kinds} for item in items}
    assert expected.keys() == {"eu", "us"}
    assert await page.ranked("lifecycle-regions") == expected
    shown = page.ranking("lifecycle-regions")
    assert narrow(await shown.locator(".hint").inner_text()) == "1–31 Oct 2026"
    await expect(shown.locator("td[data-column=active]").first).to_have_attribute("title", "exact")
    async with page.page.expect_download() as started:
        await page.page.locator("#view-csv").click()
    rows = list(csv.DictReader(io.StringIO((await (await started.value).path()).read_bytes().decode("utf-8-sig"))))
    found = {(row["row"], row["column"]): row["value"] for row in rows if row["part"] == "Regions"}
    assert found["us", "Active"] == str(expected["us"]["active"])
    assert found["us", "Active: standard error"] == "exact"
    for size in ("A4", "Letter"):
        paper = await page.page.pdf(format=size, prefer_css_page_size=False)
        assert paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") == 1, size
    await shown.get_by_role("button", name="us", exact=True).click()
    await page.drawn()
    assert "region=us" in page.page.url
    assert await shown.is_hidden()


async def test_figures_of_one_region_are_not_shown_under_another(page: PageProbe) -> None:
    await page.view("/?region=all&tab=otp")
    shown = page.page.locator("#chart-otp")
    await expect(shown).to_have_attribute("data-state", "unkept")
    await expect(shown.locator(".note")).to_contain_text("remove the filter by region")


async def test_partitions_have_the_name_of_their_region(page: PageProbe, regions: Two) -> None:
    await current(page, "/?region=all&tab=pipeline")
    answer = await regions.eu.get("/v1/pipeline?region=all", "all")
    assert {item["region"] for item in answer["items"]} == {"eu", "us"}
    rows = await page.page.locator("#pipeline tbody tr").all_inner_texts()
    assert sum(row.startswith("us") for row in rows) == sum(item["region"] == "us" for item in answer["items"]) > 0
    names = (await page.table("lag"))[1]
    assert len({name for name, *_ in names}) == len(answer["items"])


async def test_a_token_of_one_region_has_no_filter(regions: Two, look: Look) -> None:
    page = await look(regions.eu, "/#token=own", viewport={"width": 380, "height": 800})
    await page.drawn()
    assert await page.page.locator("label:has(#region)").is_hidden()


async def test_an_old_and_a_missing_region_are_named(store: Valkey, tmp_path: Path, look: Look) -> None:
    with Valkey() as other:
        await fill(store.url)
        await count(other.url, [login(at(day), "us-1", realm="acme", client_id="web") for day in days()], **KEPT)
        sites = pair(store.url, other.url, tmp_path)
        async with sites.eu:
            with sites.us:
                await ready(sites.eu)
                page = await look(sites.eu, "/?region=all#token=all", viewport={"width": 1280, "height": 900})
                await page.drawn()
                await current(page, "/?region=all")
            await ready(sites.eu, "unreachable")
            await page.page.reload()
            await page.drawn()
            line = page.page.locator("#regions")
            await expect(line).to_contain_text("Figures of region us are of", timeout=PATIENCE_MS)
            await page.view("/?region=all&range=90d")
            await expect(line).to_contain_text("Figures lack region us (no connection)", timeout=PATIENCE_MS)
            await expect(page.chart("users").locator(".hint")).to_contain_text("without region us")
            assert "users" not in (await page.ranked("regions"))["us"], "zero would be a figure"
            await page.view("/?region=all&range=90d&tab=lifecycle")
            assert (await page.ranked("lifecycle-regions"))["us"] == {}
            cell = page.ranking("lifecycle-regions").locator("tr:has-text('us') td").first
            await expect(cell).to_have_attribute("title", "The region is missing.")
            await page.view("/")
            await expect(line).to_be_hidden()
