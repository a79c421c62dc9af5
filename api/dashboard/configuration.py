"""`/dashboard/config.json`: the configuration that the page needs before sign-in. Open to all, so it has no more."""

from __future__ import annotations

from typing import Any, Final

import orjson
from aiohttp import hdrs, web

from api.settings.origin import origin_of
from api.settings.settings import ApiSettings
from schemas.events import EVENTS
from schemas.outgoing import topics_by_event

PATH: Final = "/dashboard/config.json"


def routes(settings: ApiSettings) -> list[web.RouteDef]:
    content = orjson.dumps(config_document(settings))

    async def answer(_: web.Request) -> web.Response:
        headers = {
            hdrs.CONTENT_TYPE: "application/json",
            # A changed setting applies at the next load of the page.
            hdrs.CACHE_CONTROL: "no-cache",
            "X-Content-Type-Options": "nosniff",
        }
        return web.Response(body=content, headers=headers)

    return [web.get(PATH, answer)]


def config_document(settings: ApiSettings) -> dict[str, Any]:
    topics = topics_by_event(settings.topics)
    return {
        "auth": list(settings.auth),
        "sign_in": "none" not in settings.auth,
        "openid": _openid(settings) if settings.dashboard_client_id else None,
        "timezone": settings.timezone,
        "region": settings.region,
        "users_by": list(settings.users_by),
        "counts_by": list(settings.counts_by),
        "ingest": settings.ingest,
        "kafka_topics": {name: topics[event] for name, event in EVENTS.items() if event in topics},
    }


def _openid(settings: ApiSettings) -> dict[str, Any]:
    """Not secret: all of it appears in the browser's address bar during sign-in."""
    return {
        "issuer": settings.auth_issuer,
        "client_id": settings.dashboard_client_id,
        "scope": settings.dashboard_scope,
        "audience": next(iter(settings.auth_audience), None),
        "origins": list(connect_origins(settings)),
    }


def connect_origins(settings: ApiSettings) -> tuple[str, ...]:
    """The other origins that the page may send requests to: those of the OpenID issuer."""
    if not settings.dashboard_client_id:
        return ()
    return tuple(dict.fromkeys((origin_of(settings.auth_issuer), *settings.dashboard_connect_origins)))
