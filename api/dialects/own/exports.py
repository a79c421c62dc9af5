"""`/v1/region`: what this region exports to the apis of other regions, with a token scope of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from api.boundary import Boundary, Headers
from api.cache.cache import DEADLINE_S
from api.dialects.own import rendering
from api.endpoint import Services, parse_parameters, read_query
from api.http.bounded_read import TooLongError, read_at_most
from api.http.errors import BadRequestError, ForbiddenError, UnavailableError
from api.http.places import Places
from api.ledger.client import UNREACHABLE
from api.metrics import ACCESS_REFUSALS, REDIS_ERRORS
from api.regions import wire
from api.regions.exporter import Exporter
from api.regions.peer import EXPORT_PATH, IDENTITY_PATH, IDS_PATH
from api.settings.settings import ApiSettings
from api.turns import freeing_locals

SCOPE: Final = "sketches:read"
MAX_REQUEST_BYTES: Final = 4 * 2**20
BODY_TIMEOUT_S: Final = 5.0
MAX_CONCURRENT: Final = 8
"""Most exports computed at the same time: each may hold some MB of sketches."""

Compute = Callable[[], Awaitable[Any]]
"""Reads the figures of a request that was checked."""


class RegionExports:
    """The routes of a deployment with REGION; without it they do not exist."""

    def __init__(self, settings: ApiSettings, services: Services) -> None:
        self._access = services.access
        self._exporter: Exporter = services.regions.exporter
        self._boundary = Boundary("region")
        self._places = Places(MAX_CONCURRENT, MAX_CONCURRENT, wait_s=None)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(IDENTITY_PATH, self.identity),
            web.get(IDS_PATH, self.ids),
            web.post(EXPORT_PATH, self.export),
        ]

    async def identity(self, request: web.Request) -> web.StreamResponse:
        async def parse() -> Compute:
            _no_parameters(request)
            return self._exporter.identity

        return await self._serve(request, parse)

    async def ids(self, request: web.Request) -> web.StreamResponse:
        async def parse() -> Compute:
            parameters = parse_parameters(read_query(request))
            hour = parameters.pop("hour", None)
            if parameters or (hour is not None and not re.fullmatch(r"\d{1,7}", hour, re.ASCII)):
                raise BadRequestError("The only parameter is `hour`: whole hours since 1970, at most 7 digits.")
            return partial(self._exporter.ids, None if hour is None else int(hour))

        return await self._serve(request, parse)

    async def export(self, request: web.Request) -> web.StreamResponse:
        async def parse() -> Compute:
            _no_parameters(request)
            return partial(self._exporter.export, await _read_request(request))

        return await self._serve(request, parse)

    async def _serve(self, request: web.Request, parse: Callable[[], Awaitable[Compute]]) -> web.StreamResponse:
        async def handle(_: Headers) -> web.Response:
            await self._authenticate(request)
            # A body that arrives slowly takes no place, and is no failure of the store.
            compute = await parse()
            headers = {hdrs.CONTENT_TYPE: rendering.JSON, hdrs.CACHE_CONTROL: "no-store"}
            return web.Response(body=msgspec.json.encode(await self._bounded(compute)), headers=headers)

        return await self._boundary.serve(request, handle, rendering.render_error)

    async def _bounded(self, compute: Compute) -> Any:
        try:
            async with asyncio.timeout(DEADLINE_S), self._places.take(""):
                return await freeing_locals(compute())
        except (TimeoutError, *UNREACHABLE) as error:
            REDIS_ERRORS.labels("ledger").inc()
            raise UnavailableError("The figures cannot be read at the moment.") from error

    async def _authenticate(self, request: web.Request) -> None:
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        principal, _ = await self._access.authenticate(authorization, SCOPE, request.remote)
        if principal.realms is not None:
            ACCESS_REFUSALS.labels("realms").inc()
            raise ForbiddenError("Exports cover all realms, and this bearer is limited to some.")


def _no_parameters(request: web.Request) -> None:
    if read_query(request):
        raise BadRequestError("This route has no parameters.")


async def _read_request(request: web.Request) -> wire.ExportRequest:
    """Raises BadRequestError."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await read_at_most(request.content, MAX_REQUEST_BYTES)
        return wire.read_request(body)
    except TimeoutError as error:
        raise BadRequestError(f"The body did not arrive within {BODY_TIMEOUT_S:g} s.") from error
    except TooLongError as error:
        raise BadRequestError(f"The body is longer than {MAX_REQUEST_BYTES} bytes.") from error
    except msgspec.DecodeError as error:
        raise BadRequestError("The body is not a request for an export in JSON.") from error
    except ValueError as error:
        raise BadRequestError(f"The body is not a request for an export: {error}.") from error
    except (ClientPayloadError, HttpProcessingError, ConnectionError) as error:
        raise BadRequestError("The body did not arrive completely.") from error
