"""The periods of a question about new and returning users, the periods before them, and since when users are known."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from api.dialects.own import parameters as declared
from api.dialects.own import window
from api.dialects.own.filters import CLIENT_ID, REALM
from api.dialects.own.lifecycle_answer import History
from api.dialects.own.parameters import BadParameterError, choice
from api.dialects.own.window import Period, Window
from api.ledger.client import chunks
from api.ledger.distinct_query import DistinctQuery
from api.ledger.imported import Imported
from api.ledger.lifecycle import BASE_PERIODS
from api.ledger.retention import is_kept, oldest_kept
from api.ledger.statistics import HeldPeriods, Statistics
from api.ledger.status import PipelineStatus, is_date
from schemas.events import EARLIEST
from schemas.ledger import accuracy, fields
from schemas.ledger.periods import Month, Span, Week, day_key
from schemas.ledger.scopes import EVERYTHING, Scope

DEFAULT_PERIODS: Final = 12
FROM: Final = declared.day(
    "from", f"First day, `YYYY-MM-DD`. By default the range has the {DEFAULT_PERIODS} periods up to `to`."
)
GRANULARITY: Final = choice("granularity", "The period of one item. Weeks are ISO weeks.", ("week", "month"), "month")
PARAMETERS: Final = (FROM, window.TO, REALM, CLIENT_ID, GRANULARITY)

Reason = Literal["first_counted", "retain_months", "active_on", "users_by"]


class KnownPeriods(NamedTuple):
    """The ledger's periods for a question."""

    rows: Sequence[Period]
    """The periods of the window that have begun."""
    previous: Period
    """The period before the first row."""
    history: History
    held: HeldPeriods
    base_keys: Sequence[str]
    """The held periods from `history.since` to the day before `previous`."""
    scopes: Sequence[Scope]
    imported: Mapping[str, Imported]

    @property
    def parts(self) -> int:
        """The sketches of every union: as many as the coarsest period has."""
        keys = [*self.base_keys, *self.previous.keys, *(key for row in self.rows for key in row.keys)]
        found = {accuracy.sketches(key, scope) for key in keys for scope in self.scopes}
        return min(found, default=accuracy.K_OTHERS)

    def query(self, keys: Sequence[str]) -> DistinctQuery:
        return self.held.distinct_query(keys, self.scopes)

    def base(self, more: Sequence[str] = ()) -> list[DistinctQuery]:
        """The queries for all users before `previous`, and of the periods `more`."""
        return [self.query(keys) for keys in chunks([*self.base_keys, *more], BASE_PERIODS)]

    def has_history(self, period: Period) -> bool:
        since = self.history.since
        return since is not None and period.span.first > since

    def imported_month(self, period: Period) -> Imported | None:
        return self.imported.get(period.name)

    @property
    def all_held(self) -> bool:
        return {key for row in self.rows for key in row.keys} <= {*self.held.shards, *self.imported}


async def find(
    statistics: Statistics,
    status: PipelineStatus,
    asked: Window,
    scopes: Sequence[Scope],
    imported: Mapping[str, Imported],
    zone: ZoneInfo,
    *,
    compared: bool,
) -> KnownPeriods:
    """Raises BadParameterError, naming the setting, if a needed period is no longer kept.

    Without `compared` the time before the first row is not needed.
    """
    today = asked.today
    rows = [period for period in asked.periods if period.span.first <= today]
    window.require_kept([key for period in rows for key in period.keys], status, today, imported=imported)
    previous = _before(asked.periods[0], asked.granularity, today)
    months = _candidates(status, zone, today)
    before = previous.span.first - timedelta(days=1)
    base_keys = Span(months[0].span.first, before).covering(today) if months and compared and rows else []
    keys = dict.fromkeys([*(month.key for month in months), *base_keys, *previous.keys])
    keys |= dict.fromkeys(key for row in rows for key in row.keys)
    held = await statistics.find_periods(list(keys))
    history = _history(status, held, months, scopes, imported, zone, today)
    if history.since is not None and rows and compared:
        _require_days(asked, [*base_keys, *previous.keys], history.since, status)
    return KnownPeriods(
        rows, previous, history, held, [key for key in base_keys if key in held.shards], scopes, imported
    )


