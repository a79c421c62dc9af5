"""The HTTP boundary of all surfaces: request id, metrics, and errors in the surface's own shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import ceil
from typing import Final

import structlog
from aiohttp import hdrs, web

from api.http.errors import ApiError, ErrorBody, InternalError, MethodNotAllowedError
from api.http.request_id import REQUEST_ID, bind_request_id, request_id_of
from api.ledger.cooldown import RETRY_S
from api.metrics import Requests

log = structlog.get_logger(__name__)

CHALLENGE: Final = 'Bearer realm="authtally"'

Headers = dict[str, str]
"""Headers of the response, whether it is an answer or an error."""


class Boundary:
    """The outermost step of every measured route: request id, metrics, and errors in the surface's own shape.

    Deadlines are not here: a computation has the cache's, so that callers who wait for the same one share it.
    """

    def __init__(self, surface: str, **log_fields: str) -> None:
        """`surface` is the metrics' label `dialect`; `log_fields` stand in the log line of a defect."""
        self._surface = surface
        self._log_fields = log_fields
        self._requests = Requests(surface)

    async def serve(
        self,
        request: web.Request,
        handler: Callable[[Headers], Awaitable[web.StreamResponse]],
        render_error: Callable[[ApiError], ErrorBody],
    ) -> web.StreamResponse:
        """The handler's response, or the rendered error. `handler` may add to the headers that it is given."""
        began, status = self._requests.begin(), 500
        request_id = request_id_of(request.headers)
        headers: Headers = {REQUEST_ID: request_id}
        response: web.StreamResponse
        try:
            with bind_request_id(request_id):
                try:
                    response = await handler(headers)
                except ApiError as error:
                    response = _error_response(render_error(error), error)
                except Exception:  # the outermost step: a defect is logged, and the client sees none of it
                    log.exception("request failed", dialect=self._surface, **self._log_fields)
                    defect = InternalError()
                    response = _error_response(render_error(defect), defect)
            if not response.prepared:
                response.headers.update(headers)
            status = response.status
            return response
        finally:
            self._requests.end(began, route_name(request), status)


def _error_response(body: ErrorBody, error: ApiError) -> web.Response:
    headers: dict[str, str] = {hdrs.CONTENT_TYPE: body.content_type, hdrs.CACHE_CONTROL: "no-store"}
    headers |= error_headers(error, body.status) if body.headers is None else body.headers
    return web.Response(status=body.status, body=body.content, headers=headers)


def error_headers(error: ApiError, status: int, unavailable_s: float = RETRY_S) -> dict[str, str]:
    """The headers that a status requires. `unavailable_s` is the Retry-After of a 503 that names no time itself."""
    headers: dict[str, str] = {}
    wait_s = unavailable_s if error.wait_s is None and status == 503 else error.wait_s
    if wait_s is not None:
        headers[hdrs.RETRY_AFTER] = str(max(1, ceil(wait_s)))
    if isinstance(error, MethodNotAllowedError):
        headers[hdrs.ALLOW] = ", ".join(error.methods)
    if status == 401:
        headers[hdrs.WWW_AUTHENTICATE] = CHALLENGE
    return headers


def route_name(request: web.Request) -> str:
    """The path as it was registered, with its placeholders."""
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical
