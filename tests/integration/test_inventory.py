"""The OTP inventory through a real broker: killed in the middle, and with a partition that it must not have."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions

from deploy.demo.servers.topics import admin
from schemas.ledger.keys import Shard, ShardKeys
from tests.aggregator.inventories import Held, Model, state
from tests.conftest import wait_until
from tests.integration.conftest import MakeSite
from tests.integration.sites import PREFIX, Broker

EVENTS = 20_000
START = datetime(2026, 3, 1, tzinfo=UTC)


def sample(chance: random.Random, number: int) -> dict[str, object]:
    """States of 3,000 tokens in 20 realms; one in twenty is late."""
    late = chance.randrange(90_000) if chance.random() < 0.05 else 0
    time = START + timedelta(seconds=60 * number - late)
    user = {"user_id": f"user-{chance.randrange(500)}"} if chance.random() < 0.7 else {}
    return state(
        time.isoformat(),
        f"OATH{chance.randrange(3000):06}",
        chance.choice(("token_init", "token_assign", "token_disable")),
        *chance.sample([f"realm-{n}" for n in range(20)], chance.choice((0, 1, 1, 1, 2))),
        active=chance.random() < 0.8,
        deleted=chance.random() < 0.02,
        **user,
    )


def test_a_kill_and_a_second_partition_leave_what_a_plain_model_holds(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache)
    topic = f"{site.logins}.otp"
    site.create_topic(topic, 1)
    site.workers.settings["topics"] = f"{topic}=otp"
    how = {"bootstrap.servers": apache.address, "linger.ms": 20, "log_level": 0}
    producer: Any = Producer(how)
    model, chance = Model(ZoneInfo("UTC")), random.Random(4)

    def publish(count: int, first: int) -> None:
        for number in range(first, first + count):
            event = sample(chance, number)
            model.take(event, counts=False)
            producer.produce(topic, json.dumps(event).encode(), key=str(event["serial"]).encode(), partition=0)
        assert producer.flush(30) == 0

    publish(EVENTS, 0)
    shard_keys = ShardKeys(PREFIX, Shard(topic, 0))

    def position() -> int:
        return int(site.client.get(shard_keys.position) or 0)

    worker = site.workers.start()
    wait_until(lambda: position() > 1000, 60, "the first ranges are in")
    worker.kill()
    killed_at = position()

    client = admin(apache.address)
    client.create_partitions([NewPartitions(topic, 2)])[topic].result(20)
    # One that knows of no partition before: it asks.
    producer = Producer(how)
    producer.produce(topic, json.dumps(state("2026-03-01T00:00:00Z", "X", "token_init", "x")).encode(), partition=1)
    worker = site.workers.start()
    said = worker.wait_until_troubled(f"{topic}-1 is not read", "must have one partition")
    assert "partition 0 continues" in said
    publish(1000, EVENTS)
    wait_until(lambda: position() == EVENTS + 1000, 60, "all is counted")
    assert killed_at < EVENTS
    assert len(worker.lines("is not read")) == 1

    with Held(site.store.url, shard_keys) as held:
        for realm, rows in model.rows.items():
            assert [(*row[:3],) for row in held.rows(realm)] == [(*row[:3],) for row in rows]
            assert held.now(realm) == model.now(realm)
        assert "x" not in held.realms
        assert held.progress["consumed"] == EVENTS + 1000
    assert site.client.get(ShardKeys(PREFIX, Shard(topic, 1)).position) is None


def test_a_wrong_key_in_the_store_stops_the_partition_and_makes_no_dead_letter(
    embedded: Broker, make_site: MakeSite
) -> None:
    site = make_site(embedded)
    topic = f"{site.logins}.otp"
    site.create_topic(topic, 1)
    site.workers.settings["topics"] = f"{topic}=otp"
    shard_keys = ShardKeys(PREFIX, Shard(topic, 0))
    producer: Any = Producer({"bootstrap.servers": embedded.address, "log_level": 0})

    def publish(serial: str) -> None:
        event = state("2026-03-01T00:00:00Z", serial, "token_init", "x")
        producer.produce(topic, json.dumps(event).encode(), partition=0)
        assert producer.flush(30) == 0

    publish("A")
    worker = site.workers.start().wait_until_ready()
    wait_until(lambda: site.client.get(shard_keys.position) == "1", 30, "the first event is counted")
    site.client.delete(shard_keys.tokens)
    site.client.set(shard_keys.tokens, "no hash")
    publish("B")
    worker.wait_until_troubled("WRONGTYPE", "restore a snapshot")
    assert site.client.get(shard_keys.position) == "1"
    assert not worker.lines("unexpected record")
