"""Auth0's Management API: `/api/v2/stats/active-users` and `/api/v2/stats/daily`.

Bodies, errors and `x-ratelimit-*` headers are those of its documentation and of its SDKs. What it leaves open: without
bounds `daily` is the last 30 days, with one bound that and the 30 days before it or all days since.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import orjson
from aiohttp import web

from api.auth.rate_limit import RateLimit
from api.cache.cache import ResponseBody
from api.endpoint import Endpoint, Services
from api.http.errors import (
    ApiError,
    BadRequestError,
    ForbiddenError,
    InsufficientScopeError,
    InternalError,
    MalformedTokenError,
    TooManyRequestsError,
    UnauthorizedError,
)
from api.ledger.statistics import ActiveUsers, Statistics
from api.settings.settings import ApiSettings
from schemas.ledger import fields
from schemas.ledger.periods import day_key
from schemas.time.clock import Clock

PREFIX: Final = "/api/v2/stats"
JSON: Final = "application/json; charset=utf-8"
SCOPE: Final = "read:stats"

WINDOW_DAYS: Final = 30
"""What "active" and a question without bounds look back to, today included."""
MAX_DAYS: Final = 400

PATTERN: Final = re.compile(r"2[0-9]{3}((0[1-9])|(1[0-2]))((0[1-9])|([12][0-9])|(3[01]))")
"""What the documentation asks of `from` and `to`; it lets 20230231 through."""

LOGIN: Final = fields.split(fields.LOGIN)
SIGNUP: Final = fields.split(fields.account("signup"))
LEAKED_PASSWORD: Final = fields.split(fields.account("leaked_password"))


class Window(NamedTuple):
    """Days, both included."""

    first: date
    last: date

    @classmethod
    def until(cls, last: date) -> Window:
        return cls(last - timedelta(days=WINDOW_DAYS - 1), last)

    @property
    def days(self) -> list[str]:
        count = (self.last - self.first).days + 1
        return [day_key(self.first + timedelta(days=number)) for number in range(count)]


class Day(NamedTuple):
    """One row. `first_ms` and `last_ms` are the first and last record's counted into the day, where it is known."""

    date: str
    logins: int
    signups: int
    leaked_passwords: int
    first_ms: int | None
    last_ms: int | None


@dataclass(frozen=True)
class ActiveQuestion:
    window: Window

    @property
    def key(self) -> str:
        # The window moves at midnight, and with it the question.
        return day_key(self.window.last)

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> ActiveUsers:
        """Raises BadRequestError where days are not kept for as long as the window is wide."""
        scopes = statistics.scopes_of(realms)
        await _require_days(statistics, WINDOW_DAYS)
        return await statistics.active_over(self.window.days, scopes)


@dataclass(frozen=True)
class DailyQuestion:
    window: Window

    @property
    def key(self) -> str:
        return f"{day_key(self.window.first)} {day_key(self.window.last)}"

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> list[Day]:
        """The days in which something was counted. Raises BadRequestError where no days are kept.

        When others' first and last records of a day were counted is not a limited bearer's to know.
        """
        scopes = statistics.scopes_of(realms)
        await _require_days(statistics, 1)
        counts = await statistics.counts(self.window.days, scopes)
        # That a day is held may be due to others; that there is a figure is not.
        held = [day for day in self.window.days if counts.get(day) or (realms is None and day in counts)]
        record_times = await statistics.record_times(held) if realms is None else {}
        rows = []
        for day in held:
            logins, signups, leaked = (counts[day].get(field, 0) for field in (LOGIN, SIGNUP, LEAKED_PASSWORD))
            first_ms, last_ms = record_times.get(day, (None, None))
            rows.append(Day(day, logins, signups, leaked, first_ms, last_ms))
        return rows


class _Auth0Dialect:
    """What both questions have in common."""

    name = "auth0"
    scope = SCOPE

    def __init__(self, settings: ApiSettings, clock: Clock) -> None:
        self.ttl_s = float(settings.auth0_cache_ttl_s)
        self._zone: ZoneInfo = settings.zone
        self._clock = clock.now

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), self._zone).date()

    def render_error(self, error: ApiError) -> ResponseBody:
        """401 is a bad token, 403 a good one that may not, 400 a header that holds none; elsewhere all are 401."""
        status = (
            403
            if isinstance(error, InsufficientScopeError)
            else 400
            if isinstance(error, MalformedTokenError)
            else error.status
        )
        document = {"statusCode": status, "error": HTTPStatus(status).phrase} | _error_body(error)
        return ResponseBody(orjson.dumps(document), JSON, status=status)


