"""Faust's Kafka transport, changed to deliver whole ranges and to take positions from the ledger.

A *range* `[start, end)` of one partition starts at the end of the previous one, or at the last seek's offset, and ends
at the consumer's position after the fetch: past control markers, aborted and compacted records. Offsets may be missing
inside a range, never between two ranges. This module depends on internals of Faust 0.15 and aiokafka 0.14;
tests/aggregator/kafka/test_seams.py fails if one of them changes.
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
"""The time for which a broker may hold an empty fetch: the longest delay of a single event. Faust fixes it at 1,500."""
FETCH_BYTES_PER_PARTITION = 2 * 1024 * 1024
ASSIGN_TIMEOUT_S = 5.0
RANGES_IN_HAND: Final = 32
"""Ranges in memory of all partitions together, divided among them."""
MAX_IN_HAND, MIN_IN_HAND = 8, 2
"""Ranges in memory per partition: at least 2, so that one is counted while the next is fetched; more only wait."""
CROWDED_S = 0.02
"""The pause before a partition with the maximum of ranges in memory is checked again."""


class Range(NamedTuple):
    """Records of one partition, and the offsets that they cover."""

    shard: Shard
    start: int
    end: int
    records: list[Any]
    seek_number: int
    """The number of the seek before it. A later seek of the partition makes the range void."""
    fetched_at: float
    """A time.monotonic after the arrival of its records."""


class LogBounds(NamedTuple):
    """The offsets of a partition that Kafka has: from `start` up to, not including, the last stable offset `end`."""

    start: int
    end: int
    out_of_range: bool = False
    """Whether Kafka refused a fetch at the consumer's position as out of range."""
    unreadable: batches.Unreadable | None = None
    """The unreadable batch at the consumer's position."""


@dataclass(slots=True, eq=False)
class Seek:
    """Ranges since one seek of a partition. Each count is written by one thread only, so neither needs a lock."""

    number: int
    cut: int = 0
    """Ranges handed out; written by the consumer's thread."""
    finished: int = 0
    """Ranges applied or dropped; written by the worker's thread."""

    @property
    def in_hand(self) -> int:
        return self.cut - self.finished


