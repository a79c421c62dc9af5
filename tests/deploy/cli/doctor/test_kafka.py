"""What is wrong with brokers, topics, backups and our rights there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from aggregator.kafka.codecs import CODECS
from deploy.cli.doctor import topics
from deploy.cli.doctor.kafka import Kafka, Topic
from deploy.demo.servers import Valkey, create_topics, free_port
from deploy.demo.servers.topics import admin
from tests.conftest import wait_until
from tests.deploy.cli.doctor.conftest import Found, Patient, settled
from tests.deploy.conftest import Deployment, login
from tests.servers import ApacheKafka, JavaMissingError
from tests.servers.apache_kafka import Listener


def configure(broker: str, topic: str, **config: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    settled(admin(broker), "incremental_alter_configs", [resource])


TOPIC_FAULTS = [
    # topic, what is wrong with it, check, verdict, words
    pytest.param(
        "dead",
        {"max_message_bytes": "1000"},
        "kafka.dead_letters",
        "problem",
        "wait forever",
        id="none fits",
    ),
    pytest.param(
        "dead",
        {"max_message_bytes": "500000"},
        "kafka.dead_letters",
        "warning",
        "are truncated",
        id="large ones are cut",
    ),
    pytest.param("input", {"cleanup_policy": "compact"}, "kafka.cleanup", "problem", "last event", id="compacted"),
    pytest.param("dead", {"cleanup_policy": "compact,delete"}, "kafka.cleanup", "problem", "last event", id="dead too"),
    pytest.param("input", {"retention_ms": "3600000"}, "kafka.retention", "warning", "1 h", id="an hour kept"),
    pytest.param("input", {"retention_ms": "3600000"}, "kafka.backup", "problem", "2 days old", id="an older backup"),
    pytest.param("input", {"min_insync_replicas": "2"}, "kafka.copies", "problem", "publishing fails", id="too few"),
]


@pytest.mark.parametrize(("which", "config", "check", "verdict", "words"), TOPIC_FAULTS)
def test_a_topic_that_is_configured_wrongly_is_named(
    patient: Patient, which: str, config: dict[str, str], check: str, verdict: str, words: str
) -> None:
    topic = patient.dead_letters if which == "dead" else patient.topic
    configure(patient.deployment.broker, topic, **config)
    found = patient.examine("--service", "worker", "--backup-age", "2d")
    assert words in found.text(check, verdict)
    assert topic in found.text(check, verdict)
    assert found.status == (1 if found.printed["counts"]["problem"] else 0)


@pytest.mark.parametrize("codec", ["producer", "uncompressed", *CODECS])
def test_the_codec_of_a_topic_is_reported_and_readable(patient: Patient, codec: str) -> None:
    configure(patient.deployment.broker, patient.topic, compression_type=codec)
    found = {finding["subject"]: finding["found"] for finding in patient.examine().of("kafka.compression", "ok")}
    assert found[patient.topic] == f"compression.type={codec}: the worker reads gzip, snappy, lz4, zstd"
    assert found.keys() == {patient.topic, patient.otp}


@pytest.mark.parametrize(
    ("config", "lacking", "verdict", "why"),
    [
        ({"compression.type": "zstd"}, ["lz4", "zstd"], "problem", "every batch of the topic is unreadable"),
        ({"compression.type": "producer"}, ["zstd"], "warning", "a producer may choose it"),
        (None, ["zstd"], "warning", "not known, so a producer may choose it"),
        ({"compression.type": "gzip"}, ["zstd"], "ok", "brokers store gzip, whatever producers choose"),
        ({"compression.type": "uncompressed"}, ["zstd"], "ok", "brokers store no codec"),
    ],
)
def test_a_codec_that_the_installation_lacks_is_a_finding(
    config: dict[str, str] | None, lacking: list[str], verdict: str, why: str
) -> None:
    kafka = Kafka(topics={"auth.logins": Topic("", {}, config=config)})
    found = topics.compression(kafka, "auth.logins", lacking)
    assert (found.verdict, "zstd" in found.found) == (verdict, verdict != "ok"), why


def test_a_topic_that_is_missing_is_a_problem(patient: Patient) -> None:
    found = patient.examine(topics=f"{patient.topic}=login,nowhere=token")
    assert "nowhere: Kafka has no such topic" in found.text("kafka.topic", "problem")
    assert "AUTHTALLY_TOPICS" in found.text("kafka.topic", "problem")
    assert found.status == 1


def test_an_otp_topic_of_two_partitions_is_a_problem(patient: Patient) -> None:
    found = patient.examine(topics=f"{patient.topic}=otp")
    assert "2 partitions, but otp events must be counted in order" in found.text("kafka.topic", "problem")


def test_a_log_that_was_cut_since_the_backup_is_a_problem(patient: Patient) -> None:
    patient.deployment.produce(login("ada"), login("bob"), login("eve"))
    settled(admin(patient.deployment.broker), "delete_records", [TopicPartition(patient.topic, 0, 2)])
    found = patient.examine()
    assert "partition 0 has no record from before the oldest backup" in found.text("kafka.backup", "problem")


def test_without_a_backup_that_is_known_its_age_is_asked_for(patient: Patient) -> None:
    assert "--backup-age" in patient.examine("--service", "worker").text("kafka.backup", "unknown")


def test_the_oldest_file_of_a_folder_is_the_oldest_backup(patient: Patient, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    refused = patient.deployment.run("doctor", "--backups", str(folder))
    assert (refused.exit_code, "contains no file" in refused.output) == (2, True)
    for name, days in (("old.rdb", 9), ("new.rdb", 1)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - 86_400 * days,) * 2)
    found = patient.examine("--service", "worker", "--backups", str(folder))
    problems = found.of("kafka.backup", "problem")
    assert {finding["subject"] for finding in problems} == {patient.topic, patient.otp}
    assert all("keeps events 7 days, old.rdb is 9 days old" in finding["found"] for finding in problems)


def test_a_broker_that_is_gone_is_a_problem_within_the_time_given(patient: Patient) -> None:
    began = time.monotonic()
    found = patient.examine("--timeout", "1", kafka_bootstrap_servers=f"127.0.0.1:{free_port()}")
    assert "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS" in found.text("kafka.connection", "problem")
    assert found.verdicts("redis.connection") == {"ok"}
    assert time.monotonic() - began < 10


def test_an_api_that_takes_events_needs_topics_but_no_group(patient: Patient) -> None:
    found = patient.examine("--service", "api", ingest="on")
    assert {finding["subject"] for finding in found.of("kafka.topic", "ok")} == {patient.topic, patient.otp}
    assert found.verdicts("kafka.rights") == {"ok"}
    assert found.of("kafka.group") == []
    without = patient.examine("--service", "api")
    assert without.of("kafka.connection") == []


def is_described(broker: str) -> bool:
    """Whether a group can be asked about."""
    client = admin(broker)
    try:
        return bool(client.describe_consumer_groups(["any"], request_timeout=2)["any"].result(5))
    except KafkaException:
        return False


def test_a_principal_without_rights_gets_the_missing_ones_named(
    patient: Patient, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required ;"
    try:
        kafka = ApacheKafka(
            heap_mb=256,
            listeners=(
                Listener(
                    "SCRAM",
                    "SASL_PLAINTEXT",
                    {"sasl.enabled.mechanisms": "SCRAM-SHA-256", "scram-sha-256.sasl.jaas.config": scram},
                ),
            ),
            scram={"worker": "secret"},
            properties={
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
            },
        )
    except JavaMissingError as missing:
        pytest.skip(str(missing))
    signed_in = {
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_sasl_mechanism": "SCRAM-SHA-256",
        "kafka_sasl_username": "worker",
    }
    with kafka:
        create_topics(kafka.address, {patient.topic: 1, patient.otp: 1, patient.dead_letters: 1})
        granted = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, "User:worker", "*", operation, AclPermissionType.ALLOW)
            for kind, name, operation in (
                (ResourceType.TOPIC, patient.topic, AclOperation.READ),
                (ResourceType.TOPIC, patient.dead_letters, AclOperation.DESCRIBE),
                (ResourceType.GROUP, patient.deployment.environment["AUTHTALLY_KAFKA_GROUP"], AclOperation.DESCRIBE),
            )
        ]
        settled(admin(kafka.address), "create_acls", granted)
        # The first question about any group makes the broker create a topic: not ours to wait for.
        wait_until(lambda: is_described(kafka.address), 30, "the coordinator")
        there = {"kafka_bootstrap_servers": kafka.address_of("SCRAM"), **signed_in}
        found = patient.examine("--service", "worker", **there, kafka_sasl_password="secret")
        wrong = patient.examine("--service", "worker", "--timeout", "3", **there, kafka_sasl_password="wrong")
    lacking = {finding["subject"]: finding["found"] for finding in found.of("kafka.rights", "problem")}
    assert lacking == {
        patient.otp: "our principal may not describe it",
        patient.dead_letters: "our principal lacks the right Write",
        patient.deployment.environment["AUTHTALLY_KAFKA_GROUP"]: "our principal lacks the right Read",
    }
    unread = found.of("kafka.cleanup", "unknown")
    assert {finding["subject"] for finding in unread} == {patient.topic, patient.dead_letters}
    assert all("DescribeConfigs" in finding["advice"] for finding in unread)
    assert "AUTHTALLY_KAFKA_SASL_PASSWORD" in wrong.text("kafka.connection", "problem")


def test_a_broker_that_answers_little_leaves_unknowns(broker: str, persistent: Valkey, tmp_path: Path) -> None:
    deployment = Deployment(broker, persistent.url, tmp_path, tmp_path.name)
    done = deployment.run("doctor", "--service", "worker", "--json")
    deployment.redis.close()
    found = Found(done.exit_code, json.loads(done.stdout))
    assert found.verdicts("kafka.group") == found.verdicts("kafka.cleanup") == {"unknown"}
    assert found.verdicts("kafka.topic") == {"ok"}
    assert found.status == 0
