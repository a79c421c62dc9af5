"""Judges what Kafka told: topics, rights, copies, sizes, retention, the group. Asks nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from aggregator.kafka.codecs import CODECS
from aggregator.kafka.dead_letters import MAX_REQUEST_BYTES, TRUNCATED_BYTES
from deploy.cli.doctor.findings import APART_S, Finding, Verdict, span
from deploy.cli.doctor.kafka import Kafka, Topic
from schemas.ledger.inventory import BINDINGS
from schemas.ledger.keys import Shard
from schemas.settings import PREFIX

HEADERS_BYTES: Final = 4096
"""Room for a dead letter's headers, its key's beginning and the batch around it."""
SHORT_S: Final = 86_400
"""Retention below this does not outlast a night in which the worker is down."""
FOR_EVER: Final = -1
AHEAD_S: Final = 60
BACKUP: Final = "backup"
TIMESTAMP_TYPE: Final = "message.timestamp.type"
LOG_APPEND: Final = "LogAppendTime"
"""Its value where brokers give records their timestamps, instead of whoever produces them."""


class Backup(NamedTuple):
    """The oldest state of Redis that somebody may fall back to. `certain`: told by who asks, not guessed."""

    age_s: float
    what: str
    certain: bool


class Needs(NamedTuple):
    """What our principal must be allowed: operations by topic; and whether it reads as a group."""

    operations: Mapping[str, frozenset[str]]
    group: str | None


def topics(kafka: Kafka, bound: Mapping[str, str], dead_letter_topic: str) -> Iterator[Finding]:
    """Whether each exists, and an OTP topic has one partition."""
    for topic in kafka.hidden:
        advice = f"grant it: kafka-acls.sh --add --allow-principal User:… --operation Describe --topic {topic}"
        yield Finding("kafka.rights", topic, "problem", "our principal may not even look at it", advice)
    for topic, why in kafka.unanswered.items():
        yield Finding("kafka.topic", topic, "unknown", why, "ask again; if it stays so, look at the broker's log")
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
            f"partition {', '.join(map(str, leaderless))} has no leader: nothing can be read or written there",
            "bring the brokers back that hold its copies",
        )
    if binding in BINDINGS and number > 1:
        return Finding(
            "kafka.topic",
            name,
            "problem",
            f"{found}, but {binding} events are counted in their order: only partition 0 is read",
            f"make the topic anew with one partition, then: authtally positions reset {name} 0 --to earliest",
        )
    if binding is None:
        held = any(kafka.ends.get(shard, 0) > start for shard, start in kafka.starts.items() if shard.topic == name)
        found += "; it holds dead letters: authtally dead-letters list" if held else "; it is empty"
    return Finding("kafka.topic", name, "ok", found)


def rights(kafka: Kafka, needs: Needs) -> Iterator[Finding]:
    """Brokers tell what our principal may do; those without an authorizer let anybody do anything."""
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
        yield Finding("kafka.rights", "", "ok", "our principal may read and write what it must")


def group(kafka: Kafka, name: str, bound: Mapping[str, str]) -> Finding:
    if kafka.members is None:
        return Finding("kafka.group", name, "unknown", kafka.no_group, "allow our principal to describe the group")
    most = max((len(topic.partitions) for each, topic in kafka.topics.items() if each in bound), default=0)
    if not kafka.members and kafka.group_operations is None:
        found = "this broker does not tell who is in it"
        return Finding("kafka.group", name, "unknown", found, "ask the workers: /health/ready of each")
    if not kafka.members:
        return Finding("kafka.group", name, "warning", "no worker is at work", "start one: authtally worker")
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
    """Copies and clean-up of one topic."""
    topic = kafka.topics[name]
    config = topic.config
    if config is None:
        advice = f"kafka-acls.sh --add --allow-principal User:… --operation DescribeConfigs --topic {name}"
        if "DescribeConfigs" not in topic.no_config:
            advice = "look at the topic's cleanup.policy, retention and sizes yourself"
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
            f"cleanup.policy={policy}: of events with equal keys only the last is kept, others may go uncounted",
            f"kafka-configs.sh --alter --topic {name} --add-config cleanup.policy=delete",
        )
    else:
        yield Finding("kafka.cleanup", name, "ok", f"cleanup.policy={policy}")


def compression(kafka: Kafka, name: str, lacking: Sequence[str]) -> Finding:
    """Whether the worker can read what the topic stores; `lacking`: codecs that its installation misses."""
    config = kafka.topics[name].config
    # "producer", the brokers' default, keeps the codec that each producer chose: any of them.
    chosen = (config or {}).get("compression.type", "producer")
    shown = f"compression.type={chosen}: " if config is not None else ""
    unread = [codec for codec in lacking if chosen in (codec, "producer")]
    if not unread:
        readable = [codec for codec in CODECS if codec not in lacking]
        return Finding("kafka.compression", name, "ok", f"{shown}the worker reads {', '.join(readable)}")
    verdict: Verdict = "problem" if chosen in unread else "warning"
    found = f"{shown}this installation cannot read {', '.join(unread)}: one such batch ends every worker"
    return Finding("kafka.compression", name, verdict, found, "install cramjam, as the lock file has it")


def _copies(kafka: Kafka, name: str, topic: Topic, needed: int) -> Finding:
    copies = min((partition.copies for partition in topic.partitions.values()), default=0)
    behind = sum(partition.in_sync < partition.copies for partition in topic.partitions.values())
    if unwritable := sum(partition.in_sync < needed for partition in topic.partitions.values()):
        return Finding(
            "kafka.copies",
            name,
            "problem",
            f"{unwritable} partitions have fewer copies in sync than min.insync.replicas={needed}: nobody can publish",
            "bring the missing brokers back",
        )
    if behind:
        found = f"{behind} partitions have copies that are not in sync"
        return Finding("kafka.copies", name, "warning", found, "bring the missing brokers back")
    if copies == 1:
        if kafka.brokers == 1:
            return Finding(
                "kafka.copies", name, "warning", "one broker: its disk is the only copy", "run three brokers"
            )
        found = f"one copy on one of {kafka.brokers} brokers"
        return Finding("kafka.copies", name, "warning", found, "give it three copies: kafka-reassign-partitions.sh")
    if needed == 1:
        found = f"{copies} copies, but min.insync.replicas=1: an event is acknowledged when one broker has it"
        advice = f"kafka-configs.sh --alter --topic {name} --add-config min.insync.replicas={copies - 1 or 1}"
        if copies == 2:
            advice = "three copies and min.insync.replicas=2 outlive the loss of any broker"
        return Finding("kafka.copies", name, "warning", found, advice)
    if needed >= copies:
        found = f"{copies} copies and min.insync.replicas={needed}: nobody can publish while one broker is away"
        return Finding("kafka.copies", name, "warning", found, f"set min.insync.replicas to {copies - 1}")
    return Finding("kafka.copies", name, "ok", f"{copies} copies, all in sync; {needed or '?'} must acknowledge")


def dead_letters(kafka: Kafka, name: str, inputs: Mapping[str, str]) -> Finding | None:
    """Whether the dead letter of the largest record fits. None where that cannot be told."""
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
            f"max.message.bytes={most} refuses even a dead letter that was cut to {TRUNCATED_BYTES >> 10} KB: "
            "the partition would wait for ever",
            advice,
        )
    if most < largest:
        topic = max(sizes, key=lambda each: sizes[each])
        return Finding(
            "kafka.dead_letters",
            name,
            "warning",
            f"max.message.bytes={most}, but {topic} takes records of {largest}: larger ones are kept cut to "
            f"{TRUNCATED_BYTES >> 10} KB and cannot be resent",
            advice,
        )
    whole = min(most, MAX_REQUEST_BYTES) - HEADERS_BYTES
    found = f"dead letters of up to {whole:,} bytes are kept whole"
    return Finding("kafka.dead_letters", name, "ok", f"{found}, larger ones cut" if whole < largest else found)


def retention(kafka: Kafka, name: str) -> Finding | None:
    """How long events wait. None where that cannot be told."""
    config = kafka.topics[name].config
    if config is None or "retention.ms" not in config:
        return None
    kept_ms, size = int(config["retention.ms"]), int(config.get("retention.bytes", FOR_EVER))
    result = "for ever" if kept_ms == FOR_EVER else span(kept_ms / 1000)
    if size != FOR_EVER:
        result += f", at most {size:,} bytes a partition"
    if kept_ms != FOR_EVER and kept_ms < SHORT_S * 1000:
        return Finding(
            "kafka.retention",
            name,
            "warning",
            f"events are kept {result}: a worker that is down for longer loses some",
            f"kafka-configs.sh --alter --topic {name} --add-config retention.ms=604800000",
        )
    return Finding("kafka.retention", name, "ok", f"events are kept {result}")


def backup(kafka: Kafka, bound: Mapping[str, str], oldest: Backup | None) -> Iterator[Finding]:
    """Whether Kafka reaches back to the oldest backup: by what topics are told to keep, and by what they hold."""
    tell = "tell its age: --backup-age 24h, or --backups FOLDER"
    if oldest is None:
        yield Finding("kafka.backup", "", "unknown", "no backup of Redis is known", tell)
        return
    age = span(oldest.age_s)
    advice = "raise retention.ms (and retention.bytes), or give up backups that old"
    short: set[str] = set()
    for name in sorted(kafka.topics.keys() & bound.keys()):
        kept_ms = int((kafka.topics[name].config or {}).get("retention.ms", FOR_EVER))
        if kept_ms != FOR_EVER and kept_ms < oldest.age_s * 1000:
            short.add(name)
            found = f"keeps events {span(kept_ms / 1000)}, {oldest.what} is {age} old: what came between would be lost"
            yield Finding("kafka.backup", name, "problem", found, advice)
    then = kafka.moments.get(BACKUP)
    for shard in sorted(then.offsets if then else ()):
        # Nothing was ever deleted from a log that begins at 0.
        if then and 0 < then.offsets[shard] <= kafka.starts.get(shard, 0) and shard.topic in bound.keys() - short:
            short.add(shard.topic)
            found = f"partition {shard.partition} holds nothing from before {oldest.what}, {age} old"
            yield Finding("kafka.backup", shard.topic, "problem", found, advice)
    if short:
        return
    if then is None or not then.known:
        found = f"brokers do not tell how far back their logs reach; {oldest.what} is {age} old"
        yield Finding("kafka.backup", "", "unknown", found, "compare it with the topics' retention yourself")
    else:
        yield Finding("kafka.backup", "", "ok", f"logs reach back beyond {oldest.what}, {age} old")


def newest(kafka: Kafka, now_ms: float) -> Finding | None:
    """Whether records come from the future: their timestamps decide what is impossible."""
    if not kafka.newest_ms:
        return None
    shard: Shard = max(kafka.newest_ms, key=lambda each: kafka.newest_ms[each])
    ahead = (kafka.newest_ms[shard] - now_ms) / 1000
    if ahead > AHEAD_S:
        config = kafka.topics[shard.topic].config or {}
        if config.get(TIMESTAMP_TYPE) == LOG_APPEND:
            found = f"the brokers give records their time, and are {span(ahead)} ahead of this machine's clock"
            verdict: Verdict = "problem" if ahead > APART_S else "warning"
            return Finding("clock.records", shard.topic, verdict, found, "set the clocks of the brokers by NTP")
        found = f"{shard.tag} holds a record that is {span(ahead)} ahead of this machine's clock"
        return Finding("clock.records", shard.topic, "warning", found, "set the clocks: of this machine, of publishers")
    return Finding(
        "clock.records", "", "ok", f"the newest record is {span(ahead)} old" if ahead < 0 else "no record is ahead"
    )
