"""A whole deployment on the embedded pair: topics, ledger, and a worker that has counted what is in them."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from deploy.cli.main import main
from deploy.demo.servers import create_topics, free_port
from deploy.demo.servers.process import start_child, stop_child, tail
from schemas.ledger.keys import Shard, ShardKeys
from tests.conftest import wait_until
from tests.deploy.publishing import Kafka

TOPIC = "logins"
DEAD_LETTERS = "dead"
PREFIX = "t:"


class Deployment:
    """Settings by environment, commands in this process, the worker as a process of its own."""

    def __init__(self, broker: str, redis_url: str, folder: Path, unique: str) -> None:
        self.folder = folder
        self.topic = f"{TOPIC}.{unique}"
        self.dead_letters = f"{DEAD_LETTERS}.{unique}"
        self.broker = broker
        self.environment = {
            "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": broker,
            "AUTHTALLY_KAFKA_GROUP": f"group.{unique}",
            "AUTHTALLY_KAFKA_IDEMPOTENCE": "off",
            "AUTHTALLY_TOPICS": f"{self.topic}=login",
            "AUTHTALLY_DEAD_LETTER_TOPIC": self.dead_letters,
            "AUTHTALLY_REDIS_URL": redis_url,
            "AUTHTALLY_KEY_PREFIX": PREFIX,
            "AUTHTALLY_USER_HASH_KEY": "a key for tests, long enough",
            "AUTHTALLY_WORKER_PORT": str(free_port()),
        }
        self.redis: Any = redis.Redis.from_url(redis_url, decode_responses=True)
        create_topics(broker, {self.topic: 2, self.dead_letters: 1})

    def keys(self, partition: int) -> ShardKeys:
        return ShardKeys(PREFIX, Shard(self.topic, partition))

    def position(self, partition: int = 0) -> int | None:
        position = self.redis.get(self.keys(partition).position)
        return None if position is None else int(position)

    def produce(self, *values: bytes, partition: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.broker})
        for value in values:
            producer.produce(self.topic, value, b"key", partition=partition, headers=[("traceparent", b"00-1")])
        assert producer.flush(10) == 0

    def count_up_to(self, position: int, partition: int = 0, settings: Mapping[str, str] | None = None) -> None:
        """Run a worker until the shard stands at `position`."""
        log = self.folder / "worker.log"
        # A group of its own: it need not wait until the one before has been given up.
        group = {"AUTHTALLY_KAFKA_GROUP": uuid.uuid4().hex}
        environment = {**os.environ, **self.environment, **group, **(settings or {})}
        worker = start_child((sys.executable, "-m", "aggregator"), log, self.folder, environment)
        try:
            wait_until(lambda: self.position(partition) == position or worker.poll() is not None, 60)
            assert worker.poll() is None, tail(log)
        finally:
            stop_child(worker, 10)

    def run(self, *arguments: str, **settings: str) -> Result:
        return CliRunner().invoke(main, list(arguments), env=self.environment | settings)


@pytest.fixture
def deployment(broker: str, redis_url: str, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(broker, redis_url, tmp_path, tmp_path.name)
    yield made
    made.redis.close()


@pytest.fixture
def kafka(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kafka:
    """To publish to, from the test's folder."""
    monkeypatch.chdir(tmp_path)
    return Kafka(broker, tmp_path.name)


def login(user: str, **more: Any) -> bytes:
    return json.dumps({"time": "2026-06-01T12:00:00Z", "user_id": user, **more}).encode()
