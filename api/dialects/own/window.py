"""The days of a question, and the periods that they form."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date
from typing import Final, NamedTuple

from api.dialects.own import parameters as declared
from api.dialects.own.parameters import EARLIEST, BadParameterError, Parameters
from api.ledger.retention import is_kept, oldest_kept
from api.ledger.status import PipelineStatus
from schemas.ledger.periods import Month, Span, Week, day_key

FROM: Final = declared.day("from", "First day, `YYYY-MM-DD`. By default the range is the 30 days up to `to`.")
TO: Final = declared.day("to", "Last day, included. Default: today.")
DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 400
MAX_YEARS: Final = 10
MAX_ROLLING_DAYS: Final = 90
MAX_UNITED_DAYS: Final = 3_000
"""Days that all rolling windows of a question may unite."""


class Period(NamedTuple):
    """The time of one row: its name, its days, and the ledger's period keys that cover them."""

    name: str
    span: Span
    keys: list[str]


class Window(NamedTuple):
    """Periods without gaps. Weeks and months are whole, so the first and last may extend beyond the requested days.

    Rolling periods overlap, and the first begins before the requested days.
    """

    granularity: str
    span: Span
    periods: list[Period]
    today: date

    @property
    def text(self) -> str:
        # The number of periods distinguishes rolling windows from others.
        return f"{self.granularity} {self.span.first} {self.span.last} {len(self.periods)} {self.today}"

    @property
    def keys(self) -> list[str]:
        """The period keys that cover the window."""
        return self.periods[0].keys if len(self.periods) == 1 else self.span.covering(self.today)


def parse(
    parameters: Parameters, today: date, granularity: str, rolling_days: int = 1, default_periods: int = 0
) -> Window:
    """The window of `from` and `to`, both included; by default the 30 days up to today. Raises BadParameterError.

    With `rolling_days` each day's period is that many days up to it. With `default_periods` the default is that many
    weeks or months.
    """
    first, last = parameters.get(FROM), parameters.get(TO)
    if last is None:
        last = today if first is None else max(first, today)
    if first is None:
        first = max(_default_first(last, granularity, default_periods), EARLIEST)
    if first > last:
        raise BadParameterError("from", f"`from` ({first}) is after `to` ({last}).")
    requested = Span(first, last)
    if granularity in ("day", "week") and requested.length > MAX_DAYS:
        raise BadParameterError(
            "from",
            f"`from` to `to` are {requested.length} days; by {granularity} the maximum is {MAX_DAYS}.",
        )
    if requested.length > MAX_YEARS * 366:
        raise BadParameterError("from", f"`from` and `to` are more than {MAX_YEARS} years apart.")
    if rolling_days > 1 and requested.length * rolling_days > MAX_UNITED_DAYS:
        raise BadParameterError(
            "trailing",
            f"{requested.length} days times `trailing` {rolling_days} are {requested.length * rolling_days} days; "
            f"the maximum is {MAX_UNITED_DAYS}.",
        )
    if granularity == "day":
        spans = [Span.ending(day, rolling_days) for day in requested.days]
        keys = [day_key(day) for day in Span(spans[0].first, requested.last).days]
        periods = [
            Period(day_key(span.last), span, keys[number : number + rolling_days]) for number, span in enumerate(spans)
        ]
    elif granularity == "week":
        weeks = dict.fromkeys(Week.of(day) for day in requested.days)
        if next(iter(weeks)).span.first < EARLIEST:
            raise BadParameterError("from", f"The ISO week of {first} begins before {EARLIEST}.")
        periods = [Period(week.text, week.span, week.span.covering(today)) for week in weeks]
    elif granularity == "month":
        months = Month.of(first).until(Month.of(last))
        periods = [Period(month.key, month.span, [month.key]) for month in months]
    else:
        periods = [Period(f"{first}/{last}", requested, requested.covering(today))]
    return Window(granularity, Span(periods[0].span.first, periods[-1].span.last), periods, today)


def _default_first(last: date, granularity: str, periods: int) -> date:
    if not periods:
        return Span.ending(last, DEFAULT_DAYS).first
    if granularity == "month":
        return Month.of(last).plus(1 - periods).span.first
    return Week.of(last).span.back(7 * (periods - 1)).first


def require_kept(
    asked: Iterable[str],
    status: PipelineStatus,
    today: date,
    parameter: str = "from",
    imported: Collection[str] = (),
) -> None:
    """Raises BadParameterError, naming the setting, if expired periods would make a figure too low.

    `imported` are months whose figures do not expire.
    """
    keys = [key for key in asked if key not in imported]
    first_day, first_month = oldest_kept(status, today)
    months = [key for key in keys if len(key) == 7]
    days_in, months_in = (_where(status.region_of_minimum(name)) for name in ("retain_days", "retain_months"))
    if len(months) < len(keys) and status.minimum_setting("retain_days") == 0:
        raise BadParameterError(
            "granularity", f"Days are not kept{days_in or ' here'} (RETAIN_DAYS is 0); use whole months."
        )
    if not is_kept(months, status, today):
        raise BadParameterError(
            parameter, f"Months before {first_month.key} are no longer kept{months_in} (RETAIN_MONTHS)."
        )
    if not is_kept(keys, status, today):
        raise BadParameterError(parameter, f"Days before {first_day} are no longer kept{days_in} (RETAIN_DAYS).")


def _where(region: str) -> str:
    return f" in region {region}" if region else ""
