"""One question over HTTP, from its bytes to its answer's, whatever the product: access, ask, cache, tell, refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from math import ceil
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl

import structlog
from aiohttp import hdrs, web

from api.auth.access import Access
from api.auth.principal import Principal
from api.auth.rate_limit import Allowance, RateLimit
from api.cache.cache import Cache, CacheEntry, ResponseBody
from api.cache.responses import entry_response, matches_etag, not_modified
from api.http.bounded_read import TooLongError, read_at_most
from api.http.errors import ApiError, BadRequestError, InternalError, TooManyRequestsError
from api.http.request_id import REQUEST_ID, bind_request_id, request_id_of
from api.ledger.client import Client
from api.ledger.cooldown import RETRY_S
from api.ledger.statistics import Statistics
from api.metrics import CACHE_ANSWERS, REQUESTS, Hits, Requests
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

MAX_QUERY_BYTES: Final = 4096
MAX_PARAMETERS: Final = 64
FORM_TIMEOUT_S: Final = 5.0
"""For a form to arrive: it fits in one packet."""
MAX_FAST_PATHS: Final = 1024

FORM: Final = "application/x-www-form-urlencoded"
CHALLENGE: Final = 'Bearer realm="authtally"'


class Question(Protocol):
    """What is asked, in our terms. `key` names it among its dialect's questions."""

    @property
    def key(self) -> str: ...

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Any:
        """The figures that answer it."""


Q = TypeVar("Q", bound=Question)


class Dialect(Protocol[Q]):
    """How a product asks and is answered. The three verbs are pure, but for a product that limits its callers."""

    name: str
    variant: str
    """Name and every setting that changes its answers: processes that differ may share a cache."""
    scope: str
    ttl_s: float

    def parse(self, parameters: Mapping[str, str]) -> Q:
        """Raises BadRequestError, or Forbidden where the product refuses."""

    def render(self, question: Q, figures: Any) -> ResponseBody: ...

    def render_error(self, error: ApiError) -> ResponseBody: ...


class Services(NamedTuple):
    """What endpoints share."""

    ledger: Client
    statistics: Statistics
    cache: Cache
    access: Access
    clock: Clock
    hits: list[Hits]
    shared: Client | None
    """What api processes share beside the ledger, where there is such a store."""


