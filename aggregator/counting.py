"""One range from Kafka into the ledger: the whole path of a record behind the transport, in one reading."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog

from aggregator import inventory_store, metrics
from aggregator.dead_letters import DeadLetters
from aggregator.duplicates import Seen, window_held_s
from aggregator.fold import fold
from aggregator.inventory import Reading, Told, fold_inventory
from aggregator.ledger import Applied, Ledger, Refused
from aggregator.placement import Placement
from aggregator.settings import WorkerSettings
from aggregator.stock import Stock
from aggregator.tally import Known, Rules, Tally
from aggregator.transport import Consumer, Range
from schemas import fields
from schemas.inventory import BINDINGS
from schemas.keys import Shard
from schemas.traces import OFF, Span, Traces, Value

log = structlog.get_logger(__name__)
T = TypeVar("T")

RANGES_AT_ONCE: Final = 8
"""Of as many shards: one's fold fills the time in which the store works on another's. More gains nothing, measured."""
MAX_REMEMBERED: Final = 200_000
"""Users held per worker, about 130 bytes each. When full all are dropped: what comes often is soon back."""


class Place:
    """One of the places for ranges that are counted at once, free for others while this range waits for Kafka."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._held = False

    async def take(self) -> None:
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
class _Knowledge:
    """What is known of a shard as of `position`: true until the ledger refuses, since nobody else can have written."""

    position: int
    known: Known
    in_sketches: set[tuple[str, Any]] = field(default_factory=set)


