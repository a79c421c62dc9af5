"""Metrics and health of the worker, on a port of its own."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from aiohttp import hdrs, web
from prometheus_client import REGISTRY

from aggregator import metrics
from schemas.telemetry.exposition import exposition

log = structlog.get_logger(__name__)

COMPONENTS: Final = ("crashed", "startup", "redis", "clock", "kafka", "dead_letters", "group", "stopped")
"""Components that may have a problem: the label of the metric."""
POLL_SILENCE_S: Final = 60.0
"""The worker counts as dead when the poll loop is silent for so long: longer than any rebalance takes."""


@web.middleware
async def _as_problem(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Unknown paths and methods as problem documents (RFC 9457), as in the api."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        document = {"type": "about:blank", "title": error.reason, "status": error.status}
        headers = {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
        return web.json_response(
            document, status=error.status, content_type="application/problem+json", headers=headers
        )


class Health:
    """Serves `/health/live`, `/health/ready`, `/metrics`.

    Alive means that the poll loop runs and nothing has crashed. Problems of Kafka and Redis make the worker unready,
    not dead, because a restart would fix neither.
    """

    def __init__(
        self,
        host: str,
        port: int,
        problems: Callable[[], Mapping[str, list[str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`problems` returns the reasons why the worker is not ready, by component; empty if it is."""
        self._address = (host, port)
        self._problems = problems
        self._clock = clock
        self._polled_at = clock()
        self._runner: web.AppRunner | None = None
        self.crashed: str | None = None
        """The reason of the crash after which the worker is about to end."""

    def record_crash(self, reason: str) -> None:
        """From now on the worker is not alive."""
        self.crashed = reason

    def record_poll(self) -> None:
        """The poll loop has run once more."""
        self._polled_at = self._clock()

    async def start(self) -> None:
        """Listen. Raises OSError if the port is in use."""
        app = web.Application(middlewares=[_as_problem])
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._address).start()
        log.info("metrics and health listen", host=self._address[0], port=self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _live(self, request: web.Request) -> web.Response:
        silent_s = self._clock() - self._polled_at
        alive = silent_s < POLL_SILENCE_S and self.crashed is None
        body = {"alive": alive, "polled_s_ago": round(silent_s, 1)} | (
            {"crashed": self.crashed} if self.crashed else {}
        )
        return web.json_response(body, status=200 if alive else 503)

    async def _ready(self, request: web.Request) -> web.Response:
        problems = [line for lines in self._problems().values() for line in lines]
        return web.json_response({"ready": not problems, "troubles": problems}, status=503 if problems else 200)

    async def _metrics(self, request: web.Request) -> web.Response:
        problems = self._problems()
        for component in COMPONENTS:
            metrics.UNREADY.labels(component).set(component in problems)
        text = exposition(REGISTRY, request.headers.getall(hdrs.ACCEPT, ()), request.query.getall("name[]", ()))
        response = web.Response(body=text.content, headers={hdrs.CONTENT_TYPE: text.content_type})
        response.enable_compression()
        return response
