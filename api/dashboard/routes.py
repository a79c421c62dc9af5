"""`/` and its files. They are open to all and contain no figures: those need a bearer token."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from string import Template
from typing import Final

from aiohttp import hdrs, web

from api.cache.responses import matches_etag
from api.dashboard import assets
from api.dashboard.assets import CHARTS, PAGE, Asset
from api.dashboard.configuration import connect_origins
from api.http.errors import NotFoundError
from api.http.problem import render_problem
from api.settings.settings import ApiSettings

FOLDER: Final = "/dashboard"
IMMUTABLE: Final = "public, max-age=31536000, immutable"
"""For paths with the content's digest: their content never changes."""
REVALIDATE: Final = "no-cache"
PIECE_BYTES: Final = 65_536
"""The size of the server's write buffer per connection."""


class Dashboard:
    """The page and its files, read and compressed at the first request."""

    def __init__(self, settings: ApiSettings) -> None:
        self._headers = {
            "Content-Security-Policy": policy(connect_origins(settings)),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
        }
        self._page: Asset | None = None
        self._read_lock = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/", self.page), web.get(FOLDER + "/{digest:[0-9a-f]{16}}/{name}", self.file)]

    async def page(self, request: web.Request) -> web.StreamResponse:
        await self._read()
        assert self._page is not None
        return await self._respond(request, self._page, REVALIDATE)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Serves any digest: during an upgrade one process may serve the page and another its files."""
        await self._read()
        name, digest = request.match_info["name"], request.match_info["digest"]
        library = assets.library()
        if name == CHARTS and library is not None:
            return await self._respond(
                request, library.asset, IMMUTABLE if digest == library.asset.digest else REVALIDATE
            )
        asset = assets.packed_assets().get(name)
        if asset is None:
            body = render_problem(NotFoundError(), {"type": "about:blank"})
            headers = self._headers | {hdrs.CONTENT_TYPE: body.content_type, hdrs.CACHE_CONTROL: "no-store"}
            return web.Response(status=body.status, body=body.content, headers=headers)
        return await self._respond(request, asset, IMMUTABLE if digest == own_digest() else REVALIDATE)

    async def _read(self) -> None:
        if self._page is None:
            async with self._read_lock:
                self._page = await asyncio.to_thread(rendered)

    async def _respond(self, request: web.Request, asset: Asset, cache_control: str) -> web.StreamResponse:
        etag = f'"{asset.digest}"'
        headers = {**self._headers, hdrs.CACHE_CONTROL: cache_control, hdrs.ETAG: f"W/{etag}"}
        if matches_etag(etag, request.headers.getall(hdrs.IF_NONE_MATCH, ())):
            return web.Response(status=304, headers=headers)
        headers[hdrs.CONTENT_TYPE] = asset.content_type
        if accepts_gzip(request.headers):
            return await _send(request, asset.packed, headers | {hdrs.CONTENT_ENCODING: "gzip"})
        return await _send(request, asset.content, headers)


async def _send(request: web.Request, content: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """Sends in pieces: a client that requests the chart library and does not read it must not fill the memory."""
    if len(content) <= PIECE_BYTES or request.method == hdrs.METH_HEAD:
        return web.Response(body=content, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = len(content)
    await response.prepare(request)
    pieces = memoryview(content)
    for start in range(0, len(content), PIECE_BYTES):
        await response.write(pieces[start : start + PIECE_BYTES])
    await response.write_eof()
    return response


def rendered() -> Asset:
    """The page with the paths of its files filled in."""
    library = assets.library()
    substitutions = {
        "base": f"{FOLDER}/{own_digest()}",
        "charts": "" if library is None else f"{FOLDER}/{library.asset.digest}/{CHARTS}",
        "style_ids": "" if library is None else " ".join(library.style_ids),
    }
    assets.packed_assets()
    return Asset.of(PAGE, Template(assets.own_files()[PAGE].decode()).substitute(substitutions).encode())


def own_digest() -> str:
    """One digest for all of the page's own files: modules import each other by relative paths without it."""
    return assets.digest(part for name, content in assets.own_files().items() for part in (name.encode(), content))


def policy(origins: tuple[str, ...]) -> str:
    """Content-Security-Policy: own files only, no inline code, no `eval`; requests to this origin and `origins`."""
    allowed = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": " ".join(("'self'", *origins)),
        # The download of charts as pictures uses both.
        "img-src": "'self' data: blob:",
        "font-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """The part of RFC 9110 §12.5.3 that browsers and curl use: gzip is named with a weight other than 0."""
    for item in headers.get(hdrs.ACCEPT_ENCODING, "").lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
