"""Auth0's Management API: `/api/v2/stats/active-users` and `/api/v2/stats/daily`.

Bodies, errors and `x-ratelimit-*` headers follow its documentation and its SDKs. Undocumented, and decided here:
`daily` without bounds is the last 30 days; with `to` alone the 30 days up to it, with `from` alone all days since.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web

from api.auth.rate_limit import RateLimit
from api.cache.cache import ResponseBody
from api.endpoint import Endpoint, Services
from api.http.errors import (
    ApiError,
    BadRequestError,
    ErrorBody,
    ForbiddenError,
    InsufficientScopeError,
    InternalError,
    MalformedTokenError,
    MethodNotAllowedError,
    NotFoundError,
    TooManyRequestsError,
    UnauthorizedError,
)
from api.ledger.retention import oldest_kept
from api.ledger.statistics import ActiveUsers, Statistics
from api.settings.settings import ApiSettings
from api.unmatched import Surface
from schemas.ledger import fields
from schemas.ledger.periods import day_key
from schemas.time.clock import Clock

MANAGEMENT_API: Final = "/api/v2"
PREFIX: Final = f"{MANAGEMENT_API}/stats"
JSON: Final = "application/json; charset=utf-8"
SCOPE: Final = "read:stats"

WINDOW_DAYS: Final = 30
"""The days of "active" and of a question without bounds, today included."""
MAX_DAYS: Final = 400

PATTERN: Final = re.compile(r"2[0-9]{3}((0[1-9])|(1[0-2]))((0[1-9])|([12][0-9])|(3[01]))")
"""The documented pattern of `from` and `to`; it accepts 20230231."""

LOGIN: Final = fields.split(fields.LOGIN)
SIGNUP: Final = fields.split(fields.account("signup"))
LEAKED_PASSWORD: Final = fields.split(fields.account("leaked_password"))


class Window(NamedTuple):
    """A range of days; both ends are included."""

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
    """One row. `first_ms` and `last_ms` are the times of the first and last record of the day, if known."""

    date: str
    logins: int
    signups: int
    leaked_passwords: int
    first_ms: int | None
    last_ms: int | None


@dataclass(frozen=True)
class ActiveQuestion:
    window: Window
    form: str = ""

    @property
    def is_wide(self) -> bool:
        return False

    @property
    def key(self) -> str:
        # The window moves at midnight of UTC, and its end at midnight of TIMEZONE.
        return f"{day_key(self.window.first)} {day_key(self.window.last)}"

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> ActiveUsers:
        """Raises BadRequestError if days are kept for less than the window."""
        scopes = statistics.scopes_of(realms)
        await _require_kept(statistics, self.window.first, self.window.last)
        return await statistics.active_over(self.window.days, scopes)

    def is_partial(self, figures: ActiveUsers) -> bool:
        return not figures.count


@dataclass(frozen=True)
class DailyQuestion:
    window: Window
    today: date
    form: str = ""

    @property
    def is_wide(self) -> bool:
        return False

    @property
    def key(self) -> str:
        return f"{day_key(self.window.first)} {day_key(self.window.last)} {day_key(self.today)}"

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> list[Day]:
        """The days with counts. Raises BadRequestError if some are no longer kept.

        A bearer limited to realms gets no record times: they may belong to records of other realms.
        """
        scopes = statistics.scopes_of(realms)
        await _require_kept(statistics, self.window.first, self.today)
        counts = await statistics.counts(self.window.days, scopes)
        # For a limited bearer a day needs a count: other realms' events may be why the day exists.
        held = [day for day in self.window.days if counts.get(day) or (realms is None and day in counts)]
        record_times = await statistics.record_times(held) if realms is None else {}
        rows = []
        for day in held:
            logins, signups, leaked = (counts[day].get(field, 0) for field in (LOGIN, SIGNUP, LEAKED_PASSWORD))
            first_ms, last_ms = record_times.get(day, (None, None))
            rows.append(Day(day, logins, signups, leaked, first_ms, last_ms))
        return rows

    def is_partial(self, figures: Sequence[Day]) -> bool:
        return len(figures) < len(self.window.days)


class _Auth0Dialect:
    """The common part of both questions."""

    name = "auth0"
    scope = SCOPE

    def __init__(self, settings: ApiSettings, clock: Clock) -> None:
        self.ttl_s = float(settings.auth0_cache_ttl_s)
        self._zone = settings.zone
        self._clock = clock.now

    def _today(self, zone: tzinfo = UTC) -> date:
        """In UTC, whatever TIMEZONE is: Auth0's clients have no other zone."""
        return datetime.fromtimestamp(self._clock(), zone).date()

    def render_error(self, error: ApiError) -> ErrorBody:
        return render_error(error)


