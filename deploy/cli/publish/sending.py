"""Sends events and tracks how far they are acknowledged, in bounded memory and without waiting for single batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from deploy.cli.publish.state import ElementCounts
from schemas.connections import kafka_diagnosis
from schemas.outgoing import Outgoing
from schemas.settings import PREFIX, KafkaSettings

STALL_TIMEOUT_S: Final = 10.0
MESSAGE_TIMEOUT_S: Final = 120
"""Retry time per event before the run ends. It is longer than the loss of a broker and a leader election."""
QUEUED: Final = 50_000
QUEUED_KB: Final = 65_536
SEGMENT: Final = 2_000
"""Elements between two points at which a later run can resume."""
SEGMENT_S: Final = 1.0
SEGMENTS: Final = 25


class SendingError(Exception):
    """Kafka accepts no more events; the text names the remedy."""


class StoppedError(Exception):
    """A stop was requested while waiting for Kafka."""


class _Segment:
    """Consecutive elements, with the counts to store once all their events are acknowledged."""

    __slots__ = ("began", "elements", "failures", "link", "outstanding", "tally")

    def __init__(self, now: float, failures: list[KafkaError]) -> None:
        self.began = now
        self.failures = failures
        self.elements = 0
        self.outstanding = 0
        self.tally: ElementCounts | None = None
        self.link = b""

    def delivered(self, error: KafkaError | None, _message: Any) -> None:
        if error is None:
            self.outstanding -= 1
        else:
            self.failures.append(error)


class Sending:
    """Sends events in order and calls `acknowledged(tally, link)` for increasing points of the input.

    Call `element_done` after the last event of each element. Not thread-safe.
    """

    def __init__(
        self, settings: KafkaSettings, acknowledged: Callable[[ElementCounts, bytes], None], stopped: Callable[[], bool]
    ) -> None:
        """Raises SendingError if no broker answers. `stopped` is called while waiting."""
        self._acknowledged = acknowledged
        self._stopped = stopped
        self._failures: list[KafkaError] = []
        self._segments: deque[_Segment] = deque()
        self._now = _Segment(time.monotonic(), self._failures)
        self._producer: Any = Producer(
            {
                **settings.kafka_producer(),
                "linger.ms": 20,
                "message.timeout.ms": MESSAGE_TIMEOUT_S * 1000,
                "queue.buffering.max.messages": QUEUED,
                "queue.buffering.max.kbytes": QUEUED_KB,
                "error_cb": self._on_error,
            }
        )
        try:
            self._there = set(self._producer.list_topics(timeout=STALL_TIMEOUT_S).topics)
        except KafkaException as error:
            # Polling runs error_cb with the errors of the connections.
            self._producer.poll(0)
            result = [str(failure.str()) for failure in self._failures]
            raise SendingError(kafka_diagnosis.diagnose(settings, result, error.args[0].str())) from error

    def send(self, event: Outgoing) -> None:
        """Queue one event; waits while the queue is full. Raises SendingError, StoppedError."""
        if event.topic not in self._there:
            raise SendingError(f"Kafka has no topic {event.topic} ({PREFIX}TOPICS): create it first")
        while True:
            try:
                # No timestamp, so it is the time of sending: with the event's own time, retention would delete history
                # on arrival.
                self._producer.produce(event.topic, event.value, event.key, on_delivery=self._now.delivered)
            except BufferError:
                self._wait(0.1)
            except KafkaException as error:
                raise self._failed(error.args[0]) from error
            else:
                break
        self._now.outstanding += 1

    def element_done(self, tally: Callable[[], ElementCounts], link: bytes) -> None:
        """Note that all events of an element were sent. `tally` and `link` cover it. Raises SendingError."""
        self._now.elements += 1
        if self._now.elements % 100 and self._now.elements < SEGMENT:
            return
        now = time.monotonic()
        if self._now.elements >= SEGMENT or now - self._now.began >= SEGMENT_S:
            self._close(tally(), link, now)
            while len(self._segments) > SEGMENTS:
                self._wait(0.05)
        self._poll(0)

    def finish(self, tally: ElementCounts, link: bytes, timeout_s: float = MESSAGE_TIMEOUT_S) -> None:
        """Wait until everything sent is acknowledged. Raises SendingError."""
        self._close(tally, link, time.monotonic())
        self._drain(timeout_s)
        if self._segments:
            raise SendingError(f"Kafka did not acknowledge all events within {timeout_s:g} s")

    def give_up(self, timeout_s: float) -> None:
        """Wait for outstanding acknowledgements, then drop the queue, which the next run sends again."""
        if not self._failures:
            # The caller has reported the first error already.
            with suppress(SendingError):
                self._drain(timeout_s)
        self._producer.purge()
        self._producer.poll(0)

    def _drain(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._segments and time.monotonic() < deadline:
            self._poll(0.1)

    def _wait(self, wait_s: float) -> None:
        self._poll(wait_s)
        if self._stopped():
            raise StoppedError

    def _close(self, tally: ElementCounts, link: bytes, now: float) -> None:
        self._now.tally, self._now.link = tally, link
        self._segments.append(self._now)
        self._now = _Segment(now, self._failures)

    def _poll(self, wait_s: float) -> None:
        """Serve delivery reports, and report the latest point below which everything is acknowledged."""
        self._producer.poll(wait_s)
        reached: _Segment | None = None
        while self._segments and not self._segments[0].outstanding:
            reached = self._segments.popleft()
        if reached is not None and reached.tally is not None:
            self._acknowledged(reached.tally, reached.link)
        if self._failures:
            raise self._failed(self._failures[0])

    def _on_error(self, error: KafkaError) -> None:
        # Other errors are temporary or end in a delivery report.
        if error.fatal() or error.code() == KafkaError._AUTHENTICATION:
            self._failures.append(error)

    @staticmethod
    def _failed(error: KafkaError) -> SendingError:
        text = str(error.str())
        if error.code() == KafkaError._UNSUPPORTED_FEATURE or "dempoten" in text:
            text += f" (a broker without idempotent producers needs {PREFIX}KAFKA_IDEMPOTENCE=off)"
        return SendingError(f"Kafka did not accept an event: {text}")
