"""Finds offsets that a broker cannot read, by a client that reports it: aiokafka asks again forever, without a name."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import structlog
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from aggregator.kafka.batches import Unreadable
from aggregator.kafka.transport import Consumer
from aggregator.settings import WorkerSettings
from schemas.ledger.keys import Shard

log = structlog.get_logger(__name__)

CORRUPT: Final = "CORRUPT_MESSAGE"
"""Kafka's name of the error: the broker's own file is damaged."""
STILL_S: Final = 5.0
"""A partition that stands for so long, with records to read, is probed; again after the same time. aiokafka asks the
broker a thousand times a second until then."""
ANSWER_S: Final = 3.0
SEARCH_S: Final = 10.0
"""The longest search for the end of the damage; beyond it the best offset found is named."""


class PartitionProbe:
    """Probes partitions that stand still, one at a time. `marked` are those that it found unreadable."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._due: dict[Shard, float] = {}
        self.marked: set[Shard] = set()

    async def check(self, consumer: Consumer, shard: Shard, position: int, end: int, still_s: float) -> None:
        """Mark a partition whose broker cannot read at `position`; remove the mark once it can.

        `still_s` is the time for which the position stands. A marked partition is stopped by its next assignment.
        """
        now = time.monotonic()
        if (still_s < STILL_S and shard not in self.marked) or now < self._due.get(shard, now):
            return
        self._due[shard] = now + STILL_S
        found = await asyncio.to_thread(self._unreadable, shard, position, end)
        if found is not None:
            self.marked.add(shard)
            await consumer.set_unreadable(shard, found)
            consumer.assign_soon({shard})
        elif shard in self.marked:
            # Another replica leads, or the position was moved.
            self.forget(shard)
            await consumer.set_unreadable(shard, None)

    def forget(self, shard: Shard) -> None:
        self._due.pop(shard, None)
        self.marked.discard(shard)

    def _unreadable(self, shard: Shard, position: int, end: int) -> Unreadable | None:
        """None if the position can be read, or if nothing says that it cannot."""
        try:
            with _Reader(self._settings, shard) as reader:
                if reader.is_readable(position) is not False:
                    return None
                return Unreadable(position, reader.next_readable(position, end), CORRUPT)
        except KafkaException as error:
            log.info("partition not probed", shard=shard.tag, error=error.args[0].name())
            return None


class _Reader:
    """A consumer of one partition. It joins no group and commits nothing. Raises KafkaException."""

    def __init__(self, settings: WorkerSettings, shard: Shard) -> None:
        self._shard = shard
        self._client: Any = KafkaConsumer(
            {
                **settings.kafka_client(),
                # The worker's own group, for which it has the right.
                "group.id": settings.kafka_group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "fetch.error.backoff.ms": 10,
                "log_level": 0,
            }
        )

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def is_readable(self, offset: int) -> bool | None:
        """None if the broker does not answer in time, or with another error."""
        self._client.assign([TopicPartition(*self._shard, offset)])
        message = self._client.poll(ANSWER_S)
        if message is None:
            return None
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return True
        return False if error.code() == KafkaError.INVALID_MSG else None

    def next_readable(self, unreadable: int, end: int) -> int:
        """The lowest offset up to `end` from which on the log can be read.

        A broker finds an offset by reading from the last index entry before it, so a damage makes all offsets up to the
        next entry unreadable, and none after it: the border is found by halving.
        """
        give_up = time.monotonic() + SEARCH_S
        readable = max(end, unreadable + 1)
        while readable - unreadable > 1 and time.monotonic() < give_up:
            middle = (unreadable + readable) // 2
            if self.is_readable(middle):
                readable = middle
            else:
                unreadable = middle
        return readable
