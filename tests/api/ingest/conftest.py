"""An api that takes events, on the embedded broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from tests.api.conftest import Serve
from tests.api.ingest.sending import EVENTS, MakeSite, Sender, Site
from tests.conftest import CreateTopic


@pytest.fixture
async def make_site(serve: Serve, redis_url: str, broker: str, create_topic: CreateTopic) -> AsyncIterator[MakeSite]:
    """Makes a site with topics of its own for the events of `bound`, on another broker where `bootstrap` names one."""
    async with AsyncExitStack() as stack:

        async def make(bootstrap: str = broker, **settings: Any) -> Site:
            topics = {create_topic(bootstrap, 3, event): event for event in settings.pop("bound", EVENTS)}
            kafka = {"kafka_bootstrap_servers": bootstrap, "kafka_idempotence": False, "topics": topics}
            # The events of the tests have fixed dates.
            fixed = {"redis_url": redis_url, "ingest": True, "ingest_max_age_days": 36_500}
            api = await serve(**fixed | kafka | settings)
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Site(Sender(api.url, session), bootstrap, topics)

        yield make


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site()
