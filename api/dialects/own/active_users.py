"""`/v1/active-users`: distinct active users of any days, ISO weeks or months, or of a whole range."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

from api.dialects.own import filters, window
from api.dialects.own.completeness import is_complete
from api.dialects.own.filters import Group, Subject
from api.dialects.own.parameters import BadParameter, Parameters
from api.dialects.own.rendering import Told, figure, head
from api.dialects.own.window import Period, Window
from api.ledger.rolling import count_trailing
from api.ledger.statistics import Held, Statistics
from api.ledger.status import Standing
from api.ledger.users import ActiveUsers, Union
from api.settings.settings import ApiSettings
from schemas.ledger.scopes import Scope

PATH: Final = "/v1/active-users"
GRANULARITIES: Final = ("day", "week", "month", "range")
GROUPINGS: Final = ("realm", "client_id", "node")
PARAMETERS: Final = ("from", "to", "granularity", "trailing", "group_by", "limit", *filters.PARAMETERS)
LIMIT: Final = 1000

MAX_LIMIT: Final = 10_000
MAX_UNITS: Final = 15_000
"""Sets of users (of a shard, period and label) that groups may read: about what an answer has time for."""


@dataclass(frozen=True)
class ActiveUsersQuestion:
    window: Window
    subject: Subject
    limit: int
    zone: ZoneInfo

    @property
    def key(self) -> str:
        return f"{self.window.text} {self.subject.text} {self.limit}"

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Told:
        standing = await statistics.standing()
        self.subject.must_be_kept(standing)
        keys = list(dict.fromkeys(key for period in self.window.periods for key in period.keys))
        window.must_be_kept(keys, standing, self.window.today)
        complete = await is_complete(statistics, standing, self.subject.dimensions, realms, keys)
        changing = ("active_on", "users_by", "max_labels", "exact_up_to")
        told = head(standing, self.window, self.subject, self.zone, changing, complete=complete)
        told["definition"] = definition(standing)
        if self.subject.group_by is None:
            scopes = await self.subject.scopes(statistics, realms)
            rows = await self._series(statistics, keys, scopes)
            if realms is None and self.subject.unfiltered and self.window.granularity == "month":
                rows = await _with_imported(statistics, rows)
        else:
            rows, left_out = await self._groups(statistics, standing, keys, realms)
            told["left_out"] = {"groups": left_out}
        told["items"] = rows
        return Told(told, rows)

    async def _series(
        self, statistics: Statistics, keys: Sequence[str], scopes: Sequence[Scope]
    ) -> list[dict[str, Any]]:
        held = await statistics.held(keys)
        periods = self.window.periods
        trailing = len(periods[0].keys)
        if self.window.granularity == "day" and trailing > 1:
            users = await count_trailing(statistics.users, [held.union([key], scopes) for key in keys], trailing)
        else:
            users = await statistics.users.count([held.union(period.keys, scopes) for period in periods])
        return [row(period, of) for period, of in zip(periods, users, strict=True)]

    async def _groups(
        self, statistics: Statistics, standing: Standing, keys: Sequence[str], realms: Collection[str] | None
    ) -> tuple[list[dict[str, Any]], int]:
        """The largest groups first, each with its periods, and how many more there are."""
        groups = await self.subject.groups(statistics, realms)
        whole = self.window.keys
        held = (await statistics.held(list(dict.fromkeys([*keys, *whole]))))._replace(knows=groups.knows)
        users = await statistics.users.count(_bounded([held.union(whole, [group.scope]) for group in groups.rows]))
        found = [(of, group) for of, group in zip(users, groups.rows, strict=True) if of.count]
        found.sort(key=lambda each: (-each[0].count, each[1].scope))
        shown = found[: self.limit]
        if len(self.window.periods) == 1:
            rows = [row(self.window.periods[0], of, group) for of, group in shown]
        else:
            rows = await self._each(statistics, held, [group for _, group in shown])
        return rows, len(found) - len(shown)

    async def _each(self, statistics: Statistics, held: Held, groups: Sequence[Group]) -> list[dict[str, Any]]:
        cells = [(group, period) for group in groups for period in self.window.periods]
        unions = (held.union(period.keys, [group.scope]) for group, period in cells)
        users = await statistics.users.count(_bounded(unions))
        return [row(period, of, group) for (group, period), of in zip(cells, users, strict=True) if of.count]


def row(period: Period, users: ActiveUsers, group: Group | None = None) -> dict[str, Any]:
    named = {} if group is None else group.columns
    span = period.span
    return {"period": period.name, "from": span.first.isoformat(), "to": span.last.isoformat(), **named} | figure(users)


def definition(standing: Standing) -> dict[str, Any]:
    """What made users active, as the shards were told: `login`, `refresh`; and whether realms share their users."""
    return {"active_on": standing.words("active_on"), "user_scope": standing.words("user_scope")}


def _bounded(unions: Iterable[Union]) -> list[Union]:
    """Raises BadParameter when they are more than can be told at once."""
    found: list[Union] = []
    units = 0
    for union in unions:
        # One more each, since a union of nothing costs something too.
        units += 1 + sum(1 for _ in islice(union.units(), MAX_UNITS))
        if units > MAX_UNITS:
            raise BadParameter(
                "group_by",
                "Those are more groups and periods than can be told at once: ask for whole months or fewer days, "
                "one realm, or a lower `limit`.",
            )
        found.append(union)
    return found


async def _with_imported(statistics: Statistics, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Months of which nothing was counted here tell what was imported, and from where."""
    imported = await statistics.imported()
    told = []
    for each in rows:
        month = imported.get(each["period"])
        if month is not None and month.active is not None and not each["value"]:
            figures = {"value": month.active, "exact": False, "standard_error": None}
            each = each | figures | {"imported": month.source}
        told.append(each)
    return told


def ask(parameters: Parameters, settings: ApiSettings, today: date) -> ActiveUsersQuestion:
    granularity = parameters.choice("granularity", GRANULARITIES, "day")
    trailing = parameters.number("trailing", 1, 1, window.MAX_TRAILING)
    if trailing > 1 and granularity != "day":
        raise BadParameter("trailing", "`trailing` goes with the granularity day only.")
    chosen = parameters.choices("group_by", GROUPINGS)
    if len(chosen) > 1:
        raise BadParameter("group_by", "`group_by` takes one of realm, client_id, node.")
    subject = filters.read(parameters, settings, "users_by", chosen[0] if chosen else None)
    limit = parameters.number("limit", LIMIT, 1, MAX_LIMIT)
    asked = window.read(parameters, today, granularity, trailing)
    return ActiveUsersQuestion(asked, subject, limit, settings.zone)
