"""The reads that questions need, and those that are made of others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, Protocol

from api.ledger.distinct_query import ActiveUsers, DistinctQuery
from api.ledger.held_periods import HeldPeriods
from api.ledger.imported import Counts, Imported
from api.ledger.lifecycle_figures import CohortFigures, LifecycleFigures
from api.ledger.status import HeldIds, PipelineStatus
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.ledger.periods import Month
from schemas.ledger.scopes import Scope

__all__ = ["ActiveUsers", "Counts", "HeldPeriods", "Imported", "MonthFigures", "Statistics", "by_grant"]

TOKEN: Final = fields.split(fields.token("", ""))[0]
"""First part of a counts field for tokens; grant type and token type follow."""


class MonthFigures(NamedTuple):
    """`tokens` by grant type, then token type. `source` is the origin of an imported month, None if counted here."""

    month: Month
    active: ActiveUsers
    tokens: dict[str, dict[str, int]]
    source: str | None = None


class UsersReader(Protocol):
    """Counts unions of users."""

    async def count(self, queries: Sequence[DistinctQuery]) -> list[ActiveUsers]:
        """One figure per query, in order."""


class Statistics(ABC):
    """What questions read, of one ledger or of several regions.

    Every coroutine raises one of api.ledger.client.UNREACHABLE if Redis does not answer.
    """

    users: UsersReader
    has_client_sketches: bool
    """Whether `active_clients` can be asked."""

    @abstractmethod
    def wide_question(self, realms: Collection[str] | None) -> AbstractAsyncContextManager[None]:
        """A place for one question with a row per label, among those of principals with the same realms."""

    @abstractmethod
    def scopes_of(self, realms: Collection[str] | None) -> tuple[Scope, ...]:
        """The scopes that a principal limited to `realms` sees as everything; empty if it sees nothing.

        Raises ForbiddenError if figures by realm are not kept.
        """

    @abstractmethod
    async def pipeline_status(self) -> PipelineStatus:
        """The status of each shard."""

    @abstractmethod
    async def held_ids(self) -> dict[str, HeldIds]:
        """By the shard's tag, the window in which it deduplicates event ids."""

    @abstractmethod
    async def labels(self) -> dict[Scope, set[Shard]]:
        """Known realms, clients and nodes, with the shards that know them."""

    @abstractmethod
    async def refused_by_share(self, dimension: str, realms: Collection[str]) -> bool:
        """Whether the share of one of the realms ever had no room for a label of the dimension."""

    @abstractmethod
    async def imported(self, realms: Collection[str] | None = None, *, whole: bool = True) -> dict[str, Imported]:
        """Imported months by key (`2025-03`), for a question about the whole deployment; none for any other question.

        `realms` are those of the bearer, and `whole` is false if the question has a filter or grouping by label.
        """

    @abstractmethod
    async def find_periods(self, periods: Sequence[str]) -> HeldPeriods:
        """The periods that are held, with their shards."""

    @abstractmethod
    def read_scopes(
        self, held: HeldPeriods, periods: Sequence[str], scopes: Collection[Scope]
    ) -> AsyncIterator[tuple[str, Scope, Iterable[tuple[tuple[str, ...], int]]]]:
        """The counters of each period and scope: once if the shards are merged, else in pieces that the caller adds."""

    @abstractmethod
    async def record_times(self, days: Sequence[str]) -> dict[str, tuple[int, int]]:
        """First and last record timestamp (ms) counted into each day; days without any are missing.

        Timestamps that cannot be a date are skipped; format 1 stored them unchecked.
        """

    @abstractmethod
    async def active_clients(self, period: str) -> ActiveUsers:
        """Distinct clients with a successful login or an issued token in a period."""

    @abstractmethod
    async def rolling(
        self, held: HeldPeriods, days: Sequence[str], scopes: Sequence[Scope], length: int
    ) -> list[ActiveUsers]:
        """Distinct users of each day with the `length - 1` days before it, for the days that have these before them."""

    @abstractmethod
    async def lifecycle(
        self, parts: int, base: Sequence[DistinctQuery], periods: Sequence[DistinctQuery]
    ) -> list[LifecycleFigures]:
        """Figures of each period but the first, which is the one before the first figure. `base` are all before them.

        Raises TimeoutError if a temporary sketch expired before it was counted.
        """

    @abstractmethod
    async def retention(
        self, parts: int, base: Sequence[DistinctQuery] | None, periods: Sequence[DistinctQuery], max_age: int
    ) -> list[CohortFigures]:
        """Figures of each period's users in each of the next `max_age` periods, of those not in `base` if it is given.

        Raises TimeoutError if a temporary sketch expired before it was counted.
        """

    async def months(self, months: Sequence[Month], realms: Collection[str] | None = None) -> list[MonthFigures]:
        """Figures of those `months` that were imported, or else are held, in their order.

        With `realms`, a month without figures of them is left out, because it would reveal that other realms have
        figures. Raises ForbiddenError if figures by realm are not kept.
        """
        scopes = self.scopes_of(realms)
        imported = await self.imported(realms)
        held = await self.find_periods([month.key for month in months if month.key not in imported])
        held_keys = [month.key for month in months if month.key in held.shards] if scopes else []
        counts = await self.sum_counts(held, held_keys, scopes)
        users = await self.users.count([held.distinct_query([period], scopes) for period in held_keys])
        figures = {
            period: MonthFigures(Month.of_key(period), active, by_grant(counts[period]))
            for period, active in zip(held_keys, users, strict=True)
        }
        for month in months:
            if month.key in imported:
                external = imported[month.key]
                active = ActiveUsers(external.active, 0.0)
                figures[month.key] = MonthFigures(month, active, by_grant(external.counts), external.source)
        results = [figures[month.key] for month in months if month.key in figures]
        return [row for row in results if realms is None or row.active.count or row.tokens]

    async def active_users(self, period: str, scope: Scope) -> ActiveUsers:
        """Distinct active users of a month (`2026-11`) or day (`2026-11-20`); 0 if nothing is held."""
        return await self.active_over([period], [scope])

    async def active_over(self, periods: Sequence[str], scopes: Sequence[Scope]) -> ActiveUsers:
        """Distinct active users of all `periods` and `scopes` together; 0 if nothing is held.

        Days and months may be mixed; the error is the larger one.
        """
        held = await self.find_periods(periods)
        return (await self.users.count([held.distinct_query(periods, scopes)]))[0]

    async def counts(self, periods: Sequence[str], scopes: Sequence[Scope]) -> dict[str, Counts]:
        """Counters by period, summed over `scopes`; periods that no shard holds are missing."""
        held = await self.find_periods(periods)
        return await self.sum_counts(held, [period for period in periods if period in held.shards], scopes)

    async def sum_counts(self, held: HeldPeriods, periods: Sequence[str], scopes: Sequence[Scope]) -> dict[str, Counts]:
        """Counters of each of `periods`, held or not, summed over shards and `scopes`."""
        sums: dict[str, Counts] = {period: defaultdict(int) for period in periods}
        async for period, _, counts in self.read_scopes(held, periods, scopes):
            for field, count in counts:
                sums[period][field] += count
        return sums


def by_grant(counts: Counts) -> dict[str, dict[str, int]]:
    """The token counters, by grant type, then token type."""
    grants: dict[str, dict[str, int]] = {}
    for (kind, *words), count in sorted(counts.items()):
        if kind == TOKEN:
            grant, token_type = words
            grants.setdefault(grant, {})[token_type] = count
    return grants
