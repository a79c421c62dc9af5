"""Cross-origin requests of browsers (the Fetch standard's CORS protocol), for the origins of CORS_ORIGINS.

Answers never allow credentials: a bearer token is a header of its own, and a cookie must not work from other origins.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from aiohttp import hdrs, web

ANY: Final = "*"
REQUEST_HEADERS: Final = "Authorization, Content-Encoding, Content-Type, If-None-Match, traceparent, X-Request-Id"
RESPONSE_HEADERS: Final = (
    "Age, Cache-Status, ETag, Retry-After, X-Request-Id, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset"
)
"""Response headers that a page may read, in addition to those that browsers always show."""
PREFLIGHT_S: Final = 600
"""The time for which a browser keeps a preflight's answer, and so a method or origin that was removed since."""


class Cors:
    """The allowed origins; `*` alone is all of them."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """To every response, errors included: a page could not read the error of a request otherwise."""
        headers = response.headers
        if ANY in self._origins:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = ANY
        else:
            vary = headers.get(hdrs.VARY)
            headers[hdrs.VARY] = hdrs.ORIGIN if vary is None else f"{vary}, {hdrs.ORIGIN}"
            origin = request.headers.get(hdrs.ORIGIN)
            if origin not in self._origins or origin is None:
                return
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = RESPONSE_HEADERS

    def is_preflight(self, request: web.Request) -> bool:
        return (
            request.method == hdrs.METH_OPTIONS
            and hdrs.ORIGIN in request.headers
            and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        )

    def preflight(self, methods: Sequence[str]) -> web.Response:
        """`add_headers` adds the origin, if it is allowed; without it the browser does not send the request."""
        headers = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: ", ".join(methods),
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: REQUEST_HEADERS,
            hdrs.ACCESS_CONTROL_MAX_AGE: str(PREFLIGHT_S),
        }
        return web.Response(status=204, headers=headers)
