"""What is wrong with what was counted, or waits to be."""

from __future__ import annotations

import time
from typing import Any, Final

import pytest
from confluent_kafka import Producer, TopicPartition

from deploy.servers.topics import admin
from schemas import fields, keys
from schemas.keys import Shard, ShardKeys
from tests.deploy.conftest import PREFIX, login
from tests.deploy.doctor.conftest import Patient, settled

DAY_MS: Final = 86_400_000


def test_a_ledger_that_was_counted_otherwise_is_told_with_the_ways_on(patient: Patient) -> None:
    patient.deployment.produce(login("ada"))
    patient.deployment.count_up_to(1)
    found = patient.examine(timezone="Europe/Berlin", max_labels="5")
    told = {finding["found"].split(" ")[0]: finding for finding in found.of("ledger.settings", "problem")}
    assert set(told) == {"AUTHTALLY_TIMEZONE", "AUTHTALLY_MAX_LABELS"}
    assert "authtally settings adopt" in told["AUTHTALLY_MAX_LABELS"]["advice"]
    assert "authtally settings adopt" not in told["AUTHTALLY_TIMEZONE"]["advice"]
    assert patient.topic in told["AUTHTALLY_TIMEZONE"]["subject"]


def open_shard(patient: Patient, position: int, topic_id: str = "") -> None:
    shard = Shard(patient.topic, 0)
    client = patient.deployment.redis
    client.sadd(keys.shards(PREFIX), shard.tag)
    client.set(ShardKeys(PREFIX, shard).position, position)
    client.hset(ShardKeys(PREFIX, shard).meta, "topic_id", topic_id)


@pytest.mark.parametrize(
    ("position", "topic_id", "check", "words"),
    [
        (9, "", "ledger.positions", "stands at 9, beyond the log's end 3"),
        (1, "", "ledger.positions", "retention deleted 1 offsets uncounted"),
        (fields.RESTORING, "", "ledger.positions", "is being restored"),
        (3, "another", "ledger.topics", "deleted and made anew"),
    ],
    ids=["beyond the end", "below the start", "being restored", "another topic"],
)
def test_a_position_that_stops_a_partition_is_named(
    patient: Patient, position: int, topic_id: str, check: str, words: str
) -> None:
    patient.deployment.produce(login("ada"), login("bob"), login("eve"))
    settled(admin(patient.deployment.broker), "delete_records", [TopicPartition(patient.topic, 0, 2)])
    open_shard(patient, position, topic_id)
    assert words in patient.examine("--service", "worker").text(check, "problem")


def test_what_has_waited_for_long_is_told_from_what_came_just_now(patient: Patient) -> None:
    producer: Any = Producer({"bootstrap.servers": patient.deployment.broker, "log_level": 0})
    producer.produce(patient.topic, login("ada"), partition=0)
    assert producer.flush(10) == 0
    assert patient.examine("--service", "worker").text("ledger.lag", "ok") == ": 1 records wait → "
    producer.produce(patient.topic, login("bob"), partition=1, timestamp=int(time.time() * 1000) - DAY_MS)
    assert producer.flush(10) == 0
    found = patient.examine("--service", "worker").text("ledger.lag", "warning")
    assert found.startswith(f"{patient.topic}-1: 2 records wait, for more than 5 min")


def test_records_from_the_future_are_told(patient: Patient) -> None:
    producer: Any = Producer({"bootstrap.servers": patient.deployment.broker, "log_level": 0})
    producer.produce(patient.topic, login("ada"), partition=0, timestamp=int(time.time() * 1000) + 1_800_000)
    assert producer.flush(10) == 0
    assert "ahead of this machine's clock" in patient.examine("--service", "worker").text("clock.records", "warning")
