"""Counting of one range: the whole path of its records from the transport to the ledger, in numbered steps."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from functools import partial
from typing import Any, Final

import structlog
from opentelemetry.trace import Span, SpanKind, Tracer

from aggregator import metrics
from aggregator.assignment import Assignment
from aggregator.clocks import StoreClocks
from aggregator.fold.fold import fold_unexpected
from aggregator.fold.protocol import Fold
from aggregator.fold.range_delta import RangeDelta, ShardCache
from aggregator.fold_factory import FoldFactory
from aggregator.isolation import RangePieces, report_unexpected
from aggregator.kafka.dead_letters import DeadLetters
from aggregator.kafka.ranges import Range
from aggregator.kafka.transport import Consumer
from aggregator.ledger.ledger import Applied, Ledger, LedgerDefectError, Refused
from aggregator.settings import WorkerSettings
from aggregator.shard_caches import LoadedShard, ShardCaches
from aggregator.slots import Slot
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.telemetry.traces import NO_TRACES

log = structlog.get_logger(__name__)

RANGES_AT_ONCE: Final = 8
"""Ranges of different shards: one folds while Redis applies another's. More measured no faster."""
CLOCK_PAUSE_S: Final = 1.0


class RangeCounter:
    """Counts ranges, those of one shard in the order of the calls."""

    def __init__(
        self,
        settings: WorkerSettings,
        ledger: Ledger,
        dead_letters: DeadLetters,
        assignment: Assignment,
        clocks: StoreClocks,
        tracer: Tracer = NO_TRACES,
    ) -> None:
        self._consumer_group = settings.kafka_group
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._assignment = assignment
        self._clocks = clocks
        self._tracer = tracer
        self._folds = FoldFactory(settings, ledger)
        self._caches = ShardCaches(settings, ledger, self._folds, clocks.worker_ms)
        self._slots = asyncio.Semaphore(RANGES_AT_ONCE)
        self._locks: defaultdict[Shard, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.last_record_ms: dict[Shard, int] = {}
        """The newest record of the last range of each shard; goes back while a log is replayed."""
        self._newest_record_ms: dict[Shard, int] = {}
        self._newest_event_ms: dict[Shard, int] = {}

    async def count(self, consumer: Consumer, range_: Range) -> None:
        """Fold and apply one range. If the ledger refuses it, drop the shard's cache and assign the partition again."""
        async with self._locks[range_.shard]:
            if not consumer.is_current(range_):
                return
            slot = Slot(self._slots)
            await slot.acquire()
            started = time.perf_counter()
            # Runs during the fold. A fetch names a topic, not its id: the topic may have been created again.
            same_log = asyncio.create_task(self._assignment.is_same_log(range_))
            try:
                await asyncio.sleep(0)
                with self._tracer.start_as_current_span(
                    f"count {range_.shard.topic}", kind=SpanKind.CONSUMER, attributes=self._span_attributes(range_)
                ) as span:
                    await self._count(consumer, range_, same_log, span, slot)
            except LedgerDefectError as defect:
                slot.release()
                self.forget(range_.shard)
                await self._assignment.stop_at_defect(consumer, range_.shard, defect)
            finally:
                slot.release()
                same_log.cancel()
        metrics.RANGE_RECORDS.labels(range_.shard.topic).observe(len(range_.records))
        metrics.RANGE_SECONDS.labels(range_.shard.topic).observe(time.perf_counter() - started)

    async def _count(
        self, consumer: Consumer, range_: Range, same_log: asyncio.Task[bool], span: Span, slot: Slot
    ) -> None:
        shard, start = range_.shard, range_.start
        now_ms = await self._wait_for_clock(consumer, range_, slot)
        if now_ms is None:
            return
        pieces = RangePieces(partial(self._folds.new_fold, shard, now_ms), range_.records, range_.end)
        events: Counter[str] = Counter()
        while pieces:
            # 1. Load the state of the shard. A crash here costs nothing.
            loaded = await self._caches.load(shard, start)
            if isinstance(loaded, Refused):
                slot.release()
                await self._on_refused(consumer, shard, start, loaded.position, span)
                return
            # 2. Fold. A crash here costs the work.
            try:
                delta = await self._fold(shard, start, pieces.current, loaded.cache)
            except (MemoryError, OSError, LedgerDefectError):
                raise
            except Exception as error:  # noqa: BLE001 - caused by a record's content: no record stops a worker
                record = pieces.isolate()
                if record is None:
                    continue
                report_unexpected(shard, record.offset, error)
                if len(loaded.cache.unexpected) >= loaded.unexpected_allowed:
                    slot.release()
                    await self._stop(consumer, shard, start, loaded)
                    return
                delta = fold_unexpected(record, pieces.current.end, error, now_ms)
            if delta is None:
                # Another writer moved the shard: the next load returns a refusal with its position.
                self.forget(shard)
                continue
            if not (same_log.result() if same_log.done() else await slot.released_during(same_log)):
                slot.release()
                self.forget(shard)
                await self._assignment.assign(consumer, [shard])
                return
            # 3. Send dead letters, before their range counts. A crash after this sends them again, recognizably.
            if delta.dead_letters:
                sending = self._dead_letters.send(
                    shard, delta.dead_letters, clock_ms=now_ms, wanted=lambda: consumer.is_current(range_)
                )
                if not await slot.released_during(sending):
                    self.forget(shard)
                    return
            # 4. Apply counts and position in one script. A crash after this costs nothing: the position is stored.
            outcome, _ = await asyncio.gather(self._apply(shard, start, delta, loaded), pieces.current.read_ahead())
            if isinstance(outcome, Refused):
                slot.release()
                await self._on_refused(consumer, shard, start, outcome.position, span)
                return
            # Then update the cache. A crash here costs nothing: the cache is loaded again.
            self._caches.update(shard, loaded, delta, outcome)
            events.update(self._record_metrics(shard, delta))
            span.set_attributes({f"authtally.events.{result}": number for result, number in events.items()})
            pieces.advance(delta.end)
            start = delta.end

    async def _fold(self, shard: Shard, start: int, fold: Fold[Any], cache: ShardCache) -> RangeDelta | None:
        """The next delta of a piece; None if the shard no longer stands at `start`."""
        started = time.perf_counter()
        delta = fold.fold(cache) if await fold.load(start, cache) else None
        metrics.FOLD_SECONDS.labels(shard.topic).observe(time.perf_counter() - started)
        return delta

    async def _wait_for_clock(self, consumer: Consumer, range_: Range, slot: Slot) -> int | None:
        """The clock of the shard's store, Unix ms, once it agrees with the worker's; None if a seek came first."""
        while not await self._clocks.agree(range_.shard):
            slot.release()
            await asyncio.sleep(CLOCK_PAUSE_S)
            if not consumer.is_current(range_):
                return None
        await slot.acquire()
        return await self._ledger.now_ms(range_.shard)

    async def _stop(self, consumer: Consumer, shard: Shard, start: int, loaded: LoadedShard) -> None:
        """Stop a partition before an unexpected record that exceeds the allowance."""
        self.forget(shard)
        number = len(loaded.cache.unexpected)
        await self._assignment.stop_at_unexpected(consumer, shard, start, number, loaded.unexpected_allowed)

    async def _apply(self, shard: Shard, start: int, delta: RangeDelta, loaded: LoadedShard) -> Applied | Refused:
        started = time.perf_counter()
        outcome = await self._ledger.apply(
            shard, start, delta, loaded.in_sketches, meta=loaded.meta, removals=loaded.removals
        )
        metrics.SCRIPT_SECONDS.labels(shard.topic).observe(time.perf_counter() - started)
        return outcome

    async def _on_refused(self, consumer: Consumer, shard: Shard, start: int, position: int | None, span: Span) -> None:
        """The one response to a crash, a second owner, a rebalance, a store that lost writes, a dropped range."""
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
        self._clocks.forget(shard)

    def forget(self, shard: Shard) -> None:
        """Drop the cache of a shard; the next range loads it again."""
        self._caches.forget(shard)

    def _record_metrics(self, shard: Shard, delta: RangeDelta) -> dict[str, int]:
        """Update the metrics. Returns the number of events by result."""
        if delta.last_record_ms is not None:
            self.last_record_ms[shard] = delta.last_record_ms
            self._newest_record_ms[shard] = max(delta.last_record_ms, self._newest_record_ms.get(shard, 0))
            metrics.LAST_RECORD.labels(*shard).set(self._newest_record_ms[shard] / 1000)
        if delta.last_event_ms is not None:
            self._newest_event_ms[shard] = max(delta.last_event_ms, self._newest_event_ms.get(shard, 0))
            metrics.LAST_EVENT.labels(*shard).set(self._newest_event_ms[shard] / 1000)
        results = {name: delta.progress.get(name, 0) for name in (fields.COUNTED, fields.DUPLICATES, fields.IGNORED)}
        results["dead"] = len(delta.dead_letters)
        for result, events in results.items():
            metrics.EVENTS.labels(shard.topic, result).inc(events)
        metrics.UNTIMED.labels(shard.topic).inc(delta.progress.get(fields.UNTIMED, 0))
        metrics.EXCESS_IDS.labels(shard.topic).inc(delta.dedupe.over_share)
        for name, events in delta.progress.items():
            kind, *rest = fields.split(name)
            if kind == "overflowed":
                metrics.OVERFLOWED.labels(rest[0]).inc(events)
        return results

    def _span_attributes(self, range_: Range) -> dict[str, str | int]:
        """OpenTelemetry's attributes for messaging, and our own."""
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": "count",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": self._consumer_group,
            "messaging.destination.name": range_.shard.topic,
            "messaging.destination.partition.id": str(range_.shard.partition),
            "messaging.batch.message_count": len(range_.records),
            "authtally.offset.start": range_.start,
            "authtally.offset.end": range_.end,
        }
