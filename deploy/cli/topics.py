"""`authtally topics create`: create the missing topics of the settings. Never changes an existing topic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.cli.operations import PATIENCE_S, kafka_errors_as_usage, show_table
from schemas.ledger.inventory import INVENTORY_BINDINGS
from schemas.settings import PREFIX, KafkaSettings

DAY_MS: Final = 86_400_000
BROKERS_DEFAULT: Final = -1
DEAD_LETTER_BYTES: Final = 2 * 1_048_588
"""Twice a topic's default limit: a dead letter contains its record unchanged, and headers with reason and origin."""

MADE, TO_MAKE, THERE, UNFIT = "made", "would be made", "there", "unfit"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic, the result for it, and its fault."""

    topic: str
    event: str
    partitions: int
    result: str
    remark: str = ""


def required_topics(settings: KafkaSettings, partitions: int) -> dict[str, tuple[str, int]]:
    """Event and number of partitions per topic: one partition if order matters, or if little is written."""
    found = {
        topic: (event, 1 if event in INVENTORY_BINDINGS else partitions) for topic, event in settings.topics.items()
    }
    return found | {settings.dead_letter_topic: ("dead letters", 1)}


def config(event: str, replicas: int, keep_days: int, keep_dead_letters_days: int) -> dict[str, str]:
    """The topic's configuration that differs from the broker's defaults."""
    dead = event == "dead letters"
    chosen = {
        "cleanup.policy": "delete",
        "retention.ms": str(DAY_MS * (keep_dead_letters_days if dead else keep_days)),
        # A size limit would delete unread events even in a short outage of the worker.
        "retention.bytes": "-1",
    }
    if dead:
        chosen["max.message.bytes"] = str(DEAD_LETTER_BYTES)
    if replicas >= 3:
        # Acknowledged events survive the loss of any one broker, and publishing continues with one broker down.
        chosen["min.insync.replicas"] = "2"
    return chosen


def create(
    settings: KafkaSettings,
    partitions: int,
    replicas: int,
    keep_days: int,
    keep_dead_letters_days: int,
    *,
    dry_run: bool,
    as_json: bool,
) -> bool:
    """Create missing topics and print all; whether all are usable. Raises click.ClickException."""
    admin: Any = AdminClient({**settings.kafka_client(), "log_level": 0})
    try:
        there: Mapping[str, Any] = admin.list_topics(timeout=PATIENCE_S).topics
        plan = required_topics(settings, partitions)
        missing = [
            NewTopic(topic, count, replicas, config=config(event, replicas, keep_days, keep_dead_letters_days))
            for topic, (event, count) in plan.items()
            if topic not in there
        ]
        made = set() if dry_run or not missing else _make(admin, missing)
    except KafkaException as error:
        raise kafka_errors_as_usage(error, settings) from error
    result = []
    for topic, (event, count) in plan.items():
        if topic in there:
            result.append(_judged(topic, event, len(there[topic].partitions)))
        else:
            # Another process may have created it meanwhile.
            result.append(Topic(topic, event, count, TO_MAKE if dry_run else MADE if topic in made else THERE))
    if as_json:
        click.echo(json.dumps({"topics": [asdict(each) for each in result]}))
    else:
        show_table(
            ("topic", "carries", "partitions", "", "remark"),
            [(each.topic, each.event, each.partitions, each.result, each.remark) for each in result],
        )
    return all(each.result != UNFIT for each in result)


def _judged(topic: str, event: str, partitions: int) -> Topic:
    if event in INVENTORY_BINDINGS and partitions != 1:
        remark = f"{event} events are read in order, from partition 0 only: create the topic again with one partition"
        return Topic(topic, event, partitions, UNFIT, remark)
    return Topic(topic, event, partitions, THERE)


def _make(admin: Any, topics: list[NewTopic]) -> set[str]:
    """The names of the created topics. Raises KafkaException, click.ClickException."""
    made = set()
    for topic, future in admin.create_topics(topics, operation_timeout=PATIENCE_S).items():
        try:
            future.result(PATIENCE_S)
        except KafkaException as error:
            if error.args[0].name() == "TOPIC_ALREADY_EXISTS":
                continue
            raise click.ClickException(f"{PREFIX}TOPICS: {topic}: {error.args[0].str()}") from error
        made.add(topic)
    return made
