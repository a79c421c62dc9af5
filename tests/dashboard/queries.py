"""One page view of the dashboard, and the record of all that it did."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect

from tests.dashboard.sample import NOW
from tests.dashboard.site import Site

TIMEOUT_MS: Final = 30_000
"""For what the page does by itself: the machine may be busy with other tests."""
PATIENCE_MS: Final = 120_000
"""For a page that asks again after 5, 10, 20 and 40 seconds."""
VIOLATIONS: Final = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`violates ${event.effectiveDirective}: ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""
EXPECTED: Final = "Failed to load resource"
"""The console's words for statuses such as 401, which tests cause."""


@asynccontextmanager
async def fresh(browser: Browser, *, now: datetime | None = NOW, **options: Any) -> AsyncIterator[BrowserContext]:
    """A browser without a past, whose clock stands still; None: it goes as the real one."""
    context = await browser.new_context(**{"locale": "en-GB", "timezone_id": "UTC", **options})
    context.set_default_timeout(TIMEOUT_MS)
    await context.add_init_script(VIOLATIONS)
    if now is not None:
        await context.clock.set_fixed_time(now)
    try:
        yield context
    finally:
        await context.close()


class PageProbe:
    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self.site = site
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.origins = {site.url}
        """Where the page may ask; tests of sign-in add the issuer's."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", self._on_request)

    @classmethod
    @asynccontextmanager
    async def opened(cls, context: BrowserContext, site: Site) -> AsyncIterator[PageProbe]:
        """A new tab. Raises AssertionError for any fault, once it is closed."""
        looking = cls(await context.new_page(), site)
        try:
            yield looking
        finally:
            await looking.page.close()
        assert not looking.faults, looking.faults
        assert not looking.elsewhere, looking.elsewhere

    @property
    def elsewhere(self) -> list[str]:
        """Requests that leave the host."""
        return [url for url in self.requests if origin(url) not in self.origins | {"data:"}]

    async def go(self, path: str) -> None:
        await self.page.goto(self.site.url + path)

    async def ready(self) -> None:
        """All charts of the chosen filters are there, or say why not."""
        await expect(self.page.locator("html")).to_have_attribute("data-ready", "true", timeout=TIMEOUT_MS)

    async def drawn(self) -> None:
        """All parts are there. On a busy machine the api may refuse at first: the page asks again by itself."""
        await expect(self.page.locator("html[data-ready=true]:has(#banner[hidden])")).to_be_attached(
            timeout=PATIENCE_MS
        )

    async def view(self, path: str) -> None:
        """Another view of the page without a reload, as the back button opens it."""
        await self.page.evaluate(
            "path => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')); }", path
        )
        await self.drawn()

    async def value(self, name: str) -> float | None:
        """The exact figure behind `#figure-<name>`."""
        text = await self.page.locator(f"#figure-{name} .value").get_attribute("data-value")
        return None if text is None else float(text)

    async def before(self, name: str) -> float | None:
        """The figure that the tile's figure is compared with."""
        text = await self.page.locator(f"#figure-{name} .change").get_attribute("data-before")
        return None if text is None else float(text)

    def chart(self, name: str) -> Locator:
        return self.page.locator(f"figure#chart-{name}")

    def ranking(self, name: str) -> Locator:
        return self.page.locator(f"#ranking-{name}")

    async def ranked(self, name: str) -> dict[str, dict[str, float]]:
        """The rows of a ranking by the raw names of their first cells, in the order of the page."""
        rows: list[list[Any]] = await self.ranking(name).evaluate(
            """part => [...part.querySelectorAll("tbody tr")].map(row => [
                [...row.querySelectorAll("th bdi")].map(each => each.title).join(" · "),
                Object.fromEntries([...row.querySelectorAll("td")].flatMap(cell =>
                    cell.dataset.value === undefined ? [] : [[cell.dataset.column, Number(cell.dataset.value)]])),
            ])"""
        )
        return dict(rows)

    async def chips(self) -> list[str]:
        return [narrow(text) for text in await self.page.locator("#chips .chip bdi").all_inner_texts()]

    async def table(self, name: str) -> tuple[list[str], list[list[str]]]:
        """The table behind a chart: its header, and its rows with exact numbers."""
        details = self.chart(name).locator("details.data")
        if await details.get_attribute("open") is None:
            await details.locator("summary").click()
        await details.locator("table").wait_for()
        table: list[list[str]] = await details.locator("table").evaluate(
            "table => [...table.rows].map(row => [...row.cells].map(cell => cell.dataset.value ?? cell.innerText))"
        )
        return table[0], table[1:]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(EXPECTED):
            self.faults.append(message.text)

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)


def narrow(text: str) -> str:
    """Without the spaces around dashes, which differ between versions of the browser's tables of languages."""
    return re.sub(r"\s*–\s*", "–", text)


def origin(url: str) -> str:
    """Of what stays in the browser, the page's own."""
    parts = urlsplit(url.removeprefix("blob:"))
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else "data:"
