"""The page shows what the API answers, for any filter and any view."""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Sequence
from typing import Any, Final

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.dashboard.conftest import Look
from tests.dashboard.queries import PATIENCE_MS, PageProbe, fresh
from tests.dashboard.sample import FIRST, TODAY
from tests.dashboard.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHARTS: Final = ("months", "curve", "logins", "reasons", "grants", "kinds", "accounts", "m2m", "otp", "otp-days", "lag")
LAST_30_DAYS: Final = "from=2026-10-22&to=2026-11-20"


async def test_the_headline_is_the_overview(look: Look, site: Site) -> None:
    page = await look(site)
    await page.drawn()
    result = await site.get("/v1/overview")
    assert {name: await page.value(name) for name in ("day", "week", "month")} == {
        "day": result["dau"]["value"],
        "week": result["wau"]["value"],
        "month": result["mau"]["value"],
    }
    day = result["activity"]["day"]
    for name, measure in {
        "logins": "logins",
        "failed": "failed_logins",
        "tokens": "tokens",
        "signups": "signups",
    }.items():
        assert await page.value(name) == day[measure]["value"], name
    assert await page.value("average") == round(result["billing"]["average"])
    assert await page.value("maximum") == result["billing"]["maximum"]
    assert await page.value("stickiness") == result["stickiness"]


async def test_every_chart_is_drawn(look: Look, site: Site) -> None:
    page = await look(site)
    await page.drawn()
    for name in CHARTS:
        await expect(page.chart(name)).to_have_attribute("data-state", "ready")
        await expect(page.chart(name).locator(".js-plotly-plot, .plot svg.main-svg").first).to_be_visible()


async def test_the_tables_behind_the_charts_are_the_answers(look: Look, site: Site) -> None:
    page = await look(site)
    await page.drawn()
    _, rows = await page.table("logins")
    result = await site.get(f"/v1/logins?{LAST_30_DAYS}")
    assert rows == [[item["period"], str(item["succeeded"]), str(item["failed"])] for item in result["items"]]
    _, rows = await page.table("months")
    result = await site.get("/v1/overview")
    assert [row[0] for row in rows] == [month["month"] for month in result["months"]]
    assert [row[1] for row in rows if row[1] != "–"] == [
        str(month["value"]) for month in result["months"] if month["value"]
    ]
    for name, path, word, measure in (
        ("grants", "/v1/tokens", "grant_type", "tokens"),
        ("kinds", "/v1/tokens", "token_type", "tokens"),
        ("reasons", "/v1/logins", "reason", "failed"),
    ):
        head, rows = await page.table(name)
        result = await site.get(f"{path}?{LAST_30_DAYS}&group_by={word}")
        assert column_sums(head, rows) == sums(result["items"], word, measure), name
    head, rows = await page.table("otp")
    result = await site.get("/v1/otp-tokens")
    assert {(row[0], status): int(count) for row in rows for status, count in zip(head[1:], row[1:], strict=True)} == {
        (item["realm"], item["status"]): item["count"] for item in result["items"]
    }


def column_sums(head: list[str], rows: list[list[str]]) -> dict[str, int]:
    return {name: sum(int(row[place]) for row in rows) for place, name in enumerate(head) if place}


