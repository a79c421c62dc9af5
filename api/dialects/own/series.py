"""`/v1/logins`, `/v1/tokens`, `/v1/accounts`: counters by day or month, grouped by label and by word."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import UNSET, UnsetType

from api.dialects.own import filters, window
from api.dialects.own.answers import Item, LeftOut, MonthCount, SeriesHead, Source, Unattributed
from api.dialects.own.completeness import is_complete
from api.dialects.own.filters import COLUMNS, DIMENSIONS, Filters
from api.dialects.own.operation import Operation
from api.dialects.own.parameters import BadParameterError, Parameter, Parameters, choice, choices, limit
from api.dialects.own.regional import REGION_GROUP
from api.dialects.own.rendering import Answer, series_head
from api.dialects.own.unattributed import FAILED, unattributed
from api.dialects.own.window import Window
from api.ledger.imported import Imported
from api.ledger.statistics import HeldPeriods, Statistics
from api.settings.settings import ApiSettings
from api.turns import pause

GRANULARITY: Final = choice("granularity", "The period of one item.", ("day", "month"), "day")
MAX_READS: Final = 50_000
"""Counts hashes (one per shard, period and scope) that one question may read: about as many as the deadline allows."""
MAX_ROWS: Final = 50_000
LIMIT: Final = limit(MAX_ROWS)
UNATTRIBUTED: Final = "unattributed"

Names = tuple[str, ...]


class LoginsItem(Item, frozen=True, kw_only=True):
    """Counts of one period, and of one group where `group_by` is given. Successes have no reason."""

    reason: str | UnsetType = UNSET
    succeeded: MonthCount | UnsetType = UNSET
    failed: MonthCount
    exact: bool
    imported: Source | UnsetType = UNSET


class TokensItem(Item, frozen=True, kw_only=True):
    """Counts of one period, and of one group where `group_by` is given."""

    grant_type: str | UnsetType = UNSET
    token_type: str | UnsetType = UNSET
    tokens: MonthCount
    exact: bool
    imported: Source | UnsetType = UNSET


class AccountsItem(Item, frozen=True, kw_only=True):
    """Counts of one period, and of one group where `group_by` is given."""

    kind: str | UnsetType = UNSET
    events: MonthCount
    exact: bool
    imported: Source | UnsetType = UNSET


class Logins(SeriesHead, frozen=True, kw_only=True):
    """Series of logins."""

    left_out: LeftOut | UnsetType = UNSET
    items: list[LoginsItem]
    unattributed: Unattributed | UnsetType = UNSET


class Tokens(SeriesHead, frozen=True, kw_only=True):
    """Series of tokens."""

    left_out: LeftOut | UnsetType = UNSET
    items: list[TokensItem]


class Accounts(SeriesHead, frozen=True, kw_only=True):
    """Series of account events."""

    left_out: LeftOut | UnsetType = UNSET
    items: list[AccountsItem]


SeriesItem = LoginsItem | TokensItem | AccountsItem
Series = Logins | Tokens | Accounts


class CounterSeries(NamedTuple):
    """A series of counters.

    `counters` maps the first part of a counts field to the measure and the columns of the field's other parts:
    `failed/locked` counts under the measure `failed`, with `locked` in the column `reason`.
    """

    answer: type[Series]
    item: type[SeriesItem]
    path: str
    counters: dict[str, tuple[str, tuple[str, ...]]]
    dimensions: dict[str, str]
    """By column of words: their dimension, as labels and overflow have it (`grant` for the column `grant_type`)."""

    @property
    def measures(self) -> list[str]:
        return [measure for measure, _ in self.counters.values()]

    @property
    def groupings(self) -> Names:
        return (*DIMENSIONS, *self.dimensions)

    @property
    def group_by(self) -> Parameter[Names]:
        return choices(
            "group_by",
            "One item per label or word; the label's dimension must be kept (COUNTS_BY). `region`: also per region.",
            (REGION_GROUP, *self.groupings),
            self.groupings[-1],
        )

    @property
    def operation(self) -> Operation:
        name = self.path.rpartition("/")[2]
        by_client = (
            " With a filter or grouping by client the answer has `unattributed`; in CSV it is a last row with the days "
            "of the whole answer and all other columns blank."
        )
        return Operation(
            self.path,
            name,
            f"Counters of {name}",
            f"By day or month, grouped by any of {', '.join(self.groupings)}, separated by commas; at most one of them "
            f"a label.{by_client if FAILED in self.counters else ''}",
            self.answer,
            (window.FROM, window.TO, *filters.PARAMETERS, GRANULARITY, self.group_by, LIMIT),
            regional=True,
        )

    def measured(self, words: Collection[str]) -> list[str]:
        """The measures that have all these words."""
        return [measure for measure, columns in self.counters.values() if set(words) <= set(columns)]


LOGINS: Final = CounterSeries(
    Logins,
    LoginsItem,
    "/v1/logins",
    {"login": ("succeeded", ()), "failed": ("failed", ("reason",))},
    {"reason": "reason"},
)
TOKENS: Final = CounterSeries(
    Tokens,
    TokensItem,
    "/v1/tokens",
    {"token": ("tokens", ("grant_type", "token_type"))},
    {"grant_type": "grant", "token_type": "token"},
)
ACCOUNTS: Final = CounterSeries(
    Accounts, AccountsItem, "/v1/accounts", {"account": ("events", ("kind",))}, {"kind": "kind"}
)
COUNTERS: Final = (LOGINS, TOKENS, ACCOUNTS)


class Sums:
    """The sum of each measure by group and number of the period, in one list per group: a dictionary per row would take
    ten times the memory."""

    def __init__(self, periods: int, measures: Sequence[str]) -> None:
        self._periods = periods
        self._columns = {measure: column for column, measure in enumerate(measures)}
        self._held: dict[Names, list[int | None]] = {}
        """By group: a value per period and measure; None without one."""

    def add(self, group: Names, number: int, measure: str, count: int) -> None:
        held = self._held.get(group)
        if held is None:
            held = self._held[group] = [None] * (self._periods * len(self._columns))
        place = number * len(self._columns) + self._columns[measure]
        held[place] = (held[place] or 0) + count

    def of(self, group: Names, number: int) -> dict[str, int]:
        """The measures of a period that have a value."""
        held = self._held.get(group)
        if held is None:
            return {}
        first = number * len(self._columns)
        found = ((measure, held[first + column]) for measure, column in self._columns.items())
        return {measure: count for measure, count in found if count is not None}

    async def totals(self) -> dict[Names, int]:
        """The sum of all measures and periods, by group."""
        found: dict[Names, int] = {}
        for group, held in self._held.items():
            await pause()
            found[group] = sum(filter(None, held))
        return found


@dataclass(frozen=True)
class SeriesQuestion:
    counter: CounterSeries
    window: Window
    filters: Filters
    words: Names
    """The counter's words by which rows are grouped."""
    limit: int
    zone: ZoneInfo

    @property
    def is_wide(self) -> bool:
        return bool(self.columns)

    @property
    def key(self) -> str:
        return f"{self.window.text} {self.filters.cache_key} {self.words} {self.limit}"

    @property
    def columns(self) -> Names:
        label = COLUMNS[DIMENSIONS[self.filters.group_by]] if self.filters.group_by else ()
        return (*label, *self.words)

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer[Series]:
        status = await statistics.pipeline_status()
        self.filters.require_kept(status)
        keys = [period.keys[0] for period in self.window.periods]
        imported = await statistics.imported(realms, whole=self.filters.is_empty)
        window.require_kept(keys, status, self.window.today, imported=imported)
        words = [self.counter.dimensions[word] for word in self.words]
        complete = await is_complete(statistics, status, (*self.filters.dimensions, *words), realms, keys)
        changing = ("counts_by", "max_labels", "labels_on", "topics")
        head = series_head(status, self.window, self.filters, self.zone, changing, complete=complete)
        held = await statistics.find_periods([key for key in keys if key not in imported])
        sources = {number: imported[key] for number, key in enumerate(keys) if key in imported}
        async with statistics.wide_question(realms) if self.is_wide else nullcontext():
            sums = await self._sums(statistics, held, keys, realms)
            for number, month in sources.items():
                self._add(sums, (), number, month.counts.items())
            if self.columns:
                items, head["left_out"] = await self._grouped(sums, sources)
            else:
                items = [self._row(number, (), sums.of((), number), sources.get(number)) for number in range(len(keys))]
        more_rows: list[dict[str, Any]] = []
        if self.filters.by_client and FAILED in self.counter.counters:
            head[UNATTRIBUTED] = await self._unattributed(statistics, keys, realms)
            span = {"from": self.window.span.first.isoformat(), "to": self.window.span.last.isoformat()}
            more_rows = [span | {UNATTRIBUTED: head[UNATTRIBUTED]}]
        answer = self.counter.answer(**head, items=items)
        partial = not complete or not set(keys) <= {*held.shards, *imported}
        return Answer(answer, more_rows, self.words, partial)

    async def _unattributed(
        self, statistics: Statistics, keys: Sequence[str], realms: Collection[str] | None
    ) -> int | None:
        found = await unattributed(self.filters, statistics, realms, await statistics.find_periods(keys), keys)
        return None if found is None else sum(found.values())

    async def _sums(
        self, statistics: Statistics, held: HeldPeriods, keys: Sequence[str], realms: Collection[str] | None
    ) -> Sums:
        """The counters of the periods that are held."""
        if self.filters.group_by is None:
            scopes = list(await self.filters.scopes(statistics, realms))
            named: dict[Any, Names] = dict.fromkeys(scopes, ())
        else:
            groups = await self.filters.groups(statistics, realms)
            held = held._replace(known_by=groups.known_by)
            named = {group.scope: tuple(group.columns.values()) for group in groups.rows}
        numbers = {key: number for number, key in enumerate(keys)}
        sums = Sums(len(keys), self.counter.measures)
        if await held.number_of_reads(keys, named) > MAX_READS:
            raise BadParameterError(
                "group_by" if self.filters.group_by else "from",
                f"That would read more than {MAX_READS} counters: ask for fewer periods, or filter by "
                f"{filters.narrower(self.filters.group_by)}.",
            )
        async for period, scope, counts in statistics.read_scopes(held, keys, named):
            self._add(sums, named[scope], numbers[period], counts)
        return sums

    def _add(self, sums: Sums, label: Names, number: int, counts: Iterable[tuple[Names, int]]) -> None:
        for (kind, *parts), count in counts:
            measure, columns = self.counter.counters.get(kind, (None, ()))
            if measure is None:
                continue
            words = dict(zip(columns, parts, strict=True))
            if all(word in words for word in self.words):
                sums.add((*label, *(words[word] for word in self.words)), number, measure, count)

    async def _grouped(self, sums: Sums, sources: Mapping[int, Imported]) -> tuple[list[Any], LeftOut]:
        """Rows of the largest groups, largest first, for periods with counts; and the sum of the other groups."""
        totals = await sums.totals()
        ordered = sorted(totals, key=lambda group: (-totals[group], group))
        shown, others = ordered[: self.limit], ordered[self.limit :]
        rows: list[Any] = []
        for group in shown:
            for number in range(len(self.window.periods)):
                await pause()
                if found := sums.of(group, number):
                    rows.append(self._row(number, group, found, sources.get(number)))
            if len(rows) > MAX_ROWS:
                raise BadParameterError(
                    "group_by",
                    f"The answer would have more than {MAX_ROWS} rows: use fewer periods or a lower `limit`.",
                )
        return rows, LeftOut(groups=len(others), count=sum(totals[group] for group in others))

    def _row(self, number: int, group: Names, sums: Mapping[str, int], month: Imported | None) -> SeriesItem:
        """`month` is the imported month of the row: its missing counters are unknown, not zero."""
        period = self.window.periods[number]
        span: dict[str, Any] = {"first": period.span.first, "last": period.span.last}
        named: dict[str, Any] = dict(zip(self.columns, group, strict=True))
        measured = self.counter.measured(self.words)
        if month is not None:
            found: dict[str, Any] = {name: sums.get(name) for name in measured}
            return self.counter.item(period=period.name, **span, **named, **found, exact=False, imported=month.source)
        counts: dict[str, Any] = {name: sums.get(name, 0) for name in measured}
        return self.counter.item(period=period.name, **span, **named, **counts, exact=True)


def parse(counter: CounterSeries, parameters: Parameters, settings: ApiSettings, today: date) -> SeriesQuestion:
    granularity = parameters.get(GRANULARITY)
    chosen = parameters.get(counter.group_by)
    labels = [name for name in chosen if name in DIMENSIONS]
    if len(labels) > 1:
        raise BadParameterError("group_by", "`group_by` takes only one of realm, client_id, node.")
    selected = filters.parse(parameters, settings, "counts_by", labels[0] if labels else None)
    return SeriesQuestion(
        counter,
        window.parse(parameters, today, granularity),
        selected,
        tuple(name for name in chosen if name in counter.dimensions),
        parameters.get(LIMIT),
        settings.zone,
    )
