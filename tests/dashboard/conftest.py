"""A real Chromium, and pages of it that see through everything: errors, violated policies, requests to elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, expect

from deploy.demo.servers import Valkey
from tests.dashboard.browsers import NAMES, chromium, executable
from tests.dashboard.queries import TIMEOUT_MS, PageProbe, fresh
from tests.dashboard.sample import QUOTAS, fill
from tests.dashboard.site import Site

SESSION: Final[Any] = {"scope": "session", "loop_scope": "session"}
MODULE: Final[Any] = {"scope": "module", "loop_scope": "session"}

Look = Callable[..., Awaitable[PageProbe]]


@pytest_asyncio.fixture(**SESSION)
async def browser() -> AsyncIterator[Browser]:
    if executable() is None:
        pytest.skip(f"no {NAMES[0]} on PATH")
    expect.set_options(timeout=TIMEOUT_MS)
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(**MODULE)
async def window(browser: Browser) -> AsyncIterator[BrowserContext]:
    """What tabs of a module share: the library of charts, which is the most of what the page loads."""
    async with fresh(browser) as context:
        yield context


@pytest_asyncio.fixture(loop_scope="session")
async def look(browser: Browser, window: BrowserContext) -> AsyncIterator[Look]:
    """Opens the page in a new tab, with options in a browser of its own. Its faults fail the test at its end."""
    async with AsyncExitStack() as stack:

        async def opened(site: Site, path: str | None = "/", **options: Any) -> PageProbe:
            context = await stack.enter_async_context(fresh(browser, **options)) if options else window
            page = await stack.enter_async_context(PageProbe.opened(context, site))
            if path is not None:
                await page.go(path)
            return page

        yield opened


@pytest_asyncio.fixture(**MODULE)
async def shown(window: BrowserContext, site: Site) -> AsyncIterator[PageProbe]:
    """One tab for all tests of a module that only read from it: `view` opens another view without a reload."""
    async with PageProbe.opened(window, site) as page:
        await page.go("/")
        yield page


@pytest.fixture(scope="module")
def store() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest_asyncio.fixture(**MODULE)
async def site(store: Valkey, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The sample, without access control."""
    await fill(store.url)
    quotas = tmp_path_factory.mktemp("quotas") / "quotas.json"
    quotas.write_text(QUOTAS)
    async with Site(store.url, quotas_file=quotas) as served:
        yield served
