"""Containers of the image in the host's network, as restricted as the deployments make them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import redis
from confluent_kafka import Producer

from deploy.demo.sample_events import Sample
from deploy.demo.servers.process import free_port
from schemas.ledger.keys import Shard, ShardKeys
from tests.conftest import wait_until
from tests.qualification.container.engine import Engine
from tests.qualification.container.images import AUTHTALLY

RESTRICTED: Final = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp:size=16m,mode=1777,noexec,nosuid", "--memory", "512m"),
)
PREFIX: Final = "authtally:"


class Site:
    """Worker, api and commands as containers; `kafka` and `redis_url` are addresses of the loopback interface."""

    def __init__(self, engine: Engine, kafka: str, redis_url: str, folder: Path) -> None:
        self.engine, self.kafka, self.redis_url, self.folder = engine, kafka, redis_url, folder
        self.unique = uuid.uuid4().hex[:8]
        self.redis: Any = redis.Redis.from_url(redis_url, decode_responses=True)
        self.started: list[str] = []
        self.api_port = free_port()
        self.settings: Mapping[str, str] = {
            "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": kafka,
            "AUTHTALLY_REDIS_URL": redis_url,
            "AUTHTALLY_USER_HASH_KEY": "a key of more than sixteen characters",
            "AUTHTALLY_WORKER_PORT": str(free_port()),
            "AUTHTALLY_API_PORT": str(self.api_port),
            "AUTHTALLY_AUTH": "none",
            "AUTHTALLY_KAFKA_SESSION_TIMEOUT_S": "6",
        }

    def close(self) -> None:
        self.redis.close()
        for name in self.started:
            self.engine.attempt(("podman", "rm", "--force", "--time", "5", name))

    def _options(self, name: str) -> list[str]:
        variables = [word for pair in self.settings.items() for word in ("--env", "=".join(pair))]
        return ["--name", name, "--network", "host", *RESTRICTED, *variables]

    def run(self, *command: str) -> str:
        """One command in a container of its own, to its end. Raises EngineError."""
        return self.engine.podman(
            "run", "--rm", *self._options(f"authtally-{uuid.uuid4().hex[:8]}"), AUTHTALLY, *command
        )

    def start(self, service: str) -> str:
        """`worker` or `api`. Returns the container's name."""
        name = f"authtally-{service}-{self.unique}"
        self.engine.podman("run", "--detach", *self._options(name), AUTHTALLY, service)
        self.started.append(name)
        return name

    def wait_until_healthy(self, name: str) -> None:
        wait_until(lambda: self.engine.healthy(name), 60, self.engine.logs(name))

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.api_port}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    def ready(self) -> bool:
        try:
            self.get("/health/ready")
        except (OSError, urllib.error.HTTPError):
            return False
        return True

    def publish(self, samples: Iterable[Sample]) -> dict[tuple[str, int], int]:
        """Returns the end of each partition's log."""
        ends: dict[tuple[str, int], int] = {}

        def note(error: object, message: Any) -> None:
            assert error is None, error
            shard = (message.topic(), message.partition())
            ends[shard] = max(ends.get(shard, 0), message.offset() + 1)

        producer = Producer(
            {"bootstrap.servers": self.kafka, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
        )
        for sample in samples:
            producer.produce(sample.topic, sample.value, sample.key, timestamp=sample.time_ms, on_delivery=note)
            producer.poll(0)
        assert producer.flush(60) == 0
        return ends

    def position(self, topic: str, partition: int) -> int:
        return int(self.redis.get(ShardKeys(PREFIX, Shard(topic, partition)).position) or 0)

    def memory_mb(self, name: str) -> int:
        """Resident memory of the container's processes, from the engine's count of its control group."""
        shown = self.engine.podman("stats", "--no-stream", "--no-reset", "--format", "{{.MemUsageBytes}}", name)
        return _mb(shown.split("/")[0].strip())


def _mb(text: str) -> int:
    units = {"GiB": 1024.0, "MiB": 1.0, "KiB": 1 / 1024, "GB": 1000 / 1.048576, "MB": 1 / 1.048576, "kB": 0.001, "B": 0}
    unit = next(unit for unit in units if text.endswith(unit))
    return round(float(text.removesuffix(unit)) * units[unit])
