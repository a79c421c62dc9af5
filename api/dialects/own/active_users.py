"""`/v1/active-users`: distinct active users per day, ISO week or month, or of a whole range."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, UnsetType

from api.dialects.own import answers, filters, window
from api.dialects.own.answers import Exact, Item, LeftOut, Source, StandardError, Value
from api.dialects.own.completeness import is_complete
from api.dialects.own.filters import Filters, Group
from api.dialects.own.operation import Operation
from api.dialects.own.parameters import BadParameterError, Parameters, choice, choices, limit, number
from api.dialects.own.regional import REGION_GROUP
from api.dialects.own.rendering import Answer, imported_count, series_head, user_count
from api.dialects.own.window import Period, Window
from api.ledger import distinct_query
from api.ledger.distinct_query import DistinctQuery
from api.ledger.imported import Imported, month_of
from api.ledger.merged import MAX_UNITS
from api.ledger.statistics import HeldPeriods, Statistics
from api.ledger.status import PipelineStatus
from api.settings.settings import ApiSettings
from api.turns import pause
from schemas.ledger.scopes import Scope

PATH: Final = "/v1/active-users"
GRANULARITY: Final = choice("granularity", "The period of one item.", ("day", "week", "month", "range"), "day")
TRAILING: Final = number(
    "trailing",
    "With the granularity day: each item has the users of this many days up to its own. The requested days times this "
    f"number are at most {window.MAX_UNITED_DAYS}.",
    1,
    1,
    window.MAX_ROLLING_DAYS,
)
GROUP_BY: Final = choices(
    "group_by",
    "One item per label; the dimension must be kept (USERS_BY). `region`: also, or only, one per region.",
    (REGION_GROUP, *filters.DIMENSIONS),
    "realm",
)._replace(
    schema={
        "type": "string",
        "enum": [*filters.DIMENSIONS, REGION_GROUP, *(f"{REGION_GROUP},{name}" for name in filters.DIMENSIONS)],
    }
)
NARROW: Final = 62
"""Most days and months that a series without groups may unite and still be no wide question."""
MAX_LIMIT: Final = 10_000
LIMIT: Final = limit(MAX_LIMIT)
PARAMETERS: Final = (window.FROM, window.TO, *filters.PARAMETERS, GRANULARITY, TRAILING, GROUP_BY, LIMIT)
MAX_SHARD_SCOPES: Final = 15_000
"""User sets (one per shard, period and label) that groups may read: about as many as the deadline allows."""
MERGED_WEIGHT: Final = 4
"""As many sets of a period that is merged over the shards take as long as one other; once merged they take none."""


class ActiveUsersItem(Item, frozen=True, kw_only=True):
    """Users of one period, and of one group where `group_by` is given."""

    value: Value
    exact: Exact
    standard_error: StandardError
    imported: Source | UnsetType = UNSET


class ActiveUsers(answers.SeriesHead, frozen=True, kw_only=True):
    """Series of distinct active users."""

    definition: answers.Definition
    left_out: LeftOut | UnsetType = UNSET
    items: list[ActiveUsersItem]


OPERATION: Final = Operation(
    PATH,
    "active_users",
    "Distinct active users",
    "Per whole day, ISO week or month, or for the whole range. Small numbers are exact; others have a relative "
    "standard error. At most 400 days by day and week.",
    ActiveUsers,
    PARAMETERS,
    regional=True,
)


@dataclass(frozen=True)
class ActiveUsersQuestion:
    window: Window
    filters: Filters
    limit: int
    zone: ZoneInfo

    @property
    def is_wide(self) -> bool:
        keys = {key for period in self.window.periods for key in period.keys}
        return self.filters.group_by is not None or len(keys) > NARROW

    @property
    def key(self) -> str:
        return f"{self.window.text} {self.filters.cache_key} {self.limit}"

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer[ActiveUsers]:
        status = await statistics.pipeline_status()
        self.filters.require_kept(status)
        keys = list(dict.fromkeys(key for period in self.window.periods for key in period.keys))
        imported = await statistics.imported(realms, whole=self.filters.is_empty)
        alone = {period.keys[0] for period in self.window.periods if len(period.keys) == 1}
        window.require_kept(keys, status, self.window.today, imported=imported.keys() & alone)
        complete = await is_complete(statistics, status, self.filters.dimensions, realms, keys)
        changing = ("active_on", "users_by", "max_labels", "labels_on", "exact_up_to")
        head = series_head(status, self.window, self.filters, self.zone, changing, complete=complete)
        left_out: LeftOut | UnsetType = UNSET
        if self.filters.group_by is None:
            scopes = await self.filters.scopes(statistics, realms)
            async with statistics.wide_question(realms) if self.is_wide else nullcontext():
                rows, held = await self._series(statistics, keys, scopes)
            rows = [
                _with_imported(row, period, imported) for row, period in zip(rows, self.window.periods, strict=True)
            ]
        else:
            async with statistics.wide_question(realms):
                rows, others, held = await self._groups(statistics, status, keys, realms)
            left_out = LeftOut(groups=others)
        answer = ActiveUsers(**head, definition=definition(status), left_out=left_out, items=rows)
        return Answer(answer, partial=not complete or not set(keys) <= {*held, *imported})

    async def _series(
        self, statistics: Statistics, keys: Sequence[str], scopes: Sequence[Scope]
    ) -> tuple[list[ActiveUsersItem], Collection[str]]:
        """A row per period, and the period keys that are held."""
        held = await statistics.find_periods(keys)
        periods = self.window.periods
        rolling_days = len(periods[0].keys)
        if self.window.granularity == "day" and rolling_days > 1:
            users = await statistics.rolling(held, keys, scopes, rolling_days)
        else:
            users = await statistics.users.count([held.distinct_query(period.keys, scopes) for period in periods])
        return [user_row(period, found) for period, found in zip(periods, users, strict=True)], held.shards.keys()

    async def _groups(
        self, statistics: Statistics, status: PipelineStatus, keys: Sequence[str], realms: Collection[str] | None
    ) -> tuple[list[ActiveUsersItem], int, Collection[str]]:
        """Rows of the largest groups, largest first, each with its periods; the number of further groups; held keys."""
        groups = await self.filters.groups(statistics, realms)
        whole = self.window.keys
        held = (await statistics.find_periods(list(dict.fromkeys([*keys, *whole]))))._replace(known_by=groups.known_by)
        users = await statistics.users.count(
            await self._check_size([held.distinct_query(whole, [group.scope]) for group in groups.rows])
        )
        active = [(found, group) for found, group in zip(users, groups.rows, strict=True) if found.count]
        active.sort(key=lambda each: (-each[0].count, each[1].scope))
        shown = active[: self.limit]
        if len(self.window.periods) == 1:
            rows = [user_row(self.window.periods[0], found, group) for found, group in shown]
        else:
            rows = await self._rows_by_period(statistics, held, [group for _, group in shown])
        return rows, len(active) - len(shown), held.shards.keys()

    async def _rows_by_period(
        self, statistics: Statistics, held: HeldPeriods, groups: Sequence[Group]
    ) -> list[ActiveUsersItem]:
        cells = [(group, period) for group in groups for period in self.window.periods]
        queries = await self._check_size(
            (held.distinct_query(period.keys, [group.scope]) for group, period in cells), ", or use a lower `limit`"
        )
        rows = []
        for (group, period), found in zip(cells, await statistics.users.count(queries), strict=True):
            await pause()
            if found.count:
                rows.append(user_row(period, found, group))
        return rows

    async def _check_size(self, queries: Iterable[DistinctQuery], other_way: str = "") -> list[DistinctQuery]:
        """The queries as a list. Raises BadParameterError if they read more than MAX_SHARD_SCOPES."""
        found: list[DistinctQuery] = []
        single, merged, units = 0, 0, 0
        for query in queries:
            await pause()
            # Plus one each, since an empty union costs something too.
            single += 1
            units += len(query.units)
            for each in islice(query.shard_scopes(), MERGED_WEIGHT * MAX_SHARD_SCOPES):
                if (each.period, each.scope) in query.units:
                    merged += 1
                else:
                    single += 1
            if single + merged / (MERGED_WEIGHT if units <= MAX_UNITS else 1) > MAX_SHARD_SCOPES:
                raise BadParameterError(
                    "group_by",
                    "The request has too many groups and periods: use whole months or fewer days, filter by "
                    f"{filters.narrower(self.filters.group_by)}{other_way}.",
                )
            found.append(query)
        return found


def user_row(period: Period, users: distinct_query.ActiveUsers, group: Group | None = None) -> ActiveUsersItem:
    labels: dict[str, Any] = {} if group is None else {**group.columns}
    span = period.span
    return ActiveUsersItem(period=period.name, first=span.first, last=span.last, **labels, **user_count(users))


def definition(status: PipelineStatus) -> answers.Definition:
    """The definition of an active user by the shards' own settings: the events, and whether realms share users."""
    return answers.Definition(
        active_on=status.setting_values("active_on"), user_scope=status.setting_values("user_scope")
    )


def _with_imported(row: ActiveUsersItem, period: Period, imported: Mapping[str, Imported]) -> ActiveUsersItem:
    """The row, with the imported figure and its source if its period is exactly an imported month."""
    month = month_of(period.keys, imported)
    if month is None:
        return row
    return msgspec.structs.replace(row, **imported_count(month), imported=month.source)


def parse(parameters: Parameters, settings: ApiSettings, today: date) -> ActiveUsersQuestion:
    granularity = parameters.get(GRANULARITY)
    rolling_days = parameters.get(TRAILING)
    if rolling_days > 1 and granularity != "day":
        raise BadParameterError("trailing", "`trailing` needs the granularity day.")
    chosen = [name for name in parameters.get(GROUP_BY) if name != REGION_GROUP]
    if len(chosen) > 1:
        raise BadParameterError("group_by", "`group_by` takes only one of realm, client_id, node.")
    selected = filters.parse(parameters, settings, "users_by", chosen[0] if chosen else None)
    asked = window.parse(parameters, today, granularity, rolling_days)
    return ActiveUsersQuestion(asked, selected, parameters.get(LIMIT), settings.zone)
