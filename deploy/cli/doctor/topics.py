"""Checks of Kafka's topics, rights, replicas, sizes and consumer group. Pure: connects to nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from aggregator.kafka.codecs import CODECS
from aggregator.kafka.dead_letters import MAX_REQUEST_BYTES, TRUNCATED_BYTES
from deploy.cli.doctor.findings import APART_S, Finding, Verdict, span
from deploy.cli.doctor.kafka import Kafka, Topic
from schemas.ledger.inventory import INVENTORY_BINDINGS
from schemas.ledger.keys import Shard
from schemas.settings import PREFIX

HEADERS_BYTES: Final = 4096
"""Space for a dead letter's headers, the beginning of its key, and the batch around it."""
AHEAD_S: Final = 60
TIMESTAMP_TYPE: Final = "message.timestamp.type"
LOG_APPEND: Final = "LogAppendTime"
"""The value with which brokers, not producers, set the timestamps of records."""


class Needs(NamedTuple):
    """The rights that our principal needs: operations by topic, and the consumer group, if any."""

    operations: Mapping[str, frozenset[str]]
    group: str | None


def topics(kafka: Kafka, bound: Mapping[str, str], dead_letter_topic: str) -> Iterator[Finding]:
    """Check that each topic exists, and that an OTP topic has one partition."""
    for topic in kafka.hidden:
        advice = f"grant it: kafka-acls.sh --add --allow-principal User:… --operation Describe --topic {topic}"
        yield Finding("kafka.rights", topic, "problem", "our principal may not describe it", advice)
    for topic, why in kafka.unanswered.items():
        yield Finding("kafka.topic", topic, "unknown", why, "repeat; if it stays so, read the broker's log")
    for topic in kafka.missing:
        setting = "DEAD_LETTER_TOPIC" if topic == dead_letter_topic else "TOPICS"
        yield Finding(
            "kafka.topic",
            topic,
            "problem",
            "Kafka has no such topic, or hides it from our principal",
            f"create it: authtally topics create; or correct {PREFIX}{setting}",
        )
    for name, there in kafka.topics.items():
        yield _topic(kafka, name, there, bound.get(name))


def _topic(kafka: Kafka, name: str, topic: Topic, binding: str | None) -> Finding:
    number = len(topic.partitions)
    found = f"{number} partition{'s' if number != 1 else ''}"
    if leaderless := sorted(partition for partition, result in topic.partitions.items() if not result.led):
        return Finding(
            "kafka.topic",
            name,
            "problem",
            f"partition {', '.join(map(str, leaderless))} has no leader: it can be neither read nor written",
            "start the brokers that have its replicas",
        )
    if binding in INVENTORY_BINDINGS and number > 1:
        return Finding(
            "kafka.topic",
            name,
            "problem",
            f"{found}, but {binding} events must be counted in order: only partition 0 is read",
            f"create the topic again with one partition, then: authtally positions reset {name} 0 --to earliest",
        )
    if binding is None:
        held = any(kafka.ends.get(shard, 0) > start for shard, start in kafka.starts.items() if shard.topic == name)
        found += "; it contains dead letters: authtally dead-letters list" if held else "; it is empty"
    return Finding("kafka.topic", name, "ok", found)


def rights(kafka: Kafka, needs: Needs) -> Iterator[Finding]:
    """Compare the needs with the rights that brokers report; without an authorizer they report none."""
    lacking, result = [], False
    for topic, needed in needs.operations.items():
        if topic in kafka.topics and (may := kafka.topics[topic].operations) is not None:
            result = True
            lacking += [(operation, f"--topic {topic}", topic) for operation in sorted(needed - may)]
    if needs.group and kafka.group_operations is not None and "READ" not in kafka.group_operations:
        lacking.append(("READ", f"--group {needs.group}", needs.group))
    for operation, which, subject in lacking:
        name = operation.capitalize()
        yield Finding(
            "kafka.rights",
            subject,
            "problem",
            f"our principal lacks the right {name}",
            f"grant it: kafka-acls.sh --add --allow-principal User:… --operation {name} {which}",
        )
    if result and not lacking:
        yield Finding("kafka.rights", "", "ok", "our principal has all necessary rights")


