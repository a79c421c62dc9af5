"""Events to Kafka, and word of each that Kafka has it.

librdkafka sends from threads of its own and tells of deliveries in `poll` only. The event loop polls, without waiting,
every millisecond while anything is under way: no thread of ours has to win the interpreter from the loop, and every
callback runs on the loop.
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
"""Records handed over at a time; in between the loop answers others."""
FULL_PAUSE_S: Final = 0.01
FATAL: Final = "_FATAL"
"""Of a record that a producer was handed after its fatal error."""
ERROR: Final = "_error"
"""Where librdkafka's binding tells of a message that it did not take."""
QUEUE_RECORDS: Final = 200_000
QUEUE_KB: Final = 131_072


def properties(settings: KafkaSettings, timeout_s: float) -> dict[str, Any]:
    """librdkafka's configuration of the producer."""
    timeout_ms = int(timeout_s * 1000)
    return {
        **settings.kafka_producer(),
        "client.id": "authtally-ingest",
        "linger.ms": 2,
        # The bound on a request's wait: by then every record is either acknowledged or given up, and we are told.
        "message.timeout.ms": timeout_ms,
        # Of a topic that nobody knows. Less, so that the error says so.
        "topic.metadata.propagation.max.ms": timeout_ms // 2,
        "queue.buffering.max.messages": QUEUE_RECORDS,
        "queue.buffering.max.kbytes": QUEUE_KB,
    }


class EventProducer:
    """One producer of these `properties`. Belongs to the running loop."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = dict(properties)
        self._timeout_s = self._properties["message.timeout.ms"] / 1000
        self._loop = asyncio.get_running_loop()
        self._producer: Any = Producer(self._properties)
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False

    async def send(self, records: Mapping[str, Sequence[Message]]) -> dict[tuple[str, int], str]:
        """Returns when Kafka has them all, or has not had some of them in time.

        Answers those by topic and place in it, with librdkafka's name of the error. Whether Kafka has one of them after
        all is then unknown, as it always is with a lost acknowledgement.
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
                # Of the whole batch: a producer that is beyond repair.
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
        """A line per change of state, a count per record."""
        for reason, count in Counter(undelivered.values()).items():
            INGEST_UNDELIVERED.labels(reason).inc(count)
        if undelivered and not self._failing:
            log.warning("events not taken by kafka", error=next(iter(undelivered.values())))
        elif self._failing and not undelivered:
            log.info("events taken by kafka again")
        self._failing = bool(undelivered)

    async def _renew(self, ended: Any) -> None:
        """A fatal error ends an idempotent producer, not us."""
        if self._producer is ended:
            self._producer = Producer(self._properties)
            log.warning("producer renewed after a fatal error")
            await self._retire(ended)

    async def close(self) -> None:
        """Waits for what is under way, which its own timeout bounds."""
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._loop.time() + self._timeout_s
        while len(self._producer) and self._loop.time() < deadline:
            self._producer.poll(0)
            await asyncio.sleep(FULL_PAUSE_S)
        await self._retire(self._producer)

    async def _retire(self, producer: Any) -> None:
        """Whoever still waits for it is told now, and on the loop: closing it would tell them from another thread."""
        producer.purge()
        while len(producer):
            producer.poll(0)
            await asyncio.sleep(FULL_PAUSE_S)
        # Its threads end here, which may take a moment.
        await self._loop.run_in_executor(None, producer.close)


class _Delivery:
    """The records of one call, until Kafka has said something about each."""

    __slots__ = ("_failed", "_left", "done", "fatal")

    def __init__(self, number: int, done: asyncio.Future[None]) -> None:
        self._left = number
        self._failed: list[tuple[str, bytes | None, bytes, str]] = []
        self.done = done
        self.fatal = False

    def on_delivery(self, error: Any, message: Any) -> None:
        """By librdkafka, of each record once. One callback for all: a closure each costs as much as a record."""
        if error is not None:
            self.fatal = self.fatal or error.fatal() or error.name() == FATAL
            self._failed.append((message.topic(), message.key(), message.value(), error.name()))
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def give_up(self, topic: str, messages: Sequence[Message], error: Any) -> None:
        """Of records that librdkafka did not even take."""
        self.fatal = self.fatal or error.fatal() or error.name() == FATAL
        self._failed.extend((topic, message["key"], message["value"], error.name()) for message in messages)
        self._left -= len(messages)
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def failed_records(self, records: Mapping[str, Sequence[Message]]) -> dict[tuple[str, int], str]:
        """Where the failed records stand. Equal records are as good as each other, so that equality finds them."""
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
