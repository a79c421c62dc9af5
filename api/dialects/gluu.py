"""Gluu Server's oxAuth: `/oxauth/restv1/internal/stat`. Reads `month` and `format=openmetrics`, ignores the rest.

`GLUU_SHAPE=source` reproduces the real server's answers, including its 403 for calls within the interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from api.cache.cache import ResponseBody
from api.dialects import stat
from api.dialects.stat import StatErrors, StatQuestion
from api.endpoint import Endpoint, Services
from api.http.errors import BadRequestError, ForbiddenError
from api.ledger.statistics import MonthFigures
from api.settings.settings import ApiSettings
from api.unmatched import Surface
from schemas.time.clock import Clock

PREFIX: Final = "/oxauth"

SOURCE_BLANK: Final = "`month` parameter can't be blank and should be in format yyyyMM (e.g. 202012)"
"""The product's own text."""


class Interval:
    """The source shape's limit: one call per interval. Invalid calls do not count, since they are refused earlier."""

    def __init__(self, interval_s: float, clock: Clock) -> None:
        self._interval_s = interval_s
        self._clock = clock.monotonic
        self._last_admitted = float("-inf")

    def admit(self) -> None:
        """Raises ForbiddenError if the last admitted call is less than an interval ago."""
        now = self._clock()
        if now - self._last_admitted < self._interval_s:
            raise ForbiddenError("Interval request limit exceeded.")
        self._last_admitted = now


class Gluu:
    name = "gluu"
    figures = stat.FIGURES

    def __init__(self, settings: ApiSettings) -> None:
        self.shape = settings.gluu_shape
        self.variant = f"{self.name} {self.shape}"
        self.scope = settings.stat_scope
        # Documented shape: an answer is computed once per interval and repeated calls get it. Source shape: a second
        # call in the interval is refused, so every answer is a new one.
        self.ttl_s = 0.0 if self.shape == "source" else float(settings.gluu_interval_s)
        self.render_error = errors(settings).render

    def parse(self, parameters: Mapping[str, str]) -> StatQuestion:
        listed = stat.parameter(parameters, "month")
        blank = SOURCE_BLANK if self.shape == "source" else stat.BLANK
        if not listed:
            raise BadRequestError(blank)
        chosen_format = stat.parameter(parameters, "format").lower()
        return StatQuestion(
            stat.listed_months(listed, self.shape, blank), "openmetrics" if chosen_format == "openmetrics" else "json"
        )

    def render(self, question: StatQuestion, figures: Sequence[MonthFigures]) -> ResponseBody:
        if question.format == "openmetrics":
            # The document's label sets end in a comma, which parsers accept; its line break after it they refuse.
            return stat.metrics_body(figures, self.shape, label_end=",")
        months = {
            row.month.compact: {
                "monthly_active_users": row.active.count,
                "token_count_per_granttype": stat.tokens_per_grant(row, self.shape),
            }
            for row in figures
        }
        return stat.json_body({"response": months})


def errors(settings: ApiSettings) -> StatErrors:
    return StatErrors(settings.gluu_shape, settings.stat_scope, reasons=settings.stat_error_reason)


def surface(settings: ApiSettings) -> Surface:
    return Surface((PREFIX,), errors(settings).render)


def routes(settings: ApiSettings, services: Services) -> list[web.RouteDef]:
    interval = Interval(settings.gluu_interval_s, services.clock) if settings.gluu_shape == "source" else None
    repeatable = stat.LISTS if settings.gluu_shape == "documented" else ()
    endpoint = Endpoint(Gluu(settings), services, admit=None if interval is None else interval.admit, lists=repeatable)
    health = stat.health_check(services.ledger)
    return [
        web.get(f"{PREFIX}/restv1/internal/stat", endpoint.get),
        web.post(f"{PREFIX}/restv1/internal/stat", endpoint.post),
        web.get(f"{PREFIX}/sys/health-check", health),
        web.post(f"{PREFIX}/sys/health-check", health),
    ]