def group(kafka: Kafka, name: str, bound: Mapping[str, str]) -> Finding:
    if kafka.members is None:
        return Finding("kafka.group", name, "unknown", kafka.no_group, "allow our principal to describe the group")
    most = max((len(topic.partitions) for each, topic in kafka.topics.items() if each in bound), default=0)
    if not kafka.members and kafka.group_operations is None:
        found = "this broker does not report the group's members"
        return Finding("kafka.group", name, "unknown", found, "ask the workers: /health/ready of each")
    if not kafka.members:
        return Finding("kafka.group", name, "warning", "no worker runs", "start one: authtally worker")
    workers = f"{kafka.members} worker{'s' if kafka.members != 1 else ''}"
    if kafka.members > most > 0:
        return Finding(
            "kafka.group",
            name,
            "warning",
            f"{workers}, but no topic has more than {most} partitions: the rest are idle",
            f"run {most} workers at most, or add partitions",
        )
    return Finding("kafka.group", name, "ok", f"{workers}, up to {most} could share the work")


def configured(kafka: Kafka, name: str) -> Iterator[Finding]:
    """Check replicas and clean-up policy of one topic."""
    topic = kafka.topics[name]
    config = topic.config
    if config is None:
        advice = f"kafka-acls.sh --add --allow-principal User:… --operation DescribeConfigs --topic {name}"
        if "DescribeConfigs" not in topic.no_config:
            advice = "check the topic's cleanup.policy, retention and sizes yourself"
        yield Finding("kafka.cleanup", name, "unknown", f"its configuration cannot be read: {topic.no_config}", advice)
    yield _copies(kafka, name, topic, int((config or {}).get("min.insync.replicas", 0)))
    if config is None:
        return
    policy = config.get("cleanup.policy", "delete")
    if "compact" in policy:
        yield Finding(
            "kafka.cleanup",
            name,
            "problem",
            f"cleanup.policy={policy}: Kafka keeps only the last event of a key, so others may be lost uncounted",
            f"kafka-configs.sh --alter --topic {name} --add-config cleanup.policy=delete",
        )
    else:
        yield Finding("kafka.cleanup", name, "ok", f"cleanup.policy={policy}")


def compression(kafka: Kafka, name: str, lacking: Sequence[str]) -> Finding:
    """Check that the worker can read the topic's batches. `lacking`: codecs that the installation lacks."""
    config = kafka.topics[name].config
    # "producer", the brokers' default, keeps the codec of each producer, so any codec is possible.
    chosen = (config or {}).get("compression.type", "producer")
    shown = f"compression.type={chosen}: " if config is not None else ""
    unread = [codec for codec in lacking if chosen in (codec, "producer")]
    if not unread:
        readable = [codec for codec in CODECS if codec not in lacking]
        return Finding("kafka.compression", name, "ok", f"{shown}the worker reads {', '.join(readable)}")
    verdict: Verdict = "problem" if chosen in unread else "warning"
    found = f"{shown}this installation cannot read {', '.join(unread)}: one such batch stops every worker"
    return Finding("kafka.compression", name, verdict, found, "install cramjam in the version of the lock file")