class Counting:
    """Counts ranges, of one shard in the order of the calls. One shard's fold runs while another's script does."""

    def __init__(
        self, settings: WorkerSettings, ledger: Ledger, dead_letters: DeadLetters, placement: Placement
    ) -> None:
        self._settings = settings
        self._rules = Rules.of(settings)
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._placement = placement
        self._shards: dict[Shard, _Knowledge] = {}
        self._turns: defaultdict[Shard, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._places = asyncio.Semaphore(RANGES_AT_ONCE)
        self._remembered = 0
        self.newest_record_ms: dict[Shard, int] = {}
        self._newest_event_ms: dict[Shard, int] = {}
        self.traces: Traces = OFF

    async def count(self, consumer: Consumer, cut: Range) -> None:
        """Fold and apply one range. When the ledger stands elsewhere: forget the shard, and place it anew."""
        async with self._turns[cut.shard]:
            if not consumer.is_current(cut):
                return
            place = Place(self._places)
            await place.take()
            taken = time.perf_counter()
            # Asked while the fold runs. Fetches name a topic, not its id: these records may be of a topic made anew.
            same_log = asyncio.create_task(self._placement.is_same_log(cut))
            try:
                await asyncio.sleep(0)
                with self.traces.span(f"count {cut.shard.topic}", "consumer", self._about(cut)) as span:
                    await self._count(consumer, cut, same_log, span, place)
            finally:
                place.give()
                same_log.cancel()
        metrics.RANGE_RECORDS.labels(cut.shard.topic).observe(len(cut.records))
        metrics.RANGE_SECONDS.labels(cut.shard.topic).observe(time.perf_counter() - taken)

    async def _count(
        self, consumer: Consumer, cut: Range, same_log: asyncio.Task[bool], span: Span, place: Place
    ) -> None:
        shard, start, records = cut.shard, cut.start, cut.records
        name = self._settings.topics[shard.topic]
        reading = Reading(name, records, cut.end, self._rules) if name in BINDINGS else None
        while start < cut.end:
            # 1. What the fold must know. A crash here costs nothing.
            held = self._shards.get(shard)
            if held is None or held.position != start:
                look = await self._ledger.look(shard)
                if look.position != start:
                    place.give()
                    await self._refused(consumer, shard, start, look.position, span)
                    return
                seen = await self._ledger.seen(shard, look)
                if seen is None:
                    continue
                self.forget(shard)
                held = self._shards[shard] = _Knowledge(start, Known(set(look.labels), seen=seen))
            # 2. Pure. A crash here costs the work.
            began = time.perf_counter()
            if reading is None:
                tally = fold(name, records, cut.end, held.known, self._rules)
            else:
                told, reaches_to = reading.take(start)
                stock = await self._stock(shard, start, told, held.known)
                if stock is None:
                    self.forget(shard)
                    continue
                tally = fold_inventory(told, reaches_to, held.known, stock, self._rules)
            metrics.FOLD_SECONDS.labels(shard.topic).observe(time.perf_counter() - began)
            if not (same_log.result() if same_log.done() else await place.outside(same_log)):
                place.give()
                self.forget(shard)
                await self._placement.place(consumer, [shard])
                return
            # 3. What cannot be counted is safe first. A crash after this sends it again, recognisably.
            if tally.dead:
                sending = self._dead_letters.send(
                    shard, tally.dead, clock_ms=int(time.time() * 1000), wanted=lambda: consumer.is_current(cut)
                )
                if not await place.outside(sending):
                    self.forget(shard)
                    return
            # 4. Counts and position in one step. A crash after this costs nothing: the position tells.
            applying = self._apply(shard, start, tally, held.in_sketches)
            outcome = await applying if reading is None else (await asyncio.gather(applying, reading.read_on()))[0]
            if isinstance(outcome, Refused):
                place.give()
                await self._refused(consumer, shard, start, outcome.position, span)
                return
            held.position = tally.end
            held.in_sketches |= outcome.in_sketches
            self._remember(held.known, tally)
            self._measure(shard, tally, span)
            if held.known.seen.hours:
                self._measure_window(shard, held.known.seen)
            if tally.end < cut.end and reading is None:
                records = [record for record in records if record.offset >= tally.end]
            start = tally.end

    async def _stock(self, shard: Shard, start: int, told: list[Told], known: Known) -> Stock | None:
        """What the next events of the inventory change; None when the shard stands elsewhere meanwhile."""
        if known.stock is None:
            known.stock = await inventory_store.stock(self._ledger, shard, start)
        if known.stock is None or not await inventory_store.complete(self._ledger, shard, start, known.stock, told):
            return None
        return known.stock

    async def _apply(
        self, shard: Shard, start: int, tally: Tally, in_sketches: set[tuple[str, Any]]
    ) -> Applied | Refused:
        began = time.perf_counter()
        outcome = await self._ledger.apply(shard, start, tally, in_sketches)
        metrics.SCRIPT_SECONDS.labels(shard.topic).observe(time.perf_counter() - began)
        return outcome

    async def _refused(self, consumer: Consumer, shard: Shard, start: int, position: int | None, span: Span) -> None:
        """The one answer to a crash, a zombie, a rebalance, a store that lost its last writes, a dropped batch."""
        reason = metrics.refusal(start, position)
        log.warning("range refused", shard=shard.tag, start=start, ledger_position=position, reason=reason)
        metrics.REFUSED.labels(shard.topic, reason).inc()
        span.note("authtally.refused", reason)
        await self._ledger.note_refusal(shard, int(time.time() * 1000))
        self.forget(shard)
        await self._placement.place(consumer, [shard])

    def forget(self, shard: Shard) -> None:
        """Drop everything remembered of a shard."""
        dropped = self._shards.pop(shard, None)
        if dropped is not None:
            if dropped.known.seen.hours:
                metrics.DEDUPE_WINDOW.remove(*map(str, shard))
                metrics.DEDUPE_IDS.remove(*map(str, shard))
            self._remembered -= sum(map(len, dropped.known.applied.values()))
            metrics.REMEMBERED.set(self._remembered)

    def _remember(self, known: Known, tally: Tally) -> None:
        known.learn(tally)
        self._remembered += sum(map(len, tally.applied.values()))
        if self._remembered > MAX_REMEMBERED:
            for shard in self._shards.values():
                shard.known.applied.clear()
            self._remembered = 0
        metrics.REMEMBERED.set(self._remembered)

    def _measure(self, shard: Shard, tally: Tally, span: Span) -> None:
        if tally.last_record_ms is not None:
            self.newest_record_ms[shard] = max(tally.last_record_ms, self.newest_record_ms.get(shard, 0))
            metrics.LAST_RECORD.labels(*shard).set(self.newest_record_ms[shard] / 1000)
        if tally.last_event_ms is not None:
            self._newest_event_ms[shard] = max(tally.last_event_ms, self._newest_event_ms.get(shard, 0))
            metrics.LAST_EVENT.labels(*shard).set(self._newest_event_ms[shard] / 1000)
        became = {name: tally.progress.get(name, 0) for name in (fields.COUNTED, fields.DUPLICATES, fields.IGNORED)}
        for result, events in (became | {"dead": len(tally.dead)}).items():
            metrics.EVENTS.labels(shard.topic, result).inc(events)
            span.add(f"authtally.events.{result}", events)
        for name, events in tally.progress.items():
            kind, *rest = fields.split(name)
            if kind == "overflowed":
                metrics.OVERFLOWED.labels(rest[0]).inc(events)

    def _about(self, cut: Range) -> dict[str, Value]:
        """A range in the words of OpenTelemetry's conventions for messaging, and ours."""
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": "count",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": self._settings.kafka_group,
            "messaging.destination.name": cut.shard.topic,
            "messaging.destination.partition.id": str(cut.shard.partition),
            "messaging.batch.message_count": len(cut.records),
            "authtally.offset.start": cut.start,
            "authtally.offset.end": cut.end,
        }

    def _measure_window(self, shard: Shard, seen: Seen) -> None:
        window_s = self._settings.dedupe_window_s
        metrics.DEDUPE_WINDOW.labels(*shard).set(window_held_s(seen.hours, seen.given_up_before, window_s))
        metrics.DEDUPE_IDS.labels(*shard).set(len(seen.digests))
