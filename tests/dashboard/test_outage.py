"""Figures that come by themselves, and what the page says while there are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from deploy.demo.servers import Valkey
from tests.api.worker import count, login
from tests.dashboard.conftest import Look
from tests.dashboard.sample import KEPT, TODAY, at, fill
from tests.dashboard.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_todays_figures_come_by_themselves(look: Look, redis_url: str) -> None:
    await fill(redis_url)
    async with Site(redis_url, ticks=True) as site:
        page = await look(site)
        await page.ready()
        await expect(page.page.locator("#live")).to_have_attribute("data-state", "live")
        users, logins = await page.value("day"), await page.value("logins")
        assert users is not None
        assert logins is not None
        new = [login(at(TODAY), f"somebody new {number}", realm="acme", client_id="web") for number in range(3)]
        await count(redis_url, new, **KEPT)
        day, today = page.page.locator("#figure-day .value"), page.page.locator("#figure-logins .value")
        await expect(day).to_have_attribute("data-value", f"{users + 3:g}")
        await expect(today).to_have_attribute("data-value", f"{logins + 3:g}")


async def test_an_api_that_dies_leaves_the_last_figures_and_is_found_again(look: Look, site: Site) -> None:
    page = await look(site)
    await page.ready()
    banner = page.page.locator("#banner")
    await expect(banner).to_be_hidden()
    users = await page.value("day")
    await site.stop()
    await expect(page.page.locator("#live")).to_have_attribute("data-state", "retrying")
    await page.page.select_option("#range", "7d")
    await expect(banner).to_be_visible()
    await expect(banner).to_contain_text("does not answer")
    assert await page.value("day") == users
    await expect(page.chart("months")).to_have_attribute("data-state", "ready")
    await site.start()
    await page.page.locator("#retry").click()
    await expect(banner).to_be_hidden()
    await page.ready()
    assert len((await page.table("logins"))[1]) == 7
    await expect(page.page.locator("#live")).to_have_attribute("data-state", "live")


async def test_a_page_that_finds_no_api_waits_for_it(look: Look, site: Site) -> None:
    page = await look(site, None)
    dead = True
    await page.page.route("**/dashboard/config.json", lambda route: route.abort() if dead else route.continue_())
    await page.go("/")
    await expect(page.page.locator("#banner")).to_be_visible()
    dead = False
    await page.page.locator("#retry").click()
    await page.ready()
    await expect(page.page.locator("#banner")).to_be_hidden()


async def test_a_ledger_that_goes_leaves_the_last_figures_marked(look: Look) -> None:
    with Valkey() as store:
        await fill(store.url)
        async with Site(store.url, ticks=True) as site:
            page = await look(site)
            await page.ready()
            users = await page.value("day")
            store.stop()
            await expect(page.page.locator("#live")).to_have_attribute("data-state", "retrying")
            await page.page.reload()
            await expect(page.page.locator("#banner")).to_contain_text("the last figures in the api's cache")
            assert await page.value("day") == users


@pytest.mark.parametrize("ingest", [False, True])
async def test_an_empty_installation_shows_how_to_send_the_first_event(
    look: Look, redis_url: str, tmp_path: Path, ingest: bool
) -> None:
    async with Site(redis_url, cache_ttl_s=0, ingest=ingest, kafka_bootstrap_servers="127.0.0.1:1") as site:
        page = await look(site)
        await page.ready()
        first = page.page.locator("#first-event")
        await expect(first).to_be_visible()
        await expect(first).to_contain_text("auth.logins")
        await expect(first).to_contain_text(f"{site.url}/v1/events" if ingest else "authtally publish")
        assert await page.page.locator("figure:visible").count() == 0, "no empty axes"
        await count(redis_url, [login(at(TODAY), "ada", realm="acme", client_id="web")], **KEPT)
        await page.page.reload()
        await page.ready()
        await expect(first).to_be_hidden()
        assert await page.value("day") == 1
