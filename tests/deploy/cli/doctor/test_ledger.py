"""What is wrong with what was counted, or waits to be."""

from __future__ import annotations

import time
from typing import Any, Final

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from deploy.cli.doctor.kafka import Kafka, Topic
from deploy.cli.doctor.redis_server import clocks
from deploy.cli.doctor.store import Server, Store
from deploy.cli.doctor.topics import newest
from deploy.demo.servers.topics import admin
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from tests.deploy.cli.doctor.conftest import Patient, settled
from tests.deploy.conftest import PREFIX, login

DAY_MS: Final = 86_400_000


def test_a_ledger_that_was_counted_otherwise_is_reported_with_the_remedies(patient: Patient) -> None:
    patient.deployment.produce(login("ada"))
    patient.deployment.count_up_to(1)
    found = patient.examine(timezone="Europe/Berlin", max_labels="5")
    result = {finding["found"].split(" ")[0]: finding for finding in found.of("ledger.settings", "problem")}
    assert set(result) == {"AUTHTALLY_TIMEZONE", "AUTHTALLY_MAX_LABELS"}
    assert "authtally settings adopt" in result["AUTHTALLY_MAX_LABELS"]["advice"]
    assert "authtally settings adopt" not in result["AUTHTALLY_TIMEZONE"]["advice"]
    assert patient.topic in result["AUTHTALLY_TIMEZONE"]["subject"]


def open_shard(patient: Patient, position: int, topic_id: str = "") -> None:
    shard = Shard(patient.topic, 0)
    client = patient.deployment.redis
    client.sadd(keys.shards(PREFIX), shard.tag)
    client.set(ShardKeys(PREFIX, shard).position, position)
    client.hset(ShardKeys(PREFIX, shard).meta, "topic_id", topic_id)