class Endpoint:
    """A dialect on a path: `get` for questions in the query, `post` for the same in a form.

    With a `limit` every request costs its bearer one, whatever becomes of it; one without a bearer costs its address.
    """

    def __init__(self, dialect: Dialect[Any], services: Services, limit: RateLimit | None = None) -> None:
        self._dialect = dialect
        self._limit = limit
        self._services = services
        self._cache = services.cache
        self._clock = services.clock
        self._requests = Requests(dialect.name)
        self._hits = Hits(dialect.name)
        services.hits.append(self._hits)
        # From a question as it was written, and who wrote it, to its place in the cache: what spares a repeated
        # question everything else. Holds no answers; good until the token has to be looked at again.
        self._fast_path: dict[tuple[str, str | None], tuple[str, float]] = {}

    async def get(self, request: web.Request) -> web.Response:
        request_key = request.raw_path, request.headers.get(hdrs.AUTHORIZATION)
        fast_path = self._fast_path.get(request_key)
        if fast_path is not None:
            now = self._clock.monotonic()
            entry = self._cache.fresh(fast_path[0], now)
            if entry is not None and now < fast_path[1]:
                if hdrs.IF_NONE_MATCH in request.headers and _is_current(request, entry):
                    CACHE_ANSWERS.labels("hit").inc()
                    REQUESTS.labels(self._dialect.name, "3xx").inc()
                    response = not_modified(entry, now)
                else:
                    self._hits.count += 1
                    response = entry_response(entry, now)
                # Only one that was given: nothing is logged on this way, so that one made here would lead nowhere.
                if REQUEST_ID in request.headers:
                    response.headers[REQUEST_ID] = request_id_of(request.headers)
                return response
        return await self._serve(request, request_key)

    async def post(self, request: web.Request) -> web.Response:
        return await self._serve(request, None)

    async def _serve(self, request: web.Request, request_key: tuple[str, str | None] | None) -> web.Response:
        began, status = self._requests.begin(), 500
        request_id = request_id_of(request.headers)
        headers = {REQUEST_ID: request_id}
        try:
            with bind_request_id(request_id):
                try:
                    response = await self._answer(request, request_key, headers)
                except ApiError as error:
                    response = self._error_response(error)
                except Exception:  # the outermost step: whatever it is, the client sees none of it
                    log.exception("request failed", dialect=self._dialect.name)
                    response = self._error_response(InternalError())
            response.headers.update(headers)
            status = response.status
            return response
        finally:
            self._requests.end(began, route_name(request), status)

    async def _answer(
        self, request: web.Request, request_key: tuple[str, str | None] | None, headers: dict[str, str]
    ) -> web.Response:
        """`headers` is given what every answer carries, refusals too."""
        principal, expires_at = await self._authenticate(request, headers)
        query = request.rel_url.raw_query_string
        if len(query) > MAX_QUERY_BYTES:
            raise BadRequestError(f"The query is longer than {MAX_QUERY_BYTES} bytes.")
        question = self._dialect.parse(parse_parameters(await read_form(request) if request_key is None else query))
        key = self._key(question, principal.realms)

        async def compute() -> ResponseBody:
            return self._dialect.render(question, await question.read(self._services.statistics, principal.realms))

        entry = await self._cache.get(key, self._dialect.ttl_s, compute)
        # Behind a limit nothing is spared: every request has to be taken from its caller's.
        if request_key is not None and self._limit is None:
            if len(self._fast_path) >= MAX_FAST_PATHS:
                self._fast_path.clear()
            self._fast_path[request_key] = key, expires_at
        if request_key is not None and _is_current(request, entry):
            return not_modified(entry, self._clock.monotonic())
        return entry_response(entry, self._clock.monotonic())

    async def _authenticate(self, request: web.Request, headers: dict[str, str]) -> tuple[Principal, float]:
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        try:
            principal, expires_at = await self._services.access.authenticate(authorization, self._dialect.scope)
        except ApiError:
            await self._take_request(f"address {request.remote}", headers)
            raise
        await self._take_request(f"subject {principal.subject}", headers)
        return principal, expires_at

    async def _take_request(self, caller: str, headers: dict[str, str]) -> None:
        if self._limit is not None:
            allowance = await self._limit.take(caller)
            headers.update(_rate_limit_headers(allowance, self._clock.now()))
            if allowance.wait_s:
                raise TooManyRequestsError(allowance.wait_s)

    def _key(self, question: Question, realms: Collection[str] | None) -> str:
        limits = "*" if realms is None else repr(sorted(realms))
        return f"{self._dialect.variant} {question.key} {limits}"

    def _error_response(self, error: ApiError) -> web.Response:
        body = self._dialect.render_error(error)
        status = body.status or error.status
        headers: dict[str, str] = {hdrs.CONTENT_TYPE: body.content_type, hdrs.CACHE_CONTROL: "no-store"}
        if status == 401:
            headers[hdrs.WWW_AUTHENTICATE] = CHALLENGE
        elif status == 503:
            headers[hdrs.RETRY_AFTER] = str(int(RETRY_S))
        elif isinstance(error, TooManyRequestsError):
            headers[hdrs.RETRY_AFTER] = str(ceil(error.wait_s))
        return web.Response(status=status, body=body.content, headers=headers)


def _is_current(request: web.Request, entry: CacheEntry) -> bool:
    return matches_etag(entry.etag, request.headers.getall(hdrs.IF_NONE_MATCH, ()))


def _rate_limit_headers(allowance: Allowance, now: float) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(allowance.limit),
        "x-ratelimit-remaining": str(allowance.remaining),
        "x-ratelimit-reset": str(ceil(now + allowance.full_s)),
    }


def route_name(request: web.Request) -> str:
    """As it was registered."""
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical


async def read_form(request: web.Request) -> str:
    if request.content_type != FORM and request.can_read_body:
        raise BadRequestError(f"The parameters of a POST go into its body, as {FORM}.")
    if (request.content_length or 0) > MAX_QUERY_BYTES:
        raise BadRequestError(f"The form is longer than {MAX_QUERY_BYTES} bytes.")
    try:
        async with asyncio.timeout(FORM_TIMEOUT_S):
            return (await read_at_most(request.content, MAX_QUERY_BYTES)).decode("ascii", "replace")
    except TooLongError as error:
        raise BadRequestError(f"The form is longer than {MAX_QUERY_BYTES} bytes.") from error
    except TimeoutError as error:
        raise BadRequestError("The form did not arrive.") from error


def parse_parameters(encoded: str) -> dict[str, str]:
    """Decoded once. Of a repeated parameter the first counts, as in the products."""
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise BadRequestError(f"The query has more than {MAX_PARAMETERS} parameters.") from error
    parameters: dict[str, str] = {}
    for name, value in pairs:
        parameters.setdefault(name, value)
    return parameters