def sums(items: list[dict[str, Any]], word: str, measure: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in items:
        found[item[word]] = found.get(item[word], 0) + item[measure]
    return found


async def test_quotas_and_partitions_are_the_answers(look: Look, site: Site) -> None:
    page = await look(site)
    await page.drawn()
    head, rows = await page.table("m2m")
    result = (await site.get("/v1/m2m"))["items"]
    assert rows == [
        [
            f"{item[name]:g}" if name not in ("realm", "client_id") else item[name]
            for name in ("realm", "client_id", "used", "limit", "percent", "projected", "projected_percent")
        ]
        for item in result
    ], head
    pipeline = await site.get("/v1/pipeline")
    assert await page.value("lag") == pipeline["total"]["lag"] == 15
    assert await page.value("dead") == pipeline["total"]["dead"] == 1
    shown = await page.page.locator("#pipeline tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].slice(0, 3).map(cell => cell.dataset.value ?? cell.innerText))"
    )
    assert shown == [
        [item["topic"], str(item["partition"]), "–" if item["lag"] is None else str(item["lag"])]
        for item in pipeline["items"]
    ]


async def test_filters_live_in_the_address_and_the_back_button_undoes_them(look: Look, site: Site) -> None:
    page = await look(site)
    await page.drawn()
    everybody = await page.value("day")
    await page.page.select_option("#range", "7d")
    await expect(page.page).to_have_url(f"{site.url}/?range=7d")
    await page.drawn()
    assert [row[0] for row in (await page.table("logins"))[1]] == [f"2026-11-{day}" for day in range(14, 21)]
    await page.page.select_option("#realm", "acme")
    await page.page.select_option("#client", "web")
    await expect(page.page).to_have_url(f"{site.url}/?range=7d&realm=acme&client_id=web")
    await page.drawn()
    result = await site.get("/v1/overview?realm=acme&client_id=web")
    assert (await page.value("day"), await page.value("logins")) == (
        result["dau"]["value"],
        result["activity"]["day"]["logins"]["value"],
    )
    assert everybody != await page.value("day")
    await page.page.go_back()
    await page.page.go_back()
    await expect(page.page).to_have_url(f"{site.url}/?range=7d")
    await expect(page.page.locator("#realm")).to_have_value("")
    await page.drawn()
    assert await page.value("day") == everybody
    await page.page.locator("#reset").click()
    await expect(page.page).to_have_url(f"{site.url}/")


async def test_a_deep_link_shows_what_it_showed_to_who_sent_it(look: Look, site: Site) -> None:
    page = await look(site, "/?from=2026-10-01&to=2026-10-31&realm=globex&client_id=web")
    await page.drawn()
    form = page.page.locator("#filters")
    for field, value in {"range": "custom", "from": "2026-10-01", "to": "2026-10-31", "realm": "globex"}.items():
        await expect(form.locator(f"#{field}")).to_have_value(value)
    result = await site.get("/v1/overview?date=2026-10-31&realm=globex&client_id=web")
    assert await page.value("month") == result["mau"]["value"]
    _, rows = await page.table("logins")
    assert (rows[0][0], rows[-1][0], len(rows)) == ("2026-10-01", "2026-10-31", 31)


async def test_days_are_picked_by_their_dates(look: Look, site: Site) -> None:
    page = await look(site)
    await page.drawn()
    await page.page.fill("#from", "2026-11-02")
    await page.drawn()
    await page.page.fill("#to", "2026-11-04")
    await expect(page.page).to_have_url(f"{site.url}/?from=2026-11-02&to=2026-11-04")
    await page.drawn()
    assert [row[0] for row in (await page.table("curve"))[1]] == ["2026-11-02", "2026-11-03", "2026-11-04"]


async def test_a_year_is_shown_by_the_month(look: Look, site: Site) -> None:
    page = await look(site, "/?range=12m")
    await page.drawn()
    _, rows = await page.table("logins")
    result = await site.get("/v1/logins?from=2025-12-01&to=2026-11-20&granularity=month")
    assert rows == [[item["period"], str(item["succeeded"]), str(item["failed"])] for item in result["items"]]


async def test_an_address_that_makes_no_sense_shows_the_usual(look: Look, site: Site) -> None:
    page = await look(site, None)
    for query in ("range=forever", "from=2026-13-01&to=x", "from=2026-11-20&to=2026-11-01"):
        await page.go(f"/?{query}")
        await expect(page.page.locator("#board")).to_be_visible()
        await expect(page.page.locator("#range")).to_have_value("30d")
        await expect(page.page.locator("#from")).to_have_value("2026-10-22")


async def test_a_filter_that_is_not_kept_names_the_setting_that_keeps_it(look: Look, site: Site) -> None:
    async with Site(site.redis_url, users_by=("realm",), counts_by=("realm",)) as served:
        page = await look(served, "/?realm=acme&client_id=web")
        await page.drawn()
        for name, setting in {"curve": "USERS_BY", "logins": "COUNTS_BY", "m2m": "COUNTS_BY"}.items():
            chart = page.chart(name)
            await expect(chart).to_have_attribute("data-state", "unkept")
            await expect(chart.locator(".note")).to_contain_text(setting)
        await expect(page.chart("otp")).to_have_attribute("data-state", "ready")


async def test_csv_is_what_the_api_answers(look: Look, site: Site) -> None:
    page = await look(site, "/?range=7d")
    await page.drawn()
    async with page.page.expect_download() as started:
        await page.chart("logins").locator("button.csv").click()
    download = await started.value
    assert download.suggested_filename == "authtally-logins-2026-11-14-2026-11-20.csv"
    content = (await download.path()).read_bytes().decode("utf-8-sig")
    header, *rows = csv.reader(io.StringIO(content, newline=""))
    assert header == ["Day", "Succeeded", "Failed"]
    result = await site.get("/v1/logins?from=2026-11-14&to=2026-11-20")
    assert rows == [[item["period"], str(item["succeeded"]), str(item["failed"])] for item in result["items"]]


# Before an eleventh download of a tab Chromium asks, unless somebody clicked a moment ago: slow machines draw longer.
@pytest.mark.parametrize("names", [CHARTS[:4], CHARTS[4:8], CHARTS[8:]], ids=" ".join)
async def test_every_chart_downloads_as_a_picture_and_as_csv(look: Look, site: Site, names: Sequence[str]) -> None:
    page = await look(site)
    await page.drawn()
    for name in names:
        async with page.page.expect_download() as picture:
            await page.chart(name).locator("button.png").click()
        content = (await (await picture.value).path()).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n"), name
        width, height = struct.unpack(">II", content[16:24])
        # A blank picture of that size is packed into a few hundred bytes.
        assert width >= 800, name
        assert height >= 300, name
        assert len(content) > 5_000, name
        async with page.page.expect_download() as table:
            await page.chart(name).locator("button.csv").click()
        assert len((await (await table.value).path()).read_text("utf-8-sig").splitlines()) > 1, name


async def test_hovering_shows_exact_figures_and_how_exact_they_are(look: Look, site: Site) -> None:
    page = await look(site, "/?range=7d")
    await page.drawn()
    plot = page.chart("curve").locator(".plot")
    await plot.scroll_into_view_if_needed()
    await plot.locator(".nsewdrag").first.hover()
    result = plot.locator(".hoverlayer")
    await expect(result).to_contain_text("exact")
    users = await site.get("/v1/active-users?from=2026-11-14&to=2026-11-20")
    text = await result.text_content()
    assert any(str(item["value"]) in str(text) for item in users["items"])


async def test_the_keyboard_reaches_everything(look: Look, site: Site) -> None:
    page = await look(site, "/?range=7d")
    await page.drawn()
    await page.page.keyboard.press("Tab")
    assert await focused(page) == "To the figures"
    await page.page.keyboard.press("Enter")
    assert await page.page.evaluate("document.activeElement.id") == "board"
    reached: list[str] = []
    while len(reached) < 60 and not (reached and reached[-1].startswith("plot")):
        await page.page.keyboard.press("Tab")
        reached.append(await page.page.evaluate("document.activeElement.id || document.activeElement.className"))
    # A date has a stop for each of its parts.
    stops = [name for name, before in zip(reached, ["", *reached], strict=False) if name != before]
    assert stops[:5] == ["range", "from", "to", "realm", "client"]
    assert stops[-3:-1] == ["csv", "png"]
    await page.page.keyboard.press("ArrowRight")
    spoken = page.page.locator("#spoken")
    await expect(spoken).to_contain_text("Active users")
    first = await spoken.inner_text()
    await page.page.keyboard.press("ArrowRight")
    await expect(spoken).not_to_have_text(first)


async def focused(page: PageProbe) -> str:
    text: str = await page.page.evaluate("document.activeElement.textContent")
    return text


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(look: Look, site: Site, scheme: str) -> None:
    page = await look(site, color_scheme=scheme)
    await page.drawn()
    await page.table("logins")
    assert await serious(page.page) == []


async def serious(page: Page) -> list[str]:
    found = await Axe().run(page)
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]}"
        for one in found.response["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


async def test_a_theme_that_was_chosen_stays(look: Look, site: Site) -> None:
    page = await look(site, color_scheme="light")
    await page.drawn()
    light = await background(page)
    for _ in range(3):
        await page.page.locator("#theme").click()
        if await background(page) != light:
            break
    dark = await background(page)
    assert dark != light
    await page.page.reload()
    await page.drawn()
    assert await background(page) == dark


async def background(page: PageProbe) -> str:
    color: str = await page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return color


@pytest.mark.parametrize("path", ["/", "/?range=12m&realm=acme"])
async def test_a_telephone_needs_no_scrolling_sideways(look: Look, site: Site, path: str) -> None:
    page = await look(site, path, viewport={"width": 380, "height": 800})
    await page.drawn()
    await page.table("logins")
    assert await page.page.evaluate("document.documentElement.scrollWidth") <= 380
    width = await page.chart("logins").locator(".plot").evaluate("plot => plot.getBoundingClientRect().width")
    assert 250 < width <= 380


async def test_the_first_paint_takes_less_than_a_second(browser: Browser, site: Site) -> None:
    """Of a browser that has nothing of the page yet. Twice that where the machine is busy with other tests."""
    async with fresh(browser, now=None) as context, PageProbe.opened(context, site) as page:
        await page.go("/")
        await page.page.locator("#figure-day .value[data-value]").wait_for(timeout=PATIENCE_MS)
        painted = await page.page.evaluate(
            "performance.getEntriesByName('first-contentful-paint').map(entry => entry.startTime)"
        )
        assert painted[0] < 2_000


async def test_nothing_moves_once_it_is_there(look: Look, site: Site) -> None:
    page = await look(site, None)
    await page.page.add_init_script(
        "window.moved = 0; new PerformanceObserver(list => list.getEntries().forEach(entry => {"
        " if (!entry.hadRecentInput) window.moved += entry.value; })).observe({type: 'layout-shift', buffered: true});"
    )
    await page.go("/")
    await page.drawn()
    # What Core Web Vitals call good is 0.1.
    assert await page.page.evaluate("window.moved") < 0.1


async def test_days_before_the_first_event_say_so(look: Look, site: Site) -> None:
    page = await look(site, "/?from=2026-01-01&to=2026-01-31")
    await page.drawn()
    assert FIRST.month > 1
    for name in ("logins", "reasons", "grants", "accounts"):
        await expect(page.chart(name)).to_have_attribute("data-state", "empty")
        await expect(page.chart(name).locator(".note")).not_to_be_empty()
    assert TODAY.year == FIRST.year