def _before(period: Period, granularity: str, today: date) -> Period:
    if granularity == "week":
        week = Week.of(period.span.back(7).first)
        return Period(week.text, week.span, week.span.covering(today))
    month = Month.of(period.span.first).plus(-1)
    return Period(month.key, month.span, [month.key])


def _candidates(status: PipelineStatus, zone: ZoneInfo, today: date) -> list[Month]:
    """The months that may be held: from the first event, as far as they are kept."""
    times = [at_ms for shard in status.shards if (at_ms := shard.progress.get(fields.FIRST_EVENT)) is not None]
    first = min((_day(at_ms, zone) for at_ms in times if is_date(at_ms)), default=EARLIEST.date())
    _, kept = oldest_kept(status, today)
    return max(kept, Month.of(first)).until(Month.of(today))


def _history(
    status: PipelineStatus,
    held: HeldPeriods,
    months: Sequence[Month],
    scopes: Collection[Scope],
    imported: Iterable[str],
    zone: ZoneInfo,
    today: date,
) -> History:
    since, reason = _first_counted(status, held, months, zone, today)
    # Users by realm or client are no part of the figures of everything.
    settings: tuple[Reason, ...] = ("active_on",) if set(scopes) <= {EVERYTHING} else ("active_on", "users_by")
    for setting in settings:
        if since is None:
            break
        for changed in status.since([setting], datetime.combine(since, time(), zone)).values():
            since = None if changed is None else datetime.fromisoformat(changed).astimezone(zone).date()
            reason = setting
    return History(
        since=since,
        reason=reason,
        imported=[month for month in sorted(imported) if since is not None and month >= Month.of(since).key],
    )


def _first_counted(
    status: PipelineStatus, held: HeldPeriods, months: Sequence[Month], zone: ZoneInfo, today: date
) -> tuple[date | None, Reason | None]:
    """The first day that the ledger still knows."""
    month = next((month for month in months if month.key in held.shards), None)
    if month is None:
        return None, None
    shards = {shard_keys.shard for shard_keys in held.shards[month.key]}
    # Of another region's shards it is not known which of them hold the month.
    times = [
        shard.progress.get(fields.FIRST_EVENT)
        for shard in status.shards
        if shard.keys.shard in shards or shard.is_of_peer
    ]
    days = [_day(at_ms, zone) for at_ms in times if at_ms is not None and is_date(at_ms)]
    first = max(month.span.first, min(days, default=month.span.first))
    _, kept = oldest_kept(status, today)
    if month == kept and first == month.span.first and status.minimum_setting("retain_months") is not None:
        return first, "retain_months"
    return first, "first_counted"


def _require_days(asked: Window, keys: Iterable[str], since: date, status: PipelineStatus) -> None:
    """Weeks need the days back to the first of a month, because the time before is read as whole months."""
    needed = [key for key in keys if len(key) > len("2026-11") and key >= day_key(since)]
    if not is_kept(needed, status, asked.today):
        first_day, _ = oldest_kept(status, asked.today)
        raise BadParameterError(
            "from",
            f"Weeks from {asked.span.first} on are compared with the days from {min(needed)} on, and days before "
            f"{first_day} are no longer kept (RETAIN_DAYS).",
        )


def _day(at_ms: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(at_ms / 1000, zone).date()


def unknown_because(period: Period, known: KnownPeriods, *others: Period) -> Any:
    """Why figures of a period, compared with `others`, are unknown; None if they are known."""
    if any(known.imported_month(each) for each in (period, *others)):
        return "imported"
    return None if known.has_history(period) else "history"
