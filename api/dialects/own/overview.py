"""`/v1/overview`: the main figures of one day, and the months for billing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from api.dialects.own import filters
from api.dialects.own.active_users import definition
from api.dialects.own.completeness import is_complete
from api.dialects.own.filters import Filters
from api.dialects.own.operation import Operation
from api.dialects.own.overview_answer import (
    Activity,
    ActivitySpans,
    Billing,
    ComparedUsers,
    Measure,
    Overview,
    OverviewMonth,
    PreviousUsers,
)
from api.dialects.own.parameters import Parameters, day
from api.dialects.own.rendering import Answer, as_of, imported_count, user_count
from api.dialects.own.unattributed import FAILED, unattributed
from api.ledger.imported import Imported, month_of
from api.ledger.retention import is_kept
from api.ledger.statistics import Counts, Statistics, by_grant
from api.ledger.status import PipelineStatus
from api.settings.settings import ApiSettings
from schemas.ledger import fields
from schemas.ledger.periods import Month, Span, Week, day_key
from schemas.ledger.scopes import Scope

PATH: Final = "/v1/overview"
DATE: Final = day("date", "The day of the figures. Default: today.")
PARAMETERS: Final = (DATE, *filters.PARAMETERS)
MONTHS: Final = 12
MEASURES: Final = ("logins", "failed_logins", "signups", "tokens")
SIGNUP: Final = fields.split(fields.account("signup"))
LOGIN: Final = fields.split(fields.LOGIN)
TOKEN: Final = fields.split(fields.token("", ""))[0]


OPERATION: Final = Operation(
    PATH,
    "overview",
    "The figures of one day, compared with the previous ones",
    "Week and month end at the day and are compared with equally many days of the previous one. A filter must be kept "
    "for users and for counters (USERS_BY, COUNTS_BY). With `client_id` the failed logins are accompanied by "
    "`unattributed`; in CSV it is a figure of its own.",
    Overview,
    PARAMETERS,
    regional=True,
)
NO_USERS: Final[dict[str, Any]] = {"value": None, "exact": False, "standard_error": None}


class ComparedSpans(NamedTuple):
    """Days, and the previous days for comparison."""

    span: Span
    previous: Span


def spans(day: date) -> dict[str, ComparedSpans]:
    """The days of every figure. Week and month end at `day`; the previous ones have equally many days."""
    week, month = Span(Week.of(day).span.first, day), Span(Month.of(day).span.first, day)
    before = Month.of(day).plus(-1).span
    # A whole month is compared with a whole month, even 28 days with 31.
    whole = day == Month.of(day).span.last
    same = before.last if whole else min(before.last, before.first + timedelta(days=day.day - 1))
    return {
        "dau": ComparedSpans(Span(day, day), Span(day, day).back(1)),
        "wau": ComparedSpans(week, week.back(7)),
        "mau": ComparedSpans(month, Span(before.first, same)),
        "rolling_7_days": ComparedSpans(Span.ending(day, 7), Span.ending(day, 7).back(7)),
        "rolling_30_days": ComparedSpans(Span.ending(day, 30), Span.ending(day, 30).back(30)),
    }


@dataclass(frozen=True)
class OverviewQuestion:
    day: date
    today: date
    zone: ZoneInfo
    user_filters: Filters
    count_filters: Filters
    """The same filters as `user_filters`, checked against the other setting."""

    @property
    def is_wide(self) -> bool:
        return False

    @property
    def key(self) -> str:
        return f"{self.day} {self.today} {self.user_filters.cache_key}"

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer[Overview]:
        status = await statistics.pipeline_status()
        self.user_filters.require_kept(status)
        self.count_filters.require_kept(status)
        scopes = await self.user_filters.scopes(statistics, realms)
        imported = await statistics.imported(realms, whole=self.user_filters.is_empty)
        figures = await self._figures(statistics, status, scopes, imported)
        activity = await self._activity(statistics, status, scopes, realms, imported)
        months = await self._months(statistics, scopes, realms, imported)
        dimensions = (*self.user_filters.dimensions, "reason", "grant", "token", "kind")
        keys = list(dict.fromkeys([*self._activity_keys(status, imported), *(row.month for row in months)]))
        complete = await is_complete(statistics, status, dimensions, realms, keys)
        daily, rolling = figures["dau"].value, figures["rolling_30_days"].value
        members: dict[str, Any] = {**figures}
        answer = Overview(
            day=self.day,
            timezone=self.zone.key,
            filters=self.user_filters.as_document,
            as_of=as_of(status),
            complete=complete,
            definition=definition(status),
            **members,
            stickiness=round(daily / rolling, 4) if daily is not None and rolling else None,
            activity=ActivitySpans(**activity),
            months=months,
            billing=billing(months),
        )
        rows = [_csv_row(name, row) for name, row in figures.items()]
        for name, figures_of_span in activity.items():
            measured = {member: getattr(figures_of_span, member) for member in figures_of_span.__struct_fields__}
            rows += [_csv_row(f"{member}_{name}", row) for member, row in measured.items() if isinstance(row, Measure)]
        rows += [_csv_row("month", row) for row in months]
        day_held = (await statistics.find_periods([day_key(self.day)])).shards
        return Answer(answer, rows, partial=not complete or not day_held)

    async def _figures(
        self,
        statistics: Statistics,
        status: PipelineStatus,
        scopes: Sequence[Scope],
        imported: Mapping[str, Imported],
    ) -> dict[str, ComparedUsers]:
        asked = spans(self.day)
        every = {span: span.covering(self.today) for pair in asked.values() for span in pair}
        standing = {span: month for span, keys in every.items() if (month := month_of(keys, imported)) is not None}
        counted = [span for span in every if span not in standing and is_kept(every[span], status, self.today)]
        held = await statistics.find_periods(list(dict.fromkeys(key for span in counted for key in every[span])))
        users = await statistics.users.count([held.distinct_query(every[span], scopes) for span in counted])
        found = {span: user_count(active) for span, active in zip(counted, users, strict=True)}
        found |= {span: imported_count(month) | {"imported": month.source} for span, month in standing.items()}
        return {name: compared(pair, found) for name, pair in asked.items()}

    def _activity_spans(self, status: PipelineStatus, imported: Mapping[str, Imported]) -> dict[Span, list[str]]:
        """The days of `activity` and the previous ones, with the period keys that cover them; only those still kept."""
        pairs = [pair for name, pair in spans(self.day).items() if name in ("dau", "mau")]
        keys = {span: span.covering(self.today) for pair in pairs for span in pair}
        return {
            span: span_keys
            for span, span_keys in keys.items()
            if month_of(span_keys, imported) or is_kept(span_keys, status, self.today)
        }

    def _activity_keys(self, status: PipelineStatus, imported: Mapping[str, Imported]) -> list[str]:
        return list(dict.fromkeys(key for keys in self._activity_spans(status, imported).values() for key in keys))

    async def _activity(
        self,
        statistics: Statistics,
        status: PipelineStatus,
        scopes: Sequence[Scope],
        realms: Collection[str] | None,
        imported: Mapping[str, Imported],
    ) -> dict[str, Activity]:
        keys, periods = self._activity_spans(status, imported), self._activity_keys(status, imported)
        held = await statistics.find_periods(periods)
        counts = await statistics.sum_counts(held, periods, scopes)
        sums = {
            span: _sum([counts[key] for key in span_keys])
            if (month := month_of(span_keys, imported)) is None
            else month.counts
            for span, span_keys in keys.items()
        }
        standing = {span for span, span_keys in keys.items() if month_of(span_keys, imported)}
        found = {
            name: activity(spans(self.day)[activity_span], sums, standing)
            for name, activity_span in (("day", "dau"), ("month", "mau"))
        }
        if self.user_filters.by_client:
            failed = await unattributed(self.user_filters, statistics, realms, held, periods)
            without_client = (
                {}
                if failed is None
                else {span: sum(failed[key] for key in span_keys) for span, span_keys in keys.items()}
            )
            for name, activity_span in (("day", "dau"), ("month", "mau")):
                pair = spans(self.day)[activity_span]
                measure = _measure(without_client.get(pair.span), without_client.get(pair.previous))
                found[name] = msgspec.structs.replace(found[name], unattributed=measure)
        return found

    async def _months(
        self,
        statistics: Statistics,
        scopes: Sequence[Scope],
        realms: Collection[str] | None,
        imported: Mapping[str, Imported],
    ) -> list[OverviewMonth]:
        last = Month.of(self.day)
        months = last.plus(1 - MONTHS).until(last)
        held = await statistics.find_periods([month.key for month in months if month.key not in imported])
        own = [month.key for month in months if month.key in held.shards]
        users = dict(
            zip(own, await statistics.users.count([held.distinct_query([key], scopes) for key in own]), strict=True)
        )
        counts = await statistics.sum_counts(held, own, scopes)
        rows = []
        for month in months:
            if month.key in imported:
                other = imported[month.key]
                rows.append(self._row(month, imported_count(other), other.counts, other.source))
            elif month.key in users:
                rows.append(self._row(month, user_count(users[month.key]), counts[month.key], None))
            else:
                rows.append(self._row(month, NO_USERS, None, None))
        if self.user_filters.by_client:
            failed = await unattributed(self.user_filters, statistics, realms, held, own) or {}
            rows = [msgspec.structs.replace(row, unattributed=failed.get(row.month)) for row in rows]
        return rows

    def _row(self, month: Month, users: dict[str, Any], counts: Counts | None, imported: str | None) -> OverviewMonth:
        counters = dict.fromkeys(MEASURES) if counts is None else dict[str, int | None](measures(counts))
        if counts is not None and imported is not None:
            counters = imported_measures(counts)
        return OverviewMonth(
            month=month.key, to_date=month.span.last >= self.today, **users, **counters, imported=imported
        )


def compared(pair: ComparedSpans, found: Mapping[Span, Mapping[str, Any]]) -> ComparedUsers:
    """A figure, the previous one, and the change. A value is null if its days are no longer kept."""
    now, before = ({**_days(span), **found.get(span, NO_USERS)} for span in pair)
    return ComparedUsers(**now, previous=PreviousUsers(**before), change=_change(now["value"], before["value"]))


def activity(pair: ComparedSpans, sums: Mapping[Span, Counts], imported: Collection[Span]) -> Activity:
    """Logins, failures, sign-ups and tokens of some days, with those of the previous days."""

    def figures(span: Span) -> Mapping[str, int | None]:
        if span not in sums:
            return dict.fromkeys(MEASURES)
        return imported_measures(sums[span]) if span in imported else measures(sums[span])

    def compare(measure: str) -> Measure:
        now, before = (figures(span)[measure] for span in pair)
        return _measure(now, before)

    counts = sums.get(pair.span, {})
    grants = {grant: sum(tokens.values()) for grant, tokens in by_grant(counts).items()}
    compared_measures: dict[str, Any] = {measure: compare(measure) for measure in MEASURES}
    return Activity(
        **_days(pair.span),
        **compared_measures,
        failed_logins_by_reason=_by_word(counts, FAILED),
        tokens_by_grant_type=grants,
    )


def billing(months: Sequence[OverviewMonth]) -> Billing:
    """The average of complete months and the maximum of all; months without a figure are ignored."""
    known = [(row.value, row.month, row.to_date) for row in months if row.value is not None]
    over = [value for value, _, to_date in known if not to_date]
    maximum, maximum_month, _ = max(known, default=(None, None, None))
    return Billing(
        average=round(sum(over) / len(over), 1) if over else None,
        months_averaged=len(over),
        maximum=maximum,
        maximum_month=maximum_month,
    )


def measures(counts: Counts) -> dict[str, int]:
    return {
        "logins": counts.get(LOGIN, 0),
        "failed_logins": sum(_by_word(counts, FAILED).values()),
        "signups": counts.get(SIGNUP, 0),
        "tokens": _tokens(counts),
    }


def imported_measures(counts: Counts) -> dict[str, int | None]:
    """Those of an imported month. A missing counter is unknown, not zero."""
    known = {LOGIN: "logins", SIGNUP: "signups", (FAILED,): "failed_logins", (TOKEN,): "tokens"}
    found = {known.get(parts) or known.get(parts[:1]) for parts in counts}
    return {name: count if name in found else None for name, count in measures(counts).items()}


def _tokens(counts: Counts) -> int:
    return sum(count for parts, count in counts.items() if parts[0] == TOKEN)


def _by_word(counts: Counts, kind: str) -> dict[str, int]:
    return {parts[1]: count for parts, count in sorted(counts.items()) if parts[0] == kind}


def _sum(counts: Sequence[Counts]) -> Counts:
    sums: Counts = {}
    for each in counts:
        for parts, count in each.items():
            sums[parts] = sums.get(parts, 0) + count
    return sums


def _measure(now: int | None, before: int | None) -> Measure:
    return Measure(value=now, previous=before, change=_change(now, before))


def _days(span: Span) -> dict[str, Any]:
    return {"first": span.first, "last": span.last}


def _change(now: int | None, before: int | None) -> float | None:
    """The relative change: 0.25 is a quarter more. Null if a value is missing or the previous one is 0."""
    return round((now - before) / before, 4) if now is not None and before else None


def _csv_row(figure: str, row: ComparedUsers | Measure | OverviewMonth) -> dict[str, Any]:
    """The columns; the previous figure is its value alone."""
    columns = {"figure": figure, **msgspec.to_builtins(row)}
    previous = columns.get("previous")
    return columns | {"previous": previous["value"] if isinstance(previous, dict) else previous}


def parse(parameters: Parameters, settings: ApiSettings, today: date) -> OverviewQuestion:
    users, counts = (filters.parse(parameters, settings, setting) for setting in ("users_by", "counts_by"))
    return OverviewQuestion(parameters.get(DATE) or today, today, settings.zone, users, counts)
