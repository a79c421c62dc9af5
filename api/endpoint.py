"""The endpoint of a dialect: authenticate, parse, cache, read, render."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from math import ceil
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl

import structlog
from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from api.auth.access import Access
from api.auth.principal import Principal
from api.auth.rate_limit import Allowance, RateLimit
from api.boundary import Boundary, Headers
from api.cache.cache import Cache, Figures, ResponseBody
from api.cache.ready_answers import ReadyAnswer, ReadyAnswers, is_current
from api.cache.responses import entry_response, not_modified
from api.http.bounded_read import TooLongError, read_at_most
from api.http.client_address import caller_of
from api.http.errors import (
    ApiError,
    BadRequestError,
    ErrorBody,
    TooManyRequestsError,
    UnavailableError,
)
from api.http.places import tenant_of
from api.ledger.client import Client
from api.ledger.ledger_statistics import LedgerStatistics
from api.ledger.statistics import Statistics
from api.metrics import Hits
from api.regions.regions import Regions
from api.turns import arrive
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

MAX_QUERY_BYTES: Final = 4096
MAX_PARAMETERS: Final = 64
FORM_TIMEOUT_S: Final = 5.0
"""The time in which a form must arrive; it fits in one packet."""

FORM: Final = "application/x-www-form-urlencoded"


class Question(Protocol):
    """A parsed question. `key` identifies its figures among those of its dialect, `form` the format of the answer."""

    @property
    def key(self) -> str: ...

    @property
    def form(self) -> str: ...

    @property
    def is_wide(self) -> bool:
        """Whether it reads much: a row per label, or many periods.

        `read` then takes a place of `Statistics.wide_question`, for which it may wait long, and the cache counts it
        apart from others (`Cache.get`).
        """

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Any:
        """The figures that `render` needs. `realms` limits them; None is all realms."""

    def is_partial(self, figures: Any) -> bool:
        """Whether the figures lack a period that was asked for, or are incomplete: they are cached only briefly."""


Q = TypeVar("Q", bound=Question)


class Dialect(Protocol[Q]):
    """A product's questions, answers and errors. All three functions are pure; I/O happens in `Question.read` alone."""

    name: str
    """Also the metrics' label `dialect`."""
    variant: str
    """The name and every setting that changes answers: processes with different settings may share a cache."""
    scope: str
    """The token scope that a caller needs."""
    ttl_s: float
    """Seconds for which figures are cached; 0: not at all."""
    figures: Any
    """The type of the figures. They are cached as MessagePack, so `render` always gets them decoded as this type."""

    def parse(self, parameters: Mapping[str, str]) -> Q:
        """Raises BadRequestError."""

    def render(self, question: Q, figures: Any) -> ResponseBody:
        """Depends on `figures` and on the question's key and form alone: other questions with these get its result."""

    def render_error(self, error: ApiError) -> ErrorBody: ...


class Reading(NamedTuple):
    """How the figures of a question are read, and the key under which they are cached."""

    key: str
    read: Callable[[], Awaitable[Any]]


class Services(NamedTuple):
    """The services that endpoints share."""

    ledger: Client
    statistics: LedgerStatistics
    cache: Cache
    ready: ReadyAnswers
    access: Access
    clock: Clock
    hits: list[Hits]
    shared: Client | None
    """The Redis that api processes share beside the ledger, if one is configured."""
    regions: Regions


