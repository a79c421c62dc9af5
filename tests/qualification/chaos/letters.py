"""The dead-letter topic, read from its beginning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from aggregator.kafka import dead_letters as headers


class Letter(NamedTuple):
    """One dead letter: where its record is, which element of it, and why."""

    topic: str
    partition: int
    offset: int
    nth: int
    reason: str


def dead_letters(bootstrap: str, topic: str) -> Iterator[Letter]:
    """All that there are now, copies included. Raises TimeoutError."""
    reader: Any = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "letters",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    reader.assign([TopicPartition(topic, 0, 0)])
    try:
        while True:
            message = reader.poll(20)
            if message is None:
                raise TimeoutError(f"{topic} cannot be read to its end")
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    return
                continue
            # A sender's own headers come first, and ours win.
            held = dict(message.headers())
            partition, offset, nth = (int(held[name]) for name in (headers.PARTITION, headers.OFFSET, headers.INDEX))
            yield Letter(held[headers.TOPIC].decode(), partition, offset, nth, held[headers.REASON].decode())
    finally:
        reader.close()
