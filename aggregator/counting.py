"""One range from Kafka into the ledger: the whole path of a record behind the transport, in one reading."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from aggregator import metrics
from aggregator.assignment import Assignment
from aggregator.fold.deduplication import SeenIds, effective_window_s
from aggregator.fold.fold import fold, fold_unexpected
from aggregator.fold.range_delta import CountingRules, RangeDelta, Record, ShardCache
from aggregator.inventory import store as inventory_store
from aggregator.inventory.fold import DecodedEvent, EventReader, fold_inventory
from aggregator.inventory.state import InventoryState
from aggregator.kafka.dead_letters import DeadLetters
from aggregator.kafka.transport import Consumer, Range
from aggregator.ledger.ledger import Applied, Ledger, LedgerDefectError, Refused, ShardState
from aggregator.settings import FORMAT, WorkerSettings
from schemas.ledger import fields
from schemas.ledger.inventory import BINDINGS
from schemas.ledger.keys import Shard
from schemas.telemetry.build import RELEASED
from schemas.telemetry.traces import NO_TRACES, Span, Tracer, Value
from schemas.time.clock import SYSTEM, Clock

log = structlog.get_logger(__name__)
T = TypeVar("T")

RANGES_AT_ONCE: Final = 8
"""Of as many shards: one folds while the store applies another's range. More measured no faster."""

MAX_CACHED_USERS: Final = 200_000
"""Users held per worker, about 130 bytes each. When full all are dropped: what comes often is soon back."""


CLOCKS_APART_MS: Final = 600_000
"""A worker's and a store's clock that differ by more are not both right, and events would be judged by a wrong one."""
CLOCK_PAUSE_S: Final = 1.0
_RELEASED_MS: Final = int(datetime.fromisoformat(RELEASED).replace(tzinfo=UTC).timestamp() * 1000)


class Place:
    """One of the places for ranges that are counted at once, free for others while this range waits for Kafka."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._held = False

    async def take(self) -> None:
        """Safe to call when it is held."""
        if not self._held:
            await self._places.acquire()
            self._held = True

    def give(self) -> None:
        """Safe to call when it is not held."""
        if self._held:
            self._held = False
            self._places.release()

    async def outside(self, waiting: Awaitable[T]) -> T:
        """Await something that may take for ever, such as Kafka."""
        self.give()
        found = await waiting
        await self.take()
        return found


@dataclass(slots=True)
class _CachedShard:
    """What is known of a shard as of `position`: true until the ledger refuses, since nobody else can have written."""

    position: int
    cache: ShardCache
    unexpected_allowed: int
    meta: dict[str, str]
    """What the next step writes to the shard's meta: what a ledger of an older format lacks."""
    in_sketches: set[tuple[str, Any]] = field(default_factory=set)


class _Piece(NamedTuple):
    """Records that are folded together, before offset `end`; a part of a range once a fold has raised."""

    records: Sequence[Record]
    end: int
    reading: EventReader | None
    """On a topic of the OTP inventory: its records as events."""


