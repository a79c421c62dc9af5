"""Sends events to an api, and reads back what went into Kafka."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.api.conftest import Answer

READ_TIMEOUT_S = 20
JSON = "application/json"
EVENTS = ("login", "token", "account")
NATIVE = "http:native:*:"
"""What ids of POST /v1/events begin with, from a sender of all realms."""


class Record(NamedTuple):
    partition: int
    key: bytes | None
    value: dict[str, Any]
    headers: list[tuple[str, bytes]]


class Sender:
    """Posts to one api. Bytes go as they are, anything else as JSON."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def __call__(
        self,
        body: Any,
        path: str = "/v1/events",
        *,
        token: str | None = None,
        media: str = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = body if isinstance(body, bytes) or hasattr(body, "__aiter__") else json.dumps(body).encode()
        given = {"Content-Type": media, **(headers or {})}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        async with self._session.post(self.url + path, data=sent, headers=given) as response:
            return Answer(response, await response.read())


def key_of(event_id: str) -> bytes:
    return hashlib.blake2b(event_id.encode(), digest_size=16).digest()


def records(bootstrap: str, topic: str) -> list[Record]:
    """Everything in a topic, partition by partition."""
    # Up to each partition's end as reading finds it: the embedded broker answers too early ends.
    consumer: Any = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reads",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 5,
            "log_level": 0,
        }
    )
    try:
        left = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        found: list[Record] = []
        deadline = time.monotonic() + READ_TIMEOUT_S
        while left:
            assert time.monotonic() < deadline, f"{len(found)} read, no end of {left}"
            message = consumer.poll(0.1)
            if message is None:
                continue
            if message.error() is None:
                value, headers = json.loads(message.value()), message.headers() or []
                found.append(Record(message.partition(), message.key(), value, headers))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
        return sorted(found, key=lambda record: record.partition)
    finally:
        consumer.close()


class Site:
    """An api that takes events, and its topics."""

    def __init__(self, sender: Sender, bootstrap: str, topics: dict[str, str]) -> None:
        self.send = sender
        self._bootstrap = bootstrap
        self.topics = topics

    def holds(self, event: str) -> list[Record]:
        return records(self._bootstrap, next(topic for topic, name in self.topics.items() if name == event))

    def held(self) -> dict[str, list[Any]]:
        """Ids by event."""
        return {event: sorted(str(record.value.get("id")) for record in self.holds(event)) for event in EVENTS}


MakeSite = Callable[..., Awaitable[Site]]
