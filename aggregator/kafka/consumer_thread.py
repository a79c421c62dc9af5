"""The thread that owns the aiokafka consumer, and cuts what it fetches into ranges.

This module depends on internals of Faust 0.15 and aiokafka 0.14; tests/aggregator/kafka/test_seams.py fails if one of
them changes.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, cast

import structlog
from aiokafka import AIOKafkaConsumer, conn
from aiokafka.consumer import fetcher
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from aggregator.kafka import batches, codecs, sockets
from aggregator.kafka.ranges import LogBounds, Range, Seek
from schemas.ledger.keys import Shard

log = structlog.get_logger(__name__)

FETCH_WAIT_MS = 200
"""The time for which a broker may hold a small fetch: the longest delay of an event. Faust fixes it at 1,500."""
FETCH_MIN_BYTES: Final = 2**20
"""A fetch with less is small. At 40,000 events/s single fetches of each event would cost three times the CPU time."""
RANGES_IN_HAND: Final = 32
"""Ranges in memory of all partitions together, divided among them."""
MAX_IN_HAND, MIN_IN_HAND = 8, 2
"""Ranges in memory per partition: at least 2, so that one is counted while the next is fetched; more only wait."""
CROWDED_S = 0.02
"""The pause before a partition with the maximum of ranges in memory is checked again."""


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
        consumer._fetch_max_wait_ms, consumer._fetch_min_bytes = FETCH_WAIT_MS, FETCH_MIN_BYTES
        codecs.install()
        fetcher.MemoryRecords = batches.WholeBatches
        fetcher.PartitionRecords, fetcher.FetchResult = batches.PartitionBatches, batches.BatchFetchResult
        conn.AIOKafkaConnection = sockets.LossAwareConnection
        return consumer

    def close(self) -> None:
        """Do nothing. Faust calls this at a rebalance while the worker stops, and would close the client from another
        thread: the commit of the stop would then wait for it forever. The stop itself closes the client.
        """

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
            seek.handed_out += 1
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


def _states(consumer: Any) -> dict[Any, Any]:
    """aiokafka's states of the assigned partitions."""
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    return {} if assignment is None else cast(dict[Any, Any], assignment._tp_state)


def _aiokafka(shard: Shard) -> Any:
    return driver.TopicPartition(*shard)
