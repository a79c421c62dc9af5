"""The own surface, `/v1`: one module per question; `/openapi.json` describes all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import date, datetime
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import orjson
from aiohttp import hdrs, web

from api.auth.principal import Principal
from api.cache.cache import ResponseBody
from api.dialects.own import (
    active_users,
    gauges,
    labels,
    lifecycle,
    m2m,
    openapi,
    otp_tokens,
    overview,
    pipeline,
    region_states,
    rendering,
    retention,
    series,
)
from api.dialects.own.exports import RegionExports
from api.dialects.own.gauges import GaugesQuestion
from api.dialects.own.operation import BOM, FORMAT, FORMATS, Operation
from api.dialects.own.parameters import BadParameterError, Parameters
from api.dialects.own.pipeline import PipelineQuestion
from api.dialects.own.region_states import RegionsQuestion
from api.dialects.own.regional import REGION, AskedRegions, asked_regions, reading
from api.endpoint import Endpoint, Reading, Services
from api.http.errors import ApiError, ErrorBody
from api.inventory.inventory import Inventory
from api.ledger.statistics import Statistics
from api.settings.quotas import QuotasFile
from api.settings.settings import ApiSettings
from api.unmatched import Surface

READ: Final = "stats:read"
METRICS: Final = "metrics:read"


class OwnQuestion(Protocol):
    @property
    def key(self) -> str: ...

    @property
    def is_wide(self) -> bool: ...

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Any:
        """An Answer, or GaugeFigures."""


class Formatted(NamedTuple):
    """A question, the format of its answer, and the regions that it names."""

    question: OwnQuestion
    form: str
    regions: AskedRegions | None = None

    @property
    def key(self) -> str:
        return self.question.key

    @property
    def is_wide(self) -> bool:
        return self.question.is_wide

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Any:
        return await self.question.read(statistics, realms)

    def is_partial(self, figures: Any) -> bool:
        return bool(figures.partial)


class Own:
    """A route of this surface. `figures` is the type as which its figures are decoded from the cache."""

    name = "own"
    scope = READ

    def __init__(
        self, path: str, figures: Any, parse_question: Callable[[Parameters], OwnQuestion], settings: ApiSettings
    ) -> None:
        self.variant = f"{self.name} {path} {settings.timezone} {settings.exact_up_to}"
        # Not cached: a deleted row must not reappear, and the state of a region is cheap.
        self.ttl_s = 0.0 if path in (otp_tokens.PATH, region_states.PATH) else float(settings.cache_ttl_s)
        self.figures = figures
        self._parse_question = parse_question

    def render_error(self, error: ApiError) -> ErrorBody:
        return rendering.render_error(error)


class Answers(Own):
    """A route with answers in JSON and CSV. `form` is the default of the parameter `format`."""

    def __init__(
        self,
        operation: Operation,
        parse_question: Callable[[Parameters], OwnQuestion],
        form: str,
        settings: ApiSettings,
    ) -> None:
        figures = rendering.Answer[operation.answer]  # type: ignore[name-defined]
        super().__init__(operation.path, figures, parse_question, settings)
        self._parameters = (*operation.parameters, *((REGION,) if operation.regional else ()), FORMAT, BOM)
        self._group_by = next((each for each in operation.parameters if each.name == "group_by"), None)
        self._regional = operation.regional
        self._form = form

    def parse(self, parameters: Mapping[str, str]) -> Formatted:
        checked = Parameters(parameters, self._parameters)
        form = checked.get(FORMAT) or self._form
        if checked.get(BOM) == "1":
            if form != "csv":
                raise BadParameterError(BOM.name, "`bom=1` is for CSV only: JSON has no byte order mark.")
            form = rendering.CSV_WITH_BOM
        names = checked.get(REGION) if self._regional else None
        groups = () if self._group_by is None else checked.get(self._group_by)
        return Formatted(self._parse_question(checked), form, asked_regions(names, groups))

    def render(self, question: Formatted, figures: Any) -> ResponseBody:
        return rendering.render(figures, question.form)


class Gauges(Own):
    """Text for Prometheus, with its own scope: a scraper needs no access to statistics."""

    scope = METRICS

    def __init__(self, parse_question: Callable[[Parameters], OwnQuestion], settings: ApiSettings) -> None:
        super().__init__(gauges.PATH, gauges.GaugeFigures, parse_question, settings)

    def parse(self, parameters: Mapping[str, str]) -> Formatted:
        return Formatted(self._parse_question(Parameters(parameters, ())), "")

    def render(self, question: Formatted, figures: Any) -> ResponseBody:
        return gauges.render(figures)


def surface(settings: ApiSettings) -> Surface:
    """Every path outside the products' surfaces."""
    return Surface(("",), rendering.render_error)


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

    questions: list[tuple[Operation, Callable[[Parameters], OwnQuestion]]] = [
        (active_users.OPERATION, lambda given: active_users.parse(given, settings, today())),
        (overview.OPERATION, lambda given: overview.parse(given, settings, today())),
        (lifecycle.OPERATION, lambda given: lifecycle.parse(given, settings, today())),
        (retention.OPERATION, lambda given: retention.parse(given, settings, today())),
        (labels.OPERATION, labels.parse),
        (m2m.OPERATION, parse_m2m),
        (pipeline.OPERATION, lambda _: PipelineQuestion()),
        (region_states.OPERATION, lambda _: RegionsQuestion()),
        (otp_tokens.OPERATION, lambda given: otp_tokens.parse(given, inventory, settings.zone, today())),
    ]
    questions += [(counter.operation, partial(_parse_series, counter, settings, today)) for counter in series.COUNTERS]
    served = [
        web.get(operation.path, _negotiated(operation, parse_question, settings, services))
        for operation, parse_question in questions
    ]
    metrics = Endpoint(Gauges(parse_gauges, settings), services, repeats=False, reading=_own_reading(services))
    if settings.region:
        served += RegionExports(settings, services).routes()
    return [*served, web.get(gauges.PATH, metrics.get), web.get(openapi.PATH, _document(settings))]


def _own_reading(services: Services) -> Callable[[Formatted, Principal], Reading]:
    """Always of the own region."""

    def choose(asked: Formatted, principal: Principal) -> Reading:
        return reading(asked.question, None, services, principal)

    return choose


def _parse_series(
    counter: series.CounterSeries, settings: ApiSettings, today: Callable[[], date], given: Parameters
) -> series.SeriesQuestion:
    return series.parse(counter, given, settings, today())


def _negotiated(
    operation: Operation,
    parse_question: Callable[[Parameters], OwnQuestion],
    settings: ApiSettings,
    services: Services,
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """One endpoint per format."""

    def choose(asked: Formatted, principal: Principal) -> Reading:
        if operation is region_states.OPERATION:
            return region_states.reading(services, principal)
        return reading(asked.question, asked.regions, services, principal)

    endpoints = {
        format_: Endpoint(
            Answers(operation, parse_question, format_, settings),
            services,
            repeats=False,
            reading=choose,
            vary=f"{hdrs.ACCEPT}, {hdrs.AUTHORIZATION}",
        )
        for format_ in FORMATS
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        return await endpoints[preferred_format(request.headers.getall(hdrs.ACCEPT, ()))].get(request)

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
    """Open to all: the document contains nothing about this deployment except whether it has ingest and regions."""
    content = orjson.dumps(openapi.document(ingest=settings.ingest, regions=bool(settings.region)))

    async def answer(_: web.Request) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: rendering.JSON, hdrs.CACHE_CONTROL: "public, max-age=3600"}
        return web.Response(body=content, headers=headers)

    return answer