class ActiveUsersDialect(_Auth0Dialect):
    variant = "auth0 active-users"
    figures: Any = ActiveUsers

    def parse(self, parameters: Mapping[str, str]) -> ActiveQuestion:
        _reject_unknown(parameters, ())
        window = Window.until(self._today())
        # East of UTC the day of TIMEZONE has begun: without it, who signs in now would be missing for hours.
        return ActiveQuestion(window._replace(last=max(window.last, self._today(self._zone))))

    def render(self, question: ActiveQuestion, users: ActiveUsers) -> ResponseBody:
        return ResponseBody(b"%d" % users.count, JSON)


class DailyDialect(_Auth0Dialect):
    figures: Any = list[Day]

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
        return DailyQuestion(window, self._today())

    def render(self, question: DailyQuestion, days: Sequence[Day]) -> ResponseBody:
        rows = days
        if self._zero_fill:
            known = {day.date: day for day in days}
            rows = [known.get(day) or Day(day, 0, 0, 0, None, None) for day in question.window.days]
        return ResponseBody(orjson.dumps([_row(day) for day in rows]), JSON)


def render_error(error: ApiError) -> ErrorBody:
    """401 for an invalid token, 403 for a missing scope, 400 for a header without a token."""
    status = (
        403
        if isinstance(error, InsufficientScopeError)
        else 400
        if isinstance(error, MalformedTokenError)
        else error.status
    )
    document = {"statusCode": status, "error": HTTPStatus(status).phrase} | _error_body(error)
    return ErrorBody(orjson.dumps(document), JSON, status)


async def _require_kept(statistics: Statistics, first: date, today: date) -> None:
    """Raises BadRequestError: days that are no longer kept would look like days without events."""
    status = await statistics.pipeline_status()
    kept = status.minimum_setting("retain_days")
    if kept == 0:
        raise BadRequestError("This deployment keeps months only, no daily figures (RETAIN_DAYS is 0).")
    if first < (oldest := oldest_kept(status, today)[0]):
        raise BadRequestError(
            f"Days before {day_key(oldest)} are no longer kept: RETAIN_DAYS is {kept} here, "
            f"and the first day asked for is {day_key(first)}."
        )


def _day(parameters: Mapping[str, str], name: str) -> date | None:
    text = parameters.get(name)
    if text is None:
        return None
    # The documented pattern first ([0-9], since `\d` accepts digits of other scripts), then the calendar.
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
        # Every SDK parses these as times, and some require them.
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
        case NotFoundError():
            return _message(error.message, "not_found")
        case MethodNotAllowedError():
            return _message(error.message, "method_not_allowed")
        case ForbiddenError():
            return _message(error.message, "operation_not_allowed")
        case InternalError():
            return _message(error.message, "internal_error")
        case _:
            return _message(error.message, "service_unavailable")


def _message(message: str, code: str) -> dict[str, object]:
    return {"message": message, "errorCode": code}


def surface(settings: ApiSettings) -> Surface:
    return Surface((MANAGEMENT_API,), render_error)


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
