"""`/v1/logins`, `/v1/tokens`, `/v1/accounts`: counters by day or month, grouped by label and by word."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from api.dialects.own import filters, window
from api.dialects.own.active_users import LIMIT
from api.dialects.own.completeness import is_complete
from api.dialects.own.filters import COLUMNS, DIMENSIONS, Filters
from api.dialects.own.parameters import BadParameterError, Parameters
from api.dialects.own.rendering import Answer, series_head
from api.dialects.own.unattributed import FAILED, unattributed
from api.dialects.own.window import Window
from api.ledger.statistics import Statistics
from api.ledger.users import ShardScope
from api.settings.settings import ApiSettings
from api.turns import pause

GRANULARITIES: Final = ("day", "month")
PARAMETERS: Final = ("from", "to", "granularity", "group_by", "limit", *filters.PARAMETERS)

MAX_READS: Final = 50_000
"""Counter hashes that one question may read: about as many as the deadline allows."""
MAX_ROWS: Final = 50_000
UNATTRIBUTED: Final = "unattributed"


class Counter(NamedTuple):
    """A series of counters.

    `counters` maps the first part of a counts field to the measure and the columns of the field's other parts.
    """

    path: str
    counters: dict[str, tuple[str, tuple[str, ...]]]
    dimensions: dict[str, str]
    """The columns of words, with the name under which their overflow is counted."""

    @property
    def measures(self) -> list[str]:
        return [measure for measure, _ in self.counters.values()]

    def measured(self, words: Collection[str]) -> list[str]:
        """The measures that have all these words."""
        return [measure for measure, columns in self.counters.values() if set(words) <= set(columns)]


LOGINS: Final = Counter(
    "/v1/logins", {"login": ("succeeded", ()), "failed": ("failed", ("reason",))}, {"reason": "reason"}
)
TOKENS: Final = Counter(
    "/v1/tokens",
    {"token": ("tokens", ("grant_type", "token_type"))},
    {"grant_type": "grant", "token_type": "token"},
)
ACCOUNTS: Final = Counter("/v1/accounts", {"account": ("events", ("kind",))}, {"kind": "kind"})
COUNTERS: Final = (LOGINS, TOKENS, ACCOUNTS)

Names = tuple[str, ...]


@dataclass(frozen=True)
class SeriesQuestion:
    counter: Counter
    window: Window
    filters: Filters
    words: Names
    """The counter's words by which rows are grouped."""
    limit: int
    zone: ZoneInfo

    @property
    def key(self) -> str:
        return f"{self.window.text} {self.filters.cache_key} {self.words} {self.limit}"

    @property
    def columns(self) -> Names:
        label = COLUMNS[DIMENSIONS[self.filters.group_by]] if self.filters.group_by else ()
        return (*label, *self.words)

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer:
        status = await statistics.pipeline_status()
        self.filters.require_kept(status)
        keys = [period.keys[0] for period in self.window.periods]
        window.require_kept(keys, status, self.window.today)
        words = [self.counter.dimensions[word] for word in self.words]
        complete = await is_complete(statistics, status, (*self.filters.dimensions, *words), realms, keys)
        changing = ("counts_by", "max_labels", "topics")
        document = series_head(status, self.window, self.filters, self.zone, changing, complete=complete)
        if self.columns:
            async with statistics.wide_questions:
                rows, left_out = await self._grouped(await self._sums(statistics, keys, realms))
            document["left_out"] = left_out
        else:
            sums = await self._sums(statistics, keys, realms)
            rows = [self._row(number, (), sums[(), number]) for number in range(len(keys))]
        document["items"] = rows
        if self.filters.by_client and FAILED in self.counter.counters:
            document[UNATTRIBUTED] = await self._unattributed(statistics, keys, realms)
            span = {"from": document["from"], "to": document["to"]}
            rows = [*rows, span | {UNATTRIBUTED: document[UNATTRIBUTED]}]
        return Answer(document, rows)

    async def _unattributed(
        self, statistics: Statistics, keys: Sequence[str], realms: Collection[str] | None
    ) -> int | None:
        found = await unattributed(self.filters, statistics, realms, await statistics.find_periods(keys), keys)
        return None if found is None else sum(found.values())

    async def _sums(
        self, statistics: Statistics, keys: Sequence[str], realms: Collection[str] | None
    ) -> dict[tuple[Names, int], dict[str, int]]:
        """By group and number of the period, the sum of each measure."""
        held = await statistics.find_periods(keys)
        if self.filters.group_by is None:
            scopes = list(await self.filters.scopes(statistics, realms))
            named: dict[Any, Names] = dict.fromkeys(scopes, ())
        else:
            groups = await self.filters.groups(statistics, realms)
            held = held._replace(known_by=groups.known_by)
            named = {group.scope: tuple(group.columns.values()) for group in groups.rows}
        numbers = {key: number for number, key in enumerate(keys)}
        sums: dict[tuple[Names, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))

        def shard_scopes() -> Iterator[ShardScope]:
            reads = 0
            for key in keys:
                for shard_scope in held.shard_scopes(key, named):
                    reads += 1
                    if reads > MAX_READS:
                        raise BadParameterError(
                            "group_by" if self.filters.group_by else "from",
                            f"That would read more than {MAX_READS} counters: ask for fewer periods or one realm.",
                        )
                    yield shard_scope

        units: list[ShardScope] = []
        for unit in shard_scopes():
            await pause()
            units.append(unit)
        async for shard_scope, counts in statistics.read_counts(units):
            for (kind, *parts), count in counts:
                measure, columns = self.counter.counters.get(kind, (None, ()))
                if measure is None:
                    continue
                words = dict(zip(columns, parts, strict=True))
                if all(word in words for word in self.words):
                    group = (*named[shard_scope.scope], *(words[word] for word in self.words))
                    sums[group, numbers[shard_scope.period]][measure] += count
        return sums

    async def _grouped(
        self, sums: dict[tuple[Names, int], dict[str, int]]
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Rows of the largest groups, largest first, for periods with counts; and the sum of the other groups."""
        totals: dict[Names, int] = defaultdict(int)
        for (group, _), measures in sums.items():
            await pause()
            totals[group] += sum(measures.values())
        ordered = sorted(totals, key=lambda group: (-totals[group], group))
        shown, others = ordered[: self.limit], ordered[self.limit :]
        rows: list[dict[str, Any]] = []
        for group in shown:
            await pause()
            numbers = range(len(self.window.periods))
            rows += [self._row(number, group, sums[group, number]) for number in numbers if (group, number) in sums]
            if len(rows) > MAX_ROWS:
                raise BadParameterError(
                    "group_by",
                    f"The answer would have more than {MAX_ROWS} rows: use fewer periods or a lower `limit`.",
                )
        return rows, {"groups": len(others), "count": sum(totals[group] for group in others)}

    def _row(self, number: int, group: Names, measures: dict[str, int]) -> dict[str, Any]:
        period = self.window.periods[number]
        span = {"from": period.span.first.isoformat(), "to": period.span.last.isoformat()}
        named = dict(zip(self.columns, group, strict=True))
        counts = {name: measures.get(name, 0) for name in self.counter.measured(self.words)}
        return {"period": period.name, **span, **named, **counts, "exact": True}


def parse(counter: Counter, parameters: Parameters, settings: ApiSettings, today: date) -> SeriesQuestion:
    granularity = parameters.choice("granularity", GRANULARITIES, "day")
    chosen = parameters.choices("group_by", (*DIMENSIONS, *counter.dimensions))
    labels = [name for name in chosen if name in DIMENSIONS]
    if len(labels) > 1:
        raise BadParameterError("group_by", "`group_by` takes only one of realm, client_id, node.")
    selected = filters.parse(parameters, settings, "counts_by", labels[0] if labels else None)
    return SeriesQuestion(
        counter,
        window.parse(parameters, today, granularity),
        selected,
        tuple(name for name in chosen if name in counter.dimensions),
        parameters.number("limit", LIMIT, 1, MAX_ROWS),
        settings.zone,
    )
