"""Names come from outside: whatever they are, they are only ever text, and the page stays in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest
from playwright.async_api import expect

from tests.api.otp import state, write
from tests.api.worker import Event, account, count, login, token
from tests.dashboard.conftest import Look
from tests.dashboard.queries import PageProbe
from tests.dashboard.sample import KEPT, TODAY, at
from tests.dashboard.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT: Final = "<script>window.owned = 1</script>"
NAMES: Final = {
    "a script": SCRIPT,
    "a picture": "<img src=x onerror=window.owned=1>",
    "plotly's own markup": '<b>bold</b> <a href="javascript:window.owned=1">click</a> %{y}',
    "quotes": "\"'`${window.owned=1}\\",
    "255 characters": "long-" * 51,
    "right to left": "‮realm‬ שלום",
    "an ampersand": "R&amp;D &lt;",
    "a formula": '=HYPERLINK("https://elsewhere.example")',
    "a property": "__proto__",
    "spaces": "   ",
}


async def hostile(redis_url: str, names: Sequence[str]) -> None:
    """A realm, a client, a reason and so on of each name."""
    events: list[Event] = []
    for name in names:
        labels = {"realm": name, "client_id": name}
        events += [
            login(at(TODAY), "ada", **labels),
            login(at(TODAY), "ada", success=False, reason=name, **labels),
            token(at(TODAY), name, name, **labels),
            token(at(TODAY), "client_credentials", "access_token", **labels),
            account(at(TODAY), name, realm=name),
        ]
    await count(redis_url, events, **KEPT)
    await write(redis_url, [state(at(TODAY), name, "token_init", name) for name in names], **KEPT)


async def unharmed(page: PageProbe) -> None:
    await page.drawn()
    assert await page.page.evaluate("window.owned") is None
    assert await page.page.locator("main img, main script, main a[href^='javascript']").count() == 0
    assert await page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not page.faults, page.faults


CHARTS: Final = {"/?tab=logins": ("reasons",), "/?tab=tokens": ("grants", "kinds", "m2m"), "/?tab=otp": ("otp",)}


@pytest.mark.parametrize("half", [0, 1], ids=["some", "others"])
async def test_a_name_is_only_text(look: Look, redis_url: str, half: int) -> None:
    names = list(NAMES.values())[half::2]
    await hostile(redis_url, names)
    async with Site(redis_url) as site:
        page = await look(site)
        await unharmed(page)
        assert {name.split(" · ")[0] for name in await page.ranked("realms")} == set(names)
        for path, charts in CHARTS.items():
            await page.view(path)
            for chart in charts:
                await expect(page.chart(chart)).to_have_attribute("data-state", "ready")
                await page.table(chart)
            await unharmed(page)
        # Hovering and pictures draw labels too.
        plot = page.chart("otp").locator(".plot")
        await plot.scroll_into_view_if_needed()
        await plot.hover()
        async with page.page.expect_download():
            await page.chart("otp").locator("button.png").click()
        await page.view("/?tab=logins")
        titles = await page.chart("reasons").locator("table bdi").evaluate_all("all => all.map(one => one.title)")
        assert set(names) <= set(titles)
        options = await page.page.locator("#realm option").evaluate_all("all => all.map(one => one.value)")
        # The API filters by no blank name; such a realm is in the charts and in everything.
        assert set(options) == {"", *(name for name in names if name.strip())}
        for name in filter(str.strip, options):
            await page.page.locator("#realm").select_option(value=name)
            await page.drawn()
            assert await page.value("logins") == 1
            # The row of the reason sets a filter, and its chip has the name.
            await page.ranking("reasons").locator("tbody tr").first.locator("button").click()
            await page.drawn()
            titles = await page.page.locator("#chips bdi").evaluate_all("all => all.map(one => one.title)")
            assert titles.count(name) == 2
            async with page.page.expect_download() as started:
                await page.page.locator("#view-csv").click()
            assert (await (await started.value).path()).stat().st_size > 0
            await unharmed(page)
            await page.page.locator("[data-chip=reason] button").click()


async def test_an_address_with_markup_is_only_text(look: Look, redis_url: str) -> None:
    await hostile(redis_url, ["acme"])
    markup = "%3Cimg%20src%3Dx%20onerror%3Dwindow.owned%3D1%3E"
    async with Site(redis_url) as site:
        page = await look(site, f"/?realm={markup}&client_id=%22%3E%3Cscript%3E&reason={markup}&tab=logins")
        await unharmed(page)
        assert await page.value("users") == 0
