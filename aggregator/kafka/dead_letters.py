"""The dead-letter topic: records that cannot be counted, unchanged, with headers for their origin and the reason."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from aggregator import metrics
from aggregator.fold.range_delta import DeadLetter
from aggregator.settings import WorkerSettings
from schemas.events import RecordTime
from schemas.ledger.keys import Shard
from schemas.settings import PREFIX

log = structlog.get_logger(__name__)

TRUNCATED_BYTES: Final = 64 * 1024
"""Bytes kept of a value that is too large for the producer or broker."""
MAX_PAUSE_S: Final = 5.0
MAX_REQUEST_BYTES: Final = 1024 * 1024
REQUEST_TIMEOUT_S: Final = 10.0
"""A missing topic or broker shows in readiness after this time."""
GROUP_LETTERS: Final = 250
GROUP_BYTES: Final = 1024 * 1024
"""Most letters, and bytes of values, that are handed to the producer together."""
MAX_GROUPS: Final = 4
"""Most groups at the same time, of all partitions. A letter may spend REQUEST_TIMEOUT_S in the producer: many would
time out behind each other."""
CLOCK_SKEW_S: Final = 600.0
"""After a broker refused our clock's time, letters carry their records' times for so long; they may expire sooner."""

REASON: Final = "authtally-reason"
DETAIL: Final = "authtally-detail"
TOPIC: Final = "authtally-topic"
PARTITION: Final = "authtally-partition"
OFFSET: Final = "authtally-offset"
INDEX: Final = "authtally-index"
"""Index in the record if it has several elements; else 0."""
TIMESTAMP: Final = "authtally-timestamp"
TRUNCATED: Final = "authtally-cut"
"""The value's full size in bytes, if it was truncated. Key and headers may be truncated too."""
RENAMED: Final = "authtally-renamed-headers"
"""Present if a header's name was not UTF-8: its bytes are backslash escapes in the letter."""
RESENT: Final = "authtally-resent"
"""Header of a resent record: its first topic, partition, offset and index."""
OURS: Final = "authtally-"
KEY_BYTES: Final = 1024
CUTS: Final = ((TRUNCATED_BYTES, KEY_BYTES), (TRUNCATED_BYTES // 16, KEY_BYTES), (0, 0))
"""Bytes kept of value and key, tried in turn: a topic's limit may be below TRUNCATED_BYTES."""
DETAIL_CHARS: Final = 1000
RESENT_BYTES: Final = 512


def headers(shard: Shard, letter: DeadLetter) -> list[tuple[str, bytes | None]]:
    """The record's own headers, then ours. Topic, partition, offset and index identify duplicate letters.

    Foreign headers with our prefix are dropped, except RESENT if it names the record's topic and partition.
    """
    return [*_foreign(shard, letter.record), *_ours(shard, letter)]


def _foreign(shard: Shard, record: Any) -> list[tuple[str, bytes | None]]:
    return [(name, value) for name, value in record.headers if not name.startswith(OURS) or _resent(name, value, shard)]


def _resent(name: str, value: bytes | None, shard: Shard) -> bool:
    origin = f"{shard.topic}/{shard.partition}/".encode()
    return name == RESENT and value is not None and len(value) <= RESENT_BYTES and value.startswith(origin)


def _ours(shard: Shard, letter: DeadLetter) -> list[tuple[str, bytes | None]]:
    record: Any = letter.record
    own_headers = {
        REASON: letter.reason,
        DETAIL: letter.detail[:DETAIL_CHARS],
        TOPIC: shard.topic,
        PARTITION: shard.partition,
        OFFSET: record.offset,
        INDEX: letter.element_index,
        TIMESTAMP: record.timestamp,
    }
    if getattr(record, "renamed", False):
        own_headers[RENAMED] = "yes"
    return [(name, str(value).encode(errors="backslashreplace")) for name, value in own_headers.items()]


class DeadLetters:
    """Sends dead letters and waits for Kafka's acknowledgement."""

    def __init__(self, settings: WorkerSettings, security: dict[str, Any]) -> None:
        self._settings = settings
        self._security = security
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._groups = asyncio.Semaphore(MAX_GROUPS)
        self._clock_skewed_until = -math.inf
        self.troubles: dict[Shard, str] = {}

    async def send(
        self, shard: Shard, letters: Sequence[DeadLetter], *, clock_ms: int, wanted: Callable[[], bool]
    ) -> bool:
        """Send letters and wait for all acknowledgements; before their range is applied, so that none is lost.

        A crash before the range is applied sends them again. Retries while `wanted` returns true, since the range must
        wait for its letters; returns False if it no longer does. `clock_ms` is the store's clock. Raises errors that
        are not Kafka's.
        """
        waiting = list(letters)
        pause = 0.2
        while waiting:
            group = waiting[: _group_size(waiting)]
            async with self._groups:
                outcomes = await asyncio.gather(
                    *(self._send_one(shard, letter, clock_ms) for letter in group), return_exceptions=True
                )
            failures = [outcome for outcome in outcomes if outcome is not None]
            for failure in failures:
                if not isinstance(failure, KafkaError):
                    raise failure
            # Acknowledged letters are not sent again.
            waiting[: len(group)] = [
                letter for letter, outcome in zip(group, outcomes, strict=True) if outcome is not None
            ]
            if not failures:
                continue
            self.troubles[shard] = f"{PREFIX}DEAD_LETTER_TOPIC={self._settings.dead_letter_topic}: {failures[0]!r}"
            log.warning(
                "dead letters wait",
                topic=self._settings.dead_letter_topic,
                shard=shard.tag,
                letters=len(waiting),
                error=repr(failures[0]),
            )
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_S)
            if not wanted():
                self.troubles.pop(shard, None)
                return False
        self.troubles.pop(shard, None)
        for letter in letters:
            metrics.DEAD_LETTERS.labels(shard.topic, letter.reason).inc()
        return True

    @property
    def error(self) -> str | None:
        """Why dead letters wait, for one of the partitions concerned; None if none wait."""
        return next(iter(self.troubles.values()), None)

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._settings.kafka_bootstrap_servers.replace(" ", ""),
                client_id="authtally-dead-letters",
                acks="all",
                enable_idempotence=self._settings.kafka_idempotence,
                max_request_size=MAX_REQUEST_BYTES,
                linger_ms=5,
                request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
                # aiokafka rejects a message with neither key nor value, so the value is wrapped in a tuple.
                value_serializer=_unpacked,
                **self._security,
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _produce(
        self, value: bytes | None, key: bytes | None, record_headers: Any, timestamp_ms: int | None
    ) -> None:
        async with self._starting:
            producer = await self._started()
        try:
            await producer.send_and_wait(
                self._settings.dead_letter_topic, (value,), key, headers=record_headers, timestamp_ms=timestamp_ms
            )
        except KafkaError as error:
            # aiokafka has advanced its sequence number, the broker has not: with idempotence the broker would refuse
            # all later messages as out of order, forever.
            if not error.retriable:
                if self._producer is producer:
                    self._producer = None
                await producer.stop()
            raise

    async def _send_one(self, shard: Shard, letter: DeadLetter, clock_ms: int) -> None:
        """Raises KafkaError."""
        if time.monotonic() >= self._clock_skewed_until:
            try:
                await self._send_or_truncate(shard, letter, None)
            except InvalidTimestampError:
                # The broker's clock is far from ours, but it accepted the usable times of records before. Kept for
                # a while: one letter with our time makes the broker refuse its whole batch.
                self._clock_skewed_until = time.monotonic() + CLOCK_SKEW_S
            else:
                return
        await self._send_or_truncate(shard, letter, RecordTime.of(letter.record.timestamp, clock_ms).ms)

    async def _send_or_truncate(self, shard: Shard, letter: DeadLetter, timestamp_ms: int | None) -> None:
        record: Any = letter.record
        value, key = letter.value, record.key
        record_headers = headers(shard, letter)
        for most_value, most_key in CUTS:
            try:
                await self._produce(value, key, record_headers, timestamp_ms)
            except (MessageSizeTooLargeError, RecordListTooLargeError):
                # Foreign headers are dropped too. Nulls stay nulls.
                value, key = value and value[:most_value], key and key[:most_key]
                record_headers = [*_ours(shard, letter), (TRUNCATED, str(len(letter.value or b"")).encode())]
            else:
                return
        await self._produce(value, key, record_headers, timestamp_ms)

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()


def _group_size(letters: Sequence[DeadLetter]) -> int:
    """How many of the first letters form a group; at least one."""
    size = 0
    for number, letter in enumerate(letters[:GROUP_LETTERS]):
        size += len(letter.value or b"")
        if size > GROUP_BYTES:
            return max(1, number)
    return min(GROUP_LETTERS, len(letters))


def _unpacked(packed: tuple[bytes | None]) -> bytes | None:
    return packed[0]
