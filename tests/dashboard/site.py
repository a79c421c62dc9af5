"""The api behind the page, in this process: on a port that stays the same when it goes and comes back."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, Self

import aiohttp
import orjson
from aiohttp import web

from api.app import build_app, build_runner
from api.settings.settings import ApiSettings
from deploy.demo.servers import free_port
from deploy.demo.servers.process import HOST
from schemas.settings import read
from schemas.time.clock import Clock
from tests.dashboard.sample import KEPT, NOW


class Site:
    """Open to anybody unless the settings say otherwise. Its clock stands still at `now`, or `ticks` from
    there on; or it goes `ahead` of the real one, since tokens carry real times.
    """

    def __init__(
        self, redis_url: str, *, now: datetime = NOW, ticks: bool = False, ahead_s: float | None = None, **settings: Any
    ) -> None:
        self._settings = {"redis_url": redis_url, "auth": ("none",), "live_interval_s": 0.2}
        self._settings |= KEPT | settings
        self.redis_url = redis_url
        self.ahead_s = ahead_s
        self._now = now.timestamp()
        self._began = time.time() if ticks else None
        self.port = free_port()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self) -> Self:
        app = build_app(
            read(ApiSettings, _env_file=None, **self._settings),
            # The api retries only if this clock runs.
            Clock(now=self._clock, monotonic=self._clock if self.ahead_s is not None else time.monotonic),
        )
        self._runner = build_runner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port, reuse_address=True).start()
        return self

    def _clock(self) -> float:
        if self.ahead_s is not None:
            return time.time() + self.ahead_s
        return self._now + (0 if self._began is None else time.time() - self._began)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def get(self, path: str, token: str | None = None) -> Any:
        """What the API itself answers."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as session, session.get(self.url + path, headers=headers) as response:
            body = await response.read()
            assert response.status == 200, body
            return orjson.loads(body)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
