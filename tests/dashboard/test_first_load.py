"""The bench's part of popular questions asks what the page asks at its first load."""

from __future__ import annotations

import pytest
import yarl

from tests.dashboard.conftest import Look
from tests.dashboard.sample import TODAY
from tests.dashboard.site import Site
from tests.qualification.bench.popular import first_load

pytestmark = pytest.mark.asyncio(loop_scope="session")


def key(url: str) -> str:
    """Path and parameters, whatever their order."""
    found = yarl.URL(url)
    return f"{found.path} {sorted(found.query.items())}"


async def test_the_bench_asks_what_the_page_asks(look: Look, site: Site) -> None:
    page = await look(site)
    await page.drawn()
    asked = {key(url) for url in page.requests if "/v1/" in url and not url.endswith("/v1/live")}
    assert asked == {key(path) for path in first_load(TODAY)}
