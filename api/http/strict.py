"""The server's first steps, before routing. One refuses requests that intermediaries may read differently.

Its answers never repeat what was sent: aiohttp's own contain the header that it could not parse.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.web_request import BaseRequest

from api.http.response_headers import BASIC_HEADERS

NOT_HTTP: Final = "The request is not valid HTTP."

Step = Callable[[BaseRequest], web.Response | None]
"""Returns the response of a request, a refusal or a ready answer; None to go on."""
Handler = Callable[[BaseRequest], Awaitable[web.StreamResponse]]


def refusal(status: int, text: str) -> web.Response:
    """A refusal, after which the connection is closed: the rest of a malformed request may look like another one."""
    headers = {**BASIC_HEADERS, hdrs.CACHE_CONTROL: "no-store"}
    response = web.Response(status=status, text=text + "\n", headers=headers)
    response.force_close()
    return response


def refuse_ambiguous(request: BaseRequest) -> web.Response | None:
    """Two credentials, of which a proxy may have checked the other; and a coding that HTTP/1.0 does not have.

    RFC 9110 §5.3 allows several lines only for headers that are lists; RFC 9112 §6.1 calls the latter faulty framing.
    """
    headers = request.headers
    if hdrs.AUTHORIZATION in headers and len(headers.getall(hdrs.AUTHORIZATION)) > 1:
        return refusal(400, "The request has more than one Authorization header.")
    if hdrs.TRANSFER_ENCODING in headers and request.version < HttpVersion11:
        return refusal(400, "HTTP/1.0 has no Transfer-Encoding.")
    return None


class StrictRunner(web.AppRunner):
    """Serves an application what none of `steps` answers."""

    def __init__(self, app: web.Application, steps: Sequence[Step], **options: Any) -> None:
        super().__init__(app, **options)
        self._steps = (refuse_ambiguous, *steps)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        handler = _after(self._steps, made.request_handler)
        return _Server(
            handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )


def _after(steps: Sequence[Step], handler: Handler) -> Handler:
    # No coroutine of its own, which would cost each cached answer one hundredth of its time.
    def handle(request: BaseRequest) -> Awaitable[web.StreamResponse]:
        for step in steps:
            response = step(request)
            if response is not None:
                return _send(response)
        return handler(request)

    return handle


async def _send(response: web.Response) -> web.StreamResponse:
    return response


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        # Called for its log line and its check of the connection.
        super().handle_error(request, status, exc, None if status >= 500 else NOT_HTTP)
        return refusal(status, "An unexpected error occurred in the server." if status >= 500 else NOT_HTTP)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)
