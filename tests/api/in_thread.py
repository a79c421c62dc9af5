"""An api in a thread of its own, for tests that block while they ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from aiohttp import web

from api.app import build_app, build_runner
from api.settings.settings import ApiSettings
from schemas.time.clock import Clock


@contextmanager
def served(settings: ApiSettings, clock: Clock) -> Iterator[tuple[str, int]]:
    """Where it listens until the block ends."""
    started, found, loop = Event(), list[tuple[str, int]](), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        runner = build_runner(build_app(settings, clock))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.append((runner.addresses[0][0], runner.addresses[0][1]))
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(20)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
