"""`Expect` (RFC 9110 §10.1.1): 100-continue, or a 417 without the header's value.

aiohttp's own handler repeats the value, and fails with a 500 and a traceback if it is not UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

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


class UnmatchedPaths(web.AbstractResource):
    """Applies the Expect rule to unknown paths, which aiohttp resolves at `/` last. Matches none: 404 and 405 stay."""

    @property
    def canonical(self) -> str:
        return "/"

    async def resolve(self, request: web.Request) -> tuple[None, set[str]]:
        refuse_unknown(request)
        return None, set()

    def raw_match(self, path: str) -> bool:
        return False

    def add_prefix(self, prefix: str) -> None:
        """Ignored: the resource has no prefix."""

    def get_info(self) -> Any:
        return {}

    def url_for(self, **kwargs: str) -> Any:
        # The resource has no name, so no caller can request its URL.
        raise NotImplementedError

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter(())
