"""A served api, the ledger that it reads, and a clock that only tests move."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
import yarl
from aiohttp import web

from api.app import build_app, build_runner
from api.settings.settings import ApiSettings
from schemas.time.clock import Clock as ProcessClock
from tests.api.issuer import Issuer
from tests.api.ledger_writer import LedgerWriter, open_ledger


class Clock:
    """Starts now, since tokens carry real times, and stands still. Setting `now` lets time pass on both clocks."""

    def __init__(self) -> None:
        self._wall = time.time()
        self._monotonic = 1000.0
        self.handed = ProcessClock(lambda: self._wall, lambda: self._monotonic)
        """What the api is given."""

    @property
    def now(self) -> float:
        return self._wall

    @now.setter
    def now(self, now: float) -> None:
        self._monotonic += max(0.0, now - self._wall)
        self._wall = now

    def step(self, seconds: float) -> None:
        """The wall clock is set to another time, without any passing."""
        self._wall += seconds


class Answer:
    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """A served application. Paths are sent as they are written."""

    def __init__(self, app: web.Application, runner: web.AppRunner, session: aiohttp.ClientSession) -> None:
        self.app = app
        self.runner = runner
        self.url = "http://{}:{}".format(*runner.addresses[0])
        self._session = session

    async def get(self, path: str, token: str | None = None, headers: dict[str, str] | None = None) -> Answer:
        headers = (headers or {}) | ({} if token is None else {"Authorization": f"Bearer {token}"})
        async with self._session.get(yarl.URL(self.url + path, encoded=True), headers=headers) as response:
            return Answer(response, await response.read())

    async def post(self, path: str, form: str, content_type: str = "application/x-www-form-urlencoded") -> Answer:
        headers = {"Content-Type": content_type}
        async with self._session.post(self.url + path, data=form.encode(), headers=headers) as response:
            return Answer(response, await response.read())


Serve = Callable[..., Awaitable[Api]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(redis_url: str) -> LedgerWriter:
    return open_ledger(redis_url)


@pytest.fixture
async def serve(clock: Clock) -> AsyncIterator[Serve]:
    """Starts an api with the given settings, open to anybody unless they say otherwise."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Api:
            usual: dict[str, Any] = {"auth": ("none",), "auth_none_writes": True}
            app = build_app(ApiSettings(**usual | settings), clock.handed)
            runner = build_runner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0), max_line_size=2**16, max_field_size=2**16
                )
            )
            return Api(app, runner, session)

        yield start


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    await issuer.start()
    yield issuer
    await issuer.stop()