def _copies(kafka: Kafka, name: str, topic: Topic, needed: int) -> Finding:
    copies = min((partition.copies for partition in topic.partitions.values()), default=0)
    behind = sum(partition.in_sync < partition.copies for partition in topic.partitions.values())
    if unwritable := sum(partition.in_sync < needed for partition in topic.partitions.values()):
        return Finding(
            "kafka.copies",
            name,
            "problem",
            f"{unwritable} partitions have fewer replicas in sync than min.insync.replicas={needed}: publishing fails",
            "start the missing brokers",
        )
    if behind:
        found = f"{behind} partitions have replicas that are not in sync"
        return Finding("kafka.copies", name, "warning", found, "start the missing brokers")
    if copies == 1:
        if kafka.brokers == 1:
            return Finding(
                "kafka.copies", name, "warning", "one broker: its disk is the only copy", "run three brokers"
            )
        found = f"one replica on one of {kafka.brokers} brokers"
        return Finding("kafka.copies", name, "warning", found, "add two replicas: kafka-reassign-partitions.sh")
    if needed == 1:
        found = f"{copies} replicas, but min.insync.replicas=1: an event is acknowledged when one broker has it"
        advice = f"kafka-configs.sh --alter --topic {name} --add-config min.insync.replicas={copies - 1 or 1}"
        if copies == 2:
            advice = "use three replicas and min.insync.replicas=2, which survive the loss of any broker"
        return Finding("kafka.copies", name, "warning", found, advice)
    if needed >= copies:
        found = f"{copies} replicas and min.insync.replicas={needed}: publishing fails while one broker is down"
        return Finding("kafka.copies", name, "warning", found, f"set min.insync.replicas to {copies - 1}")
    return Finding("kafka.copies", name, "ok", f"{copies} replicas, all in sync; {needed or '?'} must acknowledge")


def dead_letters(kafka: Kafka, name: str, inputs: Mapping[str, str]) -> Finding | None:
    """Check that the dead letter of the largest record fits; None if the limits are unknown."""
    letters = kafka.topics.get(name)
    sizes = {
        topic: int(result.config["max.message.bytes"])
        for topic, result in kafka.topics.items()
        if topic in inputs and result.config and "max.message.bytes" in result.config
    }
    if letters is None or not letters.config or "max.message.bytes" not in letters.config or not sizes:
        return None
    most = int(letters.config["max.message.bytes"])
    largest = max(sizes.values())
    wanted = largest + HEADERS_BYTES
    advice = f"kafka-configs.sh --alter --topic {name} --add-config max.message.bytes={wanted}"
    if most < TRUNCATED_BYTES + HEADERS_BYTES:
        return Finding(
            "kafka.dead_letters",
            name,
            "problem",
            f"max.message.bytes={most} refuses even a dead letter truncated to {TRUNCATED_BYTES >> 10} KB: "
            "its partition would wait forever",
            advice,
        )
    if most < largest:
        topic = max(sizes, key=lambda each: sizes[each])
        return Finding(
            "kafka.dead_letters",
            name,
            "warning",
            f"max.message.bytes={most}, but {topic} accepts records of {largest}: larger dead letters are truncated to "
            f"{TRUNCATED_BYTES >> 10} KB and cannot be resent",
            advice,
        )
    whole = min(most, MAX_REQUEST_BYTES) - HEADERS_BYTES
    found = f"dead letters of up to {whole:,} bytes are kept complete"
    return Finding("kafka.dead_letters", name, "ok", f"{found}, larger ones truncated" if whole < largest else found)


def newest(kafka: Kafka, now_ms: float) -> Finding | None:
    """Check that no record's timestamp is in the future; the worker judges event times by these timestamps."""
    if not kafka.newest_ms:
        return None
    shard: Shard = max(kafka.newest_ms, key=lambda each: kafka.newest_ms[each])
    ahead = (kafka.newest_ms[shard] - now_ms) / 1000
    if ahead > AHEAD_S:
        config = kafka.topics[shard.topic].config or {}
        if config.get(TIMESTAMP_TYPE) == LOG_APPEND:
            found = f"the brokers set the timestamps, and their clock is {span(ahead)} ahead of this machine's"
            verdict: Verdict = "problem" if ahead > APART_S else "warning"
            return Finding("clock.records", shard.topic, verdict, found, "set the clocks of the brokers by NTP")
        found = f"{shard.tag} has a record that is {span(ahead)} ahead of this machine's clock"
        return Finding("clock.records", shard.topic, "warning", found, "set the clocks of this machine and publishers")
    return Finding(
        "clock.records", "", "ok", f"the newest record is {span(ahead)} old" if ahead < 0 else "no record is ahead"
    )
