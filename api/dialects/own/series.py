"""`/v1/logins`, `/v1/tokens`, `/v1/accounts`: counters by day or month, grouped by label and by word."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
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
from api.ledger.imported import Imported
from api.ledger.statistics import HeldPeriods, Statistics
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
Sums = dict[tuple[Names, int], dict[str, int]]
"""The sum of each measure, by group and number of the period."""


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
        imported = await statistics.imported(realms, whole=self.filters.is_empty)
        window.require_kept(keys, status, self.window.today, imported=imported)
        words = [self.counter.dimensions[word] for word in self.words]
        complete = await is_complete(statistics, status, (*self.filters.dimensions, *words), realms, keys)
        changing = ("counts_by", "max_labels", "topics")
        document = series_head(status, self.window, self.filters, self.zone, changing, complete=complete)
        held = await statistics.find_periods([key for key in keys if key not in imported])
        sources = {number: imported[key] for number, key in enumerate(keys) if key in imported}
        async with statistics.wide_questions if self.columns else nullcontext():
            sums = await self._sums(statistics, held, keys, realms)
            for number, month in sources.items():
                self._add(sums, (), number, month.counts.items())
            if self.columns:
                rows, left_out = await self._grouped(sums, sources)
                document["left_out"] = left_out
            else:
                rows = [self._row(number, (), sums[(), number], sources.get(number)) for number in range(len(keys))]
        document["items"] = rows
        if self.filters.by_client and FAILED in self.counter.counters:
            document[UNATTRIBUTED] = await self._unattributed(statistics, keys, realms)
            span = {"from": document["from"], "to": document["to"]}
            rows = [*rows, span | {UNATTRIBUTED: document[UNATTRIBUTED]}]
        return Answer(document, rows, partial=not complete or not set(keys) <= {*held.shards, *imported})

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
        sums: Sums = defaultdict(lambda: defaultdict(int))

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
            self._add(sums, named[shard_scope.scope], numbers[shard_scope.period], counts)
        return sums

    def _add(self, sums: Sums, label: Names, number: int, counts: Iterable[tuple[Names, int]]) -> None:
        for (kind, *parts), count in counts:
            measure, columns = self.counter.counters.get(kind, (None, ()))
            if measure is None:
                continue
            words = dict(zip(columns, parts, strict=True))
            if all(word in words for word in self.words):
                sums[(*label, *(words[word] for word in self.words)), number][measure] += count

    async def _grouped(
        self, sums: Sums, sources: Mapping[int, Imported]
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
            rows += [
                self._row(number, group, sums[group, number], sources.get(number))
                for number in numbers
                if (group, number) in sums
            ]
            if len(rows) > MAX_ROWS:
                raise BadParameterError(
                    "group_by",
                    f"The answer would have more than {MAX_ROWS} rows: use fewer periods or a lower `limit`.",
                )
        return rows, {"groups": len(others), "count": sum(totals[group] for group in others)}

    def _row(self, number: int, group: Names, sums: Mapping[str, int], month: Imported | None) -> dict[str, Any]:
        """`month` is the imported month of the row: its missing counters are unknown, not zero."""
        period = self.window.periods[number]
        span = {"from": period.span.first.isoformat(), "to": period.span.last.isoformat()}
        named = dict(zip(self.columns, group, strict=True))
        measured = self.counter.measured(self.words)
        if month is not None:
            counts = {name: sums.get(name) for name in measured}
            return {"period": period.name, **span, **named, **counts, "exact": False, "imported": month.source}
        return {"period": period.name, **span, **named, **{name: sums.get(name, 0) for name in measured}, "exact": True}


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
