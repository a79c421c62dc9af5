"""Where records go that cannot be counted: unchanged, with headers that say why and from where."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from aggregator import metrics
from aggregator.settings import WorkerSettings
from aggregator.tally import DeadLetter
from schemas.keys import Shard
from schemas.settings import PREFIX

log = structlog.get_logger(__name__)

CUT_BYTES: Final = 64 * 1024
"""What is kept of a value that producer or broker refuses for its size."""
LONGEST_PAUSE_S: Final = 5.0
MAX_REQUEST_BYTES: Final = 1024 * 1024
CLOCK_IS_OFF_S: Final = 600.0
"""How long letters go by their records' times once the broker has refused ours; retention may take them sooner."""

REASON: Final = "authtally-reason"
DETAIL: Final = "authtally-detail"
TOPIC: Final = "authtally-topic"
PARTITION: Final = "authtally-partition"
OFFSET: Final = "authtally-offset"
INDEX: Final = "authtally-index"
"""Place in the record when its value is an array; 0 otherwise."""
TIMESTAMP: Final = "authtally-timestamp"
CUT: Final = "authtally-cut"
"""The value's full size in bytes, when only its beginning is kept."""


def headers(shard: Shard, letter: DeadLetter) -> list[tuple[str, bytes]]:
    """The record's own headers, then ours. Topic, partition, offset and index identify a copy sent twice."""
    record: Any = letter.record
    ours = {
        REASON: letter.reason,
        DETAIL: letter.detail,
        TOPIC: shard.topic,
        PARTITION: shard.partition,
        OFFSET: record.offset,
        INDEX: letter.nth,
        TIMESTAMP: record.timestamp,
    }
    return [*record.headers, *((name, str(value).encode()) for name, value in ours.items())]


class DeadLetters:
    """Sends dead letters and returns when Kafka has them."""

    def __init__(self, settings: WorkerSettings, security: dict[str, Any]) -> None:
        self._settings = settings
        self._security = security
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._clock_is_off_until = -math.inf
        self.trouble: str | None = None

    async def send(self, shard: Shard, letters: Sequence[DeadLetter]) -> None:
        """Send and wait for the acknowledgement of each; before their range is applied, so that none is lost.

        A crash in between sends them again. Never gives up: a range without its dead letters must wait.
        """
        if not letters:
            return
        pause = 0.2
        while True:
            try:
                await asyncio.gather(*(self._send_one(shard, letter) for letter in letters))
            except KafkaError as error:
                self.trouble = f"{PREFIX}DEAD_LETTER_TOPIC={self._settings.dead_letter_topic}: {error!r}"
                log.warning("dead letters wait", topic=self._settings.dead_letter_topic, error=repr(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
            else:
                break
        self.trouble = None
        for letter in letters:
            metrics.DEAD_LETTERS.labels(shard.topic, letter.reason).inc()

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._settings.kafka_bootstrap_servers.replace(" ", ""),
                client_id="authtally-dead-letters",
                acks="all",
                enable_idempotence=self._settings.kafka_idempotence,
                max_request_size=MAX_REQUEST_BYTES,
                linger_ms=5,
                # What a missing topic or broker may take before readiness says so.
                request_timeout_ms=10_000,
                **self._security,
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _deliver(self, value: bytes | None, key: bytes | None, named: Any, timestamp_ms: int | None) -> None:
        async with self._starting:
            producer = await self._started()
        try:
            await producer.send_and_wait(
                self._settings.dead_letter_topic, value, key, headers=named, timestamp_ms=timestamp_ms
            )
        except KafkaError as error:
            # aiokafka has counted what was refused, and the broker has not: with idempotence it would refuse all that
            # comes after as out of order, for ever.
            if not error.retriable:
                if self._producer is producer:
                    self._producer = None
                await producer.stop()
            raise

    async def _send_one(self, shard: Shard, letter: DeadLetter) -> None:
        """Raises KafkaError."""
        if time.monotonic() < self._clock_is_off_until:
            await self._fit(shard, letter, letter.record.timestamp)
            return
        try:
            await self._fit(shard, letter, None)
        except InvalidTimestampError:
            # Our clock is far from the broker's, which has taken the record's own time before. To be remembered:
            # letters travel in batches, and one with our time in it has all of them refused.
            self._clock_is_off_until = time.monotonic() + CLOCK_IS_OFF_S
            await self._fit(shard, letter, letter.record.timestamp)

    async def _fit(self, shard: Shard, letter: DeadLetter, timestamp_ms: int | None) -> None:
        record: Any = letter.record
        named = headers(shard, letter)
        try:
            await self._deliver(letter.value, record.key, named, timestamp_ms)
        except (MessageSizeTooLargeError, RecordListTooLargeError):
            value, key = letter.value or b"", record.key
            named.append((CUT, str(len(value)).encode()))
            # Only what is small is sure to pass: foreign headers and a huge key stay behind too.
            ours = [header for header in named if header[0].startswith("authtally-")]
            kept = None if key is None else key[:1024]
            await self._deliver(value[:CUT_BYTES], kept, ours, timestamp_ms)

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()
