"""A span per request. Without an OTLP endpoint the application does not have this middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from api.http.request_id import REQUEST_ID
from schemas.telemetry import traces

FLUSH_S: Final = 3.0
PARENT: Final = TraceContextTextMapPropagator()
"""Reads the caller's trace from W3C `traceparent`."""
OTHER: Final = "_OTHER"
"""The name of every unknown method: callers can send any text."""


class Tracing:
    """The middleware, and the tracer that it uses while the application runs."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._tracer = traces.NO_TRACES

    async def lifespan(self, _: web.Application) -> AsyncIterator[None]:
        self._tracer, close = traces.open_traces(self._endpoint, "api")
        yield
        await asyncio.to_thread(close, FLUSH_S)
        self._tracer = traces.NO_TRACES

    @property
    def middleware(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        @web.middleware
        async def traced(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            method = request.method if request.method in hdrs.METH_ALL else OTHER
            # The route, not the path: callers can send any path.
            route = request.match_info.route.resource
            attributes = {"http.request.method": method, "url.scheme": request.scheme}
            name = method
            if route is not None:
                attributes["http.route"] = route.canonical
                name = f"{method} {route.canonical}"
            error: web.HTTPException | None = None
            parent = PARENT.extract(request.headers)
            with self._tracer.start_as_current_span(name, parent, SpanKind.SERVER, attributes) as span:
                try:
                    response = await handler(request)
                except web.HTTPException as error_response:
                    # A normal response, not a failure of the span.
                    response = error = error_response
                span.set_attribute("http.response.status_code", response.status)
                if REQUEST_ID in response.headers:
                    span.set_attribute("authtally.request_id", response.headers[REQUEST_ID])
                if response.status >= 500:
                    span.set_status(StatusCode.ERROR)
            if error is not None:
                raise error
            return response

        return traced
