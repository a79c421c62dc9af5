"""`Expect` (RFC 9110 §10.1.1): 100-continue, or a 417 without the header's value.

aiohttp's own handler repeats the value, and fails with a 500 and a traceback if it is not UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

CONTINUE: Final = "100-continue"


def with_expect_handler(routes: Iterable[web.RouteDef]) -> Iterator[web.RouteDef]:
    """The same routes, with `handle_expect` as their handler of Expect."""
    return (
        web.RouteDef(route.method, route.path, route.handler, {**route.kwargs, "expect_handler": handle_expect})
        for route in routes
    )


async def handle_expect(request: web.Request) -> None:
    refuse_unknown(request)
    if request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The interim response is not part of the final one, whose status is still open.
        request.writer.output_size = 0


def refuse_unknown(request: web.BaseRequest) -> None:
    """Raises HTTPExpectationFailed."""
    if request.headers.get(hdrs.EXPECT, CONTINUE).lower() != CONTINUE:
        raise web.HTTPExpectationFailed
