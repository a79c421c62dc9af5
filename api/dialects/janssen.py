"""Janssen Auth Server: `/jans-auth/restv1/internal/stat`.

The shape follows its documentation; `JANSSEN_SHAPE=source` reproduces the real server's answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from api.cache.cache import ResponseBody
from api.dialects import stat
from api.dialects.stat import StatErrors, StatQuestion
from api.endpoint import Endpoint, Services
from api.http.errors import BadRequestError
from api.ledger.statistics import MonthFigures
from api.settings.settings import ApiSettings
from api.unmatched import Surface
from schemas.ledger.periods import Month

PREFIX: Final = "/jans-auth"

SOURCE_NEEDED: Final = (
    "`month` or `start-month`/`end-month` parameter(s) can't be blank and should be in format yyyyMM (e.g. 202012)"
)
SOURCE_UNIDENTIFIED: Final = (
    "Unable to identify months. Check `month` or `start-month`/`end-month` parameter(s). It can't be blank and should "
    "be in format yyyyMM (e.g. 202012). start-month must be before end-month"
)
"""The product's own texts for its two errors in months."""


class Janssen:
    name = "janssen"
    figures = stat.FIGURES

    def __init__(self, settings: ApiSettings) -> None:
        self.shape = settings.janssen_shape
        self.variant = f"{self.name} {self.shape}"
        self.scope = settings.stat_scope
        self.ttl_s = float(settings.janssen_cache_ttl_s)
        self.render_error = errors(settings).render

    def parse(self, parameters: Mapping[str, str]) -> StatQuestion:
        listed, first, last = (stat.parameter(parameters, name) for name in ("month", "start-month", "end-month"))
        chosen_format = stat.parameter(parameters, "format").lower()
        return StatQuestion(
            self._months(listed, first, last),
            "openmetrics"
            if chosen_format == "openmetrics"
            else "jsonmonth"
            if chosen_format == "jsonmonth"
            else "json",
        )

    def _months(self, listed: str, first: str, last: str) -> tuple[Month, ...]:
        """`month` excludes both bounds. Raises BadRequestError."""
        if self.shape == "source":
            return _source_months(listed, first, last)
        if listed and (first or last):
            raise BadRequestError("`month` can't be used together with `start-month` or `end-month`.")
        if listed:
            return stat.listed_months(listed, self.shape)
        if not (first and last):
            raise BadRequestError(
                "`month` or both `start-month` and `end-month` are needed, in format yyyyMM (e.g. 202012)."
            )
        return stat.range_of_months(stat.month(first, "start-month"), stat.month(last, "end-month"))

    def render(self, question: StatQuestion, figures: Sequence[MonthFigures]) -> ResponseBody:
        if question.format == "openmetrics":
            return stat.metrics_body(figures, self.shape)
        flat = question.format == "jsonmonth"
        if self.shape == "documented":
            return stat.json_body([self._flat(row) for row in figures] if flat else self._by_month(figures))
        rows = [{"month": row.month.compact} | self._row(row) for row in figures]
        # The real server swaps the two documented forms.
        document = {str(row["month"]): row for row in rows} if flat else rows
        return stat.json_body({"response": document})

    def _row(self, row: MonthFigures) -> dict[str, object]:
        return {
            "monthly_active_users": row.active.count,
            "token_count_per_granttype": stat.tokens_per_grant(row, self.shape),
        }

    def _by_month(self, figures: Sequence[MonthFigures]) -> dict[str, object]:
        return {"response": {row.month.compact: self._row(row) for row in figures}}

    def _flat(self, row: MonthFigures) -> dict[str, object]:
        # The documentation misspells the field; both spellings are returned.
        return {"month": row.month.compact, "montly_active_users": row.active.count} | self._row(row)


def _source_months(listed: str, first: str, last: str) -> tuple[Month, ...]:
    """`month` wins over one bound, and is refused with both. Raises BadRequestError.

    A bound that is no month is a 500 in the product, which helps no client: here it has the text of unknown months.
    """
    if bool(listed) == bool(first and last):
        raise BadRequestError(SOURCE_NEEDED)
    if listed:
        return stat.listed_months(listed, "source", SOURCE_UNIDENTIFIED)
    try:
        start, end = Month.parse(first), Month.parse(last)
    except ValueError as error:
        raise BadRequestError(SOURCE_UNIDENTIFIED) from error
    if end <= start:
        raise BadRequestError(SOURCE_UNIDENTIFIED)
    return stat.range_of_months(start, end)


def errors(settings: ApiSettings) -> StatErrors:
    return StatErrors(settings.janssen_shape, settings.stat_scope, reasons=settings.stat_error_reason)


def surface(settings: ApiSettings) -> Surface:
    return Surface((PREFIX,), errors(settings).render)


def routes(settings: ApiSettings, services: Services) -> list[web.RouteDef]:
    repeatable = stat.LISTS if settings.janssen_shape == "documented" else ()
    endpoint = Endpoint(Janssen(settings), services, lists=repeatable)
    health = stat.health_check(services.ledger)
    return [
        web.get(f"{PREFIX}/restv1/internal/stat", endpoint.get),
        web.post(f"{PREFIX}/restv1/internal/stat", endpoint.post),
        web.get(f"{PREFIX}/sys/health-check", health),
        web.post(f"{PREFIX}/sys/health-check", health),
    ]
