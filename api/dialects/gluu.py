"""Gluu Server's oxAuth: `/oxauth/restv1/internal/stat`. Knows `month` and `format=openmetrics`, ignores the rest.

`GLUU_SHAPE=source` gives what the server really answers, its refusal of calls within the interval included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from api.cache.cache import ResponseBody
from api.dialects import stat
from api.dialects.stat import StatQuestion
from api.endpoint import Endpoint, Services
from api.http.errors import ApiError, BadRequestError, ForbiddenError
from api.ledger.statistics import MonthFigures
from api.settings.settings import ApiSettings
from schemas.time.clock import Clock

PREFIX: Final = "/oxauth"


class Gluu:
    name = "gluu"

    def __init__(self, settings: ApiSettings, clock: Clock) -> None:
        self.shape = settings.gluu_shape
        self.variant = f"{self.name} {self.shape}"
        self.scope = settings.stat_scope
        # Documented: in the interval a question is computed once, and repeated calls get that answer. Source: any
        # second call in it is refused, so every answer that is given is a new one.
        self.ttl_s = 0.0 if self.shape == "source" else float(settings.gluu_interval_s)
        self._interval_s = settings.gluu_interval_s
        self._clock = clock.monotonic
        self._last_allowed = float("-inf")

    def parse(self, parameters: Mapping[str, str]) -> StatQuestion:
        listed = stat.parameter(parameters, "month")
        if not listed:
            raise BadRequestError("`month` can't be blank and should be in format yyyyMM (e.g. 202012).")
        chosen_format = stat.parameter(parameters, "format").lower()
        question = StatQuestion(
            stat.listed_months(listed, self.shape), "openmetrics" if chosen_format == "openmetrics" else "json"
        )
        if self.shape == "source":
            self._allow_once()
        return question

    def _allow_once(self) -> None:
        """After token and month, so that neither a bad one nor the other costs the interval."""
        now = self._clock()
        if now - self._last_allowed < self._interval_s:
            raise ForbiddenError("Interval request limit exceeded.")
        self._last_allowed = now

    def render(self, question: StatQuestion, figures: Sequence[MonthFigures]) -> ResponseBody:
        if question.format == "openmetrics":
            return stat.metrics_body(figures, self.shape)
        months = {
            row.month.compact: {
                "monthly_active_users": row.active.count,
                "token_count_per_granttype": stat.tokens_per_grant(row, self.shape),
            }
            for row in figures
        }
        return stat.json_body({"response": months}, figures)

    def render_error(self, error: ApiError) -> ResponseBody:
        return stat.error_body(error, self.shape)


def routes(settings: ApiSettings, services: Services) -> list[web.RouteDef]:
    endpoint = Endpoint(Gluu(settings, services.clock), services)
    return [
        web.get(f"{PREFIX}/restv1/internal/stat", endpoint.get),
        web.post(f"{PREFIX}/restv1/internal/stat", endpoint.post),
        web.get(f"{PREFIX}/sys/health-check", stat.health_check(services.ledger)),
    ]
