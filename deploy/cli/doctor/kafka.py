"""Kafka queries of `authtally doctor`: first the brokers, then everything else concurrently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import ConfigResource, OffsetSpec

from aggregator.kafka.admin import KafkaAdmin
from schemas.ledger.keys import Shard
from schemas.settings import KafkaSettings

REFUSED: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)


class Partition(NamedTuple):
    led: bool
    copies: int
    in_sync: int


@dataclass
class Topic:
    """One topic in Kafka. None means unknown: not permitted, or not supported by the broker."""

    id: str
    partitions: dict[int, Partition]
    operations: frozenset[str] | None = None
    config: Mapping[str, str] | None = None
    no_config: str = ""
    """The reason for which the configuration is unknown."""


class Moment(NamedTuple):
    """The first offset of each partition at or after a time; absent if there is none or it is unknown."""

    offsets: dict[Shard, int]
    known: bool


@dataclass
class Kafka:
    """All answers. `missing` topics do not exist; our principal may not describe `hidden` ones."""

    brokers: int = 0
    cluster_id: str = ""
    topics: dict[str, Topic] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    unanswered: dict[str, str] = field(default_factory=dict)
    """Topics for which Kafka returned another error, and its text."""
    members: int | None = None
    no_group: str = ""
    group_operations: frozenset[str] | None = None
    starts: dict[Shard, int] = field(default_factory=dict)
    ends: dict[Shard, int] = field(default_factory=dict)
    newest_ms: dict[Shard, int] = field(default_factory=dict)
    """Timestamps of the newest records."""
    moments: dict[str, Moment] = field(default_factory=dict)


class KafkaQueries:
    """Queries to one Kafka. Blocking; each step ends within `patience_s`."""

    def __init__(self, settings: KafkaSettings, topics: Iterable[str], patience_s: float) -> None:
        self._admin = KafkaAdmin(settings)
        self._topics = list(topics)
        self._patience_s = patience_s
        self.found = Kafka()

    def diagnose(self, error: KafkaException) -> str:
        return self._admin.diagnose(error)

    def connect(self) -> None:
        """Raises KafkaException if no broker answers or accepts our credentials."""
        # Lists all topics, because asking for one by its name may create it.
        there = self._admin.client.list_topics(timeout=self._patience_s)
        self.found.brokers = len(there.brokers)
        self.found.cluster_id = there.cluster_id or ""

    def describe(self, group: str | None) -> None:
        """Read topics, their configuration and the group. Missing rights are recorded, not raised."""
        client, within = self._admin.client, {"request_timeout": self._patience_s}
        described = client.describe_topics(TopicCollection(self._topics), include_authorized_operations=True, **within)
        resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in self._topics]
        configured = {resource.name: asked for resource, asked in client.describe_configs(resources, **within).items()}
        of_group = self._group(group) if group else None
        for topic in self._topics:
            try:
                result = self._answer(described[topic])
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    self.found.missing.append(topic)
                elif error.args[0].code() in REFUSED:
                    self.found.hidden.append(topic)
                else:
                    self.found.unanswered[topic] = error.args[0].str()
                continue
            partitions = {
                each.id: Partition(each.leader is not None, len(each.replicas), len(each.isr))
                for each in result.partitions
            }
            self.found.topics[topic] = Topic(
                str(result.topic_id or ""), partitions, _operations(result.authorized_operations)
            )
            self._configure(self.found.topics[topic], configured[topic])
        if group and of_group:
            self._describe_group(group, of_group)

    def _configure(self, topic: Topic, asked: Future[Any]) -> None:
        try:
            config = {name: entry.value or "" for name, entry in self._answer(asked).items()}
        except KafkaException as error:
            refused = error.args[0].code() in REFUSED
            topic.no_config = "our principal lacks the right DescribeConfigs" if refused else error.args[0].str()
            return
        if config:
            topic.config = config
        else:
            topic.no_config = "this broker returns none"

    def _group(self, name: str) -> Future[Any]:
        asked: Future[Any] = self._admin.client.describe_consumer_groups(
            [name], include_authorized_operations=True, request_timeout=self._patience_s / 2
        )[name]
        return asked

    def _describe_group(self, name: str, asked: Future[Any]) -> None:
        try:
            try:
                result = self._answer(asked)
            except KafkaException as error:
                if error.args[0].code() in REFUSED:
                    raise
                # The first query for any group makes brokers create a topic, and may fail because of it.
                result = self._answer(self._group(name))
        except KafkaException as error:
            refused = error.args[0].code() in REFUSED
            self.found.no_group = "our principal lacks the right Describe" if refused else error.args[0].str()
            return
        self.found.members = len(result.members)
        self.found.group_operations = _operations(result.authorized_operations)

    def read_logs(self, moments_ms: Mapping[str, int]) -> None:
        """Read the logs' starts and ends, and their offsets at the given times (ms)."""
        shards = [
            Shard(topic, number)
            for topic, result in self.found.topics.items()
            for number, partition in result.partitions.items()
            if partition.led
        ]
        specs = {"start": OffsetSpec.earliest(), "end": OffsetSpec.latest()}
        times = {name: OffsetSpec.for_timestamp(at) for name, at in moments_ms.items()}
        asked = {
            name: self._admin.client.list_offsets(
                {TopicPartition(*shard): spec for shard in shards}, request_timeout=self._patience_s
            )
            for name, spec in (specs | times | {"newest": OffsetSpec.max_timestamp()}).items()
            if shards
        }
        answers: dict[str, dict[Shard, Any]] = {}
        for name, futures in asked.items():
            answers[name] = {}
            for partition, future in futures.items():
                try:
                    answers[name][Shard(partition.topic, partition.partition)] = self._answer(future)
                except KafkaException:
                    continue
        self.found.starts = {
            shard: result.offset for shard, result in answers.get("start", {}).items() if result.offset >= 0
        }
        self.found.ends = {
            shard: result.offset for shard, result in answers.get("end", {}).items() if result.offset >= 0
        }
        self.found.newest_ms = {
            shard: result.timestamp for shard, result in answers.get("newest", {}).items() if result.timestamp > 0
        }
        for name in moments_ms:
            result = answers.get(name, {})
            offsets = {shard: each.offset for shard, each in result.items() if each.offset >= 0}
            self.found.moments[name] = Moment(offsets, known=len(result) == len(shards))

    def _answer(self, asked: Future[Any]) -> Any:
        try:
            return asked.result(self._patience_s + 1)
        except TimeoutError as error:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from error


def _operations(result: Any) -> frozenset[str] | None:
    return None if result is None else frozenset(operation.name for operation in result)
