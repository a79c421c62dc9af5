"""All reads of the ledger's statistics. A query needs a few pipelines, each of bounded size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from api.http.errors import ForbiddenError
from api.http.places import Places, tenant_of
from api.ledger.client import Client, Command, chunks
from api.ledger.distinct_query import ActiveUsers, DistinctQuery, ShardScope
from api.ledger.held_periods import HeldPeriods, find_periods
from api.ledger.imported import Counts, Imported, decode_months
from api.ledger.lifecycle import cohort_rows, lifecycle_rows
from api.ledger.lifecycle_figures import CohortFigures, LifecycleFigures, cohort_figures, lifecycle_figures
from api.ledger.merged import MergedPeriods
from api.ledger.merged_store import MergedStore
from api.ledger.rolling import count_rolling
from api.ledger.status import HeldIds, PipelineStatus, ShardStatus, integer, is_date
from api.ledger.users import DistinctUsers
from api.metrics import ACCESS_REFUSALS
from api.turns import pause
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope
from schemas.settings import CommonSettings

__all__ = ["ActiveUsers", "Counts", "HeldPeriods", "Imported", "MonthFigures", "Statistics", "by_grant"]

TOKEN: Final = fields.split(fields.token("", ""))[0]
"""First part of a counts field for tokens; grant type and token type follow."""

LABEL_DIMENSIONS: Final = frozenset({"realm", "client", "node"})
"""Dimensions of labels; the other members of the set are words."""

MAX_COMMANDS: Final = 250
"""Most commands of one pipeline, which blocks this process and Redis."""
MAX_WIDE: Final = 3
"""Most questions with a row per label that are computed at the same time: each may hold tens of MB."""
MAX_WIDE_OF_ONE: Final = 2
"""Most of them of one tenant, so that the wide questions of another never wait for its own."""


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


class Statistics:
    """Reads a ledger. Every method raises one of api.ledger.client.UNREACHABLE if Redis does not answer."""

    has_client_sketches = True
    """Whether `active_clients` can be asked."""

    def __init__(self, client: Client, settings: CommonSettings, merged: MergedStore | None = None) -> None:
        """With `merged`, closed periods are merged over all shards and kept there."""
        self._client = client
        self._prefix = settings.key_prefix
        self._by_realm = "realm" in settings.users_by and "realm" in settings.counts_by
        self._wide_questions = Places(MAX_WIDE, MAX_WIDE_OF_ONE, wait_s=None)
        cluster, exact_up_to = settings.redis_cluster, settings.exact_up_to
        self._merged = (
            None if merged is None else MergedPeriods(client, self._prefix, exact_up_to, merged, cluster=cluster)
        )
        self.distinct = DistinctUsers(client, self._prefix, exact_up_to, cluster=cluster, merged=self._merged)
        # Over regions another reader takes its place; `distinct` always reads this ledger.
        self.users: UsersReader = self.distinct

    def wide_question(self, realms: Collection[str] | None) -> AbstractAsyncContextManager[None]:
        """A place for one question with a row per label, among those of principals with the same realms."""
        return self._wide_questions.take(tenant_of(realms))

    def scopes_of(self, realms: Collection[str] | None) -> tuple[Scope, ...]:
        """The scopes that a principal limited to `realms` sees as everything; empty if it sees nothing.

        Raises ForbiddenError if figures by realm are not kept.
        """
        if realms is None:
            return (EVERYTHING,)
        if not self._by_realm:
            ACCESS_REFUSALS.labels("realms").inc()
            raise ForbiddenError(
                "Figures by realm are not kept here (USERS_BY, COUNTS_BY), and this token may read no others."
            )
        return tuple(Scope("realm", (realm,)) for realm in sorted(realms) if realm != OTHER)

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

    async def rolling(
        self, held: HeldPeriods, days: Sequence[str], scopes: Sequence[Scope], length: int
    ) -> list[ActiveUsers]:
        """Distinct users of each day with the `length - 1` days before it, for the days that have these before them."""
        return await count_rolling(self.distinct, [held.distinct_query([day], scopes) for day in days], length)

    async def lifecycle(
        self, parts: int, base: Sequence[DistinctQuery], periods: Sequence[DistinctQuery]
    ) -> list[LifecycleFigures]:
        """Figures of each period but the first, which is the one before the first figure. `base` are all before them.

        Raises TimeoutError if a temporary sketch expired before it was counted.
        """
        return [lifecycle_figures([row]) for row in await lifecycle_rows(self.distinct, parts, base, periods)]

    async def retention(
        self, parts: int, base: Sequence[DistinctQuery] | None, periods: Sequence[DistinctQuery], max_age: int
    ) -> list[CohortFigures]:
        """Figures of each period's users in each of the next `max_age` periods, of those not in `base` if it is given.

        Raises TimeoutError if a temporary sketch expired before it was counted.
        """
        rows = await cohort_rows(self.distinct, parts, base, periods, max_age)
        return [cohort_figures([row]) for row in rows]

    async def counts(self, periods: Sequence[str], scopes: Sequence[Scope]) -> dict[str, Counts]:
        """Counters by period, summed over `scopes`; periods that no shard holds are missing."""
        held = await self.find_periods(periods)
        return await self.sum_counts(held, [period for period in periods if period in held.shards], scopes)

    async def record_times(self, days: Sequence[str]) -> dict[str, tuple[int, int]]:
        """First and last record timestamp (ms) counted into each day; days without any are missing.

        Timestamps that cannot be a date are skipped; format 1 stored them unchecked.
        """
        held = await self.find_periods(days)
        targets = [(day, shard) for day in days for shard in held.shards.get(day, ())]
        found: dict[str, list[int]] = defaultdict(list)
        commands: list[Command] = [
            ("HMGET", shard.record_times(day), fields.FIRST, fields.LAST) for day, shard in targets
        ]
        for (day, _), times in zip(targets, await self.run(commands), strict=True):
            numbers = [integer(text.decode(errors="replace")) for text in times if text is not None]
            found[day] += [at_ms for at_ms in numbers if at_ms is not None and is_date(at_ms)]
        return {day: (min(times), max(times)) for day, times in found.items() if times}

    async def shards(self) -> list[ShardKeys]:
        """Every shard of the ledger, in order."""
        return (await self._registry())[0]

    async def _registry(self) -> tuple[list[ShardKeys], bytes]:
        """Every shard, in order, and the id of the ledger; empty without one."""
        tags, ledger_id = await self._client.run(
            [("SMEMBERS", keys.shards(self._prefix)), ("GET", keys.ledger_id(self._prefix))]
        )
        return [ShardKeys(self._prefix, Shard.parse(tag.decode())) for tag in sorted(tags)], ledger_id or b""

    async def find_periods(self, periods: Sequence[str]) -> HeldPeriods:
        """The periods that are held, with their shards."""
        shards, ledger_id = await self._registry()
        # Without an id no period is merged.
        return await find_periods(self.run, shards, ledger_id if self._merged is not None else b"", periods)

    async def sum_counts(self, held: HeldPeriods, periods: Sequence[str], scopes: Sequence[Scope]) -> dict[str, Counts]:
        """Counters of each of `periods`, held or not, summed over shards and `scopes`."""
        sums: dict[str, Counts] = {period: defaultdict(int) for period in periods}
        async for period, _, counts in self.read_scopes(held, periods, scopes):
            for field, count in counts:
                sums[period][field] += count
        return sums

    async def read_counts(
        self, units: Iterable[ShardScope]
    ) -> AsyncIterator[tuple[ShardScope, list[tuple[tuple[str, ...], int]]]]:
        """The counters of each unit, in chunks of MAX_COMMANDS."""
        for chunk in chunks(units, MAX_COMMANDS):
            commands: list[Command] = [("HGETALL", unit.shard.counts(unit.period, unit.scope)) for unit in chunk]
            for unit, found in zip(chunk, await self._client.run(commands), strict=True):
                await pause()
                yield unit, [(fields.split(field.decode()), int(count)) for field, count in found.items()]

    async def read_scopes(
        self, held: HeldPeriods, periods: Sequence[str], scopes: Collection[Scope]
    ) -> AsyncIterator[tuple[str, Scope, Iterable[tuple[tuple[str, ...], int]]]]:
        """The counters of each period and scope: once if the shards are merged, else in pieces that the caller adds."""
        merged = await self._merged.counts(held.units(periods, scopes)) if self._merged is not None else {}
        for (period, scope), counters in merged.items():
            await pause()
            yield period, scope, counters.items()
        units = (
            each
            for period in periods
            for each in held.shard_scopes(period, scopes)
            if (each.period, each.scope) not in merged
        )
        async for unit, counts in self.read_counts(units):
            yield unit.period, unit.scope, counts

    async def labels(self) -> dict[Scope, set[Shard]]:
        """Known realms, clients and nodes, with the shards that know them."""
        shards = await self.shards()
        known: dict[Scope, set[Shard]] = {}
        replies = await self.run([("SMEMBERS", shard.labels) for shard in shards])
        for shard, members in zip(shards, replies, strict=True):
            for member in members:
                await pause()
                dimension, *names = fields.split(member.decode())
                if dimension in LABEL_DIMENSIONS:
                    known.setdefault(Scope(dimension, tuple(names)), set()).add(shard.shard)
        return known

    async def refused_by_share(self, dimension: str, realms: Collection[str]) -> bool:
        """Whether the share of one of the realms ever had no room for a label of the dimension."""
        names = [fields.refused(dimension, realm) for realm in realms]
        if not names:
            return False
        replies = await self.run([("HMGET", shard.shares, *names) for shard in await self.shards()])
        return any(value is not None for values in replies for value in values)

    async def pipeline_status(self) -> PipelineStatus:
        """The status of each shard."""
        shards = await self.shards()
        commands: list[Command] = []
        for shard in shards:
            commands += [("HGETALL", shard.meta), ("GET", shard.position)]
            commands += [("HGETALL", shard.progress), ("HGETALL", shard.observed), ("SCARD", shard.unexpected)]
        replies = iter(await self.run(commands))
        return PipelineStatus([ShardStatus.of(shard, *islice(replies, 5)) for shard in shards])

    async def held_ids(self) -> dict[str, HeldIds]:
        """By the shard's tag, the window in which it deduplicates event ids."""
        shards = await self.shards()
        replies = await self.run([("HGETALL", shard.ids) for shard in shards])
        return {shard.shard.tag: HeldIds.of(held) for shard, held in zip(shards, replies, strict=True)}

    async def active_clients(self, period: str) -> ActiveUsers:
        """Distinct clients with a successful login or an issued token in a period."""
        held = await self.find_periods([period])
        return await self.distinct.count_sketches([shard.clients(period) for shard in held.shards.get(period, ())])

    async def ledger_id(self) -> str:
        """The random id of the ledger; empty before its first worker."""
        return (await self._registry())[1].decode(errors="replace")

    async def held_periods(self, now: float) -> list[str]:
        """Every period that any shard holds; `now` is Unix time."""
        commands: list[Command] = [
            ("ZRANGE", shard.index, f"({int(now)}", "+inf", "BYSCORE") for shard in await self.shards()
        ]
        return sorted({period.decode() for found in await self.run(commands) for period in found})

    async def imported(self, realms: Collection[str] | None = None, *, whole: bool = True) -> dict[str, Imported]:
        """Imported months by key (`2025-03`), for a question about the whole deployment; none for any other question.

        `realms` are those of the bearer, and `whole` is false if the question has a filter or grouping by label.
        """
        if realms is not None or not whole:
            return {}
        (values,) = await self._client.run([("HGETALL", keys.imported(self._prefix))])
        return decode_months(values)

    async def run(self, commands: Sequence[Command], at_once: int = MAX_COMMANDS) -> list[Any]:
        """Replies in order; commands are sent in pipelines of bounded size."""
        replies: list[Any] = []
        for chunk in chunks(commands, at_once):
            replies += await self._client.run(chunk)
        return replies


def by_grant(counts: Counts) -> dict[str, dict[str, int]]:
    """The token counters, by grant type, then token type."""
    grants: dict[str, dict[str, int]] = {}
    for (kind, *words), count in sorted(counts.items()):
        if kind == TOKEN:
            grant, token_type = words
            grants.setdefault(grant, {})[token_type] = count
    return grants
