"""`Expect` (RFC 9110 §10.1.1): 100-continue, or a 417 that repeats nothing.

aiohttp's own repeats what was sent, and where that is no UTF-8 it fails: a 500 and a traceback, for anybody to make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from aiohttp import HttpVersion11, hdrs, web

CONTINUE: Final = "100-continue"


def with_expect_handler(routes: Iterable[web.RouteDef]) -> Iterator[web.RouteDef]:
    """The same routes, with these rules about what may be expected."""
    return (
        web.RouteDef(route.method, route.path, route.handler, {**route.kwargs, "expect_handler": handle_expect})
        for route in routes
    )


async def handle_expect(request: web.Request) -> None:
    refuse_unknown(request)
    if request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # It is no part of the answer: one of ours may still be a refusal.
        request.writer.output_size = 0


def refuse_unknown(request: web.BaseRequest) -> None:
    """Raises HTTPExpectationFailed."""
    if request.headers.get(hdrs.EXPECT, CONTINUE).lower() != CONTINUE:
        raise web.HTTPExpectationFailed


class UnmatchedPaths(web.AbstractResource):
    """Paths that nothing is at, which aiohttp looks for at `/` last. Matches nothing: they stay a 404 or 405."""

    @property
    def canonical(self) -> str:
        return "/"

    async def resolve(self, request: web.Request) -> tuple[None, set[str]]:
        refuse_unknown(request)
        return None, set()

    def raw_match(self, path: str) -> bool:
        return False

    def add_prefix(self, prefix: str) -> None:
        """It stays where it is."""

    def get_info(self) -> Any:
        return {}

    def url_for(self, **kwargs: str) -> Any:
        # It has no name by which anybody could ask.
        raise NotImplementedError

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter(())
