"""A kept answer as an HTTP response, with its age."""

from __future__ import annotations

from aiohttp import hdrs, web
from multidict import CIMultiDict

from api.cache import Entry


def answered(entry: Entry, now: float) -> web.Response:
    """The response. Its headers change with Age, once a second, so they are built once a second."""
    # aiohttp copies them before it adds its own.
    second = int(now)
    if entry.headers_of != second:
        entry.headers = _headers(entry, now)
        entry.headers_of = second
    return web.Response(body=entry.content, headers=entry.headers)


def _headers(entry: Entry, now: float) -> CIMultiDict[str]:
    headers = CIMultiDict(
        {
            hdrs.CONTENT_TYPE: entry.content_type,
            hdrs.CACHE_CONTROL: f"private, max-age={max(0, int(entry.expires - entry.computed))}",
            hdrs.CONTENT_LENGTH: str(len(entry.content)),
            hdrs.AGE: str(max(0, int(now - entry.computed))),
        }
    )
    if entry.stale:
        # RFC 9211: a negative ttl is how long ago the answer stopped being fresh.
        headers["Cache-Status"] = f"authtally; hit; ttl={int(entry.expires - now) - 1}"
    return headers