class Endpoint:
    """A dialect on a path: `get` for questions in the query, `post` for the same in a form.

    `vary` is the Vary header of its responses, if they depend on more than Authorization.
    With a `limit` every request counts, whatever its result: against its principal, or, if it has none, its address.
    `admit` runs for every parsed question and raises an ApiError to refuse it. `lists` are parameters that a request
    may repeat: their values are joined by a space. Without `repeats` any other repeated parameter is an error; with it
    the first one counts. `reading` chooses how the figures of a question are read for a principal; without it they are
    those of a product, over regions as REGION_PRODUCTS says.
    """

    def __init__(
        self,
        dialect: Dialect[Any],
        services: Services,
        limit: RateLimit | None = None,
        admit: Callable[[], None] | None = None,
        lists: Collection[str] = (),
        repeats: bool = True,
        reading: Callable[[Any, Principal], Reading] | None = None,
        vary: str | None = None,
    ) -> None:
        self._dialect = dialect
        self._reading = reading or self._product_reading
        self._lists = lists
        self._repeats = repeats
        self._vary = vary
        self._limit = limit
        self._admit = admit
        self._services = services
        self._cache = services.cache
        self._clock = services.clock
        self._boundary = Boundary(dialect.name)
        self._hits = Hits(dialect.name)
        services.hits.append(self._hits)

    async def get(self, request: web.Request) -> web.StreamResponse:
        # With traces or CORS the server looks for no ready answer before routing, see `build_runner`.
        ready = self._services.ready.find(request)
        return await self._serve(request, is_get=True) if ready is None else ready

    async def post(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, is_get=False)

    async def _serve(self, request: web.Request, *, is_get: bool) -> web.StreamResponse:
        async def answer(headers: Headers) -> web.Response:
            if self._vary is not None:
                headers[hdrs.VARY] = self._vary
            return await self._answer(request, headers, is_get=is_get)

        return await self._boundary.serve(request, answer, self._dialect.render_error)

    async def _answer(self, request: web.Request, headers: Headers, *, is_get: bool) -> web.Response:
        await arrive()
        principal, expires_at = await self._authenticate(request, headers)
        query = read_query(request)
        encoded = query if is_get else await read_form(request)
        question = self._dialect.parse(parse_parameters(encoded, self._lists, repeats=self._repeats))
        if self._admit is not None:
            self._admit()
        reading = self._reading(question, principal)
        key = self._key(reading.key, principal.realms)

        async def compute() -> Figures:
            figures = await reading.read()
            return Figures(figures, partial=question.is_partial(figures))

        dialect = self._dialect
        tenant = tenant_of(principal.realms)
        entry = await self._cache.get(key, dialect.ttl_s, compute, dialect.figures, tenant, is_wide=question.is_wide)
        body = await self._cache.body(
            key, entry, question.form, lambda: dialect.render(question, entry.figures(dialect.figures)), tenant
        )
        # With a limit every request must be counted against its caller.
        if is_get and self._limit is None:
            ready = ReadyAnswer(key, question.form, expires_at, self._hits, self._vary)
            self._services.ready.add(request, ready)
        # A stale answer is never a 304: a cache would keep `Cache-Status` of it beside later answers (RFC 9111 §3.2).
        if is_get and not entry.stale and is_current(request, body):
            return not_modified(entry, body, self._clock.monotonic())
        return entry_response(entry, body, self._clock.monotonic())

    async def _authenticate(self, request: web.Request, headers: dict[str, str]) -> tuple[Principal, float]:
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        try:
            principal, expires_at = await self._services.access.authenticate(
                authorization, self._dialect.scope, request.remote
            )
        except ApiError:
            await self._take_request(f"address {caller_of(request)}", headers)
            raise
        await self._take_request(f"subject {principal.subject}", headers)
        return principal, expires_at

    async def _take_request(self, caller: str, headers: dict[str, str]) -> None:
        if self._limit is not None:
            allowance = await self._limit.take(caller)
            headers.update(_rate_limit_headers(allowance, self._clock.now()))
            if allowance.wait_s:
                raise TooManyRequestsError(allowance.wait_s)

    def _key(self, key: str, realms: Collection[str] | None) -> str:
        return f"{self._dialect.variant} {key} {self._services.regions.own} {tenant_of(realms)}"

    def _product_reading(self, question: Question, principal: Principal) -> Reading:
        """A product's answer cannot say that a region is missing or old: it is 503 then."""
        regions, realms = self._services.regions, principal.realms
        names = regions.visible(principal) if regions.for_products else ()
        if len(names) < 2:
            return Reading(question.key, lambda: question.read(self._services.statistics, realms))

        async def read() -> Any:
            statistics = regions.over(names)
            figures = await question.read(statistics, realms)
            if not all(share.is_complete for share in statistics.finish()):
                raise UnavailableError("The figures of a region cannot be read at the moment.")
            return figures

        return Reading(f"{question.key} {names}", read)


def _rate_limit_headers(allowance: Allowance, now: float) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(allowance.limit),
        "x-ratelimit-remaining": str(allowance.remaining),
        "x-ratelimit-reset": str(ceil(now + allowance.full_s)),
    }


def read_query(request: web.Request) -> str:
    """The raw query. Raises BadRequestError if it is too long."""
    query = request.rel_url.raw_query_string
    if len(query) > MAX_QUERY_BYTES:
        raise BadRequestError(f"The query is longer than {MAX_QUERY_BYTES} bytes.")
    return query


async def read_form(request: web.Request) -> str:
    if request.content_type != FORM and request.can_read_body:
        raise BadRequestError(f"The parameters of a POST must be in its body, as {FORM}.")
    if (request.content_length or 0) > MAX_QUERY_BYTES:
        raise BadRequestError(f"The form is longer than {MAX_QUERY_BYTES} bytes.")
    try:
        async with asyncio.timeout(FORM_TIMEOUT_S):
            return (await read_at_most(request.content, MAX_QUERY_BYTES)).decode("ascii", "replace")
    except TooLongError as error:
        raise BadRequestError(f"The form is longer than {MAX_QUERY_BYTES} bytes.") from error
    except TimeoutError as error:
        raise BadRequestError("The form did not arrive in time.") from error
    except (ClientPayloadError, HttpProcessingError, ConnectionError) as error:
        raise BadRequestError("The form did not arrive completely.") from error


def parse_parameters(encoded: str, lists: Collection[str] = (), *, repeats: bool = True) -> dict[str, str]:
    """The parameters, decoded once. The first of repeated parameters counts, as in the products, except for `lists`.

    Without `repeats` a repeated parameter is an error.
    """
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise BadRequestError(f"The query has more than {MAX_PARAMETERS} parameters.") from error
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name in lists and name in parameters:
            parameters[name] += f" {value}"
        elif not repeats and name in parameters:
            raise BadRequestError(f"`{name[:64]}` is given more than once.", members={"parameter": name[:64]})
        else:
            parameters.setdefault(name, value)
    return parameters
