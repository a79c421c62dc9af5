"""Figures that arrive by themselves, and what the page shows while a part, the api or the ledger fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import expect

from deploy.demo.servers import Valkey
from tests.api.worker import count, login
from tests.dashboard.conftest import Look
from tests.dashboard.queries import TIMEOUT_MS, PageProbe
from tests.dashboard.sample import KEPT, TODAY, at, fill
from tests.dashboard.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_todays_figures_come_by_themselves(look: Look, redis_url: str) -> None:
    await fill(redis_url)
    async with Site(redis_url, ticks=True) as site:
        page = await look(site)
        await page.drawn()
        await expect(page.page.locator("#live")).to_have_attribute("data-state", "live")
        users, logins = page.page.locator("#today-users"), page.page.locator("#today-logins")
        counts = [int(str(await each.get_attribute("data-value"))) for each in (users, logins)]
        new = [login(at(TODAY), f"somebody new {number}", realm="acme", client_id="web") for number in range(3)]
        await count(redis_url, new, **KEPT)
        for each, before in zip((users, logins), counts, strict=True):
            await expect(each).to_have_attribute("data-value", str(before + 3))


PARTS: Final = {
    "/": {
        "**/v1/active-users?granularity=range&from=2026-10-22*&to=2026-11-20": "#figure-users",
        "**/v1/overview*": "#chart-months",
        "**/v1/active-users?*trailing=30*": "#chart-rolling, #chart-stickiness",
        "**/v1/active-users?*group_by=realm*": "#ranking-realms",
        "**/v1/active-users?*group_by=client_id*": "#ranking-clients",
        "**/v1/tokens?*": "#figure-tokens",
        "**/v1/pipeline": "#status",
    },
    "/?tab=lifecycle": {
        "**/v1/lifecycle?*": "#figure-new, #figure-returning, #figure-reactivated, #figure-lapsed, #chart-lifecycle",
        "**/v1/retention?*": "#chart-retention",
    },
    "/?tab=logins": {
        "**/v1/logins?*group_by=reason*": "#chart-reasons, #ranking-reasons",
        "**/v1/logins?*group_by=client_id*": "#ranking-failing-clients",
    },
    "/?tab=tokens": {"**/v1/m2m*": "#chart-m2m", "**/v1/tokens?*group_by=token_type*": "#chart-kinds"},
    "/?tab=otp": {"**/v1/otp-tokens?*": "#chart-otp-days", "**/v1/otp-tokens": "#chart-otp"},
}


@pytest.mark.parametrize(("path", "route"), [(path, route) for path, routes in PARTS.items() for route in routes])
async def test_a_part_that_fails_is_empty_and_alone(shown: PageProbe, path: str, route: str) -> None:
    """A defect of the answer: what it says is no figure, whatever its status."""
    parts = shown.page.locator(PARTS[path][route])
    await shown.page.route(route, lambda each: each.fulfill(status=400, json={"detail": "This cannot be answered."}))
    await shown.view(f"{path}{'&' if '?' in path else '?'}range=7d")
    if "from=2026-10-22" in route:
        await shown.view("/")
    for part in await parts.all():
        await expect(part).to_have_attribute("data-state", "failed")
        await expect(part).to_contain_text("This cannot be answered.")
        assert await part.locator("[data-value]").count() == 0
    failed = await shown.page.locator("[data-state=failed]:visible").count()
    assert failed == await parts.count(), "the others have their figures"
    await shown.page.unroute(route)
    await shown.view("/?range=30d")


STATES: Final = {
    "users": ("/", "#figure-users, #chart-users, #ranking-realms"),
    "lifecycle": ("/?tab=lifecycle", "#figure-new, #chart-lifecycle, #chart-retention"),
    "logins": ("/?tab=logins", "#figure-rate, #chart-reasons, #ranking-reasons"),
    "tokens": ("/?tab=tokens", "#figure-tokens, #chart-m2m"),
    "otp": ("/?tab=otp", "#chart-otp"),
    "pipeline": ("/?tab=pipeline", "#pipeline, #chart-lag"),
}


@pytest.mark.parametrize("tab", STATES)
async def test_an_api_that_is_away_leaves_no_figure_under_another_filter(shown: PageProbe, tab: str) -> None:
    """The same question keeps its figures with their time; another one has none."""
    path, parts = STATES[tab]
    await shown.view(path)
    shown_before = await shown.page.locator(parts).locator("[data-value]").count()
    away = True
    await shown.page.route("**/v1/*", lambda each: each.abort() if away else each.fallback())
    await shown.page.route("**/v1/*?*", lambda each: each.abort() if away else each.fallback())
    await shown.page.evaluate("dispatchEvent(new PopStateEvent('popstate'))")
    await expect(shown.page.locator("#banner")).to_contain_text("does not answer")
    for part in await shown.page.locator(parts).all():
        await expect(part).to_have_attribute("data-state", "ready")
        await expect(part.locator(".old")).to_contain_text("Figures of 12:00:00 UTC: The api does not answer.")
    assert await shown.page.locator(parts).locator("[data-value]").count() == shown_before
    if tab != "pipeline":
        await shown.page.evaluate(
            "history.pushState(null, '', `${location.pathname}${location.search || '?'}&realm=globex`);"
            "dispatchEvent(new PopStateEvent('popstate'))"
        )
        await shown.ready()
        for part in await shown.page.locator(parts).all():
            await expect(part).to_have_attribute("data-state", "failed")
            await expect(part.locator(".note")).to_have_text("The api does not answer.")
            assert await part.locator("[data-value], svg.main-svg:visible").count() == 0
    away = False
    await shown.page.unroute_all()
    await shown.page.locator("#retry").click()
    await shown.drawn()
    for part in await shown.page.locator(parts).all():
        await expect(part).to_have_attribute("data-state", re.compile("ready|empty"))
        await expect(part.locator(".old")).to_be_hidden()


async def test_an_api_that_dies_is_found_again(look: Look, store: Valkey, site: Site) -> None:
    async with Site(store.url) as dying:
        page = await look(dying)
        await page.drawn()
        await dying.stop()
        await expect(page.page.locator("#live")).to_have_attribute("data-state", "retrying")
        await page.page.select_option("#range", "7d")
        await expect(page.page.locator("#banner")).to_contain_text("does not answer")
        await expect(page.page.locator("#figure-users .value")).not_to_have_attribute("data-value", re.compile(".*"))
        await dying.start()
        await page.page.locator("#retry").click()
        await page.drawn()
        assert len((await page.table("users"))[1]) == 7
        await expect(page.page.locator("#live")).to_have_attribute("data-state", "live")


async def test_a_page_that_finds_no_api_waits_for_it(look: Look, site: Site) -> None:
    page = await look(site, None)
    away = True
    await page.page.route("**/dashboard/config.json", lambda route: route.abort() if away else route.continue_())
    await page.go("/")
    await expect(page.page.locator("#banner")).to_be_visible()
    away = False
    await page.page.locator("#retry").click()
    await page.drawn()


async def test_a_ledger_that_goes_leaves_the_last_figures_with_their_age_until_it_is_back(look: Look) -> None:
    with Valkey(options=("--appendonly", "yes")) as store:
        await fill(store.url)
        async with Site(store.url, ticks=True, cache_ttl_s=1) as site:
            page = await look(site)
            await page.drawn()
            users = await page.value("users")
            store.stop()
            await expect(page.page.locator("#live")).to_have_attribute("data-state", "retrying")
            await page.page.reload()
            await expect(page.page.locator("#banner")).to_be_visible()
            value = page.page.locator("#figure-users .value")
            await expect(value).to_have_attribute("data-value", f"{users:g}")
            await expect(page.page.locator("#figure-users .old")).to_have_text(
                re.compile(r"These figures are \d+ s old: the ledger is unreachable\.")
            )
            store.start()
            # Sooner than the next refresh, which comes after a minute.
            await expect(page.page.locator("#banner")).to_be_hidden(timeout=TIMEOUT_MS)
            await expect(page.page.locator(".old:visible")).to_have_count(0)
            await expect(value).to_have_attribute("data-value", f"{users:g}")


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
        assert await page.value("users") == 1
