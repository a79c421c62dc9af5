"""A cache entry as an HTTP response with its age, or as 304 Not Modified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from multidict import CIMultiDict

from api.cache.entries import Body, CacheEntry
from api.http.response_headers import BASIC_HEADERS
from api.turns import pause

BODY_HEADERS: Final = (hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH)


def entry_response(entry: CacheEntry, body: Body, now: float) -> web.Response:
    """The response; `now` is by the monotonic clock. Age changes every second, so headers are built once a second."""
    if entry.stale:
        # A stale entry shares its bodies with the entry that it copies, whose headers differ.
        return web.Response(body=_content(body), headers=_headers(entry, body, now))
    # aiohttp copies the headers before it adds its own.
    second = int(now)
    if body.headers_second != second:
        body.headers = _headers(entry, body, now)
        body.headers_second = second
    return web.Response(body=_content(body), headers=body.headers)


class _Pieces(Payload):
    """A large body, sent in turns and as fast as the caller reads."""

    _autoclose = True

    def __init__(self, pieces: Sequence[bytes]) -> None:
        super().__init__(pieces)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for piece in self._value:
            await writer.write(piece)
            await pause()


def _content(body: Body) -> bytes | _Pieces:
    return b"".join(body.pieces) if len(body.pieces) <= 1 else _Pieces(body.pieces)


def not_modified(entry: CacheEntry, body: Body, now: float) -> web.Response:
    """304 with the headers of the 200, except those that describe the body (RFC 9110 §15.4.5)."""
    headers = _headers(entry, body, now)
    for name in BODY_HEADERS:
        del headers[name]
    return web.Response(status=304, headers=headers)


def matches_etag(etag: str, if_none_match: Sequence[str]) -> bool:
    """Whether a request's If-None-Match headers contain the ETag. Weak comparison (RFC 9110 §13.1.2)."""
    # Our ETags contain no comma, so a split at commas finds them even if other tags contain commas.
    tags = (tag.strip() for header in if_none_match for tag in header.split(","))
    return any(tag == "*" or tag.removeprefix("W/") == etag for tag in tags)


def _headers(entry: CacheEntry, body: Body, now: float) -> CIMultiDict[str]:
    headers = CIMultiDict(
        {
            **BASIC_HEADERS,
            hdrs.VARY: hdrs.AUTHORIZATION,
            hdrs.CONTENT_TYPE: body.content_type,
            hdrs.CACHE_CONTROL: f"private, max-age={max(0, int(entry.expires_at - entry.computed_at))}",
            hdrs.CONTENT_LENGTH: str(body.size),
            hdrs.AGE: str(max(0, int(now - entry.made_at))),
            hdrs.ETAG: body.etag,
        }
    )
    if entry.stale:
        # RFC 9211: a negative ttl is the time since the answer expired. No cache may keep the mark: the figures, and so
        # the ETag, are often the same when the ledger is back.
        headers[hdrs.CACHE_CONTROL] = "no-store"
        headers["Cache-Status"] = f"authtally; hit; ttl={int(entry.ends_at - now) - 1}"
    return headers
