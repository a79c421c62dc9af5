"""`/v1/live`: today's figures as server-sent events, until the listener's token expires."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from aiohttp import hdrs, web

from api.auth.principal import Principal
from api.boundary import Boundary, Headers, error_headers
from api.dashboard.feeds import Feed, Feeds, TooManyListenersError
from api.dialects.own import READ, rendering
from api.dialects.own.parameters import Parameters
from api.dialects.own.today import PATH
from api.endpoint import Services, parse_parameters, read_query
from api.http.client_address import caller_of
from api.http.errors import ApiError, ErrorBody, TooManyRequestsError
from api.http.request_id import REQUEST_ID, bind_request_id
from api.metrics import LIVE_LISTENERS
from api.settings.settings import ApiSettings

HEARTBEAT_S: Final = 15.0
"""Silence after which a comment is sent: proxies close connections that are idle for a minute."""
CHECK_INTERVAL_S: Final = 1.0
"""Between two checks that the listener is still connected."""
WRITE_TIMEOUT_S: Final = 10.0
"""The time in which a listener must accept an event."""
RETRY_AFTER_S: Final = 5

HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    # Otherwise nginx delays events until they fill a buffer.
    "X-Accel-Buffering": "no",
}
COMMENT: Final = b":\n\n"


class Live:
    """The streams, up to `live_listeners` at a time. Each ends with its bearer's token, and all with the api."""

    def __init__(self, settings: ApiSettings, services: Services) -> None:
        self._access = services.access
        self._statistics = services.statistics
        self._clock = services.clock.monotonic
        self._feeds = Feeds(settings, services)
        self._max_listeners = settings.live_listeners
        self._boundary = Boundary("own")
        self._max_of_one = settings.live_listeners_per_subject
        self._streams: set[Stream] = set()
        self._streams_of: Counter[tuple[str, ...]] = Counter()
        """Streams by the owner of their tokens: no tenant can take all places."""
        self._closed = False

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self.follow)]

    async def close(self, _: web.Application) -> None:
        """Ends every stream: the server waits for them before it stops."""
        self._closed = True
        for stream in self._streams:
            stream.end()
        await self._feeds.close()

    async def follow(self, request: web.Request) -> web.StreamResponse:
        with ExitStack() as stack:
            following: tuple[Stream, Coroutine[Any, Any, None]] | None = None

            async def accept(headers: Headers) -> web.StreamResponse:
                nonlocal following
                principal, expires_at = await self._authenticate(request)
                if request.method == hdrs.METH_HEAD:
                    return web.Response(headers=HEADERS)
                stack.enter_context(self._counted(self._owner(principal, request)))
                feed = stack.enter_context(self._feeds.subscribe(principal.realms))
                stream = stack.enter_context(self._registered(Stream(request, headers)))
                following = stream, self._stream(stream, feed, principal, expires_at)
                return stream.response

            # Measured up to the stream's beginning: its length says nothing about the api.
            response = await self._boundary.serve(request, accept, render_error)
            if following is not None:
                stream, writer = following
                with bind_request_id(stream.request_id):
                    await stream.run(writer)
            return response

    @contextmanager
    def _registered(self, stream: Stream) -> Iterator[Stream]:
        self._streams.add(stream)
        LIVE_LISTENERS.inc()
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            LIVE_LISTENERS.dec()

    def _owner(self, principal: Principal, request: web.Request) -> tuple[str, ...]:
        # With AUTH=none all callers are one subject, so the address decides.
        return (caller_of(request),) if self._access.open else principal.owner

    @contextmanager
    def _counted(self, owner: tuple[str, ...]) -> Iterator[None]:
        """Raises TooManyRequestsError."""
        if self._streams_of[owner] >= self._max_of_one:
            raise TooManyRequestsError(RETRY_AFTER_S)
        self._streams_of[owner] += 1
        try:
            yield
        finally:
            self._streams_of[owner] -= 1
            if not self._streams_of[owner]:
                del self._streams_of[owner]

    async def _authenticate(self, request: web.Request) -> tuple[Principal, float]:
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        principal, expires_at = await self._access.authenticate(authorization, READ, request.remote)
        Parameters(parse_parameters(read_query(request)), ())
        self._statistics.scopes_of(principal.realms)
        if self._closed or len(self._streams) >= self._max_listeners:
            raise TooManyListenersError
        return principal, expires_at

    async def _stream(self, stream: Stream, feed: Feed, principal: Principal, expires_at: float) -> None:
        """Returns when the listener disconnects or its token no longer allows the stream."""
        seen = 0
        while not stream.disconnected:
            if self._clock() >= expires_at:
                try:
                    again, expires_at = await self._access.authenticate(stream.authorization, READ, stream.address)
                except ApiError:
                    return
                if again.realms != principal.realms:
                    return
            if feed.version != seen:
                seen = feed.version
                await stream.send(feed.latest)
            elif stream.idle_s >= HEARTBEAT_S:
                await stream.send(COMMENT)
            await feed.wait_for_change(CHECK_INTERVAL_S)


class Stream:
    """One listener's connection."""

    def __init__(self, request: web.Request, headers: Headers) -> None:
        self.request_id = headers[REQUEST_ID]
        self.response = web.StreamResponse(headers={**HEADERS, **headers})
        self.authorization = request.headers.get(hdrs.AUTHORIZATION)
        self.address = request.remote
        self._request = request
        self._ending = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._sent = self._loop.time()
        self._sending = False

    @property
    def idle_s(self) -> float:
        return self._loop.time() - self._sent

    @property
    def disconnected(self) -> bool:
        """Whether the listener has closed the connection."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    async def run(self, writer: Coroutine[Any, Any, None]) -> None:
        """Opens the stream and runs `writer`, until it returns or `end` is called."""
        try:
            async with self._ending:
                await self.response.prepare(self._request)
                await writer
        except TimeoutError:
            # Abort if the listener does not read: closing would wait for its unsent bytes.
            if self._sending and self._request.transport is not None:
                self._request.transport.abort()
        except ConnectionError:
            # The listener disconnected.
            pass
        finally:
            writer.close()

    async def send(self, content: bytes) -> None:
        """Raises TimeoutError if the listener does not read in time, ConnectionError if it is gone."""
        self._sending = True
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self.response.write(content)
        self._sending = False
        self._sent = self._loop.time()

    def end(self) -> None:
        """Ends the stream now. Safe to call at any time, and more than once."""
        if not self._ending.expired():
            self._ending.reschedule(self._loop.time())


def render_error(error: ApiError) -> ErrorBody:
    body = rendering.render_error(error)
    return body._replace(headers=error_headers(error, body.status, RETRY_AFTER_S))
