"""Ranges that a rebalance or a seek makes void: none begins in one assignment and ends in another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import aiokafka
import pytest
from aiokafka.structs import TopicPartition

from aggregator.kafka.consumer_thread import ConsumerThread
from aggregator.kafka.ranges import Range
from aggregator.kafka.transport import Consumer
from schemas.ledger.keys import Shard

SHARD = Shard("logins", 0)
TP = TopicPartition(*SHARD)


class Thread(ConsumerThread):
    """Without a loop of its own, and without a broker: what arrives is only the consumer's position."""

    def __init__(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        self.seeks, self._next_starts, self._numbers = {}, {}, count(1)
        self._out_of_range, self._unreadable = set(), {}
        self.transport: Any = SimpleNamespace(on_poll=lambda: None)
        self.consumer: Any = SimpleNamespace(flow_active=False)
        self._client = consumer
        subscription: Any = consumer._subscription
        consumer._fetcher = SimpleNamespace(_records={}, seek_to=subscription.seek)

    def _ensure_consumer(self) -> aiokafka.AIOKafkaConsumer:
        return self._client

    async def ranges(self) -> list[Range]:
        found = await self._fetch_records(self._client, set())
        return [range_ for ranges in found.values() for range_ in ranges]

    def move_to(self, offset: int) -> None:
        self._client._subscription.subscription.assignment.state_value(TP).seek(offset)


@pytest.fixture
async def client() -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
    consumer = aiokafka.AIOKafkaConsumer(group_id=None)
    consumer.assign([TP])
    yield consumer
    consumer._fetcher = None
    await consumer.stop()


async def test_a_range_does_not_begin_before_a_rebalance_and_end_after_it(client: aiokafka.AIOKafkaConsumer) -> None:
    thread = Thread(client)
    assert await thread.seek_on_thread(SHARD, 5)
    thread.move_to(7)
    assert [(range_.start, range_.end) for range_ in await thread.ranges()] == [(5, 7)]
    # The new assignment has a state of its own, at the offset that the group committed.
    client.unsubscribe()
    client.assign([TP])
    thread.move_to(20)
    assert await thread.ranges() == [], "the records between are in no range"
    assert await thread.seek_on_thread(SHARD, 7)
    thread.move_to(9)
    assert [(range_.start, range_.end) for range_ in await thread.ranges()] == [(7, 9)]


async def test_ranges_that_were_handed_out_before_a_seek_are_void(client: aiokafka.AIOKafkaConsumer) -> None:
    thread = Thread(client)
    consumer: Any = SimpleNamespace(_thread=thread)
    await thread.seek_on_thread(SHARD, 5)
    thread.move_to(7)
    (before,) = await thread.ranges()
    assert Consumer.is_current(cast(Any, consumer), before)
    await thread.seek_on_thread(SHARD, 5)
    thread.move_to(7)
    (after,) = await thread.ranges()
    assert (after.start, after.end) == (before.start, before.end)
    assert not Consumer.is_current(cast(Any, consumer), before)
    assert Consumer.is_current(cast(Any, consumer), after)
