"""Pictures of the dashboard for the docs: `python -m tests.dashboard.pictures` writes them to deploy/pictures/."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from PIL import Image
from playwright.async_api import Browser

from deploy.demo import site as demo_site
from deploy.demo.otp_sample import otp_tokens
from deploy.demo.sample_events import SampleEvents
from deploy.demo.servers import Valkey
from schemas.ledger.keys import Shard
from tests.api.otp import write
from tests.api.sources import listed
from tests.api.worker import TOPICS, Event, count
from tests.dashboard.browsers import chromium
from tests.dashboard.queries import PageProbe, fresh
from tests.dashboard.sample import KEPT, observe_ends
from tests.dashboard.site import Site
from tests.integration.api_process import ApiProcess

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "pictures"
EVENTS: Final = 60_000
NOW: Final = datetime(2026, 10, 29, 16, 20, tzinfo=UTC)
"""A Thursday: the sample's incident is on the Tuesday before."""
PARTITIONS: Final = 4
KINDS: Final = {demo_site.LOGINS: "login", demo_site.TOKENS: "token", demo_site.ACCOUNTS: "account"}
SPOILT: Final = b"spoilt"
QUOTAS: Final = {
    "tenant": 2_500,
    "clients": [
        {"realm": realm, "client_id": client, "limit": limit}
        for realm, client, limit in (
            ("acme", "billing-sync", 350),
            ("acme", "crm-export", 300),
            ("globex", "billing-sync", 150),
        )
    ],
}
TOKENS: Final = {"all": {"scopes": ["stats:read"], "regions": ["*"]}, "peer": {"scopes": ["sketches:read"]}}
ATTEMPTS: Final = 20
INCOMPLETE_S: Final = 11
"""Longer than the api caches an answer that lacks a region."""
MAX_BYTES: Final = 250_000


class Picture(NamedTuple):
    name: str
    path: str
    options: dict[str, Any]


WIDE: Final = {"viewport": {"width": 1280, "height": 960}}
TALL: Final = {"viewport": {"width": 1280, "height": 1380}}
NARROW: Final = {"viewport": {"width": 380, "height": 820}, "device_scale_factor": 2}
PICTURES: Final = (
    Picture("dashboard-light", "/", WIDE | {"color_scheme": "light"}),
    Picture("dashboard-lifecycle", "/?tab=lifecycle&range=12m", TALL | {"color_scheme": "light"}),
    Picture("dashboard-dark", "/?tab=logins", WIDE | {"color_scheme": "dark"}),
    Picture("dashboard-narrow", "/?range=7d&realm=acme", NARROW | {"color_scheme": "light"}),
)
OF_REGIONS: Final = Picture("dashboard-regions", "/?region=all&range=7d", WIDE | {"color_scheme": "light"})
"""Of two regions."""
ENDS: Final = {Shard(topic, number): 0 for topic in TOPICS.values() for number in range(PARTITIONS)}


async def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with Valkey() as store, tempfile.TemporaryDirectory() as folder:
        await count(store.url, events(), partitions=PARTITIONS, **KEPT)
        await write(store.url, inventory(), **KEPT)
        await observe_ends(store.url, NOW, ENDS | {Shard(demo_site.OTP_TOKENS, 0): 0})
        quotas = Path(folder) / "quotas.json"
        quotas.write_bytes(orjson.dumps(QUOTAS))
        async with Site(store.url, now=NOW, quotas_file=quotas) as site, chromium() as browser:
            for picture in PICTURES:
                await write_picture(browser, site, picture)
            async with two_regions(store.url, Path(folder)) as eu:
                await write_picture(browser, eu, OF_REGIONS)


@asynccontextmanager
async def two_regions(own: str, folder: Path) -> AsyncIterator[Site]:
    """The api of eu, whose events are counted already, beside one of us with half as many."""
    with Valkey() as store:
        await count(store.url, events(EVENTS // 2, abroad="us"), partitions=PARTITIONS, **KEPT)
        await observe_ends(store.url, NOW, ENDS)
        tokens, peers, back = folder / "tokens.json", folder / "peers.json", folder / "back.json"
        tokens.write_bytes(orjson.dumps([listed(name, **entry) for name, entry in TOKENS.items()]))
        token = folder / "peer.token"
        token.write_text("peer")
        back.write_bytes(orjson.dumps([{"name": "eu", "url": "http://127.0.0.1:1", "token_file": str(token)}]))
        # Separate directories need no sketches, which are the most of what regions compute.
        usual: dict[str, Any] = {"auth_tokens_file": str(tokens), "region_users": "distinct", "region_timeout_s": "1.5"}
        with ApiProcess(redis_url=store.url, auth="static", region="us", peers_file=str(back), **usual) as us:
            peers.write_bytes(orjson.dumps([{"name": "us", "url": f"http://{us.address}", "token_file": str(token)}]))
            async with Site(own, now=NOW, auth=("static",), region="eu", peers_file=peers, **usual) as eu:
                yield eu


async def write_picture(browser: Browser, site: Site, picture: Picture) -> None:
    path = FOLDER / f"{picture.name}.png"
    path.write_bytes(await taken(browser, site, picture))
    print(f"{path.relative_to(FOLDER.parents[1])}: {path.stat().st_size / 1000:.0f} kB")  # noqa: T201


async def taken(browser: Browser, site: Site, wanted: Picture) -> bytes:
    async with fresh(browser, now=NOW, **wanted.options) as context, PageProbe.opened(context, site) as page:
        # The token stays in the tab. On a busy machine an answer of the other region can be late.
        await page.go(f"{wanted.path}#token=all")
        await page.drawn()
        for _ in range(ATTEMPTS):
            if await page.page.locator("#regions").is_hidden():
                break
            await asyncio.sleep(INCOMPLETE_S)
            await page.view(wanted.path)
        assert await page.page.locator("#regions").is_hidden()
        await page.page.mouse.move(0, 0)
        picture = Image.open(io.BytesIO(await page.page.screenshot()))
    packed = io.BytesIO()
    picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        packed, "PNG", optimize=True
    )
    assert len(packed.getvalue()) < MAX_BYTES
    return packed.getvalue()


def events(number: int = EVENTS, abroad: str = "") -> Iterator[Event]:
    """Those of the demo that can be read."""
    for sample in SampleEvents(number, NOW, abroad):
        if sample.topic in KINDS and sample.value is not None and sample.key != SPOILT:
            yield {**orjson.loads(sample.value), "type": KINDS[sample.topic]}


def inventory() -> list[dict[str, object]]:
    return [orjson.loads(sample.value) for sample in otp_tokens(NOW) if sample.value is not None]


if __name__ == "__main__":
    asyncio.run(main())