@pytest.mark.parametrize(
    ("position", "topic_id", "check", "words"),
    [
        (9, "", "ledger.positions", "position 9 is beyond the log's end 3"),
        (1, "", "ledger.positions", "1 offsets were deleted uncounted"),
        (fields.RESTORING, "", "ledger.positions", "is being restored"),
        (3, "another", "ledger.topics", "deleted and created again"),
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


def test_records_that_wait_for_long_are_distinguished_from_new_ones(patient: Patient) -> None:
    producer: Any = Producer({"bootstrap.servers": patient.deployment.broker, "log_level": 0})
    producer.produce(patient.topic, login("ada"), partition=0)
    assert producer.flush(10) == 0
    assert patient.examine("--service", "worker").text("ledger.lag", "ok") == ": 1 records wait → "
    producer.produce(patient.topic, login("bob"), partition=1, timestamp=int(time.time() * 1000) - DAY_MS)
    assert producer.flush(10) == 0
    found = patient.examine("--service", "worker").text("ledger.lag", "warning")
    assert found.startswith(f"{patient.topic}-1: 2 records wait, for more than 5 min")


def test_records_from_the_future_are_reported(patient: Patient) -> None:
    producer: Any = Producer({"bootstrap.servers": patient.deployment.broker, "log_level": 0})
    producer.produce(patient.topic, login("ada"), partition=0, timestamp=int(time.time() * 1000) + 1_800_000)
    assert producer.flush(10) == 0
    assert "ahead of this machine's clock" in patient.examine("--service", "worker").text("clock.records", "warning")


def test_a_shard_of_an_older_format_is_reported_before_a_worker_upgrades_it(patient: Patient) -> None:
    patient.deployment.produce(login("ada"))
    patient.deployment.count_up_to(1)
    assert patient.examine("--service", "worker").text("ledger.format", "ok") == ": format 2 → "
    shard_keys = patient.deployment.keys(0)
    patient.deployment.redis.hset(shard_keys.meta, fields.FORMAT, "1")
    found = patient.examine("--service", "worker")
    assert found.text("ledger.format", "warning").startswith(f"{shard_keys.shard.tag}: format 1: the next range")
    assert found.verdicts("ledger.settings") == {"ok"}
    patient.deployment.redis.hset(shard_keys.meta, fields.FORMAT, "99")
    refused = patient.examine("--service", "worker").text("ledger.settings", "problem")
    assert "the ledger has format 99, this version reads formats up to 2" in refused
    assert "run a newer version" in refused


def configure(patient: Patient, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, patient.topic, incremental_configs=[entry])
    settled(admin(patient.deployment.broker), "incremental_alter_configs", [resource])


@pytest.mark.parametrize(
    ("configured", "words"),
    [("CreateTime", "--add-config message.timestamp.type=LogAppendTime"), ("LogAppendTime", "is set: these are older")],
)
def test_records_without_a_usable_timestamp_name_topic_and_setting(
    patient: Patient, configured: str, words: str
) -> None:
    configure(patient, "message.timestamp.after.max.ms", str(2**63 - 1))
    producer: Any = Producer({"bootstrap.servers": patient.deployment.broker, "log_level": 0})
    producer.produce(patient.topic, login("ada"), partition=0, timestamp=4_102_444_800_000)
    assert producer.flush(10) == 0
    patient.deployment.count_up_to(1)
    configure(patient, "message.timestamp.type", configured)
    found = patient.examine("--service", "worker").text("ledger.untimed", "warning")
    assert found.startswith(f"{patient.topic}: 1 records had no usable timestamp")
    assert words in found


@pytest.mark.parametrize(("number", "verdict"), [(1, "warning"), (99, "warning"), (100, "problem")])
def test_unexpected_records_are_reported_with_the_command(patient: Patient, number: int, verdict: str) -> None:
    patient.deployment.produce(login("ada"))
    patient.deployment.count_up_to(1)
    shard_keys = patient.deployment.keys(0)
    patient.deployment.redis.sadd(shard_keys.unexpected, *range(number))
    found = patient.examine("--service", "worker").text("ledger.unexpected", verdict)
    assert f"{shard_keys.shard.tag}: {number} unexpected records (100 are allowed)" in found
    command = f"authtally positions allow-unexpected {patient.topic} 0 {number + 100}"
    assert (command in found) == (verdict == "problem")


def test_unknown_event_types_are_reported_by_topic(patient: Patient) -> None:
    patient.deployment.produce(login("ada"))
    patient.deployment.count_up_to(1)
    shard_keys = patient.deployment.keys(0)
    types = {fields.unknown(f"TYPE {number}"): number for number in range(1, 8)}
    patient.deployment.redis.hset(shard_keys.progress, mapping=types)
    found = patient.examine("--service", "worker").text("ledger.unknown_types", "warning")
    assert found.startswith(
        f"{patient.topic}: 28 elements were ignored because their event type is unknown: TYPE 7 (7)"
    )
    assert "TYPE 3 (3) and 2 more types" in found


def test_an_index_that_lost_periods_is_reported_with_the_repair(patient: Patient) -> None:
    patient.deployment.produce(login("ada"))
    patient.deployment.count_up_to(1)
    shard_keys, client = patient.deployment.keys(0), patient.deployment.redis
    assert patient.examine("--service", "worker").verdicts("ledger.index") == {"ok"}
    client.hset(shard_keys.progress, fields.LAST_RECORD, 4_102_444_800_000)
    client.zrem(shard_keys.index, "2026-06-01")
    found = patient.examine("--service", "worker")
    assert f"{shard_keys.shard.tag}: periods that have counts, such as 2026-06-01" in found.text(
        "ledger.index", "problem"
    )
    assert "is not usable" in found.text("ledger.index", "warning")
    done = patient.deployment.run("positions", "rebuild-index", "--all", "--yes")
    assert "Added 1 periods and removed 1 timestamps." in done.output
    assert patient.examine("--service", "worker").verdicts("ledger.index") == {"ok"}


@pytest.mark.parametrize(
    ("ahead_s", "verdict", "words"),
    [
        (4.0, "ok", "within 5 s"),
        (-60.0, "warning", "1 min behind"),
        (601.0, "problem", "10 min 1 s ahead of this machine's: a worker whose clock differs by more than 10 min"),
    ],
)
def test_clocks_that_keep_workers_from_counting_are_a_problem(ahead_s: float, verdict: str, words: str) -> None:
    (found,) = clocks(Store([Server("", {}, ahead_s)], None, None, None))
    assert found.verdict == verdict
    assert words in found.found


@pytest.mark.parametrize(
    ("config", "ahead_s", "verdict", "words"),
    [
        (None, 3600, "warning", "has a record that is 1 h ahead"),
        ({"message.timestamp.type": "CreateTime"}, 3600, "warning", "has a record that is 1 h ahead"),
        (
            {"message.timestamp.type": "LogAppendTime"},
            300,
            "warning",
            "set the timestamps, and their clock is 5 min",
        ),
        (
            {"message.timestamp.type": "LogAppendTime"},
            3600,
            "problem",
            "set the timestamps, and their clock is 1 h",
        ),
    ],
)
def test_brokers_that_stamp_records_report_their_own_clock(
    config: dict[str, str] | None, ahead_s: int, verdict: str, words: str
) -> None:
    kafka = Kafka(topics={"t": Topic("", {}, config=config)}, newest_ms={Shard("t", 0): ahead_s * 1000})
    found = newest(kafka, 0)
    assert found is not None
    assert found.verdict == verdict
    assert words in found.found