class RangeCounter:
    """Counts ranges, of one shard in the order of the calls. One shard's fold runs while another's script does."""

    def __init__(
        self,
        settings: WorkerSettings,
        ledger: Ledger,
        dead_letters: DeadLetters,
        assignment: Assignment,
        clock: Clock = SYSTEM,
    ) -> None:
        self._settings = settings
        self._rules = CountingRules.of(settings)
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._assignment = assignment
        self._shards: dict[Shard, _CachedShard] = {}
        self._places = asyncio.Semaphore(RANGES_AT_ONCE)
        self._locks: defaultdict[Shard, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._cached_users = 0
        self._wall = clock.now
        self.clock_errors: dict[Shard, str] = {}
        """Shards of which nothing is counted, since the clocks of their store and of this worker disagree."""
        self.last_record_ms: dict[Shard, int] = {}
        """The newest record of the last range of each shard: older than the newest ever while a log is read again."""
        self.newest_record_ms: dict[Shard, int] = {}
        self._newest_event_ms: dict[Shard, int] = {}
        self.traces: Tracer = NO_TRACES

    async def count(self, consumer: Consumer, range_: Range) -> None:
        """Fold and apply one range. When the ledger stands elsewhere: forget the shard, and place it anew."""
        async with self._locks[range_.shard]:
            if not consumer.is_current(range_):
                return
            place = Place(self._places)
            await place.take()
            started = time.perf_counter()
            # Asked while the fold runs. Fetches name a topic, not its id: these records may be of a topic made anew.
            same_log = asyncio.create_task(self._assignment.is_same_log(range_))
            try:
                await asyncio.sleep(0)
                with self.traces.span(f"count {range_.shard.topic}", "consumer", self._span_attributes(range_)) as span:
                    await self._count(consumer, range_, same_log, span, place)
            except LedgerDefectError as defect:
                place.give()
                self.forget(range_.shard)
                await self._assignment.stop_at_defect(consumer, range_.shard, defect)
            finally:
                place.give()
                same_log.cancel()
        metrics.RANGE_RECORDS.labels(range_.shard.topic).observe(len(range_.records))
        metrics.RANGE_SECONDS.labels(range_.shard.topic).observe(time.perf_counter() - started)

    async def _count(
        self, consumer: Consumer, range_: Range, same_log: asyncio.Task[bool], span: Span, place: Place
    ) -> None:
        shard, start = range_.shard, range_.start
        now_ms = await self._clock(consumer, range_, place)
        if now_ms is None:
            return
        pieces = [self._piece(shard, range_.records, range_.end, now_ms)]
        while pieces:
            piece = pieces[-1]
            # 1. What the fold must know. A crash here costs nothing.
            cached = await self._known(shard, start)
            if isinstance(cached, Refused):
                place.give()
                await self._on_refused(consumer, shard, start, cached.position, span)
                return
            # 2. Pure. A crash here costs the work.
            try:
                delta = await self._fold(shard, start, piece, cached.cache, now_ms)
            except (MemoryError, OSError):
                raise
            except Exception as error:  # noqa: BLE001 - from a record's content: no record stops a worker
                if len(piece.records) > 1:
                    pieces[-1:] = self._halves(shard, piece.records, piece.end, now_ms)
                    continue
                record = piece.records[0]
                delta = fold_unexpected(record, piece.end, error, now_ms)
                report_unexpected(shard, record.offset, error)
                if len(cached.cache.unexpected) >= cached.unexpected_allowed:
                    place.give()
                    await self._stop(consumer, shard, start, cached)
                    return
                piece = pieces[-1] = piece._replace(reading=None)
            if delta is None:
                self.forget(shard)
                continue
            if not (same_log.result() if same_log.done() else await place.outside(same_log)):
                place.give()
                self.forget(shard)
                await self._assignment.assign(consumer, [shard])
                return
            # 3. What cannot be counted is safe first. A crash after this sends it again, recognisably.
            if delta.dead_letters:
                sending = self._dead_letters.send(
                    shard, delta.dead_letters, clock_ms=now_ms, wanted=lambda: consumer.is_current(range_)
                )
                if not await place.outside(sending):
                    self.forget(shard)
                    return
            # 4. Counts and position in one step. A crash after this costs nothing: the position tells.
            applying = self._apply(shard, start, delta, cached)
            reader = piece.reading
            outcome = await applying if reader is None else (await asyncio.gather(applying, reader.read_ahead()))[0]
            if isinstance(outcome, Refused):
                place.give()
                await self._on_refused(consumer, shard, start, outcome.position, span)
                return
            cached.position = delta.end
            cached.meta = {}
            cached.in_sketches |= outcome.in_sketches
            self._update_cache(cached.cache, delta)
            self._record_metrics(shard, delta, span)
            if cached.cache.seen_ids.hours:
                self._record_window(shard, cached.cache.seen_ids)
            pieces.pop()
            if delta.end < piece.end:
                rest = [record for record in piece.records if record.offset >= delta.end]
                pieces.append(piece._replace(records=rest))
            start = delta.end

    def _piece(self, shard: Shard, records: Sequence[Record], end: int, now_ms: int) -> _Piece:
        name = self._settings.topics[shard.topic]
        return _Piece(records, end, EventReader(name, records, end, self._rules, now_ms) if name in BINDINGS else None)

    def _halves(self, shard: Shard, records: Sequence[Record], end: int, now_ms: int) -> list[_Piece]:
        """The right half below the left one, which is folded and applied first: the right one needs its state."""
        middle = len(records) // 2
        left, right = records[:middle], records[middle:]
        return [self._piece(shard, right, end, now_ms), self._piece(shard, left, right[0].offset, now_ms)]

    async def _known(self, shard: Shard, start: int) -> _CachedShard | Refused:
        """What is known of a shard that stands at `start`, or where else it stands."""
        while True:
            cached = self._shards.get(shard)
            if cached is not None and cached.position == start:
                return cached
            state = await self._ledger.read_state(shard)
            if state.position != start:
                return Refused(state.position)
            seen_ids = await self._ledger.read_seen_ids(shard, state)
            if seen_ids is None:
                continue
            self.forget(shard)
            cache = ShardCache(set(state.labels), seen_ids=seen_ids, unexpected=set(state.unexpected))
            self._shards[shard] = _CachedShard(
                start, cache, state.unexpected_allowed, self._lacking(shard, start, state)
            )
            return self._shards[shard]

    def _lacking(self, shard: Shard, start: int, state: ShardState) -> dict[str, str]:
        """What the meta of a shard of an older format lacks, the first offset of this one among it."""
        if int(state.meta.get(fields.FORMAT, FORMAT)) >= FORMAT:
            return {}
        log.info("ledger upgraded", shard=shard.tag, from_format=state.meta[fields.FORMAT], to_format=FORMAT, at=start)
        settings = self._settings.counted_with(shard.topic)
        return {name: value for name, value in settings.items() if name not in state.meta} | {
            fields.FORMAT: str(FORMAT),
            fields.since(fields.FORMAT): fields.observation(start, int(self._wall() * 1000)),
        }

    async def _fold(self, shard: Shard, start: int, piece: _Piece, cache: ShardCache, now_ms: int) -> RangeDelta | None:
        """The tally of a piece from `start` on; None when the shard stands elsewhere meanwhile."""
        started = time.perf_counter()
        if piece.reading is None:
            name = self._settings.topics[shard.topic]
            delta = fold(name, piece.records, piece.end, cache, self._rules, now_ms)
        else:
            events, decoded_end = piece.reading.take(start)
            _, skipped = cache.without_unexpected(piece.records)
            events = [one for one in events if one.item.offset not in cache.unexpected]
            inventory = await self._inventory_state(shard, start, events, cache)
            if inventory is None:
                return None
            delta = fold_inventory(events, decoded_end, cache, inventory, self._rules, now_ms, skipped)
        metrics.FOLD_SECONDS.labels(shard.topic).observe(time.perf_counter() - started)
        return delta

    async def _clock(self, consumer: Consumer, range_: Range, place: Place) -> int | None:
        """The clock of the shard's store, Unix ms. Waits while this worker's differs; None when the range is void."""
        while not await self.clocks_agree(range_.shard):
            place.give()
            await asyncio.sleep(CLOCK_PAUSE_S)
            if not consumer.is_current(range_):
                return None
        await place.take()
        return await self._ledger.now_ms(range_.shard)

    async def clocks_agree(self, shard: Shard) -> bool:
        """Whether events of a shard can be judged. Enters in `clock_errors` if not. Waits for Redis."""
        in_doubt = shard in self.clock_errors
        store_ms = await self._ledger.now_ms(shard, *((0.0,) if in_doubt else ()))
        error = clock_error(store_ms, int(self._wall() * 1000))
        if error is None:
            if self.clock_errors.pop(shard, None):
                log.info("clocks agree", shard=shard.tag)
            return True
        if not in_doubt:
            log.error("clocks disagree", shard=shard.tag, why=error)
        self.clock_errors[shard] = error
        return False

    async def _stop(self, consumer: Consumer, shard: Shard, start: int, cached: _CachedShard) -> None:
        """Stop a partition before an unexpected record for which there is no allowance."""
        self.forget(shard)
        number = len(cached.cache.unexpected)
        await self._assignment.stop_at_unexpected(consumer, shard, start, number, cached.unexpected_allowed)

    async def _inventory_state(
        self, shard: Shard, start: int, events: list[DecodedEvent], cache: ShardCache
    ) -> InventoryState | None:
        """What the next events of the inventory change; None when the shard stands elsewhere meanwhile."""
        if cache.inventory is None:
            cache.inventory = await inventory_store.load_state(self._ledger, shard, start)
        if cache.inventory is None or not await inventory_store.load_needed(
            self._ledger, shard, start, cache.inventory, events
        ):
            return None
        return cache.inventory

    async def _apply(self, shard: Shard, start: int, delta: RangeDelta, cached: _CachedShard) -> Applied | Refused:
        started = time.perf_counter()
        outcome = await self._ledger.apply(shard, start, delta, cached.in_sketches, meta=cached.meta)
        metrics.SCRIPT_SECONDS.labels(shard.topic).observe(time.perf_counter() - started)
        return outcome

    async def _on_refused(self, consumer: Consumer, shard: Shard, start: int, position: int | None, span: Span) -> None:
        """The one answer to a crash, a zombie, a rebalance, a store that lost its last writes, a dropped batch."""
        reason = metrics.refusal_reason(start, position)
        log.warning("range refused", shard=shard.tag, start=start, ledger_position=position, reason=reason)
        metrics.REFUSED.labels(shard.topic, reason).inc()
        span.set_attribute("authtally.refused", reason)
        await self._ledger.record_refusal(shard, int(time.time() * 1000))
        self.forget(shard)
        await self._assignment.assign(consumer, [shard])

    def leave(self, shard: Shard) -> None:
        """Forget a shard that another worker has now."""
        self.forget(shard)
        self.clock_errors.pop(shard, None)

    def forget(self, shard: Shard) -> None:
        """Drop everything remembered of a shard."""
        dropped = self._shards.pop(shard, None)
        if dropped is not None:
            if dropped.cache.seen_ids.hours:
                metrics.DEDUPE_WINDOW.remove(*map(str, shard))
                metrics.DEDUPE_IDS.remove(*map(str, shard))
            self._cached_users -= sum(map(len, dropped.cache.applied_users.values()))
            metrics.CACHED_USERS.set(self._cached_users)

    def _update_cache(self, cache: ShardCache, delta: RangeDelta) -> None:
        cache.update(delta)
        self._cached_users += sum(map(len, delta.new_users.values()))
        if self._cached_users > MAX_CACHED_USERS:
            for shard in self._shards.values():
                shard.cache.applied_users.clear()
            self._cached_users = 0
        metrics.CACHED_USERS.set(self._cached_users)

    def _record_metrics(self, shard: Shard, delta: RangeDelta, span: Span) -> None:
        if delta.last_record_ms is not None:
            self.last_record_ms[shard] = delta.last_record_ms
            self.newest_record_ms[shard] = max(delta.last_record_ms, self.newest_record_ms.get(shard, 0))
            metrics.LAST_RECORD.labels(*shard).set(self.newest_record_ms[shard] / 1000)
        if delta.last_event_ms is not None:
            self._newest_event_ms[shard] = max(delta.last_event_ms, self._newest_event_ms.get(shard, 0))
            metrics.LAST_EVENT.labels(*shard).set(self._newest_event_ms[shard] / 1000)
        outcomes = {name: delta.progress.get(name, 0) for name in (fields.COUNTED, fields.DUPLICATES, fields.IGNORED)}
        for result, events in (outcomes | {"dead": len(delta.dead_letters)}).items():
            metrics.EVENTS.labels(shard.topic, result).inc(events)
            span.add(f"authtally.events.{result}", events)
        metrics.UNTIMED.labels(shard.topic).inc(delta.progress.get(fields.UNTIMED, 0))
        for name, events in delta.progress.items():
            kind, *rest = fields.split(name)
            if kind == "overflowed":
                metrics.OVERFLOWED.labels(rest[0]).inc(events)

    def _span_attributes(self, range_: Range) -> dict[str, Value]:
        """A range in the words of OpenTelemetry's conventions for messaging, and ours."""
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": "count",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": self._settings.kafka_group,
            "messaging.destination.name": range_.shard.topic,
            "messaging.destination.partition.id": str(range_.shard.partition),
            "messaging.batch.message_count": len(range_.records),
            "authtally.offset.start": range_.start,
            "authtally.offset.end": range_.end,
        }

    def _record_window(self, shard: Shard, seen_ids: SeenIds) -> None:
        window_s = self._settings.dedupe_window_s
        metrics.DEDUPE_WINDOW.labels(*shard).set(effective_window_s(seen_ids.hours, seen_ids.evicted_before, window_s))
        metrics.DEDUPE_IDS.labels(*shard).set(len(seen_ids.digests))


def report_unexpected(shard: Shard, offset: int, error: Exception) -> None:
    """Log the defect that kept a record from being counted."""
    frames = [f"{Path(at.filename).name}:{at.lineno}:{at.name}" for at in traceback.extract_tb(error.__traceback__)]
    # Neither the message nor the value: both may hold what users sent.
    log.error("unexpected record", shard=shard.tag, offset=offset, error=type(error).__name__, frames=frames)


def clock_error(store_ms: int, worker_ms: int) -> str | None:
    """Why events cannot be judged by these two clocks, Unix ms; None if they can."""
    store, worker = (f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}" for ms in (store_ms, worker_ms))
    shown = f"the store's clock says {store}, this worker's {worker}"
    if min(store_ms, worker_ms) < _RELEASED_MS:
        return f"{shown}: one lies before {RELEASED}, the release of this version. Set it right"
    if abs(store_ms - worker_ms) > CLOCKS_APART_MS:
        return f"{shown}: more than {CLOCKS_APART_MS // 60_000} minutes apart. Set them right"
    return None
