"""Health and metrics of the process, without authentication: for operators' networks."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from aiohttp import hdrs, web

from api.ledger.client import UNREACHABLE, Client
from api.metrics import BUILD, REGISTRY, Hits
from schemas.telemetry.build import version
from schemas.telemetry.exposition import exposition


def routes(ledger: Client, hits: Sequence[Hits]) -> list[web.RouteDef]:
    async def live(_: web.Request) -> web.Response:
        return _json_response(200, {"status": "live"})

    async def ready(_: web.Request) -> web.Response:
        """503 while the ledger is unreachable: the cache still answers, but another process may answer more."""
        try:
            await ledger.ping()
        except UNREACHABLE:
            return _json_response(503, {"status": "not ready", "reason": "the ledger is unreachable"})
        return _json_response(200, {"status": "ready"})

    BUILD.labels(version()).set(1)

    async def metrics(request: web.Request) -> web.Response:
        for each in hits:
            each.settle()
        text = exposition(REGISTRY, request.headers.getall(hdrs.ACCEPT, ()), request.query.getall("name[]", ()))
        response = web.Response(body=text.content, headers={hdrs.CONTENT_TYPE: text.content_type})
        response.enable_compression()
        return response

    return [web.get("/health/live", live), web.get("/health/ready", ready), web.get("/metrics", metrics)]


def _json_response(status: int, body: dict[str, str]) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), content_type="application/json", headers={"Cache-Control": "no-store"}
    )
