"""Exports of the own region: what leaves it, and from how many users on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from api.cache.single_flight import SingleFlight
from api.http.errors import BadRequestError
from api.ledger.client import chunks
from api.ledger.distinct_query import ActiveUsers, DistinctQuery, Sketched
from api.ledger.lifecycle import BASE_PERIODS, cohort_rows, lifecycle_rows
from api.ledger.rolling import count_rolling
from api.ledger.statistics import HeldPeriods, Statistics
from api.ledger.status import PipelineStatus, ShardStatus
from api.ledger.vector import Unit
from api.metrics import EXPORTS
from api.regions import event_ids, wire, wire_lifecycle
from api.regions.identity import exported_meta, identity_of
from api.regions.wire import Export, ExportRequest, HeldHours, IdsExport, RecordTimes, ShardExport, Status, UnionExport
from api.regions.wire_lifecycle import LifecycleExport, LifecycleRequest, RetentionExport, RetentionRequest
from api.regions.wire_parts import parts_of, read_scope
from api.settings.settings import ApiSettings
from schemas.ledger.keys import Shard
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope
from schemas.time.clock import Clock

STATUS_AGE_S: Final = 1.0
"""Age up to which the status of the ledger is used again: every export has the identity, which is taken from it."""


class OwnState(NamedTuple):
    """The own ledger's status at a moment of the monotonic clock."""

    status: PipelineStatus
    ledger: str
    identity: wire.Identity
    read_at: float


