"""Today's figures for whoever listens: computed once for all that may see the same, and told anew when they change."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from datetime import datetime
from typing import Final

import orjson
import structlog

from api.cache.cache import ResponseBody
from api.dialects.own import today
from api.dialects.own.rendering import JSON
from api.endpoint import Services
from api.http.errors import UnavailableError
from api.settings.settings import ApiSettings

log = structlog.get_logger(__name__)

MAX_FEEDS: Final = 64
"""Sets of realms that are followed at the same time: each is read anew in every interval."""
MAX_PAUSE_S: Final = 30.0
"""Between two tries while the figures cannot be read."""

Realms = frozenset[str] | None


class TooManyListenersError(UnavailableError):
    """This process already serves as many streams, or as many sets of realms, as it may."""

    def __init__(self) -> None:
        super().__init__("This process already serves the maximum number of live streams.")


def sse_event(name: str, data: bytes) -> bytes:
    """As the stream has it (HTML Living Standard §9.2.6). `data` is one line."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


class Feed:
    """What bearers of the same realms are told.

    `version` changes with `message`, which is empty before the first time.
    """

    def __init__(self, realms: Realms, settings: ApiSettings, services: Services) -> None:
        self.latest = b""
        self.version = 0
        self.listeners = 0
        self._realms = realms
        self._zone = settings.zone
        self._interval_s = settings.live_interval_s
        self._services = services
        self._key = f"live {settings.timezone} {settings.exact_up_to} {'*' if realms is None else sorted(realms)}"
        self._changed = asyncio.Event()
        # In a context of its own: what it logs belongs to no request, not even to the first listener's.
        self._task = asyncio.create_task(self._run(), context=Context())

    async def wait_for_change(self, timeout_s: float) -> None:
        """Returns when something else is told, or when patience ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failed = 0
        while True:
            figures = await self._read()
            failed = 0 if figures is not None else failed + 1
            self._publish(sse_event(today.UNAVAILABLE, b"{}") if figures is None else sse_event(today.EVENT, figures))
            # Apart from each other, so that many api processes do not meet a store that comes back all at once.
            wait_s = min(self._interval_s * 2**failed, max(MAX_PAUSE_S, self._interval_s))
            await asyncio.sleep(wait_s * random.uniform(0.5, 1) if failed else wait_s)  # noqa: S311

    def _publish(self, message: bytes) -> None:
        if message != self.latest:
            self.latest = message
            self.version += 1
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def _read(self) -> bytes | None:
        """None while there are none of now."""
        try:
            # By way of the cache: it has the deadline, and what other processes have read a moment ago.
            entry = await self._services.cache.get(self._key, self._interval_s / 2, self._compute)
        except UnavailableError:
            return None
        except Exception:  # the outermost step: the listeners are told that there are none
            log.exception("live figures failed")
            return None
        return None if entry.stale else entry.content

    async def _compute(self) -> ResponseBody:
        day = datetime.fromtimestamp(self._services.clock.now(), self._zone).date()
        return ResponseBody(
            orjson.dumps(await today.read(self._services.statistics, self._realms, day, self._zone)), JSON
        )


class Feeds:
    """The feeds that somebody listens to."""

    def __init__(self, settings: ApiSettings, services: Services) -> None:
        self._settings = settings
        self._services = services
        self._feeds: dict[Realms, Feed] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    @contextmanager
    def subscribe(self, realms: Realms) -> Iterator[Feed]:
        """The feed of these realms; it ends with its last listener. Raises TooManyListenersError."""
        feed = self._feeds.get(realms)
        if feed is None:
            if len(self._feeds) >= MAX_FEEDS:
                raise TooManyListenersError
            feed = self._feeds[realms] = Feed(realms, self._settings, self._services)
        feed.listeners += 1
        try:
            yield feed
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                del self._feeds[realms]
                stopping = asyncio.create_task(feed.stop())
                self._stopping.add(stopping)
                stopping.add_done_callback(self._stopping.discard)

    async def close(self) -> None:
        """Ends what is under way."""
        await asyncio.gather(*(feed.stop() for feed in self._feeds.values()), *self._stopping)
