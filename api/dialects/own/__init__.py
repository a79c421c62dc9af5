"""The own surface, `/v1`: one module per question; `/openapi.json` describes all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import date, datetime
from functools import partial
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import hdrs, web

from api.cache.cache import ResponseBody
from api.dialects.own import (
    active_users,
    gauges,
    labels,
    m2m,
    openapi,
    otp_tokens,
    overview,
    pipeline,
    rendering,
    series,
)
from api.dialects.own.gauges import GaugesQuestion
from api.dialects.own.operation import FORMAT, FORMATS
from api.dialects.own.parameters import Parameter, Parameters
from api.dialects.own.pipeline import PipelineQuestion
from api.endpoint import Endpoint, Question, Services
from api.http.errors import ApiError, ErrorBody
from api.inventory.inventory import Inventory
from api.ledger.statistics import Statistics
from api.settings.quotas import QuotasFile
from api.settings.settings import ApiSettings

READ: Final = "stats:read"
METRICS: Final = "metrics:read"


class Formatted(NamedTuple):
    """A question and the format of its answer."""

    question: Question
    form: str

    @property
    def key(self) -> str:
        return f"{self.form} {self.question.key}"

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Any:
        return await self.question.read(statistics, realms)


class Own:
    """One route. `format_` is the default of the parameter `format`."""

    name = "own"
    scope = READ

    def __init__(
        self,
        path: str,
        known: Collection[Parameter[Any]],
        parse_question: Callable[[Parameters], Question],
        format_: str,
        settings: ApiSettings,
    ) -> None:
        self.variant = f"{self.name} {path} {settings.timezone} {settings.exact_up_to}"
        # Not cached: a deleted row must not reappear.
        self.ttl_s = 0.0 if path == otp_tokens.PATH else float(settings.cache_ttl_s)
        self._parameters = (*known, FORMAT)
        self._parse_question = parse_question
        self._form = format_

    def parse(self, parameters: Mapping[str, str]) -> Formatted:
        checked = Parameters(parameters, self._parameters)
        format_ = checked.get(FORMAT) or self._form
        return Formatted(self._parse_question(checked), format_)

    def render(self, question: Formatted, figures: Any) -> ResponseBody:
        return rendering.render(figures, question.form)

    def render_error(self, error: ApiError) -> ErrorBody:
        return rendering.render_error(error)


class Gauges(Own):
    """Text for Prometheus, with its own scope: a scraper needs no access to statistics."""

    scope = METRICS

    def __init__(self, parse_question: Callable[[Parameters], Question], settings: ApiSettings) -> None:
        super().__init__(gauges.PATH, (), parse_question, "", settings)

    def parse(self, parameters: Mapping[str, str]) -> Formatted:
        return Formatted(self._parse_question(Parameters(parameters, ())), "")

    def render(self, question: Formatted, figures: Any) -> ResponseBody:
        return gauges.render(figures)


def routes(settings: ApiSettings, services: Services) -> list[web.RouteDef]:
    quotas = QuotasFile(settings.quotas_file, services.clock)
    inventory = Inventory(services.ledger, services.statistics)

    def now() -> datetime:
        return datetime.fromtimestamp(services.clock.now(), settings.zone)

    def today() -> date:
        return now().date()

    def parse_m2m(parameters: Parameters) -> m2m.M2mQuestion:
        limits = quotas.current()
        return m2m.parse(parameters, settings, now(), limits, quotas.version)

    def parse_gauges(_: Parameters) -> GaugesQuestion:
        by_client = "client" in settings.counts_by
        return GaugesQuestion(now(), parse_m2m(Parameters({}, ())) if by_client else None, inventory)

    questions: dict[str, tuple[Collection[Parameter[Any]], Callable[[Parameters], Question]]] = {
        active_users.PATH: (active_users.PARAMETERS, lambda given: active_users.parse(given, settings, today())),
        overview.PATH: (overview.PARAMETERS, lambda given: overview.parse(given, settings, today())),
        labels.PATH: (labels.PARAMETERS, labels.parse),
        m2m.PATH: (m2m.PARAMETERS, parse_m2m),
        pipeline.PATH: ((), lambda _: PipelineQuestion()),
        otp_tokens.PATH: (
            otp_tokens.PARAMETERS,
            lambda given: otp_tokens.parse(given, inventory, settings.zone, today()),
        ),
    }
    for counter in series.COUNTERS:
        questions[counter.path] = (counter.operation.parameters, partial(_parse_series, counter, settings, today))
    served = [web.get(path, _negotiated(path, *of, settings, services)) for path, of in questions.items()]
    metrics = Endpoint(Gauges(parse_gauges, settings), services)
    return [*served, web.get(gauges.PATH, metrics.get), web.get(openapi.PATH, _document(settings))]


def _parse_series(
    counter: series.Counter, settings: ApiSettings, today: Callable[[], date], given: Parameters
) -> series.SeriesQuestion:
    return series.parse(counter, given, settings, today())


def _negotiated(
    path: str,
    known: Collection[Parameter[Any]],
    parse_question: Callable[[Parameters], Question],
    settings: ApiSettings,
    services: Services,
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """One endpoint per format: the format must be known before the cache key."""
    endpoints = {
        format_: Endpoint(Own(path, known, parse_question, format_, settings), services) for format_ in FORMATS
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await endpoints[preferred_format(request.headers.getall(hdrs.ACCEPT, ()))].get(request)
        response.headers[hdrs.VARY] = f"{hdrs.ACCEPT}, {hdrs.AUTHORIZATION}"
        return response

    return answer


def preferred_format(headers: Collection[str]) -> str:
    """The format that Accept prefers (RFC 9110 §12.5.1): JSON unless CSV has a higher weight."""
    weights = {"text/csv": 0.0, "text/*": 0.0, "application/json": 0.0, "application/*": 0.0, "*/*": 0.0}
    for item in ",".join(headers).split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q":
                weight = _weight(value)
        if kind.lower() in weights:
            weights[kind.lower()] = weight
    json = weights["application/json"] or weights["application/*"] or weights["*/*"]
    table = weights["text/csv"] or weights["text/*"]
    return "csv" if table > json else "json"


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def _document(settings: ApiSettings) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Open to all: the document contains nothing about this deployment except whether ingest is on."""
    content = orjson.dumps(openapi.document(ingest=settings.ingest))

    async def answer(_: web.Request) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: rendering.JSON, hdrs.CACHE_CONTROL: "public, max-age=3600"}
        return web.Response(body=content, headers=headers)

    return answer
