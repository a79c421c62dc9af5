"""Cached answers by request, found before routing: aiohttp's router, signals and route would double their time.

Each is of a question that was parsed and authenticated before, with the same path, query, Authorization and Accept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from aiohttp import hdrs, web
from aiohttp.web_request import BaseRequest

from api.cache.cache import Cache
from api.cache.entries import Body
from api.cache.responses import entry_response, matches_etag, not_modified
from api.http.request_id import REQUEST_ID, request_id_of
from api.metrics import CACHE_ANSWERS, REQUESTS, Hits

MAX_REQUESTS: Final = 4096
"""Requests known at a time; then all are forgotten, which costs each its next routing."""

_RequestKey = tuple[str, str | None, str | None]
"""Path with query, Authorization, Accept."""


class ReadyAnswer(NamedTuple):
    """Where the answer to a request lies in the cache. It holds no answer itself."""

    key: str
    form: str
    until: float
    """The end of the token's verification, by the monotonic clock."""
    hits: Hits
    vary: str | None
    """The Vary header, if it names more than Authorization."""


class ReadyAnswers:
    def __init__(self, cache: Cache, monotonic: Callable[[], float]) -> None:
        self._cache = cache
        self._monotonic = monotonic
        self._known: dict[_RequestKey, ReadyAnswer] = {}

    def add(self, request: BaseRequest, answer: ReadyAnswer) -> None:
        """The request's answer was `answer`. A request with several Accept lines has no key."""
        if len(request.headers.getall(hdrs.ACCEPT, ())) > 1:
            return
        if len(self._known) >= MAX_REQUESTS:
            self._known.clear()
        self._known[_key(request)] = answer

    def find(self, request: BaseRequest) -> web.Response | None:
        """The response to a GET, if its figures have not expired and its token is still verified."""
        known = self._known.get(_key(request))
        if known is None or request.method != hdrs.METH_GET:
            return None
        now = self._monotonic()
        entry = self._cache.fresh(known.key, now)
        body = None if entry is None else entry.bodies.get(known.form)
        headers = request.headers
        if entry is None or body is None or now >= known.until or hdrs.EXPECT in headers:
            return None
        if hdrs.ACCEPT in headers and len(headers.getall(hdrs.ACCEPT)) > 1:
            return None
        if hdrs.IF_NONE_MATCH in headers and is_current(request, body):
            CACHE_ANSWERS.labels("hit").inc()
            REQUESTS.labels(known.hits.dialect, "3xx").inc()
            response = not_modified(entry, body, now)
        else:
            known.hits.count += 1
            response = entry_response(entry, body, now)
        if known.vary is not None:
            response.headers[hdrs.VARY] = known.vary
        # Only a request id that the caller sent: nothing is logged here that a new id could refer to.
        if REQUEST_ID in headers:
            response.headers[REQUEST_ID] = request_id_of(headers)
        return response


def is_current(request: BaseRequest, body: Body) -> bool:
    """Whether If-None-Match says that the caller has this body."""
    return matches_etag(body.etag, request.headers.getall(hdrs.IF_NONE_MATCH, ()))


def _key(request: BaseRequest) -> _RequestKey:
    headers = request.headers
    return request.raw_path, headers.get(hdrs.AUTHORIZATION), headers.get(hdrs.ACCEPT)
