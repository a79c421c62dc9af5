"""The statistics of one ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Any, Final

from api.http.errors import ForbiddenError
from api.http.places import Places, tenant_of
from api.ledger.client import Client, Command, chunks
from api.ledger.distinct_query import ActiveUsers, DistinctQuery, ShardScope
from api.ledger.held_periods import HeldPeriods, find_periods
from api.ledger.imported import Imported, decode_months
from api.ledger.lifecycle import cohort_rows, lifecycle_rows
from api.ledger.lifecycle_figures import CohortFigures, LifecycleFigures, cohort_figures, lifecycle_figures
from api.ledger.merged import MergedPeriods
from api.ledger.merged_store import MergedStore
from api.ledger.rolling import count_rolling
from api.ledger.statistics import Statistics, UsersReader
from api.ledger.status import HeldIds, PipelineStatus, ShardStatus, integer, is_date
from api.ledger.users import DistinctUsers
from api.metrics import ACCESS_REFUSALS
from api.turns import pause
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope
from schemas.settings import CommonSettings

LABEL_DIMENSIONS: Final = frozenset({"realm", "client", "node"})
"""Dimensions of labels; the other members of the set are words."""

MAX_COMMANDS: Final = 250
"""Most commands of one pipeline, which blocks this process and Redis."""
MAX_WIDE: Final = 3
"""Most questions with a row per label that are computed at the same time: each may hold tens of MB."""
MAX_WIDE_OF_ONE: Final = 2
"""Most of them of one tenant, so that the wide questions of another never wait for its own."""


class LedgerStatistics(Statistics):
    """Reads one ledger, in a few pipelines of bounded size per question."""

    has_client_sketches = True

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
        self.users: UsersReader = self.distinct

    def wide_question(self, realms: Collection[str] | None) -> AbstractAsyncContextManager[None]:
        return self._wide_questions.take(tenant_of(realms))

    def scopes_of(self, realms: Collection[str] | None) -> tuple[Scope, ...]:
        if realms is None:
            return (EVERYTHING,)
        if not self._by_realm:
            ACCESS_REFUSALS.labels("realms").inc()
            raise ForbiddenError(
                "Figures by realm are not kept here (USERS_BY, COUNTS_BY), and this token may read no others."
            )
        return tuple(Scope("realm", (realm,)) for realm in sorted(realms) if realm != OTHER)

    async def rolling(
        self, held: HeldPeriods, days: Sequence[str], scopes: Sequence[Scope], length: int
    ) -> list[ActiveUsers]:
        return await count_rolling(self.distinct, [held.distinct_query([day], scopes) for day in days], length)

    async def lifecycle(
        self, parts: int, base: Sequence[DistinctQuery], periods: Sequence[DistinctQuery]
    ) -> list[LifecycleFigures]:
        return [lifecycle_figures([row]) for row in await lifecycle_rows(self.distinct, parts, base, periods)]

    async def retention(
        self, parts: int, base: Sequence[DistinctQuery] | None, periods: Sequence[DistinctQuery], max_age: int
    ) -> list[CohortFigures]:
        rows = await cohort_rows(self.distinct, parts, base, periods, max_age)
        return [cohort_figures([row]) for row in rows]

    async def record_times(self, days: Sequence[str]) -> dict[str, tuple[int, int]]:
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
        shards, ledger_id = await self._registry()
        # Without an id no period is merged.
        return await find_periods(self.run, shards, ledger_id if self._merged is not None else b"", periods)

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
        names = [fields.refused(dimension, realm) for realm in realms]
        if not names:
            return False
        replies = await self.run([("HMGET", shard.shares, *names) for shard in await self.shards()])
        return any(value is not None for values in replies for value in values)

    async def pipeline_status(self) -> PipelineStatus:
        shards = await self.shards()
        commands: list[Command] = []
        for shard in shards:
            commands += [("HGETALL", shard.meta), ("GET", shard.position)]
            commands += [("HGETALL", shard.progress), ("HGETALL", shard.observed), ("SCARD", shard.unexpected)]
        replies = iter(await self.run(commands))
        return PipelineStatus([ShardStatus.of(shard, *islice(replies, 5)) for shard in shards])

    async def held_ids(self) -> dict[str, HeldIds]:
        shards = await self.shards()
        replies = await self.run([("HGETALL", shard.ids) for shard in shards])
        return {shard.shard.tag: HeldIds.of(held) for shard, held in zip(shards, replies, strict=True)}

    async def active_clients(self, period: str) -> ActiveUsers:
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
