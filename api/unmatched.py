"""Requests that match no route: 404 for an unknown path, 405 for another method, in the shape of the path's surface.

aiohttp would answer both in plain text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import UrlMappingMatchInfo

from api.boundary import Boundary, Headers
from api.http.cors import Cors
from api.http.errors import ApiError, ErrorBody, MethodNotAllowedError, NotFoundError
from api.http.expect import handle_expect

SURFACE: Final = "unmatched"
"""The metrics' label `dialect`: scanners must not appear in the figures of a surface."""


class Surface(NamedTuple):
    """The paths below each prefix, and their errors. The prefix "" matches what no other does."""

    prefixes: Sequence[str]
    render_error: Callable[[ApiError], ErrorBody]

    def covers(self, path: str) -> bool:
        # `OPTIONS *` and CONNECT have targets without a slash.
        return any(not prefix or path == prefix or path.startswith(f"{prefix}/") for prefix in self.prefixes)


class UnmatchedPaths(web.AbstractResource):
    """Matches every path. aiohttp resolves `/` last, and resources in the order of their registration."""

    def __init__(self, router: web.UrlDispatcher, surfaces: Iterable[Surface], cors: Cors | None) -> None:
        super().__init__()
        self._router = router
        # The surface with the prefix "" comes last.
        self._surfaces = sorted(surfaces, key=lambda surface: "" in surface.prefixes)
        self._cors = cors
        self._boundary = Boundary(SURFACE)
        self._route = _UnmatchedRoute(self._answer)

    async def resolve(self, request: web.Request) -> tuple[UrlMappingMatchInfo, set[str]]:
        return UrlMappingMatchInfo({}, self._route), set()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        surface = next(each for each in self._surfaces if each.covers(request.path))

        async def refuse(_: Headers) -> web.Response:
            methods = await self._methods(request)
            if not methods:
                raise NotFoundError
            if self._cors is not None and self._cors.is_preflight(request):
                return self._cors.preflight(methods)
            raise MethodNotAllowedError(methods)

        return await self._boundary.serve(request, refuse, surface.render_error)

    async def _methods(self, request: web.Request) -> list[str]:
        """The methods that the request's path has."""
        found = set[str]()
        for resource in self._router.resources():
            if resource is not self:
                _, methods = await resource.resolve(request)
                found |= methods
        return sorted(found)

    @property
    def canonical(self) -> str:
        return "/"

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


class _UnmatchedRoute(web.AbstractRoute):
    """A route without a resource: metrics and traces must not contain paths from outside."""

    def __init__(self, handler: Callable[[web.Request], Any]) -> None:
        super().__init__(hdrs.METH_ANY, handler, expect_handler=handle_expect)

    @property
    def name(self) -> None:
        return None

    def get_info(self) -> Any:
        return {}

    def url_for(self, *args: str, **kwargs: str) -> Any:
        raise NotImplementedError
