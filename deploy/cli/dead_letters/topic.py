"""The dead-letter topic: its messages, and the letters that our headers describe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import click
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from aggregator.kafka import dead_letters as headers
from aggregator.settings import WorkerSettings
from deploy.cli.operations import consumer, headers_of, kafka_errors_as_usage, logs_of
from deploy.progress import progress
from schemas.ledger import fields
from schemas.ledger.keys import Shard

TIMEOUT_S: Final = 30
DIGEST_BYTES: Final = 16


class Identity(NamedTuple):
    """One bad record or element. Letters with the same identity are copies."""

    topic: str
    partition: int
    offset: int
    place: int
    """Index of the element in an array; 0 otherwise."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of the dead-letter topic, without its value."""

    partition: int
    offset: int
    identity: Identity
    reason: str
    detail: str
    size: int
    cut: bool
    """Whether the record was truncated because of its size."""
    resent_from: bytes | None
    """The identity that the record's header RESENT names: a claim, since a producer can write this header too."""
    digest: bytes
    """Of the value."""

    @property
    def mark(self) -> bytes:
        """What a resent copy of this letter refers to: the same identity with the same value."""
        return mark("/".join(map(str, self.identity)).encode(), self.digest)


class DeadLetterTopic:
    """The topic as it was when this was created; later messages are not read."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Raises click.ClickException if Kafka has no such topic."""
        self._settings = settings
        self.name = settings.dead_letter_topic
        self._logs = logs_of(settings, [self.name])
        if not self._logs:
            raise click.ClickException(f"Kafka has no topic {self.name} (AUTHTALLY_DEAD_LETTER_TOPIC)")

    def messages(self, label: str = "reading") -> Iterator[Any]:
        """Every message, oldest first per partition, with a progress bar. Raises click.ClickException."""
        with progress(label, "records", sum(log.end - log.start for log in self._logs.values())) as job:
            for number, message in enumerate(self._read(), start=1):
                yield message
                job.at(number)

    def _read(self) -> Iterator[Any]:
        reader = consumer(self._settings)
        waiting = {shard.partition for shard, log in self._logs.items() if log.end > log.start}
        ends = {shard.partition: log.end for shard, log in self._logs.items()}
        starts = [TopicPartition(*shard, log.start) for shard, log in self._logs.items() if shard.partition in waiting]
        reader.assign(starts)
        try:
            while waiting:
                message = reader.poll(TIMEOUT_S)
                if message is None:
                    raise click.ClickException(f"Kafka returned no message of {self.name} for {TIMEOUT_S} s")
                error = message.error()
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise kafka_errors_as_usage(KafkaException(error), self._settings)
                    waiting.discard(message.partition())
                    continue
                if message.offset() < ends[message.partition()]:
                    yield message
                if message.offset() + 1 >= ends[message.partition()]:
                    waiting.discard(message.partition())
        finally:
            reader.close()

    def resent_field(self, letter: Letter) -> str:
        """The field of the ledger's hash `resent` for a letter's partition and reason."""
        shard = Shard(self.name, letter.partition)
        return fields.resent(self._logs[shard].topic_id, letter.partition, letter.reason)


def letter_of(message: Any) -> Letter | None:
    """The letter in a message's headers; None for a message that authtally did not write."""
    foreign_and_ours = headers_of(message)
    if foreign_and_ours is None:
        # Header names that are not UTF-8 cannot be ours: the worker escapes those of the record.
        return None
    # The last header of a name wins: the record's own headers come before ours.
    given = {name: (value or b"").decode(errors="replace") for name, value in foreign_and_ours}
    resent_from = next((value for name, value in reversed(foreign_and_ours) if name == headers.RESENT), None)
    try:
        identity = Identity(
            given[headers.TOPIC],
            int(given[headers.PARTITION]),
            int(given[headers.OFFSET]),
            int(given[headers.INDEX]),
        )
        return Letter(
            message.partition(),
            message.offset(),
            identity,
            given[headers.REASON],
            given.get(headers.DETAIL, ""),
            len(message.value() or b""),
            headers.TRUNCATED in given,
            resent_from,
            _digest(message.value()),
        )
    except (KeyError, ValueError):
        return None


def mark(identity: bytes, digest: bytes) -> bytes:
    return hashlib.blake2b(identity + b"\0" + digest, digest_size=DIGEST_BYTES).digest()


def _digest(value: bytes | None) -> bytes:
    # A value of null is not an empty one.
    return b"" if value is None else hashlib.blake2b(value, digest_size=DIGEST_BYTES).digest()