class ActiveUsersDialect(_Auth0Dialect):
    variant = "auth0 active-users"

    def parse(self, parameters: Mapping[str, str]) -> ActiveQuestion:
        _reject_unknown(parameters, ())
        return ActiveQuestion(Window.until(self._today()))

    def render(self, question: ActiveQuestion, users: ActiveUsers) -> ResponseBody:
        return ResponseBody(b"%d" % users.count, JSON, empty=not users.count)


class DailyDialect(_Auth0Dialect):
    def __init__(self, settings: ApiSettings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self._zero_fill = settings.auth0_zero_fill
        self.variant = f"auth0 daily {self._zero_fill}"

    def parse(self, parameters: Mapping[str, str]) -> DailyQuestion:
        _reject_unknown(parameters, ("from", "to"))
        first, last = _day(parameters, "from"), _day(parameters, "to")
        window = Window.until(last or self._today())
        if first is not None:
            window = window._replace(first=first)
        if window.first > window.last:
            raise BadRequestError("'from' date cannot be greater than 'to' date.")
        if (window.last - window.first).days >= MAX_DAYS:
            raise BadRequestError(f"'from' and 'to' cannot span more than {MAX_DAYS} days.")
        return DailyQuestion(window)

    def render(self, question: DailyQuestion, days: Sequence[Day]) -> ResponseBody:
        rows = days
        if self._zero_fill:
            known = {day.date: day for day in days}
            rows = [known.get(day) or Day(day, 0, 0, 0, None, None) for day in question.window.days]
        return ResponseBody(orjson.dumps([_row(day) for day in rows]), JSON, empty=not days)


async def _require_days(statistics: Statistics, needed: int) -> None:
    """A figure that lacks days would look like any other."""
    kept = await statistics.retain_days()
    if kept == 0:
        raise BadRequestError("Daily figures are not kept here (RETAIN_DAYS is 0), only months.")
    # Kept after their day: the first day of a window ended one day less ago than the window is wide.
    if kept is not None and kept < needed - 1:
        raise BadRequestError(f"This needs daily figures kept for {needed - 1} days, and RETAIN_DAYS is {kept} here.")


def _day(parameters: Mapping[str, str], name: str) -> date | None:
    text = parameters.get(name)
    if text is None:
        return None
    # `\d` would take other scripts' digits, so the pattern is checked as it is written, and then the calendar.
    if PATTERN.fullmatch(text):
        try:
            return date(int(text[:4]), int(text[4:6]), int(text[6:]))
        except ValueError:
            pass
    raise BadRequestError(
        f"Invalid request query string. '{name}' should be a date in format YYYYMMDD (e.g. 20261120)."
    )


def _reject_unknown(parameters: Mapping[str, str], known: Collection[str]) -> None:
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise BadRequestError(f"Invalid request query string. Unknown parameter '{unknown[0][:50]}'.")


def _row(day: Day) -> dict[str, object]:
    start = f"{day.date}T00:00:00.000Z"
    return {
        "date": start,
        "logins": day.logins,
        "signups": day.signups,
        "leaked_passwords": day.leaked_passwords,
        # Every SDK reads these as a time, some as one that is always there.
        "updated_at": start if day.last_ms is None else _rfc3339(day.last_ms),
        "created_at": start if day.first_ms is None else _rfc3339(day.first_ms),
    }


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error_body(error: ApiError) -> dict[str, object]:
    match error:
        case InsufficientScopeError():
            return _message(f"Insufficient scope, expected any of: {SCOPE}", "insufficient_scope")
        case MalformedTokenError():
            return _message("Bad HTTP authentication header format", "Bearer")
        case UnauthorizedError():
            return {"message": "Invalid token", "attributes": {"error": "Invalid token"}}
        case TooManyRequestsError():
            return _message(
                "Too many requests. Check the X-RateLimit-Limit, X-RateLimit-Remaining and X-RateLimit-Reset headers.",
                "too_many_requests",
            )
        case BadRequestError():
            return _message(error.message, "invalid_query_string")
        case ForbiddenError():
            return _message(error.message, "operation_not_allowed")
        case InternalError():
            return _message(error.message, "internal_error")
        case _:
            return _message(error.message, "service_unavailable")


def _message(message: str, code: str) -> dict[str, object]:
    return {"message": message, "errorCode": code}


def routes(settings: ApiSettings, services: Services) -> list[web.RouteDef]:
    limit = None
    if settings.auth0_rate_limit:
        limit = RateLimit(
            "auth0",
            settings.auth0_rate_limit,
            settings.auth0_rate_per_s,
            settings.key_prefix,
            services.clock,
            services.shared,
        )
    active = Endpoint(ActiveUsersDialect(settings, services.clock), services, limit)
    daily = Endpoint(DailyDialect(settings, services.clock), services, limit)
    return [web.get(f"{PREFIX}/active-users", active.get), web.get(f"{PREFIX}/daily", daily.get)]
