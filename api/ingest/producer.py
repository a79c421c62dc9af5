"""Sends events to Kafka and waits for the acknowledgement of each.

librdkafka sends from its own threads and reports deliveries only in `poll`. The event loop polls without waiting, every
millisecond while a delivery is pending: no thread of ours competes for the GIL, and every callback runs on the loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from confluent_kafka import KafkaException, Producer

from api.ingest.records import Message
from api.metrics import INGEST_PRODUCE_SECONDS, INGEST_UNDELIVERED
from schemas.settings import KafkaSettings

log = structlog.get_logger(__name__)

POLL_S: Final = 0.001
BATCH_RECORDS: Final = 1_000
"""Records per call of librdkafka; the loop serves other requests in between."""
FULL_PAUSE_S: Final = 0.01
FATAL: Final = "_FATAL"
"""The error name of a record that was produced after a fatal error."""
ERROR: Final = "_error"
"""The key in which librdkafka's binding returns the error of a message that it did not queue."""
QUEUE_RECORDS: Final = 200_000
QUEUE_KB: Final = 131_072


def properties(settings: KafkaSettings, timeout_s: float) -> dict[str, Any]:
    """librdkafka's configuration of the producer."""
    timeout_ms = int(timeout_s * 1000)
    return {
        **settings.kafka_producer(),
        "client.id": "authtally-ingest",
        "linger.ms": 2,
        # The bound on a request's wait: by then every record is acknowledged or failed.
        "message.timeout.ms": timeout_ms,
        # For an unknown topic. Shorter than the message timeout, so that the error names the topic as unknown.
        "topic.metadata.propagation.max.ms": timeout_ms // 2,
        "queue.buffering.max.messages": QUEUE_RECORDS,
        "queue.buffering.max.kbytes": QUEUE_KB,
    }


class EventProducer:
    """A producer with these `properties`, bound to the running loop."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = dict(properties)
        self._timeout_s = self._properties["message.timeout.ms"] / 1000
        self._loop = asyncio.get_running_loop()
        self._producer: Any = Producer(self._properties)
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False

    async def send(self, records: Mapping[str, Sequence[Message]]) -> dict[tuple[str, int], str]:
        """Returns when every record is acknowledged or its time is over.

        Returns the unacknowledged records by topic and index, with librdkafka's error name. Kafka may still have stored
        such a record, because an acknowledgement can be lost.
        """
        number = sum(map(len, records.values()))
        if not number:
            return {}
        delivery, producer = _Delivery(number, self._loop.create_future()), self._producer
        began = self._loop.time()
        self._waiting += 1
        try:
            for topic, messages in records.items():
                for start in range(0, len(messages), BATCH_RECORDS):
                    if start:
                        await asyncio.sleep(0)
                    batch = messages if len(messages) <= BATCH_RECORDS else messages[start : start + BATCH_RECORDS]
                    await self._hand_over(topic, batch, delivery, began + self._timeout_s)
            self._poll_soon()
            await delivery.done
        finally:
            self._waiting -= 1
        INGEST_PRODUCE_SECONDS.observe(self._loop.time() - began)
        undelivered = delivery.failed_records(records)
        if undelivered or self._failing:
            self._log_change(undelivered)
        if delivery.fatal:
            await self._renew(producer)
        return undelivered

    async def _hand_over(self, topic: str, messages: Sequence[Message], delivery: _Delivery, deadline: float) -> None:
        waiting: Any = messages
        while waiting:
            try:
                taken = self._producer.produce_batch(topic, waiting, on_delivery=delivery.on_delivery)
            except KafkaException as error:
                # The whole batch failed: the producer has a fatal error.
                delivery.give_up(topic, waiting, error.args[0])
                return
            if taken == len(waiting):
                return
            waiting = [message for message in waiting if ERROR in message]
            found = waiting[0][ERROR]
            for message in waiting:
                del message[ERROR]
            if found.name() != "_QUEUE_FULL" or self._loop.time() > deadline:
                delivery.give_up(topic, waiting, found)
                return
            self._poll_soon()
            await asyncio.sleep(FULL_PAUSE_S)

    def _poll_soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(POLL_S, self._poll)

    def _poll(self) -> None:
        self._timer = None
        self._producer.poll(0)
        if self._waiting:
            self._poll_soon()

    def _log_change(self, undelivered: Mapping[tuple[str, int], str]) -> None:
        """Logs a line per change of state, and counts records."""
        for reason, count in Counter(undelivered.values()).items():
            INGEST_UNDELIVERED.labels(reason).inc(count)
        if undelivered and not self._failing:
            log.warning("kafka does not acknowledge events", error=next(iter(undelivered.values())))
        elif self._failing and not undelivered:
            log.info("kafka acknowledges events again")
        self._failing = bool(undelivered)

    async def _renew(self, ended: Any) -> None:
        """Replaces an idempotent producer after its fatal error."""
        if self._producer is ended:
            self._producer = Producer(self._properties)
            log.warning("producer replaced after a fatal error")
            await self._retire(ended)

    async def close(self) -> None:
        """Waits for pending deliveries, at most the message timeout."""
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._loop.time() + self._timeout_s
        while len(self._producer) and self._loop.time() < deadline:
            self._producer.poll(0)
            await asyncio.sleep(FULL_PAUSE_S)
        await self._retire(self._producer)

    async def _retire(self, producer: Any) -> None:
        """Fails pending deliveries now, on the loop: `close` would run their callbacks in another thread."""
        producer.purge()
        while len(producer):
            producer.poll(0)
            await asyncio.sleep(FULL_PAUSE_S)
        # In a thread: waiting for the end of librdkafka's threads blocks.
        await self._loop.run_in_executor(None, producer.close)


class _Delivery:
    """The records of one call, until each is acknowledged or failed."""

    __slots__ = ("_failed", "_left", "done", "fatal")

    def __init__(self, number: int, done: asyncio.Future[None]) -> None:
        self._left = number
        self._failed: list[tuple[str, bytes | None, bytes, str]] = []
        self.done = done
        self.fatal = False

    def on_delivery(self, error: Any, message: Any) -> None:
        """Called by librdkafka once per record. One method for all records: a closure each would double their cost."""
        if error is not None:
            self.fatal = self.fatal or error.fatal() or error.name() == FATAL
            self._failed.append((message.topic(), message.key(), message.value(), error.name()))
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def give_up(self, topic: str, messages: Sequence[Message], error: Any) -> None:
        """Fails records that librdkafka did not queue."""
        self.fatal = self.fatal or error.fatal() or error.name() == FATAL
        self._failed.extend((topic, message["key"], message["value"], error.name()) for message in messages)
        self._left -= len(messages)
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def failed_records(self, records: Mapping[str, Sequence[Message]]) -> dict[tuple[str, int], str]:
        """The failed records by topic and index. Equal records are interchangeable, so they are found by equality."""
        found: dict[tuple[str, int], str] = {}
        if not self._failed:
            return found
        left: dict[tuple[str, bytes | None, bytes], list[str]] = {}
        for topic, key, value, reason in self._failed:
            left.setdefault((topic, key, value), []).append(reason)
        for topic, messages in records.items():
            for index, message in enumerate(messages):
                reasons = left.get((topic, message["key"], message["value"]))
                if reasons:
                    found[topic, index] = reasons.pop()
        return found
