"""`/v1/lifecycle`: new, returning, reactivated and lapsed users per ISO week or month."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec import UNSET

from api.dialects.own import filters, known_periods, window
from api.dialects.own.active_users import definition
from api.dialects.own.completeness import is_complete
from api.dialects.own.filters import Filters
from api.dialects.own.known_periods import DEFAULT_PERIODS, GRANULARITY, PARAMETERS, KnownPeriods
from api.dialects.own.lifecycle_answer import Lifecycle, LifecycleDefinition, LifecycleFigure, LifecycleItem
from api.dialects.own.operation import Operation
from api.dialects.own.parameters import Parameters
from api.dialects.own.rendering import Answer, imported_count, series_head
from api.dialects.own.window import Period, Window
from api.ledger.lifecycle_figures import UNKNOWN, LifecycleFigures
from api.ledger.statistics import Statistics
from api.settings.settings import ApiSettings

PATH: Final = "/v1/lifecycle"
CHANGING: Final = ("active_on", "users_by", "max_labels", "labels_on", "exact_up_to")
"""The settings whose change affects the figures."""

OPERATION: Final = Operation(
    PATH,
    "lifecycle",
    "New, returning, reactivated and lapsed users",
    "Per whole ISO week or month. Figures are exact while all users since `history.since` are few; others have a "
    "relative standard error, and those that are too small for it have only an upper bound, `fewer_than`. At most 400 "
    "days by week, else ten years. Periods that begin after today are left out.",
    Lifecycle,
    PARAMETERS,
    regional=True,
)


@dataclass(frozen=True)
class LifecycleQuestion:
    window: Window
    filters: Filters
    zone: ZoneInfo

    @property
    def key(self) -> str:
        return f"{self.window.text} {self.filters.cache_key}"

    @property
    def is_wide(self) -> bool:
        return True

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer[Lifecycle]:
        head, known = await read_head(self.window, self.filters, self.zone, statistics, realms)
        async with statistics.wide_question(realms):
            periods = [known.previous, *known.rows]
            queries = [known.query(period.keys) for period in periods]
            found = await statistics.lifecycle(known.parts, known.base(), queries)
        items = [
            _item(figures, before, period, known, self.window.today)
            for figures, (before, period) in zip(found, pairwise(periods), strict=True)
        ]
        defined = LifecycleDefinition(active_on=head.pop("active_on"), user_scope=head.pop("user_scope"))
        answer = Lifecycle(**head, history=known.history, definition=defined, items=items)
        return Answer(answer, partial=not answer.complete or not known.all_held)


async def read_head(
    asked: Window,
    subject: Filters,
    zone: ZoneInfo,
    statistics: Statistics,
    realms: Collection[str] | None,
    *,
    compared: bool = True,
) -> tuple[dict[str, Any], KnownPeriods]:
    """The members of a SeriesHead and of a Definition, and the periods. Raises BadParameterError, ForbiddenError."""
    status = await statistics.pipeline_status()
    subject.require_kept(status)
    scopes = await subject.scopes(statistics, realms)
    imported = await statistics.imported(realms, whole=subject.is_empty)
    known = await known_periods.find(statistics, status, asked, scopes, imported, zone, compared=compared)
    keys = [key for row in known.rows for key in row.keys]
    complete = await is_complete(statistics, status, subject.dimensions, realms, keys)
    head = series_head(status, asked, subject, zone, CHANGING, complete=complete)
    active = definition(status)
    return head | {"active_on": active.active_on, "user_scope": active.user_scope}, known


def _item(found: LifecycleFigures, before: Period, period: Period, known: KnownPeriods, today: date) -> LifecycleItem:
    month = known.imported_month(period)
    has_history = known.has_history(period)
    compared = has_history and not known.imported_month(before) and month is None
    unknown = None if compared else known_periods.unknown_because(period, known, before)
    if compared and UNKNOWN in found:
        unknown = "not_united"
    active = LifecycleFigure.of(found.active)
    if month is not None:
        active = LifecycleFigure(**imported_count(month), fewer_than=None)
    return LifecycleItem(
        **period_members(period, today),
        active=active,
        new=LifecycleFigure.of(found.new if has_history and month is None else UNKNOWN),
        returning=LifecycleFigure.of(found.returning if compared else UNKNOWN),
        reactivated=LifecycleFigure.of(found.reactivated if compared else UNKNOWN),
        lapsed=LifecycleFigure.of(found.lapsed if compared else UNKNOWN),
        imported=UNSET if month is None else month.source,
        unknown=unknown or UNSET,
    )


def period_members(period: Period, today: date) -> dict[str, Any]:
    """The members of a LifecyclePeriod."""
    span = period.span
    return {"period": period.name, "first": span.first, "last": span.last, "ended": span.last < today}


def parse(parameters: Parameters, settings: ApiSettings, today: date) -> LifecycleQuestion:
    asked, subject = parse_window(parameters, settings, today)
    return LifecycleQuestion(asked, subject, settings.zone)


def parse_window(parameters: Parameters, settings: ApiSettings, today: date) -> tuple[Window, Filters]:
    subject = filters.parse(parameters, settings, "users_by")
    granularity = parameters.get(GRANULARITY)
    return window.parse(parameters, today, granularity, default_periods=DEFAULT_PERIODS), subject
