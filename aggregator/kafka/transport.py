"""Faust's Kafka transport, changed to deliver whole ranges and to take positions from the ledger.

This module depends on internals of Faust 0.15 and aiokafka 0.14; tests/aggregator/kafka/test_seams.py fails if one of
them changes.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

import faust
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from aggregator.kafka.consumer_thread import ConsumerThread
from aggregator.kafka.ranges import LogBounds, Range
from schemas.ledger.keys import Shard

FETCH_BYTES_PER_PARTITION = 2 * 1024 * 1024
ASSIGN_TIMEOUT_S = 5.0


class Schema(faust.Schema):  # type: ignore[misc]
    """Passes a range through undecoded."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value


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
        await self.seek_partition(Shard(*partition), offset)

    async def seek_partition(self, shard: Shard, offset: int) -> bool:
        """Continue at `offset`; all ranges handed out before become void. Returns False if it is no longer assigned."""
        assigned = cast(bool, await self._thread.call_thread(self._thread.seek_on_thread, shard, offset))
        self.resume_partitions([TP(*shard)])
        return assigned

    async def stop_partition(self, shard: Shard) -> None:
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

    def release_range(self, range_: Range) -> None:
        """Make room for another range after this one is applied or dropped. Must be called once per range."""
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
    """Faust's aiokafka transport with `Consumer`, and three callbacks to the worker."""

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