class Schema(faust.Schema):  # type: ignore[misc]
    """Passes a range through undecoded."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Owns the aiokafka consumer, with a loop and thread of its own. All use of the consumer must run there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seeks: dict[Shard, Seek] = {}
        # Per partition: aiokafka's state, and the start of the next range. A rebalance makes new states, with an
        # arbitrary position until the next seek: a range must not begin in one state and end in another.
        self._next_starts: dict[Shard, tuple[Any, int]] = {}
        self._numbers = itertools.count(1)
        self._out_of_range: set[Shard] = set()
        self._unreadable: dict[Shard, batches.Unreadable] = {}

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust has no settings for these. Without read_committed, aborted transactions would be counted.
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        codecs.install()
        fetcher.MemoryRecords = batches.WholeBatches
        fetcher.PartitionRecords, fetcher.FetchResult = batches.BatchRecords, batches.BatchFetchResult
        conn.AIOKafkaConnection = sockets.LossAwareConnection
        return consumer

    async def call_thread(self, fun: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """Run `fun` on this thread. Raises ConsumerNotStarted if the thread has ended, or ends before the answer.

        Faust would wait forever: a crash stops the thread at once, and calls in its queue get no answer. The commit
        during shutdown would keep the worker from ending.
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
        """Seek, and start the next range there. Returns False if the partition is not assigned to this worker.

        Faust's own seek calls aiokafka from another thread, which may corrupt the state of its fetcher.
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
        """Hand out no ranges of these partitions, or of all if None, until the next seek."""
        if shards is None:
            self._out_of_range.clear()
            self._unreadable.clear()
        for shard in list(self._next_starts) if shards is None else shards:
            self._next_starts.pop(shard, None)
            self.seeks.pop(shard, None)

    async def commit_on_thread(self, offsets: Mapping[Shard, int]) -> bool:
        """Commit. A failure is only logged: the timer commits again, and only lag monitors read these offsets."""
        ours = {_aiokafka(shard): offset for shard, offset in offsets.items() if shard in self.assignment()}
        if not ours:
            # All partitions were revoked meanwhile. aiokafka raises on an empty commit.
            return False
        try:
            await self._ensure_consumer().commit(ours)
        except (KafkaError, IllegalStateError) as error:
            log.info("offsets not committed to kafka", error=type(error).__name__)
            return False
        return True

    async def bounds_on_thread(self, shards: list[Shard]) -> dict[Shard, LogBounds]:
        """Read the log bounds from the brokers. Raises KafkaError."""
        consumer = self._ensure_consumer()
        asked = {shard: _aiokafka(shard) for shard in shards}
        starts = await consumer.beginning_offsets(list(asked.values()))
        ends = await consumer.end_offsets(list(asked.values()))
        states = _states(consumer)
        found = {}
        for shard, tp in asked.items():
            out_of_range = shard in self._out_of_range
            # Tansu returns the start of the last batch as the log's end; its fetch answers contain the right end.
            fetched = states[tp].lso or 0 if tp in states and not out_of_range else 0
            found[shard] = LogBounds(starts[tp], max(ends[tp], fetched), out_of_range, self._unreadable.get(shard))
        return found

    def end(self, shard: Shard) -> int | None:
        """The high watermark of the last fetch: beyond `LogBounds.end` while transactions are open."""
        state = _states(self._ensure_consumer()).get(_aiokafka(shard))
        return None if state is None else cast(int | None, state.highwater)

    async def _fetch_records(self, consumer: Any, active_partitions: Any, **limits: Any) -> Mapping[TP, list[Range]]:
        self.transport.on_poll()
        limits["max_records"] = None  # bounded in batches.py
        crowded = self._crowded()
        if crowded:
            # aiokafka reads an empty list as all partitions. Those left out keep their fetched records.
            active_partitions = active_partitions.difference(crowded)
            limits["timeout"] = CROWDED_S
            if not active_partitions:
                await asyncio.sleep(CROWDED_S)
                return {}
        try:
            fetched = await super()._fetch_records(consumer, active_partitions, **limits)
        except OffsetOutOfRangeError as error:
            # Retention passed the position, or the topic was created again: assignment.py decides. An error from before
            # the last seek does not count.
            assigned = _states(consumer)
            failed = {
                Shard(*tp)
                for tp, at in error.args[0].items()
                # A new state after a rebalance has no position before the next seek.
                if tp in assigned and assigned[tp].has_valid_position and assigned[tp].position == at
            }
            if failed:
                self._out_of_range |= failed
                self.app.loop.call_soon_threadsafe(self.consumer.assign_soon, failed)
            return {}
        except NoOffsetForPartitionError:
            # aiokafka asked for a committed offset before the seek to the ledger's position.
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
        """Partitions with the maximum of ranges in memory."""
        most = max(MIN_IN_HAND, min(MAX_IN_HAND, RANGES_IN_HAND // max(len(self.seeks), 1)))
        return {TP(*shard) for shard, seek in self.seeks.items() if seek.in_hand >= most}

    def _report_unreadable(self, consumer: Any) -> None:
        """Assign each partition again that reached an unreadable batch, once everything before the batch is applied."""
        for tp, fetched in list(consumer._fetcher._records.items()):
            unreadable, shard = getattr(fetched, "unreadable", None), Shard(*tp)
            if unreadable is None or shard in self._unreadable:
                continue
            seek = self.seeks.get(shard)
            if seek is not None and not seek.in_hand:
                self._unreadable[shard] = unreadable
                self.app.loop.call_soon_threadsafe(self.consumer.assign_soon, {shard})


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer; the ledger determines the offsets to read and to commit."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._messages = itertools.count(1)
        self._assigning: set[Shard] = set()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        range_: Range = record
        # Faust drops a message whose offset is below an earlier one, as after a seek back. It gets a running number
        # instead; the real offsets are in the range.
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
            # All partitions are stopped: Faust does not poll its thread then.
            self.transport.on_poll()
        return await super()._wait_next_records(timeout)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek the whole assignment by the ledger. Returns no offsets to Faust: they would mix with running numbers.

        Waits for ASSIGN_TIMEOUT_S at most: Faust aborts a long rebalance, and a store may be down for hours.
        """
        await self._thread.call_thread(self._thread.forget_on_thread)
        self._assigning.clear()
        await asyncio.wait({self.assign_soon(self.shards())}, timeout=ASSIGN_TIMEOUT_S)
        return {}

    def shards(self) -> set[Shard]:
        """The assigned partitions as shards."""
        return {Shard(*tp) for tp in self.assignment()}

    def assign_soon(self, shards: Iterable[Shard]) -> asyncio.Future[None]:
        """Assign partitions in the background, each in one task at a time. A failure stops the worker."""
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
        """Continue at `offset`; all ranges handed out before become void. Returns False if it is no longer assigned."""
        assigned = cast(bool, await self._thread.call_thread(self._thread.seek_on_thread, shard, offset))
        self.resume_partitions([TP(*shard)])
        return assigned

    async def stop_range(self, shard: Shard) -> None:
        """Read nothing more of a partition until the next seek."""
        await self._thread.call_thread(self._thread.forget_on_thread, [shard])
        self.pause_partitions([TP(*shard)])

    async def bounds(self, shards: Iterable[Shard]) -> dict[Shard, LogBounds]:
        """The log bounds of partitions. Raises KafkaError."""
        return cast(dict[Shard, LogBounds], await self._thread.call_thread(self._thread.bounds_on_thread, list(shards)))

    def is_current(self, range_: Range) -> bool:
        """Whether there was no seek after this range was handed out."""
        seek = self._thread.seeks.get(range_.shard)
        return seek is not None and seek.number == range_.seek_number

    def finished(self, range_: Range) -> None:
        """Release a range that is applied or dropped, so that another may follow. Must be called once per range."""
        seek = self._thread.seeks.get(range_.shard)
        if seek is not None and seek.number == range_.seek_number:
            seek.finished += 1

    def end(self, shard: Shard) -> int | None:
        """The log end in the last fetch."""
        return self._thread.end(shard)

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit the ledger's positions for lag monitors; the worker never reads them."""
        try:
            offsets = await self.transport.positions()
        except ConsumerNotStarted:
            # Not started, or crashed; Faust commits during shutdown in any case.
            return False
        if not offsets:
            return False
        try:
            return cast(bool, await self._thread.call_thread(self._thread.commit_on_thread, offsets))
        except ConsumerNotStarted:
            return False

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Disables Faust's check of acks; progress.py checks progress."""


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with the two classes above, and three callbacks to the worker."""

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
    """aiokafka's states of the assigned partitions."""
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    return {} if assignment is None else cast(dict[Any, Any], assignment._tp_state)


def _aiokafka(shard: Shard) -> Any:
    return driver.TopicPartition(*shard)
