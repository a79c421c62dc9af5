"""`/v1/logins`, `/v1/tokens`, `/v1/accounts`: counters by day or month, grouped by labels and by their own words."""

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
from api.dialects.own.filters import COLUMNS, DIMENSIONS, Subject
from api.dialects.own.parameters import BadParameter, Parameters
from api.dialects.own.rendering import Told, head
from api.dialects.own.unattributed import FAILED, unattributed
from api.dialects.own.window import Window
from api.ledger.statistics import Statistics
from api.ledger.users import Unit
from api.settings.settings import ApiSettings

GRANULARITIES: Final = ("day", "month")
PARAMETERS: Final = ("from", "to", "granularity", "group_by", "limit", *filters.PARAMETERS)

MAX_READS: Final = 50_000
"""Counter hashes that one question may read: about what an answer has time for."""
MAX_ROWS: Final = 50_000
UNATTRIBUTED: Final = "unattributed"


class Counter(NamedTuple):
    """A series: the counters that it is made of, each with its measure, and the words that tell them apart.

    `counters` gives for the first part of a counts field the measure, and the columns of the other parts.
    """

    path: str
    counters: dict[str, tuple[str, tuple[str, ...]]]
    dimensions: dict[str, str]
    """Columns of words, and under which name their overflow is counted."""

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
    subject: Subject
    words: Names
    """Those of the counter's words that rows are grouped by."""
    limit: int
    zone: ZoneInfo

    @property
    def key(self) -> str:
        return f"{self.window.text} {self.subject.text} {self.words} {self.limit}"

    @property
    def columns(self) -> Names:
        label = COLUMNS[DIMENSIONS[self.subject.group_by]] if self.subject.group_by else ()
        return (*label, *self.words)

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Told:
        standing = await statistics.standing()
        self.subject.must_be_kept(standing)
        keys = [period.keys[0] for period in self.window.periods]
        window.must_be_kept(keys, standing, self.window.today)
        words = [self.counter.dimensions[word] for word in self.words]
        complete = await is_complete(statistics, standing, (*self.subject.dimensions, *words), realms, keys)
        changing = ("counts_by", "max_labels", "topics")
        told = head(standing, self.window, self.subject, self.zone, changing, complete=complete)
        sums = await self._sums(statistics, keys, realms)
        if self.columns:
            rows, left_out = self._grouped(sums)
            told["left_out"] = left_out
        else:
            rows = [self._row(number, (), sums[(), number]) for number in range(len(keys))]
        told["items"] = rows
        if self.subject.by_client and FAILED in self.counter.counters:
            told[UNATTRIBUTED] = await self._unattributed(statistics, keys, realms)
            span = {"from": told["from"], "to": told["to"]}
            rows = [*rows, span | {UNATTRIBUTED: told[UNATTRIBUTED]}]
        return Told(told, rows)

    async def _unattributed(
        self, statistics: Statistics, keys: Sequence[str], realms: Collection[str] | None
    ) -> int | None:
        found = await unattributed(self.subject, statistics, realms, await statistics.held(keys), keys)
        return None if found is None else sum(found.values())

    async def _sums(
        self, statistics: Statistics, keys: Sequence[str], realms: Collection[str] | None
    ) -> dict[tuple[Names, int], dict[str, int]]:
        """By group and number of the period, the sum of each measure."""
        held = await statistics.held(keys)
        if self.subject.group_by is None:
            scopes = list(await self.subject.scopes(statistics, realms))
            named: dict[Any, Names] = dict.fromkeys(scopes, ())
        else:
            groups = await self.subject.groups(statistics, realms)
            held = held._replace(knows=groups.knows)
            named = {group.scope: tuple(group.columns.values()) for group in groups.rows}
        numbers = {key: number for number, key in enumerate(keys)}
        sums: dict[tuple[Names, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))

        def units() -> Iterator[Unit]:
            reads = 0
            for key in keys:
                for unit in held.units(key, named):
                    reads += 1
                    if reads > MAX_READS:
                        raise BadParameter(
                            "group_by" if self.subject.group_by else "from",
                            f"That would read more than {MAX_READS} counters: ask for fewer periods or one realm.",
                        )
                    yield unit

        async for unit, counts in statistics.counted(list(units())):
            for (kind, *parts), count in counts:
                measure, columns = self.counter.counters.get(kind, (None, ()))
                if measure is None:
                    continue
                words = dict(zip(columns, parts, strict=True))
                if all(word in words for word in self.words):
                    group = (*named[unit.scope], *(words[word] for word in self.words))
                    sums[group, numbers[unit.period]][measure] += count
        return sums

    def _grouped(self, sums: dict[tuple[Names, int], dict[str, int]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """The largest groups first, each with the periods that it has counts in; and what the others add up to."""
        totals: dict[Names, int] = defaultdict(int)
        for (group, _), measures in sums.items():
            totals[group] += sum(measures.values())
        ordered = sorted(totals, key=lambda group: (-totals[group], group))
        shown, others = ordered[: self.limit], ordered[self.limit :]
        rows: list[dict[str, Any]] = []
        for group in shown:
            numbers = range(len(self.window.periods))
            rows += [self._row(number, group, sums[group, number]) for number in numbers if (group, number) in sums]
            if len(rows) > MAX_ROWS:
                raise BadParameter(
                    "group_by", f"That would be more than {MAX_ROWS} rows: ask for fewer periods or a lower `limit`."
                )
        return rows, {"groups": len(others), "count": sum(totals[group] for group in others)}

    def _row(self, number: int, group: Names, measures: dict[str, int]) -> dict[str, Any]:
        period = self.window.periods[number]
        span = {"from": period.span.first.isoformat(), "to": period.span.last.isoformat()}
        named = dict(zip(self.columns, group, strict=True))
        counts = {name: measures.get(name, 0) for name in self.counter.measured(self.words)}
        return {"period": period.name, **span, **named, **counts, "exact": True}


def ask(counter: Counter, parameters: Parameters, settings: ApiSettings, today: date) -> SeriesQuestion:
    granularity = parameters.choice("granularity", GRANULARITIES, "day")
    chosen = parameters.choices("group_by", (*DIMENSIONS, *counter.dimensions))
    labels = [name for name in chosen if name in DIMENSIONS]
    if len(labels) > 1:
        raise BadParameter("group_by", "`group_by` takes only one of realm, client_id, node.")
    subject = filters.read(parameters, settings, "counts_by", labels[0] if labels else None)
    return SeriesQuestion(
        counter,
        window.read(parameters, today, granularity),
        subject,
        tuple(name for name in chosen if name in counter.dimensions),
        parameters.number("limit", LIMIT, 1, MAX_ROWS),
        settings.zone,
    )
