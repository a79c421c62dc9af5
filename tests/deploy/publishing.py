"""Topics to publish to, files to publish, and what arrived."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition

from deploy.cli.main import main
from deploy.demo.servers import create_topics
from schemas.events import DECODERS


class Sent(NamedTuple):
    key: bytes | None
    event: Any
    timestamp: int


class Kafka:
    """Two topics of the embedded broker, and what they hold."""

    def __init__(self, broker: str, unique: str) -> None:
        self.broker = broker
        self.topics = {f"logins.{unique}": "login", f"tokens.{unique}": "token"}
        create_topics(broker, dict.fromkeys(self.topics, 2))
        self.environment = {
            "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": broker,
            "AUTHTALLY_KAFKA_IDEMPOTENCE": "off",
            "AUTHTALLY_TOPICS": ",".join(f"{topic}={name}" for topic, name in self.topics.items()),
        }

    def run(self, *arguments: str, given: bytes | io.BytesIO | None = None, **settings: Any) -> Any:
        return CliRunner().invoke(main, ["publish", *arguments], input=given, env=self.environment | settings)

    def start(self, folder: Path, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        command = (sys.executable, "-m", "deploy.cli.main", "publish", *arguments)
        return subprocess.Popen(command, cwd=folder, env=self.child_environment, **more)

    @property
    def child_environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "PYTHONPATH": str(Path(__file__).parents[2])}

    def sent(self, name: str) -> list[Sent]:
        """Everything on the topic bound to `name`, decoded by what a worker reads with."""
        (topic,) = (topic for topic, bound in self.topics.items() if bound == name)
        return [
            Sent(message.key(), DECODERS[name].decode(message.value()), message.timestamp()[1])
            for message in messages(self.broker, topic)
        ]


def messages(broker: str, topic: str) -> list[Any]:
    """What both partitions of a topic hold."""
    reader = Consumer({"bootstrap.servers": broker, "group.id": "reader", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(2)])
    found, ended = [], 0
    try:
        while ended < 2:
            read = reader.consume(10_000, 1)
            ended += sum(message.error() is not None for message in read)
            found += [message for message in read if message.error() is None]
    finally:
        reader.close()
    return found


def login(user: str, **more: Any) -> dict[str, Any]:
    return {"type": "login", "time": "2026-06-01T12:00:00Z", "user_id": user, **more}


def written(path: Path, *events: dict[str, Any] | str) -> str:
    path.write_text("\n".join(event if isinstance(event, str) else json.dumps(event) for event in events) + "\n")
    return str(path)