class Exporter:
    """Reads the own ledger for other regions. Raises one of api.ledger.client.UNREACHABLE."""

    def __init__(self, statistics: Statistics, settings: ApiSettings, clock: Clock) -> None:
        self._statistics = statistics
        self._settings = settings
        self._clock = clock
        self._state: OwnState | None = None
        self._status: tuple[OwnState, Status] | None = None
        self._reading = SingleFlight[OwnState]()

    async def close(self) -> None:
        await self._reading.close()

    async def identity(self) -> wire.Identity:
        return (await self._own()).identity

    async def export(self, request: ExportRequest) -> Export:
        """Raises BadRequestError for counters of too many shards."""
        state = await self._own()
        status = await self._export_status(state) if request.status or request.labels else None
        labels: dict[str, list[int]] = {}
        if request.labels:
            numbers = {shard.keys.shard: number for number, shard in enumerate(state.status.shards)}
            known = await self._statistics.labels()
            labels = {
                scope.text: sorted(numbers[shard] for shard in shards if shard in numbers)
                for scope, shards in known.items()
            }
        return Export(
            identity=state.identity,
            status=status,
            labels=labels,
            unions=await self._unions(request.unions) if request.unions else [],
            rolling=[] if request.rolling is None else await self._rolling(request.rolling),
            counts={} if request.counts is None else await self._counts(request.counts),
            times=await self._times(request.times) if request.times else {},
            lifecycle=[] if request.lifecycle is None else await self._lifecycle(request.lifecycle),
            retention=[] if request.retention is None else await self._retention(request.retention),
        )

    async def _times(self, days: Sequence[str]) -> dict[str, RecordTimes]:
        found = await self._statistics.record_times(list(dict.fromkeys(days)))
        return {day: RecordTimes(first_ms=first, last_ms=last) for day, (first, last) in found.items()}

    async def ids(self, hour: int | None) -> IdsExport:
        """A sample of the event ids of an hour since 1970; without one of the last whole hour that has ids."""
        state = await self._own()
        sample = await event_ids.sample(self._statistics, hour, self._clock.now())
        EXPORTS.labels("ids").inc()
        return IdsExport(identity=state.identity, hour=sample.hour, ids=sample.ids, smallest=sample.smallest)

    async def _own(self) -> OwnState:
        state = self._state
        if state is not None and 0 <= self._clock.monotonic() - state.read_at < STATUS_AGE_S:
            return state
        return await self._reading.run("state", self._read)

    async def _read(self) -> OwnState:
        status = await self._statistics.pipeline_status()
        ledger = await self._statistics.ledger_id()
        identity = identity_of(status, ledger, self._settings)
        self._state = OwnState(status, ledger, identity, self._clock.monotonic())
        return self._state

    async def _export_status(self, state: OwnState) -> Status:
        """The status of a state, read once for all who ask for it."""
        if self._status is None or self._status[0] is not state:
            self._status = state, await self._read_status(state.status)
        return self._status[1]

    async def _read_status(self, status: PipelineStatus) -> Status:
        windows = await self._statistics.held_ids()
        known = [shard for shard in status.shards if shard.keys.shard.tag in windows]
        return Status(
            shards=[_shard(shard, windows[shard.keys.shard.tag]) for shard in known],
            periods=await self._statistics.held_periods(self._clock.now()),
            imported=[*await self._statistics.imported()],
        )

    async def _find(self, periods: Collection[str], scopes: Collection[Scope]) -> HeldPeriods:
        """The periods, read only from the shards that know a scope."""
        held = await self._statistics.find_periods(list(dict.fromkeys(periods)))
        if {*scopes} <= {EVERYTHING}:
            return held
        known: Mapping[Scope, Collection[Shard]] = await self._statistics.labels()
        # Labels that overflowed count under OTHER, and events without a realm under none: no shard lists these.
        unknown = {
            scope: ()
            for scope in scopes
            if scope not in known and scope != EVERYTHING and not {OTHER, ""} & {*scope.names}
        }
        return held._replace(known_by={**known, **unknown})

    async def _unions(self, asked: Sequence[wire.UnionRequest]) -> list[UnionExport]:
        scopes = {text: read_scope(text) for request in asked for text in request.scopes}
        held = await self._find([key for request in asked for key in request.periods], [*scopes.values()])
        united = [[scopes[text] for text in dict.fromkeys(request.scopes)] for request in asked]
        queries = [
            held.distinct_query(request.periods, scopes_of_request)
            for request, scopes_of_request in zip(asked, united, strict=True)
        ]
        totals = await self._statistics.distinct.count(queries)
        units = [
            [(period, scope) for period in request.periods if period in held.shards for scope in scopes_of_request]
            if request.sketches and self._settings.region_users == "shared"
            else []
            for request, scopes_of_request in zip(asked, united, strict=True)
        ]
        alone = {unit_group[0]: total for unit_group, total in zip(units, totals, strict=True) if len(unit_group) == 1}
        large = await self._large(held, [unit for unit_group in units for unit in unit_group], alone)
        chosen = [[unit for unit in unit_group if unit in large] for unit_group in units]
        numbers = [number for number, unit_group in enumerate(chosen) if unit_group]
        sketched = await self._statistics.distinct.sketches(
            [held.query_of(chosen[number], queries[number].parts) for number in numbers]
        )
        found = dict(zip(numbers, sketched, strict=True))
        return [
            _union(total, found.get(number), request.known)
            for number, (total, request) in enumerate(zip(totals, asked, strict=True))
        ]

    async def _large(
        self, held: HeldPeriods, units: Collection[Unit], counted: Mapping[Unit, ActiveUsers]
    ) -> set[Unit]:
        """The periods and scopes that each have REGION_MIN_USERS: only these may leave as sketches.

        Each of them, not their union: from the sketches of a large union with and without a small scope one could
        otherwise subtract.
        """
        others = [unit for unit in dict.fromkeys(units) if unit not in counted]
        queries = [held.distinct_query([period], [scope]) for period, scope in others]
        counts = dict(counted) | dict(zip(others, await self._statistics.distinct.count(queries), strict=True))
        return {unit for unit, users in counts.items() if users.count >= self._settings.region_min_users}

    async def _rolling(self, asked: wire.RollingRequest) -> list[UnionExport]:
        scopes = [read_scope(text) for text in asked.scopes]
        held = await self._find(asked.days, scopes)
        distinct = self._statistics.distinct
        days = [held.distinct_query([day], scopes) for day in asked.days]
        totals = await count_rolling(distinct, days, asked.length)
        united = [0] * len(totals)
        if self._settings.region_users == "shared":
            units = [(day, scope) for day in asked.days if day in held.shards for scope in scopes]
            large = await self._large(held, units, {})
            if len(large) == len(units):
                united = [total.count for total in totals]
            elif large:
                some = [
                    held.query_of([(day, scope) for scope in scopes if (day, scope) in large], query.parts)
                    for day, query in zip(asked.days, days, strict=True)
                ]
                united = [users.count for users in await count_rolling(distinct, some, asked.length)]
        return [
            UnionExport(count=total.count, standard_error=total.standard_error, united=min(number_united, total.count))
            for total, number_united in zip(totals, united, strict=True)
        ]

    async def _lifecycle(self, asked: LifecycleRequest) -> list[LifecycleExport]:
        parts, base, periods = await self._chain(asked.base, asked.periods, asked.scopes)
        rows = await lifecycle_rows(self._statistics.distinct, parts, base, periods)
        EXPORTS.labels("lifecycle").inc()
        return [wire_lifecycle.export_row(row) for row in rows]

    async def _retention(self, asked: RetentionRequest) -> list[RetentionExport]:
        parts, base, periods = await self._chain(asked.base or (), asked.periods, asked.scopes)
        compared = None if asked.base is None else base
        rows = await cohort_rows(self._statistics.distinct, parts, compared, periods, asked.max_age)
        EXPORTS.labels("retention").inc()
        return [wire_lifecycle.export_cohort(row) for row in rows]

    async def _chain(
        self, base: Sequence[str], periods: Sequence[Sequence[str]], texts: Sequence[str]
    ) -> tuple[int, list[DistinctQuery], list[DistinctQuery]]:
        """The number of parts, and the queries of the periods before and of each period."""
        scopes = [read_scope(text) for text in dict.fromkeys(texts)]
        keys = [*base, *(key for period_keys in periods for key in period_keys)]
        held = await self._find(keys, scopes)
        before = [held.distinct_query(some, scopes) for some in chunks(dict.fromkeys(base), BASE_PERIODS)]
        queries = [held.distinct_query([*dict.fromkeys(period_keys)], scopes) for period_keys in periods]
        return parts_of(keys, scopes), before, queries

    async def _counts(self, asked: wire.CountsRequest) -> dict[str, wire.Counters]:
        scopes = [read_scope(text) for text in dict.fromkeys(asked.scopes)]
        periods = list(dict.fromkeys(asked.periods))
        held = await self._find(periods, scopes)
        if await held.number_of_reads(periods, scopes) > wire.MAX_READS:
            raise BadRequestError(f"That would read more than {wire.MAX_READS} counters.")
        found: dict[str, wire.Counters] = {}
        async for period, scope, counts in self._statistics.read_scopes(held, periods, scopes):
            sums = found.setdefault(period, {}).setdefault(scope.text, {})
            for parts, count in counts:
                field = wire.encode_counter(parts)
                sums[field] = sums.get(field, 0) + count
        return found


def _union(total: ActiveUsers, sketched: Sketched | None, known: str) -> UnionExport:
    if sketched is None or not sketched.users.count:
        EXPORTS.labels("number").inc()
        return UnionExport(count=total.count, standard_error=total.standard_error)
    EXPORTS.labels("sketches").inc()
    digest = hashlib.blake2b(b"".join(sketched.sketches), digest_size=16).hexdigest()
    return UnionExport(
        count=max(total.count, sketched.users.count),
        standard_error=total.standard_error,
        united=sketched.users.count,
        sketches=[] if digest == known else sketched.sketches,
        version=digest,
    )


def _shard(shard: ShardStatus, ids: event_ids.HeldIds) -> ShardExport:
    return ShardExport(
        topic=shard.keys.shard.topic,
        partition=shard.keys.shard.partition,
        meta=exported_meta(shard.meta),
        position=shard.position,
        progress=dict(shard.progress),
        observed=dict(shard.observed),
        unexpected=shard.unexpected,
        ids=HeldHours(first=ids.first, last=ids.last, ids=ids.ids, evicted_before=ids.evicted_before),
    )
