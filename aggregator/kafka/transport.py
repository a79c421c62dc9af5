"""Ranges in, positions from the ledger: how Faust's Kafka transport is made to feed whole ranges.

A *range* `[start, end)` of one partition starts where the one before it ended, or where the last seek went, and ends
at the consumer's position after the fetch: past control markers, aborted and compacted records. Offsets may be missing
inside a range, never between two of them. Everything here leans on Faust 0.15 and aiokafka 0.14; tests/aggregator/
test_seams.py fails when one of the seams moves.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import faust
import structlog
from aiokafka import AIOKafkaConsumer, conn
from aiokafka.consumer import fetcher
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from aggregator.kafka import batches, codecs, sockets
from schemas.ledger.keys import Shard

log = structlog.get_logger(__name__)

FETCH_WAIT_MS = 200
"""How long a broker may hold an empty fetch: what a lone event waits at most. Faust fixes it at 1,500."""
FETCH_BYTES_PER_PARTITION = 2 * 1024 * 1024
ASSIGN_TIMEOUT_S = 5.0
RANGES_IN_HAND: Final = 32
"""Ranges that a worker holds of all partitions together, shared out among them."""
MAX_IN_HAND, MIN_IN_HAND = 8, 2
"""Ranges of one partition: more only sit in memory while it waits. One is counted while the next is fetched."""
CROWDED_S = 0.02
"""How soon a partition with as many ranges in hand as it may have is looked at again."""


class Range(NamedTuple):
    """Records of one partition, and the offsets that they stand for."""

    shard: Shard
    start: int
    end: int
    records: list[Any]
    seek_number: int
    """Which seek of the partition it follows. A later seek makes it worthless."""
    fetched_at: float
    """A moment (time.monotonic) after its records had come from Kafka."""


class LogBounds(NamedTuple):
    """What Kafka holds of a partition: offsets from `start` up to, not including, `end` (committed ones)."""

    start: int
    end: int
    out_of_range: bool = False
    """Whether Kafka has refused to read where the consumer stands."""
    unreadable: batches.Unreadable | None = None
    """The batch that the consumer stands at and cannot read."""


@dataclass(slots=True, eq=False)
class Seek:
    """What follows one seek of a partition. Each of the counts has one writing thread, so neither needs a lock."""

    number: int
    cut: int = 0
    """Ranges handed out; by the consumer's thread."""
    finished: int = 0
    """Those applied, or given up; by the worker's thread."""

    @property
    def in_hand(self) -> int:
        return self.cut - self.finished


