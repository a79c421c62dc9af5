"""Statistics over the ledgers of several regions, with the methods of Statistics: no question needs to know of regions.

Users: where they are shared, the sketches of peers join the own union in the store's temporary keys; numbers without
sketches, and users of separate directories, are added. Counters are added.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import reduce
from typing import Literal, NamedTuple

from api.http.errors import BadRequestError
from api.ledger.client import together
from api.ledger.distinct_query import ActiveUsers, DistinctQuery
from api.ledger.imported import Imported
from api.ledger.ledger_statistics import LedgerStatistics
from api.ledger.lifecycle_figures import CohortFigures, LifecycleFigures
from api.ledger.rolling import count_rolling
from api.ledger.statistics import HeldPeriods, Statistics
from api.ledger.status import HeldIds, PipelineStatus, ShardStatus
from api.regions import regional_lifecycle, wire
from api.regions.memory import UnionMemory, union_key
from api.regions.reader import PeerReader, RegionStatus
from api.regions.regional_lifecycle import Chain
from api.regions.union import with_sketches
from api.regions.wire import ShardExport, UnionExport
from api.regions.wire_parts import read_scope
from api.turns import pause
from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import OTHER, Scope

ShareState = Literal["current", "stand_in", "missing"]


class RegionShare(NamedTuple):
    """How a region takes part in an answer."""

    region: str
    state: ShareState
    age_s: int | None = None
    reason: str = ""
    not_united: bool = False
    imported: bool = False

    @property
    def is_complete(self) -> bool:
        return self.state == "current" and not self.imported


class RegionalStatistics(Statistics):
    """The own ledger, if `with_own`, and those of peers. An instance belongs to one question.

    A method raises one of api.ledger.client.UNREACHABLE if the own ledger does not answer. Peers that do not answer
    leave a mark in `shares`.
    """

    def __init__(
        self,
        own: LedgerStatistics,
        region: str,
        memory: UnionMemory,
        *,
        with_own: bool,
        peers: Sequence[PeerReader],
        shared: bool,
    ) -> None:
        self._own = own
        self._region = region
        self._memory = memory
        self._with_own = with_own
        self._peers = peers
        self._shared = shared
        self._imported: dict[str, set[str]] = {}
        """Imported months by region, for a question about everything."""
        self._own_has_imported = False
        self.users = RegionalUsers(self)
        self.has_client_sketches = not peers

    def shares(self) -> list[RegionShare]:
        """How each region took part in what was read so far."""
        own = [RegionShare(self._region, "current", imported=self._own_has_imported)] if self._with_own else []
        return own + [
            RegionShare(
                peer.name,
                peer.state,
                int(peer.age_s) if peer.state == "stand_in" else None,
                peer.reason,
                peer.not_united,
                peer.has_imported,
            )
            for peer in self._peers
        ]

    def finish(self) -> list[RegionShare]:
        """The shares of a whole answer; counts them in the metrics."""
        for peer in self._peers:
            peer.record_use()
        return self.shares()

    def wide_question(self, realms: Collection[str] | None) -> AbstractAsyncContextManager[None]:
        return self._own.wide_question(realms)

    def scopes_of(self, realms: Collection[str] | None) -> tuple[Scope, ...]:
        return self._own.scopes_of(realms)

    async def pipeline_status(self) -> PipelineStatus:
        """All shards of all regions; those of peers have the name of their region."""
        own = (await self._own.pipeline_status()).shards if self._with_own else []
        found = [shard._replace(region=self._region) for shard in own]
        for peer, status in await self._statuses():
            found += [_shard_status(peer.name, shard) for shard in status.status.shards]
        return PipelineStatus(found)

    async def held_ids(self) -> dict[str, HeldIds]:
        found = await self._own.held_ids() if self._with_own else {}
        for peer, status in await self._statuses():
            for each in status.status.shards:
                ids = each.ids
                held = HeldIds(ids.first, ids.last, ids.ids, ids.evicted_before)
                found[_shard(peer.name, each).tag] = held
        return found

    async def labels(self) -> dict[Scope, set[Shard]]:
        known = await self._own.labels() if self._with_own else {}
        for peer, status in await self._statuses():
            shards = [_shard(peer.name, each) for each in status.status.shards]
            for text, known_by in status.labels.items():
                await pause()
                known.setdefault(read_scope(text), set()).update(shards[number] for number in known_by)
        return known

    async def active_clients(self, period: str) -> ActiveUsers:
        """Of the own region alone: sketches of clients are not exported."""
        return await self._own.active_clients(period)

    async def refused_by_share(self, dimension: str, realms: Collection[str]) -> bool:
        """In peers: whether any event counts under OTHER for lack of room, because their shares stay there."""
        if self._with_own and await self._own.refused_by_share(dimension, realms):
            return True
        overflowed = fields.overflowed(dimension)
        return any(
            shard.progress.get(overflowed, 0) != 0
            for _, status in await self._statuses()
            for shard in status.status.shards
        )

    async def imported(self, realms: Collection[str] | None = None, *, whole: bool = True) -> dict[str, Imported]:
        """None over several regions: it is the number of one. Regions with one among the periods are marked."""
        if not self._peers:
            return await self._own.imported(realms, whole=whole)
        if realms is None and whole:
            own = {*await self._own.imported(realms, whole=whole)} if self._with_own else set()
            self._imported = {self._region: own}
            for peer, status in await self._statuses():
                self._imported[peer.name] = {*status.status.imported}
        return {}

    async def find_periods(self, periods: Sequence[str]) -> HeldPeriods:
        """The periods that any region holds, with the own shards that hold them."""
        held = await self._own.find_periods(periods) if self._with_own else HeldPeriods({})
        shards = dict(held.shards)
        self._own_has_imported |= bool(self._imported.get(self._region, set()) & {*periods})
        for peer, status in await self._statuses():
            there = {*status.status.periods}
            peer.has_imported |= bool(self._imported.get(peer.name, set()) & {*periods})
            for period in periods:
                if period in there:
                    shards.setdefault(period, [])
        return held._replace(shards=shards)

    async def read_scopes(
        self, held: HeldPeriods, periods: Sequence[str], scopes: Collection[Scope]
    ) -> AsyncIterator[tuple[str, Scope, Iterable[tuple[tuple[str, ...], int]]]]:
        if self._with_own:
            async for found in self._own.read_scopes(held, periods, scopes):
                yield found
        async for found in self._read_peers(periods, scopes):
            yield found

    async def rolling(
        self, held: HeldPeriods, days: Sequence[str], scopes: Sequence[Scope], length: int
    ) -> list[ActiveUsers]:
        queries = [held.distinct_query([day], scopes) for day in days]
        others = await together(peer.rolling(days, length, scopes) for peer in self._peers)
        if self.unites:
            asked = [([day], scopes) for day in days]
            for of_peer in await together(peer.unions(asked, sketches=True) for peer in self._peers):
                queries = [with_sketches(query, union) for query, union in zip(queries, of_peer, strict=True)]
        own = await count_rolling(self._own.distinct, queries, length)
        return [self.total(users, [of_peer[number] for of_peer in others]) for number, users in enumerate(own)]

    async def lifecycle(
        self, parts: int, base: Sequence[DistinctQuery], periods: Sequence[DistinctQuery]
    ) -> list[LifecycleFigures]:
        return await regional_lifecycle.lifecycle(self._participants(), Chain(parts, base, periods))

    async def retention(
        self, parts: int, base: Sequence[DistinctQuery] | None, periods: Sequence[DistinctQuery], max_age: int
    ) -> list[CohortFigures]:
        chain = Chain(parts, base or (), periods)
        return await regional_lifecycle.retention(self._participants(), chain, max_age, compared=base is not None)

    def _participants(self) -> regional_lifecycle.Participants:
        return regional_lifecycle.Participants(self._own.distinct, self._with_own, self._peers, self.unites)

    async def record_times(self, days: Sequence[str]) -> dict[str, tuple[int, int]]:
        found = await self._own.record_times(days) if self._with_own else {}
        for times in await together(peer.times(days) for peer in self._peers):
            for day, of_day in times.items():
                before = found.get(day, (of_day.first_ms, of_day.last_ms))
                found[day] = min(of_day.first_ms, before[0]), max(of_day.last_ms, before[1])
        return found

    @property
    def unites(self) -> bool:
        """Whether sketches are needed: users of one region alone are a number."""
        return self._shared and len(self._peers) + self._with_own > 1

    def total(self, users: ActiveUsers, others: Sequence[UnionExport]) -> ActiveUsers:
        """The users of a union with those of peers that are a number only.

        The error is unknown where equal users may count twice: in two regions whose users are shared but not united.
        """
        total, variance = users.count, (users.standard_error * users.count) ** 2
        parts = int(users.count > 0)
        for peer, union in zip(self._peers, others, strict=True):
            rest = union.count - (union.united if self.unites else 0)
            if not rest:
                continue
            total += rest
            variance += (union.standard_error * rest) ** 2
            parts += 1
            peer.not_united |= self.unites
        if self.unites and total > users.count and parts > 1:
            return ActiveUsers(total, math.nan)
        return ActiveUsers(total, math.sqrt(variance) / total if total else 0.0)

    async def count_users(self, queries: Sequence[DistinctQuery]) -> list[ActiveUsers]:
        """One figure per query, in order."""
        asked = [(query.periods, query.scopes) for query in queries]
        of_peers = await together(peer.unions(asked, sketches=self.unites) for peer in self._peers)
        others = [[of_peer[number] for of_peer in of_peers] for number in range(len(queries))]
        if not self.unites:
            own = await self._own.distinct.count(queries)
        else:
            own = await self._unite(queries, others)
        return [self.total(users, unions) for users, unions in zip(own, others, strict=True)]

    async def _unite(
        self, queries: Sequence[DistinctQuery], others: Sequence[Sequence[UnionExport]]
    ) -> list[ActiveUsers]:
        """The users of each query with those of peers that are in sketches."""
        names = [union_key(query, unions) for query, unions in zip(queries, others, strict=True)]
        known = [self._memory.get(name) for name in names]
        missing = [number for number, users in enumerate(known) if users is None]
        counted = await self._own.distinct.count(
            [reduce(with_sketches, others[number], queries[number]) for number in missing]
        )
        found = dict(zip(missing, counted, strict=True))
        for number, users in found.items():
            self._memory.put(names[number], users)
        return [users or found[number] for number, users in enumerate(known)]

    async def _statuses(self) -> list[tuple[PeerReader, RegionStatus]]:
        found = await together(peer.status() for peer in self._peers)
        return [(peer, status) for peer, status in zip(self._peers, found, strict=True) if status is not None]

    async def _read_peers(
        self, periods: Sequence[str], scopes: Collection[Scope]
    ) -> AsyncIterator[tuple[str, Scope, Iterable[tuple[tuple[str, ...], int]]]]:
        by_text = {scope.text: scope for scope in scopes}
        asked: list[tuple[PeerReader, list[Scope]]] = []
        for peer, status in await self._statuses():
            known = status.labels
            there = [
                scope for scope in scopes if not scope.names or scope.text in known or {OTHER, ""} & {*scope.names}
            ]
            if len(there) * len(periods) * max(1, len(status.status.shards)) > wire.MAX_READS:
                raise BadRequestError(
                    f"That would read more than {wire.MAX_READS} counters in region {peer.name}: ask for fewer periods "
                    "or one realm."
                )
            asked.append((peer, there))
        for pieces in await together(peer.counts(periods, there) for peer, there in asked):
            for piece in pieces:
                for period, of_period in piece.items():
                    for text, counters in of_period.items():
                        await pause()
                        counts = [(wire.decode_counter(field), count) for field, count in counters.items()]
                        yield period, by_text[text], counts


class RegionalUsers:
    """Counts unions over regions."""

    def __init__(self, statistics: RegionalStatistics) -> None:
        self._statistics = statistics

    async def count(self, queries: Sequence[DistinctQuery]) -> list[ActiveUsers]:
        return await self._statistics.count_users(queries)


def _shard(region: str, shard: ShardExport) -> Shard:
    # No topic of Kafka has a slash: a shard of a peer never equals an own one.
    return Shard(f"{region}/{shard.topic}", shard.partition)


def _shard_status(region: str, shard: ShardExport) -> ShardStatus:
    keys = ShardKeys("", _shard(region, shard))
    progress: Mapping[str, int | None] = shard.progress
    return ShardStatus(keys, shard.meta, shard.position, progress, shard.observed, shard.unexpected, region)
