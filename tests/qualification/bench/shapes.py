"""Samples of other shapes than that of tests/qualification/bench/sample.py.

More partitions, days, labels or users, or fewer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from deploy.demo.servers import create_topics
from deploy.demo.servers.topics import admin
from schemas.ledger.keys import Shard
from tests.qualification.bench import sample
from tests.qualification.bench.arms import Stack

ZIPF: Final = 1.1
CHUNK: Final = 50_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What a prefilled log looks like; as it stands, that of tests/qualification/bench/sample.py."""

    name: str
    topics: tuple[str, ...] = ("login", "token")
    partitions: int = sample.PARTITIONS
    days: float = sample.SPAN / timedelta(days=1)
    realms: int = sample.REALMS
    clients: int = sample.CLIENTS
    """In each realm."""
    users: int = sample.USERS
    zipf: float = ZIPF
    start: datetime = sample.START
    seed: int = 1
    ids: bool = False
    """Whether events have one, each its own."""

    @property
    def bound(self) -> dict[str, str]:
        """Topic to event."""
        return {f"bench.{self.name}.{event}": event for event in self.topics}

    @property
    def shards(self) -> list[Shard]:
        return [Shard(topic, place) for topic in self.bound for place in range(self.partitions)]

    def environment(self, stack: Stack, **settings: str) -> dict[str, str]:
        topics = ",".join(f"{topic}={event}" for topic, event in self.bound.items())
        return stack.environment(AUTHTALLY_TOPICS=topics, **settings)


def prefill(bootstrap: str, shape: Sample, events: int, *, create: bool = True) -> None:
    """Make the topics and produce the sample; returns when Kafka has all of it."""
    if create:
        make_topics(bootstrap, shape)
    sample.produce(bootstrap, records(shape, events))


def make_topics(bootstrap: str, shape: Sample) -> None:
    """Make the topics of a sample, and that of dead letters."""
    config = {"retention.ms": "-1", "segment.ms": str(10**12)}
    dead = {} if _there(bootstrap, sample.DEAD) else {sample.DEAD: 1}
    create_topics(bootstrap, dict.fromkeys(shape.bound, shape.partitions) | dead, config)


def records(shape: Sample, events: int) -> Iterator[sample.Produced]:
    """In the order of their time."""
    topics, kinds = list(shape.bound), len(shape.topics)
    step_ms, start_ms = shape.days * 86_400_000 / events, int(shape.start.timestamp() * 1000)
    second, written = -1, ""
    for number, user in enumerate(user_numbers(shape, events)):
        stamp = start_ms + int(number * step_ms)
        if stamp // 1000 != second:
            second = stamp // 1000
            written = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}Z"
        kind = number % kinds
        value = sample.value(shape.topics[kind], number // kinds, user, written, shape.realms, shape.clients)
        if shape.ids:
            value = value.replace(b"{", b'{"id":"sample:%d",' % number, 1)
        yield sample.Produced(topics[kind], value, user % shape.partitions, stamp)


def user_numbers(shape: Sample, events: int) -> Iterator[int]:
    """`events` user numbers below `of.users`, a chunk of them at a time."""
    chance = np.random.default_rng(shape.seed)
    bounds = np.cumsum(np.arange(1, shape.users + 1, dtype=np.float64) ** -shape.zipf) if shape.zipf else None
    for begun in range(0, events, CHUNK):
        size = min(CHUNK, events - begun)
        if bounds is None:
            yield from chance.integers(shape.users, size=size).tolist()
        else:
            yield from np.searchsorted(bounds, chance.random(size) * bounds[-1], side="right").tolist()


def _there(bootstrap: str, topic: str) -> bool:
    return topic in admin(bootstrap).list_topics(timeout=10).topics


def forget(bootstrap: str, shape: Sample) -> None:
    client = admin(bootstrap)
    for future in client.delete_topics(list(shape.bound), operation_timeout=10).values():
        future.result(10)