class Schema(faust.Schema):  # type: ignore[misc]
    """Hands a range through where Faust would decode a value."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Owns the aiokafka consumer on a loop and thread of its own. Whatever touches the consumer runs there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seeks: dict[Shard, Seek] = {}
        # Per partition: aiokafka's state of it, and where the next range starts. A rebalance makes new states, whose
        # position may be anywhere until the next seek: no range may join the two.
        self._next_starts: dict[Shard, tuple[Any, int]] = {}
        self._numbers = itertools.count(1)
        self._out_of_range: set[Shard] = set()
        self._unreadable: dict[Shard, batches.Unreadable] = {}

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust passes neither on: without read_committed, aborted transactions would be counted.
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        codecs.install()
        fetcher.MemoryRecords = batches.WholeBatches
        fetcher.PartitionRecords, fetcher.FetchResult = batches.BatchRecords, batches.BatchFetchResult
        conn.AIOKafkaConnection = sockets.LossAwareConnection
        return consumer

    async def call_thread(self, fun: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """Run `fun` on this thread. Raises ConsumerNotStarted when the thread ends first, or has ended.

        Faust would wait for ever: a crash stops the thread at once, and nobody answers what is queued there. The worker
        committed on its way out, and never came to an end.
        """
        if self.should_stop:
            raise ConsumerNotStarted("the consumer's thread has stopped")
        answer = asyncio.ensure_future(super().call_thread(fun, *args, **kwargs))
        ended = asyncio.ensure_future(self._shutdown.wait())
        try:
            await asyncio.wait((answer, ended), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ConsumerNotStarted("the consumer's thread has stopped")
            return answer.result()
        finally:
            answer.cancel()
            ended.cancel()

    async def seek_on_thread(self, shard: Shard, offset: int) -> bool:
        """Seek, and start the next range there. Runs on this thread's loop; False when the partition is not ours.

        Faust's own seek touches aiokafka from the wrong thread, which may break its fetcher's bookkeeping.
        """
        consumer = self._ensure_consumer()
        try:
            consumer.seek(_aiokafka(shard), offset)
        except IllegalStateError:
            return False
        self.seeks[shard] = Seek(next(self._numbers))
        self._out_of_range.discard(shard)
        self._unreadable.pop(shard, None)
        self._next_starts[shard] = (_states(consumer)[_aiokafka(shard)], offset)
        return True

    async def forget_on_thread(self, shards: Iterable[Shard] | None = None) -> None:
        """Cut no ranges of these partitions, or of any, until the next seek."""
        if shards is None:
            self._out_of_range.clear()
            self._unreadable.clear()
        for shard in list(self._next_starts) if shards is None else shards:
            self._next_starts.pop(shard, None)
            self.seeks.pop(shard, None)

    async def commit_on_thread(self, offsets: Mapping[Shard, int]) -> bool:
        """Commit; a failure is the next timer's to mend, since nobody reads these offsets back but lag monitors."""
        ours = {_aiokafka(shard): offset for shard, offset in offsets.items() if shard in self.assignment()}
        if not ours:
            # All were taken from us meanwhile. aiokafka takes nothing to commit for a mistake.
            return False
        try:
            await self._ensure_consumer().commit(ours)
        except (KafkaError, IllegalStateError) as error:
            log.info("offsets not committed to kafka", error=type(error).__name__)
            return False
        return True

    async def bounds_on_thread(self, shards: list[Shard]) -> dict[Shard, LogBounds]:
        """Ask the brokers for the log bounds. Raises KafkaError."""
        consumer = self._ensure_consumer()
        asked = {shard: _aiokafka(shard) for shard in shards}
        starts = await consumer.beginning_offsets(list(asked.values()))
        ends = await consumer.end_offsets(list(asked.values()))
        states = _states(consumer)
        found = {}
        for shard, tp in asked.items():
            out_of_range = shard in self._out_of_range
            # Tansu answers the question for the end with the beginning of the last batch; its fetches know the end.
            fetched = states[tp].lso or 0 if tp in states and not out_of_range else 0
            found[shard] = LogBounds(starts[tp], max(ends[tp], fetched), out_of_range, self._unreadable.get(shard))
        return found

    def end(self, shard: Shard) -> int | None:
        """The log end as the last fetch saw it: beyond the last stable offset while transactions are open."""
        state = _states(self._ensure_consumer()).get(_aiokafka(shard))
        return None if state is None else cast(int | None, state.highwater)

    async def _fetch_records(self, consumer: Any, active_partitions: Any, **limits: Any) -> Mapping[TP, list[Range]]:
        self.transport.on_poll()
        limits["max_records"] = None  # bounded in batches.py
        crowded = self._crowded()
        if crowded:
            # aiokafka takes no partitions for all of them. Those left out keep what aiokafka has fetched of them.
            active_partitions = active_partitions.difference(crowded)
            limits["timeout"] = CROWDED_S
            if not active_partitions:
                await asyncio.sleep(CROWDED_S)
                return {}
        try:
            fetched = await super()._fetch_records(consumer, active_partitions, **limits)
        except OffsetOutOfRangeError as error:
            # Retention overtook the position, or the log is another one: placement decides. An error from before the
            # last seek says nothing.
            assigned = _states(consumer)
            failed = {
                Shard(*tp)
                for tp, at in error.args[0].items()
                # A rebalance has made a new state, which has no position before the next seek.
                if tp in assigned and assigned[tp].has_valid_position and assigned[tp].position == at
            }
            if failed:
                self._out_of_range |= failed
                self.app.loop.call_soon_threadsafe(self.consumer.assign_soon, failed)
            return {}
        except NoOffsetForPartitionError:
            # aiokafka looked for a committed offset before the ledger's position had been sought.
            return {}
        records = {Shard(*tp): batch for tp, batch in fetched.items()}
        ranges: dict[TP, list[Range]] = {}
        now = time.monotonic()
        states = _states(consumer)
        for shard, (state, start) in list(self._next_starts.items()):
            # The position may pass the last record, or move without any: aborted and control batches.
            current = states.get(_aiokafka(shard))
            if current is None or current is not state or current.position == start:
                continue
            end, batch = current.position, records.get(shard, [])
            if end < start or (batch and batch[0].offset < start):
                raise RuntimeError(f"aiokafka moved {shard.tag} from {start} to {end} without a seek")
            self._next_starts[shard] = (state, end)
            seek = self.seeks[shard]
            seek.cut += 1
            ranges[TP(*shard)] = [Range(shard, start, end, batch, seek.number, now)]
        self._report_unreadable(consumer)
        return ranges

    def _crowded(self) -> set[TP]:
        """Partitions that may not have more ranges in hand before one is finished."""
        most = max(MIN_IN_HAND, min(MAX_IN_HAND, RANGES_IN_HAND // max(len(self.seeks), 1)))
        return {TP(*shard) for shard, seek in self.seeks.items() if seek.in_hand >= most}

    def _report_unreadable(self, consumer: Any) -> None:
        """Have partitions placed that have come to a batch that cannot be read, once all before it is applied."""
        for tp, fetched in list(consumer._fetcher._records.items()):
            unreadable, shard = getattr(fetched, "unreadable", None), Shard(*tp)
            if unreadable is None or shard in self._unreadable:
                continue
            seek = self.seeks.get(shard)
            if seek is not None and not seek.in_hand:
                self._unreadable[shard] = unreadable
                self.app.loop.call_soon_threadsafe(self.consumer.assign_soon, {shard})


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer, with the ledger deciding where to read and what to commit."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._messages = itertools.count(1)
        self._assigning: set[Shard] = set()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        range_: Range = record
        # Faust drops a message whose offset is below one that it has seen, and a seek goes back. It is given a
        # running number instead; real offsets are the ranges' own affair.
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            next(self._messages),
            0.0,
            0,
            [],
            None,
            range_,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109 (Faust's)
        if not self._get_active_partitions():
            # All are stopped: Faust does not ask its thread for records then.
            self.transport.on_poll()
        return await super()._wait_next_records(timeout)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Place the whole assignment by the ledger. Tells Faust no offsets: they would mix with running numbers.

        Waits a moment only: Faust gives up on a rebalance that takes long, and a store may be away for hours.
        """
        await self._thread.call_thread(self._thread.forget_on_thread)
        self._assigning.clear()
        await asyncio.wait({self.assign_soon(self.shards())}, timeout=ASSIGN_TIMEOUT_S)
        return {}

    def shards(self) -> set[Shard]:
        """The assignment, in the terms of everything outside this file."""
        return {Shard(*tp) for tp in self.assignment()}

    def assign_soon(self, shards: Iterable[Shard]) -> asyncio.Future[None]:
        """Have partitions placed, each by one task at a time. A failure stops the worker."""
        pending = set(shards) - self._assigning
        self._assigning |= pending
        return cast("asyncio.Future[None]", self.add_future(self._assign(pending)))

    async def _assign(self, shards: set[Shard]) -> None:
        try:
            await self.transport.assign(shards)
        finally:
            self._assigning -= shards

    async def _seek(self, partition: TP, offset: int) -> None:
        await self.seek_range(Shard(*partition), offset)

    async def seek_range(self, shard: Shard, offset: int) -> bool:
        """Read on from `offset`; every range cut before is worthless from now on. False: no longer assigned."""
        assigned = cast(bool, await self._thread.call_thread(self._thread.seek_on_thread, shard, offset))
        self.resume_partitions([TP(*shard)])
        return assigned

    async def stop_range(self, shard: Shard) -> None:
        """Read nothing more of a partition until it is sought again."""
        await self._thread.call_thread(self._thread.forget_on_thread, [shard])
        self.pause_partitions([TP(*shard)])

    async def bounds(self, shards: Iterable[Shard]) -> dict[Shard, LogBounds]:
        """What Kafka holds of them. Raises KafkaError."""
        return cast(dict[Shard, LogBounds], await self._thread.call_thread(self._thread.bounds_on_thread, list(shards)))

    def is_current(self, range_: Range) -> bool:
        """Whether no seek has come after this range was cut."""
        seek = self._thread.seeks.get(range_.shard)
        return seek is not None and seek.number == range_.seek_number

    def finished(self, range_: Range) -> None:
        """A range is applied or given up: another of its partition may be handed out. To be called once a range."""
        seek = self._thread.seeks.get(range_.shard)
        if seek is not None and seek.number == range_.seek_number:
            seek.finished += 1

    def end(self, shard: Shard) -> int | None:
        """The log end that the last fetch saw."""
        return self._thread.end(shard)

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit the ledger's positions, for lag monitors; nobody reads them back."""
        try:
            offsets = await self.transport.positions()
        except ConsumerNotStarted:
            # Stopped before it ever ran, or crashed; Faust commits on its way out all the same.
            return False
        if not offsets:
            return False
        try:
            return cast(bool, await self._thread.call_thread(self._thread.commit_on_thread, offsets))
        except ConsumerNotStarted:
            return False

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's watch over acks does not apply; health.py watches progress."""


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with the two classes above, and three questions that it asks the worker."""

    Consumer = Consumer

    def __init__(
        self,
        url: Any,
        app: Any,
        *,
        assign: Callable[[set[Shard]], Awaitable[None]],
        positions: Callable[[], Awaitable[dict[Shard, int]]],
        on_poll: Callable[[], None],
    ) -> None:
        """`assign` seeks or stops each partition by the ledger and the log; `positions` returns those to commit.

        `on_poll` is called on the consumer's thread in every round of the poll loop.
        """
        super().__init__(url, app)
        self.assign = assign
        self.positions = positions
        self.on_poll = on_poll


def _states(consumer: Any) -> dict[Any, Any]:
    """aiokafka's states of the partitions assigned now."""
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    return {} if assignment is None else cast(dict[Any, Any], assignment._tp_state)


def _aiokafka(shard: Shard) -> Any:
    return driver.TopicPartition(*shard)
