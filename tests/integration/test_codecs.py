"""Batches of every compression codec of Kafka are counted, whichever client produced them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer

from aggregator.kafka import codecs
from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from tests.conftest import wait_until
from tests.integration.conftest import MakeSite
from tests.integration.sites import PREFIX, Broker

EVENTS: Final = 20


def by_librdkafka(broker: str, topic: str, codec: str, values: list[bytes]) -> None:
    properties: dict[str, Any] = {"bootstrap.servers": broker, "compression.type": codec, "linger.ms": 100}
    producer = Producer(properties)
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(20) == 0


def by_aiokafka(broker: str, topic: str, codec: str, values: list[bytes]) -> None:
    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker, compression_type=codec, linger_ms=100) as producer:
            sent = [await producer.send(topic, value, partition=0) for value in values]
            await asyncio.gather(*sent)

    asyncio.run(send())


CLIENTS: Final[dict[str, Callable[[str, str, str, list[bytes]], None]]] = {
    "librdkafka": by_librdkafka,
    "aiokafka": by_aiokafka,
}


def login(number: int) -> bytes:
    return json.dumps({"time": datetime.now(UTC).isoformat(), "user_id": f"u{number}", "realm": "acme"}).encode()


def test_no_codec_is_missing_in_an_installation_from_the_lock_file() -> None:
    assert codecs.missing() == []


def test_a_worker_counts_batches_of_every_codec(each_broker: Broker, make_site: MakeSite) -> None:
    site = make_site(each_broker, partitions=1)
    worker = site.workers.start().wait_until_ready()
    shard = Shard(site.logins, 0)
    progress = ShardKeys(PREFIX, shard).progress
    sent = 0
    for name, send in CLIENTS.items():
        for codec in codecs.CODECS:
            send(each_broker.address, site.logins, codec, [login(number) for number in range(EVENTS)])
            sent += EVENTS

            def counted(sent: int = sent, codec: str = codec, name: str = name) -> bool:
                assert worker.running, f"{codec} by {name} ended the worker"
                return int(site.client.hget(progress, fields.COUNTED) or 0) == sent

            wait_until(counted, 20, f"{codec} by {name}")


@pytest.mark.parametrize("codec", codecs.CODECS)
def test_a_topic_that_compresses_what_it_is_sent_is_counted(
    apache: Broker, make_site: MakeSite, create_topic: Any, codec: str
) -> None:
    site = make_site(apache, partitions=1)
    topic = create_topic(apache.address, 1, "compressed", {"compression.type": codec})
    site.workers.start(topics=f"{topic}=login").wait_until_ready()
    by_librdkafka(apache.address, topic, "none", [login(number) for number in range(EVENTS)])
    progress = ShardKeys(PREFIX, Shard(topic, 0)).progress
    wait_until(lambda: int(site.client.hget(progress, fields.COUNTED) or 0) == EVENTS, 20, codec)
