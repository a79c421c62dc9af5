"""Today's figures for live streams: computed once per set of realms, and published when they change."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from datetime import datetime
from typing import Final

import msgspec
import structlog

from api.cache.cache import Figures
from api.dialects.own import today
from api.endpoint import Services
from api.http.errors import UnavailableError
from api.http.places import tenant_of
from api.settings.settings import ApiSettings

log = structlog.get_logger(__name__)

MAX_FEEDS: Final = 64
"""Sets of realms with listeners at the same time: each costs one read per interval."""
MAX_PAUSE_S: Final = 30.0
"""The longest backoff while the figures cannot be read."""

Realms = frozenset[str] | None


class TooManyListenersError(UnavailableError):
    """This process already serves as many streams, or as many sets of realms, as it may."""

    def __init__(self) -> None:
        super().__init__("This process already serves the maximum number of live streams.")


def sse_event(name: str, data: bytes) -> bytes:
    """A server-sent event (HTML Living Standard §9.2.6). `data` is one line."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


class Feed:
    """The latest event for bearers of the same realms.

    `version` increases with every change of `latest`, which is empty before the first event.
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
        # An own context: its log lines must not carry the first listener's request id.
        self._task = asyncio.create_task(self._run(), context=Context())

    async def wait_for_change(self, timeout_s: float) -> None:
        """Returns at the next change, or after the timeout."""
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
            # With jitter: many api processes must not read at the same moment when the store comes back.
            wait_s = min(self._interval_s * 2**failed, max(MAX_PAUSE_S, self._interval_s))
            await asyncio.sleep(wait_s * random.uniform(0.5, 1) if failed else wait_s)  # noqa: S311

    def _publish(self, message: bytes) -> None:
        if message != self.latest:
            self.latest = message
            self.version += 1
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def _read(self) -> bytes | None:
        """The figures; None while they cannot be read or are stale."""
        try:
            # Through the cache: it applies the deadline and has recent results of other processes.
            entry = await self._services.cache.get(
                self._key, self._interval_s / 2, self._compute, today.Live, tenant_of(self._realms)
            )
        except UnavailableError:
            return None
        except Exception:  # the outermost step: listeners get the event `unavailable`
            log.exception("live figures failed")
            return None
        return None if entry.stale else msgspec.json.encode(entry.figures(today.Live))

    async def _compute(self) -> Figures:
        day = datetime.fromtimestamp(self._services.clock.now(), self._zone).date()
        return Figures(await today.read(self._services.statistics, self._realms, day, self._zone))


class Feeds:
    """The feeds that have listeners."""

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
        """Stops all feeds."""
        await asyncio.gather(*(feed.stop() for feed in self._feeds.values()), *self._stopping)
