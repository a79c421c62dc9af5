"""Janssen Auth Server: `/jans-auth/restv1/internal/stat`.

The shape follows its documentation; `JANSSEN_SHAPE=source` reproduces the real server's answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from api.cache.cache import ResponseBody
from api.dialects import stat
from api.dialects.stat import StatQuestion
from api.endpoint import Endpoint, Services
from api.http.errors import ApiError, BadRequestError, ErrorBody
from api.ledger.statistics import MonthFigures
from api.settings.settings import ApiSettings
from schemas.ledger.periods import Month

PREFIX: Final = "/jans-auth"


class Janssen:
    name = "janssen"
    figures = stat.FIGURES

    def __init__(self, settings: ApiSettings) -> None:
        self.shape = settings.janssen_shape
        self.variant = f"{self.name} {self.shape}"
        self.scope = settings.stat_scope
        self.ttl_s = float(settings.janssen_cache_ttl_s)

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
        """Documented: `month` excludes both bounds. Source: only together with both is an error; else `month` wins."""
        both = bool(first and last) if self.shape == "source" else bool(first or last)
        if listed and both:
            raise BadRequestError("`month` can't be used together with `start-month` or `end-month`.")
        if listed:
            return stat.listed_months(listed, self.shape)
        if not (first and last):
            raise BadRequestError(
                "`month` or both `start-month` and `end-month` are needed, in format yyyyMM (e.g. 202012)."
            )
        if self.shape == "source" and first == last:
            raise BadRequestError("`start-month` must be before `end-month`.")
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

    def render_error(self, error: ApiError) -> ErrorBody:
        return stat.render_error(error, self.shape)


def routes(settings: ApiSettings, services: Services) -> list[web.RouteDef]:
    endpoint = Endpoint(Janssen(settings), services)
    return [
        web.get(f"{PREFIX}/restv1/internal/stat", endpoint.get),
        web.post(f"{PREFIX}/restv1/internal/stat", endpoint.post),
        web.get(f"{PREFIX}/sys/health-check", stat.health_check(services.ledger)),
    ]
